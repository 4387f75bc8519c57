//! `kubectl bulkhead status` against a real API server with RBAC, real daemons, and a kubelet of our own
//! that does port-forwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/cluster/mod.rs"]
mod cluster;
mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use cluster::kubelet::{Kubelet, Target};
use cluster::{Cluster, NAMESPACE, SERVICE_ACCOUNT};
use serde_json::{Value, json};
use support::book::Page;
use support::{Node, author};
use tempfile::TempDir;

const PODS: &str = "/api/v1/namespaces/bulkhead-system/pods";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

struct Rig {
    cluster: Cluster,
    kubelet: Kubelet,
    folder: TempDir,
}

struct Said {
    code: i32,
    out: String,
    error: String,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("kubectl-bulkhead");
        symlink(env!("CARGO_BIN_EXE_bulkhead"), name).unwrap();
        Self {
            cluster: Cluster::start(),
            kubelet: Kubelet::start(),
            folder,
        }
    }

    /// A node with a daemon's pod that listens on that port.
    fn pod(&self, node: &str, phase: &str, port: u16, target: Target) {
        self.cluster
            .create("/api/v1/nodes", &json!({"metadata": {"name": node}}));
        let kubelet = self.kubelet.address;
        let status = json!({"status": {
            "addresses": [{"type": "InternalIP", "address": kubelet.ip().to_string()}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port()}},
        }});
        let path = format!("/api/v1/nodes/{node}/status");
        self.cluster.patch(&path, &status);
        let pod = format!("bulkhead-{node}");
        self.cluster.create(
            PODS,
            &json!({
                "metadata": {"name": pod, "labels": {"app.kubernetes.io/name": "bulkhead"}},
                "spec": {"nodeName": node, "containers": [{
                    "name": "bulkhead", "image": "none",
                    "ports": [{"name": "status", "containerPort": port}],
                }]},
            }),
        );
        let status = json!({"status": {"phase": phase}});
        self.cluster.patch(&format!("{PODS}/{pod}/status"), &status);
        self.kubelet.put(NAMESPACE, &pod, target);
    }

    /// A daemon with plugins of these names, and its node and pod.
    fn daemon(&self, name: &str, plugins: &[&str]) -> Node {
        let mut node = Node::new();
        node.listen = "0.0.0.0:0".to_owned();
        for plugin in plugins {
            node.manifest(plugin, &node.spec(plugin, "fixture-logs", "{}"));
        }
        let folder = node.folder.path();
        let kubeconfig = self.cluster.kubeconfig(folder, NAMESPACE, SERVICE_ACCOUNT);
        let kubeconfig = kubeconfig.to_str().unwrap().to_owned();
        node.start_with(&["--kubeconfig", &kubeconfig], &[]);
        let port = node.address().port();
        // Before that it may not have read its manifests, and its answer would have no plugins.
        support::wait_for("the daemon to be ready", || is_ready(port).then_some(()));
        let address = ([127, 0, 0, 1], port).into();
        self.pod(name, "Running", port, Target::At(address));
        node
    }

    /// A kubeconfig of a user with a client certificate.
    fn user(&self, name: &str, groups: &[&str]) -> PathBuf {
        let folder = self.folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        self.cluster.user_kubeconfig(&folder, name, groups)
    }

    /// Gives a user a Role in the daemons' namespace.
    fn bind(&self, user: &str, role: &str) {
        let name = format!("{user}-{role}");
        self.cluster.create(
            &format!("{RBAC}/namespaces/{NAMESPACE}/rolebindings"),
            &json!({
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
                "subjects": [
                    {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user},
                ],
            }),
        );
    }

    /// Makes a Role in the daemons' namespace.
    fn role(&self, name: &str, resource: &str, verb: &str) {
        self.cluster.create(
            &format!("{RBAC}/namespaces/{NAMESPACE}/roles"),
            &json!({"metadata": {"name": name}, "rules": [
                {"apiGroups": [""], "resources": [resource], "verbs": [verb]},
            ]}),
        );
    }

    /// `kubectl bulkhead status` as that user.
    fn status(&self, kubeconfig: &Path, arguments: &[&str]) -> Said {
        let output = Command::new(self.folder.path().join("kubectl-bulkhead"))
            .arg("status")
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            .env("RUST_LOG", "trace")
            .output()
            .unwrap();
        let said = Said {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            error: String::from_utf8(output.stderr).unwrap(),
        };
        // As a JSON Web Token begins.
        assert!(!said.out.contains("eyJ") && !said.error.contains("eyJ"));
        said
    }
}

