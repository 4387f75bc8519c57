//! Goes through the node's files for one want: down its folders, and takes what its globs stand for.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::meta::{Meta, Stamp};
use super::place::{Bound, Folder, Folders, Unopened, reopen};
use super::view::{Seen, TooMuch, VIEW_BYTES, VIEW_FILES};
use crate::manifest::GlobPart;
use crate::sandbox::bindings::enforcement::exports::bulkhead::plugin::enforcement as wit;

/// The most that is read of one file.
const FILE_BYTES: usize = 4 << 20;
/// How many names are looked at for one view.
const STEPS: usize = 1 << 18;
/// How many folders `**` stands for at most.
pub(super) const FOLDERS_DEEP: usize = 8;

/// One want of files.
pub(super) struct Files<'a> {
    pub(super) index: u32,
    pub(super) bound: Bound<'a>,
    pub(super) content: bool,
    /// Without globs: told even if it is absent.
    pub(super) literal: bool,
}

type Names = Rc<[(String, bool)]>;

pub(super) struct Walk<'a> {
    pub(super) folders: Folders<'a>,
    pub(super) seen: Seen,
    until: Instant,
    steps: usize,
    listed: HashMap<PathBuf, Names>,
}

impl<'a> Walk<'a> {
    /// One that ends then.
    pub(super) fn new(folders: Folders<'a>, until: Instant) -> Self {
        Self {
            folders,
            seen: Seen::default(),
            until,
            steps: 0,
            listed: HashMap::new(),
        }
    }

    /// Goes down from the folder `at`.
    pub(super) fn descend(
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

/// A record of nothing, with this path.
pub(super) fn empty(want: u32, path_offset: u32, path_length: u32) -> wit::File {
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
pub(super) fn read(found: &OwnedFd, size: u64, bytes: &mut Vec<u8>) -> Result<bool, Errno> {
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
