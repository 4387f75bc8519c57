//! Every message of docs/troubleshooting.md, produced by the real binary and compared word by word. With
//! `BULKHEAD_WRITE_BOOK=1` the page's blocks are written instead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use support::book::{Page, assert_text};
use support::{Node, fixture_file, fixture_module, sha256};

const PAGE: &str = "docs/troubleshooting.md";

/// A fixture's bytes with a text in the place of another of the same length, wherever that is.
fn patched(fixture: &str, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(fixture_module(fixture).0).unwrap();
    let mut places = 0;
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from.as_bytes()) {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            places += 1;
        }
    }
    assert_ne!(places, 0, "{from} is not in {fixture}");
    bytes
}

/// A module of these bytes, as a manifest names it.
fn module(node: &Node, bytes: &[u8]) -> String {
    fs::write(node.path("plugin.wasm"), bytes).unwrap();
    format!("file: {{path: ../plugin.wasm, sha256: {}}}", sha256(bytes))
}

/// What is the same on every machine.
fn general(node: &Node, text: &str) -> String {
    let folder = node.folder.path().to_str().unwrap();
    let mut text = text.replace(&format!("{folder}/"), "");
    for fixture in ["fixture-logs", "fixture-minimal", "fixture-grants"] {
        text = text.replace(&fixture_module(fixture).1, "SHA256");
    }
    if let Ok(bytes) = fs::read(node.path("plugin.wasm")) {
        text = text.replace(&sha256(&bytes), "SHA256");
    }
    text
}

/// What `bulkhead check` says of a spec.
fn check(node: &Node, spec: &str) -> String {
    node.manifest("app", spec);
    let output = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .args(["check", "manifests/app.yaml"])
        .current_dir(node.folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{spec}");
    general(node, &String::from_utf8(output.stdout).unwrap())
}

/// All that is refused before it runs, by the heading of its section.
fn refusals() -> BTreeMap<&'static str, String> {
    let node = Node::new();
    let good = |module: &str| node.spec_of("app", module, "{}");
    let mut told = BTreeMap::new();
    let mut refused = |heading, bytes: &[u8]| {
        told.insert(heading, check(&node, &good(&module(&node, bytes))));
    };
    refused("A core module", b"\0asm\x01\0\0\0");
    refused("Not WebAssembly", b"#!/bin/sh\n");
    let ours = "bulkhead:plugin/";
    let other = "bulkhead:plugon/";
    refused("The wrong world", &patched("fixture-logs", ours, other));
    let logs = "bulkhead:plugin/logs@0.1.1";
    refused(
        "No role",
        &patched("fixture-logs", logs, "bulkhead:plugon/logs@0.1.1"),
    );
    refused(
        "An unknown role",
        &patched("fixture-logs", logs, "bulkhead:plugin/lugs@0.1.1"),
    );
    refused(
        "Another version of the contract",
        &patched("fixture-logs", logs, "bulkhead:plugin/logs@0.9.0"),
    );
    refused(
        "An import that the daemon does not have",
        &patched(
            "fixture-logs",
            "bulkhead:plugin/log@0.1.1",
            "bulkhead:plugin/fog@0.1.1",
        ),
    );
    refused(
        "A missing export",
        &patched("fixture-minimal", "process", "precoss"),
    );

    let mut wrong = |heading, spec: String| {
        told.insert(heading, check(&node, &spec));
    };
    wrong(
        "An import that is not granted",
        good(&fixture_file("fixture-grants")),
    );
    let (path, _) = fixture_module("fixture-logs");
    wrong(
        "The wrong digest",
        good(&format!(
            "file: {{path: {path:?}, sha256: {}}}",
            "0".repeat(64)
        )),
    );
    wrong(
        "A module that is not there",
        good(&format!(
            "file: {{path: plugin.wasm, sha256: {}}}",
            "0".repeat(64)
        )),
    );
    wrong(
        "Configuration against the schema",
        node.spec("app", "fixture-minimal", "{contian: error, limit: 3}"),
    );
    wrong(
        "Configuration that the plugin refuses",
        node.spec_of(
            "app",
            "bundled: log-shipper",
            "{redact: [{pattern: \"[0-9\"}]}",
        ),
    );
    wrong(
        "A field that is not known",
        good(&fixture_file("fixture-logs")).replace("startAt", "startsAt"),
    );
    wrong(
        "More than the node allows",
        good(&fixture_file("fixture-logs")).replace("update:", "limits: {memory: 1Gi}\nupdate:"),
    );
    told
}