/// What the daemon's probe says there. Its certificate is its own: it listens beyond loopback.
fn is_ready(port: u16) -> bool {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .no_proxy()
        .build()
        .unwrap();
    let answer = client.get(format!("https://127.0.0.1:{port}/readyz"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { answer.send().await.is_ok_and(|it| it.status().is_success()) })
}

/// The words of the one line that begins so.
fn row<'a>(table: &'a str, begin: &[&str]) -> Vec<&'a str> {
    let mut rows = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|words| words.starts_with(begin));
    row.unwrap_or_else(|| panic!("no row {begin:?} in\n{table}"))
}

#[test]
fn an_administrator_sees_a_row_for_each_node_and_plugin() {
    let rig = Rig::new();
    let _daemons = [
        rig.daemon("node-1", &["app", "second"]),
        rig.daemon("node-2", &["app"]),
        rig.daemon("node-3", &[]),
    ];
    let admin = rig.user("admin", &["system:masters"]);
    support::wait_for("all plugins to run", || {
        let said = rig.status(&admin, &[]);
        (said.out.matches("Running").count() == 3).then_some(())
    });
    let said = rig.status(&admin, &[]);
    assert_eq!((said.code, &*said.error), (0, ""), "{}", said.out);
    assert_eq!(said.out.lines().count(), 5, "{}", said.out);
    let heading = row(&said.out, &["NODE"]);
    assert_eq!(heading[..4], ["NODE", "NAMESPACE", "NAME", "PHASE"]);
    for (node, plugin) in [("node-1", "app"), ("node-1", "second"), ("node-2", "app")] {
        let row = row(&said.out, &[node, "local", plugin]);
        assert_eq!(row[3], "Running");
        assert_eq!(row.len(), heading.len() + 2, "units are words: {row:?}");
    }
    assert_eq!(row(&said.out, &["node-3"])[1..], ["no", "plugins"]);

    for name in ["second", "local/second"] {
        let said = rig.status(&admin, &[name]);
        assert_eq!(
            (said.code, said.out.lines().count()),
            (0, 2),
            "{}",
            said.out
        );
        row(&said.out, &["node-1", "local", "second"]);
    }
    let said = rig.status(&admin, &["shop/app"]);
    assert_eq!((said.code, &*said.out), (1, ""));
    assert!(said.error.contains("no node has a plugin \"shop/app\""));

    // Nodes that do not answer are rows, and hold up nobody.
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    rig.pod("node-4", "Running", closed.port(), Target::At(closed));
    rig.pod("node-5", "Pending", 9720, Target::Silent);
    rig.pod("node-6", "Running", 9720, Target::Silent);
    let said = rig.status(&admin, &["-o", "json"]);
    assert_eq!(said.code, 3, "{}", said.error);
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    let nodes = answer["nodes"].as_array().unwrap();
    let names: Vec<_> = nodes
        .iter()
        .map(|node| node["node"].as_str().unwrap())
        .collect();
    let all = ["node-1", "node-2", "node-3", "node-4", "node-5", "node-6"];
    assert_eq!(names, all);
    assert_eq!(nodes[0]["pod"], "bulkhead-node-1");
    assert_eq!(nodes[0]["plugins"][1]["name"], "second");
    assert_eq!(nodes[0]["error"], Value::Null);
    assert_eq!(nodes[2]["plugins"], json!([]));
    let error = |index: usize| nodes[index]["error"].as_str().unwrap().to_owned();
    assert!(error(3).contains("error forwarding port"), "{}", error(3));
    assert_eq!(error(4), "its pod bulkhead-node-5 is Pending");
    assert_eq!(error(5), "no answer within 15 s");
    assert_eq!(nodes[3]["plugins"], Value::Null);
    // With a name too: who does not answer may have it.
    let said = rig.status(&admin, &["second"]);
    assert_eq!(
        (said.code, said.out.lines().count()),
        (3, 5),
        "{}",
        said.out
    );
    assert!(row(&said.out, &["node-5"]).contains(&"error:"));
}

