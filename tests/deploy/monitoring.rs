//! That alerts and the dashboard ask for what the daemon exports, and alerts lead to a runbook.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use regex::Regex;
use serde_json::{Value, json};

use super::assert_same;
use super::cluster::NAMESPACE;
use super::helm::{chart, knows_components, kustomize, project, read};
use super::support::book::Page;
use super::support::{Node, fixture_file, wait_for};

/// The names of families and the labels that their series have, of a daemon with a plugin of each role, of which
/// one has a destination with a queue.
fn exported() -> BTreeMap<String, BTreeSet<String>> {
    let mut node = Node::new();
    let destination = format!(
        "file: {{path: {:?}}}\n    queue: {{path: {:?}, maxSize: 16Mi}}",
        node.path("out-app"),
        node.path("queue"),
    );
    std::fs::create_dir(node.path("queue")).unwrap();
    node.manifest("app", &node.spec_to("fixture-logs", "{}", &destination));
    let measures = fixture_file("fixture-metrics");
    node.manifest(
        "measures",
        &format!(
            "module:\n  {measures}\nconfig: {{collectors: [{{name: a}}]}}\n\
             metrics: {{remoteWrite: [{{name: far, url: 'http://127.0.0.1:9/'}}]}}\n"
        ),
    );
    let plans = fixture_file("fixture-enforcement");
    node.manifest("plans", &format!("module:\n  {plans}\nconfig: {{}}\n"));
    std::fs::create_dir(node.path("scanned")).unwrap();
    std::fs::write(node.path("scanned/bad"), "bad").unwrap();
    node.manifest(
        "scans",
        &format!(
            "module: {{bundled: security-scanner}}\n\
             config: {{signatures: {{yara: [{{name: a, text: 'rule a {{ strings: $a = \"bad\" condition: $a }}'}}]}}}}\n\
             grants: {{state: {{quota: 1Mi}}, scan: {{files: [{:?}]}}}}\n\
             scanning: {{budget: {{yieldToPressure: false}}, destinations: [{{name: far, http: {{url: 'http://127.0.0.1:9/'}}}}]}}\n",
            node.path("scanned"),
        ),
    );
    node.start();
    for plugin in ["app", "measures", "plans", "scans"] {
        node.wait_running(plugin);
    }
    node.append("a.log", ["line".to_owned()]);
    // How long work took is known after the first.
    let page = wait_for("a piece of work", || {
        let (_, page) = node.get("/metrics")?;
        let all = [
            "quantile=",
            "last_check_timestamp_seconds{",
            "scanning_findings{",
            "last_pass_complete{",
        ];
        all.iter().all(|it| page.contains(it)).then_some(page)
    });
    let names = Regex::new("([a-z_]+)=\"").unwrap();
    let mut exported: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let labels = exported.entry(name.to_owned()).or_default();
        labels.extend(names.captures_iter(line).map(|label| label[1].to_owned()));
    }
    exported
}

