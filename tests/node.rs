//! The DaemonSet of `deploy/` on a real node: kubelet, containerd and the control plane, in namespaces of
//! their own. It is installed by the commands of `docs/cluster.md`, with this program in the place of Docker and Helm. A machine that cannot run one fails this test, unless `BULKHEAD_WITHOUT_NODE=1` says that
//! this is known; then it is reported as ignored, never as passed.
//!
//! `BULKHEAD_BINARY` names another daemon for the image, such as the static one of a release.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/cluster/mod.rs"]
mod cluster;
#[path = "support/helm/mod.rs"]
mod helm;
#[path = "support/node/mod.rs"]
mod node;
mod support;

use std::cell::{Ref, RefCell};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use cluster::NAMESPACE;
use libtest_mimic::{Arguments, Failed, Trial};
use node::{BUSYBOX, NAME, RealNode};
use serde_json::{Value, json};
use support::book::{Page, root};
use support::{PATIENCE, sequence, wait_for};

/// Set inside the node: the folder of this run.
const FOLDER: &str = "BULKHEAD_NODE_FOLDER";
const WITHOUT: &str = "BULKHEAD_WITHOUT_NODE";

/// Not libtest's: that one cannot say of a test, when it runs, that it does not count.
fn main() -> ExitCode {
    let mut words = std::env::args();
    let called = words.next().unwrap_or_default();
    let words: Vec<_> = words.collect();
    match called.rsplit('/').next() {
        Some("docker") => return docker(&words),
        Some("helm") => return helm_install(&words),
        _ => {}
    }
    if let Some(folder) = std::env::var_os(FOLDER) {
        Story::begin(Path::new(&folder)).tell();
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let without = std::env::var_os(WITHOUT).is_some_and(|value| value == "1");
    if without && !arguments.list {
        eprintln!("NOT RUN: the DaemonSet on a real node, because {WITHOUT}=1 is set");
    }
    let trial = Trial::test("the_pod_stays_while_plugins_change", on_a_node);
    libtest_mimic::run(&arguments, vec![trial.with_ignored_flag(without)]).exit_code()
}

/// Runs this program again, inside a node.
fn on_a_node() -> Result<(), Failed> {
    if let Some(reason) = node::obstacle() {
        return Err(format!(
            "this machine cannot run a kubelet: {reason}. If that is known, {WITHOUT}=1 has this test ignored"
        )
        .into());
    }
    // Built here, where there is a network.
    helm::renderer();
    let folder = tempfile::Builder::new().prefix("node-").tempdir().unwrap();
    let this = std::env::current_exe().unwrap();
    let mut command = node::run(folder.path(), &this);
    let status = command.env(FOLDER, folder.path()).status().unwrap();
    match status.success() {
        true => Ok(()),
        false => Err(format!("inside the node: {status}; what it said is above").into()),
    }
}

/// In Docker's place: what the page pushes is noted, and made otherwise.
fn docker(words: &[String]) -> ExitCode {
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["build", "-f", file, "-t", _, "."] => assert!(Path::new(file).is_file(), "{file}"),
        ["push", tag] => fs::write(std::env::var("PUSHED").unwrap(), tag).unwrap(),
        _ => panic!("docker {words:?}"),
    }
    ExitCode::SUCCESS
}

/// In Helm's place: the chart is rendered by Helm's own template engine, and applied by kubectl.
fn helm_install(words: &[String]) -> ExitCode {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let [
        "install",
        "bulkhead",
        "deploy/helm/bulkhead",
        "--namespace",
        namespace,
        "--set",
        set,
    ] = words[..]
    else {
        panic!("helm {words:?}")
    };
    let (path, value) = set.split_once('=').unwrap();
    // The test's image is for the machine that it runs on.
    let mut values = json!({"nodeSelector": {"kubernetes.io/arch": node::architecture()}});
    let field = format!("/{}", path.replace('.', "/"));
    let (parent, name) = field.rsplit_once('/').unwrap();
    values[parent.trim_start_matches('/')] = json!({name: value});
    let objects: Vec<_> = helm::chart(namespace, &values).into_values().collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let mut kubectl = Command::new("kubectl");
    kubectl.args(["apply", "--namespace", namespace, "-f", "-"]);
    let mut kubectl = kubectl.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = kubectl.stdin.take().unwrap();
    input.write_all(list.to_string().as_bytes()).unwrap();
    drop(input);
    assert!(kubectl.wait().unwrap().success());
    ExitCode::SUCCESS
}

