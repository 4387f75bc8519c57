//! kill -9 at named places: after the next start no line is missing, and none is out of order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeSet;

use support::{Node, wait_for};

/// Each is hit this often.
const HITS: u64 = 5;

/// Kills the daemon at `place` again and again while lines are written, then lets it finish.
fn survives(place: &str, disturb: impl Fn(&Node, u64)) {
    let mut node = Node::new();
    let spec = |node: &Node, version: u64| {
        node.spec(
            "app",
            "fixture-logs",
            &format!("{{version: \"{version}\"}}"),
        )
    };
    node.manifest("app", &spec(&node, 0));
    let mut written = 0u64;
    for hit in 1..=HITS {
        let n = (hit % 3 + 1).to_string();
        let armed = format!("{place}:{n}");
        let environment = [("BULKHEAD_FAILPOINT", armed.as_str())];
        node.spawn(&["--safe-mode-deaths", "0"], &environment);
        wait_for(&format!("{place} to be hit"), || {
            if node.has_ended() {
                return Some(());
            }
            node.append("a.log", (written..written + 20).map(|n| n.to_string()));
            written += 20;
            disturb(&node, written);
            None
        });
        assert!(!node.wait_for_end().success(), "{place}: it was killed");
    }
    node.start_with(&["--safe-mode-deaths", "0"], &[]);
    node.append("a.log", [written.to_string()]);
    written += 1;
    node.wait_plugin("app", "the last line", |_| {
        let last = (written - 1).to_string();
        let output = node.output("app");
        output.iter().any(|line| line["message"] == last)
    });
    let shipped: BTreeSet<u64> = node
        .output("app")
        .iter()
        .map(|line| line["message"].as_str().unwrap().parse().unwrap())
        .collect();
    let missing: Vec<u64> = (0..written).filter(|n| !shipped.contains(n)).collect();
    assert!(missing.is_empty(), "{place}: lost {missing:?} of {written}");
}

macro_rules! places {
    ($($test:ident: $place:literal,)*) => {$(
        #[test]
        fn $test() {
            survives($place, |_, _| {});
        }
    )*};
}

places! {
    tail_read: "tail.read",
    file_before_write: "file.before-write",
    file_after_write: "file.after-write",
    delivery_before_send: "delivery.before-send",
    delivery_after_send: "delivery.after-send",
    delivery_settled: "delivery.settled",
    checkpoint_collected: "checkpoint.collected",
    state_before_commit: "state.before-commit",
    state_after_commit: "state.after-commit",
}

/// Each time the daemon runs, the manifest changes, so that there is an update to be killed in.
fn survives_in_update(place: &str) {
    survives(place, |node, written| {
        node.manifest(
            "app",
            &node.spec(
                "app",
                "fixture-logs",
                &format!("{{version: \"{written}\"}}"),
            ),
        );
    });
}

#[test]
fn update_before_swap() {
    survives_in_update("update.before-swap");
}

#[test]
fn update_after_swap() {
    survives_in_update("update.after-swap");
}

#[test]
fn update_prepared() {
    survives_in_update("update.prepared");
}

/// A file is opened once a start, so there must be more of them.
#[test]
fn tail_opened() {
    survives("tail.opened", |node, written| {
        node.append(&format!("b-{written}.log"), ["0".to_owned()]);
    });
}

/// Moves the log away every hundred lines; its successor begins where it ended.
#[test]
fn rotation_by_rename() {
    survives("tail.rotated", |node, written| {
        if written % 100 == 0 {
            let log = node.path("logs/a.log");
            let _ = std::fs::rename(&log, node.path(&format!("logs/a.log.{written}")));
        }
    });
}
