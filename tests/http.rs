//! The HTTP destination against a server that misbehaves: every line is acknowledged exactly once
//! or stands in the dead letters, and the order within a file holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use serde_json::Value;
use support::sink::{Answer, Received, Sink, ok, own_address, status};
use support::{Node, numbered, wait_for};

/// Waits are short, so that a test sees many attempts.
const RETRY: &str = "retry: {initial: 5ms, max: 50ms}";

/// A plugin that sends `logs/*.log` as it is to `sink`; `more` are fields of `http`.
fn send(node: &Node, sink: &Sink, more: &str) {
    send_with(node, &sink.url(), "{}", more);
}

fn send_with(node: &Node, url: &str, config: &str, more: &str) {
    let http = format!("http: {{url: {url:?}, {more}}}");
    node.manifest("app", &node.spec_to("fixture-logs", config, &http));
}

/// The numbers of the records of each file, in the order of their acknowledgement.
fn sequences(records: &[Value]) -> BTreeMap<String, Vec<u64>> {
    let mut sequences: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for record in records {
        let message = record["message"].as_str().unwrap();
        let (file, number) = message.split_once(' ').unwrap();
        let path = record["file"].as_str().unwrap();
        assert!(path.ends_with(&format!("/{file}.log")), "{record}");
        let numbers = sequences.entry(file.to_owned()).or_default();
        numbers.push(number.parse().unwrap());
    }
    sequences
}

/// Every file's lines `0..each` were acknowledged once, in order.
fn assert_exact(records: &[Value], files: &[String], each: u64) {
    let sequences = sequences(records);
    assert_eq!(sequences.len(), files.len());
    for file in files {
        let wrong = (0..each).zip(&sequences[file]).find(|(n, got)| n != *got);
        assert_eq!(wrong, None, "{file}: lost, doubled or out of order");
        assert_eq!(sequences[file].len() as u64, each, "{file}");
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("f{n}")).collect()
}

/// Appends lines `range` to each file.
fn append(node: &Node, files: &[String], range: std::ops::Range<u64>) {
    for file in files {
        node.append(&format!("{file}.log"), numbered(file, range.clone()));
    }
}

fn acknowledged(node: &Node, lines: u64) {
    node.wait_plugin("app", "acknowledgement", |report| {
        report["logs"]["lines"]["acknowledged"] == lines
    });
}

#[test]
fn lanes_send_at_once_in_order_and_over_few_connections() {
    const ROUNDS: u64 = 20;
    let mut node = Node::new();
    let both = Barrier::new(2);
    let sink = Sink::start(move |request| {
        if request.number < 2 {
            // Only requests at the same time get past this.
            both.wait();
        }
        ok()
    });
    // No request is given up while it waits for the other.
    send(&node, &sink, "timeout: 300s");
    node.start();
    node.wait_running("app");
    let files = names(16);
    for round in 0..ROUNDS {
        append(&node, &files, round * 100..(round + 1) * 100);
        acknowledged(&node, (round + 1) * 1600);
    }
    assert_exact(&sink.records(), &files, ROUNDS * 100);
    let requests = sink.acknowledged();
    for request in &requests {
        assert_eq!(request.header("content-type"), "application/x-ndjson");
        assert_eq!(request.header("content-encoding"), "");
    }
    assert!(requests.len() as u64 >= 2 * ROUNDS);
    // As many as may be in flight, and room for one that was opened while another became free.
    let connections = sink.connections();
    assert!(
        connections <= 8,
        "{connections} for {} requests",
        requests.len()
    );
    assert!((2..=4).contains(&sink.most_at_work()));
    let accounts = node.assert_accounted("app", ROUNDS * 1600);
    assert_eq!(accounts.acknowledged, ROUNDS * 1600);
}

#[test]
fn concurrency_bounds_the_requests_in_flight() {
    let mut node = Node::new();
    let sink = Sink::start(|_| ok());
    send(&node, &sink, "concurrency: 1, maxBody: 2Ki");
    node.start();
    let files = names(16);
    append(&node, &files, 0..200);
    acknowledged(&node, 3200);
    assert_exact(&sink.records(), &files, 200);
    assert_eq!(sink.most_at_work(), 1);
    assert!(sink.acknowledged().iter().all(|one| one.body.len() <= 2048));
    node.assert_accounted("app", 3200);
}