const IMAGE: &str = "registry.example.org/bulkhead";
const PODS: &str = "/api/v1/namespaces/bulkhead-system/pods";
const DAEMON_SET: &str = "/apis/apps/v1/namespaces/bulkhead-system/daemonsets/bulkhead";
const MANIFEST: &str = "/api/v1/namespaces/bulkhead-system/configmaps/log-shipper";
const OTHER_MANIFEST: &str = "/api/v1/namespaces/bulkhead-system/configmaps/node-metrics";
/// Where `deploy/examples/log-shipper.yaml` ships to.
const OUTPUT: &str = "/var/log/bulkhead/containers.jsonl";

/// What must not change of a pod.
#[derive(Debug, Clone, PartialEq)]
struct Identity {
    uid: Value,
    container: Value,
    started: Value,
    restarts: Value,
}

impl Identity {
    fn of(pod: &Value) -> Self {
        let container = &pod["status"]["containerStatuses"][0];
        Self {
            uid: pod["metadata"]["uid"].clone(),
            container: container["containerID"].clone(),
            started: container["state"]["running"]["startedAt"].clone(),
            restarts: container["restartCount"].clone(),
        }
    }
}

/// The output file, of which each line is read once.
#[derive(Default)]
struct Shipped {
    records: Vec<Value>,
    offset: u64,
}

impl Shipped {
    fn read(&mut self) {
        let Ok(mut file) = File::open(OUTPUT) else {
            return;
        };
        file.seek(SeekFrom::Start(self.offset)).unwrap();
        let mut text = Vec::new();
        file.read_to_end(&mut text).unwrap();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            if line.ends_with(b"\n") {
                self.offset += line.len() as u64;
                self.records.push(serde_json::from_slice(line).unwrap());
            }
        }
    }
}

struct Story {
    node: RealNode,
    shipped: RefCell<Shipped>,
    daemon: PathBuf,
    /// With what a reader has in the `PATH`.
    bin: PathBuf,
    admin: PathBuf,
    control: PathBuf,
}

impl Story {
    /// A node with the images that it needs.
    fn begin(folder: &Path) -> Self {
        let node = RealNode::start(folder);
        let daemon = support::binary();
        let bin = folder.join("bin");
        fs::create_dir(&bin).unwrap();
        for name in ["bulkhead", "kubectl-bulkhead"] {
            symlink(&daemon, bin.join(name)).unwrap();
        }
        for name in ["docker", "helm"] {
            symlink(std::env::current_exe().unwrap(), bin.join(name)).unwrap();
        }
        let control = folder.join("control");
        fs::create_dir(&control).unwrap();
        Self {
            admin: node.kubeconfig("admin", &["system:masters"]),
            shipped: RefCell::default(),
            daemon,
            bin,
            control,
            node,
        }
    }

    /// Gives the node an image, as a registry would.
    fn import(&self, tag: &str) {
        self.node.import(tag, &self.daemon, &["/bulkhead"]);
    }

    /// Runs the page's commands, block by block, on a cluster without what tests put into every one.
    fn install(&self) {
        let namespace = format!("/api/v1/namespaces/{NAMESPACE}");
        self.node.cluster.delete(&namespace);
        wait_for("the namespace to be gone", || {
            (self.node.get(&namespace).0 == 404).then_some(())
        });
        let pushed = self.node.folder.join("pushed");
        let commands = Page::read("docs/cluster.md").scripts("sh,node");
        for block in Page::read("deploy/README.md").scripts("sh,node") {
            let same = commands.iter().any(|it| it.contains(&block));
            assert!(same, "deploy/README.md has other commands:\n{block}");
        }
        for block in commands {
            self.sh(&block, &pushed);
            if let Ok(tag) = fs::read_to_string(&pushed) {
                assert_eq!(tag, image("0.1.0"));
                self.import(&tag);
                fs::remove_file(&pushed).unwrap();
            }
        }
    }

    fn sh(&self, script: &str, pushed: &Path) {
        let path = std::env::var("PATH").unwrap();
        // `kubectl rollout status` waits for ever.
        let output = Command::new("timeout")
            .args(["120", "bash", "-euo", "pipefail", "-c", script])
            .current_dir(root())
            .env("PATH", format!("{}:{path}", self.bin.display()))
            .env("PUSHED", pushed)
            .env("KUBECONFIG", &self.admin)
            .output()
            .unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        println!("{script}{out}");
        assert!(output.status.success(), "{script}\n{error}");
    }

