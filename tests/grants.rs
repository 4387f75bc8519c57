//! What a manifest grants, seen from inside a plugin; and state that goes from one revision to the
//! next.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;
use support::{Node, message, reason};

fn lines(range: std::ops::Range<u64>) -> impl Iterator<Item = String> {
    range.map(|n| n.to_string())
}

/// The values of a field, line by line.
fn values(output: &[Value], field: &str) -> Vec<u64> {
    output
        .iter()
        .map(|line| line[field].as_u64().unwrap_or_else(|| panic!("{line}")))
        .collect()
}

/// A spec of `fixture-grants` with its grants.
fn spec(node: &Node, quota: &str, config: &str) -> String {
    let grants = format!("grants: {{state: {{quota: {quota}}}, nodeFacts: true}}\nupdate:");
    node.spec("app", "fixture-grants", config)
        .replace("update:", &grants)
}

#[test]
fn state_outlives_updates_and_the_daemon() {
    let mut node = Node::new();
    node.manifest("app", &spec(&node, "1Mi", "{count: true}"));
    node.start();
    node.append("a.log", lines(0..5));
    assert_eq!(values(&node.wait_output("app", 5), "line"), [1, 2, 3, 4, 5]);
    node.manifest("app", &spec(&node, "1Mi", "{count: true, facts: [arch]}"));
    node.wait_plugin("app", "updated", |report| report["updates"] == 1);
    node.append("a.log", lines(5..10));
    node.wait_output("app", 10);
    assert!(node.stop().success());
    node.start();
    node.append("a.log", lines(10..15));
    let output = node.wait_output("app", 15);
    assert_eq!(values(&output, "line"), (1..=15).collect::<Vec<_>>());
    // It outlives its manifest as well, for a day.
    node.remove_manifest("app");
    support::wait_for("unloading", || node.plugin("app").is_none().then_some(()));
    node.manifest("app", &spec(&node, "1Mi", "{count: true}"));
    node.append("a.log", lines(15..16));
    assert_eq!(values(&node.wait_output("app", 16), "line")[15], 16);
}

#[test]
fn the_quota_of_the_revision_at_work_holds() {
    let mut node = Node::new();
    let said = |node: &Node, what: &str| -> Value {
        support::wait_for(what, || {
            let journal = node.journal("app");
            let entries = journal["items"].as_array().unwrap();
            let found = entries.iter().rev().find(|entry| {
                let message = entry["message"].as_str().unwrap();
                message.contains(what)
            });
            found.cloned()
        })
    };
    node.manifest("app", &spec(&node, "16Ki", "{fill: 65536}"));
    node.start();
    node.append("a.log", lines(0..1));
    let entry = said(&node, "16384");
    assert_eq!(entry["level"], "warn");
    // Three values of 4 KiB fit beside their keys.
    assert_eq!(entry["fields"], "\"stored\":12288");
    node.wait_output("app", 1);
    // More is granted, and nothing else changes.
    node.manifest("app", &spec(&node, "1Mi", "{fill: 65536}"));
    node.wait_plugin("app", "updated", |report| report["updates"] == 1);
    node.append("a.log", lines(1..2));
    let entry = said(&node, "filled");
    assert_eq!(entry["fields"], "\"stored\":65536");
    // And less again.
    node.manifest("app", &spec(&node, "17Ki", "{fill: 131072}"));
    node.wait_plugin("app", "updated", |report| report["updates"] == 2);
    node.append("a.log", lines(2..3));
    let entry = said(&node, "17408");
    assert_eq!(
        entry["fields"], "\"stored\":65536",
        "what is there may be written"
    );
    node.wait_output("app", 3);
}

#[test]
fn facts_about_the_node_are_seen_with_the_grant() {
    let mut node = Node::new();
    let facts = "{facts: [node.name, arch, kernel.release, cpus, memory.bytes]}";
    node.manifest("app", &spec(&node, "1Mi", facts));
    node.start_with(&[], &[("NODE_NAME", "node-7")]);
    node.append("a.log", lines(0..1));
    let line = node.wait_output("app", 1).remove(0);
    assert_eq!(line["node.name"], "node-7");
    assert_eq!(line["arch"], std::env::consts::ARCH);
    let number = |name: &str| line[name].as_str().unwrap().parse::<u64>().unwrap();
    assert!(
        number("cpus") > 0 && number("memory.bytes") > 1 << 20,
        "{line}"
    );
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(line["kernel.release"], kernel.trim());
}

