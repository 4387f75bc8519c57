//! Queues on the disk in front of destinations: reading goes on while a destination is down, and what
//! the queue has needs no log any more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;
use support::disk::Tmpfs;
use support::sequence::{append, assert_exact, destination, sequences};
use support::sink::{Sink, ok, own_address};
use support::{Node, message, wait_for};

/// Ships `logs/*.log` to `far` through a queue; with a file beside it, if so.
fn ship(node: &Node, address: SocketAddr, queue: &str, file: bool) {
    let http = format!(
        "http: {{url: 'http://{address}/ingest', retry: {{initial: 20ms, max: 100ms}}}}{queue}"
    );
    let out = node.path("out-app");
    let destinations = match file {
        true => format!("file: {{path: {out:?}}}\n  - name: far\n    {http}"),
        false => http,
    };
    let spec = node.spec_to("fixture-logs", "{}", &destinations);
    let spec = match file {
        true => spec,
        false => spec.replace("- name: out", "- name: far"),
    };
    node.manifest("app", &spec);
}

/// How the manifest asks for a queue.
fn queue(fields: &str) -> String {
    format!("\n    queue: {{{fields}}}")
}

fn far(report: &Value) -> &Value {
    &destination(report, "far")["queue"]
}

fn count(queue: &Value, field: &str) -> u64 {
    queue[field]
        .as_u64()
        .unwrap_or_else(|| panic!("{field}: {queue}"))
}

/// found + kept = settled + dropped + damaged + what is in it.
fn assert_balanced(queue: &Value) {
    let sum = |fields: &[&str]| fields.iter().map(|field| count(queue, field)).sum::<u64>();
    assert_eq!(
        sum(&["foundLines", "keptLines"]),
        sum(&["settledLines", "droppedLines", "damagedLines", "lines"]),
        "{queue}"
    );
}

/// Waits until the queue holds so many lines.
fn wait_queued(node: &Node, lines: u64) -> Value {
    let report = node.wait_plugin("app", "all lines in the queue", |report| {
        far(report)["lines"] == lines
    });
    assert_balanced(far(&report));
    far(&report).clone()
}

/// Waits until the queue has given out everything.
fn wait_empty(node: &Node) -> Value {
    let report = node.wait_plugin("app", "nothing left in the queue", |report| {
        let lines = &report["logs"]["lines"];
        lines["inFlight"] == 0 && report["logs"]["lag"]["bytes"] == 0 && far(report)["lines"] == 0
    });
    assert_balanced(far(&report));
    far(&report).clone()
}

fn folder(node: &Node) -> PathBuf {
    node.state.join("queue/local/app/far")
}

const MANY: u64 = 20_000;
const LOGS: [&str; 2] = ["a", "b"];
const ALL: u64 = MANY * LOGS.len() as u64;

fn append_all(node: &Node) {
    for log in LOGS {
        append(node, log, 0..MANY);
    }
}

#[test]
fn what_is_in_the_queue_needs_no_log_and_survives_a_kill() {
    let mut node = Node::new();
    let address = own_address();
    ship(&node, address, &queue(""), false);
    node.start();
    node.wait_running("app");
    append_all(&node);
    // Nothing is held up, and nothing is under way.
    let queue = wait_queued(&node, ALL);
    assert!(count(&queue, "bytes") > ALL * 400, "{queue}");
    let accounts = node.assert_accounted("app", ALL);
    assert_eq!(accounts.acknowledged, ALL);
    node.kill();
    for log in LOGS {
        fs::remove_file(node.path(&format!("logs/{log}.log"))).unwrap();
    }
    node.start();
    let found = wait_queued(&node, ALL);
    assert_eq!(count(&found, "foundLines"), ALL);
    let sink = Sink::start_at(address, |_| ok());
    let queue = wait_empty(&node);
    assert_eq!(count(&queue, "settledLines"), ALL);
    assert_exact(&sink.records(), &LOGS, MANY);
    // And goes on, without what was delivered once it is stopped.
    append(&node, "a", MANY..MANY + 10);
    wait_for("the new lines", || {
        (sink.records().len() as u64 >= ALL + 10).then_some(())
    });
    assert!(node.stop().success());
    node.start();
    wait_empty(&node);
    assert_eq!(sequences(&sink.records())["a"].len() as u64, MANY + 10);
}

