//! The status endpoint: every path, and that it answers whatever the plugins do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use support::{Node, condition, numbered, wait_for};

/// A page in the Prometheus text format 0.0.4, read without mercy.
struct Page {
    /// Kind by family.
    families: BTreeMap<String, String>,
    /// Value by series, as written.
    series: BTreeMap<String, f64>,
}

impl Page {
    fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line ends with a line feed");
        let mut families = BTreeMap::new();
        let mut series = BTreeMap::new();
        let mut helped = BTreeSet::new();
        let mut current = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(is_name(name) && !help.is_empty(), "{line}");
                assert!(helped.insert(name.to_owned()), "HELP twice: {line}");
                name.clone_into(&mut current);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, current, "TYPE follows its HELP");
                assert!(
                    ["counter", "gauge", "summary", "histogram"].contains(&kind),
                    "{line}"
                );
                assert!(
                    families.insert(name.to_owned(), kind.to_owned()).is_none(),
                    "{line}"
                );
            } else {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let family = name.split('{').next().unwrap();
                let summary = families.get(&current).is_some_and(|kind| kind == "summary");
                let part = family.strip_prefix(&current).unwrap_or("?");
                let fits = part.is_empty() || (summary && ["_sum", "_count"].contains(&part));
                assert!(fits, "not below its family {current}: {line}");
                assert!(is_name(family), "{line}");
                if let Some(labels) = name.strip_prefix(family).filter(|rest| !rest.is_empty()) {
                    check_labels(labels);
                }
                let value: f64 = value.parse().unwrap();
                assert!(value.is_finite() && value >= 0.0, "{line}");
                assert!(
                    series.insert(name.to_owned(), value).is_none(),
                    "twice: {line}"
                );
            }
        }
        assert!(families.keys().eq(helped.iter()), "each HELP has a TYPE");
        for (name, kind) in &families {
            assert_eq!(
                name.ends_with("_total"),
                kind == "counter",
                "{name} is a {kind}"
            );
        }
        Self { families, series }
    }

    fn of_app(&self, family: &str, more: &str) -> f64 {
        let series = format!("{family}{{namespace=\"local\",name=\"app\"{more}}}");
        let found = self.series.get(&series);
        *found.unwrap_or_else(|| panic!("no {series} in {:#?}", self.series))
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// `{a="x",b="y"}`, each label once.
fn check_labels(labels: &str) {
    let inner = labels
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    let mut rest = inner.unwrap_or_else(|| panic!("{labels}"));
    let mut seen = BTreeSet::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").unwrap();
        assert!(is_name(label) && seen.insert(label), "{labels}");
        let mut escaped = false;
        let end = after.find(|character| {
            let end = character == '"' && !escaped;
            escaped = character == '\\' && !escaped;
            end
        });
        rest = &after[end.unwrap() + 1..];
        if let Some(next) = rest.strip_prefix(',') {
            assert!(!next.is_empty(), "{labels}");
            rest = next;
        } else {
            assert!(rest.is_empty(), "{labels}");
        }
    }
}

fn json(node: &Node, path: &str) -> Value {
    let (code, head, body) = node.request("GET", path).unwrap();
    assert_eq!(code, 200, "{path}");
    assert!(
        head.to_lowercase()
            .contains("content-type: application/json"),
        "{head}"
    );
    serde_json::from_str(&body).unwrap()
}

