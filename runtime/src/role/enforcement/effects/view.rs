//! Looks at the node for one plugin: what it wants to see, packed as the contract passes it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, OFlags};

use super::bus::Bus;
use super::kind::{Modules, Sysctls, UnitState, unit_states};
use super::meta::{Meta, Stamp};
use super::note::{Note, Notes};
use super::place::{Bound, Folders, Tree};
use super::walk::{FOLDERS_DEEP, Files, Walk, empty, read};
use super::want::{Want, Wants};
use crate::manifest::{GlobPart, Identity};
use crate::node_files::Reader;
use crate::sandbox::bindings::enforcement::exports::bulkhead::plugin::enforcement as wit;

/// The most that is read for one view.
pub(super) const VIEW_BYTES: usize = 64 << 20;
/// The most files of one view.
pub(super) const VIEW_FILES: usize = 1 << 16;
/// The longest that one look takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the node was.
#[derive(Debug, Default)]
pub struct Seen {
    /// Paths and contents, side by side.
    pub bytes: Vec<u8>,
    /// In the order of the wants, and by path within each.
    pub files: Vec<wit::File>,
    /// As the contract has them.
    pub kernel_modules: Vec<wit::KernelModule>,
    /// Of each want, its value and what is noted for the next start.
    sysctls: Vec<(u32, Option<String>, Option<String>)>,
    /// Of each want, what is known, and why nothing is.
    units: Vec<(u32, UnitState, Option<Arc<str>>)>,
    users: Vec<(u32, String)>,
    groups: Vec<(u32, String)>,
    pub(super) stamps: HashMap<String, Option<Stamp>>,
    pub(super) watched: BTreeMap<PathBuf, Option<BTreeSet<String>>>,
}

/// A folder in which something would be seen to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// As the daemon sees it.
    pub folder: PathBuf,
    /// What in it matters; all if none is named.
    pub names: Option<BTreeSet<String>>,
}

impl Seen {
    /// Kernel settings, as the contract has them.
    pub fn sysctls(&self) -> Vec<wit::Sysctl<'_>> {
        let sysctls = self.sysctls.iter();
        let sysctls = sysctls.map(|(want, value, persisted)| wit::Sysctl {
            want: *want,
            value: value.as_deref(),
            persisted: persisted.as_deref(),
        });
        sysctls.collect()
    }

    /// Units, as the contract has them.
    pub fn units(&self) -> Vec<wit::Unit<'_>> {
        let units = self.units.iter();
        let units = units.map(|(want, state, problem)| wit::Unit {
            want: *want,
            load_state: &state.load,
            active_state: &state.active,
            sub_state: &state.sub,
            file_state: &state.file,
            problem: problem.as_deref().unwrap_or_default(),
        });
        units.collect()
    }

    /// Users, as the contract has them.
    pub fn users(&self) -> Vec<wit::Account<'_>> {
        as_accounts(&self.users)
    }

    /// Groups, as the contract has them.
    pub fn groups(&self) -> Vec<wit::Account<'_>> {
        as_accounts(&self.groups)
    }

    /// Where a change of what was wanted would be seen.
    pub fn watched(&self) -> Vec<Watched> {
        let watched = self.watched.iter();
        let watched = watched.map(|(folder, names)| Watched {
            folder: folder.clone(),
            names: names.clone(),
        });
        watched.collect()
    }

    /// Puts the files from this one on in the order of their paths.
    fn sort(&mut self, from: usize) {
        let bytes = &self.bytes;
        let path = |file: &wit::File| {
            let begin = file.path_offset as usize;
            bytes.get(begin..begin + file.path_length as usize)
        };
        let files = self.files.get_mut(from..).unwrap_or_default();
        files.sort_by(|a, b| path(a).cmp(&path(b)));
    }

    /// What a path was when it was looked at, if it was.
    pub(super) fn stamp(&self, path: &str) -> Option<Option<Stamp>> {
        self.stamps.get(path).copied()
    }
}

fn as_accounts(accounts: &[(u32, String)]) -> Vec<wit::Account<'_>> {
    let accounts = accounts.iter();
    let accounts = accounts.map(|(id, name)| wit::Account { id: *id, name });
    accounts.collect()
}

/// A plugin wants more than anybody gets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the files that it wants are more than {VIEW_FILES}, have more than {} MiB together, or take too long to be found; let it want fewer",
    VIEW_BYTES >> 20
)]
pub struct TooMuch;

/// What a look is made with.
pub(super) struct Window<'a> {
    pub(super) tree: &'a Tree,
    pub(super) reader: &'a Reader,
    pub(super) sysctls: &'a Sysctls,
    pub(super) modules: &'a Modules,
    pub(super) sockets: &'a [PathBuf],
    pub(super) plugin: &'a Identity,
}

