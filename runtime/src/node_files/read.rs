//! Reading what is wanted. Blocks: for threads of its own.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::kept::{Kept, Way};
use super::open::Opener;
use super::rules::{Place, is_known_of_root, is_nobodys};
use super::want::{Look, Want};
use crate::manifest::GlobPart;
use crate::sandbox::NodeFolders;

/// The most that is read of one file.
const FILE_BYTES: usize = 4 << 20;
/// The most that is read for one collector.
const BATCH_BYTES: usize = 32 << 20;
/// The most files that one collector gets.
const BATCH_FILES: usize = 1 << 16;
/// How many names are looked at for one collector.
const STEPS: usize = 1 << 18;
/// How many folders `**` stands for at most.
const FOLDERS_DEEP: usize = 8;
/// An attribute of sysfs is at most a page.
const PAGE: usize = 4096;
/// How much is asked for at once elsewhere.
const CHUNK: usize = 16 << 10;
/// Names are listed in pieces of this.
const LISTING: usize = 8 << 10;

/// What was read, packed: spans are of `bytes`.
#[derive(Debug, Default)]
pub struct Batch {
    /// Paths and contents, side by side.
    pub bytes: Vec<u8>,
    /// In the order of the wants, and by path within each.
    pub files: Vec<File>,
}

/// One file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    /// Which of the wants it is for.
    pub want: u32,
    /// Offset and length of its path, as the plugin spells it.
    pub path: (u32, u32),
    /// Offset and length of what was asked for.
    pub data: (u32, u32),
    /// The error's number if it could not be read, otherwise 0.
    pub error: u32,
    /// Whether there is more of it.
    pub cut: bool,
    /// When it was changed, in nanoseconds since 1970; 0 for the kernel's.
    pub modified: i64,
    /// What it is; only of plain files whose entry was asked for.
    pub meta: Option<Meta>,
}

/// What something in a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// What kind of thing.
    pub kind: FileType,
    /// Permission bits, with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Whose it is.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its size, also if less is passed.
    pub size: u64,
}

/// What became of one file's bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    cut: bool,
    modified: i64,
    meta: Option<Meta>,
}

/// A collector wants more than anybody gets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "its files are more than {BATCH_FILES}, have more than {} MiB together, or take too long to be found; let it want fewer",
    BATCH_BYTES >> 20
)]
pub struct TooMuch;

/// Reads files of a node; clones are cheap.
#[derive(Debug, Clone)]
pub struct Reader {
    /// Where the node's root folder is.
    root: Arc<Path>,
    /// Folders of which nobody reads anything, as the daemon sees them.
    private: Arc<[PathBuf]>,
}

impl Reader {
    /// Of the node with these folders.
    pub fn of(folders: &NodeFolders) -> Self {
        let root = folders.root.canonicalize();
        Self {
            // As links in /proc/self/fd spell it.
            root: root.map_or_else(|_| folders.root.clone(), Into::into),
            private: folders.private.clone(),
        }
    }

    /// Begins to read for one collector after the other.
    pub fn pass(&self) -> Pass {
        self.pass_with(Kept::default())
    }

    /// The same with what an earlier pass has [kept](Pass::into_kept) open.
    pub fn pass_with(&self, kept: Kept) -> Pass {
        Pass {
            kept,
            opener: Opener::new(self.root.clone(), &self.private),
            listed: HashMap::new(),
            bytes: Vec::new(),
            buffer: vec![0; CHUNK].into(),
        }
    }
}

/// Reads for collectors that are asked within a moment: what was found out of folders for one of them
/// stands for the next.
pub struct Pass {
    opener: Opener,
    /// Files that are open already.
    kept: Kept,
    /// What was listed already: many wants share a folder.
    listed: HashMap<Listed, Names>,
    /// Paths and contents of the batch that is being read.
    bytes: Vec<u8>,
    /// Where the kernel writes.
    buffer: Box<[u8]>,
}

