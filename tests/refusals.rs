//! What is refused: one message that names file, field and remedy, and the earlier revision goes on.
//! `daemon.rs` has the refusals that need no unusual manifest or module.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use support::{Node, config_map, fixture_module, message, reason, sha256, wait_for};

/// A node with a plugin `app` at work, and what its manifest says.
struct Working {
    node: Node,
    good: String,
    line: u64,
}

impl Working {
    fn new() -> Self {
        let mut node = Node::new();
        let good = node.spec("app", "fixture-logs", "{version: one}");
        node.manifest("app", &good);
        node.start();
        node.wait_running("app");
        Self {
            node,
            good,
            line: 0,
        }
    }

    /// `text` in `app.yaml` is refused with a message that has all `parts`, and lines go on.
    fn refuses(&mut self, text: &str, parts: &[&str]) {
        self.node.raw_manifest("app.yaml", text);
        let report = self
            .node
            .wait_plugin("app", &format!("{parts:?}"), |report| {
                let message = message(report, "UpToDate");
                reason(report, "UpToDate") == "Refused"
                    && parts.iter().all(|part| message.contains(part))
            });
        let refusal = message(&report, "UpToDate");
        assert!(refusal.contains("manifests/app.yaml"), "no file: {refusal}");
        assert_eq!(refusal.matches("app.yaml").count(), 1, "not one: {refusal}");
        assert_eq!(report["phase"], "Running", "{refusal}");
        assert_eq!(report["updates"], 0, "{refusal}");
        self.line += 1;
        self.node.append("a.log", [self.line.to_string()]);
        let count = usize::try_from(self.line).unwrap();
        assert_eq!(self.node.wait_output("app", count).len(), count);
        self.node.manifest("app", &self.good);
        self.node.wait_plugin("app", "current again", |report| {
            reason(report, "UpToDate") == "Current"
        });
    }

    /// As [`Self::refuses`], with a changed spec.
    fn refuses_spec(&mut self, from: &str, to: &str, parts: &[&str]) {
        let spec = self.good.replace(from, to);
        assert_ne!(spec, self.good);
        self.refuses(&config_map("app", &spec), parts);
    }
}

#[test]
fn a_manifest_that_is_empty_or_cut_off() {
    let mut working = Working::new();
    working.refuses("", &["is empty", "write a ConfigMap into it, or delete it"]);
    working.refuses("# nothing\n---\n", &["is empty"]);
    working.refuses("kind: [", &["app.yaml:1:", "is not YAML, or was cut off"]);
    working.refuses("\u{0}", &["app.yaml:1:", "is not YAML"]);
    let whole = config_map("app", &working.good);
    // Sound YAML each, and none of it may unload the plugin.
    for (cut, parts) in [
        (
            "kind: ConfigMap\n",
            &["declared local/app before", "delete the file"][..],
        ),
        (
            "metadata:\n",
            &["declared local/app before", "delete the file"],
        ),
        (
            "labels: {bulkhead.dev/plugin: \"true\"}\n",
            &["data", "plugin.yaml"],
        ),
        ("kind: Plugin\n", &["module"]),
        ("destinations:\n", &["logs", "has no `destinations`"]),
    ] {
        let end = whole.find(cut).unwrap() + cut.len();
        working.refuses(&whole[..end], parts);
    }
    let middle = whole.find("sha256: ").unwrap() + 20;
    working.refuses(&whole[..middle], &["app.yaml:", "was cut off"]);
}

