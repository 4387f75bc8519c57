//! What is known of pods, and logs that wait for it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::json;

use super::harness::Rig;
use crate::kubernetes::{Pods, testing};
use crate::manifest::{LogSourceKind, Period, PodMetadata};

const T: &str = "2026-01-02T03:04:05.000000001Z stdout F";

/// A tail that knows `pods`, whose logs wait for so long.
fn rig(pods: &Pods, wait: Duration) -> Rig {
    let mut rig = Rig::containers();
    let metadata = PodMetadata {
        wait: Period(wait),
        ..PodMetadata::default()
    };
    let LogSourceKind::Containers(source) = &mut rig.config.sources[0].kind else {
        panic!("the rig reads containers");
    };
    source.metadata = Some(metadata.clone());
    rig.config.pods = Some(Arc::new(pods.ask([metadata])));
    rig
}

fn write(rig: &Rig, pod: &str, file: &str, text: &str) {
    let folder = format!("pods/shop_{pod}_{pod}-uid/c");
    fs::create_dir_all(rig.path(&folder)).unwrap();
    rig.append(&format!("{folder}/{file}"), format!("{T} {text}\n"));
}

/// The API server says of a pod that it has the label `app`.
fn put(pods: &Pods, pod: &str, app: &str) {
    let uid = format!("{pod}-uid");
    let labels = json!({"app": app});
    let meta = json!({"namespace": "shop", "name": pod, "uid": uid, "labels": labels});
    testing::put(pods, meta);
}

/// Each line with its pod's label.
fn labelled(rig: &Rig) -> Vec<(&str, Option<&str>)> {
    let lines = rig.lines.iter().map(|line| {
        let mut attributes = line.attributes.iter();
        let label = attributes.find(|(name, _)| name == "k8s.pod.label.app");
        (line.body.as_str(), label.map(|(_, value)| value.as_str()))
    });
    lines.collect()
}

#[test]
fn a_log_waits_for_its_pod_and_no_other_log_does() {
    let pods = Pods::new("node-1");
    let mut rig = rig(&pods, Duration::from_secs(60));
    put(&pods, "known", "k");
    rig.start();
    write(&rig, "new", "0.log", "waits");
    rig.until("the new log is found", |rig| {
        rig.stats.files_watched.load(Relaxed) == 1
    });
    write(&rig, "known", "0.log", "does not");
    rig.until_lines(1);
    assert_eq!(labelled(&rig), [("does not", Some("k"))]);
    put(&pods, "new", "n");
    rig.until_lines(2);
    assert_eq!(labelled(&rig)[1], ("waits", Some("n")));
    assert_eq!(rig.stats.without_metadata.load(Relaxed), 0);
    let node = ("k8s.node.name".to_owned(), "node-1".to_owned());
    assert!(rig.lines.iter().all(|line| line.attributes.contains(&node)));
}

#[test]
fn a_pod_that_stays_unknown_is_waited_for_once() {
    let pods = Pods::new("node-1");
    let mut rig = rig(&pods, Duration::from_millis(50));
    rig.start();
    write(&rig, "new", "0.log", "without");
    rig.until_lines(1);
    write(&rig, "new", "0.log", "without, too");
    rig.until_lines(2);
    assert_eq!(rig.stats.without_metadata.load(Relaxed), 1);
    put(&pods, "new", "n");
    write(&rig, "new", "0.log", "with");
    rig.until_lines(3);
    let expected = [
        ("without", None),
        ("without, too", None),
        ("with", Some("n")),
    ];
    assert_eq!(labelled(&rig), expected);
}

#[test]
fn a_change_is_in_the_lines_after_it() {
    let pods = Pods::new("node-1");
    put(&pods, "a", "one");
    put(&pods, "b", "other");
    let mut rig = rig(&pods, Duration::from_secs(60));
    rig.start();
    write(&rig, "a", "0.log", "first");
    rig.until_lines(1);
    put(&pods, "a", "two");
    write(&rig, "a", "0.log", "second");
    rig.until_lines(2);
    put(&pods, "b", "changed");
    write(&rig, "a", "0.log", "third");
    rig.until_lines(3);
    let expected = [
        ("first", Some("one")),
        ("second", Some("two")),
        ("third", Some("two")),
    ];
    assert_eq!(labelled(&rig), expected);
    assert!(rig.lines[1].attributes.len() == rig.lines[0].attributes.len());
}

#[test]
fn order_holds_over_a_rotation_while_a_log_waits() {
    let pods = Pods::new("node-1");
    let mut rig = rig(&pods, Duration::from_secs(60));
    rig.start();
    let log = "pods/shop_new_new-uid/c/0.log";
    const ROTATIONS: usize = 8;
    for index in 0..ROTATIONS {
        write(&rig, "new", "0.log", &index.to_string());
        rig.until("the log is found", |rig| {
            rig.stats.files_watched.load(Relaxed) == index as u64 + 1
        });
        rig.rename(log, &format!("{log}.2026010{index}-000000"));
    }
    put(&pods, "new", "n");
    rig.until_lines(ROTATIONS);
    let bodies: Vec<String> = (0..ROTATIONS).map(|index| index.to_string()).collect();
    assert_eq!(rig.bodies(), bodies);
}

#[test]
fn nothing_waits_where_nothing_is_asked_for() {
    let pods = Pods::new("node-1");
    let mut rig = rig(&pods, Duration::from_secs(60));
    // No cluster.
    rig.config.pods = None;
    rig.start();
    write(&rig, "a", "0.log", "alone");
    rig.until_lines(1);
    assert_eq!(labelled(&rig), [("alone", None)]);
    assert_eq!(rig.lines[0].attributes.len(), 5);
    assert_eq!(rig.stats.without_metadata.load(Relaxed), 0);
}
