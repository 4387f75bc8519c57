//! What the node's administrator lets manifests have: node-wide maxima, and which namespaces may
//! grant what.
//!
//! The order of evaluation, first refusal of a field counts:
//! 1. limits above the node's maxima are refused, whoever asks;
//! 2. folders that the daemon keeps to itself are refused, whoever asks;
//! 3. a namespace that is not trusted gets no grant at all;
//! 4. what makes its owner root (writing where the system takes commands from) needs the module to
//!    be named in `allowRootEquivalent`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::declared::Manifest;
use super::error::{Error, Problem, Reason};
use super::identity::LOCAL_NAMESPACE;
use super::quantity::{ByteSize, CpuShare, Period};
use super::spec::{DestinationKind, Module};

/// The most that one plugin's limits may ask for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NodeLimits {
    /// Of `limits.memory`.
    pub memory: ByteSize,
    /// Of `limits.deadline`.
    pub deadline: Period,
    /// Of `limits.cpu`. A plugin has one thread: more than a core means nothing.
    pub cpu: CpuShare,
    /// Of `limits.output`.
    pub output: ByteSize,
    /// Of `grants.state.quota`.
    pub state: ByteSize,
}

impl Default for NodeLimits {
    fn default() -> Self {
        Self {
            memory: ByteSize::mebibytes(512),
            deadline: Period::seconds(60),
            cpu: CpuShare::cores(1),
            output: ByteSize::mebibytes(64),
            state: ByteSize::mebibytes(64),
        }
    }
}

/// A module that may hold root-equivalent grants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum TrustedModule {
    /// A plugin built into the daemon, by name.
    Bundled(String),
    /// A component by the SHA-256 that its manifest states.
    Sha256(String),
}

/// The node's policy. The default is the one of a node without a policy.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Policy {
    /// The most that one plugin's limits may ask for.
    pub limits: NodeLimits,
    /// Namespaces whose manifests get every grant but root-equivalent ones: the folder's, and the
    /// daemon's own. Others get none.
    pub trusted_namespaces: BTreeSet<String>,
    /// Modules that may have root-equivalent grants, in a trusted namespace.
    pub allow_root_equivalent: BTreeSet<TrustedModule>,
    /// Folders that no grant may cover, be in or write to: the daemon's state and cache.
    #[serde(skip)]
    pub private_folders: Vec<PathBuf>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            limits: NodeLimits::default(),
            trusted_namespaces: BTreeSet::from([LOCAL_NAMESPACE.to_owned()]),
            allow_root_equivalent: BTreeSet::new(),
            private_folders: Vec::new(),
        }
    }
}

/// Who writes here decides what root runs.
const ROOT_EQUIVALENT_WRITES: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt/cni",
    "/root",
    "/run",
    "/sbin",
    "/usr",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/run",
    "/var/spool/cron",
];

