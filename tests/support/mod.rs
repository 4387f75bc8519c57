//! A daemon under test: the real binary, a folder of its own, a port of its own.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::new_without_default,
    reason = "a module of several test binaries, each of which uses a part of it"
)]

pub mod author;
pub mod authority;
pub mod book;
pub mod debian;
pub mod disk;
pub mod elastic;
pub mod enforcer;
pub mod history;
pub mod originals;
pub mod peers;
pub mod prometheus;
pub mod protocols;
pub mod real;
pub mod reference;

pub mod rsyslog;
pub mod sequence;
pub mod sink;
pub mod splunk;
pub mod trial;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;

/// The longest that a test waits for a state.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polls until `check` gives something.
pub fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A daemon that comes to rest ten times as soon as others do.
pub const RESTS: [(&str, &str); 1] = [("BULKHEAD_REST_MILLISECONDS", "1000")];

/// The binary under test: cargo's, or the one of the same source and features that `BULKHEAD_BINARY` names.
pub fn binary() -> PathBuf {
    let other = std::env::var_os("BULKHEAD_BINARY").filter(|path| !path.is_empty());
    other.map_or_else(|| env!("CARGO_BIN_EXE_bulkhead").into(), PathBuf::from)
}

/// A folder with manifests, state and logs, and the daemon that works on them.
pub struct Node {
    pub folder: TempDir,
    daemon: Option<Child>,
    status: Option<SocketAddr>,
    /// Where the daemon keeps its state.
    pub state: PathBuf,
    /// Where [`Self::spec`] sends lines.
    pub outputs: PathBuf,
    /// Where the status endpoint shall listen.
    pub listen: String,
    /// Where the daemon's manifests come from, as arguments.
    pub source: Vec<String>,
    /// A command, and its arguments, that becomes the daemon whose command line comes after it.
    pub wrapper: Vec<String>,
    starts: usize,
}

impl Node {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["manifests", "logs"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let manifests = folder.path().join("manifests");
        Self {
            state: folder.path().join("state"),
            outputs: folder.path().to_owned(),
            folder,
            daemon: None,
            status: None,
            listen: "127.0.0.1:0".to_owned(),
            source: vec![
                "--manifests".to_owned(),
                manifests.to_str().unwrap().to_owned(),
            ],
            wrapper: Vec::new(),
            starts: 0,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) {
        self.start_with(&[], &[]);
    }

    pub fn start_with(&mut self, arguments: &[&str], environment: &[(&str, &str)]) {
        self.spawn(arguments, environment);
        let log = self.daemon_log_path();
        let address = wait_for("the daemon to listen", || {
            let log = fs::read_to_string(&log).ok()?;
            let at = log.find("\"status\":\"http")?;
            let (_, address) = log[at..].split_once("://")?;
            address.split('/').next()?.parse().ok()
        });
        self.status = Some(address);
    }

    /// Starts the daemon and does not wait.
    pub fn spawn(&mut self, arguments: &[&str], environment: &[(&str, &str)]) {
        assert!(self.daemon.is_none(), "it runs already");
        self.starts += 1;
        let log = File::create(self.daemon_log_path()).unwrap();
        let mut line = self.wrapper.iter().map(String::as_str);
        let binary = binary();
        let mut command = line
            .next()
            .map_or_else(|| Command::new(&binary), Command::new);
        if !self.wrapper.is_empty() {
            command.args(line).arg(&binary);
        }
        let daemon = command
            // The machine of the tests may itself be a pod.
            .env_remove("KUBERNETES_SERVICE_HOST")
            .arg("run")
            .args(&self.source)
            .arg("--state")
            .arg(&self.state)
            .args(["--status", &self.listen, "--log-format", "json"])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}; is util-linux installed?"));
        self.daemon = Some(daemon);
    }

    fn daemon_log_path(&self) -> PathBuf {
        self.path(&format!("daemon-{}.log", self.starts))
    }

    pub fn daemon_log(&self) -> String {
        fs::read_to_string(self.daemon_log_path()).unwrap_or_default()
    }

    /// How often the daemon came to rest since it was started, and gave back what was needed once. See [`RESTS`].
    pub fn rests(&self) -> usize {
        self.daemon_log().matches("\"at rest: ").count()
    }

