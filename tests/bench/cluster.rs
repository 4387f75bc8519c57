//! What a fleet costs its API server, and how fast a change reaches a node: a real etcd and
//! kube-apiserver on loopback, and real daemons.
//!
//! `BULKHEAD_BENCH_UPDATES`, `BULKHEAD_BENCH_NODES` and `BULKHEAD_BENCH_IDLE_SECONDS` make it shorter or
//! longer. It fails if something does not happen, never for being slow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../support/cluster/mod.rs"]
mod cluster;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster::Cluster;
use cluster::rig::Rig;
use serde_json::{Value, json};
use support::{fixture_module, sha256, variant};

fn number(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |value| value.parse().unwrap())
}

/// Waits in small steps: what is measured takes milliseconds.
fn wait(rig: &Rig, what: &str, check: impl Fn(&Value) -> bool) {
    let begin = Instant::now();
    while !rig.plugin("app").is_some_and(|report| check(&report)) {
        assert!(
            begin.elapsed() < support::PATIENCE,
            "{what}\n{}",
            rig.node.daemon_log()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn versioned(rig: &Rig, version: u64) -> String {
    let config = format!("config: {{version: \"{version}\"}}");
    rig.spec("app").replace("config: {}", &config)
}

/// From the manifest's PUT to the new revision at work.
fn updates(cluster: &Arc<Cluster>) {
    let mut rig = Rig::new(cluster.clone());
    rig.apply("app", &rig.spec("app"));
    rig.node.start();
    rig.wait_running("app");
    let count = number("BULKHEAD_BENCH_UPDATES", 200);
    let mut times: Vec<f64> = (1..=count)
        .map(|version| {
            let begin = Instant::now();
            rig.apply("app", &versioned(&rig, version));
            wait(&rig, "the update", |report| report["updates"] == version);
            begin.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    println!(
        "manifest written to new revision at work, {count} times: median {:.0} ms, p99 {:.0} ms, worst {:.0} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// Requests that daemons may make, watches apart.
fn asked(cluster: &Cluster) -> f64 {
    let resources = [
        "configmaps",
        "nodes",
        "events",
        "pods",
        "secrets",
        "tokenreviews",
        "subjectaccessreviews",
    ];
    let verbs = ["GET", "LIST", "POST", "PUT", "PATCH", "DELETE"];
    let of = |resource: &str, verb: &str| {
        cluster.requests(&[
            &format!("resource=\"{resource}\""),
            &format!("verb=\"{verb}\""),
        ])
    };
    let all = resources
        .iter()
        .flat_map(|resource| verbs.map(|verb| of(resource, verb)));
    all.sum()
}

/// Bytes of the answers to GETs of ConfigMaps.
fn sent(cluster: &Cluster) -> f64 {
    let (_, metrics) = cluster.request("GET", "/metrics", None);
    let lines = metrics.as_str().unwrap().lines();
    let sums = lines.filter(|line| {
        line.starts_with("apiserver_response_sizes_sum{")
            && line.contains("resource=\"configmaps\"")
            && line.contains("verb=\"GET\"")
    });
    sums.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// Puts a module into a ConfigMap; its size, and the manifest that names it.
fn put_parts(rig: &Rig, version: u8) -> (usize, String) {
    let module = variant(
        &fs::read(fixture_module("fixture-logs").0).unwrap(),
        version,
    );
    let packed = zstd::encode_all(module.as_slice(), 19).unwrap();
    let name = format!("module-{version}");
    let object = json!({
        "metadata": {"name": name},
        "immutable": true,
        "binaryData": {"part": STANDARD.encode(packed)},
    });
    rig.put(&rig.namespace, object);
    let spec = rig.spec("app");
    let from = spec.lines().nth(1).unwrap();
    let digest = sha256(&module);
    let to = format!("  configMapParts: {{names: [{name}], sha256: {digest}}}");
    (module.len(), spec.replace(from, &to))
}

/// Many daemons at one API server.
fn fleet(cluster: &Arc<Cluster>) {
    let count = number("BULKHEAD_BENCH_NODES", 20);
    let mut first = Rig::new(cluster.clone());
    first.apply("app", &first.spec("app"));
    first.node.start();
    let mut rigs: Vec<Rig> = (1..count).map(|i| first.beside(i)).collect();
    rigs.iter_mut().for_each(|rig| rig.node.start());
    rigs.push(first);
    rigs.iter()
        .for_each(|rig| wait(rig, "Running", |report| report["phase"] == "Running"));
    // Until Events are written.
    std::thread::sleep(Duration::from_secs(10));

    let seconds = number("BULKHEAD_BENCH_IDLE_SECONDS", 60);
    let before = asked(cluster);
    std::thread::sleep(Duration::from_secs(seconds));
    let rate = (asked(cluster) - before) / (seconds * count) as f64;
    println!("{count} idle daemons, {seconds} s: {rate:.4} requests a second each, watches apart");

    let events = || {
        let of =
            |verb: &str| cluster.requests(&["resource=\"events\"", &format!("verb=\"{verb}\"")]);
        of("POST") + of("PATCH")
    };
    let before = events();
    let last = rigs.last().unwrap();
    last.apply("app", &versioned(last, 1));
    rigs.iter()
        .for_each(|rig| wait(rig, "the update", |report| report["updates"] == 1));
    std::thread::sleep(Duration::from_secs(5));
    let each = (events() - before) / count as f64;
    println!("one change of the manifest: {each:.2} Events a daemon");

    let before = sent(cluster);
    let own = rigs.last().unwrap();
    // The rig itself reads the object that it puts; nobody else does before the manifest names it.
    let (size, spec) = put_parts(own, 7);
    let of_rig = sent(cluster) - before;
    own.apply("app", &spec);
    rigs.iter()
        .for_each(|rig| wait(rig, "the module", |report| report["updates"] == 2));
    let bytes = (sent(cluster) - before - of_rig) / count as f64;
    println!(
        "one new module of {size} bytes: {bytes:.0} bytes a daemon, {:.2} of its size",
        bytes / size as f64
    );

    let gets = || cluster.requests(&["resource=\"configmaps\"", "verb=\"GET\""]);
    let before = gets();
    for rig in &mut rigs {
        assert!(rig.node.stop().success());
        rig.node.start();
    }
    rigs.iter()
        .for_each(|rig| wait(rig, "Running", |report| report["phase"] == "Running"));
    println!("restart of all: {} fetches of parts", gets() - before);
}

fn main() {
    // `cargo test --benches` runs this too.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let cluster = Arc::new(Cluster::start());
    updates(&cluster);
    fleet(&cluster);
}
