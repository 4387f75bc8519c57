//! What a live plugin is called with, recorded through the real binary and run again elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::Value;
use support::author::{command, fails, json_lines, text, works};
use support::{Node, fixture_module, numbered, reason, wait_for};

#[test]
fn what_a_live_plugin_did_can_be_done_again() {
    let mut node = Node::new();
    let spec = node.spec("app", "fixture-minimal", "{contains: wanted}");
    node.manifest("app", &spec);
    node.start_with(&["--allow-recording"], &[]);
    node.wait_running("app");
    let folder = node.path("");
    let state = node.state.to_str().unwrap().to_owned();
    let file = node.path("app.jsonl");
    let file = file.to_str().unwrap();
    let record = [
        "plugin", "record", "app", "--for", "4s", "-o", file, "--state", &state,
    ];
    let recording = command(&folder, &record)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the recording to begin", || {
        fs::read_to_string(file)
            .ok()
            .filter(|text| text.contains("instantiate"))
    });
    node.append(
        "a.log",
        numbered("wanted", 0..50).chain(numbered("other", 0..50)),
    );
    let output = recording.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("unredacted"));
    node.wait_output("app", 50);
    let mode = fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let recorded = json_lines(&fs::read_to_string(file).unwrap());
    assert!(
        recorded[0]["recording"]["note"]
            .as_str()
            .unwrap()
            .contains("unredacted")
    );
    assert_eq!(recorded.last().unwrap()["end"]["lost"], 0);
    assert!(
        recorded
            .iter()
            .any(|line| line["call"]["call"] == "lifecycle.init")
    );
    fails(&folder, &record, 1, &["name another file with -o"]);

    let (same, _) = fixture_module("fixture-minimal");
    let replay = ["plugin", "replay", file, "--module", same.to_str().unwrap()];
    let told = works(&folder, &replay);
    assert!(
        told.contains("the module that was recorded: the same answers"),
        "{told}"
    );
    let (other, _) = fixture_module("fixture-logs");
    let replay = [
        "plugin",
        "replay",
        file,
        "--module",
        other.to_str().unwrap(),
    ];
    let told = works(&folder, &replay);
    assert!(told.contains("another module: the same answers"), "{told}");
    let changed = fs::read_to_string(file).unwrap();
    fs::write(
        node.path("changed.jsonl"),
        changed.replace("wanted 7", "WANTED 7"),
    )
    .unwrap();
    let replay = [
        "plugin",
        "replay",
        "changed.jsonl",
        "--module",
        same.to_str().unwrap(),
    ];
    let parts = [
        "logs.process",
        "--- recorded",
        "+++ now",
        "1 answers differ",
    ];
    fails(&folder, &replay, 1, &parts);
    fails(
        &folder,
        &["plugin", "replay", file],
        1,
        &["name it, or a newer one, with --module"],
    );

    // The lines alone, to a plugin under way.
    let lines = [
        "plugin",
        "run",
        same.to_str().unwrap(),
        "--recording",
        file,
        "--once",
        "--manifest",
    ];
    fs::write(node.path("plugin.yaml"), "config: {contains: '49'}\n").unwrap();
    let shown = works(&folder, &[&lines[..], &["plugin.yaml"]].concat());
    assert!(shown.contains("= wanted 49\n"), "{shown}");
    assert!(shown.contains("- wanted 48\n"), "{shown}");
}

/// It takes a fresh instance to begin with, and that is nobody's update and no restart.
#[test]
fn a_plugin_that_is_recorded_goes_on_where_it_was() {
    let mut node = Node::new();
    node.manifest("app", &node.spec("app", "fixture-logs", "{count: true}"));
    node.append("a.log", numbered("line", 0..5));
    node.start_with(&["--allow-recording"], &[]);
    node.wait_output("app", 5);
    let state = node.state.to_str().unwrap().to_owned();
    let file = node.path("app.jsonl");
    let record = [
        "plugin",
        "record",
        "app",
        "--for",
        "2s",
        "-o",
        "app.jsonl",
        "--state",
        &state,
    ];
    let mut recording = command(&node.path(""), &record)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let recorded = || fs::read_to_string(&file).unwrap_or_default();
    wait_for("the state to be handed on", || {
        recorded().contains("lifecycle.restore").then_some(())
    });
    node.append("a.log", numbered("line", 5..10));
    let lines = node.wait_output("app", 10);
    let counts: Vec<_> = lines.iter().map(|line| line["count"].clone()).collect();
    assert_eq!(counts, (1..=10).map(Value::from).collect::<Vec<_>>());
    assert!(recording.wait().unwrap().success());
    assert!(recorded().contains("logs.process"));
    let report = node.plugin("app").unwrap();
    for figure in ["updates", "restarts", "rollbacks"] {
        assert_eq!(report[figure], 0, "{report:#}");
    }
    assert_eq!(reason(&report, "UpToDate"), "Current", "{report:#}");
}