#[test]
fn bodies_are_compressed_if_asked() {
    let mut node = Node::new();
    let sink = Sink::start(|_| ok());
    send(&node, &sink, "gzip: true, headers: {X-Team: blue}");
    node.start();
    let files = names(3);
    append(&node, &files, 0..5000);
    acknowledged(&node, 15_000);
    assert_exact(&sink.records(), &files, 5000);
    for request in sink.acknowledged() {
        assert_eq!(request.header("content-encoding"), "gzip");
        assert_eq!(request.header("x-team"), "blue");
        let length: usize = request.header("content-length").parse().unwrap();
        assert!(length < request.body.len() || request.body.len() < 500);
    }
    node.assert_accounted("app", 15_000);
}

#[test]
fn the_plugins_own_payloads_arrive_as_they_are() {
    let mut node = Node::new();
    let sink = Sink::start(|_| ok());
    let more = "contentType: text/x-own";
    send_with(&node, &sink.url(), "{encode: 7, contains: f}", more);
    node.start();
    node.append("f0.log", numbered("f0", 0..1000));
    node.append("f0.log", numbered("dropped", 0..10));
    acknowledged(&node, 1000);
    let requests = sink.acknowledged();
    let bodies: String = requests.iter().map(Received::text).collect();
    let expected: String = numbered("f0", 0..1000).map(|line| line + "\n").collect();
    assert!(bodies == expected);
    for request in &requests {
        assert_eq!(request.header("content-type"), "text/x-own");
        assert!(request.text().lines().count() <= 7);
    }
    let accounts = node.assert_accounted("app", 1010);
    assert_eq!((accounts.acknowledged, accounts.filtered), (1000, 10));
}

/// What a server does to its first requests; then it behaves.
fn survives(trouble: fn(usize) -> Option<Answer>, resets: usize, timeout: &str, error: &str) {
    let mut node = Node::new();
    let sink = Sink::start(move |request| trouble(request.number).unwrap_or_else(ok));
    sink.reset(resets);
    send(&node, &sink, &format!("timeout: {timeout}, {RETRY}"));
    let files = names(6);
    append(&node, &files, 0..1000);
    node.start();
    append(&node, &files, 1000..2000);
    acknowledged(&node, 12_000);
    assert_exact(&sink.records(), &files, 2000);
    let accounts = node.assert_accounted("app", 12_000);
    assert_eq!(accounts.acknowledged, 12_000);
    let out = node.plugin("app").unwrap()["logs"]["destinations"][0].take();
    assert_eq!(out["state"], "Healthy");
    let last = out["lastError"].as_str().unwrap();
    assert!(last.contains(error), "{last}");
    assert_ne!(out["retries"], 0);
}

#[test]
fn a_server_that_is_unavailable_for_a_while() {
    survives(|n| (n < 9).then(|| status(503)), 0, "1m", "answered 503");
}

#[test]
fn connections_reset_in_the_middle_of_a_body() {
    survives(|_| None, 9, "1m", "the connection failed");
}

#[test]
fn answers_that_do_not_come() {
    // Long enough that a slow machine is not taken for a server that stalls.
    let stall = |n| (n < 5).then_some(Answer::Stall);
    survives(stall, 0, "3s", "within the timeout");
}

#[test]
fn answers_that_are_garbage() {
    survives(|n| (n < 9).then_some(Answer::Garbage), 0, "1m", "failed");
}

#[test]
fn the_status_is_the_acknowledgement_whatever_follows() {
    let mut node = Node::new();
    let sink = Sink::start(|request| match request.number % 2 {
        0 => Answer::CutShort,
        _ => ok(),
    });
    send(&node, &sink, RETRY);
    node.start();
    let files = names(6);
    for round in 0..10 {
        append(&node, &files, round * 100..(round + 1) * 100);
        acknowledged(&node, (round + 1) * 600);
    }
    assert_exact(&sink.records(), &files, 1000);
    node.assert_accounted("app", 6000);
}

