#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::*;
use crate::role::logs::destination::testing::{Fake, Seen, dead_letters, outlet, status};
use crate::role::logs::output::OutputLine;
use crate::role::logs::testing::{FIRST, context, numbered, parcel};

fn refused(status: u16, said: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), said.to_owned()).into_response()
}

fn entries(seen: &Seen) -> Vec<(i64, String)> {
    let values = seen.values();
    let streams = values[0]["streams"].as_array().unwrap().iter();
    streams
        .flat_map(|stream| stream["values"].as_array().unwrap().clone())
        .map(|entry| {
            let text = |index: usize| entry[index].as_str().unwrap().to_owned();
            (text(0).parse().unwrap(), text(1))
        })
        .collect()
}

#[tokio::test]
async fn records_go_to_the_streams_of_their_labels() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let server = Fake::start(|_| status(204)).await;
    let fields = json!({
        "labels": {"job": "node", "k8s_pod_name": "none"}, "tenant": "team-a", "format": "raw",
        "structuredMetadata": ["k8s.pod.uid", "absent", "k8s.pod.label.*"], "compression": "gzip",
    });
    let outlet = outlet("loki", &server.url, fields, &context);
    let mut parcel = parcel(0, &numbered(0, 0, 4), FIRST);
    let batch = &mut Arc::get_mut(&mut parcel).unwrap().batch;
    let mut pod = batch.spans[0].clone();
    let attribute = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    pod.source = Arc::new(Source {
        path: Arc::from(Path::new("/x")),
        attributes: vec![
            attribute("k8s.namespace.name", "shop"),
            attribute("k8s.pod.name", "cart-0"),
            attribute("k8s.pod.uid", "u1"),
            attribute("k8s.pod.label.app.kubernetes.io/name", "cart"),
            attribute("k8s.pod.label.app_kubernetes.io/name", "same name"),
        ],
    });
    batch.spans.push(pod);
    for (index, line) in batch.lines.iter_mut().enumerate() {
        line.source = index as u32 % 2;
        line.time = 10 + index as i64;
    }
    outlet.send(parcel).await.unwrap();
    ledger.wait_for(1).await;
    let metadata = json!({"k8s_pod_uid": "u1", "k8s_pod_label_app_kubernetes_io_name": "cart"});
    let seen = &server.seen()[0];
    assert_eq!(seen.path, "/loki/api/v1/push");
    assert_eq!(seen.header("x-scope-orgid"), "team-a");
    assert_eq!(seen.header("content-type"), "application/json");
    assert_eq!(
        seen.values(),
        [json!({"streams": [
            {"stream": {"job": "node", "k8s_pod_name": "none", "filename": "/var/log/test.log"},
             "values": [["10", "0:0"], ["12", "0:2"]]},
            {"stream": {"job": "node", "k8s_namespace_name": "shop", "k8s_pod_name": "cart-0"},
             "values": [["11", "0:1", metadata], ["13", "0:3", metadata]]},
        ]})]
    );
}

#[tokio::test]
async fn the_file_name_is_a_label_only_where_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let server = Fake::start(|_| status(204)).await;
    let labels = |count: usize| -> Value { (0..count).map(|i| (format!("l{i}"), "x")).collect() };
    let all = [json!({"filename": "own"}), labels(14), labels(15)];
    for labels in all {
        let fields = json!({"labels": labels, "labelAttributes": []});
        let outlet = outlet("loki", &server.url, fields, &context);
        let parcel = parcel(0, &numbered(0, 0, 1), FIRST);
        outlet.send(parcel).await.unwrap();
        assert!(outlet.drain(std::time::Duration::from_secs(60)).await);
    }
    ledger.wait_for(3).await;
    let names: Vec<Value> = (server.seen().iter())
        .map(|seen| seen.values()[0]["streams"][0]["stream"]["filename"].clone())
        .collect();
    assert_eq!(
        names,
        [json!("own"), json!("/var/log/test.log"), Value::Null]
    );
}

#[tokio::test]
async fn equal_lines_of_one_time_are_all_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let stored = Arc::new(Mutex::new(Vec::new()));
    let loki = Arc::clone(&stored);
    let mut first = true;
    // Drops repeats, as Loki does. The first answer is lost, and large requests are refused, so that
    // all is sent again, in other requests.
    let server = Fake::start(move |seen| {
        let entries = entries(seen);
        let small = entries.len() < 3;
        let mut loki = loki.lock().unwrap();
        for entry in entries {
            if !loki.contains(&entry) {
                loki.push(entry);
            }
        }
        match std::mem::take(&mut first) {
            true => status(502),
            false if small => status(204),
            false => status(413),
        }
    })
    .await;
    let outlet = outlet("loki", &server.url, json!({"format": "raw"}), &context);
    let lines = vec!["same".to_owned(); 8];
    let mut parcel = parcel(0, &lines, FIRST);
    let batch = &mut Arc::get_mut(&mut parcel).unwrap().batch;
    // Another file under the same name, as after a rotation.
    batch.spans.push(batch.spans[0].clone());
    for (index, line) in batch.lines.iter_mut().enumerate() {
        line.source = u32::from(index >= 6);
        // The fourth is where the third was moved to.
        line.time = [10, 10, 10, 11, 20, 20, 20, 5][index];
    }
    outlet.send(parcel).await.unwrap();
    ledger.wait_for(1).await;
    let times: Vec<i64> = stored.lock().unwrap().iter().map(|(t, _)| *t).collect();
    assert_eq!(times, [10, 11, 12, 13, 20, 21, 22, 5]);
    assert!(server.seen().len() > 4);
}

