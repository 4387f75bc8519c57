//! Who may read the status endpoint, against a real API server with RBAC, as the ServiceAccounts of
//! `deploy/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/cluster/mod.rs"]
mod cluster;
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::{Cluster, NAMESPACE, SERVICE_ACCOUNT};
use serde_json::{Value, json};
use support::{Node, wait_for};

const VIEWER: &str = "bulkhead-viewer";
const AUDIENCE: &str = "bulkhead.dev";
/// Every path that the viewer may read.
const READ: [&str; 9] = [
    "/",
    "/page.css",
    "/page.js",
    "/openapi.json",
    "/metrics",
    "/v1/node",
    "/v1/plugins",
    "/v1/plugins/local/app",
    "/v1/plugins/local/app/logs",
];

/// A daemon that asks a cluster who may read.
struct Rig {
    node: Node,
    cluster: Arc<Cluster>,
    /// Where the daemon's ServiceAccount is.
    namespace: String,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

struct Answer {
    code: u16,
    challenge: Option<String>,
    body: String,
}

impl Answer {
    /// Asserts that this is a refusal as Kubernetes writes one, and returns its message.
    fn refusal(&self, code: u16, reason: &str) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!((self.code, &body["code"]), (code, &json!(code)), "{body:#}");
        assert_eq!(body["apiVersion"], "v1", "{body:#}");
        assert_eq!(body["kind"], "Status", "{body:#}");
        assert_eq!(body["status"], "Failure", "{body:#}");
        assert_eq!(body["reason"], reason, "{body:#}");
        let bearer = self.challenge.as_deref();
        let bearer = bearer.is_some_and(|challenge| challenge.starts_with("Bearer"));
        assert_eq!(bearer, code == 401, "{body:#}");
        body["message"].as_str().unwrap().to_owned()
    }
}

impl Rig {
    /// Beyond loopback, so with TLS.
    fn new(cluster: Arc<Cluster>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .tls_danger_accept_invalid_certs(true)
            .no_proxy()
            .build()
            .unwrap();
        let mut node = Node::new();
        node.listen = "0.0.0.0:0".to_owned();
        node.manifest("app", &node.spec("app", "fixture-logs", "{}"));
        Self {
            node,
            namespace: cluster.namespace(),
            cluster,
            client,
            runtime: tokio::runtime::Runtime::new().unwrap(),
        }
    }

    fn start(&mut self) {
        self.start_as(NAMESPACE, SERVICE_ACCOUNT);
    }

    fn start_as(&mut self, namespace: &str, account: &str) {
        let folder = self.node.folder.path();
        let kubeconfig = self.cluster.kubeconfig(folder, namespace, account);
        let kubeconfig = kubeconfig.to_str().unwrap();
        self.node.start_with(&["--kubeconfig", kubeconfig], &[]);
        wait_for("the daemon to be ready", || {
            (self.get("/readyz", None).code == 200).then_some(())
        });
    }

    fn get(&self, path: &str, token: Option<&str>) -> Answer {
        let authorization = token.map(|token| format!("Bearer {token}"));
        self.request("GET", path, authorization.as_deref())
    }

    fn request(&self, method: &str, path: &str, authorization: Option<&str>) -> Answer {
        let url = format!("https://127.0.0.1:{}{path}", self.node.address().port());
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, url);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            let challenge = answer.headers().get("www-authenticate");
            Answer {
                code: answer.status().as_u16(),
                challenge: challenge.map(|value| value.to_str().unwrap().to_owned()),
                body: String::from_utf8(answer.bytes().await.unwrap().into()).unwrap(),
            }
        })
    }

    fn viewer(&self) -> String {
        let cluster = &self.cluster;
        cluster.service_account_token(NAMESPACE, VIEWER, &[AUDIENCE])
    }

    /// A ServiceAccount of this test, and a token of it.
    fn account(&self, name: &str) -> String {
        let accounts = format!("/api/v1/namespaces/{}/serviceaccounts", self.namespace);
        let account = json!({"metadata": {"name": name}});
        self.cluster.create(&accounts, &account);
        self.cluster
            .service_account_token(&self.namespace, name, &[AUDIENCE])
    }

    /// Lets that account read with a ClusterRole; the name of the binding.
    fn bind(&self, account: &str, role: &str) -> String {
        let name = format!("{}-{account}", self.namespace);
        self.cluster.create(
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            &json!({
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": self.namespace}],
            }),
        );
        format!("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{name}")
    }

    /// Waits until a GET with that token is refused so, and says how long it took.
    fn wait_refused(&self, token: &str, code: u16) -> Duration {
        let begin = Instant::now();
        wait_for("the refusal", || {
            (self.get("/v1/plugins", Some(token)).code == code).then_some(())
        });
        begin.elapsed()
    }
}