impl Policy {
    /// Everything that this node refuses of `manifest`; nothing if it may run.
    pub fn check(&self, manifest: &Manifest) -> Vec<Error> {
        let mut refused = Vec::new();
        let mut refuse = |field: String, problem: String, remedy: String| {
            let problem = Problem::invalid(field, problem, remedy).because(Reason::PolicyRefused);
            refused.push(manifest.error(problem));
        };
        let spec = &manifest.spec;

        let limit = &self.limits;
        let cap = |field: &str, asked: String, most: String| {
            let name = field.rsplit('.').next().unwrap_or(field);
            (
                field.to_owned(),
                format!("{asked} is above this node's maximum of {most}"),
                format!(
                    "write `{name}: {most}` or less, or raise the node's maximum in its policy"
                ),
            )
        };
        let mut caps = Vec::new();
        if spec.limits.memory > limit.memory {
            caps.push(cap(
                "limits.memory",
                spec.limits.memory.to_string(),
                limit.memory.to_string(),
            ));
        }
        if spec.limits.deadline > limit.deadline {
            caps.push(cap(
                "limits.deadline",
                spec.limits.deadline.to_string(),
                limit.deadline.to_string(),
            ));
        }
        if spec.limits.cpu > limit.cpu {
            caps.push(cap(
                "limits.cpu",
                spec.limits.cpu.to_string(),
                limit.cpu.to_string(),
            ));
        }
        if spec.limits.output > limit.output {
            caps.push(cap(
                "limits.output",
                spec.limits.output.to_string(),
                limit.output.to_string(),
            ));
        }
        if let Some(state) = &spec.grants.state
            && state.quota > limit.state
        {
            caps.push(cap(
                "grants.state.quota",
                state.quota.to_string(),
                limit.state.to_string(),
            ));
        }
        for (field, problem, remedy) in caps {
            refuse(field, problem, remedy);
        }

        let namespace = manifest.identity.namespace();
        let trusted = self.trusted_namespaces.contains(namespace);
        let wants = [
            ("grants.state", spec.grants.state.is_some()),
            ("grants.nodeFacts", spec.grants.node_facts),
            ("grants.files", !spec.grants.files.is_empty()),
            ("logs", spec.logs.is_some()),
        ];
        if !trusted {
            for (field, _) in wants.into_iter().filter(|(_, wanted)| *wanted) {
                refuse(
                    field.to_owned(),
                    format!("namespace `{namespace}` may grant nothing on this node"),
                    format!(
                        "remove it, or add to the node's policy: `trustedNamespaces: [{namespace}]`"
                    ),
                );
            }
            return refused;
        }

        for (field, path, writes) in self.paths(manifest) {
            if let Some(private) = self
                .private_folders
                .iter()
                .find(|folder| overlap(folder, &path))
            {
                refuse(
                    field,
                    format!(
                        "covers {}, where the daemon keeps its own state",
                        private.display()
                    ),
                    "choose a folder beside it".to_owned(),
                );
            } else if writes
                && let Some(system) = ROOT_EQUIVALENT_WRITES
                    .iter()
                    .find(|system| overlap(Path::new(system), &path))
                && !self.trusts(&spec.module)
            {
                refuse(
                    field,
                    format!("writing to {system} is as good as being root on this node"),
                    match module_of(&spec.module) {
                        Some(module) => format!("write elsewhere, or add to the node's policy: `allowRootEquivalent: [{module}]`"),
                        None => "write elsewhere, or state the module's `sha256` and allow it in the node's policy with `allowRootEquivalent`".to_owned(),
                    },
                );
            }
        }
        refused
    }

    /// Field, path and whether it is written to.
    fn paths(&self, manifest: &Manifest) -> Vec<(String, PathBuf, bool)> {
        let spec = &manifest.spec;
        let grants = spec.grants.files.iter().enumerate().map(|(i, grant)| {
            (
                format!("grants.files[{i}].host"),
                grant.host.clone(),
                grant.writable,
            )
        });
        let destinations = spec.logs.iter().flat_map(|logs| &logs.destinations);
        let destinations = destinations.enumerate().flat_map(|(i, destination)| {
            let file = match &destination.kind {
                DestinationKind::File(file) => Some(("file", &file.path)),
                _ => None,
            };
            let queue = destination.queue.as_ref();
            let queue = queue.and_then(|queue| Some(("queue", queue.path.as_ref()?)));
            let paths = file.into_iter().chain(queue);
            paths.map(move |(what, path)| {
                let field = format!("logs.destinations[{i}].{what}.path");
                (field, path.clone(), true)
            })
        });
        grants.chain(destinations).collect()
    }

    fn trusts(&self, module: &Module) -> bool {
        self.allow_root_equivalent
            .iter()
            .any(|trusted| match (trusted, module) {
                (TrustedModule::Bundled(name), Module::Bundled(bundled)) => name == bundled,
                (TrustedModule::Sha256(digest), Module::File { sha256, .. })
                | (
                    TrustedModule::Sha256(digest),
                    Module::BinaryData {
                        sha256: Some(sha256),
                        ..
                    },
                ) => digest.eq_ignore_ascii_case(sha256),
                _ => false,
            })
    }
}

/// How a policy names the module.
fn module_of(module: &Module) -> Option<String> {
    match module {
        Module::Bundled(name) => Some(format!("{{bundled: {name}}}")),
        Module::File { sha256, .. } => Some(format!("{{sha256: {sha256}}}")),
        Module::BinaryData { sha256, .. } => sha256
            .as_ref()
            .map(|sha256| format!("{{sha256: {sha256}}}")),
    }
}

/// Whether one path is the other, or above it.
fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}
