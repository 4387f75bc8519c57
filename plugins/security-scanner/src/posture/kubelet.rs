//! What the kubelet lets others do.

use bulkhead_sdk::scanning::{Entry, FileKind, Findings, Outline, Process, Severity, View, WantId};
use serde_json::Value;

use super::{Check, rule};

const ANONYMOUS: &str = "posture.kubelet-anonymous";
const AUTHORIZATION: &str = "posture.kubelet-authorization";
const READ_ONLY: &str = "posture.kubelet-read-only-port";
const FILE: &str = "posture.kubelet-file";
const UNREAD: &str = "posture.kubelet-unclear";

/// The kubelet.
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Config {
    /// Its configuration; `/var/lib/kubelet/config.yaml` unless given.
    config: Option<String>,
    /// Whether its flags are looked at, which come before the configuration. Needs the grants
    /// `scan.processes` and `scan.argumentsOf: [kubelet]`.
    flags: bool,
    /// Other files and globs of files that only root may read.
    secrets: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Kubelet {
    config: String,
    flags: bool,
    secrets: Vec<String>,
    wants: Vec<WantId>,
}

impl Kubelet {
    pub(super) fn new(config: &Config) -> Self {
        let secrets = [
            "/etc/kubernetes/kubelet.conf",
            "/etc/kubernetes/pki/*.key",
            "/var/lib/kubelet/kubeconfig",
            "/var/lib/kubelet/pki/*.key",
        ];
        let secrets = secrets.map(str::to_owned).into_iter();
        let usual = "/var/lib/kubelet/config.yaml";
        Self {
            config: config.config.clone().unwrap_or_else(|| usual.to_owned()),
            flags: config.flags,
            secrets: secrets.chain(config.secrets.iter().cloned()).collect(),
            wants: Vec::new(),
        }
    }

    fn judge(&self, settings: &Settings<'_>, out: &mut Findings) {
        let mut told = |id: &str, message: String| {
            out.path(self.config.as_str(), id).message(message);
        };
        if settings.get(
            "anonymous-auth",
            "/authentication/anonymous/enabled",
            "true",
        ) == "true"
        {
            told(ANONYMOUS, "anonymous requests are let in".to_owned());
        }
        let mode = settings.get("authorization-mode", "/authorization/mode", "AlwaysAllow");
        if mode == "AlwaysAllow" {
            told(AUTHORIZATION, format!("the mode is {mode}"));
        }
        let port = settings.get("read-only-port", "/readOnlyPort", "10255");
        if port != "0" {
            told(READ_ONLY, format!("it serves port {port}"));
        }
    }

    fn file(&self, file: Entry<'_>, forbidden: u32, out: &mut Findings) {
        if file.kind() != Some(FileKind::File) {
            return;
        }
        let (mode, uid) = (file.mode(), file.uid());
        if mode & forbidden != 0 || uid != 0 {
            out.path(file.path(), FILE)
                .message(format!("mode {mode:04o}, owner {uid}"))
                .evidence("mode", format!("{mode:04o}"))
                .evidence("uid", uid)
                .evidence("atMost", format!("{:04o}", 0o755 & !forbidden));
        }
    }
}

/// What the kubelet goes by.
struct Settings<'a> {
    flags: &'a [String],
    /// None if there is no configuration.
    config: Option<Value>,
}

impl Settings<'_> {
    /// A flag, or what the configuration says. Without both, the default: with a configuration, all that
    /// is judged here is fine.
    fn get(&self, flag: &str, pointer: &str, without_config: &str) -> String {
        let mut flags = self.flags.iter().enumerate().rev();
        let given = flags.find_map(|(i, text)| {
            let rest = text.trim_start_matches('-').strip_prefix(flag)?;
            match rest.strip_prefix('=') {
                Some(value) => Some(value.to_owned()),
                None if !rest.is_empty() => None,
                // The next word, or a switch.
                None => match self.flags.get(i + 1) {
                    Some(next) if !next.starts_with('-') => Some(next.clone()),
                    _ => Some("true".to_owned()),
                },
            }
        });
        let configured = || match self.config.as_ref()?.pointer(pointer)? {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        };
        given
            .or_else(configured)
            .unwrap_or_else(|| match self.config {
                Some(_) => match flag {
                    "anonymous-auth" => "false".to_owned(),
                    "authorization-mode" => "Webhook".to_owned(),
                    _ => "0".to_owned(),
                },
                None => without_config.to_owned(),
            })
    }
}

impl Check for Kubelet {
    fn outline(&mut self, outline: &mut Outline) {
        let rules = [
            (
                ANONYMOUS,
                Severity::Critical,
                "The kubelet lets in whoever asks",
                "Anonymous requests can list the node's pods, and run commands in them where nothing else forbids it.",
                "Set authentication.anonymous.enabled to false.",
            ),
            (
                AUTHORIZATION,
                Severity::Critical,
                "The kubelet asks nobody what a caller may do",
                "Every caller who is let in may do everything: run commands in all pods of the node.",
                "Set authorization.mode to Webhook.",
            ),
            (
                READ_ONLY,
                Severity::High,
                "The kubelet shows its pods to everybody",
                "The port without authentication lists pods with their environment, and where they run.",
                "Set readOnlyPort to 0.",
            ),
            (
                FILE,
                Severity::High,
                "Others than root can read or write files of the kubelet",
                "Its keys are the node's identity in the cluster, and its configuration decides who is let in.",
                "chown root FILE, and take the permissions that the finding names away.",
            ),
            (
                UNREAD,
                Severity::Info,
                "The kubelet's configuration cannot be judged",
                "It cannot be read, or is no YAML, so the kubelet may allow more than is said here.",
                "Look at the message, and grant the file.",
            ),
        ];
        for (id, severity, title, why, how) in rules {
            outline.rule(rule(id, severity, title, why, how));
        }
        outline.want_file(&self.config);
        self.wants = self
            .secrets
            .iter()
            .map(|glob| outline.want_entry(glob))
            .collect();
        if self.flags {
            outline.want_processes();
        }
    }

    fn assess(&self, view: &View, out: &mut Findings) {
        let is_kubelet = |process: &&Process| process.name == "kubelet";
        let process = view
            .processes()
            .iter()
            .filter(|_| self.flags)
            .find(is_kubelet);
        let flags = process.map_or(&[][..], |process| &process.arguments);
        let file = view.file(&self.config).filter(|file| file.kind().is_some());
        if let Some(file) = file {
            self.file(file, 0o022, out);
            let text = file.text();
            match text.and_then(|text| serde_saphyr::from_str::<Value>(text).ok()) {
                Some(config) => {
                    let config = Some(config);
                    self.judge(&Settings { flags, config }, out);
                }
                None => {
                    out.path(self.config.as_str(), UNREAD)
                        .message("it cannot be read, or is no YAML");
                }
            }
        } else if flags.iter().any(|flag| flag.starts_with("--config")) {
            out.path(self.config.as_str(), UNREAD)
                .message("it is not there, and the kubelet is told to read another one");
        } else if process.is_some() && !flags.is_empty() {
            self.judge(
                &Settings {
                    flags,
                    config: None,
                },
                out,
            );
        }
        for want in &self.wants {
            for file in view.files(*want) {
                self.file(file, 0o077, out);
            }
        }
    }
}
