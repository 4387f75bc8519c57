//! That alerts and the dashboard ask for what the daemon exports, and alerts lead to a runbook.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::{Value, json};

use super::cluster::NAMESPACE;
use super::helm::{chart, read};
use super::support::{Node, wait_for};

/// The names of families and the labels that their series have, of a daemon with a plugin whose destination has
/// a queue.
fn exported() -> BTreeMap<String, BTreeSet<String>> {
    let mut node = Node::new();
    let destination = format!(
        "file: {{path: {:?}}}\n    queue: {{path: {:?}, maxSize: 16Mi}}",
        node.path("out-app"),
        node.path("queue"),
    );
    std::fs::create_dir(node.path("queue")).unwrap();
    node.manifest("app", &node.spec_to("fixture-logs", "{}", &destination));
    node.start();
    node.wait_running("app");
    node.append("a.log", ["line".to_owned()]);
    // How long work took is known after the first.
    let page = wait_for("a piece of work", || {
        let (_, page) = node.get("/metrics")?;
        page.contains("quantile=").then_some(page)
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
    let matchers = Regex::new(r"(bulkhead_[a-z_]+)\{([^}]*)\}").unwrap();
    let label = Regex::new(r"([a-z_]+)=").unwrap();
    let mut families = BTreeSet::new();
    for expression in asked {
        for name in names.find_iter(expression) {
            assert!(
                exported.contains_key(name.as_str()),
                "nobody exports {}: {expression}",
                name.as_str()
            );
            families.insert(name.as_str());
        }
        for series in matchers.captures_iter(expression) {
            for label in label.captures_iter(&series[2]) {
                // Prometheus adds it.
                let known = &label[1] == "instance" || exported[&series[1]].contains(&label[1]);
                assert!(
                    known,
                    "{} has no label {}: {expression}",
                    &series[1], &label[1]
                );
            }
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