#[test]
fn a_kill_before_the_checkpoint_brings_no_line_twice() {
    let mut node = Node::new();
    let address = own_address();
    ship(&node, address, &queue(""), false);
    node.start();
    node.wait_running("app");
    append(&node, "a", 0..10);
    wait_queued(&node, 10);
    // So the store knows the file.
    assert!(node.stop().success());
    // All that is kept now is beyond the checkpoint.
    node.start_with(&[], &[("BULKHEAD_FAILPOINT", "checkpoint.collected:1")]);
    append(&node, "a", 10..MANY);
    node.wait_for_end();
    node.start();
    wait_queued(&node, MANY);
    let sink = Sink::start_at(address, |_| ok());
    wait_empty(&node);
    assert_exact(&sink.records(), &["a"], MANY);
}

#[test]
fn a_full_queue_holds_up_its_destination_and_no_other() {
    let mut node = Node::new();
    let address = own_address();
    ship(&node, address, &queue("maxSize: 1Mi"), true);
    node.start();
    node.wait_running("app");
    append_all(&node);
    let report = node.wait_plugin("app", "all lines in the file", |report| {
        destination(report, "out")["lines"] == ALL && far(report)["full"] == true
    });
    assert_exact(&node.output("app"), &LOGS, MANY);
    let queue = far(&report);
    assert!(count(queue, "bytes") <= 1 << 20, "{queue}");
    assert!(count(queue, "lines") < ALL, "{queue}");
    assert_eq!(count(queue, "droppedLines"), 0);
    let sink = Sink::start_at(address, |_| ok());
    node.assert_accounted("app", ALL);
    let queue = wait_empty(&node);
    assert_eq!(count(&queue, "settledLines"), ALL);
    assert_exact(&sink.records(), &LOGS, MANY);
    assert_eq!(
        destination(&node.plugin("app").unwrap(), "far")["queue"]["full"],
        false
    );
}

#[test]
fn a_queue_that_may_drop_drops_the_oldest_and_counts_each() {
    let mut node = Node::new();
    let address = own_address();
    let drop = queue("maxSize: 1Mi, whenFull: dropOldest");
    ship(&node, address, &drop, false);
    node.start();
    node.wait_running("app");
    append_all(&node);
    node.assert_accounted("app", ALL);
    let queue = far(&node.plugin("app").unwrap()).clone();
    assert_balanced(&queue);
    let dropped = count(&queue, "droppedLines");
    assert!(dropped > 0, "{queue}");
    assert!(count(&queue, "bytes") <= 1 << 20, "{queue}");
    let (_, metrics) = node.get("/metrics").unwrap();
    let sample = format!(
        "queue_dropped_lines_total{{namespace=\"local\",name=\"app\",destination=\"far\"}} {dropped}"
    );
    assert!(metrics.contains(&sample), "{sample}\n{metrics}");
    assert!(node.daemon_log().contains("its oldest lines were dropped"));
    assert!(node.stop().success());
    node.start();
    let sink = Sink::start_at(address, |_| ok());
    let queue = wait_empty(&node);
    let records = sink.records();
    assert_eq!(records.len() as u64, ALL - dropped, "{queue}");
    let sequences = sequences(&records);
    for (log, numbers) in &sequences {
        assert!(numbers.windows(2).all(|two| two[0] < two[1]), "{log}");
    }
    // The newest are there.
    let last = sequences
        .values()
        .filter_map(|numbers| numbers.last())
        .max();
    assert_eq!(last, Some(&(MANY - 1)));
}

#[test]
fn a_destination_that_loses_its_queue_gets_what_is_in_it_first() {
    let mut node = Node::new();
    let address = own_address();
    ship(&node, address, &queue(""), true);
    node.start();
    node.wait_running("app");
    append(&node, "a", 0..MANY);
    wait_queued(&node, MANY);
    ship(&node, address, "", true);
    let report = node.wait_plugin("app", "the queue is left over", |report| {
        far(report)["foundLines"] == MANY
    });
    assert_eq!(count(far(&report), "maxBytes"), 0);
    append(&node, "a", MANY..MANY + 10);
    node.wait_plugin("app", "all lines in the file", |report| {
        destination(report, "out")["lines"] == 10
    });
    // Also when the daemon is killed meanwhile.
    node.kill();
    assert!(folder(&node).exists());
    node.start();
    let sink = Sink::start_at(address, |_| ok());
    node.wait_plugin("app", "no queue", |report| far(report).is_null());
    wait_for("all lines", || {
        (sink.records().len() as u64 >= MANY + 10).then_some(())
    });
    assert_exact(&sink.records(), &["a"], MANY + 10);
    assert!(!folder(&node).exists());
}

