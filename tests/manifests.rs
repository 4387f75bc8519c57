//! Manifests and modules that come, change and go while the daemon runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use support::{
    Node, config_map, fixture_module, message, reason, replace_file, sha256, variant, wait_for,
};

fn lines(range: std::ops::Range<u64>) -> impl Iterator<Item = String> {
    range.map(|n| n.to_string())
}

fn messages(output: &[Value]) -> Vec<&str> {
    let messages = output.iter().map(|line| line["message"].as_str().unwrap());
    messages.collect()
}

fn is_current(report: &Value) -> bool {
    reason(report, "UpToDate") == "Current"
}

#[test]
fn a_module_may_be_in_the_manifest_itself_plain_or_compressed() {
    let mut node = Node::new();
    let bytes = fs::read(fixture_module("fixture-minimal").0).unwrap();
    let compressed = zstd::encode_all(bytes.as_slice(), 19).unwrap();
    let manifest = |key: &str, bytes: &[u8], config: &str| {
        let module = format!("binaryData: {{key: {key}}}");
        let map = config_map("app", &node.spec_of("app", &module, config));
        format!("{map}binaryData:\n  {key}: {}\n", STANDARD.encode(bytes))
    };
    let plain = manifest("module.wasm", &bytes, "{contains: a}");
    let packed = manifest("module.wasm.zst", &compressed, "{contains: b}");
    node.raw_manifest("app.yaml", &plain);
    node.start();
    let report = node.wait_running("app");
    assert_eq!(report["active"]["digest"], sha256(&bytes));
    node.append("x.log", ["a 1".into(), "b 1".into()]);
    assert_eq!(messages(&node.wait_output("app", 1)), ["a 1"]);
    node.raw_manifest("app.yaml", &packed);
    let report = node.wait_plugin("app", "updated", |report| report["updates"] == 1);
    assert_eq!(
        report["active"]["digest"],
        sha256(&bytes),
        "of what it holds"
    );
    node.append("x.log", ["a 2".into(), "b 2".into()]);
    assert_eq!(messages(&node.wait_output("app", 2)), ["a 1", "b 2"]);
}

#[test]
fn a_module_file_is_replaced_together_with_its_digest() {
    let mut node = Node::new();
    let first = fs::read(fixture_module("fixture-logs").0).unwrap();
    let second = variant(&first, b'2');
    // A relative path starts at the manifest's folder.
    let file = node.path("manifests/plugin.wasm");
    let spec = |node: &Node, digest: &str| {
        let module = format!("file: {{path: plugin.wasm, sha256: {digest}}}");
        node.spec_of("app", &module, "{}")
    };
    fs::write(&file, &first).unwrap();
    node.manifest("app", &spec(&node, &sha256(&first)));
    node.start();
    node.wait_running("app");
    node.append("a.log", lines(0..10));
    node.wait_output("app", 10);

    // Only the file: it is not what the manifest says, so the earlier revision goes on.
    replace_file(&file, &second);
    let report = node.wait_plugin("app", "refused", |report| {
        reason(report, "UpToDate") == "Refused"
    });
    let refusal = message(&report, "UpToDate");
    let (expected, found) = (sha256(&first), sha256(&second));
    for part in [
        "manifests/app.yaml",
        "module.file.sha256",
        &format!("expected SHA-256 {expected}"),
        &format!("found {found}"),
        "correct the digest or put the right module in place",
    ] {
        assert!(refusal.contains(part), "{part} is missing: {refusal}");
    }
    assert_eq!(report["phase"], "Running");
    assert_eq!(report["active"]["digest"], expected);
    node.append("a.log", lines(10..20));
    node.wait_output("app", 20);

    replace_file(&file, &first);
    let report = node.wait_plugin("app", "current again", is_current);
    assert_eq!(report["updates"], 0);

    // The file is there before the manifest that belongs to it.
    replace_file(&file, &second);
    node.manifest("app", &spec(&node, &found));
    let report = node.wait_plugin("app", "updated", |report| {
        report["updates"] == 1 && is_current(report)
    });
    assert_eq!(report["active"]["digest"], found);

    // The manifest is there before its file.
    let third = variant(&first, b'3');
    node.manifest("app", &spec(&node, &sha256(&third)));
    node.wait_plugin("app", "refused", |report| {
        reason(report, "UpToDate") == "Refused"
    });
    replace_file(&file, &third);
    let report = node.wait_plugin("app", "updated", |report| {
        report["updates"] == 2 && is_current(report)
    });
    assert_eq!(report["active"]["digest"], sha256(&third));

    // Without its file, the compiled revision goes on; the file's return changes nothing.
    fs::remove_file(&file).unwrap();
    let report = node.wait_plugin("app", "refused", |report| {
        reason(report, "UpToDate") == "Refused"
    });
    let refusal = message(&report, "UpToDate");
    assert!(
        refusal.contains("module.file.path") && refusal.contains("plugin.wasm"),
        "{refusal}"
    );
    fs::write(&file, &third).unwrap();
    let report = node.wait_plugin("app", "current again", is_current);
    assert_eq!(report["updates"], 2);
    node.append("a.log", lines(20..30));
    let output = node.wait_output("app", 30);
    let expected: Vec<String> = lines(0..30).collect();
    assert_eq!(messages(&output), expected);
    node.remove_manifest("app");
    wait_for("unloading", || node.plugin("app").is_none().then_some(()));
    assert_eq!(node.wait_output("app", 30).len(), 30);
}

