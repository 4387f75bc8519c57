//! Sockets of container runtimes: who can write to one is root.

use bulkhead_sdk::scanning::{Findings, Outline, Severity, View};

use super::ports::is_loopback;
use super::{Check, rule, subject};

const SOCKET: &str = "posture.runtime-socket";
const TCP: &str = "posture.runtime-tcp";
const SOCKETS: [&str; 7] = [
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/buildkit/buildkitd.sock",
];
/// Docker's port without encryption.
const PORT: u16 = 2375;

/// Sockets of container runtimes.
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Config {
    /// Sockets beside the usual ones.
    sockets: Vec<String>,
}

impl Check for Config {
    fn outline(&mut self, outline: &mut Outline) {
        outline.rule(rule(
            SOCKET,
            Severity::Critical,
            "Everybody may use the container runtime",
            "Whoever can write to this socket starts privileged containers, and so is root on the node.",
            "Take the permission of others away: `chmod o-rwx SOCKET`, and in the runtime's configuration.",
        ));
        outline.rule(rule(
            TCP,
            Severity::Critical,
            "The container runtime listens on the network without encryption",
            "Docker's port 2375 asks nobody who he is. Whoever reaches it is root on the node.",
            "Take `-H tcp://` out of the daemon's options, or use TLS with client certificates on port 2376.",
        ));
        outline.want_sockets();
        for path in SOCKETS
            .into_iter()
            .chain(self.sockets.iter().map(String::as_str))
        {
            outline.want_entry(path);
        }
    }

    fn assess(&self, view: &View, out: &mut Findings) {
        for path in SOCKETS
            .into_iter()
            .chain(self.sockets.iter().map(String::as_str))
        {
            let Some(file) = view.file(path).filter(|file| file.kind().is_some()) else {
                continue;
            };
            if file.mode() & 0o002 != 0 {
                out.path(path, SOCKET)
                    .message(format!("mode {:04o}", file.mode()))
                    .evidence("mode", format!("{:04o}", file.mode()))
                    .evidence("gid", file.gid());
            }
        }
        let exposed = view.sockets().iter().filter(|socket| {
            socket.listening && socket.port == PORT && socket.protocol.starts_with("tcp")
        });
        for socket in exposed {
            let severity = match is_loopback(&socket.address) {
                true => Severity::High,
                false => Severity::Critical,
            };
            out.other(
                subject(
                    "socket",
                    &format!("{}/{}:{PORT}", socket.protocol, socket.address),
                ),
                TCP,
            )
            .severity(severity)
            .message(format!("port {PORT} listens on {}", socket.address))
            .evidence("pid", socket.pid);
        }
    }
}