impl Pass {
    /// Reads all that is wanted. What is not there is passed over.
    ///
    /// # Errors
    /// If it is too much, or more than can be found `until` then.
    pub fn read(&mut self, wants: &[Want], until: Instant) -> Result<Batch, TooMuch> {
        self.bytes.clear();
        let mut walk = Walk {
            until,
            steps: 0,
            files: Vec::new(),
            pass: self,
        };
        for (index, want) in wants.iter().enumerate() {
            walk.want(index as u32, want)?;
        }
        let files = walk.files;
        // A batch is as large as it is: it may wait for its turn.
        let bytes = self.bytes.as_slice().to_vec();
        Ok(Batch { bytes, files })
    }

    /// What may stay open until the next pass.
    pub fn into_kept(mut self) -> Kept {
        self.kept.rest();
        self.kept
    }
}

/// A folder's place, its path below that, and the folder of the grant, if whether it may be listed
/// depends on that.
type Listed = (Place, String, Option<String>);

/// What is in a folder, by name.
type Names = Rc<[Name]>;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    text: String,
    is_folder: bool,
    inode: u64,
}

/// Where a walk is: a path below the place of its want.
struct At {
    path: String,
    way: Way,
    /// How much of the path ends with the name that was found by listing last.
    listed: usize,
}

struct Walk<'a> {
    pass: &'a mut Pass,
    until: Instant,
    steps: usize,
    files: Vec<File>,
}

