#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::*;
use crate::role::logs::delivery::{Context, Outlet, State};
use crate::role::logs::destination::testing::{Fake, Seen, status};
use crate::role::logs::testing::{batch, context, numbered, until};

/// As the role `metrics` opens it, with these fields beside name and address.
fn outlet(url: &str, fields: Value, context: &Context) -> Outlet {
    let mut manifest =
        json!({"name": "far", "url": url, "retry": {"initial": "1ms", "max": "5ms"}});
    let object = manifest.as_object_mut().unwrap();
    object.extend(fields.as_object().unwrap().clone());
    let manifest: RemoteWrite = serde_json::from_value(manifest).unwrap();
    let opened = open(&manifest, &context.surroundings).unwrap();
    let context = Context {
        dead_letters: None,
        ..context.clone()
    };
    Outlet::with(0, &manifest.name, None, opened, &context)
}

/// Lines of these times, in seconds.
fn at(lines: &[String], times: &[i64]) -> Arc<Parcel> {
    let mut batch = batch(0, lines);
    for (line, time) in batch.lines.iter_mut().zip(times) {
        line.time = time * 1_000_000_000;
    }
    Arc::new(Parcel::made(batch))
}

fn bodies(seen: &[Seen]) -> Vec<String> {
    let plain = |seen: &Seen| {
        let plain = snap::raw::Decoder::new().decompress_vec(&seen.body);
        String::from_utf8(plain.unwrap()).unwrap()
    };
    seen.iter().map(plain).collect()
}

#[tokio::test]
async fn a_request_is_its_lines_and_has_those_of_one_time() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let server = Fake::start(|_| status(204)).await;
    let fields = json!({"maxBody": 10, "headers": {"X-Scope-OrgID": "team"}});
    let outlet = outlet(&server.url, fields, &context);
    let lines = numbered(0, 0, 7);
    let parcel = at(&lines, &[1, 1, 1, 1, 2, 2, 1]);
    outlet.send(parcel).await.unwrap();
    ledger.wait_for(1).await;
    let seen = server.seen();
    assert_eq!(bodies(&seen), ["0:00:10:2", "0:3", "0:40:5", "0:6"]);
    for seen in &seen {
        assert_eq!(seen.header("content-encoding"), "snappy");
        assert_eq!(seen.header("content-type"), "application/x-protobuf");
        assert_eq!(seen.header("x-prometheus-remote-write-version"), "0.1.0");
        assert_eq!(seen.header("x-scope-orgid"), "team");
        let agent = seen.header("user-agent");
        assert!(agent.starts_with("bulkhead/"), "{agent}");
    }
    assert_eq!(outlet.status().lines, 7);
}

#[tokio::test]
async fn what_is_refused_is_counted_and_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let mut answers = vec![
        status(200),
        (StatusCode::BAD_REQUEST, "out of order sample").into_response(),
        status(429),
        status(503),
    ];
    let server = Fake::start(move |_| answers.pop().unwrap()).await;
    let outlet = outlet(&server.url, json!({}), &context);
    let lines = numbered(0, 0, 3);
    outlet.send(at(&lines[..2], &[1, 1])).await.unwrap();
    outlet.send(at(&lines[2..], &[2])).await.unwrap();
    ledger.wait_for(2).await;
    let first = "0:00:1";
    assert_eq!(bodies(&server.seen()), [first, first, first, "0:2"]);
    let status = outlet.status();
    assert_eq!((status.lines, status.dead_lettered), (1, 2));
    assert_eq!((status.retries, status.state), (2, State::Healthy));
    let error = status.last_error.unwrap();
    assert!(
        error.contains("400") && error.contains("out of order sample"),
        "{error}"
    );
    // Nothing of it is written down.
    assert!(!folder.path().join("dead-letter").exists());
}

#[tokio::test]
async fn a_server_for_which_it_is_too_large_gets_less_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let server = Fake::start(|seen| {
        let plain = snap::raw::Decoder::new().decompress_vec(&seen.body);
        status(if plain.unwrap().len() > 6 { 413 } else { 200 })
    })
    .await;
    let outlet = outlet(&server.url, json!({}), &context);
    outlet.send(at(&numbered(0, 0, 5), &[1; 5])).await.unwrap();
    ledger.wait_for(1).await;
    assert_eq!(
        (outlet.status().lines, outlet.status().dead_lettered),
        (5, 0)
    );
}

#[tokio::test]
async fn there_is_room_for_one_beside_the_one_at_work() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let (go, gate) = tokio::sync::watch::channel(false);
    let server = Fake::start(move |_| status(if *gate.borrow() { 200 } else { 503 })).await;
    let outlet = outlet(&server.url, json!({}), &context);
    until("open", || outlet.has_room()).await;
    let lines = numbered(0, 0, 1);
    outlet.send(at(&lines, &[1])).await.unwrap();
    until("at work", || outlet.has_room()).await;
    outlet.send(at(&lines, &[2])).await.unwrap();
    until("tried again", || outlet.status().attempts > 2).await;
    assert!(!outlet.has_room());
    go.send(true).unwrap();
    ledger.wait_for(2).await;
    assert!(outlet.has_room());
}
