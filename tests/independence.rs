//! Several destinations of one plugin: one that is dead or slow holds up none of the others, and gets
//! everything once it works again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::sequence::{append, assert_exact, destination, sequences};
use support::sink::{Sink, ok, own_address, status};
use support::{Accounts, Node, wait_for};

/// Ships `logs/*.log` as it is to a file and to `far`.
fn ship(node: &Node, far: &[(&str, SocketAddr)], logs: &str) {
    let out = node.path("out-app");
    let mut destinations = format!("file: {{path: {out:?}}}");
    for (name, address) in far {
        destinations += &format!(
            "\n  - name: {name}\n    http: {{url: 'http://{address}/ingest', retry: {{initial: 20ms, max: 100ms}}}}"
        );
    }
    destinations += logs;
    node.manifest("app", &node.spec_to("fixture-logs", "{}", &destinations));
}

fn wait_shipped(node: &Node, lines: u64) {
    node.wait_plugin("app", "all lines in the file", |report| {
        destination(report, "out")["lines"] == lines
    });
}

fn wait_attached(node: &Node, name: &str) {
    node.wait_plugin("app", "the destination has caught up", |report| {
        let one = destination(report, name);
        one["state"] == "Healthy" && one["behindBytes"].is_null()
    });
}

/// More than waits for a destination at most.
const MANY: u64 = 20_000;
const LOGS: [&str; 3] = ["a", "b", "c"];
const ALL: u64 = MANY * LOGS.len() as u64;

/// A node that has shipped many lines to the file, while nobody listens at `far`.
fn behind(far: &[(&str, SocketAddr)]) -> Node {
    let mut node = Node::new();
    ship(&node, far, "");
    node.start();
    node.wait_running("app");
    for log in LOGS {
        append(&node, log, 0..MANY);
    }
    wait_shipped(&node, ALL);
    node
}

#[test]
fn a_dead_destination_holds_up_nobody_and_gets_everything_later() {
    let address = own_address();
    let node = behind(&[("far", address)]);
    assert_exact(&node.output("app"), &LOGS, MANY);
    let report = node.plugin("app").unwrap();
    let far = destination(&report, "far");
    assert_eq!(far["state"], "Retrying", "{far}");
    assert!(far["behindBytes"].as_u64().unwrap() > ALL * 350, "{far}");
    let accounts = Accounts::of(&report);
    assert_eq!((accounts.in_flight, accounts.acknowledged), (ALL, 0));

    let sink = Sink::start_at(address, |_| ok());
    node.assert_accounted("app", ALL);
    assert_exact(&sink.records(), &LOGS, MANY);
    wait_attached(&node, "far");
    for log in LOGS {
        append(&node, log, MANY..MANY + 10);
    }
    let accounts = node.assert_accounted("app", ALL + 30);
    assert_eq!(accounts.acknowledged, ALL + 30);
    assert_exact(&sink.records(), &LOGS, MANY + 10);
    assert_exact(&node.output("app"), &LOGS, MANY + 10);
}

#[test]
fn it_catches_up_while_lines_keep_coming() {
    let mut node = Node::new();
    let down = Arc::new(AtomicBool::new(true));
    let sink = Sink::start({
        let down = down.clone();
        move |_| {
            if down.load(Ordering::SeqCst) {
                status(503)
            } else {
                ok()
            }
        }
    });
    ship(&node, &[("far", sink.address)], "");
    node.start();
    node.wait_running("app");
    append(&node, "a", 0..MANY);
    wait_shipped(&node, MANY);
    down.store(false, Ordering::SeqCst);
    let mut written = MANY;
    wait_for("far is taken back under load", || {
        append(&node, "a", written..written + 20);
        written += 20;
        let report = node.plugin("app")?;
        destination(&report, "far")["behindBytes"]
            .is_null()
            .then_some(())
    });
    append(&node, "a", written..written + 20);
    written += 20;
    let accounts = node.assert_accounted("app", written);
    assert_eq!(accounts.acknowledged, written);
    assert_exact(&sink.records(), &["a"], written);
    assert_exact(&node.output("app"), &["a"], written);
}

#[test]
fn a_slow_destination_holds_up_nobody() {
    let mut node = Node::new();
    let sink = Sink::start(|_| {
        // It is slow, and nothing waits for it.
        std::thread::sleep(Duration::from_millis(400));
        ok()
    });
    ship(&node, &[("far", sink.address)], "");
    node.start();
    node.wait_running("app");
    append(&node, "a", 0..2 * MANY);
    wait_shipped(&node, 2 * MANY);
    let report = node.plugin("app").unwrap();
    let far = destination(&report, "far");
    assert!(far["behindBytes"].as_u64().unwrap() > MANY * 400, "{far}");
    let accounts = node.assert_accounted("app", 2 * MANY);
    assert_eq!(accounts.acknowledged, 2 * MANY);
    assert_exact(&sink.records(), &["a"], 2 * MANY);
}