#[test]
fn equal_outputs_of_one_line_and_of_one_time_differ() {
    let mut parcel = parcel(0, &numbered(0, 0, 2), FIRST);
    let parcel = Arc::get_mut(&mut parcel).unwrap();
    // As a plugin does that reads whole seconds from its lines.
    let lines = [(0, 0, 7), (0, 1, 7), (1, 0, 7), (1, 1, 9)];
    let output = |(line, ordinal, time)| OutputLine {
        time,
        line,
        ordinal,
        to: FIRST,
        body: (0, 0),
        body_in_batch: true,
        body_is_json: false,
        fields: (0, 0),
    };
    parcel.output.content = Content::Lines(lines.map(output).to_vec());
    let times = Times::of(parcel);
    let given: Vec<i64> = parcel.records(0).map(|r| times.of_record(&r)).collect();
    assert_eq!(given, [7, 8, 9, 10]);
}

#[tokio::test]
async fn entries_too_far_behind_are_found_and_the_others_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    // As Loki does it: takes what it can, drops repeats, and answers 400 if anything was left.
    let stored = Arc::new(Mutex::new(Vec::new()));
    let loki = Arc::clone(&stored);
    let mut busy = vec![status(500), status(429)];
    let server = Fake::start(move |seen| {
        if let Some(answer) = busy.pop() {
            return answer;
        }
        let (behind, fine): (Vec<_>, Vec<_>) = entries(seen)
            .into_iter()
            .partition(|(_, line)| line == "0:2" || line == "0:7");
        let mut loki = loki.lock().unwrap();
        for entry in fine {
            if !loki.contains(&entry) {
                loki.push(entry);
            }
        }
        match behind.len() {
            0 => status(204),
            _ => refused(
                400,
                "entry with timestamp 2024-05-06 15:58:50 +0000 UTC ignored, reason: 'entry too \
                 far behind, oldest acceptable timestamp is: 2024-05-07T10:25:30Z',\n",
            ),
        }
    })
    .await;
    let outlet = outlet("loki", &server.url, json!({"format": "raw"}), &context);
    let mut parcel = parcel(0, &numbered(0, 0, 10), FIRST);
    let batch = &mut Arc::get_mut(&mut parcel).unwrap().batch;
    for (index, line) in batch.lines.iter_mut().enumerate() {
        line.time = index as i64;
    }
    outlet.send(parcel).await.unwrap();
    assert_eq!(ledger.wait_for(1).await[0].dead_lettered, [2, 7]);
    let lines: Vec<String> = stored
        .lock()
        .unwrap()
        .iter()
        .map(|(_, l)| l.clone())
        .collect();
    let mut expected = numbered(0, 0, 10);
    expected.retain(|line| line != "0:2" && line != "0:7");
    assert_eq!(lines, expected);
    let letters = dead_letters(&context);
    let dead: Vec<&str> = letters.iter().map(|(message, _)| &**message).collect();
    assert_eq!(dead, ["0:2", "0:7"]);
    assert!(letters[0].1.contains("too far behind"), "{letters:?}");
    assert_eq!(outlet.status().dead_lettered, 2);
}

#[tokio::test]
async fn plain_http_where_tls_is_spoken_rejects_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let mut said = vec![
        "<html><head><title>400 No required SSL certificate was sent</title></head></html>",
        "Client sent an HTTP request to an HTTPS server.\n",
    ];
    let server = Fake::start(move |_| match said.pop() {
        Some(said) => refused(400, said),
        None => status(204),
    })
    .await;
    let outlet = outlet("loki", &server.url, json!({}), &context);
    outlet
        .send(parcel(0, &numbered(0, 0, 2), FIRST))
        .await
        .unwrap();
    assert_eq!(ledger.wait_for(1).await[0].dead_lettered, [0; 0]);
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn entries_older_than_the_limit_are_told_by_their_time() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let server =
        Fake::start(
            |seen| match entries(seen).iter().any(|(time, _)| *time < 5_000_000_000) {
                true => refused(
                    400,
                    "entry for stream '{job=\"bulkhead\"}' has timestamp too old: \
                 1970-01-01T00:00:01Z, oldest acceptable timestamp is: 1970-01-01T00:00:05Z",
                ),
                false => status(204),
            },
        )
        .await;
    let outlet = outlet("loki", &server.url, json!({}), &context);
    let mut parcel = parcel(0, &numbered(0, 0, 8), FIRST);
    let batch = &mut Arc::get_mut(&mut parcel).unwrap().batch;
    for (index, line) in batch.lines.iter_mut().enumerate() {
        line.time = 1_000_000_000 * index as i64;
    }
    outlet.send(parcel).await.unwrap();
    assert_eq!(ledger.wait_for(1).await[0].dead_lettered, [0, 1, 2, 3, 4]);
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    let taken: Vec<Value> = entries(&seen[1])
        .iter()
        .map(|(_, line)| serde_json::from_str::<Value>(line).unwrap()["message"].clone())
        .collect();
    assert_eq!(taken, ["0:5", "0:6", "0:7"]);
    assert_eq!(dead_letters(&context).len(), 5);
}

#[tokio::test]
async fn a_request_stays_below_max_body_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (context, ledger) = context(folder.path(), 1);
    let server = Fake::start(|_| status(204)).await;
    let fields = json!({"maxBody": 300, "format": "raw"});
    let outlet = outlet("loki", &server.url, fields, &context);
    let lines = numbered(0, 0, 40);
    outlet.send(parcel(0, &lines, FIRST)).await.unwrap();
    ledger.wait_for(1).await;
    let seen = server.seen();
    assert!(seen.len() > 1 && seen.iter().all(|seen| seen.body.len() <= 300));
    let all: Vec<String> = seen
        .iter()
        .flat_map(entries)
        .map(|(_, line)| line)
        .collect();
    assert_eq!(all, lines);
}
