//! Far more files than descriptors: each line arrives all the same, and once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;

use support::{Node, numbered, wait_for};

/// Sorted, however often they came.
fn messages(node: &Node) -> Vec<String> {
    let records = node.output("app");
    let message = |record: &serde_json::Value| record["message"].as_str().unwrap().to_owned();
    let mut messages: Vec<String> = records.iter().map(message).collect();
    messages.sort();
    messages
}

/// Lines `0..each` of every file.
fn expected(files: u64, each: u64) -> Vec<String> {
    let lines = (0..files).flat_map(|file| numbered(&format!("f{file}"), 0..each));
    BTreeSet::from_iter(lines).into_iter().collect()
}

/// Appends to each file, after every n-th was renamed.
fn append(node: &Node, files: u64, range: std::ops::Range<u64>, rotate: u64) {
    for file in 0..files {
        let name = format!("f{file}.log");
        if file % rotate == rotate - 1 {
            let log = node.path("logs").join(&name);
            fs::rename(&log, log.with_extension(format!("log.{}", range.start))).unwrap();
        }
        node.append(&name, numbered(&format!("f{file}"), range.clone()));
    }
}

#[test]
fn three_hundred_rotating_files_with_sixty_four_descriptors() {
    const FILES: u64 = 300;
    const EACH: u64 = 20;
    const ROUNDS: u64 = 4;
    let mut node = Node::new();
    node.wrapper = ["prlimit", "--nofile=64"].map(str::to_owned).to_vec();
    node.manifest("app", &node.spec("app", "fixture-logs", "{}"));
    append(&node, FILES, 0..EACH, u64::MAX);
    node.start();
    node.assert_accounted("app", FILES * EACH);
    for round in 1..ROUNDS {
        append(&node, FILES, round * EACH..(round + 1) * EACH, 10);
    }
    node.assert_accounted("app", FILES * EACH * ROUNDS);

    // Whoever connects takes the rest of them.
    let connections: Vec<TcpStream> = (0..64)
        .filter_map(|_| TcpStream::connect(node.address()).ok())
        .collect();
    wait_for("the descriptors to run out", || {
        let open = fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap();
        (open.count() >= 62).then_some(())
    });
    append(&node, FILES, ROUNDS * EACH..(ROUNDS + 1) * EACH, 10);
    drop(connections);
    let accounts = node.assert_accounted("app", FILES * EACH * (ROUNDS + 1));
    assert_eq!(accounts.acknowledged, FILES * EACH * (ROUNDS + 1));
    assert!(messages(&node) == expected(FILES, EACH * (ROUNDS + 1)));
    assert_eq!(node.get("/healthz").unwrap().0, 200);
    // It said what to do, and not once for each file.
    let report = node.plugin("app").unwrap();
    let problem = report["logs"]["problem"].as_str().unwrap_or("");
    assert!(problem.contains("LimitNOFILE"), "{report:#}");
    let log = node.daemon_log();
    assert!(log.lines().count() < 100, "{log}");
}

#[test]
fn five_thousand_files() {
    const FILES: u64 = 5000;
    let mut node = Node::new();
    node.manifest("app", &node.spec("app", "fixture-logs", "{}"));
    append(&node, FILES, 0..2, u64::MAX);
    node.start();
    node.assert_accounted("app", FILES * 2);
    append(&node, FILES, 2..4, u64::MAX);
    append(&node, FILES, 4..6, 10);
    node.assert_accounted("app", FILES * 6);
    // What was committed is known of each of them after a restart.
    assert!(node.stop().success());
    append(&node, FILES, 6..8, 10);
    node.start();
    let accounts = node.assert_accounted("app", FILES * 2);
    assert_eq!(accounts.acknowledged, FILES * 2);
    assert!(messages(&node) == expected(FILES, 8));
}
