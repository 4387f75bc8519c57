//! Reading what is wanted. Blocks: for threads of its own.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::rules::{Place, is_known_of_root, is_nobodys, may_be_reached};
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

    /// Reads all that is wanted. What is not there is passed over.
    ///
    /// # Errors
    /// If it is too much, or more than can be found `until` then.
    pub fn read(&self, wants: &[Want], until: Instant) -> Result<Batch, TooMuch> {
        let private = self.private.iter();
        let mut walk = Walk {
            reader: self,
            until,
            steps: 0,
            private: private.filter_map(|path| identity(path)).collect(),
            folders: HashMap::new(),
            listed: HashMap::new(),
            batch: Batch::default(),
        };
        for (index, want) in wants.iter().enumerate() {
            walk.want(index as u32, want)?;
        }
        Ok(walk.batch)
    }
}

type Names = Rc<[(String, bool)]>;

struct Walk<'a> {
    reader: &'a Reader,
    until: Instant,
    steps: usize,
    /// Device and inode of the private folders: there may be several paths to each.
    private: Vec<(u64, u64)>,
    /// The folders that places begin at, opened once.
    folders: HashMap<&'static str, Option<Rc<OwnedFd>>>,
    /// Names and whether each is a folder, of what was listed already: many wants share a folder.
    listed: HashMap<(&'static str, Option<String>, String), Names>,
    batch: Batch,
}

impl Place {
    /// The folder that its paths begin at, below the node's root.
    fn folder(self) -> &'static str {
        match self {
            Self::Proc => "proc",
            Self::Sys => "sys",
            Self::Plain => ".",
        }
    }

    fn resolve(self) -> ResolveFlags {
        match self {
            // What is asked for there is no link, so nothing can lead elsewhere.
            Self::Proc => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            // Its links lead to other parts of it.
            Self::Sys => ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
            // Absolute links are the node's. Where they lead is looked at when it is open.
            Self::Plain => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        }
    }
}

