//! A daemon whose manifests are ConfigMaps.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::support::{Node, PATIENCE, wait_for};
use super::{Cluster, NAMESPACE, SERVICE_ACCOUNT};

/// A daemon with a namespace and a Node of its own.
pub struct Rig {
    pub node: Node,
    pub cluster: Arc<Cluster>,
    pub namespace: String,
    pub node_name: String,
}

impl Rig {
    pub fn new(cluster: Arc<Cluster>) -> Self {
        let namespace = cluster.own_namespace();
        let node_name = format!("node-of-{namespace}");
        Self::on(cluster, namespace, node_name)
    }

    /// Another node with the same manifests.
    pub fn beside(&self, index: u64) -> Self {
        let node_name = format!("{}-{index}", self.node_name);
        Self::on(self.cluster.clone(), self.namespace.clone(), node_name)
    }

    fn on(cluster: Arc<Cluster>, namespace: String, node_name: String) -> Self {
        let mut node = Node::new();
        let object = json!({"metadata": {"name": node_name, "labels": {"zone": "a"}}});
        cluster.create("/api/v1/nodes", &object);
        let folder = node.folder.path();
        let kubeconfig = cluster.kubeconfig(folder, NAMESPACE, SERVICE_ACCOUNT);
        node.source = [
            "--kubernetes",
            "--namespace",
            &namespace,
            "--node-name",
            &node_name,
            "--status-auth",
            "none",
            "--kubeconfig",
            kubeconfig.to_str().unwrap(),
        ]
        .map(str::to_owned)
        .into();
        Self {
            node,
            cluster,
            namespace,
            node_name,
        }
    }

    pub fn path(&self, name: &str) -> String {
        format!("/api/v1/namespaces/{}/configmaps/{name}", self.namespace)
    }

    pub fn node_path(&self) -> String {
        format!("/api/v1/nodes/{}", self.node_name)
    }

    /// Makes a ConfigMap, or puts another one in its place.
    pub fn put(&self, namespace: &str, mut object: Value) {
        let collection = format!("/api/v1/namespaces/{namespace}/configmaps");
        let path = format!(
            "{collection}/{}",
            object["metadata"]["name"].as_str().unwrap()
        );
        let (code, found) = self.cluster.request("GET", &path, None);
        if code == 404 {
            self.cluster.create(&collection, &object);
            return;
        }
        object["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"].clone();
        let (code, answer) = self.cluster.request("PUT", &path, Some(&object));
        assert_eq!(code, 200, "{answer:#}");
    }

    /// Declares a plugin.
    pub fn apply(&self, name: &str, spec: &str) {
        self.put(&self.namespace, manifest(name, spec));
    }

    pub fn policy(&self, text: &str) {
        let text = format!("apiVersion: bulkhead.dev/v1alpha1\nkind: Policy\n{text}");
        let object =
            json!({"metadata": {"name": "bulkhead-policy"}, "data": {"policy.yaml": text}});
        self.put(&self.namespace, object);
    }

    /// A spec that ships to the file of its name.
    pub fn spec(&self, name: &str) -> String {
        self.node.spec(name, "fixture-logs", "{}")
    }

    pub fn plugin(&self, name: &str) -> Option<Value> {
        self.plugin_of(&self.namespace, name)
    }

    pub fn plugin_of(&self, namespace: &str, name: &str) -> Option<Value> {
        let (code, body) = self.node.get(&format!("/v1/plugins/{namespace}/{name}"))?;
        (code == 200).then(|| serde_json::from_str(&body).unwrap())
    }

    pub fn wait(&self, name: &str, what: &str, check: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let begin = std::time::Instant::now();
        loop {
            if let Some(report) = self.plugin(name) {
                if check(&report) {
                    return report;
                }
                last = report;
            }
            let log = || self.node.daemon_log();
            let late = begin.elapsed() > PATIENCE;
            assert!(
                !late,
                "waited in vain for {name}: {what}\n{last:#}\n{}",
                log()
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    pub fn wait_running(&self, name: &str) -> Value {
        self.wait(name, "Running", |report| report["phase"] == "Running")
    }

    pub fn wait_gone(&self, name: &str) {
        wait_for("the plugin to be gone", || {
            self.plugin(name).is_none().then_some(())
        });
    }

    pub fn node_report(&self) -> Value {
        let (_, body) = self.node.get("/v1/node").unwrap();
        serde_json::from_str(&body).unwrap()
    }

    pub fn wait_problem(&self, text: &str) -> String {
        wait_for(text, || {
            let report = self.node_report();
            let problems = report["problems"].as_array()?.iter();
            let mut problems = problems.filter_map(Value::as_str);
            problems
                .find(|problem| problem.contains(text))
                .map(str::to_owned)
        })
    }

    pub fn wait_no_problem(&self) {
        wait_for("no problem", || {
            self.node_report()["problems"]
                .as_array()?
                .is_empty()
                .then_some(())
        });
    }
}

pub fn manifest(name: &str, spec: &str) -> Value {
    let text = format!("apiVersion: bulkhead.dev/v1alpha1\nkind: Plugin\n{spec}");
    json!({
        "metadata": {"name": name, "labels": {"bulkhead.dev/plugin": "true"}},
        "data": {"plugin.yaml": text},
    })
}
