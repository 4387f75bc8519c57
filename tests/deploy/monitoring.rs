//! That alerts and the dashboard ask for what the daemon exports, and alerts lead to a runbook.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::{Value, json};

use super::cluster::NAMESPACE;
use super::helm::{chart, kustomize, read};
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