#[test]
fn a_queue_whose_disk_is_away_holds_up_its_destination_and_no_other() {
    let mut node = Node::new();
    let address = own_address();
    let disk = node.path("disk");
    ship(&node, address, &queue(&format!("path: {disk:?}")), true);
    node.start();
    append_all(&node);
    let report = node.wait_plugin("app", "all lines in the file", |report| {
        destination(report, "out")["lines"] == ALL
    });
    assert_exact(&node.output("app"), &LOGS, MANY);
    let problem = far(&report)["problem"].as_str().unwrap();
    for part in ["cannot open", "disk", "make the folder, or mount its disk"] {
        assert!(problem.contains(part), "{part:?}: {problem}");
    }
    let sink = Sink::start_at(address, |_| ok());
    fs::create_dir(&disk).unwrap();
    node.assert_accounted("app", ALL);
    wait_empty(&node);
    assert_exact(&sink.records(), &LOGS, MANY);
    assert!(disk.join("local/app/far").exists());
}

#[test]
fn a_full_disk_is_a_full_queue() {
    let mut node = Node::new();
    let address = own_address();
    let disk = node.path("disk");
    let _disk = Tmpfs::new(&disk, 4 << 20);
    // Nothing is dropped for it, although that would be allowed.
    let fields = format!("path: {disk:?}, maxSize: 1Gi, whenFull: dropOldest");
    ship(&node, address, &queue(&fields), true);
    node.start();
    node.wait_running("app");
    append_all(&node);
    let report = node.wait_plugin("app", "all lines in the file", |report| {
        destination(report, "out")["lines"] == ALL && far(report)["problem"].is_string()
    });
    assert_exact(&node.output("app"), &LOGS, MANY);
    let problem = far(&report)["problem"].as_str().unwrap();
    for part in ["No space left", "free some space", "lower queue.maxSize"] {
        assert!(problem.contains(part), "{part:?}: {problem}");
    }
    node.kill();
    node.start();
    let sink = Sink::start_at(address, |_| ok());
    let queue = wait_empty(&node);
    assert_eq!(count(&queue, "droppedLines"), 0);
    assert!(queue["problem"].is_null(), "{queue}");
    assert_exact(&sink.records(), &LOGS, MANY);
}

#[test]
fn a_queue_waits_for_its_destination_to_come_back() {
    let mut node = Node::new();
    let address = own_address();
    ship(&node, address, &queue(""), true);
    node.start();
    node.wait_running("app");
    append(&node, "a", 0..MANY);
    wait_queued(&node, MANY);
    node.manifest("app", &node.spec("app", "fixture-logs", "{}"));
    wait_for("what was left is said", || {
        let log = node.daemon_log();
        log.contains("what is in its queue is given up at")
            .then_some(())
    });
    assert!(folder(&node).exists());
    ship(&node, address, &queue(""), true);
    node.wait_plugin("app", "the destination", |report| {
        far(report)["foundLines"] == MANY
    });
    let sink = Sink::start_at(address, |_| ok());
    append(&node, "a", MANY..MANY + 10);
    node.wait_plugin("app", "all lines", |_| {
        sink.records().len() as u64 >= MANY + 10
    });
    assert_exact(&sink.records(), &["a"], MANY + 10);
}

#[test]
fn updates_while_the_queue_is_at_work_repeat_nothing() {
    let mut node = Node::new();
    let sink = Sink::start(|_| ok());
    ship(&node, sink.address, &queue(""), false);
    node.start();
    node.wait_running("app");
    for round in 0..10 {
        append(&node, "a", round * 1000..(round + 1) * 1000);
        // Anything that makes the destinations begin anew.
        let size = queue(&format!("maxSize: {}Mi", round + 1));
        ship(&node, sink.address, &size, false);
        node.wait_plugin("app", "the update", |report| {
            far(report)["maxBytes"] == (round + 1) << 20
        });
    }
    wait_for("all lines", || {
        (sink.records().len() >= 10_000).then_some(())
    });
    assert_exact(&sink.records(), &["a"], 10_000);
}

#[test]
fn what_cannot_be_a_queue_is_refused() {
    let mut node = Node::new();
    let address = own_address();
    node.start();
    for (fields, parts) in [
        ("maxSize: 1000", ["queue.maxSize", "less than 1Mi"]),
        ("path: queue", ["queue.path", "not absolute"]),
        ("path: /proc/self", ["queue.path", "belongs to the kernel"]),
        ("path: /etc/queue", ["queue.path", "as good as being root"]),
        ("whenFull: wait", ["whenFull", "dropOldest"]),
        ("size: 1Gi", ["size", "maxSize"]),
    ] {
        ship(&node, address, &queue(fields), false);
        node.wait_plugin("app", fields, |report| {
            let said = message(report, "UpToDate");
            report["phase"] == "Refused" && parts.iter().all(|part| said.contains(part))
        });
    }
}
