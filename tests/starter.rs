//! `bulkhead run` by somebody who gives it nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use support::{Node, wait_for};

#[test]
fn the_bundled_plugins_look_at_this_machine() {
    let mut node = Node::new();
    node.source.clear();
    let home = PathBuf::from(std::env::var_os("HOME").unwrap());
    let home = tempfile::tempdir_in(home).unwrap();
    let home = home.path();
    let ran = |node: &mut Node| {
        node.start_with(&[], &[("XDG_STATE_HOME", home.to_str().unwrap())]);
        for name in ["logs", "metrics", "hardening", "security"] {
            node.wait_running(name);
        }
    };
    ran(&mut node);
    let folder = home.join("bulkhead");
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o077, 0);
    let said = node.daemon_log();
    for part in [
        "change nothing",
        "/metrics/plugins",
        "bulkhead status --watch",
        folder.join("manifests").to_str().unwrap(),
    ] {
        assert!(said.contains(part), "{said}");
    }
    let series = wait_for("series", || node.get("/metrics/plugins")).1;
    assert!(series.contains("node_load1"), "{series}");
    let rules = node.wait_plugin("hardening", "rules", |report| {
        report["enforcement"]["rules"]["pass"].as_u64() > Some(0)
    });
    assert_eq!(rules["enforcement"]["mode"], "audit", "{rules:#}");

    // Nor if its manifest says so.
    let hardening = folder.join("manifests/hardening.yaml");
    let text = fs::read_to_string(&hardening).unwrap();
    // A file of this test's own, which would be made; nothing but the daemon's options keeps it from that.
    let made = node.path("made");
    let text = text.replace("mode: audit", "mode: enforce");
    let text = text.replace("sysctls:", &format!("files: [{made:?}]\n        sysctls:"));
    let resource = format!("resources: [{{id: a, file: {{path: {made:?}, content: x}}}}]");
    let text = text.replace("profiles:", &format!("{resource}\n      profiles:"));
    fs::write(&hardening, text).unwrap();
    let enforcing = node.wait_plugin("hardening", "a change that is not made", |report| {
        let report = &report["enforcement"];
        let outstanding = report["outstanding"].to_string();
        report["mode"] == "enforce" && outstanding.contains(made.to_str().unwrap())
    });
    let enforcing = &enforcing["enforcement"];
    assert!(enforcing["onlyReporting"].is_string(), "{enforcing:#}");
    assert_eq!(enforcing["made"], 0, "{enforcing:#}");
    assert!(!made.exists());

    // What its user has changed stays, and is what runs; what he has deleted is there again.
    let logs = folder.join("manifests/logs.yaml");
    let text = fs::read_to_string(&logs).unwrap();
    fs::write(&logs, text.replace("parse: auto", "parse: json")).unwrap();
    fs::remove_file(folder.join("manifests/metrics.yaml")).unwrap();
    wait_for("it to be gone", || {
        node.plugin("metrics").is_none().then_some(())
    });
    assert!(node.stop().success());
    ran(&mut node);
    let text = fs::read_to_string(&logs).unwrap();
    assert!(text.contains("parse: json"), "{text}");
}
