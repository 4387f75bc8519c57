//! Remote write through the real binary: into a real Prometheus, and into a server that does as it is
//! told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prost::Message;
use serde_json::Value;
use support::prometheus::{Prometheus, Series};
use support::sink::{Answer, Received, Sink, ok, own_address, status};
use support::{Node, PATIENCE, fixture_file, message, reason, wait_for};

/// A fixture that pushes to `far` each second. `fields` are YAML in flow form, with a comma before.
fn pushing(collectors: &str, url: &str, fields: &str) -> String {
    let module = fixture_file("fixture-metrics");
    let retry = "retry: {initial: 20ms, max: 100ms}";
    format!(
        "module:\n  {module}\nconfig: {{collectors: [{collectors}]}}\nupdate: {{probation: 200ms}}\nmetrics:\n  remoteWrite:\n  - {{name: far, url: {url:?}, interval: 1s, {retry}{fields}}}\n"
    )
}

fn far(report: &Value) -> &Value {
    &report["metrics"]["remoteWrite"][0]
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value}"))
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis() as i64
}

/// Polls until two are the same, and says what is not.
fn wait_same(what: &str, mut look: impl FnMut() -> [BTreeMap<Series, f64>; 2]) {
    let begin = Instant::now();
    loop {
        let [a, b] = look();
        let only = |a: &BTreeMap<Series, f64>, b: &BTreeMap<Series, f64>| {
            let only = a.keys().filter(|series| !b.contains_key(*series));
            only.cloned().collect::<Vec<_>>()
        };
        let (only_a, only_b) = (only(&a, &b), only(&b, &a));
        if !a.is_empty() && only_a.is_empty() && only_b.is_empty() {
            return;
        }
        assert!(
            begin.elapsed() < PATIENCE,
            "{what}: {only_a:#?}\nand {only_b:#?}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Without what tells apart how they came.
fn stripped(found: BTreeMap<Series, f64>) -> BTreeMap<Series, f64> {
    let own = |series: &Series| series["__name__"].starts_with("scrape_");
    let strip = |(mut series, value): (Series, f64)| {
        series.retain(|name, _| !matches!(name.as_str(), "job" | "instance" | "cluster"));
        (series, value)
    };
    let found = found.into_iter().filter(|(series, _)| !own(series));
    found.map(strip).collect()
}

#[test]
fn a_prometheus_has_the_same_whether_it_scrapes_or_is_pushed_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new();
    let address = own_address();
    let url = Prometheus::url(address);
    let push = format!(
        "metrics: {{remoteWrite: [{{name: far, url: {url:?}, interval: 1s, labels: {{job: node-exporter, cluster: 'of-${{node:name}}'}}}}]}}"
    );
    let grants = "grants: {nodeStats: true, nodeFiles: [/proc, /sys, /etc/os-release, /usr/lib/os-release, /etc/selinux/config, /run/udev/data, /var/lib/prometheus/node-exporter]}";
    // What comes and goes with other tests.
    let config = "config: {collectors: {cgroups: {enabled: false}, netclass: {enabled: false}, netdev: {enabled: false}, filesystem: {enabled: false}, arp: {enabled: false}, diskstats: {enabled: false}}}";
    node.manifest(
        "node-metrics",
        &format!("module: {{bundled: node-metrics}}\n{grants}\n{config}\n{push}\n"),
    );
    node.manifest("kinds", &pushing("{name: a, do: kinds}", &url, ""));
    node.start_with(&["--node-name", "node-1"], &[]);
    node.wait_running("node-metrics");
    node.wait_running("kinds");
    let target = (node.address(), "/metrics/plugins");
    let server = Prometheus::start(address, folder.path(), Some(target));
    let pushed = || {
        let mut all = server.job("node-exporter");
        all.extend(server.job("local/kinds"));
        all
    };
    wait_same("only scraped", || {
        [stripped(server.job("scraped")), stripped(pushed())]
    });
    for (series, _) in pushed() {
        assert_eq!(series["instance"], "node-1", "{series:?}");
        let cluster = (series["job"] == "node-exporter").then_some("of-node-1");
        assert_eq!(series.get("cluster").map(String::as_str), cluster);
    }
    let node_metrics = server.job("node-exporter").len();
    assert!(node_metrics > 200, "{node_metrics}");
    // What does not move has the same value either way; the value that is no number equals none.
    let (scraped, pushed) = (stripped(server.job("scraped")), stripped(pushed()));
    let same = |name: &str| {
        let of = |all: &BTreeMap<Series, f64>| -> Vec<(Series, String)> {
            let named = all.iter().filter(|(series, _)| series["__name__"] == name);
            named
                .map(|(it, value)| (it.clone(), value.to_string()))
                .collect()
        };
        let pushed = of(&pushed);
        assert!(!pushed.is_empty(), "{name}");
        assert_eq!(of(&scraped), pushed, "{name}");
    };
    for name in [
        "up",
        "node_memory_MemTotal_bytes",
        "node_boot_time_seconds",
        "node_uname_info",
        "fixture_counter_total",
        "fixture_size_bytes",
        "fixture_info",
        "fixture_untyped",
        "fixture_seconds_bucket",
        "fixture_seconds_sum",
        "fixture_seconds_count",
        "fixture_pause_seconds",
        "fixture_pause_seconds_count",
        "bulkhead_collect_success",
    ] {
        same(name);
    }
    let report = node.plugin("node-metrics").unwrap();
    let far = far(&report);
    assert_eq!(far["state"], "Healthy", "{far}");
    assert_eq!(
        (&far["rejectedSamples"], &far["missedPushes"]),
        (&0.into(), &0.into())
    );
    // Long before Prometheus forgets by itself what nobody tells it of any more.
    assert_eq!(server.query("up{job=\"local/kinds\"}").len(), 1);
    node.remove_manifest("kinds");
    wait_for("the series of a plugin that is gone to end", || {
        server.job("local/kinds").is_empty().then_some(())
    });
    assert!(
        server
            .samples("fixture_counter_total{job=\"local/kinds\"}")
            .len()
            > 1
    );
    assert!(server.job("node-exporter").len() > 200);
    assert!(node.stop().success());
    let left = server.job("node-exporter");
    assert!(left.is_empty(), "{left:#?}");
}

/// The series that says how often the plugin was called since it began.
const CALLS: &str = "fixture_calls_total{job=\"local/app\"}";
/// Samples of one push: that, `up` and what the daemon says of the collection.
const OF_A_PUSH: u64 = 5;

/// Starts a Prometheus with the data in `folder`.
fn prometheus(address: SocketAddr, folder: &Path) -> Prometheus {
    Prometheus::start(address, folder, None)
}

#[test]
fn with_a_queue_nothing_of_the_meantime_is_missing_after_a_kill_either() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new();
    let address = own_address();
    let queue = ", queue: {maxSize: 1Mi}";
    let url = Prometheus::url(address);
    node.manifest("app", &pushing("{name: a, do: count}", &url, queue));
    node.start();
    let queued = |node: &Node, pushes: u64| {
        node.wait_plugin("app", "pushes in the queue", |report| {
            far(report)["queue"]["lines"].as_u64() >= Some(pushes * OF_A_PUSH)
        })
    };
    let report = queued(&node, 4);
    assert_eq!(far(&report)["missedPushes"], 0, "{report:#}");
    node.kill();
    node.start();
    let report = queued(&node, 7);
    let found = count(&far(&report)["queue"]["foundLines"]) / OF_A_PUSH;
    assert!(found >= 4, "{report:#}");
    assert_eq!(far(&report)["state"], "Retrying", "{report:#}");
    let error = far(&report)["lastError"].as_str().unwrap();
    assert!(error.contains("cannot connect"), "{error}");
    let started = now();
    let server = prometheus(address, folder.path());
    let report = node.wait_plugin("app", "the queue empty", |report| {
        far(report)["queue"]["lines"] == 0 && far(report)["state"] == "Healthy"
    });
    assert_eq!(far(&report)["rejectedSamples"], 0, "{report:#}");
    let queue = &far(&report)["queue"];
    let pushes = (count(&queue["foundLines"]) + count(&queue["keptLines"])) / OF_A_PUSH;
    let samples = server.samples(CALLS);
    assert!(samples.len() as u64 >= pushes, "{pushes}: {samples:?}");
    // The plugin counts its calls, and began anew once.
    let mut expected: Vec<f64> = (1..=found).map(|call| call as f64).collect();
    let again = samples.len() - expected.len();
    expected.extend((1..=again).map(|call| call as f64));
    let values: Vec<f64> = samples.iter().map(|(_, value)| *value).collect();
    assert_eq!(values, expected);
    assert!(samples.windows(2).all(|pair| pair[0].0 < pair[1].0));
    // With the times at which they were measured, and not those at which they were sent.
    let before = samples.iter().filter(|(time, _)| *time < started).count();
    assert!(before as u64 >= 7, "{samples:?}");
    // What was delivered is not there any more, but for what was so just before the kill.
    node.wait_plugin("app", "two seconds more", |report| {
        far(report)["samples"].as_u64() >= Some((pushes + 2) * OF_A_PUSH)
    });
    node.kill();
    node.start();
    let report = node.wait_plugin("app", "the queue open", |report| {
        far(report)["queue"]["foundLines"].is_u64()
    });
    let found = count(&far(&report)["queue"]["foundLines"]) / OF_A_PUSH;
    assert!(found <= 2, "{report:#}");
}

#[test]
fn without_a_queue_one_push_waits_and_others_are_missed_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new();
    let address = own_address();
    let url = Prometheus::url(address);
    node.manifest("app", &pushing("{name: a, do: count}", &url, ""));
    node.start();
    let report = node.wait_plugin("app", "pushes missed", |report| {
        far(report)["missedPushes"].as_u64() >= Some(3)
    });
    assert_eq!(far(&report)["waiting"], 1, "{report:#}");
    assert_eq!(far(&report)["samples"], 0, "{report:#}");
    let started = now();
    let server = prometheus(address, folder.path());
    let samples = wait_for("pushes of now", || {
        let samples = server.samples(CALLS);
        let new = samples.iter().filter(|(time, _)| *time > started).count();
        (new >= 2).then_some(samples)
    });
    // The one at work and the one that waited; for what was missed the plugin was not asked.
    let old = samples.iter().filter(|(time, _)| *time < started - 2000);
    assert_eq!(old.count(), 2, "{started}: {samples:?}");
    let values: Vec<f64> = samples.iter().map(|(_, value)| *value).collect();
    let expected: Vec<f64> = (1..=samples.len()).map(|call| call as f64).collect();
    assert_eq!(values, expected);
    let report = node.plugin("app").unwrap();
    assert_eq!(far(&report)["rejectedSamples"], 0, "{report:#}");
    let missed = &far(&report)["missedPushes"];
    let page = node.get("/metrics").unwrap().1;
    let line = format!(
        "bulkhead_metrics_remote_write_missed_pushes_total{{namespace=\"local\",name=\"app\",destination=\"far\"}} {missed}"
    );
    assert!(page.lines().any(|it| it == line), "{line}\n{page}");
}

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    series: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "4")]
    help: String,
    #[prost(string, tag = "5")]
    unit: String,
}

