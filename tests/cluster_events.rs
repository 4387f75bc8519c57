//! Events at the ConfigMaps of plugins, against a real API server: one for each transition, none while
//! nothing happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/cluster/mod.rs"]
mod cluster;
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::Cluster;
use cluster::rig::Rig;
use serde_json::Value;
use support::{PATIENCE, wait_for};

/// The Events of the rig's namespace, oldest first.
fn events(rig: &Rig) -> Vec<Value> {
    let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", rig.namespace);
    let (_, list) = rig.cluster.request("GET", &path, None);
    let mut events: Vec<Value> = list["items"].as_array().unwrap().clone();
    let time = |event: &Value| event["eventTime"].as_str().unwrap_or_default().to_owned();
    events.sort_by_key(time);
    events
}

fn count(event: &Value) -> u64 {
    match &event["series"] {
        Value::Null => 1,
        series => series["count"].as_u64().unwrap(),
    }
}

/// Waits for just these Events, by reason, with how often each was counted.
fn wait_reasons(rig: &Rig, expected: &[(&str, u64)]) {
    let begin = Instant::now();
    loop {
        let events = events(rig);
        let found = events
            .iter()
            .map(|event| (event["reason"].as_str().unwrap(), count(event)));
        if found.eq(expected.iter().copied()) {
            return;
        }
        let late = begin.elapsed() > PATIENCE;
        assert!(
            !late,
            "{expected:?}: {events:#?}\n{}",
            rig.node.daemon_log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn each_transition_is_an_event_at_the_config_map() {
    let mut rig = Rig::new(Cluster::shared());
    rig.node.start();
    let good = rig.spec("app");
    rig.apply("app", &good);
    wait_reasons(&rig, &[("Loaded", 1)]);
    let (_, object) = rig.cluster.request("GET", &rig.path("app"), None);
    let event = events(&rig).remove(0);
    assert_eq!(event["type"], "Normal");
    assert_eq!(event["regarding"]["kind"], "ConfigMap");
    assert_eq!(event["regarding"]["name"], "app");
    assert_eq!(event["regarding"]["uid"], object["metadata"]["uid"]);
    assert_eq!(event["reportingController"], "bulkhead.dev/node-daemon");
    assert_eq!(event["reportingInstance"], rig.node_name.as_str());
    let note = event["note"].as_str().unwrap();
    let expected = format!("{}: fixture-logs 0.1.0 with module", rig.node_name);
    assert!(note.starts_with(&expected), "{note}");

    rig.apply("app", &good.replace("config: {}", "config: {version: two}"));
    wait_reasons(&rig, &[("Loaded", 1), ("Updated", 1)]);
    rig.wait("app", "the end of probation", |report| {
        report["probation"] == false
    });

    rig.apply("app", &good.replace("module:", "modul:"));
    wait_reasons(&rig, &[("Loaded", 1), ("Updated", 1), ("Refused", 1)]);
    let event = events(&rig).remove(2);
    assert_eq!(event["type"], "Warning");
    assert!(
        event["note"]
            .as_str()
            .unwrap()
            .contains("modul: unknown field"),
        "{event:#}"
    );

    // One whose instance does not begin, and one that fails in its probation.
    rig.apply(
        "app",
        &good.replace("config: {}", "config: {faults: [{at: init, do: panic}]}"),
    );
    let mut so_far = vec![
        ("Loaded", 1),
        ("Updated", 1),
        ("Refused", 1),
        ("UpdateFailed", 1),
    ];
    wait_reasons(&rig, &so_far);
    let slow = good.replace("probation: 200ms", "probation: 60s");
    rig.apply(
        "app",
        &slow.replace("config: {}", "config: {faults: [{do: panic}]}"),
    );
    // Of the same module as before, so it is counted.
    so_far[1].1 = 2;
    wait_reasons(&rig, &so_far);
    rig.node.append("a.log", ["line".to_owned()]);
    so_far.push(("RolledBack", 1));
    wait_reasons(&rig, &so_far);

    rig.cluster.delete(&rig.path("app"));
    so_far.push(("Unloaded", 1));
    wait_reasons(&rig, &so_far);

    rig.apply(
        "crash",
        &rig.spec("crash")
            .replace("config: {}", "config: {faults: [{do: panic}]}"),
    );
    so_far.push(("Loaded", 1));
    wait_reasons(&rig, &so_far);
    rig.node.append("a.log", ["line".to_owned()]);
    so_far.push(("Crashing", 1));
    wait_reasons(&rig, &so_far);
}

#[test]
fn what_repeats_itself_is_counted() {
    let mut rig = Rig::new(Cluster::shared());
    let good = rig.spec("app");
    rig.apply("app", &good);
    rig.node
        .source
        .extend(["--events".to_owned(), "warnings".to_owned()]);
    rig.node.start();
    rig.wait_running("app");
    let broken = good.replace("module:", "modul:");
    for round in 1..=3 {
        rig.apply("app", &broken);
        rig.wait("app", "the refusal", |report| {
            support::reason(report, "UpToDate") == "Refused"
        });
        wait_for("the Event to be counted", || {
            let events = events(&rig);
            assert!(events.len() <= 1, "{events:#?}");
            (count(events.first()?) == round).then_some(())
        });
        rig.apply("app", &good);
        rig.wait("app", "the good one", |report| {
            support::reason(report, "UpToDate") == "Current"
        });
        // Something else is told in between, or it would be the same refusal still.
        rig.apply(
            "app",
            &good.replace("config: {}", &format!("config: {{version: \"{round}\"}}")),
        );
        rig.wait("app", "the update", |report| {
            report["updates"] == 2 * round - 1 && report["probation"] == false
        });
        rig.apply("app", &good);
        rig.wait("app", "the first again", |report| {
            report["updates"] == 2 * round && report["probation"] == false
        });
    }
}

#[test]
fn an_idle_daemon_writes_nothing_and_asks_for_next_to_nothing() {
    let cluster = Arc::new(Cluster::start());
    let mut rig = Rig::new(cluster.clone());
    let small = |rig: &Rig, name: &str| {
        let spec = rig.spec(name);
        spec.replace("module:", "limits: {memory: 8Mi}\nmodule:")
    };
    // Fifty Normal Events take minutes, one after the other: they would go on here.
    rig.node
        .source
        .extend(["--events".to_owned(), "warnings".to_owned()]);
    let names: Vec<String> = (0..50).map(|i| format!("p{i}")).collect();
    for name in &names {
        rig.apply(name, &small(&rig, name));
    }
    rig.node.start();
    for name in &names {
        rig.wait_running(name);
    }
    // All that a daemon has a right to do with what it knows of; watches apart, which go on.
    let resources = [
        "configmaps",
        "events",
        "nodes",
        "pods",
        "secrets",
        "subjectaccessreviews",
        "tokenreviews",
    ];
    let requests = || {
        let mut counts = cluster.request_counts();
        counts.retain(|(resource, verb), _| {
            resources.contains(&resource.as_str()) && verb != "WATCH"
        });
        counts
    };
    let before = requests();
    let listed = ("configmaps".to_owned(), "LIST".to_owned());
    assert!(before.contains_key(&listed), "{before:?}");
    let seconds = match std::env::var("BULKHEAD_IDLE_SECONDS") {
        Ok(seconds) => seconds.parse().unwrap(),
        Err(_) => 20,
    };
    std::thread::sleep(Duration::from_secs(seconds));
    assert_eq!(requests(), before);
    // One change, one Event.
    rig.apply("p0", &small(&rig, "p0").replace("module:", "modul:"));
    wait_reasons(&rig, &[("Refused", 1)]);
    let posted = ("events".to_owned(), "POST".to_owned());
    let posts = |counts: &BTreeMap<_, f64>| counts.get(&posted).copied().unwrap_or(0.0);
    assert_eq!(posts(&requests()) - posts(&before), 1.0);
}
