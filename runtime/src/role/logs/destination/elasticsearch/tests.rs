#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::MAX_ANSWER;

use crate::role::logs::batch::LINE_STDERR;
use crate::role::logs::delivery::State;
use crate::role::logs::destination::testing::{Fake, Seen, dead_letters, json as answer, outlet};
use crate::role::logs::output::Parcel;
use crate::role::logs::record_id::{Machine, RecordId};
use crate::role::logs::testing::{FIRST, context, numbered, parcel, payload, until};

/// What `_bulk` does: stores by id, and refuses as the test says.
#[derive(Default)]
struct Index {
    /// By index and id.
    stored: HashMap<(String, String), Value>,
    /// By message: the statuses that it gets before it is stored.
    script: HashMap<String, Vec<(u16, &'static str)>>,
}

impl Index {
    fn bulk(&mut self, seen: &Seen) -> Value {
        let values = seen.values();
        let mut errors = false;
        let items: Vec<Value> = values
            .chunks(2)
            .map(|pair| {
                let (action, document) = (&pair[0]["create"], &pair[1]);
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                let key = (text(&action["_index"]), text(&action["_id"]));
                let message = text(&document["message"]);
                let scripted = self.script.get_mut(&message).and_then(Vec::pop);
                let (status, kind) = match scripted {
                    Some(refusal) => refusal,
                    None if self.stored.contains_key(&key) => {
                        (409, "version_conflict_engine_exception")
                    }
                    None => {
                        self.stored.insert(key, document.clone());
                        (201, "")
                    }
                };
                let mut outcome = json!({"status": status});
                if status > 299 {
                    errors = true;
                    outcome["error"] = json!({"type": kind, "reason": format!("{message} is bad")});
                }
                json!({ "create": outcome })
            })
            .collect();
        json!({"errors": errors, "items": items})
    }

    fn messages(&self) -> Vec<String> {
        let message = |value: &Value| value["message"].as_str().unwrap().to_owned();
        let mut messages: Vec<String> = self.stored.values().map(message).collect();
        messages.sort();
        messages
    }
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

async fn serve(index: &Arc<Mutex<Index>>) -> Fake {
    let index = Arc::clone(index);
    Fake::start(move |seen| answer(200, &index.lock().unwrap().bulk(seen))).await
}

#[tokio::test]
async fn items_are_settled_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let index = Arc::new(Mutex::new(Index::default()));
    index.lock().unwrap().script = [
        (
            "0:1".to_owned(),
            vec![(429, "es_rejected_execution_exception"); 2],
        ),
        ("0:3".to_owned(), vec![(400, "document_parsing_exception")]),
        (
            "0:4".to_owned(),
            vec![(503, "unavailable_shards_exception")],
        ),
        ("0:5".to_owned(), vec![(403, "cluster_block_exception")]),
    ]
    .into();
    let server = serve(&index).await;
    let fields = json!({"dataStream": "logs-app-default", "compression": "gzip", "apiKey": "a2V5"});
    let outlet = outlet("elasticsearch", &server.url, fields, &context);
    outlet
        .send(parcel(0, &numbered(0, 0, 8), FIRST))
        .await
        .unwrap();
    assert_eq!(ledger.wait_for(1).await[0].dead_lettered, [3]);
    let mut expected = numbered(0, 0, 8);
    expected.remove(3);
    assert_eq!(index.lock().unwrap().messages(), sorted(expected));
    assert_eq!(
        dead_letters(&context),
        [(
            "0:3".to_owned(),
            "400 Bad Request: document_parsing_exception: 0:3 is bad".to_owned()
        )]
    );
    let seen = server.seen();
    let counts: Vec<usize> = seen.iter().map(|seen| seen.values().len() / 2).collect();
    assert_eq!(counts, [8, 3, 1]);
    assert_eq!(seen[0].path, "/_bulk");
    let filter = "filter_path=errors%2Citems.*.status%2Citems.*.error.type%2Citems.*.error.reason";
    assert_eq!(seen[0].query, filter);
    assert_eq!(seen[0].header("authorization"), "ApiKey a2V5");
    assert_eq!(seen[0].header("content-type"), "application/x-ndjson");
    let status = outlet.status();
    assert_eq!((status.lines, status.dead_lettered), (7, 1));
    assert_eq!(status.state, State::Healthy);
}

#[tokio::test]
async fn what_was_stored_already_is_acknowledged_and_not_stored_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let index = Arc::new(Mutex::new(Index::default()));
    let shared = Arc::clone(&index);
    let mut first = true;
    // Stores all, but the answer to the first request is lost on the way.
    let server = Fake::start(move |seen| {
        let stored = shared.lock().unwrap().bulk(seen);
        match std::mem::take(&mut first) {
            true => answer(504, &json!({})),
            false => answer(200, &stored),
        }
    })
    .await;
    let fields = json!({"index": "app-%Y.%m.%d"});
    let outlet = outlet("elasticsearch", &server.url, fields, &context);
    let lines = numbered(0, 0, 5);
    outlet.send(parcel(0, &lines, FIRST)).await.unwrap();
    // The same lines again, as after a restart.
    outlet.send(parcel(0, &lines, FIRST)).await.unwrap();
    ledger.wait_for(2).await;
    assert_eq!(server.seen().len(), 3);
    assert_eq!(index.lock().unwrap().messages(), lines);
    assert_eq!(dead_letters(&context), []);
    assert_eq!(outlet.status().lines, 10);
}

