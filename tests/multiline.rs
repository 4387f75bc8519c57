//! Lines that are joined to records, through the whole daemon: whatever happens to files and daemon,
//! written lines = records read + lines joined onto them + given up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;

use serde_json::Value;
use support::sink::{Sink, ok, own_address};
use support::{Accounts, Node, config_map};

/// Long enough that no test waits for it.
const NEVER: &str = "{start: '^>', timeout: 1h}";

/// Adds `multiline` to the spec's only source.
fn joining(spec: &str, multiline: &str) -> String {
    let files = spec.lines().find(|line| line.contains("- files:")).unwrap();
    spec.replace(files, &format!("{files}\n    multiline: {multiline}"))
}

fn start(multiline: &str) -> Node {
    let mut node = Node::new();
    let spec = node.spec("app", "fixture-logs", "{}");
    node.manifest("app", &joining(&spec, multiline));
    node.start();
    node.wait_running("app");
    node
}

fn write(node: &Node, log: &str, text: &str) {
    let path = node.path(&format!("logs/{log}"));
    let file = File::options().append(true).create(true).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

fn messages(output: &[Value]) -> Vec<&str> {
    let messages = output.iter().map(|record| record["message"].as_str());
    messages.map(Option::unwrap).collect()
}

fn joined(report: &Value) -> u64 {
    report["logs"]["joinedLines"].as_u64().unwrap()
}

/// Waits until `records` records are settled, made of `lines` lines, and returns them.
fn settled(node: &Node, records: u64, lines: u64) -> Vec<Value> {
    node.assert_accounted("app", records);
    let report = node.plugin("app").unwrap();
    assert_eq!(records + joined(&report), lines);
    node.output("app")
}

#[test]
fn a_java_trace_among_lines_of_the_other_stream() {
    let mut node = Node::new();
    let folder = node.path("log/pods/shop_web-0_1f2e/nginx");
    fs::create_dir_all(&folder).unwrap();
    fs::create_dir_all(node.path("log/containers")).unwrap();
    let spec = joining(
        &node.spec("app", "fixture-logs", "{}"),
        "{preset: [go, java]}",
    );
    let files = spec.lines().find(|line| line.contains("- files:")).unwrap();
    let containers = format!("  - containers: {{root: {:?}}}", node.path("log"));
    node.manifest("app", &spec.replace(files, &containers));
    let lines = [
        "stdout F served /a",
        "stderr F java.lang.IllegalStateException: no stock",
        "stdout F served /b",
        "stderr F \tat shop.Cart.pay(Cart.java:40)",
        "stderr P \tat shop.Main.ma",
        "stdout F java.io.IOException: not the same stream",
        "stderr F in(Main.java:7)",
        "stderr F Caused by: java.lang.NullPointerException",
        "stdout F \tat shop.Db.read(Db.java:3)",
        "stderr F \t... 1 more",
        "stderr F ready again",
        "stdout F served /c",
    ];
    let mut text = String::new();
    for (second, line) in lines.iter().enumerate() {
        text += &format!("2026-01-02T03:04:{second:02}Z {line}\n");
    }
    fs::write(folder.join("0.log"), text).unwrap();
    node.start();
    // One line came in two parts.
    let output = settled(&node, 6, lines.len() as u64 - 1);
    let trace = "java.lang.IllegalStateException: no stock\n\tat shop.Cart.pay(Cart.java:40)\n\tat shop.Main.main(Main.java:7)\nCaused by: java.lang.NullPointerException\n\t... 1 more";
    let other = "java.io.IOException: not the same stream\n\tat shop.Db.read(Db.java:3)";
    let expected = [
        "served /a",
        "served /b",
        trace,
        "ready again",
        other,
        "served /c",
    ];
    assert_eq!(messages(&output), expected);
    let streams: Vec<_> = output.iter().map(|record| record.get("stream")).collect();
    let stderr = Value::from("stderr");
    let stderr = Some(&stderr);
    assert_eq!(streams, [None, None, stderr, stderr, None, None]);
    assert_eq!(output[2]["time"], "2026-01-02T03:04:01.000000000Z");
    assert_eq!(output[2]["k8s.pod.name"], "web-0");
}

#[test]
fn a_start_pattern_and_the_last_record_after_the_time_out() {
    let node = start(r"{start: '^\d{4}-\d\d-\d\d ', timeout: 50ms}");
    write(
        &node,
        "a.log",
        "2026-01-02 a\n  {\n\n  }\n2026-01-02 b\n2026-01-02 c\nmore\n",
    );
    // Nothing comes behind the last one.
    let output = settled(&node, 3, 7);
    let expected = [
        "2026-01-02 a\n  {\n\n  }",
        "2026-01-02 b",
        "2026-01-02 c\nmore",
    ];
    assert_eq!(messages(&output), expected);
}

#[test]
fn a_continuation_pattern_with_a_bound_on_lines_and_bytes() {
    let node = start(r"{continuation: '^\s', timeout: 50ms, maxLines: 3}");
    let long = "x".repeat(200 * 1024);
    write(
        &node,
        "a.log",
        &format!("a\n 1\n 2\n 3\n 4\nb\nc\n {long}\n {long}\nd\n"),
    );
    let output = settled(&node, 5, 10);
    let messages = messages(&output);
    assert_eq!(messages[..3], ["a\n 1\n 2", " 3\n 4", "b"]);
    assert_eq!(messages[3].len(), 256 * 1024);
    assert_eq!(output[3]["cut"], true);
    assert_eq!(messages[4], "d");
    assert_eq!(node.plugin("app").unwrap()["logs"]["cutLines"], 1);
}

/// By SIGKILL, right behind the first checkpoint.
#[test]
fn killed_in_the_middle_of_a_record() {
    let mut node = Node::new();
    let spec = node.spec("app", "fixture-logs", "{}");
    node.manifest("app", &joining(&spec, NEVER));
    write(&node, "a.log", "> a\n1\n> b\n2\nhal");
    let environment = [("BULKHEAD_FAILPOINT", "state.after-commit")];
    node.spawn(&["--safe-mode-deaths", "0"], &environment);
    assert!(!node.wait_for_end().success(), "killed");
    write(&node, "a.log", "f\n3\n> c\n");
    node.start();
    let whole = "> b\n2\nhalf\n3";
    node.wait_plugin("app", "the record", |_| {
        messages(&node.output("app")).contains(&whole)
    });
    // What no checkpoint covered may come twice, and is the same then.
    let output = node.output("app");
    let mut seen = messages(&output);
    seen.dedup();
    assert_eq!(seen, ["> a\n1", whole]);
}

#[test]
fn stopped_in_the_middle_of_a_record_nothing_comes_twice() {
    let mut node = start(NEVER);
    write(&node, "a.log", "> a\n1\n> b\n2\n");
    settled(&node, 1, 2);
    assert!(node.stop().success());
    write(&node, "a.log", "3\n> c\n");
    node.start();
    let output = settled(&node, 1, 3);
    assert_eq!(messages(&output), ["> a\n1", "> b\n2\n3"]);
}

#[test]
fn a_rotation_ends_a_record() {
    const ROUNDS: u64 = 10;
    let node = start(NEVER);
    let mut expected = Vec::new();
    for round in 0..ROUNDS {
        write(
            &node,
            "a.log",
            &format!("> {round}\n1\n> last {round}\n2\n"),
        );
        node.wait_plugin("app", "the first record", |report| {
            Accounts::of(report).read > round
        });
        let log = node.path("logs/a.log");
        for number in (1..=round).rev() {
            let path = |number| node.path(&format!("logs/a.log.{number}"));
            fs::rename(path(number), path(number + 1)).unwrap();
        }
        fs::rename(&log, node.path("logs/a.log.1")).unwrap();
        write(&node, "a.log.1", "written after\n");
        expected.push(format!("> {round}\n1"));
        expected.push(format!("> last {round}\n2\nwritten after"));
    }
    let output = settled(&node, 2 * ROUNDS, 5 * ROUNDS);
    let mut seen = messages(&output);
    seen.sort_unstable();
    expected.sort_unstable();
    assert_eq!(seen, expected);
}

#[test]
fn copy_and_truncate_is_accounted_for_to_the_line() {
    const LINE: u64 = 10;
    let mut node = Node::new();
    let address = own_address();
    let http =
        format!("http: {{url: \"http://{address}/ingest\", retry: {{initial: 5ms, max: 50ms}}}}");
    let spec = node.spec_to("fixture-logs", "{}", &http);
    node.manifest("app", &joining(&spec, NEVER));
    node.start();
    node.wait_running("app");
    // Records of three lines, more than the queues hold.
    let first: u64 = 900_000;
    let line = |n: u64| format!("{} {n:07}", if n.is_multiple_of(3) { '>' } else { ' ' });
    node.append("a.log", (0..first).map(line));
    let log = node.path("logs/a.log");
    node.wait_plugin("app", "the queues to be full", |report| {
        let logs = &report["logs"];
        logs["lag"]["bytes"].as_u64().unwrap() > first * LINE / 2
            && Accounts::of(report).in_flight > 0
    });
    fs::copy(&log, node.path("logs/a.log.1")).unwrap();
    let truncated = File::options().write(true).open(&log).unwrap();
    truncated.set_len(0).unwrap();
    // The last begins a record, so that the one before is handed on.
    node.append("a.log", (first..=first + 300).map(line));
    let sink = Sink::start_at(address, |_| ok());
    let last = line(first + 299);
    let report = node.wait_plugin("app", "the end", |report| {
        report["logs"]["lines"]["inFlight"] == 0
            && sink
                .acknowledged()
                .last()
                .is_some_and(|request| request.text().contains(&last))
    });
    let lost = &report["logs"]["bytes"]["givenUp"]["truncated"];
    let lost = lost.as_u64().unwrap();
    assert!(lost > 0 && lost.is_multiple_of(LINE), "{lost}");
    let accounts = Accounts::of(&report);
    assert_eq!(accounts.given_up(), 0);
    let read = accounts.acknowledged + joined(&report);
    assert_eq!(read + lost / LINE, first + 300);
    let kept = first - lost / LINE;
    let records = sink.records();
    let numbers = messages(&records);
    let numbers = numbers.iter().flat_map(|message| message.lines());
    let numbers = numbers.map(|line| line[2..].parse::<u64>().unwrap());
    assert!(numbers.eq((0..kept).chain(first..first + 300)));
}

/// What was read and not settled is read again, and counted once.
#[test]
fn a_change_of_the_destination_counts_no_line_twice() {
    let mut node = Node::new();
    let address = own_address();
    let http = |max: &str| {
        format!("http: {{url: \"http://{address}/ingest\", retry: {{initial: 5ms, max: {max}}}}}")
    };
    let spec =
        |node: &Node, max: &str| joining(&node.spec_to("fixture-logs", "{}", &http(max)), NEVER);
    node.manifest("app", &spec(&node, "50ms"));
    node.start();
    node.wait_running("app");
    write(&node, "a.log", &"> a\n1\n2\n".repeat(1000));
    node.wait_plugin("app", "lines in flight", |report| {
        Accounts::of(report).in_flight == 999 && joined(report) == 1998
    });
    node.manifest("app", &spec(&node, "40ms"));
    let updates = |report: &Value| report["updates"].as_u64();
    node.wait_plugin("app", "the change", |report| updates(report) >= Some(1));
    let sink = Sink::start_at(address, |_| ok());
    node.assert_accounted("app", 999);
    assert_eq!(joined(&node.plugin("app").unwrap()), 1998);
    assert_eq!(sink.records().len(), 999);
}

#[test]
fn a_bad_pattern_is_refused_with_its_place_and_a_remedy() {
    let node = Node::new();
    let spec = joining(&node.spec("app", "fixture-logs", "{}"), "{start: '^[0-9'}");
    let path = node.path("bad.yaml");
    fs::write(&path, config_map("app", &spec)).unwrap();
    let check = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .arg("check")
        .arg(&path)
        .output()
        .unwrap();
    assert!(!check.status.success());
    let said = [check.stdout, check.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    let line = 1 + fs::read_to_string(&path)
        .unwrap()
        .lines()
        .position(|line| line.contains("multiline"))
        .unwrap();
    for part in [
        format!("bad.yaml:{line}:"),
        "logs.sources[0].multiline.start: `^[0-9` is no regular expression: unclosed character class"
            .to_owned(),
        "put a backslash before characters that are meant as such".to_owned(),
    ] {
        assert!(said.contains(&part), "wanted {part}\ngot {said}");
    }
}