    fn tell(&self) {
        self.install();
        self.import(&image("0.1.1"));
        let pod = self.wait_pod("the first", |_| true);
        let first = Identity::of(&pod);
        self.the_root_cannot_be_written();

        let example = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../deploy/examples/log-shipper.yaml"
        );
        let example = fs::read_to_string(example).unwrap();
        let manifest: Value = serde_saphyr::from_str(&example).unwrap();
        self.wait_plugin("Running", |plugin| plugin["phase"] == "Running");
        let writer = self.start_writer();
        self.wait_records("lines of a real pod", |record| {
            record["k8s.pod.name"] == "writer" && record["k8s.pod.label.app"] == "numbers"
        });
        for revision in ["two", "three"] {
            self.update(&manifest, revision);
            assert_eq!(
                Identity::of(&self.pod()),
                first,
                "after revision {revision}"
            );
        }
        self.wait_rotation(&writer);

        let took = self.wait_daemon_ends(|| self.delete(&pod));
        assert!(took < Duration::from_secs(5), "it took {took:?}");
        let second = self.wait_pod("another one", |pod| Identity::of(pod).uid != first.uid);
        self.wait_more();
        self.wait_daemon_ends(|| self.roll_out("0.1.1"));
        let third = self.wait_pod("one of the new image", |pod| {
            pod["spec"]["containers"][0]["image"] == image("0.1.1")
        });
        assert_ne!(Identity::of(&second).uid, Identity::of(&third).uid);
        self.wait_more();

