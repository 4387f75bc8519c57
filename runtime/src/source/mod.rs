//! Where manifests come from. A source keeps one value up to date, everything that shall run on this
//! node, and knows nothing of how plugins run: it only ever replaces the whole. A folder, or the
//! ConfigMaps of a cluster.

mod directory;
mod inotify;
mod kubernetes;
mod policy_file;
mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use crate::manifest::{self, Identity, Manifest, Policy};

pub use directory::{Directory, Error, Rules};
pub use kubernetes::{Kubernetes, Settings as KubernetesSettings};

/// Everything that shall run on this node, as its source last saw it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    /// What is declared under each identity. One that is not here is not declared any more: it is to
    /// be unloaded.
    pub plugins: BTreeMap<Identity, Declared>,
    /// Plugins that are declared for other nodes than this one.
    pub elsewhere: BTreeSet<Identity>,
    /// What is wrong with the source itself, or with files of which nobody knows whose they are.
    pub problems: Vec<manifest::Error>,
    /// By which this was judged, for what runs already.
    pub policy: Arc<Policy>,
    /// The labels of this node, as far as they are known.
    pub labels: Arc<BTreeMap<String, String>>,
    /// The UIDs of the ConfigMaps of plugins, if they are a cluster's.
    pub uids: Arc<BTreeMap<Identity, Arc<str>>>,
}

/// What is declared under one identity.
#[derive(Debug, Clone, PartialEq)]
pub enum Declared {
    /// A sound manifest that the policy allows.
    Accepted(Accepted),
    /// The manifest is broken, doubled or not allowed: an earlier revision keeps running.
    Refused {
        /// At least one.
        errors: Vec<manifest::Error>,
        /// What was accepted before, if that is known, for a daemon that has just started.
        last_good: Option<Accepted>,
    },
}

impl Declared {
    fn refused(errors: Vec<manifest::Error>) -> Self {
        Self::Refused {
            errors,
            last_good: None,
        }
    }
}

/// A manifest to run, and the state of the module's file if it names one.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// The file that the manifest names as its module.
    pub module_file: Option<ModuleFile>,
    /// Why it stands still on this node, if somebody wants that of this node alone.
    pub suspended: Option<Arc<str>>,
}

impl PartialEq for Accepted {
    fn eq(&self, other: &Self) -> bool {
        *self.manifest == *other.manifest
            && self.module_file == other.module_file
            && self.suspended == other.suspended
    }
}

/// Any source.
#[derive(Debug)]
pub enum Source {
    /// A folder.
    Directory(Directory),
    /// A cluster.
    Kubernetes(Kubernetes),
}

impl Source {
    /// What is declared, now and later. Changes only when something changed in meaning.
    pub fn desired(&self) -> watch::Receiver<Arc<Desired>> {
        match self {
            Self::Directory(directory) => directory.desired(),
            Self::Kubernetes(kubernetes) => kubernetes.desired(),
        }
    }

    /// Reads anew what may have changed unseen.
    pub fn rescan(&self) {
        match self {
            Self::Directory(directory) => directory.rescan(),
            // A watch misses nothing.
            Self::Kubernetes(_) => {}
        }
    }
}

/// A module's file as it was found. Not verified: whoever loads it compares what it reads with the
/// manifest's digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleFile {
    /// Its path, absolute if the manifests' folder is.
    pub path: PathBuf,
    /// SHA-256 of the file's bytes as they are, compressed or not: changes when the file's content
    /// does.
    pub content: [u8; 32],
}
