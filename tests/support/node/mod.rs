//! A real node: the kubelet and containerd, with the control plane and its controllers, all inside the
//! namespaces that `run.sh` makes. Whoever uses this runs inside them, too, and sees the node's processes,
//! files and network.
#![allow(dead_code, unreachable_pub, reason = "as in support/mod.rs")]

mod image;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::cluster::{Cluster, NAMESPACE, SERVICE_ACCOUNT, Setting, programs};
use super::support::wait_for;
pub use image::architecture;

/// What the node is called.
pub const NAME: &str = "node-1";
/// An image that has `/busybox` alone.
pub const BUSYBOX: &str = "bulkhead.test/busybox:1";

/// As in `run.sh`.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 123, 0, 1));
const SERVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1));
const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// A script of this folder.
fn script(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/node");
    Path::new(folder).join(name)
}

/// Why this machine cannot run a node, if it cannot.
pub fn obstacle() -> Option<String> {
    let said = Command::new(script("able.sh")).output().unwrap();
    let reason = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    (!said.status.success()).then_some(reason)
}

/// A command line that runs `program` on a node, which is ended with the thread that starts it.
pub fn run(folder: &Path, program: &Path) -> Command {
    // What the node needs is fetched here, where there is a network.
    programs(&["node"]);
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]);
    command.arg(script("run.sh")).arg(folder).arg(program);
    // Deleted with the folder.
    let temporary = folder.join("tmp");
    fs::create_dir(&temporary).unwrap();
    command.env("TMPDIR", temporary);
    command
}

/// The node that this process is inside of.
pub struct RealNode {
    pub cluster: Cluster,
    pub folder: PathBuf,
    programs: PathBuf,
    _processes: Vec<Child>,
}

impl RealNode {
    /// Starts it in the folder that was given to [`run`], and waits until pods can run.
    pub fn start(folder: &Path) -> Self {
        let programs = programs(&["node"]);
        let cluster = Cluster::start_as(Setting {
            programs: programs.clone(),
            address: (ADDRESS, 443).into(),
            // There is no kube-proxy: who asks at the Service's address asks the API server itself.
            aliases: vec![SERVICE],
            arguments: [
                "--bind-address=0.0.0.0",
                &format!("--advertise-address={ADDRESS}"),
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--kubelet-preferred-address-types=InternalIP",
                "--kubelet-client-certificate=kubelet-client.pem",
                "--kubelet-client-key=kubelet-client.key",
                "--kubelet-certificate-authority=ca.pem",
            ]
            .map(str::to_owned)
            .into(),
        });
        let mut node = Self {
            cluster,
            folder: folder.to_owned(),
            programs,
            _processes: Vec::new(),
        };
        node.start_containerd();
        // It also holds the namespaces of each pod, for which it must do nothing.
        let nothing = ["/busybox", "tail", "-f", "/dev/null"];
        node.import(BUSYBOX, &node.programs.join("busybox"), &nothing);
        let arguments = [
            "--bind-address=127.0.0.1",
            "--port=0",
            "--leader-elect=false",
            "--cert-dir=certificates",
        ];
        let of_accounts = [
            "--use-service-account-credentials=true",
            "--service-account-private-key-file=accounts.key",
            "--root-ca-file=ca.pem",
        ];
        let controllers = [&arguments[..], &of_accounts].concat();
        node.start_client("kube-controller-manager", &controllers);
        node.start_client("kube-scheduler", &arguments);
        node.start_kubelet();
        node.wait_ready();
        node
    }

    fn start_containerd(&mut self) {
        let root = self.folder.join("containerd");
        let networks = self.folder.join("networks");
        fs::create_dir_all(&networks).unwrap();
        // All pods have the node's network; containerd is not ready without any other.
        let network =
            json!({"cniVersion": "0.4.0", "name": "none", "plugins": [{"type": "loopback"}]});
        fs::write(networks.join("none.conflist"), network.to_string()).unwrap();
        // Root of a container may lack the right to lower the score by which the kernel kills.
        let config = format!(
            r#"
version = 2
root = {root:?}
[plugins."io.containerd.internal.v1.opt"]
path = {root:?}
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{BUSYBOX}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = {networks:?}
"#
        );
        let path = self.folder.join("containerd.toml");
        fs::write(&path, config).unwrap();
        let mut containerd = self.cluster.program("containerd");
        containerd.arg("--config").arg(path);
        // It finds its shim and runc there.
        let others = std::env::var("PATH").unwrap();
        containerd.env("PATH", format!("{}:{others}", self.programs.display()));
        self.spawn(containerd);
        wait_for("containerd to answer", || {
            let mut asked = self.ctr(&["version"]);
            let asked = asked.stdout(Stdio::null()).stderr(Stdio::null()).status();
            asked.unwrap().success().then_some(())
        });
    }

