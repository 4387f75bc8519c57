//! The vendors' protocols as servers see them: where requests go, which lines they hold, and what is
//! said to a good one.

use prost::Message;
use serde_json::{Value, json};

use super::sink::{Answer, Received, ok};

/// A kind of destination.
pub struct Protocol {
    /// Its name in a manifest.
    pub name: &'static str,
    /// What it needs beside `url`.
    pub fields: &'static str,
    /// Where requests go, for the server's URL of [`super::sink::Sink::url`].
    pub path: &'static str,
    /// The lines of a request.
    pub lines: fn(&Received) -> Vec<String>,
    /// The answer to a request of so many lines, all of which are taken.
    pub success: fn(usize) -> Answer,
    /// The variables of the environment that name a real server: `BULKHEAD_TEST_NAME_*`.
    pub real: Option<&'static str>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn values(request: &Received) -> Vec<Value> {
    let values = serde_json::Deserializer::from_slice(&request.body).into_iter();
    values.map(Result::unwrap).collect()
}

/// An answer with a JSON body.
pub fn json_answer(code: u16, value: &Value) -> Answer {
    let headers = "Content-Type: application/json\r\n";
    Answer::Status(code, headers, value.to_string())
}

pub const HTTP: Protocol = Protocol {
    name: "http",
    fields: "contentType: application/x-ndjson",
    path: "/ingest",
    lines: |request| {
        let values = values(request).into_iter();
        values.map(|value| text(&value["message"])).collect()
    },
    success: |_| ok(),
    real: None,
};

pub const ELASTICSEARCH: Protocol = Protocol {
    name: "elasticsearch",
    fields: "index: app",
    path: "/ingest/_bulk",
    lines: |request| {
        let values = values(request);
        let pairs = values.chunks(2);
        pairs.map(|pair| text(&pair[1]["message"])).collect()
    },
    success: |lines| {
        let items = vec![json!({"create": {"status": 201}}); lines];
        json_answer(200, &json!({"errors": false, "items": items}))
    },
    real: Some("ELASTICSEARCH"),
};

pub const SPLUNK: Protocol = Protocol {
    name: "splunkHec",
    fields: "token: 01234567-89ab",
    path: "/ingest/services/collector/event",
    lines: |request| {
        let message = |value: &Value| text(&value["event"]["message"]);
        values(request).iter().map(message).collect()
    },
    success: |_| json_answer(200, &json!({"text": "Success", "code": 0})),
    real: Some("SPLUNK_HEC"),
};

pub const LOKI: Protocol = Protocol {
    name: "loki",
    fields: "format: raw",
    path: "/ingest/loki/api/v1/push",
    lines: |request| {
        let values = values(request);
        let streams = values[0]["streams"].as_array().unwrap().iter();
        let entries = streams.flat_map(|stream| stream["values"].as_array().unwrap());
        entries.map(|entry| text(&entry[1])).collect()
    },
    success: |_| Answer::Status(204, "", String::new()),
    real: None,
};

pub const OTLP: Protocol = Protocol {
    name: "otlp",
    fields: "compression: none",
    path: "/ingest/v1/logs",
    lines: |request| {
        let export = Export::decode(&request.body[..]).unwrap();
        let scopes = export.resources.into_iter().flat_map(|one| one.scopes);
        let records = scopes.flat_map(|scope| scope.records);
        let text = |record: Record| record.body.unwrap().text.unwrap();
        records.map(text).collect()
    },
    success: |_| {
        Answer::Status(
            200,
            "Content-Type: application/x-protobuf\r\n",
            String::new(),
        )
    },
    real: None,
};

/// As much of OTLP as tests read.
#[derive(Clone, PartialEq, Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<Resource>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<Scope>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(message, repeated, tag = "2")]
    records: Vec<Record>,
}

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(message, optional, tag = "5")]
    body: Option<Body>,
}

#[derive(Clone, PartialEq, Message)]
struct Body {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
}