#[test]
fn a_module_in_the_manifest_that_is_broken() {
    let mut working = Working::new();
    let bytes = fs::read(fixture_module("fixture-minimal").0).unwrap();
    let digest = sha256(&bytes);
    let packed = zstd::encode_all(bytes.as_slice(), 3).unwrap();
    let node = &working.node;
    let map = |module: &str| {
        let module = format!("binaryData: {{{module}}}");
        config_map("app", &node.spec_of("app", &module, "{contains: x}"))
    };
    let data = |key: &str, base64: &str| format!("binaryData:\n  {key}: {base64}\n");
    let whole = STANDARD.encode(&packed);
    let cases = [
        (
            map("key: module.wasm"),
            vec![
                "module.binaryData.key",
                "no key \"module.wasm\"",
                "add `binaryData:`",
            ],
        ),
        (
            map("key: modul.wasm") + &data("module.wasm", &whole),
            vec![
                "module.binaryData.key",
                "no key \"modul.wasm\"",
                "module.wasm",
            ],
        ),
        (
            map("key: m.wasm.zst") + &data("m.wasm.zst", &whole[..whole.len() - 3]),
            vec![
                "binaryData[\"m.wasm.zst\"]",
                "is not base64, or was cut off",
                "base64 -w0",
            ],
        ),
        (
            map("key: m.wasm.zst") + &data("m.wasm.zst", &whole.replacen('A', "*", 1)),
            vec!["binaryData[\"m.wasm.zst\"]", "is not base64"],
        ),
        (
            map("key: m.wasm.zst")
                + &data("m.wasm.zst", &STANDARD.encode(&packed[..packed.len() / 2])),
            vec!["module.binaryData.key", "zstd frame is broken or cut off"],
        ),
        (
            map("key: m.wasm") + &data("m.wasm", &STANDARD.encode("hello")),
            vec!["module.binaryData.key", "not a WebAssembly component"],
        ),
        (
            map("key: m.wasm") + &data("m.wasm", &STANDARD.encode(&bytes[..bytes.len() / 2])),
            vec!["module: ", "does not compile"],
        ),
        (
            map(&format!("key: m.wasm, sha256: {}", "0".repeat(64)))
                + &data("m.wasm", &STANDARD.encode(&bytes)),
            vec!["module.binaryData.sha256", "expected SHA-256 000", &digest],
        ),
    ];
    let cases: Vec<(String, Vec<String>)> = cases
        .into_iter()
        .map(|(text, parts)| (text, parts.into_iter().map(str::to_owned).collect()))
        .collect();
    for (text, parts) in &cases {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        working.refuses(text, &parts);
    }
}

#[test]
fn a_component_with_an_unknown_role() {
    let mut working = Working::new();
    let mut bytes = fs::read(fixture_module("fixture-logs").0).unwrap();
    let (known, unknown) = (b"bulkhead:plugin/logs@", b"bulkhead:plugin/frob@");
    let mut at = 0;
    while let Some(found) = bytes[at..]
        .windows(known.len())
        .position(|part| part == known)
    {
        at += found;
        bytes[at..at + unknown.len()].copy_from_slice(unknown);
    }
    assert_ne!(at, 0);
    let path = working.node.path("frob.wasm");
    fs::write(&path, &bytes).unwrap();
    let module = format!("file: {{path: {path:?}, sha256: {}}}", sha256(&bytes));
    let text = config_map("app", &working.node.spec_of("app", &module, "{}"));
    let parts = [
        "module: ",
        "unknown role \"frob\"",
        "update the daemon",
        "logs",
    ];
    working.refuses(&text, &parts);
}

#[test]
fn more_than_the_node_allows() {
    let mut working = Working::new();
    for (asked, parts) in [
        (
            "limits: {memory: 1Gi}",
            ["limits.memory", "1Gi is above", "memory: 512Mi"],
        ),
        (
            "limits: {deadline: 2m}",
            ["limits.deadline", "2m is above", "deadline: 1m"],
        ),
        (
            "limits: {cpu: \"2\"}",
            ["limits.cpu", "2000m is above", "cpu: 1000m"],
        ),
        (
            "limits: {output: 65Mi}",
            ["limits.output", "65Mi is above", "output: 64Mi"],
        ),
        (
            "grants: {state: {quota: 1Gi}}",
            ["grants.state.quota", "1Gi is above", "quota: 64Mi"],
        ),
    ] {
        working.refuses_spec("update:", &format!("{asked}\nupdate:"), &parts);
    }
}

