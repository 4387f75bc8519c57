//! What a cluster's pods tell of their logs, against a real API server, as the ServiceAccount of
//! `deploy/`: a verb that is missing there fails these tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/cluster/mod.rs"]
mod cluster;
mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use cluster::{Cluster, NAMESPACE, SERVICE_ACCOUNT};
use serde_json::{Value, json};
use support::{Node, wait_for};

/// A node of its own in a cluster, with a namespace of its own.
struct Rig {
    node: Node,
    cluster: Arc<Cluster>,
    namespace: String,
    node_name: String,
}

impl Rig {
    fn new(cluster: Arc<Cluster>) -> Self {
        let node = Node::new();
        for folder in ["log/pods", "log/containers"] {
            fs::create_dir_all(node.path(folder)).unwrap();
        }
        let namespace = cluster.namespace();
        Self {
            node,
            node_name: format!("node-of-{namespace}"),
            cluster,
            namespace,
        }
    }

    fn start(&mut self) {
        self.start_as(NAMESPACE, SERVICE_ACCOUNT);
    }

    fn start_as(&mut self, namespace: &str, account: &str) {
        let folder = self.node.folder.path();
        let kubeconfig = self.cluster.kubeconfig(folder, namespace, account);
        let kubeconfig = kubeconfig.to_str().unwrap();
        let arguments = ["--kubeconfig", kubeconfig, "--node-name", &self.node_name];
        self.node.start_with(&arguments, &[]);
    }

    /// A manifest `app` that ships all containers' logs.
    fn manifest(&self, metadata: &str) {
        self.node.manifest("app", &spec(&self.node, metadata));
    }

    fn pods(&self) -> String {
        format!("/api/v1/namespaces/{}/pods", self.namespace)
    }

    /// Makes a pod on this node; `metadata` is added to its own. Returns its UID.
    fn pod(&self, name: &str, mut metadata: Value) -> String {
        metadata["name"] = name.into();
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {
                "nodeName": self.node_name,
                "containers": [{"name": "c", "image": "none"}],
            },
        });
        let made = self.cluster.create(&self.pods(), &pod);
        made["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// Writes a line as the runtime does for the container `c` of a pod.
    fn write(&self, pod: &str, uid: &str, text: &str) {
        self.write_to(pod, uid, "0.log", text);
    }

    fn write_to(&self, pod: &str, uid: &str, file: &str, text: &str) {
        let folder = format!("log/pods/{}_{pod}_{uid}/c", self.namespace);
        let folder = self.node.path(&folder);
        fs::create_dir_all(&folder).unwrap();
        let log = folder.join(file);
        let log = File::options().append(true).create(true).open(log);
        let mut log = log.unwrap();
        writeln!(log, "2026-01-02T03:04:05.0Z stdout F {text}").unwrap();
    }

    /// The record of the line `text`.
    fn record(&self, text: &str) -> Value {
        wait_for(text, || {
            let output = self.node.output("app");
            output.into_iter().find(|record| record["message"] == text)
        })
    }

    /// Writes lines until one comes out for which `check` holds.
    fn wait_record(&self, pod: &str, uid: &str, what: &str, check: impl Fn(&Value) -> bool) {
        let mut index = 0;
        wait_for(what, || {
            let text = format!("{what} {index}");
            index += 1;
            self.write(pod, uid, &text);
            check(&self.record(&text)).then_some(())
        });
    }

    fn node_report(&self) -> Value {
        let (_, body) = self.node.get("/v1/node").unwrap();
        serde_json::from_str(&body).unwrap()
    }

    fn without_metadata(&self) -> u64 {
        let report = self.node.plugin("app").unwrap();
        report["logs"]["files"]["withoutMetadata"].as_u64().unwrap()
    }
}

fn spec(node: &Node, metadata: &str) -> String {
    let spec = node.spec("app", "fixture-logs", "{}");
    let files = spec.lines().find(|line| line.contains("- files:")).unwrap();
    let root = node.path("log");
    let containers = format!("  - containers: {{root: {root:?}, metadata: {metadata}}}");
    spec.replace(files, &containers)
}

/// What a record has beside what the log's path tells.
fn metadata(record: &Value) -> Value {
    let of_path = [
        "time",
        "message",
        "k8s.namespace.name",
        "k8s.pod.name",
        "k8s.pod.uid",
        "k8s.container.name",
        "k8s.container.restart_count",
    ];
    let mut record = record.clone();
    let members = record.as_object_mut().unwrap();
    members.retain(|name, _| !of_path.contains(&name.as_str()));
    record
}

/// How often the daemon told of its pods.
fn told(node: &Node) -> usize {
    node.daemon_log().matches("pods are not watched").count()
}