        self.every_line_came_once();
        self.node.cluster.delete(MANIFEST);
        self.node.cluster.delete(OTHER_MANIFEST);
        wait_for("the plugin to be unloaded", || {
            self.plugins()?.is_empty().then_some(())
        });
        assert_eq!(
            Identity::of(&self.pod()),
            Identity::of(&third),
            "after the deletion"
        );
    }

    /// The daemon's pod, if there is just one.
    fn try_pod(&self) -> Option<Value> {
        let (_, list) = self.node.get(PODS);
        match list["items"].as_array()?.as_slice() {
            [pod] => Some(pod.clone()),
            _ => None,
        }
    }

    fn pod(&self) -> Value {
        self.try_pod().expect("not one pod")
    }

    /// Waits until there is one pod, it is ready, and `check` holds of it.
    fn wait_pod(&self, what: &str, check: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("the daemon's pod to be ready, {what}"), || {
            let pod = self.try_pod()?;
            let ready = pod["status"]["containerStatuses"][0]["ready"] == true;
            (ready && check(&pod)).then_some(pod)
        })
    }

    /// What `kubectl bulkhead status` tells of the node's plugins, once the node answers.
    fn plugins(&self) -> Option<Vec<Value>> {
        let said = Command::new(self.bin.join("kubectl-bulkhead"))
            .args(["status", "--output", "json"])
            .env("KUBECONFIG", &self.admin)
            .output()
            .unwrap();
        let answer: Value = serde_json::from_slice(&said.stdout).ok()?;
        assert_eq!(answer["nodes"][0]["node"], NAME);
        answer["nodes"][0]["plugins"].as_array().cloned()
    }

    fn wait_plugin(&self, what: &str, check: impl Fn(&Value) -> bool) {
        let mut last = Value::Null;
        let begin = Instant::now();
        while !check(&last) {
            let late = begin.elapsed() > PATIENCE;
            assert!(!late, "waited in vain for the plugin: {what}\n{last:#}");
            let plugins = self.plugins().unwrap_or_default();
            let shipper = plugins.into_iter().find(|it| it["name"] == "log-shipper");
            last = shipper.unwrap_or(last);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A pod that writes numbered lines until it is told to stop; its UID.
    fn start_writer(&self) -> String {
        let filler = "x".repeat(100);
        let script = format!(
            "n=0; while [ ! -e /control/stop ]; do \
               for i in 1 2 3 4 5 6 7 8 9 10; do echo writer $n {filler}; n=$((n+1)); done; \
               if [ -e /control/slow ]; then /busybox sleep 1; else /busybox usleep 20000; fi; \
             done; \
             echo $n >/control/new; /busybox mv /control/new /control/written; \
             exec /busybox sleep 3600"
        );
        let pod = json!({
            "metadata": {"name": "writer", "labels": {"app": "numbers"}},
            "spec": {
                "hostNetwork": true,
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "writer",
                    "image": BUSYBOX,
                    "command": ["/busybox", "sh", "-c", script],
                    "volumeMounts": [{"name": "control", "mountPath": "/control"}],
                }],
                "volumes": [{"name": "control", "hostPath": {"path": self.control}}],
            },
        });
        let made = self
            .node
            .cluster
            .create("/api/v1/namespaces/default/pods", &pod);
        made["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// Waits until the kubelet has rotated the writer's log.
    fn wait_rotation(&self, writer: &str) {
        let folder = format!("/var/log/pods/default_writer_{writer}/writer");
        wait_for("the kubelet to rotate the log", || {
            let logs = fs::read_dir(&folder).ok()?;
            logs.flatten()
                .any(|log| log.file_name().to_string_lossy().starts_with("0.log."))
                .then_some(())
        });
    }

    /// Changes the plugin, and waits for lines that only the new revision makes.
    fn update(&self, manifest: &Value, revision: &str) {
        let text = manifest["data"]["plugin.yaml"].as_str().unwrap();
        let new = text.replace(
            "parse: auto",
            &format!("parse: auto\n  add: {{revision: {revision}}}"),
        );
        assert_ne!(new, text);
        let patch = json!({"data": {"plugin.yaml": new}});
        self.node.cluster.patch(MANIFEST, &patch);
        self.wait_records(revision, |record| record["revision"] == revision);
    }

    /// The daemon as a process of the node.
    fn daemon(&self) -> Option<PathBuf> {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let mut folders = processes.map(|process| process.path());
        folders.find(|folder| {
            let line = fs::read(folder.join("cmdline")).unwrap_or_default();
            line.starts_with(b"/bulkhead\0run\0--kubernetes\0")
        })
    }

    fn the_root_cannot_be_written(&self) {
        let root = self.daemon().unwrap().join("root");
        let error = File::create(root.join("probe")).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        File::create(root.join("tmp/probe")).unwrap();
    }

    /// How long the daemon goes on after that order. The writer slows down then: a kubelet of 1.20 takes
    /// up to 20 seconds for another pod, and of what is rotated twice meanwhile nobody sees the middle.
    fn wait_daemon_ends(&self, order: impl FnOnce()) -> Duration {
        let process = self.daemon().unwrap();
        let begin = Instant::now();
        order();
        wait_for("the daemon to end", || (!process.exists()).then_some(()));
        let took = begin.elapsed();
        File::create(self.control.join("slow")).unwrap();
        took
    }

    /// Deletes the daemon's pod as `kubectl delete` does.
    fn delete(&self, pod: &Value) {
        let path = format!("{PODS}/{}", pod["metadata"]["name"].as_str().unwrap());
        let (code, answer) = self.node.cluster.request("DELETE", &path, None);
        assert_eq!(code, 200, "{answer:#}");
    }

    /// Has the DaemonSet put pods of another image in the place of its own.
    fn roll_out(&self, version: &str) {
        wait_for("the DaemonSet to be changed", || {
            let (_, mut set) = self.node.get(DAEMON_SET);
            set["spec"]["template"]["spec"]["containers"][0]["image"] = image(version).into();
            // Refused when its controller was faster.
            let (code, _) = self.node.cluster.request("PUT", DAEMON_SET, Some(&set));
            (code == 200).then_some(())
        });
    }

    /// What was shipped so far.
    fn records(&self) -> Ref<'_, Vec<Value>> {
        self.shipped.borrow_mut().read();
        Ref::map(self.shipped.borrow(), |shipped| &shipped.records)
    }

    fn wait_records(&self, what: &str, check: impl Fn(&Value) -> bool) {
        wait_for(what, || self.records().iter().any(&check).then_some(()));
    }

    /// Lines flow, as fast as the writer can.
    fn wait_more(&self) {
        let _ = fs::remove_file(self.control.join("slow"));
        let enough = self.records().len() + 1000;
        wait_for("more lines", || {
            (self.records().len() > enough).then_some(())
        });
    }

    /// Of all lines that the pod has written, over updates, rotations and other daemons.
    fn every_line_came_once(&self) {
        File::create(self.control.join("stop")).unwrap();
        let written: u64 = wait_for("the writer's word", || {
            let text = fs::read_to_string(self.control.join("written")).ok()?;
            text.trim().parse().ok()
        });
        self.wait_plugin("all lines settled", |plugin| {
            plugin["logs"]["lines"]["inFlight"] == 0 && plugin["logs"]["lag"]["bytes"] == 0
        });
        let mut sequences = sequence::sequences(&self.records());
        // In order within each of the files that rotation made, which may overtake each other.
        let numbers = sequences.get_mut("writer").unwrap();
        numbers.sort_unstable();
        let wrong = (0..written).zip(&*numbers).find(|(n, got)| n != *got);
        assert_eq!(wrong, None, "lost or doubled");
        assert_eq!(numbers.len() as u64, written);
        assert_eq!(sequences.len(), 1, "the daemon's own namespace is left out");
        println!("{written} lines, each shipped once");
    }
}

fn image(version: &str) -> String {
    format!("{IMAGE}:{version}")
}
