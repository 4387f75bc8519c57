//! A real control plane: etcd and kube-apiserver with RBAC, certificates and ServiceAccount tokens,
//! in a folder and on ports of its own. There is no kubelet and no controller: pods are what a test
//! makes of them. `build.sh`, which `make setup` runs, gets the programs.
#![allow(dead_code, unreachable_pub, reason = "as in support/mod.rs")]

mod keeper;
pub mod kubelet;
mod pki;
pub mod rig;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{sink, wait_for};
use keeper::Keeper;

/// The namespace of `deploy/`.
pub const NAMESPACE: &str = "bulkhead-system";
/// The ServiceAccount of `deploy/`.
pub const SERVICE_ACCOUNT: &str = "bulkhead";

/// What one control plane has that others have not.
pub struct Setting {
    /// The folder of etcd, kube-apiserver and others.
    pub programs: PathBuf,
    /// Where the API server is asked.
    pub address: SocketAddr,
    /// Its other addresses.
    pub aliases: Vec<IpAddr>,
    /// Of the API server.
    pub arguments: Vec<String>,
}

/// A running control plane; it ends with its value, and with the test's process.
pub struct Cluster {
    folder: TempDir,
    setting: Setting,
    etcd: SocketAddr,
    /// Of an administrator.
    token: String,
    client: reqwest::Client,
    authority: pki::Authority,
    runtime: tokio::runtime::Runtime,
    keeper: Keeper,
    running: Mutex<Running>,
    names: AtomicU32,
}

#[derive(Default)]
struct Running {
    etcd: Option<Child>,
    server: Option<Child>,
}