impl WriteRequest {
    fn read(received: &Received) -> Self {
        assert_eq!(received.header("content-encoding"), "snappy");
        let plain = snap::raw::Decoder::new().decompress_vec(&received.body);
        Self::decode(&*plain.unwrap()).unwrap()
    }

    /// The values of a family's series.
    fn values(&self, name: &str) -> Vec<f64> {
        let named = self.series.iter().filter(|series| {
            let mut labels = series.labels.iter();
            labels.any(|label| label.name == "__name__" && label.value == name)
        });
        named.map(|series| series.samples[0].value).collect()
    }

    /// How many series end with it.
    fn ends(&self) -> usize {
        let values = self.series.iter().map(|series| series.samples[0].value);
        values
            .filter(|value| value.to_bits() == 0x7ff0_0000_0000_0002)
            .count()
    }
}

fn received(sink: &Sink) -> Vec<Received> {
    let all = sink.all().into_iter();
    all.map(|(request, _)| request).collect()
}

fn requests(sink: &Sink) -> Vec<WriteRequest> {
    received(sink).iter().map(WriteRequest::read).collect()
}

#[test]
fn a_refusal_is_shown_and_not_repeated_and_a_busy_server_is_asked_again() {
    let sink = Sink::start(|request| match request.number {
        0 => Answer::Status(429, "Retry-After: 2\r\n", "slow down".to_owned()),
        1 => status(503),
        3 => Answer::Status(400, "", "out of order sample".to_owned()),
        _ => ok(),
    });
    let mut node = Node::new();
    let url = format!("http://{}/push", sink.address);
    node.manifest("app", &pushing("{name: a, do: {many: 3}}", &url, ""));
    node.start();
    let report = node.wait_plugin("app", "a push after the refusal", |report| {
        far(report)["requests"].as_u64() >= Some(3)
    });
    let received = received(&sink);
    let all = requests(&sink);
    assert_eq!(received[0].body, received[1].body);
    assert_eq!(received[0].body, received[2].body);
    let waited = received[1].at - received[0].at;
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
    let time = |request: &WriteRequest| request.series[0].samples[0].timestamp;
    let mut times: Vec<i64> = all[2..].iter().map(time).collect();
    times.dedup();
    assert_eq!(times.len(), all.len() - 2, "what was refused came again");
    let far = far(&report);
    assert_eq!(far["rejectedSamples"], all[3].series.len(), "{far}");
    assert!(count(&far["retries"]) >= 2, "{far}");
    let error = far["lastError"].as_str().unwrap();
    assert!(
        error.contains("400") && error.contains("out of order sample"),
        "{error}"
    );
    assert!(!node.state.join("dead-letter").exists());
}

