#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::message::*;
use super::*;
use crate::role::logs::delivery::State;
use crate::role::logs::destination::testing::{Fake, Seen, dead_letters, outlet};
use crate::role::logs::output::{Content, DestinationSet, OutputLine};
use crate::role::logs::testing::{FIRST, context, numbered, parcel, payload};

fn answer(status: u16, message: &impl Message) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, message.encode_to_vec()).into_response()
}

fn success() -> Response {
    answer(200, &ExportResponse::default())
}

fn request(seen: &Seen) -> ExportRequest {
    ExportRequest::decode(&*seen.body).unwrap()
}

fn records(seen: &Seen) -> Vec<LogRecord> {
    let resources = request(seen).resource_logs.into_iter();
    let scopes = resources.flat_map(|resource| resource.scope_logs);
    scopes.flat_map(|scope| scope.log_records).collect()
}

/// How many records a body holds.
pub(in super::super) fn count(body: &[u8]) -> usize {
    let request = ExportRequest::decode(body).unwrap();
    let scopes = request
        .resource_logs
        .iter()
        .flat_map(|logs| &logs.scope_logs);
    scopes.map(|scope| scope.log_records.len()).sum()
}

fn text(value: &Option<AnyValue>) -> &str {
    match &value.as_ref().unwrap().value {
        Some(Value::Text(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn messages(seen: &Seen) -> Vec<String> {
    let records = records(seen);
    records
        .iter()
        .map(|record| text(&record.body).to_owned())
        .collect()
}

fn attribute<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    Some(text(&found.value))
}

#[tokio::test]
async fn records_are_grouped_by_source_and_keep_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let server = Fake::start(|_| success()).await;
    let fields = json!({"compression": "gzip"});
    let outlet = outlet("otlp", &server.url, fields, &context);
    let mut parcel = parcel(0, &numbered(0, 0, 3), FIRST);
    let inner = Arc::get_mut(&mut parcel).unwrap();
    let mut pod = inner.batch.spans[0].clone();
    pod.source = Arc::new(Source {
        path: Arc::from(Path::new("/var/log/pods/x/0.log")),
        attributes: vec![("k8s.pod.name".to_owned(), "cart-0".to_owned())],
    });
    inner.batch.spans.push(pod);
    inner.batch.lines[1].source = 1;
    inner.batch.lines[2].flags = LINE_STDERR | LINE_CUT;
    let object =
        r#"{"level":"WARN","n":-1,"big":18446744073709551615,"list":[true,null,1.5],"o":{}}"#;
    let added = r#""trace":"t","log.iostream":"mine""#;
    inner.output.bytes = [object.as_bytes(), added.as_bytes()].concat();
    let line = |line: u32| OutputLine {
        time: 1_700_000_000_000_000_001,
        line,
        ordinal: 0,
        to: DestinationSet(1),
        body: (0, 0),
        body_in_batch: false,
        body_is_json: false,
        fields: (0, 0),
    };
    inner.output.content = Content::Lines(vec![
        OutputLine {
            body: (0, 3),
            body_in_batch: true,
            ..line(0)
        },
        OutputLine {
            body: (0, object.len() as u32),
            body_is_json: true,
            fields: (object.len() as u32, added.len() as u32),
            ..line(1)
        },
        OutputLine {
            // A false claim is text.
            body: (1, 7),
            body_is_json: true,
            ..line(2)
        },
    ]);
    outlet.send(parcel).await.unwrap();
    ledger.wait_for(1).await;
    let seen = &server.seen()[0];
    assert_eq!(seen.path, "/v1/logs");
    assert_eq!(seen.header("content-type"), "application/x-protobuf");
    let resources = request(seen).resource_logs;
    assert_eq!(resources.len(), 2);
    assert_eq!(resources[0].resource.as_ref().unwrap().attributes, []);
    let pod = resources[1].resource.as_ref().unwrap();
    assert_eq!(pod.attributes, [KeyValue::text("k8s.pod.name", "cart-0")]);
    assert_eq!(
        resources[0].scope_logs[0].scope.as_ref().unwrap().name,
        "bulkhead"
    );
    let records = records(seen);
    let (first, cut, json) = (&records[0], &records[1], &records[2]);

    assert_eq!(text(&first.body), "0:0");
    assert_eq!(first.time_unix_nano, 1_700_000_000_000_000_001);
    assert!(first.observed_time_unix_nano > first.time_unix_nano);
    assert_eq!((first.severity_number, &*first.severity_text), (0, ""));
    assert_eq!(
        attribute(&first.attributes, "log.file.path"),
        Some("/var/log/test.log")
    );
    assert_eq!(attribute(&first.attributes, "log.iostream"), None);
    assert_eq!(
        attribute(&first.attributes, "log.record.uid")
            .unwrap()
            .len(),
        22
    );

    assert_eq!(text(&cut.body), "\"level\"");
    assert_eq!(attribute(&cut.attributes, "log.iostream"), Some("stderr"));
    assert!(
        cut.attributes
            .contains(&KeyValue::new("bulkhead.cut", Value::Bool(true)))
    );

    assert_eq!((json.severity_number, &*json.severity_text), (13, "WARN"));
    let list = ArrayValue {
        values: vec![
            Value::Bool(true).into(),
            AnyValue { value: None },
            Value::Double(1.5).into(),
        ],
    };
    let body = KeyValueList {
        values: vec![
            KeyValue::text("level", "WARN"),
            KeyValue::new("n", Value::Int(-1)),
            KeyValue::new("big", Value::Double(18_446_744_073_709_551_615.0)),
            KeyValue::new("list", Value::Array(list)),
            KeyValue::new("o", Value::Members(KeyValueList::default())),
        ],
    };
    assert_eq!(json.body, Some(Value::Members(body).into()));
    assert_eq!(attribute(&json.attributes, "trace"), Some("t"));
    assert_eq!(attribute(&json.attributes, "log.iostream"), Some("mine"));
    assert_eq!(attribute(&json.attributes, "log.file.path"), None);
}

/// The bytes of a record by the protocol's own rules, not by our messages.
#[test]
fn the_wire_is_the_protocols() {
    let record = LogRecord {
        time_unix_nano: 1,
        severity_number: 9,
        severity_text: "i".to_owned(),
        body: Some(Value::Text("b".to_owned()).into()),
        attributes: vec![KeyValue::new("k", Value::Int(2))],
        observed_time_unix_nano: 3,
    };
    let request = ExportRequest {
        resource_logs: vec![ResourceLogs {
            resource: None,
            scope_logs: vec![ScopeLogs {
                scope: None,
                log_records: vec![record],
            }],
        }],
    };
    let record = [
        &[0x09, 1, 0, 0, 0, 0, 0, 0, 0][..],         // 1: fixed64
        &[0x10, 9],                                  // 2: varint
        &[0x1a, 1, b'i'],                            // 3: string
        &[0x2a, 3, 0x0a, 1, b'b'],                   // 5: AnyValue, 1: string
        &[0x32, 7, 0x0a, 1, b'k', 0x12, 2, 0x18, 2], // 6: KeyValue, 2: AnyValue, 3: varint
        &[0x59, 3, 0, 0, 0, 0, 0, 0, 0],             // 11: fixed64
    ]
    .concat();
    let length = record.len() as u8;
    let head = [0x0a, length + 4, 0x12, length + 2, 0x12, length];
    assert_eq!(request.encode_to_vec(), [&head[..], &record].concat());
    // ExportLogsServiceResponse{partial_success: {rejected_log_records: 5, error_message: "e"}}
    let response = ExportResponse::decode(&[0x0a, 5, 0x08, 5, 0x12, 1, b'e'][..]).unwrap();
    let partial = response.partial_success.unwrap();
    assert_eq!(
        (partial.rejected_log_records, &*partial.error_message),
        (5, "e")
    );
}

#[tokio::test]
async fn busy_receivers_are_asked_again_and_refusals_are_dead_letters() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let status = |message: &str| Status {
        message: message.to_owned(),
    };
    let taken = Arc::new(Mutex::new(Vec::new()));
    let stored = Arc::clone(&taken);
    let mut statuses = vec![500, 200, 400, 200, 504, 503, 502, 429];
    let server = Fake::start(move |seen| match statuses.pop().unwrap() {
        200 => {
            stored.lock().unwrap().extend(messages(seen));
            success()
        }
        503 => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")]).into_response(),
        code => answer(code, &status("bad data")),
    })
    .await;
    let outlet = outlet(
        "otlp",
        &format!("{}/v1/logs", server.url),
        json!({}),
        &context,
    );
    let lines = numbered(0, 0, 8);
    for pair in lines.chunks(2) {
        outlet.send(parcel(0, pair, FIRST)).await.unwrap();
    }
    let settled = ledger.wait_for(4).await;
    let dead: Vec<_> = settled.into_iter().map(|call| call.dead_lettered).collect();
    assert_eq!(dead, [vec![], vec![0, 1], vec![], vec![0, 1]]);
    assert_eq!(*taken.lock().unwrap(), ["0:0", "0:1", "0:4", "0:5"]);
    let letters = dead_letters(&context);
    let dead: Vec<&str> = letters.iter().map(|(message, _)| &**message).collect();
    assert_eq!(dead, ["0:2", "0:3", "0:6", "0:7"]);
    assert!(letters[0].1.contains("(it said: bad data)"), "{letters:?}");
    assert!(server.seen().iter().all(|seen| seen.path == "/v1/logs"));
}

#[tokio::test]
async fn a_partial_success_is_acknowledged_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let server = Fake::start(|_| {
        answer(
            200,
            &ExportResponse {
                partial_success: Some(PartialSuccess {
                    rejected_log_records: 2,
                    error_message: "too old".to_owned(),
                }),
            },
        )
    })
    .await;
    let outlet = outlet("otlp", &server.url, json!({}), &context);
    outlet
        .send(parcel(0, &numbered(0, 0, 3), FIRST))
        .await
        .unwrap();
    outlet.send(payload(0, b"", 1)).await.unwrap();
    ledger.wait_for(2).await;
    let status = outlet.status();
    assert_eq!(
        (status.lines, status.retries, status.state),
        (4, 0, State::Healthy)
    );
    let error = status.last_error.unwrap();
    assert_eq!(
        error,
        "the receiver dropped 2 records and does not say which: too old"
    );
    assert_eq!(dead_letters(&context), []);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_request_stays_below_max_body() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let server = Fake::start(|_| success()).await;
    let outlet = outlet("otlp", &server.url, json!({"maxBody": 1000}), &context);
    let lines = numbered(0, 0, 50);
    outlet.send(parcel(0, &lines, FIRST)).await.unwrap();
    ledger.wait_for(1).await;
    let seen = server.seen();
    assert!(seen.len() > 1 && seen.iter().all(|seen| seen.body.len() <= 1000));
    let all: Vec<String> = seen.iter().flat_map(messages).collect();
    assert_eq!(all, lines);
}
