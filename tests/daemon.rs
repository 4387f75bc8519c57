//! The real binary, end to end: load, update, roll back, refuse, survive hostile plugins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;
use std::time::Duration;

use serde_json::Value;
use support::{Node, RESTS, condition, config_map, fixture_module, reason, wait_for};

fn numbers(output: &[Value]) -> Vec<u64> {
    output
        .iter()
        .map(|line| line["message"].as_str().unwrap().parse().unwrap())
        .collect()
}

fn lines(range: std::ops::Range<u64>) -> impl Iterator<Item = String> {
    range.map(|n| n.to_string())
}

#[test]
fn a_plugin_is_loaded_updated_and_unloaded_while_the_daemon_runs() {
    let mut node = Node::new();
    node.start();
    node.manifest("app", &node.spec("app", "fixture-logs", "{version: one}"));
    node.wait_running("app");
    node.append("a.log", lines(0..100));
    wait_for("the lines", || {
        (node.output("app").len() == 100).then_some(())
    });
    node.manifest("app", &node.spec("app", "fixture-logs", "{version: two}"));
    node.wait_plugin("app", "updated", |report| report["updates"] == 1);
    node.append("a.log", lines(100..200));
    wait_for("the lines", || {
        (node.output("app").len() == 200).then_some(())
    });
    let output = node.output("app");
    assert_eq!(numbers(&output), (0..200).collect::<Vec<_>>());
    assert!(output[..100].iter().all(|line| line["version"] == "one"));
    assert!(output[100..].iter().all(|line| line["version"] == "two"));
    node.assert_accounted("app", 200);
    node.remove_manifest("app");
    wait_for("unloading", || node.plugin("app").is_none().then_some(()));
    node.append("a.log", lines(200..210));
    // Deleted and created again: it goes on where it was.
    node.manifest("app", &node.spec("app", "fixture-logs", "{version: three}"));
    wait_for("the rest", || {
        (node.output("app").len() == 210).then_some(())
    });
    assert_eq!(numbers(&node.output("app")), (0..210).collect::<Vec<_>>());
    node.assert_accounted("app", 10);
    assert!(node.stop().success());
}

#[test]
fn a_hundred_updates_under_load_lose_double_and_reorder_nothing() {
    let mut node = Node::new();
    // Long enough for a batch to come to every candidate, however slow the machine.
    let spec = |node: &Node, config: &str| {
        let spec = node.spec("app", "fixture-logs", config);
        spec.replace("probation: 200ms", "probation: 30s")
    };
    node.manifest("app", &spec(&node, "{version: \"0\"}"));
    node.start();
    node.wait_running("app");
    let log = node.path("logs/a.log");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            use std::io::Write;
            let mut file = fs::File::options()
                .append(true)
                .create(true)
                .open(&log)
                .unwrap();
            let mut n = 0u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let text: String = lines(n..n + 50).map(|line| line + "\n").collect();
                file.write_all(text.as_bytes()).unwrap();
                n += 50;
                std::thread::sleep(Duration::from_millis(2));
            }
            n
        });
        let mut good = 0;
        let mut rollbacks = 0;
        for update in 1..=100u64 {
            if update % 10 == 0 {
                node.manifest(
                    "app",
                    &spec(
                        &node,
                        &format!("{{version: \"{update}\", faults: [{{do: panic}}]}}"),
                    ),
                );
                rollbacks += 1;
                node.wait_plugin("app", "rolled back", |report| {
                    report["rollbacks"] == rollbacks
                });
            } else {
                node.manifest("app", &spec(&node, &format!("{{version: \"{update}\"}}")));
                good += 1;
                node.wait_plugin("app", "updated", |report| {
                    report["updates"] == good + rollbacks
                });
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        writer.join().unwrap()
    });
    wait_for("all lines", || {
        (node.output("app").len() as u64 >= written).then_some(())
    });
    assert_eq!(
        numbers(&node.output("app")),
        (0..written).collect::<Vec<_>>()
    );
    node.assert_accounted("app", written);
}

