#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::role::logs::delivery::State;
use crate::role::logs::destination::testing::{Fake, Seen, dead_letters, json as answer, outlet};
use crate::role::logs::testing::{FIRST, context, numbered, parcel, payload, until};

fn success() -> Value {
    json!({"text": "Success", "code": 0})
}

fn messages(seen: &Seen) -> Vec<String> {
    let message = |value: &Value| value["event"]["message"].as_str().unwrap().to_owned();
    seen.values().iter().map(message).collect()
}

#[tokio::test]
async fn events_have_time_source_and_what_the_manifest_says() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let server = Fake::start(|_| answer(200, &success())).await;
    let fields = json!({
        "token": "t0ken", "index": "main", "sourcetype": "app:\"x\"", "host": "n1",
        "compression": "gzip",
    });
    let outlet = outlet("splunkHec", &server.url, fields, &context);
    let mut parcel = parcel(0, &numbered(0, 0, 2), FIRST);
    let lines = &mut Arc::get_mut(&mut parcel).unwrap().batch.lines;
    lines[0].time = 1_700_000_000_000_000_001;
    outlet.send(parcel).await.unwrap();
    outlet.send(payload(0, b"{\"event\":1}", 1)).await.unwrap();
    ledger.wait_for(2).await;
    let seen = server.seen();
    assert_eq!(seen[0].path, "/services/collector/event");
    assert_eq!(seen[0].query, "");
    assert_eq!(seen[0].header("authorization"), "Splunk t0ken");
    assert_eq!(seen[0].header("content-encoding"), "gzip");
    assert_eq!(seen[0].header("x-splunk-request-channel"), "");
    let text = seen[0].text();
    assert!(
        text.starts_with("{\"time\":1700000000.000000001,"),
        "{text}"
    );
    let values = seen[0].values();
    assert_eq!(
        values[1],
        json!({
            "time": 0.0, "index": "main", "sourcetype": "app:\"x\"", "host": "n1",
            "source": "/var/log/test.log",
            "event": {
                "time": "1970-01-01T00:00:00.000000000Z", "message": "0:1",
                "file": "/var/log/test.log",
            },
        })
    );
    assert_eq!(seen[1].text(), "{\"event\":1}");
}

#[tokio::test]
async fn raw_lines_go_to_the_raw_endpoint_with_a_channel() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 2);
    let server = Fake::start(|_| answer(200, &success())).await;
    let fields = json!({
        "token": "t0ken", "endpoint": "raw", "format": "raw", "index": "main", "source": "a b",
    });
    let url = format!("{}/services/collector/event", server.url);
    let outlet = outlet("splunkHec", &url, fields, &context);
    for lane in 0..2 {
        let parcel = parcel(lane, &numbered(lane, 0, 2), FIRST);
        outlet.send(parcel).await.unwrap();
    }
    ledger.wait_for(2).await;
    let mut seen = server.seen();
    seen.sort_by_key(|seen| seen.body.clone());
    assert_eq!(seen[0].path, "/services/collector/raw");
    assert_eq!(seen[0].query, "index=main&source=a+b");
    assert_eq!(seen[0].text(), "0:0\n0:1\n");
    let channel = |seen: &Seen| seen.header("x-splunk-request-channel").to_owned();
    assert_eq!(channel(&seen[0]).len(), 36);
    assert_eq!(&channel(&seen[0])[14..15], "4");
    assert_ne!(channel(&seen[0]), channel(&seen[1]));
}