#[test]
fn labels_annotations_and_owner_go_along() {
    let mut rig = Rig::new(Cluster::shared());
    rig.manifest(r#"{annotations: ["team*"], wait: 60s}"#);
    let uid = rig.pod(
        "web-5d4f8-x2",
        json!({
            "labels": {"app": "web", "app.kubernetes.io/name": "Web", "pod-template-hash": "5d4f8"},
            "annotations": {"team": "blue", "other": "not asked for"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f8", "uid": "1",
                "controller": true,
            }],
        }),
    );
    rig.write("web-5d4f8-x2", &uid, "first");
    rig.start();
    let expected = json!({
        "k8s.node.name": rig.node_name,
        "k8s.replicaset.name": "web-5d4f8",
        "k8s.deployment.name": "web",
        "k8s.pod.label.app": "web",
        "k8s.pod.label.app.kubernetes.io/name": "Web",
        "k8s.pod.label.pod-template-hash": "5d4f8",
        "k8s.pod.annotation.team": "blue",
    });
    assert_eq!(metadata(&rig.record("first")), expected);
    assert_eq!(rig.without_metadata(), 0);
    assert_eq!(rig.node_report()["pods"]["known"], 1);
    assert_eq!(rig.node_report()["pods"]["problem"], Value::Null);
}

#[test]
fn a_change_of_a_pod_is_seen_and_a_deleted_one_is_remembered() {
    let mut rig = Rig::new(Cluster::shared());
    rig.manifest("{labels: [stage], owner: false, wait: 60s}");
    let labels = |stage: &str| json!({"labels": {"stage": stage, "other": "x"}});
    let uid = rig.pod("db-0", labels("canary"));
    rig.write("db-0", &uid, "first");
    rig.start();
    let name = "k8s.pod.label.stage";
    assert_eq!(rig.record("first")[name], "canary");
    let path = format!("{}/db-0", rig.pods());
    rig.cluster
        .patch(&path, &json!({"metadata": labels("stable")}));
    rig.wait_record("db-0", &uid, "stable", |record| record[name] == "stable");
    rig.cluster.delete(&path);
    wait_for("the pod to be gone", || {
        (rig.node_report()["pods"]["known"] == 0).then_some(())
    });
    // A log that nobody has read before, of a pod that is deleted.
    rig.write_to("db-0", &uid, "1.log", "last words");
    let last = rig.record("last words");
    let expected = json!({"k8s.node.name": rig.node_name, name: "stable"});
    assert_eq!(metadata(&last), expected);
    // And another pod of the same name.
    let new = rig.pod("db-0", labels("new"));
    rig.write("db-0", &new, "new pod");
    assert_eq!(rig.record("new pod")[name], "new");
    rig.write_to("db-0", &uid, "1.log", "very last words");
    assert_eq!(rig.record("very last words")[name], "stable");
    // All of it by the watch; without the verb there would be lists, and a complaint.
    assert_eq!(told(&rig.node), 0, "{}", rig.node.daemon_log());
}

#[test]
fn a_new_log_waits_for_its_pod_but_not_for_ever() {
    let mut rig = Rig::new(Cluster::shared());
    rig.manifest("{wait: 60s}");
    rig.start();
    rig.node.wait_running("app");
    // The API server chooses UIDs, but a link that leads past `pods` tells none.
    let log = rig.node.path("elsewhere.log");
    let line = "2026-01-02T03:04:05.0Z stdout F before its pod\n";
    fs::write(&log, line).unwrap();
    let link = format!("log/containers/late_{}_c-0123.log", rig.namespace);
    symlink(&log, rig.node.path(&link)).unwrap();
    let waits = rig.node.wait_plugin("app", "a log that waits", |report| {
        report["logs"]["files"]["watched"] == 1 && report["logs"]["lag"]["bytes"] != 0
    });
    assert_eq!(waits["logs"]["lines"]["read"], 0);
    rig.pod("late", json!({"labels": {"app": "late"}}));
    let record = rig.record("before its pod");
    assert_eq!(record["k8s.pod.label.app"], "late");
    assert_eq!(rig.without_metadata(), 0);

    rig.manifest("{wait: 200ms}");
    rig.write("nobody", "1f2e", "of no pod");
    let expected = json!({"k8s.node.name": rig.node_name});
    assert_eq!(metadata(&rig.record("of no pod")), expected);
    assert_eq!(rig.without_metadata(), 1);
    let (_, page) = rig.node.get("/metrics").unwrap();
    let metric = "bulkhead_logs_files_without_metadata_total{namespace=\"local\",name=\"app\"} 1";
    assert!(page.contains(metric), "{page}");
}