#[tokio::test]
async fn two_machines_of_one_image_and_a_truncated_copy_store_all_of_theirs() {
    let index = Arc::new(Mutex::new(Index::default()));
    let server = serve(&index).await;
    for machine in ["a", "b"] {
        let folder = tempfile::tempdir().unwrap();
        let (mut context, ledger) = context(folder.path(), 1);
        context.surroundings.machine = Machine::new(machine);
        let fields = json!({"index": "app"});
        let outlet = outlet("elasticsearch", &server.url, fields, &context);
        for generation in 0..2 {
            let mut parcel = parcel(0, &numbered(0, 0, 10), FIRST);
            Arc::get_mut(&mut parcel).unwrap().batch.spans[0].generation = generation;
            outlet.send(parcel).await.unwrap();
        }
        ledger.wait_for(2).await;
    }
    assert_eq!(index.lock().unwrap().stored.len(), 40);
}

#[tokio::test]
async fn documents_have_their_id_index_and_timestamp() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let index = Arc::new(Mutex::new(Index::default()));
    let server = serve(&index).await;
    let fields = json!({"index": "app-%Y.%m.%d-%H"});
    let outlet = outlet(
        "elasticsearch",
        &format!("{}/es/", server.url),
        fields,
        &context,
    );
    let mut parcel: Arc<Parcel> = parcel(0, &numbered(0, 0, 3), FIRST);
    let batch = &mut Arc::get_mut(&mut parcel).unwrap().batch;
    let hour = 3_600_000_000_000;
    for (line, time) in batch.lines.iter_mut().zip([hour - 1, hour, 0]) {
        line.time = time;
    }
    batch.lines[2].flags = LINE_STDERR;
    let ids: Vec<String> = (0..3)
        .map(|line| {
            let mut id = Vec::new();
            let record = parcel.batch.record(line);
            RecordId::of(&context.surroundings.machine, &parcel.batch, &record).push(&mut id);
            String::from_utf8(id).unwrap()
        })
        .collect();
    outlet.send(parcel).await.unwrap();
    ledger.wait_for(1).await;
    let seen = &server.seen()[0];
    assert_eq!(seen.path, "/es/_bulk");
    let document = |message: &str, time: &str| json!({"@timestamp": time, "message": message, "file": "/var/log/test.log"});
    let mut last = document("0:2", "1970-01-01T00:00:00.000000000Z");
    last["stream"] = "stderr".into();
    assert_eq!(
        seen.values(),
        [
            json!({"create": {"_index": "app-1970.01.01-00", "_id": ids[0]}}),
            document("0:0", "1970-01-01T00:59:59.999999999Z"),
            json!({"create": {"_index": "app-1970.01.01-01", "_id": ids[1]}}),
            document("0:1", "1970-01-01T01:00:00.000000000Z"),
            json!({"create": {"_index": "app-1970.01.01-00", "_id": ids[2]}}),
            last,
        ]
    );
}

