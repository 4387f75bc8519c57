//! Plugins in Python and JavaScript through the real binary. `languages/build.sh` makes the components by the
//! commands of `docs/python.md` and `docs/javascript.md`, which takes a minute each and is kept in the user's cache.
//!
//! Their toolchains come from PyPI and npm. A machine that cannot reach these fails, unless
//! `BULKHEAD_WITHOUT_LANGUAGES=1` says that this is known; then the tests are reported as ignored, never as passed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, ExitCode};
use std::time::Instant;

use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use support::book::Page;
use support::{Node, message, reason, sha256};

const WITHOUT: &str = "BULKHEAD_WITHOUT_LANGUAGES";

/// Not libtest's: that one cannot say of a test, when it runs, that it does not count.
fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let without = std::env::var_os(WITHOUT).is_some_and(|value| value == "1");
    if without && !arguments.list {
        eprintln!("NOT RUN: plugins in other languages, because {WITHOUT}=1 is set");
    }
    let trial = |name, test: fn()| {
        let trial = Trial::test(name, move || {
            test();
            Ok(())
        });
        trial.with_ignored_flag(without)
    };
    let trials = vec![
        trial("javascript", javascript),
        trial(
            "python_and_a_line_that_it_cannot_stand",
            python_and_a_line_that_it_cannot_stand,
        ),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A module as a manifest names it.
fn build(language: &str) -> String {
    let page = match language {
        "python" => "docs/python.md",
        _ => "docs/javascript.md",
    };
    assert!(!Page::read(page).commands(Some("languages")).is_empty());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/languages/build.sh");
    let built = Command::new(script).arg(language).output().unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    let path = String::from_utf8(built.stdout).unwrap();
    let digest = sha256(&fs::read(path.trim()).unwrap());
    format!("file: {{path: {:?}, sha256: {digest}}}", path.trim())
}

/// Runs until the plugin's first revision works; a compiler of the development profile takes its time.
fn wait_running(node: &Node) -> Value {
    let begin = Instant::now();
    loop {
        let report = node.plugin("app").unwrap_or_default();
        if report["phase"] == "Running" {
            return report;
        }
        let waited = begin.elapsed().as_secs();
        assert!(waited < 240, "{report:#}\n{}", node.daemon_log());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// What every one of them does: the same in each language.
fn works(language: &str) -> (Node, String) {
    let module = build(language);
    let mut node = Node::new();
    let spec = node.spec_of(
        "app",
        &module,
        "{drop: [debug], add: {team: shop, tier: 1}}",
    );
    node.manifest("app", &spec);
    node.append(
        "a.log",
        [
            r#"{"level":"debug","message":"one"}"#.to_owned(),
            r#"{"level":"info","message":"two"}"#.to_owned(),
            "plain äöü".to_owned(),
        ],
    );
    node.start();
    let report = wait_running(&node);
    assert_eq!(report["active"]["name"], format!("levels-{language}"));
    let lines = node.wait_output("app", 2);
    assert_eq!(lines[0]["message"], r#"{"level":"info","message":"two"}"#);
    assert_eq!(lines[1]["message"], "plain äöü");
    for line in &lines {
        assert_eq!((&line["team"], &line["tier"]), (&"shop".into(), &1.into()));
    }
    let accounts = node.assert_accounted("app", 3);
    assert_eq!((accounts.acknowledged, accounts.filtered), (2, 1));
    let journal = node.journal("app");
    let entry = &journal["items"][0];
    assert_eq!(entry["message"], "drops 1 levels", "{journal:#}");
    assert!(entry.to_string().contains(language), "{journal:#}");

    // What the plugin refuses is told with its field, and the revision before goes on.
    node.manifest("app", &spec.replace("[debug]", "[\"\"]"));
    let report = node.wait_plugin("app", "refused", |report| {
        reason(report, "UpToDate") == "Refused"
    });
    let told = message(&report, "UpToDate");
    assert!(
        told.contains("config.drop: a level has no empty name"),
        "{told}"
    );
    // So is what its schema refuses.
    node.manifest("app", &spec.replace("drop:", "dorp:"));
    node.wait_plugin("app", "refused by the schema", |report| {
        message(report, "UpToDate").contains("dorp")
    });
    node.manifest("app", &spec.replace("[debug]", "[info]"));
    node.wait_plugin("app", "updated", |report| report["updates"] == 1);
    node.append(
        "a.log",
        [r#"{"level":"info"}"#.to_owned(), "last".to_owned()],
    );
    assert_eq!(node.wait_output("app", 3)[2]["message"], "last");
    (node, spec)
}

fn javascript() {
    let (mut node, _) = works("javascript");
    let node_state = node.state.clone();
    // Its runtime imports HTTP, which it does not call. Compiled code is there at the next start, and not made anew.
    let compiled = || {
        let entries = fs::read_dir(node_state.join("cache")).unwrap();
        let files = entries.map(|entry| entry.unwrap().metadata().unwrap().ino());
        files.collect::<std::collections::BTreeSet<_>>()
    };
    let before = compiled();
    assert!(!before.is_empty());
    assert!(node.stop().success());
    node.start();
    node.wait_running("app");
    assert_eq!(compiled(), before);
    assert_eq!(node.plugin("app").unwrap()["restarts"], 0);
}

/// CPython's parser recurses, and its stack ends before its own bound: the line is set aside, not the plugin.
fn python_and_a_line_that_it_cannot_stand() {
    let (node, _) = works("python");
    node.append("a.log", ["[".repeat(100_000), "after".to_owned()]);
    assert_eq!(node.wait_output("app", 4)[3]["message"], "after");
    let report = node.wait_plugin("app", "a dead letter", |report| {
        report["logs"]["lines"]["deadLettered"] == 1
    });
    let failure = &report["lastFailure"];
    let told = failure["message"].as_str().unwrap();
    assert!(told.contains("call stack exhausted"), "{told}");
    let frames = failure["backtrace"].to_string();
    assert!(frames.contains("_parse_array_unicode"), "{frames}");
}