#[test]
fn a_peer_that_asks_for_time_gets_it() {
    let mut node = Node::new();
    let sink = Sink::start(|request| match request.number {
        0 => Answer::Status(429, "Retry-After: 2\r\n", "slower".to_owned()),
        _ => ok(),
    });
    send(&node, &sink, RETRY);
    node.start();
    node.append("f0.log", numbered("f0", 0..10));
    acknowledged(&node, 10);
    let all = sink.all();
    assert!(all[1].0.at.duration_since(all[0].0.at) >= Duration::from_secs(2));
    assert_exact(&sink.records(), &names(1), 10);
    node.assert_accounted("app", 10);
}

/// The numbers of the dead letters, and their reasons.
fn dead_letters(node: &Node) -> (Vec<u64>, BTreeSet<String>) {
    let text = fs::read_to_string(node.path("state/dead-letter/local/app.jsonl")).unwrap();
    let letters = text.lines().map(|line| {
        let letter: Value = serde_json::from_str(line).unwrap();
        assert_eq!(letter["destination"], "out");
        let reason = letter["reason"].as_str().unwrap().to_owned();
        (number_of(&letter["record"]), reason)
    });
    letters.unzip()
}

#[test]
fn what_is_refused_goes_to_the_dead_letters_with_the_reason() {
    let mut node = Node::new();
    let sink = Sink::start(|request| match request.text().contains("poison") {
        true => Answer::Status(400, "", "no such field".to_owned()),
        false => ok(),
    });
    // One line a request.
    send(&node, &sink, &format!("maxBody: 1, {RETRY}"));
    node.start();
    let poisoned = |n: u64| n % 10 == 3;
    let line = |n: u64| match poisoned(n) {
        true => format!("f0 {n} poison"),
        false => format!("f0 {n}"),
    };
    node.append("f0.log", (0..100).map(line));
    let accounts = node.assert_accounted("app", 100);
    assert_eq!((accounts.acknowledged, accounts.dead_lettered), (90, 10));
    let (dead, reasons) = dead_letters(&node);
    assert!(dead.iter().copied().eq((0..100).filter(|n| poisoned(*n))));
    let reasons: Vec<_> = reasons.iter().collect();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(reasons[0].contains("answered 400") && reasons[0].contains("no such field"));
    let sent = &sequences(&sink.records())["f0"];
    assert!(sent.iter().copied().eq((0..100).filter(|n| !poisoned(*n))));
    let out = node.plugin("app").unwrap()["logs"]["destinations"][0].take();
    assert_eq!(
        (&out["deadLettered"], &out["lines"]),
        (&10.into(), &90.into())
    );
}

#[test]
fn attempts_that_are_counted_end_in_the_dead_letters() {
    let mut node = Node::new();
    let sink = Sink::start(|request| match request.text().contains("poison") {
        true => status(500),
        false => ok(),
    });
    let retry = "retry: {initial: 5ms, max: 50ms, attempts: 3}";
    send(&node, &sink, &format!("maxBody: 1, {retry}"));
    node.start();
    node.append("f0.log", ["f0 0".to_owned(), "f0 1 poison".to_owned()]);
    node.append("f0.log", numbered("f0", 2..10));
    let accounts = node.assert_accounted("app", 10);
    assert_eq!((accounts.acknowledged, accounts.dead_lettered), (9, 1));
    let (dead, reasons) = dead_letters(&node);
    assert_eq!(dead, [1]);
    assert!(
        reasons
            .first()
            .unwrap()
            .contains("given up after 3 attempts")
    );
    let failed = sink.all().iter().filter(|(_, taken)| !taken).count();
    assert_eq!(failed, 3);
}

#[test]
fn bodies_that_are_too_large_are_split() {
    const LIMIT: usize = 3000;
    let mut node = Node::new();
    let sink = Sink::start(|request| match request.body.len() > LIMIT {
        true => status(413),
        false => ok(),
    });
    send(&node, &sink, RETRY);
    let giant = format!("f0 500 {}", "x".repeat(LIMIT));
    node.append("f0.log", numbered("f0", 0..500));
    node.append("f0.log", [giant]);
    node.append("f0.log", numbered("f0", 501..1000));
    node.start();
    let accounts = node.assert_accounted("app", 1000);
    assert_eq!((accounts.acknowledged, accounts.dead_lettered), (999, 1));
    let sent = &sequences(&sink.records())["f0"];
    assert!(sent.iter().copied().eq((0..1000).filter(|n| *n != 500)));
    let (dead, reasons) = dead_letters(&node);
    assert_eq!(dead, [500]);
    assert!(reasons.first().unwrap().contains("413"));
}