#[test]
fn series_end_when_they_are_gone_and_not_at_an_update() {
    let sink = Sink::start(|_| ok());
    let mut node = Node::new();
    let url = format!("http://{}/push", sink.address);
    let of = |many: u32| pushing(&format!("{{name: a, do: {{many: {many}}}}}"), &url, "");
    node.manifest("app", &of(3));
    node.start();
    let after = |from: usize, what: &str| {
        wait_for(what, || {
            let all = requests(&sink);
            let new = all.get(from..)?.to_vec();
            (new.len() >= 2).then_some(new)
        })
    };
    let first = after(0, "two pushes");
    assert!(first.iter().all(|it| it.values("fixture_many").len() == 3));
    let told: Vec<_> = first[0].metadata.iter().collect();
    let many = told.iter().find(|it| it.name == "fixture_many").unwrap();
    assert_eq!((many.kind, many.help.as_str()), (2, "Many."));
    assert!(first[1].metadata.is_empty());
    node.manifest("app", &of(2));
    node.wait_plugin("app", "updated", |report| report["updates"] == 1);
    wait_for("a push of the new revision", || {
        let last = requests(&sink).pop()?;
        (last.values("fixture_many").len() == 2).then_some(())
    });
    let ends: Vec<usize> = requests(&sink).iter().map(WriteRequest::ends).collect();
    assert_eq!(ends.iter().sum::<usize>(), 1, "{ends:?}");
    // While the plugin stands still there are none.
    node.manifest("app", &format!("{}suspend: true\n", of(2)));
    node.wait_plugin("app", "suspended", |report| report["phase"] == "Suspended");
    let last = wait_for("the end of all series", || {
        let last = requests(&sink).pop()?;
        (last.ends() > 0).then_some(last)
    });
    assert_eq!((last.ends(), last.series.len()), (6, 6));
    let count = requests(&sink).len();
    node.manifest("app", &of(2));
    node.wait_running("app");
    let again = after(count, "pushes again");
    assert!(again.iter().all(|it| it.ends() == 0));
}