impl Window<'_> {
    /// Looks at all that is wanted.
    pub(super) fn look(&self, wants: &Wants) -> Result<Seen, TooMuch> {
        let mut walk = Walk::new(
            Folders::new(self.tree, self.plugin),
            Instant::now() + PATIENCE,
        );
        for (index, want) in wants.wants.iter().enumerate() {
            let index = index as u32;
            match want {
                Want::Files {
                    parts,
                    within,
                    content,
                } => {
                    let want = Files {
                        index,
                        bound: within.as_deref().map_or(Bound::Anywhere, Bound::Within),
                        content: *content,
                        literal: parts
                            .iter()
                            .all(|part| matches!(part, GlobPart::Literal(_))),
                    };
                    let from = walk.seen.files.len();
                    walk.descend(&want, parts, String::new(), FOLDERS_DEEP)?;
                    walk.seen.sort(from);
                }
                Want::Kernels(want) => self.kernels(index, want, &mut walk.seen)?,
                Want::Sysctl(_) | Want::KernelModule(_) | Want::Unit(_) => {}
            }
        }
        self.settings(wants, &mut walk);
        self.kernel_modules(wants, &mut walk);
        self.units(wants, &mut walk.seen);
        walk.seen.users = accounts(self.tree, "etc/passwd");
        walk.seen.groups = accounts(self.tree, "etc/group");
        Ok(walk.seen)
    }

    /// Files of the kernel's: they have no owner and no mode that matter.
    fn kernels(
        &self,
        index: u32,
        want: &crate::node_files::Want,
        seen: &mut Seen,
    ) -> Result<(), TooMuch> {
        let until = Instant::now() + PATIENCE;
        let wants = std::slice::from_ref(want);
        let read = self.reader.pass().read(wants, until);
        let read = read.map_err(|_| TooMuch)?;
        let base = seen.bytes.len() as u32;
        if seen.bytes.len() + read.bytes.len() > VIEW_BYTES {
            return Err(TooMuch);
        }
        for file in &read.files {
            let mut record = empty(index, base + file.path.0, file.path.1);
            record.modified = file.modified;
            record.size = file.data.1.into();
            (record.offset, record.length) = (base + file.data.0, file.data.1);
            record.error = file.error;
            record.kind = wit::FileKind::File;
            record.flags = file.cut.into();
            seen.files.push(record);
        }
        seen.bytes.extend_from_slice(&read.bytes);
        let is_glob = want.glob().contains(['*', '?', '[']);
        if read.files.is_empty() && !is_glob {
            let at = seen.bytes.len() as u32;
            seen.bytes.extend_from_slice(want.glob().as_bytes());
            seen.files.push(empty(index, at, want.glob().len() as u32));
        }
        Ok(())
    }

    fn settings(&self, wants: &Wants, walk: &mut Walk<'_>) {
        let mut notes = Notes::new(self.plugin);
        for (index, want) in wants.wants.iter().enumerate() {
            if let Want::Sysctl(name) = want {
                let key = name.to_string();
                let persisted = notes.get(&mut walk.folders, Note::Sysctl, &key);
                let persisted = persisted.unwrap_or_default();
                let value = self.sysctls.get(name).ok();
                walk.seen.sysctls.push((index as u32, value, persisted));
            }
        }
    }

    fn kernel_modules(&self, wants: &Wants, walk: &mut Walk<'_>) {
        let mut notes = Notes::new(self.plugin);
        let mut found = None;
        for (index, want) in wants.wants.iter().enumerate() {
            if let Want::KernelModule(name) = want {
                let name = name.as_str();
                let found = found.get_or_insert_with(|| self.modules.look(self.tree));
                let built_in = found.built_in.contains(name);
                let mut noted = |note| {
                    let noted = notes.get(&mut walk.folders, note, name);
                    noted.is_ok_and(|noted| noted.is_some())
                };
                walk.seen.kernel_modules.push(wit::KernelModule {
                    want: index as u32,
                    loaded: built_in || found.loaded.contains(name),
                    built_in,
                    available: built_in || found.available.contains(name),
                    at_start: noted(Note::LoadAtStart),
                    blacklisted: noted(Note::NeverLoad),
                });
            }
        }
    }

    fn units(&self, wants: &Wants, seen: &mut Seen) {
        let wanted = wants.wants.iter().enumerate();
        let wanted: Vec<(u32, &str)> = wanted
            .filter_map(|(index, want)| match want {
                Want::Unit(name) => Some((index as u32, name.as_str())),
                _ => None,
            })
            .collect();
        if wanted.is_empty() {
            return;
        }
        let names: Vec<&str> = wanted.iter().map(|(_, name)| *name).collect();
        let (states, problem) = match unit_states(&mut Bus::new(self.sockets), &names) {
            Ok(states) => (states, None),
            Err(error) => (HashMap::new(), Some(Arc::from(error.to_string()))),
        };
        for (want, name) in wanted {
            let state = states.get(name).cloned().unwrap_or_default();
            seen.units.push((want, state, problem.clone()));
        }
    }
}

/// Name and number of each line of passwd(5) or group(5).
fn accounts(tree: &Tree, path: &str) -> Vec<(u32, String)> {
    let file = tree.resolve(path, OFlags::PATH);
    let read = file.and_then(|file| {
        let meta = Meta::of(&file)?;
        let mut bytes = Vec::new();
        if meta.kind == FileType::RegularFile {
            read(&file, meta.size, &mut bytes)?;
        }
        Ok(bytes)
    });
    let text = read.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let account = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    text.lines().filter_map(account).collect()
}