#[test]
fn secrets_are_looked_up_again_and_shown_nowhere() {
    let mut node = Node::new();
    let wanted = Arc::new(Mutex::new("Key env-5ecret file-0ne-5ecret".to_owned()));
    let sink = Sink::start({
        let wanted = Arc::clone(&wanted);
        move |request| {
            let given = request.header("authorization");
            match given == *wanted.lock().unwrap() {
                true => ok(),
                // As careless servers do.
                false => Answer::Status(401, "", format!("bad credentials: {given}")),
            }
        }
    });
    let token = node.path("token");
    fs::write(&token, "file-stale-5ecret\n").unwrap();
    let header = format!("Key ${{env:SINK_KEY}} ${{file:{}}}", token.display());
    let headers = format!("headers: {{Authorization: {header:?}}}");
    send(&node, &sink, &format!("{headers}, {RETRY}"));
    let environment = [("SINK_KEY", "env-5ecret"), ("BULKHEAD_LOG", "trace")];
    node.start_with(&[], &environment);
    let files = names(2);
    append(&node, &files, 0..100);
    let refused = node.wait_plugin("app", "refused", |report| {
        let out = &report["logs"]["destinations"][0];
        let error = out["lastError"].as_str();
        error.is_some_and(|error| error.contains("answered 401"))
    });
    fs::write(&token, "file-0ne-5ecret\n").unwrap();
    acknowledged(&node, 200);
    // The server takes another key from now on; the file follows, as a rotated Secret does.
    "Key env-5ecret file-tw0-5ecret".clone_into(&mut wanted.lock().unwrap());
    append(&node, &files, 100..200);
    node.wait_plugin("app", "refused again", |report| {
        report["logs"]["destinations"][0]["state"] == "Retrying"
    });
    let hidden = node.path(".token");
    fs::write(&hidden, "file-tw0-5ecret\n").unwrap();
    fs::rename(hidden, token).unwrap();
    acknowledged(&node, 400);
    assert_exact(&sink.records(), &files, 200);
    node.assert_accounted("app", 400);
    let seen = [
        refused.to_string(),
        node.get("/v1/plugins").unwrap().1,
        node.get("/metrics").unwrap().1,
        node.daemon_log(),
    ];
    for text in seen {
        for secret in ["5ecret", "pa55word", "dXNlcjpwYTU1d29yZA"] {
            let at = text
                .find(secret)
                .map(|at| &text[at.saturating_sub(300)..at]);
            assert_eq!(at, None, "{secret} is shown");
        }
    }
}

#[test]
fn a_server_that_comes_later() {
    let mut node = Node::new();
    let address = own_address();
    let url = format!("http://{address}/ingest");
    send_with(&node, &url, "{}", RETRY);
    let files = names(4);
    append(&node, &files, 0..1000);
    node.start();
    node.wait_plugin("app", "trouble", |report| {
        let out = &report["logs"]["destinations"][0];
        let error = out["lastError"].as_str().unwrap_or("");
        report["phase"] == "Running"
            && out["state"] == "Retrying"
            && error.contains("cannot connect")
    });
    append(&node, &files, 1000..2000);
    // Down or up, a restart changes nothing.
    assert!(node.stop().success());
    node.start();
    let sink = Sink::start_at(address, |_| ok());
    acknowledged(&node, 8000);
    assert_exact(&sink.records(), &files, 2000);
    node.assert_accounted("app", 8000);
}