#[test]
fn an_api_server_that_is_away_delays_nothing() {
    let cluster = Arc::new(Cluster::start());
    let mut rig = Rig::new(cluster.clone());
    rig.manifest("{wait: 100ms}");
    let uid = rig.pod("web", json!({"labels": {"stage": "one"}}));
    let name = "k8s.pod.label.stage";
    let folder = rig.node.folder.path();
    let kubeconfig = cluster.kubeconfig(folder, NAMESPACE, SERVICE_ACCOUNT);
    cluster.stop_server();
    let kubeconfig = kubeconfig.to_str().unwrap();
    let arguments = ["--kubeconfig", kubeconfig, "--node-name", &rig.node_name];
    rig.node.start_with(&arguments, &[]);
    rig.node.wait_running("app");
    assert_eq!(rig.node.get("/healthz").unwrap().0, 200);
    assert_eq!(rig.node.get("/readyz").unwrap().0, 200);
    rig.write("web", &uid, "nobody home");
    assert_eq!(rig.record("nobody home")[name], Value::Null);
    wait_for("the daemon to tell", || {
        let problem = rig.node_report()["pods"]["problem"].clone();
        problem
            .as_str()
            .is_some_and(|text| text.contains("onnect"))
            .then_some(())
    });
    cluster.start_server();
    rig.wait_record("web", &uid, "one", |record| record[name] == "one");
    wait_for("the daemon to be content", || {
        rig.node_report()["pods"]["problem"].is_null().then_some(())
    });
    // Away for a while: lines go on with what is known, and catch up after.
    cluster.stop_server();
    rig.write("web", &uid, "meanwhile");
    assert_eq!(rig.record("meanwhile")[name], "one");
    cluster.start_server();
    let stage = json!({"metadata": {"labels": {"stage": "two"}}});
    cluster.patch(&format!("{}/web", rig.pods()), &stage);
    rig.wait_record("web", &uid, "two", |record| record[name] == "two");
    let outages = 2;
    assert!(told(&rig.node) <= outages, "{}", rig.node.daemon_log());
    assert!(rig.node.stop().success());
}

#[test]
fn a_missing_right_is_told_once_with_its_remedy() {
    let mut rig = Rig::new(Cluster::shared());
    rig.manifest("{wait: 100ms}");
    let accounts = format!("/api/v1/namespaces/{}/serviceaccounts", rig.namespace);
    let account = json!({"metadata": {"name": "powerless"}});
    rig.cluster.create(&accounts, &account);
    let namespace = rig.namespace.clone();
    rig.start_as(&namespace, "powerless");
    let problem = wait_for("the daemon to tell", || {
        let report = rig.node_report();
        Some(report["pods"]["problem"].as_str()?.to_owned())
    });
    assert!(
        problem.contains("needs the verbs list and watch on pods"),
        "{problem}"
    );
    rig.write("web", "1f2e", "goes on");
    rig.record("goes on");
    let log = rig.node.daemon_log();
    assert_eq!(told(&rig.node), 1, "{log}");
    assert_eq!(log.matches("forbidden").count(), 1, "{log}");
}

#[test]
fn nothing_is_watched_that_nobody_asks_for() {
    let mut rig = Rig::new(Cluster::shared());
    let without = spec(&rig.node, "{}").replace(", metadata: {}", "");
    rig.node.manifest("app", &without);
    let uid = rig.pod("web", json!({"labels": {"app": "web"}}));
    rig.start();
    rig.node.wait_running("app");
    rig.write("web", &uid, "alone");
    assert_eq!(metadata(&rig.record("alone")), json!({}));
    assert_eq!(rig.node_report()["pods"]["known"], 0);
    rig.manifest("{wait: 60s}");
    rig.node.wait_plugin("app", "the change", |report| {
        report["updates"].as_u64() == Some(1)
    });
    rig.wait_record("web", &uid, "asked", |record| {
        record["k8s.pod.label.app"] == "web"
    });
    assert_eq!(rig.node_report()["pods"]["known"], 1);
}

#[test]
fn without_a_cluster_there_is_nothing_and_nothing_is_said() {
    let mut node = Node::new();
    fs::create_dir_all(node.path("log/pods/shop_web-0_1f2e/c")).unwrap();
    let log = node.path("log/pods/shop_web-0_1f2e/c/0.log");
    fs::write(log, "2026-01-02T03:04:05.0Z stdout F alone\n").unwrap();
    node.manifest("app", &spec(&node, "{wait: 60s}"));
    node.start();
    let output = node.wait_output("app", 1);
    assert_eq!(metadata(&output[0]), json!({}));
    let report: Value = serde_json::from_str(&node.get("/v1/node").unwrap().1).unwrap();
    assert_eq!(report["pods"], Value::Null);
    let log = node.daemon_log();
    assert!(!log.contains("WARN") && !log.contains("pods"), "{log}");
}