impl Walk<'_> {
    fn want(&mut self, index: u32, want: &Want) -> Result<(), TooMuch> {
        if self.folder(want.place).is_none() {
            return Ok(());
        }
        self.descend(index, want, &want.parts, String::new(), FOLDERS_DEEP)
    }

    fn folder(&mut self, place: Place) -> Option<Rc<OwnedFd>> {
        let name = place.folder();
        let open = || {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let path = self.reader.root.join(name);
            rustix::fs::open(path, flags, Mode::empty())
                .ok()
                .map(Rc::new)
        };
        self.folders.entry(name).or_insert_with(open).clone()
    }

    fn open(&mut self, place: Place, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let folder = self.folder(place).ok_or(Errno::NOENT)?;
        let flags = flags | OFlags::CLOEXEC;
        let path = if path.is_empty() { "." } else { path };
        // Again if something was renamed on the way, see openat2(2).
        for _ in 0..8 {
            let opened = rustix::fs::openat2(&*folder, path, flags, Mode::empty(), place.resolve());
            if !matches!(opened, Err(Errno::AGAIN)) {
                return opened;
            }
        }
        Err(Errno::AGAIN)
    }

    /// Goes down from the folder `at`.
    fn descend(
        &mut self,
        index: u32,
        want: &Want,
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
            [] => self.file(index, want, &at, false),
            [GlobPart::Folders, rest @ ..] => {
                self.descend(index, want, rest, at.clone(), deep)?;
                if deep == 0 {
                    return Ok(());
                }
                for (name, is_folder) in self.list(want, &at).iter() {
                    self.step()?;
                    if *is_folder {
                        let mut below = at.clone();
                        push(&mut below, name);
                        self.descend(index, want, parts, below, deep - 1)?;
                    }
                }
                Ok(())
            }
            [GlobPart::Glob(glob), rest @ ..] => {
                let folder = at.clone();
                for (name, _) in self.list(want, &folder).iter() {
                    self.step()?;
                    if glob.matches(name) {
                        let mut below = folder.clone();
                        push(&mut below, name);
                        match rest {
                            [] => self.file(index, want, &below, true)?,
                            rest => self.descend(index, want, rest, below, deep)?,
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

    fn list(&mut self, want: &Want, at: &str) -> Names {
        let place = want.place;
        // Whether it may be listed depends on the grant.
        let key = (place.folder(), want.within.clone(), at.to_owned());
        if let Some(known) = self.listed.get(&key) {
            return known.clone();
        }
        let opened = self.open(place, at, OFlags::RDONLY | OFlags::DIRECTORY);
        let names: Names = match opened {
            Ok(folder) if self.may_be_read(&folder, want) => {
                let mut names = entries(folder);
                names.sort_unstable();
                names.into()
            }
            _ => Rc::new([]),
        };
        self.listed.insert(key, names.clone());
        names
    }

    /// Takes one file. `listed`: its name was found in its folder.
    fn file(&mut self, index: u32, want: &Want, at: &str, listed: bool) -> Result<(), TooMuch> {
        let name = at.rsplit('/').next().unwrap_or_default();
        if want.place != Place::Plain && is_nobodys(name) {
            return Ok(());
        }
        self.step()?;
        if self.batch.files.len() >= BATCH_FILES || self.batch.bytes.len() >= BATCH_BYTES {
            return Err(TooMuch);
        }
        let path_at = self.batch.bytes.len();
        self.spell(want, at);
        let data_at = self.batch.bytes.len();
        let taken = match want.look {
            Look::Name if listed => Ok(Taken::default()),
            Look::Name => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW;
                let opened = self.open(want.place, at, flags);
                opened.and_then(|file| self.allowed(&file, want).map(|()| Taken::default()))
            }
            Look::Target => self.target(want, at).map(|()| Taken::default()),
            Look::Content => self.content(want, at),
            Look::Entry { content } => self.entry(want, at, content),
        };
        let (taken, error) = match taken {
            Ok(taken) => (taken, 0),
            // It is not there, went just now, or is a folder.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR | Errno::NODEV | Errno::SRCH) => {
                self.batch.bytes.truncate(path_at);
                return Ok(());
            }
            Err(error) => {
                self.batch.bytes.truncate(data_at);
                (Taken::default(), error.raw_os_error().unsigned_abs())
            }
        };
        let span = |from: usize, to: usize| (from as u32, (to - from) as u32);
        self.batch.files.push(File {
            want: index,
            path: span(path_at, data_at),
            data: span(data_at, self.batch.bytes.len()),
            error,
            cut: taken.cut,
            modified: taken.modified,
            meta: taken.meta,
        });
        Ok(())
    }

    /// Appends the path as the plugin spells it.
    fn spell(&mut self, want: &Want, at: &str) {
        let lies = match want.place {
            Place::Plain => format!("/{at}"),
            place => format!("/{}/{at}", place.folder()),
        };
        let bytes = &mut self.batch.bytes;
        match want.spelled {
            Some((from, to)) if lies.len() >= to.len() => {
                bytes.extend_from_slice(from.as_bytes());
                bytes.extend_from_slice(&lies.as_bytes()[to.len()..]);
            }
            _ => bytes.extend_from_slice(lies.as_bytes()),
        }
    }

    fn target(&mut self, want: &Want, at: &str) -> Result<(), Errno> {
        let file = self.open(want.place, at, OFlags::PATH)?;
        // Where a link of a device's leads to is no secret: what is there is not read.
        if want.place == Place::Plain {
            self.allowed(&file, want)?;
        }
        let real = self.real(&file).ok_or(Errno::NOENT)?;
        let real = real.as_os_str().as_encoded_bytes();
        self.batch.bytes.extend_from_slice(real);
        Ok(())
    }

    fn content(&mut self, want: &Want, at: &str) -> Result<Taken, Errno> {
        let mut taken = Taken::default();
        let file = if want.place == Place::Plain {
            // Looked at before it is opened: to open a device or a pipe may do something.
            let found = self.open(want.place, at, OFlags::PATH)?;
            let stat = rustix::fs::fstat(&found)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => {}
                FileType::Directory => return Err(Errno::ISDIR),
                _ => return Err(Errno::OPNOTSUPP),
            }
            self.allowed(&found, want)?;
            taken.modified = modified(&stat);
            reopen(&found)?
        } else {
            let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK;
            self.open(want.place, at, flags)?
        };
        if want.place == Place::Sys {
            self.allowed(&file, want)?;
            let mode = Mode::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
            if !mode.contains(Mode::ROTH) && !is_known_of_root(at) {
                return Err(Errno::ACCESS);
            }
        }
        // A page is whole: no second call to learn that it was the end.
        let whole = (want.place == Place::Sys && !at.starts_with("fs/")).then_some(PAGE);
        taken.cut = self.append(&file, whole)?;
        Ok(taken)
    }

    /// What is at a path of a plain file system, links not followed, and its bytes if it is a file.
    fn entry(&mut self, want: &Want, at: &str, content: bool) -> Result<Taken, Errno> {
        let found = self.open(want.place, at, OFlags::PATH | OFlags::NOFOLLOW)?;
        self.allowed(&found, want)?;
        let stat = rustix::fs::fstat(&found)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let cut = match kind {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&found, "", Vec::new())?;
                self.batch.bytes.extend_from_slice(target.as_bytes());
                false
            }
            FileType::RegularFile if content => self.append(&reopen(&found)?, None)?,
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

    /// Appends what is in a file. Says whether there is more of it. `whole`: a shorter read is its end.
    fn append(&mut self, file: &OwnedFd, whole: Option<usize>) -> Result<bool, Errno> {
        let begin = self.batch.bytes.len();
        loop {
            let have = self.batch.bytes.len() - begin;
            if have >= FILE_BYTES {
                self.batch.bytes.truncate(begin + FILE_BYTES);
                return Ok(true);
            }
            self.batch.bytes.reserve(whole.unwrap_or(CHUNK));
            let read = match rustix::io::read(file, spare_capacity(&mut self.batch.bytes)) {
                Err(Errno::INTR) => continue,
                read => read?,
            };
            if read == 0 || whole.is_some_and(|page| read < page) {
                return Ok(false);
            }
        }
    }

    /// Where an open file is on the node.
    fn real(&self, file: &OwnedFd) -> Option<PathBuf> {
        let real = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        let below = real.strip_prefix(&*self.reader.root).ok()?;
        Some(Path::new("/").join(below))
    }

    fn allowed(&mut self, file: &OwnedFd, want: &Want) -> Result<(), Errno> {
        match self.may_be_read(file, want) {
            true => Ok(()),
            false => Err(Errno::ACCESS),
        }
    }

    /// Whether an open file or folder may be read, by where it is in truth.
    fn may_be_read(&mut self, file: &OwnedFd, want: &Want) -> bool {
        match want.place {
            // Nothing there was reached by a link.
            Place::Proc => true,
            Place::Sys => self.real(file).is_some_and(|real| {
                let below = real.strip_prefix("/sys").ok().and_then(Path::to_str);
                below.is_some_and(may_be_reached)
            }),
            Place::Plain => self.is_plain(file, want),
        }
    }

    /// Whether it is what a grant of plain files means: not among the kernel's, in no private folder, and
    /// still in the folder that is granted.
    fn is_plain(&mut self, file: &OwnedFd, want: &Want) -> bool {
        const PROCFS: i64 = 0x9fa0;
        const SYSFS: i64 = 0x6265_6572;
        let kind = rustix::fs::fstatfs(file).map(|statistics| statistics.f_type);
        if matches!(kind, Err(_) | Ok(PROCFS | SYSFS)) {
            return false;
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let (Ok(seen), Some(real)) = (std::fs::read_link(path), self.real(file)) else {
            return false;
        };
        if ["/proc", "/sys", "/dev"]
            .iter()
            .any(|kernel| real.starts_with(kernel))
        {
            return false;
        }
        let mut above = seen.ancestors().filter_map(identity);
        if above.any(|folder| self.private.contains(&folder)) {
            return false;
        }
        match &want.within {
            None => true,
            Some(folder) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                let opened = self.open(Place::Plain, folder, flags).ok();
                // A grant of a file alone, told by a want that is spelled otherwise, has no folder.
                let folder = opened.and_then(|folder| self.real(&folder));
                folder.is_some_and(|folder| real.starts_with(folder))
            }
        }
    }
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

/// Device and inode, whatever the path to it.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn push(at: &mut String, name: &str) {
    if !at.is_empty() {
        at.push('/');
    }
    at.push_str(name);
}

/// The names in a folder that are UTF-8, and whether each is itself a folder.
fn entries(folder: OwnedFd) -> Vec<(String, bool)> {
    let Ok(read) = Dir::read_from(folder.as_fd()) else {
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
            FileType::Unknown => {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::statat(&folder, name, flags)
                    .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
            }
            _ => false,
        };
        names.push((name.to_owned(), is_folder));
    }
    names
}
