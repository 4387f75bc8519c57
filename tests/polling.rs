//! Where the kernel grants no inotify, or too little of it, folders are polled: the same lines come out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};

use support::{Node, numbered};

/// A node whose daemon has a user namespace of its own, in which a limit of inotify is lower.
fn limited(limit: &str, value: u32) -> Node {
    let mut node = Node::new();
    let script = format!("echo {value} > /proc/sys/user/{limit} && exec \"$@\"");
    let wrapper = [
        "unshare",
        "--user",
        "--map-root-user",
        "sh",
        "-ec",
        &script,
        "sh",
    ];
    node.wrapper = wrapper.map(str::to_owned).to_vec();
    node
}

fn messages(node: &Node) -> BTreeSet<String> {
    let records = node.output("app");
    let message = |record: &serde_json::Value| record["message"].as_str().unwrap().to_owned();
    let set: BTreeSet<String> = records.iter().map(message).collect();
    assert_eq!(set.len(), records.len(), "a line came twice");
    set
}

fn expected(parts: &[(&str, std::ops::Range<u64>)]) -> BTreeSet<String> {
    let lines = parts
        .iter()
        .flat_map(|(text, range)| numbered(text, range.clone()));
    lines.collect()
}

#[test]
fn without_inotify_nothing_is_lost_and_manifests_are_followed() {
    let mut node = limited("max_inotify_instances", 0);
    let spec = node.spec("app", "fixture-logs", "{}");
    node.manifest("app", &spec);
    node.append("a.log", numbered("a", 0..100));
    node.start();
    node.assert_accounted("app", 100);
    let report = node.plugin("app").unwrap();
    assert_eq!(report["logs"]["watch"], "polling");
    assert!(
        node.daemon_log().contains("fs.inotify.max_user_instances"),
        "it says why and what to do"
    );

    // Rotated, with lines before and after, and a log that is new.
    node.append("a.log", numbered("a", 100..200));
    fs::rename(node.path("logs/a.log"), node.path("logs/a.log.1")).unwrap();
    node.append("a.log.1", numbered("a", 200..210));
    node.append("a.log", numbered("a", 210..300));
    node.append("b.log", numbered("b", 0..50));
    node.assert_accounted("app", 350);
    // Truncated in place, after it was read.
    File::create(node.path("logs/b.log")).unwrap();
    node.append("b.log", numbered("b", 50..60));
    node.assert_accounted("app", 360);
    assert_eq!(messages(&node), expected(&[("a", 0..300), ("b", 0..60)]));

    // Manifests are polled, too.
    node.manifest("app", &format!("suspend: true\n{spec}"));
    node.wait_plugin("app", "Suspended", |report| report["phase"] == "Suspended");
    node.append("b.log", numbered("b", 60..70));
    node.manifest("app", &spec);
    node.assert_accounted("app", 370);
    node.remove_manifest("app");
    support::wait_for("the plugin to be unloaded", || {
        node.plugin("app").is_none().then_some(())
    });
}

#[test]
fn folders_beyond_the_limit_of_watches_are_polled() {
    const FOLDERS: u64 = 20;
    let mut node = limited("max_inotify_watches", 10);
    let folder = |n: u64| node.path(&format!("logs/{n}"));
    for n in 0..FOLDERS {
        fs::create_dir(folder(n)).unwrap();
    }
    let spec = node.spec("app", "fixture-logs", "{}");
    node.manifest("app", &spec.replace("logs/*.log", "logs/*/*.log"));
    node.start();
    node.wait_running("app");
    for n in 0..FOLDERS {
        node.append(&format!("{n}/a.log"), numbered(&format!("a{n}"), 0..10));
    }
    node.assert_accounted("app", FOLDERS * 10);
    let report = node.plugin("app").unwrap();
    assert_eq!(report["logs"]["watch"], "inotify and polling");
    for n in 0..FOLDERS {
        let path = |name| node.path(&format!("logs/{n}/{name}"));
        fs::rename(path("a.log"), path("a.log.1")).unwrap();
        node.append(&format!("{n}/a.log"), numbered(&format!("a{n}"), 10..20));
    }
    node.assert_accounted("app", FOLDERS * 20);
    let names: Vec<String> = (0..FOLDERS).map(|n| format!("a{n}")).collect();
    let parts: Vec<_> = names.iter().map(|name| (name.as_str(), 0..20)).collect();
    assert_eq!(messages(&node), expected(&parts));
}
