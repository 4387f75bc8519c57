//! Splunk for tests: a server of our own that takes events and finds them, or a real one.

use std::sync::{Arc, Mutex};

use reqwest::Url;
use serde_json::{Value, json};

use super::real::{Client, Real};
use super::sink::{Answer, Received, Sink, ok, status};

/// The token of our own.
pub const TOKEN: &str = "00000000-1111-2222-3333-444444444444";

/// The server that `BULKHEAD_TEST_SPLUNK_*` name, or one of our own, and a source of the test's own
/// on it.
pub struct Splunk {
    /// Where events go.
    collector: Real,
    token: String,
    /// Where they are found.
    client: Client,
    source: String,
    _ours: Option<Sink>,
}

impl Splunk {
    pub fn start() -> Self {
        let token = std::env::var("BULKHEAD_TEST_SPLUNK_HEC_TOKEN");
        let (collector, search, token, ours) = match Real::of_environment("SPLUNK_HEC") {
            Some(collector) => {
                let search = Real::of_environment("SPLUNK");
                let search = search.expect("BULKHEAD_TEST_SPLUNK_URL: where to look for events");
                let token = token.expect("BULKHEAD_TEST_SPLUNK_HEC_TOKEN");
                (collector, search, token, None)
            }
            None => {
                let ours = serve();
                let server = Real::at(format!("http://{}", ours.address));
                (server.clone(), server, TOKEN.to_owned(), Some(ours))
            }
        };
        Self {
            collector,
            token,
            client: Client::new(search),
            source: format!("bulkhead-test-{:016x}", fastrand::u64(..)),
            _ours: ours,
        }
    }

    /// The destination in a manifest.
    pub fn destination(&self) -> String {
        let fields = self.collector.fields();
        let (token, source) = (&self.token, &self.source);
        let retry = "retry: {initial: 5ms, max: 50ms}";
        format!("splunkHec: {{{fields}, token: {token:?}, source: {source}, format: raw, {retry}}}")
    }

    /// The events that were indexed so far, sorted.
    pub fn events(&self) -> Vec<String> {
        let mut form = Url::parse("http://form/").unwrap();
        let search = format!("search index=* source={:?} | fields _raw", self.source);
        form.query_pairs_mut()
            .append_pair("search", &search)
            .append_pair("earliest_time", "0")
            .append_pair("output_mode", "json");
        let path = "/services/search/v2/jobs/export";
        let answer = self.client.call("POST", path, form.query().unwrap());
        let lines = answer.lines().filter(|line| !line.is_empty());
        let results = lines.filter_map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            // The last one may hold no result, only that there are no more.
            Some(line["result"]["_raw"].as_str()?.to_owned())
        });
        let mut events: Vec<String> = results.collect();
        events.sort();
        events
    }
}

/// A server of our own, for one test.
pub fn serve() -> Sink {
    let events = Arc::new(Mutex::new(Vec::new()));
    Sink::start(move |request| answer(request, &mut events.lock().unwrap()))
}

/// `events` are source and text.
fn answer(request: &Received, events: &mut Vec<(String, String)>) -> Answer {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    match &*request.path {
        "/services/collector/event" => {
            if request.header("authorization") != format!("Splunk {TOKEN}") {
                return status(401);
            }
            let values = serde_json::Deserializer::from_slice(&request.body).into_iter();
            for event in values {
                let event: Value = event.unwrap();
                events.push((text(&event["source"]), text(&event["event"])));
            }
            Answer::Status(200, "", json!({"text": "Success", "code": 0}).to_string())
        }
        "/services/search/v2/jobs/export" => {
            let form = request.text();
            let found = events.iter().filter(|(source, _)| form.contains(source));
            let lines = found.map(|(_, event)| json!({"result": {"_raw": event}}).to_string());
            Answer::Status(200, "", lines.collect::<Vec<_>>().join("\n"))
        }
        _ => ok(),
    }
}