#[tokio::test]
async fn a_bad_event_is_rejected_and_the_others_are_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let mut busy = 2;
    let indexed = Arc::new(Mutex::new(Vec::new()));
    let stored = Arc::clone(&indexed);
    let server = Fake::start(move |seen| {
        if busy > 0 {
            busy -= 1;
            return match busy {
                1 => answer(503, &json!({"text": "Server is busy", "code": 9})),
                _ => answer(400, &json!({"text": "Incorrect index", "code": 7})),
            };
        }
        let messages = messages(seen);
        let bad = |message: &String| ["0:1", "0:3", "0:4"].contains(&message.as_str());
        if let Some(number) = messages.iter().position(bad) {
            // As Splunk does it: those before are indexed.
            stored
                .lock()
                .unwrap()
                .extend_from_slice(&messages[..number]);
            let text = json!({
                "text": "Invalid data format", "code": 6, "invalid-event-number": number,
            });
            return answer(400, &text);
        }
        stored.lock().unwrap().extend(messages);
        answer(200, &success())
    })
    .await;
    // Fewer attempts than there are bad events: each refusal leaves another request.
    let fields = json!({
        "token": "t0ken", "retry": {"initial": "1ms", "max": "5ms", "attempts": 3},
    });
    let outlet = outlet("splunkHec", &server.url, fields, &context);
    outlet
        .send(parcel(0, &numbered(0, 0, 6), FIRST))
        .await
        .unwrap();
    assert_eq!(ledger.wait_for(1).await[0].dead_lettered, [1, 3, 4]);
    assert_eq!(*indexed.lock().unwrap(), ["0:0", "0:2", "0:5"]);
    let letters = dead_letters(&context);
    let dead: Vec<&str> = letters.iter().map(|(message, _)| &**message).collect();
    assert_eq!(dead, ["0:1", "0:3", "0:4"]);
    assert!(letters[0].1.contains("Invalid data format"), "{letters:?}");
    assert_eq!(server.seen().len(), 6);
    assert_eq!(outlet.status().lines, 3);
}

#[tokio::test]
async fn a_busy_server_gets_only_what_it_did_not_take() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let indexed = Arc::new(Mutex::new(Vec::new()));
    let stored = Arc::clone(&indexed);
    let server = Fake::start(move |seen| {
        let messages = messages(seen);
        // Room for two at a time.
        let taken = messages.len().min(2);
        stored.lock().unwrap().extend_from_slice(&messages[..taken]);
        match taken < messages.len() {
            true => answer(
                503,
                &json!({"text": "Server is busy", "code": 9, "invalid-event-number": taken}),
            ),
            false => answer(200, &success()),
        }
    })
    .await;
    let fields = json!({"token": "t0ken"});
    let outlet = outlet("splunkHec", &server.url, fields, &context);
    let lines = numbered(0, 0, 5);
    outlet.send(parcel(0, &lines, FIRST)).await.unwrap();
    assert_eq!(ledger.wait_for(1).await[0].dead_lettered, [0; 0]);
    assert_eq!(*indexed.lock().unwrap(), lines);
    assert_eq!(server.seen().len(), 3);
    assert_eq!(outlet.status().lines, 5);
}

#[tokio::test]
async fn with_acknowledgement_all_but_the_bad_event_are_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let mut collector = acknowledging(0, true);
    let server = Fake::start(move |seen| {
        let bad = |value: &Value| value["event"]["message"] == "0:1";
        match seen.values().iter().position(bad) {
            Some(number) => answer(400, &json!({"code": 6, "invalid-event-number": number})),
            None => collector(seen),
        }
    })
    .await;
    let fields = json!({"token": "t0ken", "acknowledgement": {"interval": "1ms"}});
    let outlet = outlet("splunkHec", &server.url, fields, &context);
    outlet
        .send(parcel(0, &numbered(0, 0, 3), FIRST))
        .await
        .unwrap();
    assert_eq!(ledger.wait_for(1).await[0].dead_lettered, [1]);
    assert_eq!(messages(&server.seen()[1]), ["0:0", "0:2"]);
}

#[tokio::test]
async fn an_empty_line_is_no_blank_event() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let server = Fake::start(|_| answer(200, &success())).await;
    let fields = json!({"token": "t0ken", "format": "raw"});
    let outlet = outlet("splunkHec", &server.url, fields, &context);
    let lines = ["a".to_owned(), String::new()];
    outlet.send(parcel(0, &lines, FIRST)).await.unwrap();
    ledger.wait_for(1).await;
    let values = server.seen()[0].values();
    assert_eq!(values[0]["event"], "a");
    assert_eq!(values[1]["event"]["message"], "");
    assert_eq!(values[1]["event"]["file"], "/var/log/test.log");
}

