//! What `bulkhead run` does when it is told nothing: the bundled plugins look at this machine and change nothing.
//!
//! Their manifests are files in the user's own folder, so that the first thing to try is to edit one.

use std::fs::{self, DirBuilder};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::super::Failed;

/// Paths and texts of the policy and the manifests. `FOLDER` stands for the starter's folder.
const FILES: [(&str, &str); 5] = [
    ("policy.yaml", include_str!("starter/policy.yaml")),
    ("manifests/logs.yaml", include_str!("starter/logs.yaml")),
    (
        "manifests/metrics.yaml",
        include_str!("starter/metrics.yaml"),
    ),
    (
        "manifests/hardening.yaml",
        include_str!("starter/hardening.yaml"),
    ),
    (
        "manifests/security.yaml",
        include_str!("starter/security.yaml"),
    ),
];
/// What the manifests call it.
const FOLDER: &str = "FOLDER";

/// The folder of a user who has not named any.
pub(super) struct Starter {
    folder: PathBuf,
}

impl Starter {
    /// In the user's folder for state (XDG Base Directory Specification), with what is not there yet of its
    /// policy and manifests: what a user has changed stays.
    pub(super) fn make() -> Result<Self, Failed> {
        let folder = base()?.join("bulkhead");
        let failed = |path: &Path, error: std::io::Error| {
            Failed::new(format!(
                "{}: {error}; name folders of your own with --manifests and --state",
                path.display()
            ))
        };
        let starter = Self { folder };
        let manifests = starter.manifests();
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&manifests);
        made.map_err(|error| failed(&manifests, error))?;
        // A JSON string is a YAML string.
        let spelled = serde_json::Value::from(starter.folder.to_string_lossy()).to_string();
        let spelled = spelled.trim_matches('"');
        for (name, text) in FILES {
            let path = starter.folder.join(name);
            let text = text.replace(FOLDER, spelled);
            let made =
                fs::File::create_new(&path).and_then(|mut file| file.write_all(text.as_bytes()));
            match made {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(failed(&path, error));
                }
                _ => {}
            }
        }
        Ok(starter)
    }

    pub(super) fn manifests(&self) -> PathBuf {
        self.folder.join("manifests")
    }

    pub(super) fn policy(&self) -> PathBuf {
        self.folder.join("policy.yaml")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Says what happens, and what to try.
    pub(super) fn introduce(&self, status: std::net::SocketAddr, state: &Path) {
        let manifests = self.manifests();
        let manifests = manifests.display();
        let state = state.display();
        let folder = self.folder.display();
        // Nobody may be reading, and that is no reason to stop.
        let _ = writeln!(
            std::io::stderr(),
            "The bundled plugins look at this machine and change nothing on it.

  page       http://{status}/
  metrics    http://{status}/metrics/plugins
  log lines  {folder}/lines.jsonl
  manifests  {manifests}

To try next, in another terminal:
  # how they are
  bulkhead status --watch
  # what is not as it should be on this machine, and how it is hardened, rule by rule
  bulkhead scanning findings --state {state}
  bulkhead enforcement check --state {state} local/hardening
  # a change is taken over while lines flow
  $EDITOR {manifests}/logs.yaml

Ctrl-C ends it; run it again and it goes on. To begin anew, delete {folder}.
"
        );
    }
}

fn base() -> Result<PathBuf, Failed> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from);
    let absolute = |path: &PathBuf| path.is_absolute();
    folder("XDG_STATE_HOME")
        .filter(absolute)
        .or_else(|| Some(folder("HOME").filter(absolute)?.join(".local/state")))
        .ok_or_else(|| {
            Failed::new("there is no home folder for what it keeps: name folders with --manifests and --state".to_owned())
        })
}