    fn start_kubelet(&mut self) {
        let file = |name: &str| self.cluster.path(name);
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": ADDRESS.to_string(),
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": file("ca.pem")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": file("kubelet-server.pem"),
            "tlsPrivateKeyFile": file("kubelet-server.key"),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", std::env::var("BULKHEAD_INSIDE_NODE").unwrap()),
            "failSwapOn": false,
            "makeIPTablesUtilChains": false,
            // The machine's disk may be rather full, which is not what is tested.
            "evictionHard": {"memory.available": "50Mi"},
            "imageGCHighThresholdPercent": 100,
            "volumePluginDir": self.folder.join("volume-plugins"),
            // Small, so that logs are rotated while a test runs.
            "containerLogMaxSize": "128Ki",
            "containerLogMaxFiles": 5,
        });
        let path = self.folder.join("kubelet.json");
        fs::write(&path, config.to_string()).unwrap();
        let kubeconfig = self.kubeconfig(&format!("system:node:{NAME}"), &["system:nodes"]);
        let mut kubelet = self.cluster.program("kubelet");
        kubelet.arg("--config").arg(path);
        kubelet.arg("--kubeconfig").arg(kubeconfig);
        kubelet.args([
            &format!("--hostname-override={NAME}"),
            &format!("--node-ip={ADDRESS}"),
            "--container-runtime=remote",
            &format!("--container-runtime-endpoint=unix://{CONTAINERD}"),
        ]);
        self.spawn(kubelet);
    }

    /// A program of the control plane that is a client of the API server.
    fn start_client(&mut self, program: &str, arguments: &[&str]) {
        let kubeconfig = self.kubeconfig(&format!("system:{program}"), &[]);
        let mut client = self.cluster.program(program);
        for purpose in ["", "authentication-", "authorization-"] {
            let argument = format!("--{purpose}kubeconfig={}", kubeconfig.display());
            client.arg(argument);
        }
        client.args(arguments);
        self.spawn(client);
    }

    fn spawn(&mut self, program: Command) {
        let child = self.cluster.spawn(program);
        self._processes.push(child);
    }

    fn wait_ready(&self) {
        wait_for("the node to be ready for pods", || {
            let (code, node) = self.get(&format!("/api/v1/nodes/{NAME}"));
            let conditions = node["status"]["conditions"].as_array()?;
            let mut conditions = conditions.iter();
            let ready = conditions.any(|one| one["type"] == "Ready" && one["status"] == "True");
            (code == 200 && ready && node["spec"]["taints"].is_null()).then_some(())
        });
        for (namespace, account) in [("default", "default"), (NAMESPACE, SERVICE_ACCOUNT)] {
            wait_for("the controller's token for an account", || {
                let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}");
                let (_, account) = self.get(&path);
                account["secrets"][0].is_object().then_some(())
            });
        }
    }

    fn ctr(&self, arguments: &[&str]) -> Command {
        let mut ctr = Command::new(self.programs.join("ctr"));
        ctr.args(["--address", CONTAINERD, "--namespace", "k8s.io"]);
        ctr.args(arguments);
        ctr
    }

    /// Gives the node an image with that program in its root, the libraries that it needs, and public authorities.
    pub fn import(&self, name: &str, program: &Path, entrypoint: &[&str]) {
        let folder = self
            .folder
            .join("images")
            .join(name.replace(['/', ':'], "_"));
        let path = Path::new(entrypoint[0]).strip_prefix("/").unwrap();
        image::add(&folder, program, path);
        image::add_authorities(&folder);
        let image = image::save(name, &folder, entrypoint);
        let mut ctr = self.ctr(&["images", "import"]);
        let done = ctr.arg(image).output().unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        fs::remove_dir_all(folder).unwrap();
    }

    pub fn kubeconfig(&self, user: &str, groups: &[&str]) -> PathBuf {
        let folder = self.folder.join("users").join(user);
        fs::create_dir_all(&folder).unwrap();
        self.cluster.user_kubeconfig(&folder, user, groups)
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        self.cluster.request("GET", path, None)
    }
}

impl Drop for RealNode {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for program in ["kubelet", "containerd", "kube-controller-manager"] {
                eprintln!("--- the last of {program}\n{}", self.cluster.log(program));
            }
        }
    }
}