#[test]
fn what_cannot_work_is_refused_and_what_is_gone_is_said() {
    let mut node = Node::new();
    let url = "http://127.0.0.1:1/push";
    let good = |fields: &str| pushing("{name: a, do: count}", url, fields);
    node.manifest("scheme", &good("").replace("http://", "ftp://"));
    node.manifest("field", &good(", compression: gzip"));
    node.manifest("secret", &good(", labels: {a: '${env:HOME}'}"));
    node.manifest("app", &good(", queue: {}"));
    node.start();
    for (name, expected) in [
        (
            "scheme",
            "metrics.remoteWrite[0].url: has the scheme \"ftp\"",
        ),
        ("field", "metrics.remoteWrite[0].compression: unknown field"),
        (
            "secret",
            "metrics.remoteWrite[0].labels.a: has a placeholder",
        ),
    ] {
        let refused = |report: &Value| reason(report, "Ready") == "Refused";
        let report = node.wait_plugin(name, "refused", refused);
        let said = message(&report, "Ready");
        assert!(said.contains(expected), "{said}");
    }
    node.wait_plugin("app", "something in the queue", |report| {
        far(report)["queue"]["lines"].as_u64() >= Some(OF_A_PUSH)
    });
    let queue = node.state.join("queue/local.metrics/app/far");
    assert!(queue.is_dir());
    node.manifest("app", &good("").replace("name: far", "name: near"));
    wait_for("what becomes of the queue", || {
        let log = node.daemon_log();
        log.contains("what is in its queue is given up at")
            .then_some(())
    });
    assert!(fs::read_dir(&queue).unwrap().count() > 0);
}