impl Cluster {
    /// One for all tests that run at the same time: each must keep to a namespace of its own.
    pub fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Mutex<Weak<Cluster>>> = OnceLock::new();
        let shared = SHARED.get_or_init(Mutex::default);
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::start());
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }

    /// One of its own, which a test may stop.
    pub fn start() -> Self {
        // An address that nobody else has: its ports stay ours when the server is away.
        let ip = sink::own_address().ip();
        Self::start_as(Setting {
            programs: programs(&[]),
            address: free_port(ip),
            aliases: Vec::new(),
            arguments: [
                &format!("--bind-address={ip}"),
                &format!("--advertise-address={ip}"),
                // It would refuse a loopback address.
                "--endpoint-reconciler-type=none",
                "--authorization-mode=RBAC",
                // The controller that makes each namespace's own account does not run.
                "--disable-admission-plugins=ServiceAccount",
            ]
            .map(str::to_owned)
            .into(),
        })
    }

    pub fn start_as(setting: Setting) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ip = setting.address.ip();
        let authority = pki::Authority::new(folder.path());
        authority.certify("server", &[&[ip], &*setting.aliases].concat());
        // Of a kubelet at the same address, and of the API server when it asks that one.
        authority.certify("kubelet-server", &[ip]);
        authority.certify_user("kubelet-client", &["system:masters"]);
        let accounts = pki::key(&folder.path().join("accounts.key"));
        let public = folder.path().join("accounts.pub");
        fs::write(public, accounts.public_key_pem()).unwrap();
        let token = format!("admin-{:016x}", fastrand::u64(..));
        fs::write(
            folder.path().join("tokens.csv"),
            format!("{token},admin,admin,system:masters\n"),
        )
        .unwrap();
        let ca = fs::read(folder.path().join("ca.pem")).unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()])
            .no_proxy()
            .build()
            .unwrap();
        let cluster = Self {
            folder,
            etcd: free_port(sink::own_address().ip()),
            setting,
            token,
            client,
            authority,
            runtime: tokio::runtime::Runtime::new().unwrap(),
            keeper: Keeper::start(),
            running: Mutex::default(),
            names: AtomicU32::new(0),
        };
        cluster.running().etcd = Some(cluster.start_etcd());
        cluster.start_server();
        cluster.deploy("namespace.yaml", |_| ());
        cluster.deploy("rbac.yaml", |_| ());
        cluster
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In the cluster's own folder, which has its certificates, keys and logs.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start_etcd(&self) -> Child {
        let peers = format!("http://{}", free_port(self.etcd.ip()));
        let clients = format!("http://{}", self.etcd);
        let mut etcd = self.program("etcd");
        etcd.arg("--data-dir").arg(self.path("etcd"));
        // What a power cut would take is of no interest here.
        etcd.args(["--name", "one", "--unsafe-no-fsync"]);
        etcd.args(["--listen-client-urls", &clients]);
        etcd.args(["--advertise-client-urls", &clients]);
        etcd.args(["--listen-peer-urls", &peers]);
        etcd.args(["--initial-advertise-peer-urls", &peers]);
        etcd.args(["--initial-cluster", &format!("one={peers}")]);
        self.keeper.spawn(etcd)
    }

    /// Starts the API server and waits until it is ready.
    pub fn start_server(&self) {
        let argument = |name: &str, value: &str| format!("--{name}={value}");
        let file = |name: &str, file: &str| format!("--{name}={}", self.path(file).display());
        let address = self.setting.address;
        let issuer = format!("https://{address}");
        let mut server = self.program("kube-apiserver");
        server.args(&self.setting.arguments);
        server.args([
            argument("etcd-servers", &format!("http://{}", self.etcd)),
            argument("secure-port", &address.port().to_string()),
            argument("service-cluster-ip-range", "10.96.0.0/24"),
            argument("allow-privileged", "true"),
            argument("api-audiences", &issuer),
            argument("service-account-issuer", &issuer),
            file("client-ca-file", "ca.pem"),
            file("tls-cert-file", "server.pem"),
            file("tls-private-key-file", "server.key"),
            file("cert-dir", "certificates"),
            file("service-account-key-file", "accounts.pub"),
            file("service-account-signing-key-file", "accounts.key"),
            file("token-auth-file", "tokens.csv"),
        ]);
        let mut running = self.running();
        assert!(running.server.is_none(), "it runs already");
        running.server = Some(self.keeper.spawn(server));
        drop(running);
        wait_for("the API server to be ready", || {
            let ended = self.running().server.as_mut()?.try_wait().unwrap();
            assert!(ended.is_none(), "it ended:\n{}", self.log("kube-apiserver"));
            (self.try_request("GET", "/readyz", None)?.0 == 200).then_some(())
        });
    }

    /// SIGKILL to the API server.
    pub fn stop_server(&self) {
        end(&mut self.running().server);
    }

    /// Starts what shall end with the test's process.
    pub fn spawn(&self, program: Command) -> Child {
        self.keeper.spawn(program)
    }

    /// What a program said last.
    pub fn log(&self, program: &str) -> String {
        let log = fs::read_to_string(self.path(&format!("{program}.log"))).unwrap_or_default();
        let start = log.floor_char_boundary(log.len().saturating_sub(4000));
        log[start..].to_owned()
    }

    /// One of the programs, on the cluster's side.
    pub fn program(&self, name: &str) -> Command {
        let log = self.path(&format!("{name}.log"));
        let log = File::options().append(true).create(true).open(log);
        let log = log.unwrap();
        // Ended with whoever started it, even if that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        command.arg(self.setting.programs.join(name));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    /// Makes what a file of `deploy/kustomize/base` says, each object changed as a kustomization of the
    /// user's would.
    pub fn deploy(&self, file: &str, change: impl Fn(&mut Value)) {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize/base");
        let text = fs::read_to_string(base.join(file)).unwrap();
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        for mut object in objects {
            // As the `namespace:` of the kustomization does.
            let kind = object["kind"].as_str().unwrap().to_owned();
            if !["Namespace", "ClusterRole", "ClusterRoleBinding"].contains(&&*kind) {
                object["metadata"]["namespace"] = NAMESPACE.into();
            }
            change(&mut object);
            self.create(&collection(&object), &object);
        }
    }

    /// One request of an administrator: the status code and the body.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let answer = self.try_request(method, path, body);
        answer
            .unwrap_or_else(|| panic!("{method} {path}: no answer\n{}", self.log("kube-apiserver")))
    }

    fn try_request(&self, method: &str, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        let url = format!("https://{}{path}", self.setting.address);
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let kind = match method {
            // Who applies says as whom.
            reqwest::Method::PATCH if path.contains("fieldManager=") => {
                "application/apply-patch+yaml"
            }
            reqwest::Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let mut request = self.client.request(method, url);
        request = request.bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", kind).body(body.to_string());
        }
        self.runtime.block_on(async {
            let answer = request.send().await.ok()?;
            let code = answer.status().as_u16();
            let body = answer.bytes().await.ok()?;
            let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
            Some((
                code,
                serde_json::from_slice(&body).unwrap_or_else(|_| text()),
            ))
        })
    }

    /// POST to a collection. Panics unless the object is made.
    pub fn create(&self, collection: &str, object: &Value) -> Value {
        let (code, answer) = self.request("POST", collection, Some(object));
        assert_eq!(code, 201, "{collection}: {answer:#}");
        answer
    }

    /// What a server-side apply would make of an object, without making it. Other than a POST it is refused
    /// for a field that its kind does not have.
    pub fn dry_apply(&self, object: &Value) -> Result<Value, String> {
        let name = object["metadata"]["name"].as_str().unwrap();
        let path = collection(object) + "/" + name + "?dryRun=All&force=true&fieldManager=test";
        match self.request("PATCH", &path, Some(object)) {
            (200 | 201, made) => Ok(made),
            (code, answer) => Err(format!("{path}: {code} {answer:#}")),
        }
    }

    /// A merge patch.
    pub fn patch(&self, path: &str, patch: &Value) -> Value {
        let (code, answer) = self.request("PATCH", path, Some(patch));
        assert_eq!(code, 200, "{path}: {answer:#}");
        answer
    }

    /// DELETE without grace.
    pub fn delete(&self, path: &str) {
        let now = json!({"gracePeriodSeconds": 0});
        let (code, answer) = self.request("DELETE", path, Some(&now));
        assert!(code == 200 || code == 202, "{path}: {answer:#}");
    }

    /// A namespace that no other test has.
    pub fn namespace(&self) -> String {
        let name = format!("test-{}", self.names.fetch_add(1, Ordering::Relaxed));
        let object = json!({"metadata": {"name": name}});
        self.create("/api/v1/namespaces", &object);
        name
    }

    /// A namespace whose manifests the daemon may read, as `deploy/` lets it in its own.
    pub fn own_namespace(&self) -> String {
        let namespace = self.namespace();
        self.bind(&namespace, NAMESPACE, SERVICE_ACCOUNT);
        namespace
    }

    /// Lets an account read manifests in a namespace.
    pub fn bind(&self, namespace: &str, of: &str, account: &str) {
        let path =
            format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings");
        let binding = json!({
            "metadata": {"name": "bulkhead-manifests"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "bulkhead-manifests",
            },
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": of}],
        });
        self.create(&path, &binding);
    }

    /// Has etcd forget all states before the present one, so that a watch cannot begin there.
    pub fn compact(&self) {
        let post = |path: &str, body: Value| {
            let url = format!("http://{}/v3/kv/{path}", self.etcd);
            let request = self.client.post(url).body(body.to_string());
            let answer = self.runtime.block_on(async {
                let answer = request.send().await.unwrap();
                answer.bytes().await.unwrap()
            });
            serde_json::from_slice::<Value>(&answer).unwrap()
        };
        let range = post("range", json!({"key": "AA=="}));
        let revision = range["header"]["revision"].as_str().unwrap();
        post(
            "compaction",
            json!({"revision": revision, "physical": true}),
        );
    }

    /// How often the API server was asked, by its own account: the sum over the lines of
    /// `apiserver_request_total` that have all these labels.
    pub fn requests(&self, labels: &[&str]) -> f64 {
        let (_, metrics) = self.request("GET", "/metrics", None);
        let metrics = metrics.as_str().unwrap();
        let lines = metrics.lines();
        let counted = lines.filter(|line| {
            line.starts_with("apiserver_request_total{")
                && labels.iter().all(|label| line.contains(label))
        });
        counted
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// How many requests the API server has answered, by resource and verb.
    pub fn request_counts(&self) -> BTreeMap<(String, String), f64> {
        let (_, metrics) = self.request("GET", "/metrics", None);
        let mut counts = BTreeMap::new();
        for line in metrics.as_str().unwrap().lines() {
            let Some(line) = line.strip_prefix("apiserver_request_total{") else {
                continue;
            };
            let (labels, count) = line.rsplit_once("} ").unwrap();
            let label = |name: &str| {
                let mut labels = labels.split(',').filter_map(|it| it.split_once('='));
                let (_, value) = labels.find(|(found, _)| *found == name)?;
                Some(value.trim_matches('"').to_owned())
            };
            let key = (label("resource").unwrap(), label("verb").unwrap());
            *counts.entry(key).or_default() += count.parse::<f64>().unwrap();
        }
        counts
    }

    /// A token as the kubelet asks for it, for the API server unless an audience is given.
    pub fn service_account_token(&self, namespace: &str, name: &str, audiences: &[&str]) -> String {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let spec = match audiences {
            [] => json!({"expirationSeconds": 3600}),
            audiences => json!({"expirationSeconds": 3600, "audiences": audiences}),
        };
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": spec,
        });
        let answer = self.create(&path, &request);
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    /// A kubeconfig in `folder` for a ServiceAccount, whose token lies beside it.
    pub fn kubeconfig(&self, folder: &Path, namespace: &str, name: &str) -> PathBuf {
        let token = folder.join("token");
        fs::write(&token, self.service_account_token(namespace, name, &[])).unwrap();
        self.kubeconfig_of(folder, name, namespace, &json!({"tokenFile": token}))
    }

    /// A kubeconfig in `folder` for a user with a client certificate.
    pub fn user_kubeconfig(&self, folder: &Path, name: &str, groups: &[&str]) -> PathBuf {
        self.authority.certify_user(name, groups);
        let user = json!({
            "client-certificate": self.path(&format!("{name}.pem")),
            "client-key": self.path(&format!("{name}.key")),
        });
        self.kubeconfig_of(folder, name, "default", &user)
    }

    fn kubeconfig_of(&self, folder: &Path, name: &str, namespace: &str, user: &Value) -> PathBuf {
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://{}", self.setting.address),
                "certificate-authority": self.path("ca.pem"),
            }}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "test", "context": {
                "cluster": "test", "user": name, "namespace": namespace,
            }}],
            "current-context": "test",
        });
        let path = folder.join("kubeconfig");
        fs::write(&path, kubeconfig.to_string()).unwrap();
        path
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut running = self.running();
        end(&mut running.server);
        end(&mut running.etcd);
    }
}

