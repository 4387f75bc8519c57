//! Where manifests come from. A source keeps one value up to date, everything that shall run on this
//! node, and knows nothing of how plugins run: it only ever replaces the whole. Today a folder;
//! Kubernetes fits the same seam.

mod directory;
mod inotify;
mod scan;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::manifest::{self, Identity, Manifest};

pub use directory::{Directory, Error};

/// Everything that shall run on this node, as its source last saw it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    /// What is declared under each identity. One that is not here is not declared any more: it is to
    /// be unloaded.
    pub plugins: BTreeMap<Identity, Declared>,
    /// What is wrong with the source itself, or with files of which nobody knows whose they are.
    pub problems: Vec<manifest::Error>,
}

/// What is declared under one identity.
#[derive(Debug, Clone, PartialEq)]
pub enum Declared {
    /// A sound manifest that the policy allows.
    Accepted(Accepted),
    /// The manifest is broken, doubled or not allowed: an earlier revision keeps running. At least
    /// one error.
    Refused(Vec<manifest::Error>),
}

/// A manifest to run, and the state of the module's file if it names one.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// The file that the manifest names as its module.
    pub module_file: Option<ModuleFile>,
}

impl PartialEq for Accepted {
    fn eq(&self, other: &Self) -> bool {
        *self.manifest == *other.manifest && self.module_file == other.module_file
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