impl Walk<'_> {
    fn want(&mut self, index: u32, want: &Want) -> Result<(), TooMuch> {
        if !self.pass.opener.has(want.place) {
            return Ok(());
        }
        let mut at = At {
            path: String::new(),
            way: Way::default(),
            listed: 0,
        };
        self.descend(index, want, &want.parts, &mut at, FOLDERS_DEEP)
    }

    /// Goes down from the folder `at`, which is the same afterwards.
    fn descend(
        &mut self,
        index: u32,
        want: &Want,
        parts: &[GlobPart],
        at: &mut At,
        deep: usize,
    ) -> Result<(), TooMuch> {
        let (from, way, listed) = (at.path.len(), at.way, at.listed);
        let mut parts = parts;
        while let [GlobPart::Literal(name), rest @ ..] = parts {
            push(&mut at.path, name);
            parts = rest;
        }
        let here = at.path.len();
        match parts {
            [] => self.file(index, want, at, false)?,
            [GlobPart::Folders, rest @ ..] => {
                self.descend(index, want, rest, at, deep)?;
                let names = match deep {
                    0 => Rc::new([]),
                    _ => self.list(want, &at.path),
                };
                for name in names.iter() {
                    self.step()?;
                    if name.is_folder {
                        push(&mut at.path, &name.text);
                        (at.way, at.listed) = (way.through(name.inode), at.path.len());
                        self.descend(index, want, parts, at, deep - 1)?;
                        at.path.truncate(here);
                    }
                }
            }
            [GlobPart::Glob(glob), rest @ ..] => {
                for name in self.list(want, &at.path).iter() {
                    self.step()?;
                    if glob.matches(&name.text) {
                        push(&mut at.path, &name.text);
                        (at.way, at.listed) = (way.through(name.inode), at.path.len());
                        match rest {
                            [] => self.file(index, want, at, true)?,
                            rest => self.descend(index, want, rest, at, deep)?,
                        }
                        at.path.truncate(here);
                    }
                }
            }
            // Consumed above.
            [GlobPart::Literal(_), ..] => {}
        }
        at.path.truncate(from);
        (at.way, at.listed) = (way, listed);
        Ok(())
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

    fn list(&mut self, want: &Want, at: &str) -> Names {
        let within = match want.place {
            Place::Plain => want.within.clone(),
            Place::Proc | Place::Sys => None,
        };
        let key = (want.place, at.to_owned(), within);
        if let Some(known) = self.pass.listed.get(&key) {
            return known.clone();
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let names: Names = match self.pass.opener.file(want, at, flags) {
            Ok(folder) => {
                let mut names = entries(&folder);
                names.sort_unstable();
                names.into()
            }
            Err(_) => Rc::new([]),
        };
        self.pass.listed.insert(key, names.clone());
        names
    }

    /// Takes one file. `listed`: its name was found in its folder.
    fn file(&mut self, index: u32, want: &Want, here: &At, listed: bool) -> Result<(), TooMuch> {
        let at = here.path.as_str();
        let name = at.rsplit('/').next().unwrap_or_default();
        if want.place != Place::Plain && is_nobodys(name) {
            return Ok(());
        }
        self.step()?;
        if self.files.len() >= BATCH_FILES || self.pass.bytes.len() >= BATCH_BYTES {
            return Err(TooMuch);
        }
        let path_at = self.pass.bytes.len();
        self.spell(want, at);
        let data_at = self.pass.bytes.len();
        let taken = match want.look {
            Look::Name if listed => Ok(Taken::default()),
            Look::Name => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW;
                let opened = self.pass.opener.file(want, at, flags);
                opened.map(|_| Taken::default())
            }
            Look::Target => self.target(want, at).map(|()| Taken::default()),
            Look::Content => self.content(want, here),
            Look::Entry { content } => self.entry(want, at, content),
        };
        let (taken, error) = match taken {
            Ok(taken) => (taken, 0),
            // It is not there, went just now, or is a folder.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR | Errno::NODEV | Errno::SRCH) => {
                self.pass.bytes.truncate(path_at);
                return Ok(());
            }
            Err(error) => {
                self.pass.bytes.truncate(data_at);
                (Taken::default(), error.raw_os_error().unsigned_abs())
            }
        };
        let span = |from: usize, to: usize| (from as u32, (to - from) as u32);
        self.files.push(File {
            want: index,
            path: span(path_at, data_at),
            data: span(data_at, self.pass.bytes.len()),
            error,
            cut: taken.cut,
            modified: taken.modified,
            meta: taken.meta,
        });
        Ok(())
    }

    /// Appends the path as the plugin spells it.
    fn spell(&mut self, want: &Want, at: &str) {
        let bytes = &mut self.pass.bytes;
        let begin = bytes.len();
        bytes.push(b'/');
        if want.place != Place::Plain {
            bytes.extend_from_slice(want.place.folder().as_bytes());
            bytes.push(b'/');
        }
        bytes.extend_from_slice(at.as_bytes());
        if let Some((from, to)) = want.spelled
            && bytes.len() - begin >= to.len()
        {
            bytes.splice(begin..begin + to.len(), from.bytes());
        }
    }

    fn target(&mut self, want: &Want, at: &str) -> Result<(), Errno> {
        let opener = &mut self.pass.opener;
        let file = opener.open(want.place, at, OFlags::PATH)?;
        // Where a link of a device's leads to is no secret: what is there is not read.
        if want.place == Place::Plain {
            opener.allowed(&file, want)?;
        }
        let real = opener.real(&file).ok_or(Errno::NOENT)?;
        let real = real.as_os_str().as_encoded_bytes();
        self.pass.bytes.extend_from_slice(real);
        Ok(())
    }

    fn content(&mut self, want: &Want, here: &At) -> Result<Taken, Errno> {
        let (at, way) = (here.path.as_str(), here.way);
        let mut taken = Taken::default();
        // What comes in one piece: no second call to learn that it was the end.
        let (chunk, is_whole) = match want.place {
            Place::Sys if !at.starts_with("fs/") => (PAGE, true),
            Place::Proc => (CHUNK, at.starts_with("sys/")),
            Place::Sys | Place::Plain => (CHUNK, false),
        };
        if let Some(file) = self.pass.kept.get(want, at, way) {
            let begin = self.pass.bytes.len();
            if let Ok(cut) = self.append(&file, chunk, is_whole) {
                taken.cut = cut;
                return Ok(taken);
            }
            self.pass.bytes.truncate(begin);
            self.pass.kept.forget(want, at);
        }
        let opener = &mut self.pass.opener;
        let file = if want.place == Place::Plain {
            // Looked at before it is opened: to open a device or a pipe may do something.
            let found = opener.open(want.place, at, OFlags::PATH)?;
            let stat = rustix::fs::fstat(&found)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => {}
                FileType::Directory => return Err(Errno::ISDIR),
                _ => return Err(Errno::OPNOTSUPP),
            }
            opener.allowed(&found, want)?;
            taken.modified = modified(&stat);
            reopen(&found)?
        } else {
            let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            opener.file(want, at, flags)?
        };
        if want.place == Place::Sys {
            let mode = Mode::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
            if !mode.contains(Mode::ROTH) && !is_known_of_root(at) {
                return Err(Errno::ACCESS);
            }
        }
        taken.cut = self.append(&file, chunk, is_whole)?;
        let Pass { kept, opener, .. } = &mut *self.pass;
        if Kept::may(want, at, way) && opener.is_below(want.place, at, here.listed) {
            kept.keep(want, at, way, file);
        }
        Ok(taken)
    }

    /// What is at a path of a plain file system, links not followed, and its bytes if it is a file.
    fn entry(&mut self, want: &Want, at: &str, content: bool) -> Result<Taken, Errno> {
        let opener = &mut self.pass.opener;
        let found = opener.open(want.place, at, OFlags::PATH | OFlags::NOFOLLOW)?;
        opener.allowed(&found, want)?;
        let stat = rustix::fs::fstat(&found)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let cut = match kind {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&found, "", Vec::new())?;
                self.pass.bytes.extend_from_slice(target.as_bytes());
                false
            }
            FileType::RegularFile if content && is_withheld(opener, &found, want) => true,
            FileType::RegularFile if content => self.append(&reopen(&found)?, CHUNK, false)?,
            _ => false,
        };
        let meta = Meta {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
        };
        Ok(Taken {
            cut,
            modified: modified(&stat),
            meta: Some(meta),
        })
    }

    /// Appends what is in a file from its beginning, read in pieces of `chunk`. Says whether there is more of
    /// it. `is_whole`: a shorter piece is its end.
    fn append(&mut self, file: &OwnedFd, chunk: usize, is_whole: bool) -> Result<bool, Errno> {
        let Pass { bytes, buffer, .. } = &mut *self.pass;
        let begin = bytes.len();
        loop {
            if bytes.len() - begin >= FILE_BYTES {
                bytes.truncate(begin + FILE_BYTES);
                return Ok(true);
            }
            let piece = &mut buffer[..chunk];
            let at = (bytes.len() - begin) as u64;
            let read = match rustix::io::pread(file, &mut *piece, at) {
                Err(Errno::INTR) => continue,
                read => read?,
            };
            bytes.extend_from_slice(&piece[..read]);
            if read == 0 || (is_whole && read < chunk) {
                return Ok(false);
            }
        }
    }
}