#[test]
fn only_whom_the_cluster_lets_reads() {
    let mut rig = Rig::new(Cluster::shared());
    rig.start();
    let viewer = rig.viewer();
    let stranger = rig.account("stranger");
    let for_others = [&["https://vault.example"][..], &[]].map(|audiences| {
        rig.cluster
            .service_account_token(NAMESPACE, VIEWER, audiences)
    });
    for path in READ {
        let message = rig.get(path, None).refusal(401, "Unauthorized");
        assert!(message.contains("bearer token"), "{message}");
        for token in &for_others {
            rig.get(path, Some(token)).refusal(401, "Unauthorized");
        }
        let garbage = rig.get(path, Some("garbage"));
        garbage.refusal(401, "Unauthorized");
        let message = rig.get(path, Some(&stranger)).refusal(403, "Forbidden");
        let user = format!("system:serviceaccount:{}:stranger", rig.namespace);
        assert!(
            message.contains(&user) && message.contains(path),
            "{message}"
        );
        let answer = rig.get(path, Some(&viewer));
        assert_eq!(answer.code, 200, "{path}: {}", answer.body);
    }
    let plugins = rig.get("/v1/plugins", Some(&viewer)).body;
    let plugins: Value = serde_json::from_str(&plugins).unwrap();
    assert_eq!(plugins["items"][0]["name"], "app");
    // The local command, too.
    let file = rig.node.path("viewer-token");
    std::fs::write(&file, format!("{viewer}\n")).unwrap();
    let address = format!("127.0.0.1:{}", rig.node.address().port());
    let status = |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bulkhead"));
        command.args(["status", "--insecure-skip-tls-verify", "--status", &address]);
        let output = command.args(more).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = status(&["--token-file", file.to_str().unwrap()]);
    assert!(code == Some(0) && said.contains("Running"), "{said}");
    let (code, said) = status(&[]);
    let refused = said.contains("401") && said.contains("--token-file");
    assert!(code == Some(1) && refused, "{said}");
    // What nobody gave the viewer, it has not; and no method is another way in.
    rig.get("/v2", Some(&viewer)).refusal(403, "Forbidden");
    rig.get("/v2", None).refusal(401, "Unauthorized");
    for method in ["POST", "OPTIONS", "HEAD"] {
        assert_eq!(rig.request(method, "/v1/plugins", None).code, 401);
    }
    let post = rig.request("POST", "/v1/plugins", Some(&format!("Bearer {viewer}")));
    post.refusal(405, "MethodNotAllowed");
    let basic = rig.request("GET", "/v1/plugins", Some(&format!("Basic {viewer}")));
    basic.refusal(401, "Unauthorized");
    // Probes have no token.
    assert_eq!(rig.get("/healthz", None).body, "ok\n");
    assert_eq!(rig.get("/readyz", None).body, "ready\n");
    assert_eq!(rig.get("/healthz/", None).code, 401);
    let log = rig.node.daemon_log();
    for token in for_others.iter().chain([&viewer, &stranger]) {
        assert!(!log.contains(token.as_str()), "a token in the log");
    }
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[test]
fn a_right_for_one_plugin_is_for_that_plugin() {
    let mut rig = Rig::new(Cluster::shared());
    rig.start();
    let token = rig.account("owner");
    let role = format!("{}-one", rig.namespace);
    rig.cluster.create(
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        &json!({"metadata": {"name": role}, "rules": [
            {"nonResourceURLs": ["/v1/plugins/local/app", "/v1/plugins/local/app/*"], "verbs": ["get"]},
        ]}),
    );
    rig.bind("owner", &role);
    for path in ["/v1/plugins/local/app", "/v1/plugins/local/app/logs"] {
        assert_eq!(rig.get(path, Some(&token)).code, 200, "{path}");
    }
    for path in [
        "/v1/plugins",
        "/v1/plugins/local/other",
        "/v1/plugins/local/app2",
        "/v1/plugins/local/%61pp",
        "/v1/plugins/local/app%2F..%2Fother",
        "/metrics",
    ] {
        rig.get(path, Some(&token)).refusal(403, "Forbidden");
    }
}

#[test]
fn prometheus_reads_metrics_alone_with_a_token_for_the_audience_that_is_given() {
    let mut rig = Rig::new(Cluster::shared());
    let audience = "https://scrape.example";
    let given = ["--status-audience", audience].map(str::to_owned);
    rig.node.source.extend(given);
    rig.start();
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../deploy/monitoring/podmonitor.yaml"
    );
    let text = std::fs::read_to_string(file).unwrap();
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let role = objects
        .iter()
        .find(|object| object["kind"] == "ClusterRole");
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    rig.cluster.create(roles, role.unwrap());
    let of_default = rig.account("prometheus");
    rig.bind("prometheus", "bulkhead-metrics");
    let token = |audiences: &[&str]| {
        rig.cluster
            .service_account_token(&rig.namespace, "prometheus", audiences)
    };
    let metrics = rig.get("/metrics", Some(&token(&[audience])));
    assert!(
        metrics.body.contains("bulkhead_ready 1"),
        "{}",
        metrics.body
    );
    for path in ["/v1/plugins", "/v1/node", "/"] {
        let refused = rig.get(path, Some(&token(&[audience])));
        refused.refusal(403, "Forbidden");
    }
    for other in [of_default, token(&[])] {
        let refused = rig.get("/metrics", Some(&other));
        refused.refusal(401, "Unauthorized");
    }
}

