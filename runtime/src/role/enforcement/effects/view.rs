//! Looks at the node for one plugin: what it wants to see, packed as the contract passes it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::bus::Bus;
use super::kind::{Modules, Sysctls, UnitState, unit_states};
use super::meta::{Meta, Stamp};
use super::note::{Note, Notes};
use super::place::{Bound, Folder, Folders, Tree, Unopened, reopen};
use super::want::{Want, Wants};
use crate::manifest::{GlobPart, Identity};
use crate::node_files::Reader;
use crate::sandbox::bindings::enforcement::exports::bulkhead::plugin::enforcement as wit;

/// The most that is read of one file.
const FILE_BYTES: usize = 4 << 20;
/// The most that is read for one view.
const VIEW_BYTES: usize = 64 << 20;
/// The most files of one view.
const VIEW_FILES: usize = 1 << 16;
/// How many names are looked at for one view.
const STEPS: usize = 1 << 18;
/// How many folders `**` stands for at most.
const FOLDERS_DEEP: usize = 8;
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
    stamps: HashMap<String, Option<Stamp>>,
    watched: BTreeMap<PathBuf, Option<BTreeSet<String>>>,
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
        let mut walk = Walk {
            folders: Folders::new(self.tree),
            seen: Seen::default(),
            until: Instant::now() + PATIENCE,
            steps: 0,
            listed: HashMap::new(),
        };
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
                    walk.descend(&want, parts, String::new(), FOLDERS_DEEP)?;
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
        let read = self.reader.read(wants, until).map_err(|_| TooMuch)?;
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

/// One want of files.
struct Files<'a> {
    index: u32,
    bound: Bound<'a>,
    content: bool,
    /// Without globs: told even if it is absent.
    literal: bool,
}

type Names = Rc<[(String, bool)]>;

struct Walk<'a> {
    folders: Folders<'a>,
    seen: Seen,
    until: Instant,
    steps: usize,
    listed: HashMap<PathBuf, Names>,
}