#[test]
fn folders_that_no_plugin_may_see() {
    let mut working = Working::new();
    let own = working.node.path("state");
    let inside = own.join("cache");
    let above = working.node.folder.path().to_owned();
    let link = |name: &str, target: &std::path::Path| {
        let path = working.node.path(name);
        symlink(target, &path).unwrap();
        path.display().to_string()
    };
    let to_root = link("to-root", "/".as_ref());
    let to_proc = link("to-proc", "/proc/1".as_ref());
    let to_own = link("to-own", &own);
    let missing = working.node.path("missing").display().to_string();
    let field = "grants.files[0].host";
    for (host, parts) in [
        ("/", [field, "whole node", "grant the folders"]),
        ("/proc", [field, "is in /proc", "nodeFacts"]),
        ("/proc/1/root", [field, "is in /proc", "nodeFacts"]),
        ("/sys/kernel", [field, "is in /sys", "nodeFacts"]),
        ("/srv/../proc", [field, "`..`", "without `..`"]),
        (
            &own.display().to_string(),
            [field, "own state", "beside it"],
        ),
        (
            &inside.display().to_string(),
            [field, "own state", "beside it"],
        ),
        (
            &above.display().to_string(),
            [field, "own state", "beside it"],
        ),
        // What a path says is not where it leads.
        (
            &to_root,
            [field, "leads to /, the whole node", "grant the folders"],
        ),
        (
            &to_proc,
            [field, "a file system of the kernel's", "grant the folders"],
        ),
        (&to_own, [field, "own state", "grant the folders"]),
        (&missing, [field, "cannot open", "create the folder"]),
    ] {
        let grants = format!("grants: {{files: [{{host: {host:?}, guest: /x}}]}}\nupdate:");
        working.refuses_spec("update:", &grants, &parts);
    }
}

/// The message follows what is in the file now, also back to something that was refused before.
#[test]
fn a_refusal_is_told_again_when_its_manifest_comes_back() {
    let mut working = Working::new();
    let wrong = working.good.replace("version: one", "vresion: one");
    let node = &mut working.node;
    let refused_for = |node: &Node, what: &str| -> Value {
        node.wait_plugin("app", what, |report| {
            message(report, "UpToDate").contains(what)
        })
    };
    node.manifest("app", &wrong);
    refused_for(node, "vresion");
    node.raw_manifest("app.yaml", "kind: [");
    refused_for(node, "is not YAML");
    node.manifest("app", &wrong);
    let report = refused_for(node, "vresion");
    assert_eq!(reason(&report, "UpToDate"), "Refused");
    assert_eq!(report["phase"], "Running");
}

#[test]
fn without_an_earlier_revision_the_plugin_is_refused_and_the_daemon_ready() {
    let mut node = Node::new();
    let spec = node.spec("app", "fixture-logs", "{vresion: one}");
    node.manifest("app", &spec);
    // Nobody knows whose these are.
    node.raw_manifest("empty.yaml", "");
    let unlabelled = config_map("other", &spec).replace("bulkhead.dev/plugin: \"true\"", "a: b");
    node.raw_manifest("unlabelled.yaml", &unlabelled);
    node.start();
    let report = node.wait_plugin("app", "refused", |report| report["phase"] == "Refused");
    assert_eq!(reason(&report, "Ready"), "Refused");
    assert!(message(&report, "Ready").contains("vresion"));
    assert!(report.get("active").is_none());
    wait_for("ready", || (node.get("/readyz")?.0 == 200).then_some(()));
    let status: Value = serde_json::from_str(&node.get("/v1/node").unwrap().1).unwrap();
    let problems = status["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 2, "{status}");
    for (file, part) in [
        ("empty.yaml", "is empty"),
        ("unlabelled.yaml", "bulkhead.dev/plugin"),
    ] {
        let told = |problem: &Value| {
            let problem = problem.as_str().unwrap();
            problem.contains(file) && problem.contains(part)
        };
        assert!(problems.iter().any(told), "{file}: {status}");
    }
    // Corrected, it comes to work, and so does the plugin that was not labelled.
    node.manifest("app", &spec.replace("vresion", "version"));
    node.raw_manifest(
        "unlabelled.yaml",
        &config_map("other", &spec.replace("vresion", "version")),
    );
    node.wait_running("app");
    node.wait_running("other");
}
