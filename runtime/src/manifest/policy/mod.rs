//! What the node's administrator lets manifests have: which namespaces may declare plugins, with what,
//! and the most that any plugin may ask for. The types; `check` is what they mean for a manifest, and
//! `read` how they are written.
//!
//! The order of evaluation, first refusal of a field counts:
//! 1. limits above the node's maxima are refused, whoever asks;
//! 2. a namespace that the policy does not let in gets no plugin at all; one that it does gets what its
//!    entry says, with that entry's lower maxima;
//! 3. folders that the daemon keeps to itself are refused, whoever asks;
//! 4. what makes its owner root (writing where the system takes commands from) needs the module to
//!    be named in `allowRootEquivalent`.

mod check;
mod read;
mod scan;

pub use check::root_equivalent_folder;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::changes::ChangeGrants;
use super::identity::LOCAL_NAMESPACE;
use super::node_glob::NodeGlob;
use super::quantity::{ByteSize, CpuShare, Period};
use super::scanning::ScanGrants;

/// The most that one plugin's limits may ask for.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum TrustedModule {
    /// A plugin built into the daemon, by name.
    Bundled(String),
    /// A component by the SHA-256 that its manifest states.
    Sha256(String),
}

/// Where a module's bytes may come from; the names are those of the fields of `module`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ModuleSource {
    /// A plugin built into the daemon.
    Bundled,
    /// A file on the node.
    File,
    /// The manifest's own ConfigMap.
    BinaryData,
    /// Other ConfigMaps of the manifest's namespace.
    ConfigMapParts,
}

/// What a namespace's manifests may have.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NamespacePolicy {
    /// All capabilities but root-equivalent ones.
    pub all_grants: bool,
    /// Capabilities by name; none unless named.
    pub grants: Allowance,
    /// Lower maxima than the node's.
    pub limits: Option<NodeLimits>,
    /// Where modules may come from; anywhere unless given.
    pub modules: Option<BTreeSet<ModuleSource>>,
}

/// Capabilities by name.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Allowance {
    /// A durable key-value store.
    pub state: bool,
    /// The node's facts.
    pub node_facts: bool,
    /// What the kernel tells by system calls.
    pub node_stats: bool,
    /// Of what the host may read files for plugins.
    pub node_files: Vec<NodeGlob>,
    /// What of the node may be changed.
    pub changes: ChangeGrants,
    /// What may be shown of the node to be judged.
    pub scan: ScanGrants,
    /// Folders of which, or of whose folders, there may be grants and written files.
    pub files: Vec<AllowedFolder>,
    /// Pushing what plugins measure (`metrics.remoteWrite`).
    pub remote_write: bool,
    /// What may be read as logs and where it, and findings, may be sent; without it no `logs`, and no
    /// `scanning.destinations`.
    pub logs: Option<AllowedLogs>,
}

/// A folder of the node and all below it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AllowedFolder {
    /// Its absolute path.
    pub host: PathBuf,
    /// Whether it may be written to, by the plugin or by a destination.
    #[serde(default)]
    pub writable: bool,
}

/// What may be read as logs and where it may be sent.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AllowedLogs {
    /// Namespaces whose containers' logs may be read; `*` for all.
    pub containers: BTreeSet<String>,
    /// Folders below which files may be read as logs.
    pub files: Vec<PathBuf>,
    /// Kinds of destinations, as manifests write them; all unless given.
    pub destinations: Option<BTreeSet<String>>,
}

/// The node's policy. The default is the one of a node without a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The most that one plugin's limits may ask for.
    pub limits: NodeLimits,
    /// Namespaces that may declare plugins. Those of [`Self::home`] may have all grants unless they are
    /// named here.
    pub namespaces: BTreeMap<String, NamespacePolicy>,
    /// Modules that may have root-equivalent grants, in a namespace that has all others.
    pub allow_root_equivalent: BTreeSet<TrustedModule>,
    /// The namespace of who runs this node: the folder's, or the daemon's own.
    pub home: String,
    /// Folders that no grant may cover, be in or write to: the daemon's state and cache.
    pub private_folders: Vec<PathBuf>,
    /// Why nothing is let in: the policy that there is cannot be read.
    pub broken: Option<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            limits: NodeLimits::default(),
            namespaces: BTreeMap::new(),
            allow_root_equivalent: BTreeSet::new(),
            home: LOCAL_NAMESPACE.to_owned(),
            private_folders: Vec::new(),
            broken: None,
        }
    }
}