/// With Debian's kubectl, as a reader has it, who asks for a plugin by its namespace.
#[test]
fn the_books_commands_work() {
    let rig = Rig::new();
    let daemon = rig.daemon("node-1", &["app-logs"]);
    let admin = rig.user("admin", &["system:masters"]);
    let home = rig.folder.path();
    fs::create_dir_all(home.join(".local/bin")).unwrap();
    symlink(env!("CARGO_BIN_EXE_bulkhead"), home.join("bulkhead")).unwrap();
    // What the page of the author's commands has made before.
    let (module, _) = support::fixture_module("fixture-logs");
    let module = module.to_str().unwrap();
    let pack = [
        "plugin",
        "pack",
        module,
        "--name",
        "hello",
        "--namespace",
        NAMESPACE,
    ];
    let spec = daemon.path("hello.yaml");
    fs::write(
        &spec,
        "logs: {sources: [{containers: {}}], destinations: [{name: out, stdout: {}}]}",
    )
    .unwrap();
    let packed = author::works(
        home,
        &[&pack[..], &["--spec", spec.to_str().unwrap()]].concat(),
    );
    fs::write(home.join("hello.yaml"), packed).unwrap();

    let script = ["docs/status.md", "docs/authors.md"]
        .map(|page| Page::read(page).commands(Some("kubectl")))
        .concat();
    let path = std::env::var("PATH").unwrap();
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c"])
        .arg(script.replace(" shop/", " local/"))
        .current_dir(home)
        .env("HOME", home)
        .env("PATH", format!("{0}/.local/bin:{0}:{path}", home.display()))
        .env("KUBECONFIG", admin)
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{out}\n{error}");
    let rows = out.lines().filter(|line| line.starts_with("node-1 "));
    assert_eq!(rows.count(), 2, "{out}");
    assert!(out.contains(r#""name": "app-logs""#), "{out}");
    let maps = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/hello");
    let (code, hello) = rig.cluster.request("GET", &maps, None);
    assert_eq!(code, 200, "{hello:#}");
}

#[test]
fn a_user_sees_what_rights_allow() {
    let rig = Rig::new();
    let _daemon = rig.daemon("node-1", &["app"]);
    let user = rig.user("alice", &["developers"]);
    // Each right alone is not enough, and the refusal says which is missing.
    let said = rig.status(&user, &[]);
    assert_eq!((said.code, &*said.out), (1, ""));
    for part in [
        "cannot list the daemons' pods",
        "alice",
        "(403)",
        "bulkhead-status",
    ] {
        assert!(said.error.contains(part), "{}", said.error);
    }
    rig.role("lists", "pods", "list");
    rig.bind("alice", "lists");
    let said = rig.status(&user, &[]);
    assert_eq!((said.code, &*said.out), (1, ""));
    for part in [
        "cannot get a token",
        "bulkhead-viewer",
        "(403)",
        "bulkhead-status",
    ] {
        assert!(said.error.contains(part), "{}", said.error);
    }
    rig.role("token", "serviceaccounts/token", "create");
    rig.bind("alice", "token");
    let said = rig.status(&user, &[]);
    assert_eq!(said.code, 3, "{}", said.error);
    for part in [
        "no port-forward",
        "pods/portforward",
        "(403)",
        "bulkhead-status",
    ] {
        assert!(said.out.contains(part), "{}", said.out);
    }
    // The Role of `deploy/` is all that it takes.
    let user = rig.user("bob", &[]);
    assert_eq!(rig.status(&user, &[]).code, 1);
    rig.bind("bob", "bulkhead-status");
    let said = rig.status(&user, &[]);
    assert_eq!((said.code, &*said.error), (0, ""), "{}", said.out);
    row(&said.out, &["node-1", "local", "app"]);
    // And no other account's token.
    let access = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": "bob", "resourceAttributes": {
            "namespace": NAMESPACE, "verb": "create", "resource": "serviceaccounts",
            "subresource": "token", "name": SERVICE_ACCOUNT,
        }},
    });
    let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let review = rig.cluster.create(reviews, &access);
    assert_eq!(review["status"]["allowed"], false, "{review:#}");
}

#[test]
fn what_the_daemon_refuses_and_what_is_missing_is_said() {
    let rig = Rig::new();
    let admin = rig.user("admin", &["system:masters"]);
    let said = rig.status(&admin, &[]);
    assert_eq!(said.code, 1);
    assert!(said.error.contains("--namespace"), "{}", said.error);
    let _daemon = rig.daemon("node-1", &["app"]);
    let said = rig.status(&admin, &["--namespace", "default"]);
    assert_eq!(said.code, 1);
    let said = rig.status(&admin, &["--audience", "other.example"]);
    assert_eq!(said.code, 3);
    assert!(said.out.contains("refused (401"), "{}", said.out);
    rig.cluster
        .delete(&format!("{RBAC}/clusterrolebindings/bulkhead-viewer"));
    let said = rig.status(&admin, &[]);
    assert_eq!(said.code, 3);
    for part in [
        "refused (403",
        "bulkhead-system:bulkhead-viewer",
        "/v1/plugins",
    ] {
        assert!(said.out.contains(part), "{}", said.out);
    }
    let said = rig.status(&admin, &["--context", "nowhere"]);
    assert_eq!(said.code, 1);
    assert!(said.error.contains("nowhere"), "{}", said.error);
    rig.cluster.stop_server();
    let said = rig.status(&admin, &[]);
    assert_eq!(said.code, 3);
    assert!(said.error.contains("cannot list"), "{}", said.error);
}
