//! Each kind of destination that a vendor's protocol speaks, against a server that refuses requests
//! and records as that vendor does: only what failed is sent again, and each line ends exactly once,
//! at the server or in the dead letters.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use support::protocols::{ELASTICSEARCH, LOKI, OTLP, Protocol, SPLUNK, json_answer};
use support::real::left_out;
use support::sink::{Answer, Sink};
use support::{Node, numbered};

const FILES: u64 = 3;
const EACH: u64 = 1000;

/// What the server has seen of lines, by their text.
#[derive(Default)]
struct Server {
    /// Of the request at hand, from 0.
    number: usize,
    /// How often each was sent to it.
    sent: BTreeMap<String, usize>,
    /// In the order in which it took them.
    stored: Vec<String>,
}

/// A kind of destination, and the faults of its server.
struct Kind {
    protocol: Protocol,
    answer: fn(&mut Server, &[String]) -> Answer,
    /// Lines that the server will never take.
    invalid: fn(u64) -> bool,
    /// Lines that it refuses once, each alone; other lines are sent once.
    busy: fn(u64) -> bool,
    /// Whole requests that it refuses.
    refused: usize,
    /// Whether it may see the lines of a file in another order than they were written.
    reorders: bool,
    /// What `lastError` of the destination says in the end, if anything.
    last_error: &'static str,
}