/// A collector whose indexers take a while, by channel and number.
fn acknowledging(mut pending: u32, ids: bool) -> impl FnMut(&Seen) -> axum::response::Response {
    let mut next = 0u64;
    move |seen| {
        assert_eq!(seen.header("x-splunk-request-channel").len(), 36);
        if seen.path.ends_with("/ack") {
            let asked = seen.values()[0]["acks"][0].as_u64().unwrap();
            assert_eq!(seen.header("content-encoding"), "");
            pending = pending.saturating_sub(1);
            return answer(200, &json!({"acks": {(asked.to_string()): pending == 0}}));
        }
        let mut success = success();
        if ids {
            success["ackId"] = next.into();
            next += 1;
        }
        answer(200, &success)
    }
}

#[tokio::test]
async fn a_request_is_delivered_once_the_indexers_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let server = Fake::start(acknowledging(3, true)).await;
    let fields = json!({
        "token": "t0ken", "acknowledgement": {"interval": "2ms"}, "compression": "gzip",
    });
    let outlet = outlet("splunkHec", &server.url, fields, &context);
    for number in 0..2 {
        let parcel = parcel(0, &numbered(0, number, 1), FIRST);
        outlet.send(parcel).await.unwrap();
    }
    ledger.wait_for(2).await;
    let paths: Vec<bool> = server
        .seen()
        .iter()
        .map(|seen| seen.path == "/services/collector/ack")
        .collect();
    assert_eq!(paths, [false, true, true, true, false, true]);
    assert_eq!(outlet.status().retries, 0);
}

#[tokio::test]
async fn what_is_never_acknowledged_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let server = Fake::start(acknowledging(u32::MAX, true)).await;
    let fields = json!({
        "token": "t0ken", "acknowledgement": {"interval": "1ms", "timeout": "10ms"},
    });
    let outlet = outlet("splunkHec", &server.url, fields, &context);
    outlet
        .send(parcel(0, &numbered(0, 0, 1), FIRST))
        .await
        .unwrap();
    let sent = || {
        server
            .seen()
            .iter()
            .filter(|seen| seen.path.ends_with("/event"))
            .count()
    };
    until("sent again", || sent() > 1).await;
    let error = outlet.status().last_error.unwrap();
    assert!(
        error.contains("not acknowledged by the indexers within 10ms"),
        "{error}"
    );
    assert!(!outlet.drain(Duration::from_millis(1)).await);
    assert_eq!(ledger.calls(), []);
}

#[tokio::test]
async fn an_answer_that_promises_nothing_settles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let mut collector = acknowledging(0, true);
    let mut count = 0;
    let server = Fake::start(move |seen| {
        count += 1;
        match count {
            1 => {
                let start = "{\"text\":\"Success\",\"code\":0,";
                let broken = [Ok(start), Err(std::io::Error::other("gone"))];
                let stream = futures_util::stream::iter(broken);
                axum::body::Body::from_stream(stream).into_response()
            }
            2 => "<html>welcome".into_response(),
            3 => "".into_response(),
            _ => collector(seen),
        }
    })
    .await;
    let fields = json!({"token": "t0ken", "acknowledgement": {"interval": "1ms"}});
    let outlet = outlet("splunkHec", &server.url, fields, &context);
    outlet
        .send(parcel(0, &numbered(0, 0, 2), FIRST))
        .await
        .unwrap();
    ledger.wait_for(1).await;
    assert_eq!(server.seen().len(), 5);
    assert_eq!((outlet.status().retries, outlet.status().lines), (3, 2));
}

#[tokio::test]
async fn a_token_without_acknowledgement_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let server = Fake::start(acknowledging(0, false)).await;
    let fields = json!({"token": "t0ken", "acknowledgement": {}});
    let outlet = outlet("splunkHec", &server.url, fields, &context);
    outlet
        .send(parcel(0, &numbered(0, 0, 3), FIRST))
        .await
        .unwrap();
    outlet.send(payload(0, b"x", 2)).await.unwrap();
    ledger.wait_for(2).await;
    let status = outlet.status();
    assert_eq!((status.lines, status.dead_lettered), (5, 0));
    assert_eq!((status.state, status.retries), (State::Healthy, 0));
    let error = status.last_error.unwrap();
    assert!(error.contains("no indexer acknowledgement"), "{error}");
    assert_eq!(server.seen().len(), 2);
}