#[test]
fn a_deleted_log_outlives_a_change_of_the_destination_that_it_waits_for() {
    let mut node = Node::new();
    let address = own_address();
    let url = format!("http://{address}/ingest");
    send_with(&node, &url, "{}", RETRY);
    let files = names(4);
    append(&node, &files, 0..5000);
    node.start();
    node.wait_plugin("app", "trouble", |report| {
        report["logs"]["destinations"][0]["state"] == "Retrying"
    });
    for file in &files {
        fs::remove_file(node.path(&format!("logs/{file}.log"))).unwrap();
    }
    // Another section of logs: the tail ends, and another one begins.
    send_with(&node, &url, "{}", "retry: {initial: 11ms, max: 51ms}");
    node.wait_plugin("app", "updated", |report| report["updates"] == 1);
    let sink = Sink::start_at(address, |_| ok());
    acknowledged(&node, 20_000);
    assert_exact(&sink.records(), &files, 5000);
    node.assert_accounted("app", 20_000);
}

/// As above, but everything was read before the log was deleted, and only waits to be acknowledged.
#[test]
fn a_deleted_log_that_was_read_outlives_a_change_of_its_destination() {
    let mut node = Node::new();
    let address = own_address();
    let url = format!("http://{address}/ingest");
    send_with(&node, &url, "{}", RETRY);
    let files = names(1);
    append(&node, &files, 0..10);
    node.start();
    node.wait_plugin("app", "trouble", |report| {
        report["logs"]["destinations"][0]["state"] == "Retrying"
    });
    fs::remove_file(node.path("logs/f0.log")).unwrap();
    node.wait_plugin("app", "the tail to be done with it", |report| {
        report["logs"]["files"]["watched"] == 0
    });
    send_with(&node, &url, "{}", "retry: {initial: 11ms, max: 51ms}");
    node.wait_plugin("app", "updated", |report| report["updates"] == 1);
    let sink = Sink::start_at(address, |_| ok());
    acknowledged(&node, 10);
    assert_exact(&sink.records(), &files, 10);
    node.assert_accounted("app", 10);
}

/// Kibibytes that a process has in memory.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn a_dead_destination_costs_no_memory_and_no_other_plugin() {
    const MANY: u64 = 60_000;
    let mut node = Node::new();
    let address = own_address();
    let url = format!("http://{address}/ingest");
    send_with(&node, &url, "{}", RETRY);
    node.manifest("other", &node.spec("other", "fixture-logs", "{}"));
    node.start();
    node.wait_running("app");
    node.wait_running("other");
    let padding = "x".repeat(1000);
    let padded = |n: u64| format!("f0 {n} {padding}");
    node.append("f0.log", (0..MANY / 4).map(padded));
    let behind = |bytes: u64| {
        move |report: &Value| report["logs"]["lag"]["bytes"].as_u64().unwrap_or(0) > bytes
    };
    node.wait_plugin("app", "to be behind", behind(MANY / 4 * 900));
    node.assert_accounted("other", MANY / 4);
    let before = resident(node.pid());
    node.append("f0.log", (MANY / 4..MANY).map(padded));
    node.wait_plugin("app", "to be far behind", behind(MANY * 900));
    node.assert_accounted("other", MANY);
    let grown = resident(node.pid()).saturating_sub(before);
    assert!(grown < 24 << 10, "45 MB more to send took {grown} KiB");
    let sink = Sink::start_at(address, |_| ok());
    acknowledged(&node, MANY);
    node.assert_accounted("app", MANY);
    let numbers: Vec<u64> = sink.records().iter().map(number_of).collect();
    assert!(numbers.iter().copied().eq(0..MANY));
}

fn number_of(record: &Value) -> u64 {
    let message = record["message"].as_str().unwrap();
    message.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_stop_in_the_middle_of_load_sends_nothing_twice() {
    let mut node = Node::new();
    let sink = Sink::start(|_| ok());
    send(&node, &sink, RETRY);
    let files = names(4);
    let mut written = 0;
    for round in 1..=4 {
        node.start();
        let target = sink.requests() + 10 * round;
        wait_for("requests", || {
            append(&node, &files, written..written + 50);
            written += 50;
            (sink.requests() >= target).then_some(())
        });
        assert!(node.stop().success());
    }
    node.start();
    let total = written * files.len() as u64;
    wait_for("the rest", || {
        (sink.records().len() as u64 >= total).then_some(())
    });
    assert_exact(&sink.records(), &files, written);
}