#[test]
fn every_path_of_the_index_answers() {
    let mut node = Node::new();
    node.manifest(
        "app",
        &node.spec("app", "fixture-logs", "{version: one, contains: \"1\"}"),
    );
    node.start();
    node.wait_running("app");
    node.append("a.log", (0..20).map(|n| n.to_string()));
    // 1, 10 to 19.
    node.wait_output("app", 11);
    node.assert_accounted("app", 20);
    let index = node.get("/").unwrap().1;
    let paths: Vec<String> = index
        .lines()
        .filter(|line| line.starts_with('/'))
        .filter_map(|line| line.split(' ').next())
        .map(|path| {
            path.replace("{namespace}", "local")
                .replace("{name}", "app")
        })
        .collect();
    assert_eq!(paths.len(), 14, "{index}");
    for path in &paths {
        // The plugin measures nothing.
        let expected = match path.as_str() {
            "/metrics/plugins/local/app" => 404,
            _ => 200,
        };
        let (code, head, _) = node.request("GET", path).unwrap();
        assert_eq!(code, expected, "{path}: {head}");
        let (code, head, body) = node.request("HEAD", path).unwrap();
        assert_eq!((code, body.as_str()), (expected, ""), "{path}: {head}");
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let (code, head, body) = node.request(method, path).unwrap();
            assert_eq!(code, 405, "{method} {path}");
            assert!(head.to_lowercase().contains("allow: get,head"), "{head}");
            let answer: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(answer["reason"], "MethodNotAllowed");
        }
    }
    for (path, part) in [
        ("/v1/plugins/local/none", "local/none"),
        ("/v1/plugins/none/app/logs", "none/app"),
        ("/v2", "see /"),
    ] {
        let (code, body) = node.get(path).unwrap();
        assert_eq!(code, 404, "{path}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&answer["kind"], &answer["code"]),
            (&"Status".into(), &404.into())
        );
        assert!(answer["message"].as_str().unwrap().contains(part), "{body}");
    }
    let status = json(&node, "/v1/node");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&status["ready"], &status["plugins"]),
        (&true.into(), &1.into())
    );
    assert!(
        status["started"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .is_ok()
    );
    let items = json(&node, "/v1/plugins")["items"].clone();
    assert_eq!(items.as_array().unwrap().len(), 1);
    assert_eq!(items[0]["name"], "app");
}

#[test]
fn a_plugins_report_has_all_that_an_operator_asks_for() {
    let mut node = Node::new();
    let spec = |version: &str, more: &str| {
        let config = format!("{{version: {version}, contains: \"1\"{more}}}");
        node.spec("app", "fixture-logs", &config)
    };
    node.manifest("app", &spec("one", ""));
    let slow = spec("two", ", faults: [{do: sleep, at: init}]");
    let slow = slow.replace("update:", "limits: {deadline: 60s}\nupdate:");
    let crash = spec("three", ", faults: [{do: panic, marker: \"1\"}]");
    node.start();
    let digest = node.wait_running("app")["active"]["digest"].clone();
    node.append("a.log", (0..20).map(|n| n.to_string()));
    node.wait_output("app", 11);
    node.assert_accounted("app", 20);
    let report = json(&node, "/v1/plugins/local/app");
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{report:#}"));
    assert_eq!(report["phase"], "Running");
    assert_eq!(digest.as_str().unwrap().len(), 64);
    assert_eq!(report["active"]["roles"], serde_json::json!(["logs"]));
    for kind in ["Ready", "UpToDate"] {
        let condition = condition(&report, kind);
        assert_eq!(condition["status"], "True", "{kind}");
        for field in ["reason", "message"] {
            assert!(
                !condition[field].as_str().unwrap().is_empty(),
                "{kind} {field}"
            );
        }
        let time = condition["lastTransitionTime"].as_str().unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    }
    assert_eq!(number(&report["restarts"]), 0.0);
    assert!(number(&report["memoryBytes"]) > 65536.0);
    assert!(number(&report["cpuSeconds"]) > 0.0);
    assert!(number(&report["calls"]) >= 4.0);
    let latency = &report["latency"];
    assert!(number(&latency["count"]) >= 1.0);
    let quantiles = ["p50Seconds", "p90Seconds", "p99Seconds"].map(|name| number(&latency[name]));
    assert!(quantiles[0] > 0.0 && quantiles.is_sorted(), "{latency}");
    let logs = &report["logs"];
    assert_eq!(logs["lines"]["read"], 20);
    assert_eq!(logs["lines"]["acknowledged"], 11);
    assert_eq!(logs["lines"]["filtered"], 9);
    // Ten numbers of one digit and ten of two, and line feeds.
    assert_eq!(logs["bytes"]["read"], 50);
    assert_eq!(logs["lag"]["bytes"], 0);
    assert_eq!(number(&logs["lag"]["seconds"]), 0.0);
    let destination = &logs["destinations"][0];
    assert_eq!(destination["name"], "out");
    assert_eq!(destination["kind"], "file");
    assert_eq!(destination["state"], "Healthy");
    assert_eq!(destination["lines"], 11);
    let shipped = std::fs::metadata(node.path("out-app")).unwrap().len();
    assert_eq!(destination["bytes"], shipped);

    // A candidate that takes its time is shown with its digest.
    node.manifest("app", &slow);
    let candidate = node.wait_plugin("app", "a candidate", |report| {
        !report["candidate"].is_null()
    });
    assert_eq!(candidate["candidate"], digest);
    assert_eq!(candidate["phase"], "Running");
    // Restarts have a cause.
    node.manifest("app", &crash);
    node.wait_plugin("app", "past its probation", |report| {
        report["updates"] == 1 && report["probation"] == false
    });
    node.append("a.log", ["1".to_owned()]);
    let report = node.wait_plugin("app", "a restart", |report| report["restarts"] == 1);
    assert_eq!(report["lastFailure"]["cause"], "Trap");
    assert_eq!(report["lastFailure"]["call"], "logs.process");
    let time = report["lastFailureTime"].as_str().unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok());

    let said = node.journal("app");
    assert_eq!(said["dropped"], 0);
    let panicked = |entry: &Value| {
        assert!(
            entry["time"]
                .as_str()
                .unwrap()
                .parse::<jiff::Timestamp>()
                .is_ok()
        );
        entry["target"] == "stderr" && entry["message"].as_str().unwrap().contains("fixture panic")
    };
    assert!(
        said["items"].as_array().unwrap().iter().any(panicked),
        "{said:#}"
    );
}

