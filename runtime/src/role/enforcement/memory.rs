//! What the role must not forget of a plugin when the daemon ends: handlers that are due, and what was
//! put back by hand and is to stay so.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The file, in the plugin's folder.
const NAME: &str = "memory.json";

/// See the module. Blocks.
#[derive(Debug)]
pub(super) struct Memory {
    folder: PathBuf,
    noted: Noted,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Noted {
    /// Ids of handlers that are due.
    due: BTreeSet<String>,
    held: Held,
}

/// What is left alone until the manifest changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Held {
    /// The digest of the manifest for which it holds.
    manifest: String,
    /// Everything.
    all: bool,
    /// Ids of changes.
    changes: BTreeSet<String>,
}

impl Memory {
    /// What is noted in `folder`, which need not be there. What cannot be read counts as nothing, and is
    /// said.
    pub(super) fn open(folder: PathBuf) -> Self {
        let path = folder.join(NAME);
        let noted = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::error!("{} cannot be read: {error}", path.display());
                Noted::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Noted::default(),
            Err(error) => {
                tracing::error!("{} cannot be read: {error}", path.display());
                Noted::default()
            }
        };
        Self { folder, noted }
    }

    /// Whether this handler is due.
    pub(super) fn is_due(&self, handler: &str) -> bool {
        self.noted.due.contains(handler)
    }

    /// How many are.
    pub(super) fn due(&self) -> usize {
        self.noted.due.len()
    }

    /// Notes that handlers are due, before what makes them so is done.
    pub(super) fn expect<'a>(&mut self, handlers: impl Iterator<Item = &'a str>) -> io::Result<()> {
        let mut noted = self.noted.clone();
        noted.due.extend(handlers.map(str::to_owned));
        self.save(noted)
    }

    /// Notes that handlers were done, or are no handlers any more.
    pub(super) fn done(&mut self, still: impl Fn(&str) -> bool) -> io::Result<()> {
        let mut noted = self.noted.clone();
        noted.due.retain(|id| still(id));
        self.save(noted)
    }

    /// Whether a change is left alone under this manifest.
    pub(super) fn holds(&self, manifest: &str, change: &str) -> bool {
        let held = &self.noted.held;
        held.manifest == manifest && (held.all || held.changes.contains(change))
    }

    /// Leaves changes alone until the manifest changes: these, or all.
    pub(super) fn hold(&mut self, manifest: &str, changes: Option<&[String]>) -> io::Result<()> {
        let mut noted = self.noted.clone();
        if noted.held.manifest != manifest {
            noted.held = Held {
                manifest: manifest.to_owned(),
                ..Held::default()
            };
        }
        match changes {
            None => noted.held.all = true,
            Some(changes) => noted.held.changes.extend(changes.iter().cloned()),
        }
        self.save(noted)
    }

    /// Leaves these changes alone no more.
    pub(super) fn let_go(&mut self, changes: &[&str]) -> io::Result<()> {
        let mut noted = self.noted.clone();
        let held = &mut noted.held.changes;
        held.retain(|id| !changes.contains(&id.as_str()));
        self.save(noted)
    }

    /// Leaves nothing alone any more.
    pub(super) fn release(&mut self) -> io::Result<()> {
        let mut noted = self.noted.clone();
        noted.held = Held::default();
        self.save(noted)
    }

    fn save(&mut self, noted: Noted) -> io::Result<()> {
        if noted == self.noted {
            return Ok(());
        }
        std::fs::create_dir_all(&self.folder)?;
        let temporary = self.folder.join("memory.json.new");
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(&noted)?)?;
        file.sync_all()?;
        std::fs::rename(&temporary, self.folder.join(NAME))?;
        sync_folder(&self.folder)?;
        self.noted = noted;
        Ok(())
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_due_and_held_outlives_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Memory::open(folder.path().join("local/x"));
        let mut memory = open();
        memory.expect(["restart", "reload"].into_iter()).unwrap();
        memory.hold("m1", Some(&["motd".to_owned()])).unwrap();
        let mut memory = open();
        assert!(memory.is_due("restart") && memory.due() == 2);
        assert!(memory.holds("m1", "motd") && !memory.holds("m1", "other"));
        assert!(!memory.holds("m2", "motd"));
        memory.done(|id| id != "restart").unwrap();
        memory.hold("m2", None).unwrap();
        let mut memory = open();
        assert!(!memory.is_due("restart") && memory.is_due("reload"));
        assert!(memory.holds("m2", "anything") && !memory.holds("m1", "motd"));
        memory.release().unwrap();
        assert!(!open().holds("m2", "anything"));
    }
}