/// A file whose place cannot be told is withheld, if any is.
fn is_withheld(opener: &Opener, found: &OwnedFd, want: &Want) -> bool {
    want.withheld.is_some_and(|withheld| {
        let real = opener.real(found);
        real.is_none_or(|real| withheld(real.as_os_str().as_encoded_bytes()))
    })
}

fn push(at: &mut String, name: &str) {
    if !at.is_empty() {
        at.push('/');
    }
    at.push_str(name);
}

/// Opens what was only found, to be read.
fn reopen(found: &OwnedFd) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// When a file was changed, in nanoseconds since 1970.
fn modified(stat: &rustix::fs::Stat) -> i64 {
    let nanos = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
    let seconds = stat.st_mtime.saturating_mul(1_000_000_000);
    seconds.saturating_add(nanos)
}

/// The names in a folder that are UTF-8, and whether each is itself a folder.
fn entries(folder: &OwnedFd) -> Vec<Name> {
    let mut buffer = [MaybeUninit::uninit(); LISTING];
    let mut read = RawDir::new(folder, &mut buffer);
    let mut names = Vec::new();
    while let Some(Ok(entry)) = read.next() {
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        if matches!(name, "." | "..") {
            continue;
        }
        let is_folder = match entry.file_type() {
            FileType::Directory => true,
            FileType::Unknown => {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::statat(folder, name, flags)
                    .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
            }
            _ => false,
        };
        names.push(Name {
            text: name.to_owned(),
            is_folder,
            inode: entry.ino(),
        });
    }
    names
}