fn end(process: &mut Option<Child>) {
    if let Some(mut process) = process.take() {
        let _ = process.kill();
        let _ = process.wait();
    }
}

/// The path of the collection that an object belongs to.
fn collection(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = text(&object["apiVersion"]);
    let root = match version.contains('/') {
        true => format!("/apis/{version}"),
        false => format!("/api/{version}"),
    };
    let namespace = match text(&object["metadata"]["namespace"]) {
        none if none.is_empty() => String::new(),
        name => format!("/namespaces/{name}"),
    };
    // True of every kind that `deploy/` has.
    let kind = text(&object["kind"]).to_ascii_lowercase();
    let plural = match kind.strip_suffix('y') {
        Some(stem) => stem.to_owned() + "ies",
        None => kind + "s",
    };
    format!("{root}{namespace}/{plural}")
}

/// The folder of etcd and kube-apiserver, or of more of build.sh, which are made first if they are
/// missing.
pub fn programs(of: &[&str]) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/support/cluster/build.sh");
    let made = Command::new(&script)
        .args(of)
        .stderr(Stdio::inherit())
        .output();
    let made = made.unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    assert!(
        made.status.success(),
        "there is no control plane to test against: run `make setup` as root, or set KUBEBUILDER_ASSETS"
    );
    String::from_utf8(made.stdout).unwrap().trim().into()
}

fn free_port(ip: IpAddr) -> SocketAddr {
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}