#[test]
fn metrics_are_sound_and_count_what_the_report_counts() {
    let mut node = Node::new();
    node.manifest(
        "app",
        &node.spec("app", "fixture-logs", "{contains: \"1\"}"),
    );
    node.manifest("refused", "module: {bundled: none}");
    let quiet = node.spec("quiet", "fixture-logs", "{}");
    node.manifest("quiet", &quiet.replace("module:", "suspend: true\nmodule:"));
    node.start();
    node.wait_running("app");
    node.append("a.log", (0..20).map(|n| n.to_string()));
    node.wait_output("app", 11);
    node.assert_accounted("app", 20);
    let (code, head, text) = node.request("GET", "/metrics").unwrap();
    assert_eq!(code, 200);
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let page = Page::read(&text);
    assert!(page.families.len() > 15);
    assert_eq!(page.series["bulkhead_ready"], 1.0);
    assert_eq!(page.of_app("bulkhead_plugin_ready", ""), 1.0);
    let refused = "bulkhead_plugin_ready{namespace=\"local\",name=\"refused\"}";
    assert_eq!(page.series[refused], 0.0);
    let suspended = |name: &str| {
        let series = format!("bulkhead_plugin_suspended{{namespace=\"local\",name=\"{name}\"}}");
        page.series[&series]
    };
    assert_eq!(["app", "refused", "quiet"].map(suspended), [0.0, 0.0, 1.0]);
    assert_eq!(page.series["bulkhead_node_problems"], 0.0);
    assert_eq!(page.of_app("bulkhead_logs_read_lines_total", ""), 20.0);
    assert_eq!(page.of_app("bulkhead_logs_read_bytes_total", ""), 50.0);
    let outcomes = [
        ("acknowledged", 11.0),
        ("filtered", 9.0),
        ("dead-lettered", 0.0),
    ];
    for (outcome, count) in outcomes {
        let label = format!(",outcome=\"{outcome}\"");
        assert_eq!(page.of_app("bulkhead_logs_lines_total", &label), count);
    }
    let report = node.plugin("app").unwrap();
    let destination = &report["logs"]["destinations"][0];
    for (family, field) in [
        ("bulkhead_logs_destination_lines_total", "lines"),
        ("bulkhead_logs_destination_bytes_total", "bytes"),
        ("bulkhead_logs_destination_requests_total", "requests"),
        ("bulkhead_logs_destination_retries_total", "retries"),
        (
            "bulkhead_logs_destination_dead_lettered_lines_total",
            "deadLettered",
        ),
        ("bulkhead_logs_destination_waiting_parcels", "waiting"),
    ] {
        let value = page.of_app(family, ",destination=\"out\"");
        assert_eq!(Some(value), destination[field].as_f64(), "{family}");
    }
    assert!(
        page.of_app(
            "bulkhead_logs_destination_bytes_total",
            ",destination=\"out\""
        ) > 0.0
    );
    let healthy = page.of_app("bulkhead_logs_destination_healthy", ",destination=\"out\"");
    assert_eq!(healthy, 1.0);
}