fn number(line: &str) -> u64 {
    line.split_once(' ').unwrap().1.parse().unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn is_seventh(number: u64) -> bool {
    number % 10 == 7
}

fn is_third(number: u64) -> bool {
    number % 10 == 3
}

fn none(_: u64) -> bool {
    false
}

fn elasticsearch(server: &mut Server, lines: &[String]) -> Answer {
    let item = |line: &String| {
        let (status, kind) = match number(line) {
            n if is_seventh(n) => (400, "document_parsing_exception"),
            n if is_third(n) && server.sent[line] == 1 => (429, "es_rejected_execution_exception"),
            _ => {
                server.stored.push(line.clone());
                return json!({"create": {"status": 201}});
            }
        };
        let error = json!({"type": kind, "reason": "as told"});
        json!({"create": {"status": status, "error": error}})
    };
    let items: Vec<Value> = lines.iter().map(item).collect();
    json_answer(200, &json!({"errors": true, "items": items}))
}

fn splunk(server: &mut Server, lines: &[String]) -> Answer {
    if server.number < 2 {
        return json_answer(503, &json!({"text": "Server is busy", "code": 9}));
    }
    // Those before a bad one are indexed.
    let bad = lines.iter().position(|line| is_seventh(number(line)));
    let taken = &lines[..bad.unwrap_or(lines.len())];
    server.stored.extend_from_slice(taken);
    match bad {
        None => json_answer(200, &json!({"text": "Success", "code": 0})),
        Some(bad) => {
            let text = "Invalid data format";
            let answer = json!({"text": text, "code": 6, "invalid-event-number": bad});
            json_answer(400, &answer)
        }
    }
}

fn loki(server: &mut Server, lines: &[String]) -> Answer {
    if server.number < 2 {
        let said = "Ingestion rate limit exceeded".to_owned();
        return Answer::Status(429, "Retry-After: 1\r\n", said);
    }
    server.stored.extend_from_slice(lines);
    Answer::Status(204, "", String::new())
}

fn otlp(server: &mut Server, lines: &[String]) -> Answer {
    let headers = "Content-Type: application/x-protobuf\r\n";
    if server.number < 2 {
        return Answer::Status(503, headers, String::new());
    }
    server.stored.extend_from_slice(lines);
    // `partial_success`: `rejected_log_records` 1, `error_message`.
    let message = "one too old";
    let length = char::from(message.len() as u8);
    let inner = format!("\x08\x01\x12{length}{message}");
    let length = char::from(inner.len() as u8);
    Answer::Status(200, headers, format!("\x0a{length}{inner}"))
}

const KINDS: [Kind; 4] = [
    Kind {
        protocol: ELASTICSEARCH,
        answer: elasticsearch,
        invalid: is_seventh,
        busy: is_third,
        refused: 0,
        reorders: true,
        last_error: "",
    },
    Kind {
        protocol: SPLUNK,
        answer: splunk,
        invalid: is_seventh,
        busy: none,
        refused: 2,
        reorders: false,
        last_error: "",
    },
    Kind {
        protocol: LOKI,
        answer: loki,
        invalid: none,
        busy: none,
        refused: 2,
        reorders: false,
        last_error: "",
    },
    Kind {
        protocol: OTLP,
        answer: otlp,
        invalid: none,
        busy: none,
        refused: 2,
        reorders: false,
        last_error: "one too old",
    },
];

fn check(kind: &Kind) {
    let Protocol { name, fields, .. } = kind.protocol;
    if kind.protocol.real.is_some_and(|real| left_out(name, real)) {
        return;
    }
    let mut node = Node::new();
    let server = Arc::new(Mutex::new(Server::default()));
    let sink = Sink::start({
        let (server, read, answer) = (Arc::clone(&server), kind.protocol.lines, kind.answer);
        move |request| {
            let lines = read(request);
            let mut server = server.lock().unwrap();
            server.number = request.number;
            for line in &lines {
                *server.sent.entry(line.clone()).or_default() += 1;
            }
            answer(&mut server, &lines)
        }
    });
    let more = format!("url: {:?}, maxBody: 16Ki", sink.url());
    let more = format!("{more}, retry: {{initial: 5ms, max: 50ms}}, {fields}");
    let destination = format!("{name}: {{{more}}}");
    node.manifest("app", &node.spec_to("fixture-logs", "{}", &destination));
    let mut all = BTreeSet::new();
    for file in 0..FILES {
        let lines: Vec<String> = numbered(&format!("f{file}"), 0..EACH).collect();
        node.append(&format!("f{file}.log"), lines.clone());
        all.extend(lines);
    }
    node.start();
    let accounts = node.assert_accounted("app", FILES * EACH);
    let report = node.plugin("app").unwrap();

    // What could be stored was, once; the rest lies in the dead letters, once.
    let server = server.lock().unwrap();
    let stored: BTreeSet<String> = server.stored.iter().cloned().collect();
    assert_eq!(stored.len(), server.stored.len(), "{name}: stored twice");
    let letters = fs::read_to_string(node.state.join("dead-letter/local/app.jsonl"));
    let letters = letters.unwrap_or_default();
    let dead = letters.lines().map(|line| {
        let letter: Value = serde_json::from_str(line).unwrap();
        text(&letter["record"]["message"])
    });
    let dead: Vec<String> = dead.collect();
    assert_eq!(accounts.dead_lettered, dead.len() as u64, "{name}");
    assert_eq!(accounts.acknowledged, stored.len() as u64, "{name}");
    let invalid = |line: &&String| (kind.invalid)(number(line));
    let mut expected: Vec<&String> = all.iter().filter(invalid).collect();
    let mut dead: Vec<&String> = dead.iter().collect();
    expected.sort();
    dead.sort();
    assert_eq!(dead, expected, "{name}: dead letters");
    let whole: BTreeSet<String> = stored.iter().chain(dead).cloned().collect();
    assert!(whole == all, "{name}: lines are missing");

    // Order within a file.
    for file in 0..FILES {
        let prefix = format!("f{file} ");
        let lines = server
            .stored
            .iter()
            .filter(|line| line.starts_with(&prefix));
        let numbers: Vec<u64> = lines.map(|line| number(line)).collect();
        let wrong = numbers.windows(2).find(|pair| pair[0] >= pair[1]);
        assert!(wrong.is_none() || kind.reorders, "{name}: {wrong:?}");
    }

    // Only what failed was sent again: a line of a whole request that was refused, one that was
    // refused alone, and those behind a bad event, which the server named.
    let requests = sink.all();
    assert!(
        requests
            .iter()
            .all(|(one, _)| one.path == kind.protocol.path)
    );
    let refused = requests.iter().take(kind.refused).map(|(one, _)| one);
    let mut again: BTreeMap<String, usize> = BTreeMap::new();
    for line in refused.flat_map(|one| (kind.protocol.lines)(one)) {
        *again.entry(line).or_default() += 1;
    }
    for (line, times) in &server.sent {
        let busy = usize::from((kind.busy)(number(line)));
        let allowed = 1 + busy + again.get(line).copied().unwrap_or(0);
        // Splunk cuts a request short at each bad event.
        let behind = if name == "splunkHec" {
            usize::MAX
        } else {
            allowed
        };
        assert!((allowed..=behind).contains(times), "{name}: {line} {times}");
    }
    let last_error = &report["logs"]["destinations"][0]["lastError"];
    let said = last_error.to_string();
    assert!(said.contains(kind.last_error), "{name}: {said}");
}

#[test]
fn only_what_failed_is_sent_again_and_each_line_ends_once() {
    for kind in &KINDS {
        check(kind);
    }
}