#[tokio::test]
async fn whole_requests_are_split_refused_or_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let index = Arc::new(Mutex::new(Index::default()));
    let shared = Arc::clone(&index);
    let mut count = 0;
    let server = Fake::start(move |seen| {
        count += 1;
        match count {
            1 => answer(429, &json!({"error": "busy"})),
            // Not what _bulk says: another server's page, or an answer about something else.
            2 => answer(200, &json!({"welcome": true})),
            3 => answer(200, &json!({"errors": true, "items": []})),
            _ if seen.values().len() > 4 => answer(413, &json!({})),
            _ if seen.text().contains("0:2") => answer(400, &json!({"error": "no"})),
            _ => answer(200, &shared.lock().unwrap().bulk(seen)),
        }
    })
    .await;
    let outlet = outlet(
        "elasticsearch",
        &server.url,
        json!({"index": "app"}),
        &context,
    );
    outlet
        .send(parcel(0, &numbered(0, 0, 4), FIRST))
        .await
        .unwrap();
    assert_eq!(ledger.wait_for(1).await[0].dead_lettered, [2, 3]);
    assert_eq!(index.lock().unwrap().messages(), ["0:0", "0:1"]);
    let dead: Vec<String> = dead_letters(&context).into_iter().map(|(m, _)| m).collect();
    assert_eq!(dead, ["0:2", "0:3"]);
}

#[tokio::test]
async fn a_payload_is_settled_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let statuses = |items: &[u16]| {
        let items: Vec<Value> = items
            .iter()
            .map(|status| json!({"index": {"status": status, "error": {"type": "t", "reason": null}}}))
            .collect();
        answer(200, &json!({"errors": true, "items": items}))
    };
    let mut answers = vec![
        statuses(&[201, 400]),
        statuses(&[409, 201]),
        statuses(&[400, 429]),
    ];
    let server = Fake::start(move |_| answers.pop().unwrap()).await;
    let outlet = outlet(
        "elasticsearch",
        &server.url,
        json!({"index": "app"}),
        &context,
    );
    let own = b"{\"index\":{}}\n{}\n{\"index\":{}}\n{}";
    outlet.send(payload(0, own, 2)).await.unwrap();
    outlet.send(payload(0, own, 2)).await.unwrap();
    until("settled", || ledger.calls().len() == 2).await;
    let dead: Vec<_> = ledger
        .calls()
        .into_iter()
        .map(|c| c.dead_lettered)
        .collect();
    assert_eq!(dead, [vec![], vec![0, 1]]);
    let mut sent = own.to_vec();
    sent.push(b'\n');
    assert!(server.seen().iter().all(|seen| seen.body == sent));
}

#[tokio::test]
async fn what_is_wrong_with_the_cluster_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let item = |kind: &str, reason: &str| {
        let error = json!({"type": kind, "reason": reason});
        json!({"create": {"status": 400, "error": error}})
    };
    let items = [
        item("index_closed_exception", "closed"),
        item(
            "validation_exception",
            "Validation Failed: 1: this action would add [2] shards, but this cluster currently has \
             [1000]/[1000] maximum normal shards open;",
        ),
        item("document_parsing_exception", "failed to parse"),
    ];
    let mut first = true;
    let server = Fake::start(move |seen| match std::mem::take(&mut first) {
        true => answer(200, &json!({"errors": true, "items": items})),
        false => answer(200, &Index::default().bulk(seen)),
    })
    .await;
    let fields = json!({"index": "app"});
    let outlet = outlet("elasticsearch", &server.url, fields, &context);
    outlet
        .send(parcel(0, &numbered(0, 0, 3), FIRST))
        .await
        .unwrap();
    assert_eq!(ledger.wait_for(1).await[0].dead_lettered, [2]);
    assert_eq!(server.seen()[1].values().len(), 4);
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_is_too_long_settles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let index = Arc::new(Mutex::new(Index::default()));
    let shared = Arc::clone(&index);
    let mut count = 0;
    let server = Fake::start(move |seen| {
        count += 1;
        let items = shared.lock().unwrap().bulk(seen);
        match count {
            1 => {
                let start = items.to_string()[..20].to_owned();
                let broken = [Ok(start), Err(std::io::Error::other("gone"))];
                let stream = futures_util::stream::iter(broken);
                axum::body::Body::from_stream(stream).into_response()
            }
            2 => " ".repeat(MAX_ANSWER + 1).into_response(),
            _ => answer(200, &items),
        }
    })
    .await;
    let fields = json!({"index": "app"});
    let outlet = outlet("elasticsearch", &server.url, fields, &context);
    let lines = numbered(0, 0, 6);
    outlet.send(parcel(0, &lines, FIRST)).await.unwrap();
    assert_eq!(ledger.wait_for(1).await[0].dead_lettered, [0; 0]);
    let counts: Vec<usize> = server
        .seen()
        .iter()
        .map(|seen| seen.values().len() / 2)
        .collect();
    assert_eq!(counts, [6, 6, 3, 3]);
    assert_eq!(index.lock().unwrap().messages(), lines);
    assert_eq!(outlet.status().lines, 6);
}