#[test]
fn nobody_records_unless_the_node_permits_it() {
    let mut node = Node::new();
    let spec = node.spec("app", "fixture-minimal", "{contains: wanted}");
    node.manifest("app", &spec);
    node.start();
    node.wait_running("app");
    let state = node.state.to_str().unwrap().to_owned();
    let folder = node.path("");
    let record = [
        "plugin",
        "record",
        "app",
        "-o",
        "app.jsonl",
        "--state",
        &state,
    ];
    fails(&folder, &record, 1, &["--allow-recording"]);
    assert!(!folder.join("app.jsonl").exists());
    let nowhere = [
        "plugin",
        "record",
        "app",
        "-o",
        "app.jsonl",
        "--state",
        "nowhere",
    ];
    fails(&folder, &nowhere, 3, &["no daemon answers"]);
}

/// With what the plugins ask the host meanwhile: state, facts, the time, random numbers.
#[test]
fn what_plugins_of_each_role_did_can_be_done_again() {
    let mut node = Node::new();
    let kept = node.path("etc/kept");
    let scanned = node.path("scanned");
    for folder in [kept.parent().unwrap(), &scanned] {
        fs::create_dir(folder).unwrap();
    }
    let logs = node.spec("logs", "fixture-grants", "{count: true}");
    let grants = "grants: {state: {quota: 1Mi}, nodeFacts: true}\nupdate:";
    let logs = logs.replace("update:", grants);
    let metrics = "module: {bundled: node-metrics}\ngrants: {nodeStats: true, nodeFiles: [/proc, /sys, /etc/os-release, /usr/lib/os-release, /etc/selinux/config, /run/udev/data, /var/lib/prometheus/node-exporter, /var/log/containers, /var/log/pods]}\n";
    let enforcement = format!(
        "module: {{bundled: config-enforcer}}\ngrants: {{nodeFacts: true, changes: {{files: [{:?}]}}}}\nconfig: {{resources: [{{id: a, file: {{path: {kept:?}, content: a}}}}]}}\nenforcement: {{mode: enforce}}\n",
        kept.parent().unwrap()
    );
    let rule = "rule miner { strings: $a = \"stratum+tcp://\" condition: $a }";
    let scanning = format!(
        "module: {{bundled: security-scanner}}\nconfig: {{signatures: {{yara: [{{name: test, text: {rule:?}}}]}}}}\ngrants: {{state: {{quota: 1Mi}}, scan: {{files: [{scanned:?}]}}}}\nscanning: {{budget: {{yieldToPressure: false}}}}\n"
    );
    let plugins = [
        ("logs", logs.as_str(), "logs.process"),
        ("metrics", metrics, "metrics.collect"),
        ("enforcement", &enforcement, "enforcement.plan"),
        ("scanning", &scanning, "scanning.scan"),
    ];
    for (name, spec, _) in plugins {
        node.manifest(name, spec);
    }
    node.start_with(&["--allow-recording"], &[]);
    let folder = node.path("");
    let state = node.state.to_str().unwrap().to_owned();
    let recorded =
        |name: &str| fs::read_to_string(node.path(&format!("{name}.jsonl"))).unwrap_or_default();
    let recordings = plugins.map(|(name, _, _)| {
        node.wait_running(name);
        let file = format!("{name}.jsonl");
        let record = [
            "plugin", "record", name, "--for", "5m", "-o", &file, "--state", &state,
        ];
        let recording = command(&folder, &record)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("a fresh instance", || {
            recorded(name).contains("lifecycle.init").then_some(())
        });
        recording
    });
    node.append("a.log", numbered("line", 0..10));
    node.wait_output("logs", 10);
    node.get("/metrics/plugins/local/metrics").unwrap();
    works(
        &folder,
        &["enforcement", "check", "enforcement", "--state", &state],
    );
    fs::write(scanned.join("miner"), "stratum+tcp://pool").unwrap();
    for (mut recording, (name, _, call)) in recordings.into_iter().zip(plugins) {
        wait_for(call, || recorded(name).contains(call).then_some(()));
        support::signal_to(&recording, rustix::process::Signal::INT);
        assert!(recording.wait().unwrap().success(), "{name}");
        let file = format!("{name}.jsonl");
        let (module, _) = fixture_module("fixture-grants");
        let replay = match name {
            "logs" => vec![
                "plugin",
                "replay",
                &file,
                "--module",
                module.to_str().unwrap(),
            ],
            _ => vec!["plugin", "replay", &file],
        };
        let told = works(&folder, &replay);
        let expected = "the module that was recorded: the same answers";
        assert!(told.contains(expected), "{name}: {told}");
    }
    assert!(recorded("logs").contains("state."), "it asks the host");
    assert!(recorded("scanning").contains("miner"));
}
