//! The bounds of the sandbox, met by plugins that respect none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::time::Instant;

use support::{Node, condition, message, reason, wait_for};

/// A spec of `fixture-logs` that does `act` at every line, under `limits`.
fn spec(node: &Node, name: &str, act: &str, limits: &str) -> String {
    let config = format!("{{faults: [{{do: {act}}}]}}");
    node.spec(name, "fixture-logs", &config)
        .replace("update:", &format!("limits: {{{limits}}}\nupdate:"))
}

#[test]
fn each_excess_is_told_by_its_limit_while_a_good_plugin_ships_all_its_lines() {
    const LINES: u64 = 20_000;
    let bad = [
        (
            "huge-bytes",
            "hugeOutput",
            "memory: 256Mi, output: 1Mi",
            "OutputTooLarge",
            "limits.output",
        ),
        (
            "huge-table",
            "hugeTable",
            "memory: 256Mi, output: 1Mi",
            "OutputTooLarge",
            "limits.output",
        ),
        (
            "hoards",
            "allocate",
            "memory: 32Mi",
            "OutOfMemory",
            "limits.memory",
        ),
        (
            "recurses",
            "overflowStack",
            "memory: 64Mi",
            "Trap",
            "stack overflow",
        ),
        ("exits", "exit", "memory: 64Mi", "Trap", "exit"),
        (
            "sleeps",
            "sleep",
            "deadline: 300ms",
            "DeadlineExceeded",
            "limits.deadline",
        ),
        (
            "loops",
            "loop",
            "deadline: 300ms",
            "DeadlineExceeded",
            "limits.deadline",
        ),
        (
            "errs",
            "error",
            "memory: 64Mi",
            "Returned",
            "fixture error at Process",
        ),
        (
            "lies",
            "payloadTakesTooMany",
            "memory: 64Mi",
            "BrokenPromise",
            "broke the contract",
        ),
    ];
    let mut node = Node::new();
    node.manifest("good", &node.spec("good", "fixture-logs", "{}"));
    for (name, act, limits, _, _) in bad {
        node.manifest(name, &spec(&node, name, act, limits));
    }
    node.start();
    node.wait_running("good");
    for start in (0..LINES).step_by(1000) {
        node.append("a.log", (start..start + 1000).map(|n| n.to_string()));
    }
    for (name, _, _, cause, part) in bad {
        let report = node.wait_plugin(name, cause, |report| {
            report["lastFailure"]["cause"] == cause && report["restarts"].as_u64() >= Some(1)
        });
        let failure = &report["lastFailure"];
        assert_eq!(failure["call"], "logs.process");
        let told = failure["message"].as_str().unwrap();
        assert!(told.contains(part), "{name}: {told}");
        assert_eq!(report["logs"]["lines"]["acknowledged"], 0, "{name}");
    }
    let shipped: Vec<u64> = node
        .wait_output("good", 20_000)
        .iter()
        .map(|line| line["message"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(shipped, (0..LINES).collect::<Vec<_>>());
    node.assert_accounted("good", LINES);
    assert_eq!(node.plugin("good").unwrap()["restarts"], 0);
}

#[test]
fn a_module_that_needs_more_memory_than_it_may_have_to_begin_with() {
    let mut node = Node::new();
    let small = spec(&node, "app", "panic", "memory: 64Ki");
    node.manifest("app", &small);
    node.start();
    let report = node.wait_plugin("app", "out of memory", |report| {
        report["lastFailure"]["cause"] == "OutOfMemory"
    });
    assert_eq!(report["phase"], "Degraded");
    assert!(message(&report, "Ready").contains("limits.memory"));
    node.manifest("app", &small.replace("64Ki", "64Mi"));
    node.wait_running("app");
}

#[test]
fn a_small_share_of_a_core_is_not_exceeded() {
    let mut node = Node::new();
    for (name, cpu) in [("whole", "1"), ("tenth", "100m")] {
        let limits = format!("deadline: 60s, cpu: \"{cpu}\"");
        node.manifest(name, &spec(&node, name, "loop", &limits));
    }
    node.append("a.log", ["x".to_owned()]);
    let begin = Instant::now();
    node.start();
    let cpu = |name: &str| Some(node.plugin(name)?["cpuSeconds"].as_f64().unwrap());
    wait_for("CPU time", || (cpu("whole")? > 1.5).then_some(()));
    let used = cpu("tenth").unwrap();
    let elapsed = begin.elapsed().as_secs_f64();
    // Its share of the time, what it may save up, and what it may overdraw.
    let most = 0.1 * elapsed + 0.1 + 0.2;
    assert!(used > 0.1 && used < most, "{used} of {most} in {elapsed} s");
}

#[test]
fn a_plugin_that_talks_too_much_loses_its_own_words() {
    let mut node = Node::new();
    for (name, act) in [("logger", "spamLog"), ("printer", "spamStderr")] {
        node.manifest(name, &spec(&node, name, act, "deadline: 60s"));
    }
    node.start();
    node.append("a.log", ["x".to_owned()]);
    for name in ["logger", "printer"] {
        node.wait_output(name, 1);
        let journal = node.journal(name);
        assert!(journal["dropped"].as_u64() > Some(1000), "{name}");
        let entries = journal["items"].as_array().unwrap();
        assert!(
            (1..=256).contains(&entries.len()),
            "{name}: {}",
            entries.len()
        );
        for entry in entries {
            assert!(entry["message"].as_str().unwrap().len() <= 4100);
        }
        assert_eq!(node.plugin(name).unwrap()["phase"], "Running");
    }
    // The daemon's own log is not flooded either: 26 MB were said.
    assert!(node.daemon_log().len() < 3 << 20);
    assert_eq!(node.get("/healthz").unwrap().0, 200);
}

#[test]
fn restarts_come_at_growing_intervals_and_say_when() {
    let mut node = Node::new();
    node.manifest("app", &spec(&node, "app", "panic", "memory: 64Mi"));
    node.start();
    node.wait_running("app");
    node.append("a.log", ["x".to_owned()]);
    let time = |value: &str| value.parse::<jiff::Timestamp>().unwrap();
    let mut waits = BTreeMap::new();
    // Each wait is twice the one before, give or take a fifth.
    wait_for("waits that are told", || {
        let report = node.plugin("app")?;
        let (before, next) = message(&report, "Ready").split_once("; next try at ")?;
        assert!(before.contains("fixture panic at Process"), "{before}");
        assert_eq!(reason(&report, "Ready"), "Crashing");
        assert_eq!(condition(&report, "Ready")["status"], "False");
        assert_eq!(report["phase"], "Degraded");
        let failed = time(report["lastFailureTime"].as_str().unwrap());
        let wait = time(next).duration_since(failed);
        waits.insert(report["restarts"].as_u64().unwrap(), wait);
        (waits.len() == 4).then_some(())
    });
    let waits: Vec<_> = waits.into_values().collect();
    assert!(waits.is_sorted_by(|a, b| a < b), "{waits:?}");
}