#[test]
fn a_granted_folder_is_seen_and_nothing_beside_it() {
    let mut node = Node::new();
    for (name, text) in [("rules/text", "granted\n"), ("secret", "secret\n")] {
        let path = node.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let secret = node.path("secret");
    symlink("text", node.path("rules/inside")).unwrap();
    symlink("../secret", node.path("rules/up")).unwrap();
    symlink(&secret, node.path("rules/absolute")).unwrap();
    symlink("/", node.path("rules/root")).unwrap();
    let through_root = format!("/rules/root{}", secret.display());
    let absolute = secret.display().to_string();
    let grants = format!(
        "grants: {{files: [{{host: {:?}, guest: /rules}}]}}\nupdate:",
        node.path("rules")
    );
    node.manifest("app", &node.spec("app", "fixture-logs", "{}"));
    node.start();
    node.wait_running("app");
    for (number, (path, granted)) in [
        ("/rules/text", true),
        ("/rules/inside", true),
        ("/rules/./text", true),
        ("/rules/../rules/text", false),
        ("/rules/../secret", false),
        ("/rules/up", false),
        ("/rules/absolute", false),
        (through_root.as_str(), false),
        (absolute.as_str(), false),
        ("/etc/passwd", false),
        ("/proc/self/environ", false),
        ("secret", false),
    ]
    .into_iter()
    .enumerate()
    {
        let config = format!("{{readFile: {path:?}}}");
        let spec = node.spec("app", "fixture-logs", &config);
        node.manifest("app", &spec.replace("update:", &grants));
        node.wait_plugin("app", path, |report| report["updates"] == number + 1);
        node.append("a.log", [path.to_owned()]);
        let output = node.wait_output("app", number + 1);
        let file = output[number]["file"].as_str().unwrap();
        match granted {
            true => assert_eq!(file, "granted", "{path}"),
            false => assert!(file.starts_with("error: "), "{path}: {file}"),
        }
    }
    // The grant gone, the folder is gone.
    let spec = node.spec("app", "fixture-logs", "{readFile: /rules/text}");
    node.manifest("app", &spec);
    node.wait_plugin("app", "without grant", |report| report["updates"] == 13);
    node.append("a.log", ["none".into()]);
    let output = node.wait_output("app", 13);
    assert!(output[12]["file"].as_str().unwrap().starts_with("error: "));
}

#[test]
fn a_successor_goes_on_from_the_snapshot() {
    let mut node = Node::new();
    node.manifest("app", &node.spec("app", "fixture-logs", "{count: true}"));
    node.start();
    node.wait_running("app");
    node.append("a.log", lines(0..50));
    node.wait_output("app", 50);
    let next = node.spec("app", "fixture-logs", "{count: true, version: two}");
    node.manifest("app", &next);
    node.wait_plugin("app", "updated", |report| report["updates"] == 1);
    node.append("a.log", lines(50..100));
    let output = node.wait_output("app", 100);
    assert_eq!(values(&output, "count"), (1..=100).collect::<Vec<_>>());
    assert_eq!(output[99]["version"], "two");
}

#[test]
fn a_successor_that_does_not_take_the_snapshot_leaves_the_old_one_at_work() {
    let mut node = Node::new();
    node.manifest("app", &node.spec("app", "fixture-logs", "{count: true}"));
    node.start();
    node.wait_running("app");
    let successor = |act: &str| {
        let config = format!("{{count: true, version: two, faults: [{{do: {act}, at: restore}}]}}");
        let limits = "limits: {deadline: 500ms}\nupdate:";
        node.spec("app", "fixture-logs", &config)
            .replace("update:", limits)
    };
    for (number, (act, told, parts)) in [
        (
            "error",
            "Refused",
            ["fixture error at Restore", "manifests/app.yaml"],
        ),
        (
            "panic",
            "UpdateFailed",
            ["fixture panic at Restore", "lifecycle.restore"],
        ),
        (
            "loop",
            "UpdateFailed",
            ["limits.deadline", "lifecycle.restore"],
        ),
        (
            "allocate",
            "UpdateFailed",
            ["limits.memory", "lifecycle.restore"],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        node.manifest("app", &successor(act));
        let report = node.wait_plugin("app", act, |report| {
            let message = message(report, "UpToDate");
            reason(report, "UpToDate") == told && parts.iter().all(|part| message.contains(part))
        });
        assert_eq!(report["phase"], "Running");
        assert_eq!(report["updates"], 0);
        let n = number as u64;
        node.append("a.log", lines(n * 10..n * 10 + 10));
        let output = node.wait_output("app", number * 10 + 10);
        assert_eq!(
            values(&output, "count"),
            (1..=n * 10 + 10).collect::<Vec<_>>()
        );
        assert!(output.iter().all(|line| line["version"].is_null()));
    }
    // The way out that the message names.
    node.manifest("app", &format!("suspend: true\n{}", successor("error")));
    node.wait_plugin("app", "suspended", |report| report["phase"] == "Suspended");
    node.manifest("app", &successor("error"));
    node.append("a.log", lines(40..50));
    let output = node.wait_output("app", 50);
    assert_eq!(values(&output[40..], "count"), (1..=10).collect::<Vec<_>>());
    assert!(output[40..].iter().all(|line| line["version"] == "two"));
}

#[test]
fn a_predecessor_that_fails_at_its_snapshot_is_replaced_all_the_same() {
    let mut node = Node::new();
    let config = "{count: true, faults: [{do: panic, at: snapshot}]}";
    node.manifest("app", &node.spec("app", "fixture-logs", config));
    node.start();
    node.wait_running("app");
    node.append("a.log", lines(0..10));
    node.wait_output("app", 10);
    let next = node.spec("app", "fixture-logs", "{count: true, version: two}");
    node.manifest("app", &next);
    let report = node.wait_plugin("app", "updated", |report| report["updates"] == 1);
    assert_eq!(report["lastFailure"]["call"], "lifecycle.snapshot");
    node.append("a.log", lines(10..20));
    let output = node.wait_output("app", 20);
    assert_eq!(values(&output[10..], "count"), (1..=10).collect::<Vec<_>>());
    node.assert_accounted("app", 20);
}
