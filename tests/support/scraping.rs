//! What `deploy/monitoring` has a Prometheus scrape, of a daemon that a test has started: Prometheus is told what
//! its discovery of pods would have found, and there is no TLS. All else is as it is shipped.

#![allow(unreachable_pub, reason = "as in support/mod.rs")]

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Map, Value, json};

/// A file of that folder: its YAML documents.
fn read(name: &str) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring");
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

/// What discovery finds: a target for each port of a pod, of which one is the daemon.
fn found(daemon: SocketAddr, node: &str) -> Value {
    let target = |address: &str, port: &str| {
        json!({
            "targets": [address],
            "labels": {
                "__meta_kubernetes_namespace": "bulkhead-system",
                "__meta_kubernetes_pod_name": "bulkhead-abcde",
                "__meta_kubernetes_pod_label_app_kubernetes_io_name": "bulkhead",
                "__meta_kubernetes_pod_node_name": node,
                "__meta_kubernetes_pod_container_port_name": port,
            },
        })
    };
    json!([
        target(&daemon.to_string(), "status"),
        target("127.0.0.1:1", "another")
    ])
}

/// The jobs of `scrape-config.yaml`.
pub fn by_file(daemon: SocketAddr, node: &str) -> Vec<Value> {
    let mut jobs = read("scrape-config.yaml").remove(0);
    let jobs = jobs.as_array_mut().unwrap();
    for job in &mut *jobs {
        let job = job.as_object_mut().unwrap();
        for removed in ["kubernetes_sd_configs", "authorization", "tls_config"] {
            assert!(job.remove(removed).is_some(), "{removed}: {job:#?}");
        }
        job.insert("scheme".to_owned(), json!("http"));
        job.insert("static_configs".to_owned(), found(daemon, node));
    }
    std::mem::take(jobs)
}

/// The jobs that the Prometheus operator makes of `podmonitor.yaml`, by its documentation.
pub fn by_monitor(daemon: SocketAddr, node: &str) -> Vec<Value> {
    let monitor = read("podmonitor.yaml").remove(0);
    let spec = &monitor["spec"];
    let label = spec["jobLabel"].as_str().unwrap();
    let label = label.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let endpoints = spec["podMetricsEndpoints"].as_array().unwrap().iter();
    let job = |(index, endpoint): (usize, &Value)| {
        let mut relabelings = vec![
            json!({"action": "keep", "source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": endpoint["port"]}),
            json!({"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"}),
            json!({"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"}),
            json!({"source_labels": [format!("__meta_kubernetes_pod_label_{label}")], "target_label": "job", "regex": "(.+)"}),
        ];
        let own = endpoint["relabelings"].as_array().unwrap();
        relabelings.extend(own.iter().map(in_snake_case));
        json!({
            "job_name": format!("podMonitor/bulkhead-system/bulkhead/{index}"),
            "metrics_path": endpoint["path"],
            "honor_labels": endpoint["honorLabels"],
            "static_configs": found(daemon, node),
            "relabel_configs": relabelings,
        })
    };
    endpoints.enumerate().map(job).collect()
}

/// A relabeling of the operator's, as Prometheus itself writes it.
fn in_snake_case(relabeling: &Value) -> Value {
    let fields = relabeling.as_object().unwrap().iter();
    let fields = fields.map(|(name, value)| {
        let name = name.replace("Labels", "_labels").replace("Label", "_label");
        (name, value.clone())
    });
    Value::Object(fields.collect::<Map<_, _>>())
}

/// The alerts, as a file of rules.
pub fn alerts() -> Value {
    read("prometheusrule.yaml").remove(0)["spec"].take()
}
