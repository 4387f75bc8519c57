//! Where reading starts and how lines come out: `startAt`, state that outlives manifest and daemon,
//! long lines and bytes that are no text.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use support::{Node, numbered, wait_for};

fn messages(node: &Node) -> Vec<String> {
    let output = node.output("app");
    let message = |record: &Value| record["message"].as_str().unwrap().to_owned();
    output.iter().map(message).collect()
}

fn starting_at(node: &Node, start: &str) -> String {
    let spec = node.spec("app", "fixture-logs", "{}");
    spec.replace("startAt: beginning", &format!("startAt: {start}"))
}

/// Files that are older than the plugin, then newer ones and more lines.
fn start_at(start: &str) -> (Node, Vec<String>) {
    let mut node = Node::new();
    node.append("old.log", numbered("old", 0..10));
    node.append("fresh.log", numbered("fresh", 0..10));
    let old = File::options().append(true).open(node.path("logs/old.log"));
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    old.unwrap().set_modified(yesterday).unwrap();
    // Births have a coarse clock: a file is old if it was there a moment before the plugin.
    std::thread::sleep(Duration::from_millis(100));
    node.manifest("app", &starting_at(&node, start));
    node.start();
    node.wait_plugin("app", "to have looked at the files", |report| {
        report["logs"]["files"]["watched"] == 2
    });
    node.append("old.log", numbered("old", 10..20));
    node.append("fresh.log", numbered("fresh", 10..20));
    node.append("new.log", numbered("new", 0..10));
    let expected = match start {
        "end" => 30,
        "1h" => 40,
        _ => 50,
    };
    node.assert_accounted("app", expected);
    let mut messages = messages(&node);
    messages.sort();
    (node, messages)
}

fn sorted(parts: [(&str, std::ops::Range<u64>); 3]) -> Vec<String> {
    let lines = parts
        .into_iter()
        .flat_map(|(text, range)| numbered(text, range));
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines
}

#[test]
fn from_the_end_only_what_comes_is_read() {
    let (_, messages) = start_at("end");
    let expected = sorted([("old", 10..20), ("fresh", 10..20), ("new", 0..10)]);
    assert_eq!(messages, expected);
}

#[test]
fn from_the_beginning_everything_is_read() {
    let (_, messages) = start_at("beginning");
    let expected = sorted([("old", 0..20), ("fresh", 0..20), ("new", 0..10)]);
    assert_eq!(messages, expected);
}

#[test]
fn a_duration_takes_what_was_written_in_it() {
    let (mut node, messages) = start_at("1h");
    let expected = sorted([("old", 10..20), ("fresh", 0..20), ("new", 0..10)]);
    assert_eq!(messages, expected);
    // The start is for the first time only; later the checkpoints tell.
    assert!(node.stop().success());
    node.append("old.log", numbered("old", 20..21));
    node.start();
    wait_for("the new line", || {
        (node.output("app").len() == 41).then_some(())
    });
    node.assert_accounted("app", 1);
}

#[test]
fn state_outlives_a_deleted_manifest_and_the_daemon() {
    let mut node = Node::new();
    let spec = starting_at(&node, "end");
    node.manifest("app", &spec);
    node.start();
    node.wait_running("app");
    node.append("a.log", numbered("a", 0..10));
    node.assert_accounted("app", 10);
    node.remove_manifest("app");
    wait_for("unloading", || node.plugin("app").is_none().then_some(()));
    node.append("a.log", numbered("a", 10..20));
    assert!(node.stop().success());
    // Gone while the daemon starts, and written to by nobody's leave.
    node.start();
    node.append("a.log", numbered("a", 20..30));
    node.manifest("app", &spec);
    node.wait_running("app");
    node.append("a.log", numbered("a", 30..40));
    node.assert_accounted("app", 30);
    let expected: Vec<String> = numbered("a", 0..40).collect();
    assert_eq!(messages(&node), expected);
    assert!(node.stop().success());
    node.start();
    node.append("a.log", numbered("a", 40..41));
    node.assert_accounted("app", 1);
    let expected: Vec<String> = numbered("a", 0..41).collect();
    assert_eq!(messages(&node), expected);
}

#[test]
fn long_lines_are_cut_and_marked() {
    let mut node = Node::new();
    let spec = node.spec("app", "fixture-logs", "{}");
    node.manifest("app", &spec.replace("logs:\n", "logs:\n  maxLine: 1000\n"));
    node.start();
    let lengths = [999, 1000, 1001, 5000, 700_000, 3];
    node.append("a.log", lengths.map(|length| "x".repeat(length)));
    node.assert_accounted("app", lengths.len() as u64);
    for (record, length) in node.output("app").iter().zip(lengths) {
        let message = record["message"].as_str().unwrap();
        assert_eq!(message.len(), length.min(1000));
        assert_eq!(
            record.get("cut"),
            (length > 1000).then_some(&Value::Bool(true))
        );
    }
    assert_eq!(node.plugin("app").unwrap()["logs"]["cutLines"], 3);
}

#[test]
fn bytes_that_are_no_text_are_kept_raw_and_replaced_in_json() {
    let mut node = Node::new();
    let raw = format!(
        "\n  - name: raw\n    file: {{path: {:?}, format: raw}}",
        node.path("raw")
    );
    node.manifest("app", &(node.spec("app", "fixture-logs", "{}") + &raw));
    node.start();
    let bytes: &[u8] =
        b"caf\xe9 \xff\xfe\n\0nul\ttab\x1b[0m\r\n\n\xf0\x9f\xa6\x80 \xed\xa0\x80\n\"quoted\\\"\n";
    let mut log = File::create(node.path("logs/a.log")).unwrap();
    log.write_all(bytes).unwrap();
    node.assert_accounted("app", 5);
    assert_eq!(fs::read(node.path("raw")).unwrap(), bytes);
    assert_eq!(
        messages(&node),
        [
            "caf\u{fffd} \u{fffd}\u{fffd}",
            "\0nul\ttab\x1b[0m\r",
            "",
            "\u{1f980} \u{fffd}\u{fffd}\u{fffd}",
            "\"quoted\\\""
        ]
    );
}