/// Every text under a key, anywhere in a value.
fn texts<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| texts(item, key, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == key => found.push(text),
                    value => texts(value, key, found),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn alerts_and_dashboard_ask_for_what_the_daemon_exports() {
    let exported = exported();
    let rule: Value =
        serde_saphyr::from_str(&read("deploy/monitoring/prometheusrule.yaml")).unwrap();
    let dashboard: Value = serde_json::from_str(&read("deploy/monitoring/dashboard.json")).unwrap();
    let mut asked = Vec::new();
    texts(&rule, "expr", &mut asked);
    assert_eq!(
        asked.len(),
        rule["spec"]["groups"][0]["rules"].as_array().unwrap().len()
    );
    texts(&dashboard, "expr", &mut asked);
    texts(&dashboard, "definition", &mut asked);
    let names = Regex::new(r"bulkhead_[a-z_]+").unwrap();
    let matchers = Regex::new(r"\{([^}]*)\}").unwrap();
    let matched = Regex::new(r"([a-z_]+)=").unwrap();
    let grouped = Regex::new(r"by \(([^)]*)\)").unwrap();
    let mut families = BTreeSet::new();
    for expression in asked {
        let mut labels = BTreeSet::new();
        for series in matchers.captures_iter(expression) {
            let names = matched.captures_iter(series.get(1).unwrap().as_str());
            labels.extend(names.map(|name| name.get(1).unwrap().as_str()));
        }
        for group in grouped.captures_iter(expression) {
            labels.extend(group.get(1).unwrap().as_str().split(", "));
        }
        // Prometheus adds it.
        labels.remove("instance");
        for name in names.find_iter(expression).map(|name| name.as_str()) {
            let has = exported.get(name);
            let has = has.unwrap_or_else(|| panic!("nobody exports {name}: {expression}"));
            let lacks = labels.iter().find(|label| !has.contains(**label));
            assert!(lacks.is_none(), "{name} has no {lacks:?}: {expression}");
            families.insert(name);
        }
    }
    assert!(families.len() > 25, "few are asked for: {families:?}");
}

#[test]
fn every_alert_says_where_its_runbook_is() {
    let prefix = "https://git.example/bulkhead/";
    let values = json!({"prometheusRule": {"enabled": true, "runbookUrlPrefix": prefix}});
    let made = chart(NAMESPACE, &values);
    let rule = &made[&format!("PrometheusRule {NAMESPACE} bulkhead")];
    let runbooks = read("docs/runbooks.md");
    let mut headings: BTreeSet<&str> = runbooks
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    for rule in rule["spec"]["groups"][0]["rules"].as_array().unwrap() {
        let name = rule["alert"].as_str().unwrap();
        let link = format!("{prefix}docs/runbooks.md#{}", name.to_ascii_lowercase());
        assert_eq!(rule["annotations"]["runbook_url"], link.as_str(), "{name}");
        assert!(headings.remove(name), "docs/runbooks.md has no {name}");
    }
    assert!(headings.is_empty(), "of no alert: {headings:?}");
}

/// What a Prometheus without an operator is given does the same as the PodMonitor.
#[test]
fn the_scrape_configuration_is_the_pod_monitor() {
    let monitor = &kustomize("deploy/monitoring")[&format!("PodMonitor {NAMESPACE} bulkhead")];
    let text = read("deploy/monitoring/scrape-config.yaml");
    let jobs: Vec<Value> = serde_saphyr::from_str(&text).unwrap();
    let endpoints = monitor["spec"]["podMetricsEndpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), jobs.len());
    for (endpoint, job) in endpoints.iter().zip(&jobs) {
        assert_eq!(endpoint["path"], job["metrics_path"]);
        assert_eq!(endpoint["scheme"], job["scheme"]);
        let honors = job["honor_labels"].as_bool().unwrap_or_default();
        assert_eq!(endpoint["honorLabels"], honors, "{job:#}");
        let name = &endpoint["tlsConfig"]["serverName"];
        assert_eq!(name, &job["tls_config"]["server_name"]);
        let relabelings = endpoint["relabelings"].as_array().unwrap();
        let replaced = relabelings.iter().find(|one| one["targetLabel"] == "job");
        // Otherwise the label of the pods that `jobLabel` names.
        let name = replaced.map_or(json!("bulkhead"), |one| one["replacement"].clone());
        assert_eq!(name, job["job_name"]);
        let selected = &monitor["spec"]["selector"]["matchLabels"];
        let selector = &job["kubernetes_sd_configs"][0]["selectors"][0]["label"];
        assert_eq!(selected, &json!({"app.kubernetes.io/name": "bulkhead"}));
        assert_eq!(selector, "app.kubernetes.io/name=bulkhead");
    }
}

/// What `deploy/README.md` tells to write for a cluster that is monitored, as kustomization and as values.
#[test]
fn what_the_readme_says_of_monitoring_is_what_scrapes() {
    if !knows_components() {
        return eprintln!("NOT RUN: deploy/kustomize/monitored, which takes kubectl 1.22 or later");
    }
    let page = Page::read("deploy/README.md");
    let blocks = page.blocks();
    let block = |start: &str| {
        let all = || blocks.iter().filter(|block| block.heading == "Monitoring");
        let block = all().find(|block| block.text.starts_with(start));
        block.unwrap_or_else(|| panic!("none begins with {start}"))
    };
    let folder = tempfile::tempdir().unwrap();
    // kustomize takes no absolute paths.
    let project = project("").canonicalize().unwrap();
    let project = format!("{}{}", "../".repeat(20), project.display());
    let text = block("resources:").text.replace("https://...", &project);
    fs::write(folder.path().join("kustomization.yaml"), text).unwrap();
    let made = kustomize(folder.path().to_str().unwrap());

    let mut values: Value = serde_saphyr::from_str(&block("image:").text).unwrap();
    values["namespace"] = json!({"create": true});
    assert_same(&made, &chart(NAMESPACE, &values));

    // The Secret that Prometheus trusts is the one that the daemon shows.
    let pod = &made[&format!("DaemonSet {NAMESPACE} bulkhead")]["spec"]["template"]["spec"];
    let volumes = pod["volumes"].as_array().unwrap();
    let shown = volumes.iter().find(|one| one["name"] == "status-tls");
    let monitor = &made[&format!("PodMonitor {NAMESPACE} bulkhead")];
    let trusted = &monitor["spec"]["podMetricsEndpoints"][0]["tlsConfig"]["ca"]["secret"];
    assert_eq!(shown.unwrap()["secret"]["secretName"], trusted["name"]);
}

/// Prometheus' own tool, in a folder.
fn promtool(folder: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("promtool")
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("promtool is part of Debian's package prometheus, which `make setup` installs");
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    output.status.success().then_some(()).ok_or(said)
}

#[test]
fn prometheus_takes_the_alerts_and_the_scrape_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &Value| {
        fs::write(folder.path().join(name), value.to_string()).unwrap();
    };
    let rule: Value =
        serde_saphyr::from_str(&read("deploy/monitoring/prometheusrule.yaml")).unwrap();
    write("rules.yaml", &rule["spec"]);
    promtool(folder.path(), &["check", "rules", "rules.yaml"]).unwrap();

    let text = read("deploy/monitoring/scrape-config.yaml");
    let mut jobs: Value = serde_saphyr::from_str(&text).unwrap();
    for job in jobs.as_array_mut().unwrap() {
        // Debian's Prometheus is built without it.
        let discovery = job.as_object_mut().unwrap().remove("kubernetes_sd_configs");
        assert_eq!(discovery.unwrap()[0]["role"], "pod");
    }
    let check = |jobs: &Value| {
        write("prometheus.yaml", &json!({"scrape_configs": jobs}));
        // The files of its credentials are not here.
        let arguments = ["check", "config", "--syntax-only", "prometheus.yaml"];
        promtool(folder.path(), &arguments)
    };
    check(&jobs).unwrap();
    // It would not take everything.
    jobs[0]["relabel_configs"][0]["action"] = json!("kept");
    assert!(check(&jobs).unwrap_err().contains("kept"));
}

/// Has Prometheus evaluate the alerts on series of a value a minute, and compare when which comes.
fn alerts_come(tests: &Value) {
    let text = read("deploy/monitoring/prometheusrule.yaml");
    let rule: Value = serde_saphyr::from_str(&text).unwrap();
    let tests = json!({"rule_files": ["rules.yaml"], "tests": tests});
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in [("rules.yaml", &rule["spec"]), ("tests.yaml", &tests)] {
        fs::write(folder.path().join(name), value.to_string()).unwrap();
    }
    promtool(folder.path(), &["test", "rules", "tests.yaml"]).unwrap();
}

/// A daemon that does not answer is told by its node's name, and that there is none at all.
#[test]
fn an_alert_comes_when_the_daemon_is_gone() {
    let link = "docs/runbooks.md#bulkheaddown";
    let alert = |node: Option<&str>, summary: &str| {
        let mut labels = json!({"job": "bulkhead", "severity": "critical"});
        if let Some(node) = node {
            labels["instance"] = json!(node);
        }
        let annotations = json!({"summary": summary, "runbook_url": link});
        json!({"exp_labels": labels, "exp_annotations": annotations})
    };
    let at = |time: &str, alerts: Value| json!({"eval_time": time, "alertname": "BulkheadDown", "exp_alerts": alerts});
    let series =
        |labels: &str, values: &str| json!({"series": format!("up{{{labels}}}"), "values": values});
    let one = alert(Some("b"), "The daemon on b does not answer Prometheus.");
    let none = alert(None, "Prometheus knows of no daemon on any node.");
    alerts_come(&json!([
        {
            "interval": "1m",
            "input_series": [
                series("job=\"bulkhead\", instance=\"a\"", "1x30"),
                series("job=\"bulkhead\", instance=\"b\"", "1x9 0x20"),
                // Of plugins' metrics, from the same daemon.
                series("job=\"node-exporter\", instance=\"b\"", "1x9 0x20"),
            ],
            "alert_rule_test": [at("14m", json!([])), at("16m", json!([one]))],
        },
        {
            "interval": "1m",
            "input_series": [series("job=\"other\", instance=\"a\"", "1x30")],
            "alert_rule_test": [at("4m", json!([])), at("6m", json!([none]))],
        },
    ]));
}

#[test]
fn no_alert_comes_of_plugins_that_are_suspended_on_purpose() {
    let series = |family: &str, name: &str, values: &str| {
        let labels = format!("instance=\"a\", namespace=\"apps\", name=\"{name}\"");
        json!({"series": format!("{family}{{{labels}}}"), "values": values})
    };
    let expected =
        json!({"instance": "a", "namespace": "apps", "name": "fails", "severity": "warning"});
    let annotations = json!({
        "summary": "Plugin apps/fails does not work on a.",
        "runbook_url": "docs/runbooks.md#bulkheadplugindown",
    });
    let alert = json!({"exp_labels": expected, "exp_annotations": annotations});
    alerts_come(&json!([{
        "interval": "1m",
        "input_series": [
            series("bulkhead_plugin_ready", "fails", "0x30"),
            series("bulkhead_plugin_suspended", "fails", "0x30"),
            series("bulkhead_plugin_ready", "rests", "0x30"),
            series("bulkhead_plugin_suspended", "rests", "1x30"),
            series("bulkhead_plugin_ready", "works", "1x30"),
            series("bulkhead_plugin_suspended", "works", "0x30"),
        ],
        "alert_rule_test": [
            {"eval_time": "11m", "alertname": "BulkheadPluginDown", "exp_alerts": [alert]},
        ],
    }]));
}
