//! Manifests that are wrong, each in its own way: each is refused with a message of its own that names
//! what is wrong, and none disturbs a plugin that runs. They are files in `tests/malformed`, whose first
//! line says what the refusal says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/cluster/mod.rs"]
mod cluster;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cluster::Cluster;
use cluster::rig::Rig;
use serde_json::{Value, json};
use support::{message, numbered};

/// The text and what is said of it, by name.
fn malformed() -> BTreeMap<String, (String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/malformed");
    let entries = fs::read_dir(folder).unwrap();
    let files = entries.map(|entry| {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap();
        let expected = first.strip_prefix("# refused with: ").unwrap().to_owned();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, (text, expected))
    });
    files.collect()
}

#[test]
fn each_is_refused_with_its_own_message_and_none_disturbs_what_runs() {
    let mut rig = Rig::new(Cluster::shared());
    rig.apply("app", &rig.spec("app"));
    rig.node.start();
    rig.wait_running("app");
    rig.node.append("a.log", numbered("line", 0..100));
    rig.node.wait_output("app", 100);
    let malformed = malformed();
    assert!(malformed.len() >= 50);
    for (name, (text, _)) in &malformed {
        let object = json!({
            "metadata": {"name": name, "labels": {"bulkhead.dev/plugin": "true"}},
            "data": {"plugin.yaml": text},
        });
        rig.put(&rig.namespace, object);
    }
    let mut messages = BTreeSet::new();
    for (name, (_, expected)) in &malformed {
        let report = rig.wait(name, "the refusal", |report| report["phase"] == "Refused");
        let said = message(&report, "Ready").to_owned();
        assert!(said.contains(expected.as_str()), "{name}: {said}");
        let subject = format!("ConfigMap {}/{name}, plugin.yaml", rig.namespace);
        assert!(said.contains(&subject), "{name}: {said}");
        assert!(
            messages.insert(said.replace(&subject, "")),
            "{name}: {said}"
        );
    }
    rig.node.append("a.log", numbered("line", 100..200));
    rig.node.wait_output("app", 200);
    let report = rig.wait_running("app");
    for counter in ["restarts", "updates", "rollbacks"] {
        assert_eq!(report[counter], 0, "{report:#}");
    }
    assert_eq!(report["logs"]["lines"]["read"], 200);
    assert_eq!(rig.node_report()["problems"], Value::Array(Vec::new()));
}