/// What `bulkhead status` says of a failure: its line, and the plugin's own frames.
fn last_failure(node: &Node, name: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .args(["status", name, "--status", &node.status_address()])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text
        .lines()
        .skip_while(|line| !line.starts_with("Last failure"));
    let first = lines.next().unwrap_or_else(|| panic!("no failure: {text}"));
    let (_, said) = first.split_once("Z ").unwrap();
    let mut page = format!("Last failure  TIME {said}\n");
    let mut left_out = false;
    for frame in lines.take_while(|line| line.starts_with(' ')) {
        // How deep the standard library is differs from one of its versions to the next.
        let own = frame.contains("fixture_logs::") && !frame.contains("::Component");
        if own {
            page += frame;
            page += "\n";
            left_out = false;
        } else if !std::mem::replace(&mut left_out, true) {
            page += "                ...\n";
        }
        if frame.contains("overflow") {
            break;
        }
    }
    general(node, &page)
}

/// All that ends an instance, by the heading of its section.
fn failures() -> BTreeMap<&'static str, String> {
    let cases = [
        ("A panic", "panic", "memory: 64Mi"),
        ("A stack overflow", "overflowStack", "memory: 64Mi"),
        ("Out of memory", "allocate", "memory: 32Mi"),
        ("The deadline has passed", "loop", "deadline: 300ms"),
        (
            "Too much output",
            "hugeOutput",
            "memory: 256Mi, output: 1Mi",
        ),
        ("A broken promise", "unknownDestination", "memory: 64Mi"),
        ("An error that the plugin returns", "error", "memory: 64Mi"),
        ("An exit", "exit", "memory: 64Mi"),
    ];
    let mut node = Node::new();
    let name = |act: &str| act.to_ascii_lowercase();
    for (_, act, limits) in cases {
        let config = format!("{{faults: [{{do: {act}}}]}}");
        let spec = node.spec(&name(act), "fixture-logs", &config);
        let spec = spec.replace("update:", &format!("limits: {{{limits}}}\nupdate:"));
        node.manifest(&name(act), &spec);
    }
    node.manifest("network", &node.spec("network", "fixture-network", "null"));
    node.append("a.log", ["x".to_owned()]);
    node.start();
    let mut told = BTreeMap::new();
    let mut failed = |heading, name: &str| {
        node.wait_plugin(name, heading, |report| report["lastFailure"].is_object());
        told.insert(heading, last_failure(&node, name));
    };
    for (heading, act, _) in cases {
        failed(heading, &name(act));
    }
    failed("A call that no plugin may make", "network");
    told
}

#[test]
fn every_message_is_what_the_page_says() {
    let mut told = refusals();
    told.append(&mut failures());
    let page = Page::read(PAGE);
    let blocks = page.blocks();
    let mut expected = page.text.clone();
    for block in blocks.iter().filter(|block| block.language() == "text") {
        let heading = block.heading.as_str();
        let message = told
            .remove(heading)
            .unwrap_or_else(|| panic!("{PAGE}:{}: nothing here produces `{heading}`", block.line));
        let fenced = |text: &str| format!("## {heading}\n\n```text\n{text}```\n");
        assert!(
            expected.contains(&fenced(&block.text)),
            "{PAGE}:{}: the message comes first in its section",
            block.line
        );
        expected = expected.replace(&fenced(&block.text), &fenced(&message));
    }
    assert!(told.is_empty(), "{PAGE} lacks: {told:#?}");
    assert_text(PAGE, &expected);
}