#[test]
fn refusals_name_file_field_and_remedy_and_the_earlier_revision_goes_on() {
    let mut node = Node::new();
    node.manifest("app", &node.spec("app", "fixture-logs", "{version: one}"));
    node.start();
    node.wait_running("app");
    let good = node.spec("app", "fixture-logs", "{version: one}");
    let (path, digest) = fixture_module("fixture-logs");
    let core = node.path("core.wasm");
    fs::write(&core, b"\0asm\x01\0\0\0").unwrap();
    let empty = node.path("empty.wasm");
    fs::write(&empty, b"").unwrap();
    let cut = node.path("cut.wasm");
    let bytes = fs::read(&path).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let digest_of = |path: &std::path::Path| {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(fs::read(path).unwrap());
        digest
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let with_module = |module: &std::path::Path| {
        good.replace(&format!("{path:?}"), &format!("{module:?}"))
            .replace(&digest, &digest_of(module))
    };
    let grants = fixture_module("fixture-grants");
    let cases = [
        (
            good.replace(&digest, &"0".repeat(64)),
            vec!["module.file.sha256", "expected SHA-256 0000", &digest],
        ),
        (
            good.replace("config:", "limits: {memroy: 1Mi}\nconfig:"),
            vec!["limits.memroy", "memory"],
        ),
        (
            good.replace("version: one", "vresion: one"),
            vec!["config: ", "'vresion' was unexpected"],
        ),
        (
            with_module(&core),
            vec!["module.file", "core WebAssembly module", "wasm32-wasip2"],
        ),
        (with_module(&empty), vec!["module.file", "empty"]),
        (with_module(&cut), vec!["module: ", "does not compile"]),
        (
            good.replace(&format!("{path:?}"), &format!("{:?}", grants.0))
                .replace(&digest, &grants.1),
            vec![
                "grants: ",
                "bulkhead:plugin/",
                "not granted",
                "add to the manifest",
            ],
        ),
        (
            good.replace("logs:\n", "metrisc: {}\nlogs:\n"),
            vec!["metrisc", "logs"],
        ),
        (
            good.replace("version: one", "route: [nowhere]"),
            vec!["config: ", "nowhere"],
        ),
        (
            good.replace(
                &format!("file: {{path: {path:?}, sha256: {digest}}}"),
                "bundled: no-such",
            ),
            vec!["module.bundled", "no-such", "log-shipper"],
        ),
    ];
    for (spec, expected) in cases {
        node.manifest("app", &spec);
        let report = node.wait_plugin("app", &format!("refused for {expected:?}"), |report| {
            let message = condition(report, "UpToDate")["message"]
                .as_str()
                .unwrap_or("");
            reason(report, "UpToDate") == "Refused"
                && expected.iter().all(|part| message.contains(part))
        });
        let message = condition(&report, "UpToDate")["message"].as_str().unwrap();
        assert!(message.contains("app.yaml"), "names the file: {message}");
        assert_eq!(report["phase"], "Running");
        node.manifest("app", &good);
        node.wait_plugin("app", "current again", |report| {
            reason(report, "UpToDate") == "Current"
        });
    }
    let unknown = config_map("app", &good).replace("v1alpha1", "v9");
    node.raw_manifest("app.yaml", &unknown);
    node.wait_plugin("app", "unknown version", |report| {
        condition(report, "UpToDate")["message"]
            .as_str()
            .is_some_and(|message| message.contains("v1alpha1") && message.contains("v9"))
    });
    node.manifest("app", &good);
    node.manifest("twin", &good);
    node.raw_manifest("twin.yaml", &config_map("app", &good));
    node.wait_plugin("app", "two manifests", |report| {
        condition(report, "UpToDate")["message"]
            .as_str()
            .is_some_and(|message| message.contains("twin.yaml") && message.contains("app.yaml"))
    });
    node.append("a.log", lines(0..10));
    wait_for("the plugin to go on", || {
        (node.output("app").len() == 10).then_some(())
    });
    node.assert_accounted("app", 10);
}

#[test]
fn hostile_plugins_end_alone_and_the_endpoint_answers() {
    let mut node = Node::new();
    node.manifest("good", &node.spec("good", "fixture-logs", "{}"));
    for (name, act) in [
        ("loops", "loop"),
        ("traps", "panic"),
        ("hoards", "allocate"),
        ("lies", "indexOutOfRange"),
    ] {
        let spec = node.spec(
            name,
            "fixture-logs",
            &format!("{{faults: [{{do: {act}}}]}}"),
        );
        node.manifest(
            name,
            &spec.replace(
                "update:",
                "limits: {deadline: 500ms, memory: 16Mi}\nupdate:",
            ),
        );
    }
    node.start();
    node.wait_running("good");
    node.append("a.log", lines(0..5000));
    wait_for("the good plugin", || {
        (node.output("good").len() == 5000).then_some(())
    });
    for (name, cause) in [
        ("loops", "DeadlineExceeded"),
        ("traps", "Trap"),
        ("hoards", "OutOfMemory"),
        ("lies", "BrokenPromise"),
    ] {
        let report = node.wait_plugin(name, cause, |report| {
            report["lastFailure"]["cause"] == cause
        });
        assert_eq!(report["logs"]["lines"]["acknowledged"], 0);
        assert!(node.output(name).is_empty());
    }
    let report = node.plugin("traps").unwrap();
    let message = report["lastFailure"]["message"].as_str().unwrap();
    assert!(message.contains("fixture panic at"), "{message}");
    assert!(
        report["lastFailure"]["backtrace"]
            .as_array()
            .is_some_and(|frames| !frames.is_empty())
    );
    assert_eq!(node.get("/healthz").unwrap(), (200, "ok\n".into()));
    assert_eq!(node.get("/nothing").unwrap().0, 404);
    let metrics = node.get("/metrics").unwrap().1;
    assert!(metrics.contains(
        "bulkhead_logs_lines_total{namespace=\"local\",name=\"good\",outcome=\"acknowledged\"} 5000"
    ));
    assert_eq!(node.assert_accounted("good", 5000).acknowledged, 5000);
}

#[test]
fn a_line_that_the_plugin_cannot_process_is_set_aside_and_the_rest_goes_on() {
    let mut node = Node::new();
    let config = "{faults: [{do: panic, marker: \"13\"}]}";
    node.manifest("app", &node.spec("app", "fixture-logs", config));
    node.start();
    node.wait_running("app");
    node.append("a.log", lines(0..20));
    let accounts = node.assert_accounted("app", 20);
    assert_eq!((accounts.acknowledged, accounts.dead_lettered), (19, 1));
    let letters = fs::read_to_string(node.path("state/dead-letter/local/app.jsonl")).unwrap();
    let letter: Value = serde_json::from_str(letters.trim()).unwrap();
    assert_eq!(letter["record"]["message"], "13");
    assert_eq!(
        numbers(&node.output("app")),
        (0..20).filter(|n| *n != 13).collect::<Vec<_>>()
    );
}

#[test]
fn many_bad_lines_of_one_batch_are_set_aside_and_the_good_between_them_go_on() {
    let mut node = Node::new();
    let config = "{faults: [{do: error, marker: bad}]}";
    node.manifest("app", &node.spec("app", "fixture-logs", config));
    let bad = |n: u64| n % 2 == 1;
    let line = |n: u64| {
        if bad(n) {
            format!("bad {n}")
        } else {
            n.to_string()
        }
    };
    // More than may fail in a row.
    node.append("a.log", (0..40).map(line));
    node.start();
    let accounts = node.assert_accounted("app", 40);
    assert_eq!((accounts.acknowledged, accounts.dead_lettered), (20, 20));
    let good: Vec<u64> = (0..40).filter(|n| !bad(*n)).collect();
    assert_eq!(numbers(&node.output("app")), good);
}

#[test]
fn a_broken_revision_costs_no_line_even_past_its_probation() {
    let mut node = Node::new();
    node.manifest("app", &node.spec("app", "fixture-logs", "{}"));
    node.start();
    node.wait_running("app");
    // A success of the good revision must not speak for the bad one.
    node.append("a.log", lines(0..3));
    node.wait_plugin("app", "the first lines", |report| {
        report["logs"]["lines"]["acknowledged"] == 3
    });
    let bad = "{faults: [{do: panic, marker: \"\"}]}";
    node.manifest("app", &node.spec("app", "fixture-logs", bad));
    node.wait_plugin("app", "past its probation", |report| {
        report["updates"] == 1 && reason(report, "UpToDate") == "Current"
    });
    node.append("a.log", lines(3..6));
    // Enough for the first line to be tried alone, and the next.
    node.wait_plugin("app", "crashing", |report| {
        report["restarts"].as_u64() >= Some(7)
    });
    node.manifest("app", &node.spec("app", "fixture-logs", "{}"));
    wait_for("all lines", || {
        (node.output("app").len() == 6).then_some(())
    });
    assert_eq!(numbers(&node.output("app")), (0..6).collect::<Vec<_>>());
    let accounts = node.assert_accounted("app", 6);
    assert_eq!(accounts.dead_lettered, 0);
}

#[test]
fn a_plugin_that_crashes_is_mended_by_an_update_that_takes_its_time() {
    let mut node = Node::new();
    let bad = "{faults: [{do: panic}]}";
    node.manifest("app", &node.spec("app", "fixture-logs", bad));
    node.append("a.log", lines(0..3));
    node.start();
    node.wait_plugin("app", "crashing", |report| {
        report["restarts"].as_u64() >= Some(1)
    });
    // Not in the code cache: it crashes again while this is compiled.
    node.manifest("app", &node.spec_of("app", "bundled: log-shipper", "{}"));
    node.assert_accounted("app", 3);
    assert_eq!(numbers(&node.output("app")), [0, 1, 2]);
}

#[test]
fn a_plugin_that_crashes_is_restarted_also_after_an_update_was_withdrawn() {
    let mut node = Node::new();
    let bad = node.spec("app", "fixture-logs", "{faults: [{do: panic}]}");
    node.manifest("app", &bad);
    node.append("a.log", lines(0..3));
    node.start();
    let crashing = |more_than: u64| {
        let report = node.wait_plugin("app", "crashing", |report| {
            report["restarts"].as_u64() > Some(more_than)
        });
        report["restarts"].as_u64().unwrap()
    };
    let restarts = crashing(0);
    let slow = node.spec("app", "fixture-logs", "{faults: [{at: init, do: sleep}]}");
    let slow = slow.replace("update:", "limits: {deadline: 60s}\nupdate:");
    node.manifest("app", &slow);
    node.wait_plugin("app", "preparing", |report| report["candidate"].is_string());
    node.manifest("app", &bad);
    let restarts = crashing(restarts);
    crashing(restarts);
}

#[test]
fn suspend_stops_at_once_and_keeps_the_place() {
    let mut node = Node::new();
    let spec = node.spec("app", "fixture-logs", "{}");
    node.manifest("app", &spec);
    node.start();
    node.wait_running("app");
    node.append("a.log", lines(0..10));
    wait_for("the first", || {
        (node.output("app").len() == 10).then_some(())
    });
    node.manifest("app", &format!("suspend: true\n{spec}"));
    node.wait_plugin("app", "suspended", |report| report["phase"] == "Suspended");
    node.append("a.log", lines(10..20));
    node.manifest("app", &spec);
    wait_for("the rest", || {
        (node.output("app").len() == 20).then_some(())
    });
    assert_eq!(numbers(&node.output("app")), (0..20).collect::<Vec<_>>());
    node.assert_accounted("app", 20);
}

#[test]
fn safe_mode_leaves_out_the_plugin_that_killed_the_daemon_three_times() {
    let mut node = Node::new();
    node.manifest("killer", &node.spec("killer", "fixture-killer", "{}"));
    node.append("a.log", lines(0..10));
    for _ in 0..3 {
        node.spawn(&[], &[]);
        assert!(!node.wait_for_end().success());
    }
    node.manifest("good", &node.spec("good", "fixture-logs", "{}"));
    node.start();
    let report = node.wait_plugin("killer", "left out", |report| {
        report["phase"] == "Suspended"
    });
    assert_eq!(reason(&report, "Ready"), "SafeMode");
    node.wait_running("good");
    node.append("a.log", lines(10..20));
    wait_for("the good one", || {
        let last = numbers(&node.output("good")).last().copied();
        (last == Some(19)).then_some(())
    });
    node.assert_accounted("good", 20);
    let status: Value = serde_json::from_str(&node.get("/v1/node").unwrap().1).unwrap();
    assert_eq!(status["safeMode"][0], "local/killer");
}

#[test]
fn a_broken_entry_of_the_code_cache_is_made_again() {
    let mut node = Node::new();
    node.manifest("app", &node.spec("app", "fixture-logs", "{}"));
    node.start();
    node.wait_running("app");
    assert!(node.stop().success());
    let cached = || -> Vec<_> {
        let entries = fs::read_dir(node.path("state/cache")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let entries = cached();
    assert_eq!(entries.len(), 1);
    let mut bytes = fs::read(&entries[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&entries[0], bytes).unwrap();
    node.start();
    node.wait_running("app");
    assert!(node.daemon_log().contains("broken entry"));
}

/// KiB of the plugin's compiled code that are in the daemon's memory: proc_pid_smaps(5).
fn compiled_in_memory(node: &Node) -> u64 {
    let smaps = fs::read_to_string(format!("/proc/{}/smaps", node.pid())).unwrap();
    let mut compiled = false;
    let mut sum = 0;
    for line in smaps.lines() {
        match line.strip_prefix("Rss:") {
            Some(rss) if compiled => {
                sum += rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
            }
            Some(_) => {}
            None if line.contains('-') => {
                compiled = line.ends_with(".cwasm") && line.contains(" r-xp ");
            }
            None => {}
        }
    }
    sum
}

#[test]
fn at_rest_code_that_is_not_used_leaves_the_memory_and_comes_back() {
    let mut node = Node::new();
    node.manifest("app", &node.spec("app", "fixture-logs", "{version: one}"));
    node.start();
    node.append("a.log", lines(0..100));
    wait_for("the lines", || {
        (node.output("app").len() == 100).then_some(())
    });
    assert!(compiled_in_memory(&node) > 0);
    node.stop();
    node.start_with(&[], &RESTS);
    node.wait_running("app");
    wait_for("rest", || {
        (node.rests() > 0 && compiled_in_memory(&node) == 0).then_some(())
    });
    node.append("a.log", lines(100..200));
    wait_for("the lines", || {
        (node.output("app").len() == 200).then_some(())
    });
    assert!(compiled_in_memory(&node) > 0);
    node.assert_accounted("app", 100);
}

/// Page faults of the children that the daemon has waited for, of which there are some in each: proc_pid_stat(5), `cminflt`.
fn faults_of_children(node: &Node) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", node.pid())).unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    after_name.split(' ').nth(8).unwrap().parse().unwrap()
}

#[test]
fn a_configuration_that_was_right_is_not_compared_with_its_schema_again() {
    let mut node = Node::new();
    let spec = node.spec("app", "fixture-logs", "{version: one}");
    node.manifest("app", &spec);
    node.start();
    node.wait_running("app");
    let loaded = faults_of_children(&node);
    assert!(loaded > 0, "compiling and comparing are done by children");
    node.manifest("app", &format!("{spec}\nlimits: {{memory: 48Mi}}"));
    node.wait_plugin("app", "updated", |report| report["updates"] == 1);
    assert_eq!(faults_of_children(&node), loaded);
    node.manifest("app", &node.spec("app", "fixture-logs", "{version: two}"));
    node.wait_plugin("app", "updated", |report| report["updates"] == 2);
    assert!(faults_of_children(&node) > loaded);
}