#[test]
fn of_two_dead_destinations_neither_holds_up_the_other() {
    let (first, second) = (own_address(), own_address());
    let node = behind(&[("first", first), ("second", second)]);
    let two = Sink::start_at(second, |_| ok());
    wait_attached(&node, "second");
    assert_exact(&two.records(), &LOGS, MANY);
    append(&node, "a", MANY..2 * MANY);
    wait_shipped(&node, ALL + MANY);
    let one = Sink::start_at(first, |_| ok());
    let accounts = node.assert_accounted("app", ALL + MANY);
    assert_eq!(accounts.acknowledged, ALL + MANY);
    for records in [node.output("app"), one.records(), two.records()] {
        let rest = sequences(&records);
        assert_eq!(rest["a"], (0..2 * MANY).collect::<Vec<_>>());
        assert_eq!(rest["b"], (0..MANY).collect::<Vec<_>>());
    }
}

#[test]
fn what_was_rotated_and_deleted_meanwhile_still_gets_there() {
    let mut node = Node::new();
    let address = own_address();
    ship(&node, &[("far", address)], "\n  deletedFileWait: 300s");
    node.start();
    node.wait_running("app");
    append(&node, "a", 0..MANY);
    wait_shipped(&node, MANY);
    for round in 1..4 {
        let log = node.path("logs/a.log");
        let old = node.path(&format!("logs/a.log.{round}"));
        fs::rename(&log, &old).unwrap();
        append(&node, "a", round * MANY..(round + 1) * MANY);
        wait_shipped(&node, (round + 1) * MANY);
        if round < 3 {
            fs::remove_file(old).unwrap();
        }
    }
    let sink = Sink::start_at(address, |_| ok());
    let accounts = node.assert_accounted("app", 4 * MANY);
    assert_eq!(accounts.acknowledged, 4 * MANY);
    // Each inode has its lane, so only within one does order hold.
    let mut got = sequences(&sink.records()).remove("a").unwrap();
    got.sort_unstable();
    assert_eq!(got, (0..4 * MANY).collect::<Vec<_>>());
    wait_attached(&node, "far");
}

#[test]
fn what_it_can_never_get_is_counted_exactly() {
    let mut node = Node::new();
    let address = own_address();
    ship(&node, &[("far", address)], "\n  deletedFileWait: 1s");
    node.start();
    node.wait_running("app");
    append(&node, "a", 0..MANY);
    append(&node, "b", 0..MANY);
    wait_shipped(&node, 2 * MANY);
    fs::remove_file(node.path("logs/a.log")).unwrap();
    // In place, once everything was read.
    fs::write(node.path("logs/b.log"), "").unwrap();
    append(&node, "b", MANY..MANY + 100);
    wait_shipped(&node, 2 * MANY + 100);
    // What waits for it is not lost; the rest of the deleted file is, before it works again.
    wait_for("the deleted file is closed", || {
        let open = fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap();
        let mut targets = open.filter_map(|one| fs::read_link(one.ok()?.path()).ok());
        (!targets.any(|path| path.to_string_lossy().ends_with("a.log (deleted)"))).then_some(())
    });
    let sink = Sink::start_at(address, |_| ok());
    let accounts = node.assert_accounted("app", 2 * MANY + 100);
    let records = sink.records();
    let got: BTreeSet<String> = records
        .iter()
        .map(|record| record["message"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(got.len(), records.len(), "none comes twice");
    let each = sequences(&records);
    let each: Vec<_> = each.iter().map(|(log, all)| (log, all.len())).collect();
    assert_eq!(
        got.len() as u64,
        accounts.acknowledged,
        "{accounts:?} {each:?}"
    );
    assert!(
        accounts.truncated > 0 && accounts.deleted > 0,
        "{accounts:?}"
    );
}

#[test]
fn after_a_kill_it_goes_on_where_it_was() {
    let address = own_address();
    let mut node = behind(&[("far", address)]);
    // By then the file is settled, as the checkpoints say.
    node.kill();
    node.start();
    node.wait_running("app");
    append(&node, "a", MANY..MANY + 10);
    wait_for("the file has the new lines", || {
        let output = node.output("app");
        let last = sequences(&output)["a"].last().copied();
        (last == Some(MANY + 9)).then_some(())
    });
    let sink = Sink::start_at(address, |_| ok());
    wait_attached(&node, "far");
    node.wait_plugin("app", "everything settled", |report| {
        Accounts::of(report).in_flight == 0 && destination(report, "far")["lines"] == ALL + 10
    });
    let sequences = sequences(&sink.records());
    assert_eq!(sequences["a"], (0..MANY + 10).collect::<Vec<_>>());
    for log in ["b", "c"] {
        assert_eq!(sequences[log], (0..MANY).collect::<Vec<_>>());
    }
}
