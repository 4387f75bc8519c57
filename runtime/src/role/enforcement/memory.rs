//! What the role must not forget of a plugin when the daemon ends: handlers that are due, and what was
//! put back by hand and is to stay so.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The file, in the plugin's folder.
const NAME: &str = "memory.json";
/// What it is called, with a number, when it could not be read.
const DAMAGED: &str = "memory.json.damaged";

/// See the module. Blocks.
#[derive(Debug)]
pub(super) struct Memory {
    folder: PathBuf,
    noted: Noted,
    problem: Option<String>,
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
    /// What is noted in `folder`, which need not be there. What cannot be read counts as nothing, is put aside
    /// and said.
    ///
    /// # Errors
    /// If it cannot be put aside: it would be written over.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        let path = folder.join(NAME);
        let read = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Noted::default()),
            Err(error) => Err(error),
        };
        let (noted, problem) = match read {
            Ok(noted) => (noted, None),
            Err(error) => {
                let aside = put_aside(&folder).map_err(|failed| {
                    let path = path.display();
                    io::Error::other(format!(
                        "{path} cannot be read ({error}) nor renamed ({failed}); move it away"
                    ))
                })?;
                let problem = format!(
                    "which changes were put back by hand, and which handlers were due, is forgotten: {} could not be read ({error}) and is {} now; see what was put back with `bulkhead enforcement history`",
                    path.display(),
                    aside.display(),
                );
                tracing::error!("{problem}");
                (Noted::default(), Some(problem))
            }
        };
        Ok(Self {
            folder,
            noted,
            problem,
        })
    }

    /// What was forgotten, if something was.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
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

/// Renames what cannot be read, to a name that there is not yet, and says to which.
fn put_aside(folder: &Path) -> io::Result<PathBuf> {
    let mut names = (1..).map(|number: u64| folder.join(format!("{DAMAGED}.{number}")));
    let free = names.find(|path| !path.exists());
    let aside = free.ok_or(io::ErrorKind::AlreadyExists)?;
    std::fs::rename(folder.join(NAME), &aside)?;
    sync_folder(folder)?;
    Ok(aside)
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
        let open = || Memory::open(folder.path().join("local/x")).unwrap();
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
        assert_eq!(open().problem(), None);
    }

    #[test]
    fn what_cannot_be_read_is_said_and_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Memory::open(folder.path().to_owned());
        for number in 1..=2 {
            let damaged = format!("{{\"due\":[\"restart\"],{number}");
            std::fs::write(folder.path().join(NAME), &damaged).unwrap();
            let mut memory = open().unwrap();
            let aside = folder.path().join(format!("{DAMAGED}.{number}"));
            let problem = memory.problem().unwrap();
            assert!(problem.contains(aside.to_str().unwrap()), "{problem}");
            memory.expect(["reload"].into_iter()).unwrap();
            assert_eq!(std::fs::read_to_string(aside).unwrap(), damaged);
            assert!(open().unwrap().is_due("reload"));
        }
    }
}
