//! A manifest that was read: who it is, what it says, where it stood.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::configmap::KEY;
use super::error::{Error, Problem, Reason};
use super::identity::Identity;
use super::meaning::digest;
use super::places::Places;
use super::spec::{Module, Plugin};

/// Where a manifest was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A document of a file.
    File {
        /// The file.
        file: PathBuf,
        /// Which document, from 0.
        document: usize,
    },
    /// A ConfigMap of the cluster.
    ConfigMap {
        /// What messages call it.
        name: PathBuf,
    },
}

impl Origin {
    /// The ConfigMap with this identity.
    pub(super) fn config_map(identity: &Identity) -> Self {
        Self::ConfigMap {
            name: format!("ConfigMap {identity}, {KEY}").into(),
        }
    }

    /// What messages call it: the file's path, or the ConfigMap.
    pub fn name(&self) -> &Path {
        match self {
            Self::File { file, .. } => file,
            Self::ConfigMap { name } => name,
        }
    }
}

/// A plugin as its owner declared it, checked in itself but not against a policy.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Namespace and name.
    pub identity: Identity,
    /// Where it was read.
    pub origin: Origin,
    /// What it says.
    pub spec: Plugin,
    /// SHA-256 over what it means: defaults filled in, keys in order, no comments, and the module's
    /// bytes if they are in it. Two manifests with one digest need no update between them.
    pub digest: [u8; 32],
    binary_data: BTreeMap<String, Vec<u8>>,
    places: Places,
}

impl PartialEq for Manifest {
    /// Same identity, meaning and origin: a comment or a moved line makes no difference.
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
            && self.digest == other.digest
            && self.origin == other.origin
    }
}

impl Manifest {
    pub(super) fn new(
        identity: Identity,
        origin: Origin,
        spec: Plugin,
        binary_data: BTreeMap<String, Vec<u8>>,
        places: Places,
    ) -> Self {
        Self {
            digest: digest(&identity, &spec, &binary_data),
            identity,
            origin,
            spec,
            binary_data,
            places,
        }
    }

    /// The bytes of a key of `binaryData`; nothing if there is no such key.
    pub fn binary(&self, key: &str) -> Option<&[u8]> {
        self.binary_data.get(key).map(Vec::as_slice)
    }

    /// The digest in hexadecimal.
    pub fn digest_hex(&self) -> String {
        use std::fmt::Write as _;
        self.digest.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The module's file, if that is where it comes from; a relative path starts at the folder of the
    /// manifest's file.
    pub fn module_file(&self) -> Option<PathBuf> {
        let Module::File { path, .. } = &self.spec.module else {
            return None;
        };
        let folder = match &self.origin {
            Origin::File { file, .. } => file.parent(),
            Origin::ConfigMap { .. } => None,
        };
        Some(folder.unwrap_or(Path::new("/")).join(path))
    }

    /// An error about a field of this manifest, with its place in the file: for refusals by those who
    /// know more than the manifest says (a plugin's schema, a module's digest).
    pub fn refuse(
        &self,
        reason: Reason,
        field: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Error {
        self.error(Problem::invalid(field, problem, remedy).because(reason))
    }

    pub(super) fn error(&self, problem: Problem) -> Error {
        self.places.error(self.origin.name(), problem)
    }
}

/// What one document of a file turned out to be.
#[derive(Debug)]
pub enum Document {
    /// A manifest without fault.
    Manifest(Box<Manifest>),
    /// Meant as a manifest, and refused. Every error there is, at least one.
    Refused {
        /// Whose it is, if that could be read.
        identity: Option<Identity>,
        /// What is wrong.
        errors: Vec<Error>,
    },
    /// Something else, such as a Service.
    Ignored {
        /// What it is, for a debug log.
        note: String,
        /// Set if it looks like a manifest that somebody forgot to label.
        hint: Option<Error>,
        /// Whether its label says `"false"`: somebody took it out knowingly.
        dismissed: bool,
    },
}