#[test]
fn what_is_taken_away_reads_for_half_a_minute_at_most() {
    let mut rig = Rig::new(Cluster::shared());
    rig.start();
    let deleted = rig.account("deleted");
    let unbound = rig.account("unbound");
    rig.bind("deleted", VIEWER);
    let binding = rig.bind("unbound", VIEWER);
    for token in [&deleted, &unbound] {
        assert_eq!(rig.get("/v1/plugins", Some(token)).code, 200);
    }
    let account = format!(
        "/api/v1/namespaces/{}/serviceaccounts/deleted",
        rig.namespace
    );
    rig.cluster.delete(&account);
    rig.cluster.delete(&binding);
    // Not asked for each request.
    for token in [&deleted, &unbound] {
        assert_eq!(rig.get("/v1/plugins", Some(token)).code, 200);
    }
    let took = rig.wait_refused(&deleted, 401) + rig.wait_refused(&unbound, 403);
    assert!(took < Duration::from_secs(35), "{took:?}");
    // And what is given is noticed sooner.
    rig.bind("unbound", VIEWER);
    let begin = Instant::now();
    wait_for("the right", || {
        (rig.get("/v1/plugins", Some(&unbound)).code == 200).then_some(())
    });
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn an_api_server_that_is_away_lets_in_whom_it_let_in_for_a_while() {
    let cluster = Arc::new(Cluster::start());
    let mut rig = Rig::new(cluster.clone());
    rig.start();
    let viewer = rig.viewer();
    let other = rig.viewer();
    assert_eq!(rig.get("/v1/plugins", Some(&viewer)).code, 200);
    cluster.stop_server();
    assert_eq!(rig.get("/v1/plugins", Some(&viewer)).code, 200);
    let message = rig
        .get("/v1/plugins", Some(&other))
        .refusal(503, "ServiceUnavailable");
    assert!(message.contains("API server"), "{message}");
    let message = rig
        .get("/metrics", Some(&viewer))
        .refusal(503, "ServiceUnavailable");
    assert!(!message.contains(&viewer));
    rig.get("/v1/plugins", None).refusal(401, "Unauthorized");
    assert_eq!(rig.get("/healthz", None).code, 200);
    assert_eq!(rig.get("/readyz", None).code, 200);
    rig.wait_refused(&viewer, 503);
    cluster.start_server();
    wait_for("the API server to be noticed", || {
        (rig.get("/v1/plugins", Some(&other)).code == 200).then_some(())
    });
    let log = rig.node.daemon_log();
    assert_eq!(
        log.matches("does not tell who may read").count(),
        1,
        "{log}"
    );
    assert_eq!(log.matches("tells again who may read").count(), 1, "{log}");
    assert!(!log.contains(&viewer) && !log.contains(&other));
    assert!(rig.node.stop().success());
}

#[test]
fn a_daemon_that_may_not_ask_says_what_it_needs() {
    let mut rig = Rig::new(Cluster::shared());
    rig.account("powerless");
    let namespace = rig.namespace.clone();
    rig.start_as(&namespace, "powerless");
    let viewer = rig.viewer();
    rig.get("/v1/plugins", Some(&viewer))
        .refusal(503, "ServiceUnavailable");
    let log = rig.node.daemon_log();
    let remedy = "the verb create on tokenreviews, as in deploy/kustomize/base/rbac.yaml";
    assert!(log.contains(remedy), "{log}");
}

#[test]
fn why_a_daemon_is_not_ready_is_for_those_who_may_read() {
    let mut rig = Rig::new(Cluster::shared());
    let slow = rig
        .node
        .spec("app", "fixture-logs", "{faults: [{do: sleep, at: init}]}");
    let slow = slow.replace("update:", "limits: {deadline: 60s}\nupdate:");
    rig.node.manifest("app", &slow);
    let folder = rig.node.folder.path();
    let kubeconfig = rig.cluster.kubeconfig(folder, NAMESPACE, SERVICE_ACCOUNT);
    let kubeconfig = kubeconfig.to_str().unwrap();
    rig.node.start_with(&["--kubeconfig", kubeconfig], &[]);
    let answer = rig.get("/readyz", None);
    let said = (answer.code, &*answer.body);
    assert_eq!(said, (503, "not ready; /v1/node says why\n"));
    let node = rig.get("/v1/node", Some(&rig.viewer())).body;
    assert!(node.contains("local/app"), "{node}");
}