    /// So long that a daemon with [`RESTS`] that has just started or loaded something rests. Meanwhile it answers what is
    /// asked on every node, and `more`.
    pub fn rest(&self, mut more: impl FnMut()) {
        let before = self.rests();
        let end = Instant::now() + Duration::from_secs(45);
        while Instant::now() < end {
            for path in ["/healthz", "/readyz", "/metrics"] {
                self.get(path).unwrap();
            }
            more();
            std::thread::sleep(Duration::from_secs(1));
        }
        assert!(self.rests() > before, "it never came to rest");
    }

    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// Waits until the daemon has ended by itself.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().unwrap();
        wait_for("the daemon to end", || daemon.try_wait().unwrap())
    }

    pub fn has_ended(&mut self) -> bool {
        let daemon = self.daemon.as_mut().unwrap();
        daemon.try_wait().unwrap().is_some()
    }

    /// SIGTERM, and the exit status.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait_for_end()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        signal_to(self.daemon.as_ref().unwrap(), signal);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        let _ = daemon.kill();
        daemon.wait().unwrap();
    }

    /// Writes a manifest as one rename. `spec` is YAML without indentation.
    pub fn manifest(&self, name: &str, spec: &str) {
        self.raw_manifest(&format!("{name}.yaml"), &config_map(name, spec));
    }

    pub fn raw_manifest(&self, file: &str, text: &str) {
        let hidden = self.path(&format!("manifests/.{file}.new"));
        fs::write(&hidden, text).unwrap();
        fs::rename(hidden, self.path("manifests").join(file)).unwrap();
    }

    pub fn remove_manifest(&self, name: &str) {
        fs::remove_file(self.path(&format!("manifests/{name}.yaml"))).unwrap();
    }

    /// A spec that ships `logs/*.log` to the file `out-NAME`, with a fixture as module.
    pub fn spec(&self, name: &str, fixture: &str, config: &str) -> String {
        self.spec_of(name, &fixture_file(fixture), config)
    }

    /// As [`Self::spec`], with any module.
    pub fn spec_of(&self, name: &str, module: &str, config: &str) -> String {
        let file = format!("file: {{path: {:?}}}", self.output_path(name));
        self.spec_with(module, config, &file)
    }

    /// As [`Self::spec`], with any destination; its name is `out`.
    pub fn spec_to(&self, fixture: &str, config: &str, destination: &str) -> String {
        self.spec_with(&fixture_file(fixture), config, destination)
    }

    /// As [`Self::spec_to`], with any module.
    pub fn spec_with(&self, module: &str, config: &str, destination: &str) -> String {
        format!(
            "module:\n  {module}\nconfig: {config}\nupdate: {{probation: 200ms}}\nlogs:\n  startAt: beginning\n  sources:\n  - files: {{include: [{:?}]}}\n  destinations:\n  - name: out\n    {destination}",
            self.path("logs/*.log"),
        )
    }

    /// Where the daemon answers.
    pub fn address(&self) -> SocketAddr {
        self.status.expect("the daemon has not been started")
    }

    /// GET; the status code and the body.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let (code, _, body) = self.request("GET", path)?;
        Some((code, body))
    }

    /// The status code, the head and the body.
    pub fn request(&self, method: &str, path: &str) -> Option<(u16, String, String)> {
        let mut stream = TcpStream::connect(self.status?).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(stream, "{method} {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let code = head.split(' ').nth(1)?.parse().ok()?;
        Some((code, head.to_owned(), body.to_owned()))
    }

    /// Where the status endpoint listens.
    pub fn status_address(&self) -> String {
        self.status.unwrap().to_string()
    }

    /// What the plugin said lately, and how much of it was dropped, once the daemon knows it.
    pub fn journal(&self, name: &str) -> Value {
        let path = format!("/v1/plugins/local/{name}/logs");
        let body = wait_for(&format!("the journal of {name}"), || {
            let (code, body) = self.get(&path)?;
            (code == 200).then_some(body)
        });
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until the plugin has shipped `count` lines, and returns them.
    pub fn wait_output(&self, name: &str, count: usize) -> Vec<Value> {
        wait_for(&format!("{count} lines of {name}"), || {
            let output = self.output(name);
            (output.len() >= count).then_some(output)
        })
    }

    pub fn plugin(&self, name: &str) -> Option<Value> {
        let (code, body) = self.get(&format!("/v1/plugins/local/{name}"))?;
        (code == 200).then(|| serde_json::from_str(&body).unwrap())
    }

    /// Waits until a plugin's report satisfies `check`, and returns it.
    pub fn wait_plugin(&self, name: &str, what: &str, check: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let begin = Instant::now();
        loop {
            if let Some(report) = self.plugin(name) {
                if check(&report) {
                    return report;
                }
                last = report;
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "waited in vain for {name}: {what}\n{last:#}\n{}",
                self.daemon_log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn wait_running(&self, name: &str) -> Value {
        self.wait_plugin(name, "Running", |report| report["phase"] == "Running")
    }

    /// Asserts that each of the `written` lines is accounted for, since the daemon has started:
    /// written = acknowledged + filtered + dead-lettered + given up, and none is under way.
    pub fn assert_accounted(&self, name: &str, written: u64) -> Accounts {
        let report = self.wait_plugin(name, "every line settled", |report| {
            let accounts = Accounts::of(report);
            accounts.settled() >= written && accounts.in_flight == 0
        });
        let accounts = Accounts::of(&report);
        assert_eq!(accounts.settled(), written, "{accounts:?}");
        assert_eq!(accounts.read + accounts.given_up(), written, "{accounts:?}");
        accounts
    }

    pub fn append(&self, log: &str, lines: impl IntoIterator<Item = String>) {
        let path = self.path(&format!("logs/{log}"));
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        let text: String = lines.into_iter().map(|line| line + "\n").collect();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn output_path(&self, name: &str) -> PathBuf {
        self.outputs.join(format!("out-{name}"))
    }

    /// The lines of an output file.
    pub fn output(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.output_path(name)).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
            .collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.daemon.is_some() {
            self.kill();
        }
    }
}

/// What became of a plugin's lines, as the status endpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    pub read: u64,
    pub acknowledged: u64,
    pub filtered: u64,
    pub dead_lettered: u64,
    pub in_flight: u64,
    pub truncated: u64,
    pub deleted: u64,
}

impl Accounts {
    pub fn of(report: &Value) -> Self {
        let lines = &report["logs"]["lines"];
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        Self {
            read: number(&lines["read"]),
            acknowledged: number(&lines["acknowledged"]),
            filtered: number(&lines["filtered"]),
            dead_lettered: number(&lines["deadLettered"]),
            in_flight: number(&lines["inFlight"]),
            truncated: number(&lines["givenUp"]["truncated"]),
            deleted: number(&lines["givenUp"]["deleted"]),
        }
    }

    pub fn given_up(&self) -> u64 {
        self.truncated + self.deleted
    }

    fn settled(&self) -> u64 {
        self.acknowledged + self.filtered + self.dead_lettered + self.given_up()
    }
}

/// What a test draws its accidents from: `BULKHEAD_SEED`, or the time. Say it where a failure shows.
pub fn seed() -> u64 {
    match std::env::var("BULKHEAD_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos() as u64,
    }
}

/// Lines `TEXT NUMBER`.
pub fn numbered(text: &str, numbers: Range<u64>) -> impl Iterator<Item = String> + use<> {
    let text = text.to_owned();
    numbers.map(move |number| format!("{text} {number}"))
}

/// A ConfigMap around a plugin's spec.
pub fn config_map(name: &str, spec: &str) -> String {
    let indented: String = spec.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  labels: {{bulkhead.dev/plugin: \"true\"}}\ndata:\n  plugin.yaml: |\n    apiVersion: bulkhead.dev/v1alpha1\n    kind: Plugin\n{indented}"
    )
}

/// The module of a fixture, as a manifest names it.
pub fn fixture_file(name: &str) -> String {
    let (path, sha256) = fixture_module(name);
    format!("file: {{path: {path:?}, sha256: {sha256}}}")
}

/// A fixture's file and digest.
pub fn fixture_module(name: &str) -> (PathBuf, String) {
    let file = format!("{}.wasm", name.replace('-', "_"));
    let path = Path::new(env!("BULKHEAD_FIXTURES")).join(file);
    let hex = sha256(&fs::read(&path).unwrap());
    (path, hex)
}

/// The digest as a manifest writes it.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A component that behaves the same and has another digest: a custom section more.
pub fn variant(component: &[u8], name: u8) -> Vec<u8> {
    [component, &[0, 2, 1, name]].concat()
}

/// Writes a file as one rename.
pub fn replace_file(path: &Path, bytes: &[u8]) {
    let hidden = path.with_extension("new");
    fs::write(&hidden, bytes).unwrap();
    fs::rename(hidden, path).unwrap();
}

pub fn signal_to(process: &Child, signal: rustix::process::Signal) {
    let pid = i32::try_from(process.id()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// The message of a condition.
pub fn message<'a>(report: &'a Value, kind: &str) -> &'a str {
    condition(report, kind)["message"].as_str().unwrap_or("")
}

/// The reason of a condition.
pub fn reason<'a>(report: &'a Value, kind: &str) -> &'a str {
    condition(report, kind)["reason"].as_str().unwrap_or("")
}

pub fn condition<'a>(report: &'a Value, kind: &str) -> &'a Value {
    let conditions = report["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == kind)
        .unwrap_or(&Value::Null)
}