impl Walk<'_> {
    /// Goes down from the folder `at`.
    fn descend(
        &mut self,
        want: &Files<'_>,
        parts: &[GlobPart],
        mut at: String,
        deep: usize,
    ) -> Result<(), TooMuch> {
        let mut parts = parts;
        while let [GlobPart::Literal(name), rest @ ..] = parts {
            push(&mut at, name);
            parts = rest;
        }
        match parts {
            [] => self.file(want, &at),
            [GlobPart::Folders, rest @ ..] => {
                self.descend(want, rest, at.clone(), deep)?;
                if deep == 0 {
                    return Ok(());
                }
                for (name, is_folder) in self.list(want, &at).iter() {
                    self.step()?;
                    if *is_folder {
                        let mut below = at.clone();
                        push(&mut below, name);
                        self.descend(want, parts, below, deep - 1)?;
                    }
                }
                Ok(())
            }
            [GlobPart::Glob(glob), rest @ ..] => {
                for (name, _) in self.list(want, &at).iter() {
                    self.step()?;
                    if glob.matches(name) {
                        let mut below = at.clone();
                        push(&mut below, name);
                        match rest {
                            [] => self.file(want, &below)?,
                            rest => self.descend(want, rest, below, deep)?,
                        }
                    }
                }
                Ok(())
            }
            // Consumed above.
            [GlobPart::Literal(_), ..] => Ok(()),
        }
    }

    /// One name more was looked at.
    fn step(&mut self) -> Result<(), TooMuch> {
        self.steps += 1;
        // The clock is asked now and then.
        let late = self.steps.is_multiple_of(256) && Instant::now() >= self.until;
        match self.steps > STEPS || late {
            true => Err(TooMuch),
            false => Ok(()),
        }
    }

    /// The names in a folder, all of which matter from now on.
    fn list(&mut self, want: &Files<'_>, at: &str) -> Names {
        let folder = match self.folders.folder(at, want.bound) {
            Ok(folder) => folder,
            Err(Unopened::Missing) => {
                self.watch_missing(at, want.bound);
                return Rc::new([]);
            }
            Err(_) => return Rc::new([]),
        };
        self.seen.watched.insert(folder.real.clone(), None);
        if let Some(known) = self.listed.get(&folder.real) {
            return known.clone();
        }
        let mut names = entries(&folder);
        names.sort_unstable();
        let names: Names = names.into();
        self.listed.insert(folder.real.clone(), names.clone());
        names
    }

    /// Notes that a name in a folder matters.
    fn watch(&mut self, folder: &Path, name: &str) {
        let names = match self.seen.watched.get_mut(folder) {
            Some(names) => names,
            None => (self.seen.watched)
                .entry(folder.to_owned())
                .or_insert_with(|| Some(BTreeSet::new())),
        };
        if let Some(names) = names
            && !names.contains(name)
        {
            names.insert(name.to_owned());
        }
    }

    /// Notes that a folder would be seen to appear: by the nearest one above that is there.
    fn watch_missing(&mut self, path: &str, bound: Bound<'_>) {
        let mut path = path;
        while !path.is_empty() {
            let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
            // What is above the granted folder is only watched, by names that the manifest has.
            let opened = match self.folders.folder(above, bound) {
                Err(Unopened::Forbidden(_)) => self.folders.folder(above, Bound::Anywhere),
                opened => opened,
            };
            match opened {
                Ok(folder) => return self.watch(&folder.real, name),
                Err(Unopened::Missing) => path = above,
                Err(_) => return,
            }
        }
    }

    /// Takes one file.
    fn file(&mut self, want: &Files<'_>, at: &str) -> Result<(), TooMuch> {
        self.step()?;
        if self.seen.files.len() >= VIEW_FILES || self.seen.bytes.len() >= VIEW_BYTES {
            return Err(TooMuch);
        }
        let (parent, name) = at.rsplit_once('/').unwrap_or(("", at));
        let folder = self.folders.folder(parent, want.bound);
        let begin = self.seen.bytes.len();
        self.seen.bytes.push(b'/');
        self.seen.bytes.extend_from_slice(at.as_bytes());
        let mut record = empty(want.index, begin as u32, at.len() as u32 + 1);
        let path_end = self.seen.bytes.len();
        let taken = match &folder {
            Ok(folder) => {
                self.watch(&folder.real, name);
                let mut taken = self.take(want, folder, name, &mut record);
                // It was written to while it was read.
                for _ in 0..2 {
                    if matches!(taken, Err(Errno::BUSY)) {
                        self.seen.bytes.truncate(path_end);
                        taken = self.take(want, folder, name, &mut record);
                    }
                }
                taken
            }
            Err(Unopened::Missing) => {
                self.watch_missing(parent, want.bound);
                Ok(None)
            }
            Err(Unopened::System(errno)) => Err(*errno),
            Err(Unopened::Forbidden(_)) => Err(Errno::ACCESS),
        };
        match taken {
            // It went just now, or `**` stands for nothing here.
            Ok(None) if !want.literal => {
                self.seen.bytes.truncate(begin);
                return Ok(());
            }
            Ok(stamp) => {
                self.seen.stamps.insert(format!("/{at}"), stamp);
            }
            Err(errno) => {
                self.seen.bytes.truncate(path_end);
                (record.offset, record.length) = (0, 0);
                record.error = errno.raw_os_error().unsigned_abs();
            }
        }
        self.seen.files.push(record);
        Ok(())
    }

    /// Fills in what a file is.
    fn take(
        &mut self,
        want: &Files<'_>,
        folder: &Folder,
        name: &str,
        record: &mut wit::File,
    ) -> Result<Option<Stamp>, Errno> {
        // A descriptor that can do nothing first: to open a device or a pipe may do something.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let meta = Meta::of(&found)?;
        record.modified = meta.modified;
        (record.size, record.mode) = (meta.size, meta.mode);
        (record.uid, record.gid) = (meta.uid, meta.gid);
        record.kind = match meta.kind {
            FileType::RegularFile => wit::FileKind::File,
            FileType::Directory => wit::FileKind::Directory,
            FileType::Symlink => wit::FileKind::Symlink,
            _ => wit::FileKind::Other,
        };
        record.offset = self.seen.bytes.len() as u32;
        match meta.kind {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&found, "", Vec::new())?;
                self.seen.bytes.extend_from_slice(target.as_bytes());
            }
            FileType::RegularFile if want.content => {
                let cut = read(&found, meta.size, &mut self.seen.bytes)?;
                record.flags = cut.into();
                // What is half of one state and half of another is nobody's to judge.
                if Meta::of(&found)?.stamp != meta.stamp {
                    return Err(Errno::BUSY);
                }
            }
            _ => {}
        }
        record.length = self.seen.bytes.len() as u32 - record.offset;
        Ok(Some(meta.stamp))
    }
}

fn empty(want: u32, path_offset: u32, path_length: u32) -> wit::File {
    wit::File {
        modified: 0,
        size: 0,
        want,
        path_offset,
        path_length,
        offset: 0,
        length: 0,
        mode: 0,
        uid: 0,
        gid: 0,
        error: 0,
        kind: wit::FileKind::Absent,
        flags: 0,
    }
}

/// Appends a file's content. Whether there is more of it.
fn read(found: &OwnedFd, size: u64, bytes: &mut Vec<u8>) -> Result<bool, Errno> {
    let file = reopen(found, OFlags::RDONLY)?;
    let begin = bytes.len();
    bytes.reserve(size.min(FILE_BYTES as u64) as usize + 1);
    loop {
        if bytes.len() - begin > FILE_BYTES {
            bytes.truncate(begin + FILE_BYTES);
            return Ok(true);
        }
        match rustix::io::read(&file, rustix::buffer::spare_capacity(bytes)) {
            Ok(0) => return Ok(false),
            Ok(_) => bytes.reserve(1),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn push(at: &mut String, name: &str) {
    if !at.is_empty() {
        at.push('/');
    }
    at.push_str(name);
}

/// The names in a folder that are UTF-8, and whether each is itself a folder.
fn entries(folder: &Folder) -> Vec<(String, bool)> {
    let Ok(read) = Dir::read_from(folder) else {
        return Vec::new();
    };
    let mut names = Vec::new();
    for entry in read.flatten() {
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        if matches!(name, "." | "..") {
            continue;
        }
        let is_folder = match entry.file_type() {
            FileType::Directory => true,
            FileType::Unknown => Meta::at(folder, name)
                .is_ok_and(|meta| meta.is_some_and(|meta| meta.kind == FileType::Directory)),
            _ => false,
        };
        names.push((name.to_owned(), is_folder));
    }
    names
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
