//! What was last good, on the disk: manifests that this node accepted, the policy, and what it knows
//! of its Node. Written after it took effect, each file as one rename.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::ConfigMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::seen::{Change, NodeMeta};
use crate::manifest::Identity;

/// A file that is being written.
const UNFINISHED: &str = "new";

/// What was kept.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) manifests: Vec<ConfigMap>,
    /// Whether there was a policy is known, too.
    pub(super) policy: Option<Option<String>>,
    pub(super) node: Option<NodeMeta>,
}

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Kept(PathBuf);

impl Kept {
    /// Reads what is there. What cannot be read is told and left out: the API server has it.
    pub(super) async fn open(folder: PathBuf) -> (Self, Loaded) {
        let kept = Self(folder);
        let this = kept.clone();
        let loaded = tokio::task::spawn_blocking(move || this.load()).await;
        (kept, loaded.unwrap_or_default())
    }

    fn load(&self) -> Loaded {
        let manifests = self.0.join("manifests");
        if let Err(error) = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&manifests)
        {
            tell(&manifests, "made", &error);
        }
        let mut loaded = Loaded {
            policy: read(&self.policy()),
            node: read(&self.node()),
            ..Loaded::default()
        };
        for entry in fs::read_dir(&manifests).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension() == Some(OsStr::new(UNFINISHED)) {
                let _ = fs::remove_file(path);
            } else if let Some(manifest) = read(&path) {
                loaded.manifests.push(manifest);
            }
        }
        loaded
    }

    fn policy(&self) -> PathBuf {
        self.0.join("policy.json")
    }

    fn node(&self) -> PathBuf {
        self.0.join("node.json")
    }

    fn manifest(&self, identity: &Identity) -> PathBuf {
        // Neither part has an underscore.
        let (namespace, name) = (identity.namespace(), identity.name());
        self.0.join(format!("manifests/{namespace}_{name}.json"))
    }

    /// Keeps what has changed. What cannot be kept is told.
    pub(super) async fn apply(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let this = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            for change in changes {
                this.keep(change);
            }
        });
        if let Err(error) = task.await {
            tracing::error!("{error}");
        }
    }

    fn keep(&self, change: Change) {
        let (path, done) = match change {
            Change::Manifest(identity, object) => {
                let path = self.manifest(&identity);
                let done = write(&path, &object);
                (path, done)
            }
            Change::Policy(text) => (self.policy(), write(&self.policy(), &text)),
            Change::Node(meta) => (self.node(), write(&self.node(), &meta)),
            Change::Gone(identity) => {
                let path = self.manifest(&identity);
                let done = match fs::remove_file(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    done => done,
                };
                (path, done)
            }
        };
        if let Err(error) = done {
            tell(&path, "kept", &error);
        }
    }
}

fn tell(path: &Path, what: &str, error: &io::Error) {
    tracing::warn!(
        "{} cannot be {what}: {error}; after a restart without the API server an older state, or none, would hold",
        path.display()
    );
}

/// Nothing if there is no such file, or not a whole one.
fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tell(path, "read", &error);
            }
            return None;
        }
    };
    serde_json::from_slice(&bytes)
        .inspect_err(|error| tell(path, "read", &io::Error::other(error.to_string())))
        .ok()
}

fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut unfinished = path.to_owned().into_os_string();
    unfinished.push(".");
    unfinished.push(UNFINISHED);
    let mut file = File::create(&unfinished)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}