#[test]
fn the_same_content_written_again_is_no_update() {
    let mut node = Node::new();
    let bytes = fs::read(fixture_module("fixture-logs").0).unwrap();
    let file = node.path("manifests/plugin.wasm");
    fs::write(&file, &bytes).unwrap();
    let module = format!("file: {{path: plugin.wasm, sha256: {}}}", sha256(&bytes));
    let spec = node.spec_of("app", &module, "{}");
    node.manifest("app", &spec);
    node.start();
    node.wait_running("app");
    node.append("a.log", lines(0..10));
    let figures = |report: &Value| {
        ["updates", "restarts", "calls", "active", "candidate"].map(|name| report[name].clone())
    };
    let before = figures(&node.wait_plugin("app", "ten lines", |report| {
        report["logs"]["lines"]["acknowledged"] == 10
    }));
    let manifest = node.path("manifests/app.yaml");
    let touch = |path: &Path| {
        let file = fs::File::options().append(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::now()).unwrap();
    };
    let text = config_map("app", &spec);
    let commented = text.replace("kind: Plugin\n", "kind: Plugin\n    # the same\n\n");
    assert_ne!(text, commented);
    let disturbances: [&dyn Fn(); 8] = [
        &|| node.manifest("app", &spec),
        &|| fs::write(&manifest, &text).unwrap(),
        &|| touch(&manifest),
        &|| node.raw_manifest("app.yaml", &commented),
        &|| replace_file(&file, &bytes),
        &|| fs::write(&file, &bytes).unwrap(),
        &|| touch(&file),
        &|| node.signal(rustix::process::Signal::HUP),
    ];
    for (number, disturb) in disturbances.into_iter().enumerate() {
        disturb();
        // What is declared at the same time or later is at work: the disturbance has been seen.
        let fence = format!("fence-{number}");
        node.manifest(&fence, &node.spec(&fence, "fixture-logs", "{}"));
        node.wait_running(&fence);
        let report = node.plugin("app").unwrap();
        assert_eq!(figures(&report), before, "after disturbance {number}");
        assert!(is_current(&report));
        node.remove_manifest(&fence);
    }
    // Not blind either: a change of meaning is an update.
    node.manifest("app", &spec.replace("{}", "{version: two}"));
    node.wait_plugin("app", "updated", |report| report["updates"] == 1);
}

#[test]
fn sighup_reads_what_no_watch_has_seen() {
    let mut node = Node::new();
    node.manifest("app", &node.spec("app", "fixture-logs", "{}"));
    let link = node.path("elsewhere");
    fs::hard_link(node.path("manifests/app.yaml"), &link).unwrap();
    node.start();
    node.wait_running("app");
    // Written through a name in another folder, which a watch of the manifests' folder does not see.
    let changed = config_map("app", &node.spec("app", "fixture-logs", "{version: two}"));
    fs::write(&link, changed).unwrap();
    node.signal(rustix::process::Signal::HUP);
    let begin = Instant::now();
    node.wait_plugin("app", "updated", |report| report["updates"] == 1);
    // Everything is looked at every thirty seconds anyhow; this was not that.
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert!(node.daemon_log().contains("SIGHUP"));
}

#[test]
fn one_file_may_declare_several_plugins() {
    let mut node = Node::new();
    let map = |node: &Node, name: &str, config: &str| {
        config_map(name, &node.spec(name, "fixture-logs", config))
    };
    let other = "apiVersion: v1\nkind: Service\nmetadata: {name: not-ours}\n";
    let all = |node: &Node, a: &str, b: &str| {
        format!(
            "{}---\n{other}---\n{}",
            map(node, "a", a),
            map(node, "b", b)
        )
    };
    node.raw_manifest("all.yaml", &all(&node, "{}", "{}"));
    node.start();
    node.wait_running("a");
    node.wait_running("b");
    node.raw_manifest("all.yaml", &all(&node, "{version: two}", "{vresion: two}"));
    node.wait_plugin("a", "updated", |report| report["updates"] == 1);
    let report = node.wait_plugin("b", "refused", |report| {
        reason(report, "UpToDate") == "Refused"
    });
    assert_eq!(report["phase"], "Running");
    node.raw_manifest("all.yaml", &map(&node, "a", "{version: two}"));
    wait_for("unloading", || node.plugin("b").is_none().then_some(()));
    assert_eq!(node.plugin("a").unwrap()["updates"], 1);
}
