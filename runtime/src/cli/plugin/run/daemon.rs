//! The daemon that runs the one plugin: this program, with folders of its own, that ends with this.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::is_asked;
use crate::cli::Failed;
use crate::control::{self, Order, Request};
use crate::sandbox::Role;

/// See the module.
pub(super) struct Daemon {
    child: Child,
    log: PathBuf,
    address: Option<SocketAddr>,
    /// The problem that was told last.
    told: Option<String>,
}

impl Daemon {
    /// Starts it in a folder with `manifests`, `policy.yaml` and room for its state.
    ///
    /// # Errors
    /// If it does not start.
    pub(super) fn start(folder: &Path) -> Result<Self, Failed> {
        let log = folder.join("daemon.log");
        let failed =
            |error: std::io::Error| Failed::new(format!("cannot start the daemon: {error}"));
        let file = File::create(&log).map_err(failed)?;
        let program = std::env::current_exe().map_err(failed)?;
        let child = Command::new(program)
            .arg("run")
            .arg("--manifests")
            .arg(folder.join("manifests"))
            .arg("--policy")
            .arg(folder.join("policy.yaml"))
            .arg("--state")
            .arg(folder.join("state"))
            .args(["--status", "127.0.0.1:0", "--status-auth", "none"])
            .args(["--audit-only", "--allow-recording", "--log-format", "json"])
            .arg("--with-parent")
            .env_remove("KUBERNETES_SERVICE_HOST")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .map_err(failed)?;
        Ok(Self {
            child,
            log,
            address: None,
            told: None,
        })
    }

    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// An error with the last that the daemon said.
    pub(super) fn explain(&self, what: &str) -> Failed {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let from = log.lines().count().saturating_sub(3);
        let last: Vec<&str> = log.lines().skip(from).collect();
        Failed::new(format!("{what}; it said last:\n{}", last.join("\n")))
    }

    /// The problem, if it is another one than before.
    pub(super) fn news(&mut self, problem: Option<String>) -> Option<String> {
        let news = problem.is_some() && problem != self.told;
        self.told.clone_from(&problem);
        problem.filter(|_| news)
    }

    /// The plugin as the status endpoint shows it, once it does.
    pub(super) async fn status(&mut self, name: &str) -> Option<Value> {
        let path = format!("/v1/plugins/local/{name}");
        let address = self.address()?;
        let body = tokio::task::spawn_blocking(move || get(address, &path)).await;
        serde_json::from_str(&body.ok()??).ok()
    }

    fn address(&mut self) -> Option<SocketAddr> {
        if self.address.is_none() {
            let log = std::fs::read_to_string(&self.log).ok()?;
            let (_, found) = log.split_once("\"status\":\"http://")?;
            self.address = found.split('/').next()?.parse().ok();
        }
        self.address
    }

    /// Has the plugin asked what it is not asked by itself all the time.
    pub(super) fn ask(&mut self, name: &str, roles: &[Role], state: PathBuf) {
        let name = name.to_owned();
        if !roles.iter().copied().any(is_asked) {
            return;
        }
        if roles.contains(&Role::Metrics)
            && let Some(address) = self.address()
        {
            let path = format!("/metrics/plugins/local/{name}");
            drop(tokio::task::spawn_blocking(move || get(address, &path)));
        }
        if roles.contains(&Role::Enforcement) {
            let order = Order::Check {};
            tokio::spawn(async move {
                let request = Request {
                    plugin: name,
                    order,
                };
                // It may not have begun yet; it is asked again soon.
                let _ = control::send(&state, &request).await;
            });
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: SocketAddr, path: &str) -> Option<String> {
    const PATIENCE: Duration = Duration::from_secs(15);
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_owned())
}