#[test]
fn ready_means_that_every_plugin_has_been_tried() {
    let mut node = Node::new();
    let config = "{faults: [{do: sleep, at: init}]}";
    let slow = node.spec("slow", "fixture-logs", config);
    let slow = slow.replace("update:", "limits: {deadline: 60s}\nupdate:");
    node.manifest("slow", &slow);
    node.manifest("app", &node.spec("app", "fixture-logs", "{}"));
    node.start();
    node.wait_running("app");
    let (code, body) = node.get("/readyz").unwrap();
    assert_eq!((code, body.as_str()), (503, "still loading: local/slow\n"));
    assert_eq!(node.get("/healthz").unwrap(), (200, "ok\n".into()));
    assert_eq!(
        json(&node, "/v1/node")["notReady"],
        "still loading: local/slow"
    );
    let page = Page::read(&node.get("/metrics").unwrap().1);
    assert_eq!(page.series["bulkhead_ready"], 0.0);
    assert_eq!(node.plugin("slow").unwrap()["phase"], "Pending");
    node.manifest("slow", &format!("suspend: true\n{slow}"));
    wait_for("ready", || (node.get("/readyz")?.0 == 200).then_some(()));
    assert_eq!(node.get("/readyz").unwrap().1, "ready\n");
}

#[test]
fn it_answers_while_guests_spin_on_every_core() {
    let mut node = Node::new();
    let cores = std::thread::available_parallelism().unwrap().get();
    let names: Vec<String> = (0..2 * cores + 2).map(|n| format!("spin-{n}")).collect();
    for name in &names {
        let spec = node.spec(name, "fixture-logs", "{faults: [{do: loop}]}");
        node.manifest(
            name,
            &spec.replace("update:", "limits: {deadline: 60s}\nupdate:"),
        );
    }
    node.start();
    for name in &names {
        node.wait_running(name);
    }
    node.append("a.log", ["x".to_owned()]);
    for name in &names {
        node.wait_plugin(name, "spinning", |report| {
            report["cpuSeconds"].as_f64() > Some(0.1)
        });
    }
    // None of them is over: the deadline is as long as a test waits at all.
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/node",
        "/v1/plugins",
        "/v1/plugins/local/spin-0",
    ] {
        assert_eq!(node.get(path).unwrap().0, 200, "{path}");
    }
    let items = json(&node, "/v1/plugins")["items"].clone();
    assert!(
        items
            .as_array()
            .unwrap()
            .iter()
            .all(|plugin| plugin["restarts"] == 0)
    );
}

#[test]
fn records_of_the_crates_log_and_tracing_come_with_their_fields() {
    let mut node = Node::new();
    node.append("a.log", numbered("line", 0..3));
    node.manifest("app", &node.spec("app", "fixture-facades", "{}"));
    node.start();
    node.wait_output("app", 3);
    let journal = node.journal("app");
    let records = journal["items"].as_array().unwrap();
    let told = |part: &str| {
        let mut found = records.iter();
        let found = found.find(|record| record["message"].as_str().unwrap().contains(part));
        let found = found.unwrap_or_else(|| panic!("{part:?} is not in {records:#?}"));
        let fields = format!("{{{}}}", found["fields"].as_str().unwrap());
        let fields: Value = serde_json::from_str(&fields).unwrap();
        (found["level"].clone(), fields)
    };
    let (level, fields) = told("through log");
    assert_eq!(level, "info");
    assert!(fields["lines"].is_number(), "{fields:#}");
    let (level, fields) = told("through tracing");
    assert_eq!(level, "error");
    assert_eq!(
        (&fields["kind"], &fields["span"]),
        (&"sad".into(), &"batch".into())
    );
    assert!(fields["lines"].is_number(), "{fields:#}");
    // `logLevel` is `info`.
    let silent = records.iter().all(|record| record["level"] != "debug");
    assert!(silent, "{records:#?}");
}
