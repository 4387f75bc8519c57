//! Elasticsearch for tests: a server of our own that does what `_bulk` does, or a real one.
//!
//! Ours stores documents by id, says 409 for an id that is there already, and refuses what a test
//! calls bad.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use super::real::{Client, Real};
use super::sink::{Answer, Received, Sink, ok, status};

/// What is stored, and what came.
#[derive(Default)]
pub struct Index {
    /// The messages, by index and id.
    pub documents: HashMap<(String, String), String>,
    /// The message of each item, in order, whatever became of it.
    pub sent: Vec<String>,
}

/// A server of our own.
pub struct Elastic {
    pub sink: Sink,
    index: Arc<Mutex<Index>>,
}

impl Elastic {
    /// `is_bad` tells which messages it refuses for ever.
    pub fn start(is_bad: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self::start_busy(is_bad, || false)
    }

    /// While `is_busy`, it takes nothing.
    pub fn start_busy(
        is_bad: impl Fn(&str) -> bool + Send + Sync + 'static,
        is_busy: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let index = Arc::new(Mutex::new(Index::default()));
        let sink = Sink::start({
            let index = Arc::clone(&index);
            move |request| match is_busy() {
                true => status(429),
                false => index.lock().unwrap().answer(request, &is_bad),
            }
        });
        Self { sink, index }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.sink.address)
    }

    pub fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap()
    }
}

fn json(value: &Value) -> Answer {
    let headers = "Content-Type: application/json\r\n";
    Answer::Status(200, headers, value.to_string())
}

impl Index {
    fn answer(&mut self, request: &Received, is_bad: impl Fn(&str) -> bool) -> Answer {
        let path: Vec<&str> = request.path[1..].split('/').collect();
        match (&*request.method, &path[..]) {
            ("POST", ["_bulk"]) => self.bulk(request, is_bad),
            ("POST", [_, "_refresh"]) => ok(),
            ("POST", [index, "_search"]) => json(&self.search(index)),
            ("DELETE", [index]) => {
                self.documents.retain(|(of, _), _| of != index);
                ok()
            }
            _ => status(405),
        }
    }

    fn bulk(&mut self, request: &Received, is_bad: impl Fn(&str) -> bool) -> Answer {
        let values = serde_json::Deserializer::from_slice(&request.body).into_iter();
        let values: Vec<Value> = values.map(Result::unwrap).collect();
        let items: Vec<Value> = values
            .chunks(2)
            .map(|pair| self.create(&pair[0]["create"], &pair[1], &is_bad))
            .collect();
        let failed = |item: &Value| !item["create"]["error"].is_null();
        json(&json!({"errors": items.iter().any(failed), "items": items}))
    }

    fn create(&mut self, action: &Value, document: &Value, is_bad: impl Fn(&str) -> bool) -> Value {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let message = text(&document["message"]);
        self.sent.push(message.clone());
        let key = (text(&action["_index"]), text(&action["_id"]));
        let refuse = |status, kind| {
            let error = json!({"type": kind, "reason": "as told"});
            json!({"create": {"status": status, "error": error}})
        };
        if is_bad(&message) {
            return refuse(400, "document_parsing_exception");
        }
        match self.documents.entry(key) {
            Entry::Occupied(_) => refuse(409, "version_conflict_engine_exception"),
            Entry::Vacant(free) => {
                free.insert(message);
                json!({"create": {"status": 201}})
            }
        }
    }

    fn search(&self, index: &str) -> Value {
        let found = self.documents.iter().filter(|((of, _), _)| of == index);
        let hits =
            found.map(|((_, id), message)| json!({"_id": id, "_source": {"message": message}}));
        json!({"hits": {"hits": hits.collect::<Vec<Value>>()}})
    }
}

/// The server that `BULKHEAD_TEST_ELASTICSEARCH_*` name, or one of our own, and an index of the
/// test's own on it.
pub struct Elasticsearch {
    client: Client,
    index: String,
    _ours: Option<Elastic>,
}

impl Elasticsearch {
    pub fn start() -> Self {
        let (real, ours) = match Real::of_environment("ELASTICSEARCH") {
            Some(real) => (real, None),
            None => {
                let ours = Elastic::start(|_| false);
                (Real::at(ours.url()), Some(ours))
            }
        };
        Self {
            client: Client::new(real),
            index: format!("bulkhead-test-{:016x}", fastrand::u64(..)),
            _ours: ours,
        }
    }

    /// The destination in a manifest.
    pub fn destination(&self) -> String {
        let real = &self.client.real;
        let fields = real.fields();
        let index = &self.index;
        let retry = "retry: {initial: 5ms, max: 50ms}";
        format!("elasticsearch: {{{fields}, index: {index}, {retry}}}")
    }

    /// The messages of all documents, sorted.
    pub fn messages(&self) -> Vec<String> {
        let Self { client, index, .. } = self;
        client.call("POST", &format!("/{index}/_refresh"), "");
        // As many as one search gives.
        let answer = client.call(
            "POST",
            &format!("/{index}/_search"),
            r#"{"size":10000,"_source":["message"],"query":{"match_all":{}}}"#,
        );
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let hits = answer["hits"]["hits"].as_array();
        let hits = hits.unwrap_or_else(|| panic!("{answer:#}")).iter();
        let message = |hit: &Value| hit["_source"]["message"].as_str().unwrap().to_owned();
        let mut messages: Vec<String> = hits.map(message).collect();
        messages.sort();
        messages
    }
}

impl Drop for Elasticsearch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.client.call("DELETE", &format!("/{}", self.index), "");
        }
    }
}
