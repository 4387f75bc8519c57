//! A file that is only appended to, and rotated by size. Shared by the file destination and the
//! dead letters. Everything here blocks: call it on a blocking thread.
//!
//! Rules, in the order in which they matter:
//! 1. An append is whole or it did not happen: when a write fails half-way (disk full), the file is
//!    cut back to its old length before the error is returned or, if even that fails, before the
//!    next append.
//! 2. What lies after the last line feed when the file is opened is the rest of an append that a
//!    crash cut short. It was never acknowledged, so it will be written again: it is cut off. Looked
//!    for in the last 16 MiB only, more than any append leaves; without a line feed in there the
//!    file is not ours to cut, and a line feed is added instead.
//! 3. Once a sync has failed, every further sync fails until the file is opened anew: the kernel
//!    reports lost pages once and calls them clean afterwards, so a later success would lie. An
//!    append that is synced at once is instead taken back, so that it can be made again.
//! 4. The last component of the path is never followed as a symlink, and nothing but a regular file
//!    is written to: a daemon with root's rights must not be led elsewhere.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::failpoint;

/// How far back the end of the last whole line is looked for.
const TAIL: u64 = 16 << 20;
/// How often the path is compared with the open file.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// When a file is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// An append that would make the file longer than this begins a new one, in bytes.
    pub max_size: u64,
    /// How many old files are kept, as `PATH.1` (the newest) to `PATH.KEEP`.
    pub keep: u32,
}

/// A file that is appended to. Appends of several threads come one after the other.
#[derive(Debug)]
pub struct RotatingFile {
    root: PathBuf,
    path: PathBuf,
    name: OsString,
    state: Mutex<State>,
    /// Held for the whole of a sync: a second caller must not return before the first one's data
    /// is safe.
    syncing: Mutex<()>,
    /// How many syncs are to fail.
    #[cfg(test)]
    failing_syncs: std::sync::atomic::AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Open>,
    /// Written to since the last sync.
    dirty: bool,
    /// Why nothing more can be promised (rule 3).
    sync_failed: Option<String>,
    repaired: bool,
}

#[derive(Debug)]
struct Open {
    folder: Arc<OwnedFd>,
    file: Arc<File>,
    device: u64,
    inode: u64,
    checked: Instant,
    /// The file must be cut to this length before anything else (rule 1).
    cut_to: Option<u64>,
}

impl RotatingFile {
    /// A file at the absolute `path` inside `root`. Nothing is opened or made before the first use.
    ///
    /// Returns none if `path` is relative or names no file.
    pub fn new(root: &Path, path: &Path) -> Option<Self> {
        let clean = path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !path.is_absolute() || !clean {
            return None;
        }
        Some(Self {
            root: root.to_owned(),
            path: path.to_owned(),
            name: path.file_name()?.to_owned(),
            state: Mutex::default(),
            syncing: Mutex::default(),
            #[cfg(test)]
            failing_syncs: Default::default(),
        })
    }

    /// Appends `bytes`, which end in a line feed, all or nothing.
    pub fn append(&self, bytes: &[u8], rotation: Rotation) -> io::Result<()> {
        self.append_to(&mut self.lock(), bytes, rotation)?;
        Ok(())
    }

    /// Appends `bytes`, which end in a line feed, and makes them durable, all or nothing: after an
    /// error the same bytes can be appended again and are there once. For files of which every append
    /// is made this way.
    pub fn append_synced(&self, bytes: &[u8], rotation: Rotation) -> io::Result<()> {
        // Held throughout: no append may come behind one that is taken back.
        let mut state = self.lock();
        let before = self.append_to(&mut state, bytes, rotation)?;
        let Some(open) = &mut state.open else {
            return Err(io::Error::other("the file was closed while it was written"));
        };
        // Nothing else is synced line by line.
        failpoint::hit("dead-letter.before-sync");
        if let Err(error) = self.sync_data(&open.file) {
            // The state knows of no failure afterwards (rule 3): what may be lost is not there any
            // more, and what came before was durable already.
            match open.file.set_len(before) {
                Ok(()) => state.open = None,
                Err(cut) => {
                    tracing::warn!(path = %self.path.display(), %cut, "cannot take back a write yet");
                    open.cut_to = Some(before);
                }
            }
            state.dirty = false;
            return Err(error);
        }
        state.dirty = false;
        Ok(())
    }

    /// Returns the length that the file had before.
    fn append_to(&self, state: &mut State, bytes: &[u8], rotation: Rotation) -> io::Result<u64> {
        self.follow_path(state)?;
        let mut open = self.opened(state)?;
        // Asked each time: someone else may have truncated the file.
        let mut length = open.file.metadata()?.len();
        if length > 0 && length.saturating_add(bytes.len() as u64) > rotation.max_size {
            self.rotate(state, rotation.keep)?;
            open = self.opened(state)?;
            length = open.file.metadata()?.len();
        }
        failpoint::hit("file.before-write");
        let written = write_all(&open.file, bytes);
        if let Err(error) = written {
            if let Err(cut) = open.file.set_len(length) {
                tracing::warn!(path = %self.path.display(), %cut, "cannot take back half a write yet");
                open.cut_to = Some(length);
            }
            return Err(error);
        }
        state.dirty = true;
        failpoint::hit("file.after-write");
        Ok(length)
    }

    /// Makes every append that has returned durable.
    pub fn sync(&self) -> io::Result<()> {
        let _one_at_a_time = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let file = {
            let mut state = self.lock();
            if let Some(reason) = &state.sync_failed {
                return Err(io::Error::other(reason.clone()));
            }
            match &state.open {
                Some(open) if state.dirty => {
                    let file = Arc::clone(&open.file);
                    state.dirty = false;
                    file
                }
                _ => return Ok(()),
            }
        };
        // Outside the lock: lanes go on writing meanwhile.
        let synced = self.sync_data(&file);
        if let Err(error) = &synced {
            self.remember_failure(&mut self.lock(), error);
        }
        synced
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        #[cfg(test)]
        {
            use std::sync::atomic::Ordering::SeqCst;
            let one_less = |count: u32| count.checked_sub(1);
            if (self.failing_syncs.fetch_update(SeqCst, SeqCst, one_less)).is_ok() {
                return Err(Errno::IO.into());
            }
        }
        file.sync_data()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the state between two of its changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember_failure(&self, state: &mut State, error: &io::Error) {
        state.sync_failed = Some(format!(
            "an earlier sync of {} failed ({error}); what was written since the last checkpoint may \
             be lost and will be delivered again when the plugin is restarted",
            self.path.display()
        ));
    }

    /// Lets go of the file if the path names another one by now, or none.
    fn follow_path(&self, state: &mut State) -> io::Result<()> {
        let Some(open) = &mut state.open else {
            return Ok(());
        };
        if open.checked.elapsed() < CHECK_EVERY {
            return Ok(());
        }
        open.checked = Instant::now();
        let same = match rustix::fs::statat(&open.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found.st_dev == open.device && found.st_ino == open.inode,
            Err(Errno::NOENT) => false,
            Err(error) => return Err(error.into()),
        };
        // The folder may itself have been moved or removed with the file in it.
        let same = same
            && self
                .folder(false)
                .is_ok_and(|folder| is_same(&folder, &open.folder));
        if !same {
            self.let_go(state)?;
        }
        Ok(())
    }

    /// Syncs and closes the file.
    fn let_go(&self, state: &mut State) -> io::Result<()> {
        let Some(open) = &state.open else {
            return Ok(());
        };
        if let Some(length) = open.cut_to {
            open.file.set_len(length)?;
        }
        if let Err(error) = self.sync_data(&open.file) {
            self.remember_failure(state, &error);
            return Err(error);
        }
        state.open = None;
        state.dirty = false;
        Ok(())
    }

    /// The file, opened or made if need be.
    fn opened<'a>(&self, state: &'a mut State) -> io::Result<&'a mut Open> {
        if state.open.is_none() {
            let folder = self.folder(true)?;
            let file = self.open_file(&folder)?;
            let metadata = rustix::fs::fstat(&file)?;
            if !state.repaired {
                repair(&file, metadata.st_size as u64)?;
                state.repaired = true;
            }
            // The name itself must survive a power cut, or the synced data has none.
            rustix::fs::fsync(&folder)?;
            state.open = Some(Open {
                folder: Arc::new(folder),
                file: Arc::new(file),
                device: metadata.st_dev,
                inode: metadata.st_ino,
                checked: Instant::now(),
                cut_to: None,
            });
        }
        let Some(open) = &mut state.open else {
            return Err(io::Error::other("the file was closed while it was opened"));
        };
        if let Some(length) = open.cut_to {
            open.file.set_len(length)?;
            open.cut_to = None;
        }
        Ok(open)
    }

    fn open_file(&self, folder: &OwnedFd) -> io::Result<File> {
        // NONBLOCK: opening a FIFO that nobody reads would hang.
        let flags = OFlags::RDWR
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::CLOEXEC
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
        let file = match rustix::fs::openat(folder, &self.name, flags, mode) {
            Ok(file) => File::from(file),
            Err(Errno::LOOP) => {
                return Err(io::Error::other(
                    "the path is a symlink, which is not followed; name the file itself",
                ));
            }
            Err(error) => return Err(error.into()),
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("the path is not a regular file"));
        }
        Ok(file)
    }

    /// The file's folder, resolved inside the root.
    fn folder(&self, create: bool) -> io::Result<OwnedFd> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let root = rustix::fs::open(&self.root, flags, Mode::empty())?;
        let open_at = |path: &Path| {
            if self.root == Path::new("/") {
                rustix::fs::open(Path::new("/").join(path), flags, Mode::empty())
            } else {
                let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
                rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve)
            }
        };
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        let relative = parent.strip_prefix("/").unwrap_or(parent);
        if relative.as_os_str().is_empty() {
            return Ok(root);
        }
        match open_at(relative) {
            Err(Errno::NOENT) if create => {}
            result => return Ok(result?),
        }
        let mut folder = root.try_clone()?;
        let mut so_far = PathBuf::new();
        for part in relative.components() {
            so_far.push(part);
            folder = match open_at(&so_far) {
                Err(Errno::NOENT) => {
                    let part: &OsStr = part.as_os_str();
                    match rustix::fs::mkdirat(&folder, part, Mode::from_raw_mode(0o755)) {
                        Ok(()) => rustix::fs::fsync(&folder)?,
                        Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    open_at(&so_far)?
                }
                result => result?,
            };
        }
        Ok(folder)
    }

    /// Renames the file away, so that the next use begins a new one.
    fn rotate(&self, state: &mut State, keep: u32) -> io::Result<()> {
        let Some(open) = &state.open else {
            return Ok(());
        };
        let folder = Arc::clone(&open.folder);
        self.let_go(state)?;
        failpoint::hit("file.rotate");
        if keep == 0 {
            rustix::fs::unlinkat(&folder, &self.name, AtFlags::empty())?;
            return Ok(());
        }
        // Files move up only as far as the first free number: a gap that an interrupted rotation
        // left must not push out the oldest file.
        let mut to = 1;
        while to < keep && exists(&folder, &self.numbered(to)) {
            to += 1;
        }
        for number in (1..to).rev() {
            let (from, onto) = (self.numbered(number), self.numbered(number + 1));
            match rustix::fs::renameat(&folder, &from, &folder, &onto) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match rustix::fs::renameat(&folder, &self.name, &folder, self.numbered(1)) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        rustix::fs::fsync(&folder)?;
        Ok(())
    }

    fn numbered(&self, number: u32) -> OsString {
        let mut name = self.name.clone();
        name.push(format!(".{number}"));
        name
    }
}

fn exists(folder: &OwnedFd, name: &OsStr) -> bool {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

fn is_same(a: &impl AsFd, b: &impl AsFd) -> bool {
    match (rustix::fs::fstat(a), rustix::fs::fstat(b)) {
        (Ok(a), Ok(b)) => a.st_dev == b.st_dev && a.st_ino == b.st_ino,
        _ => false,
    }
}

fn write_all(file: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Cuts off what follows the last line feed (rule 2).
fn repair(file: &File, length: u64) -> io::Result<()> {
    const CHUNK: u64 = 64 << 10;
    let mut buffer = vec![0; CHUNK as usize];
    let floor = length.saturating_sub(TAIL);
    let mut end = length;
    while end > floor {
        let start = end.saturating_sub(CHUNK).max(floor);
        let chunk = &mut buffer[..(end - start) as usize];
        file.read_exact_at(chunk, start)?;
        if let Some(at) = memchr::memrchr(b'\n', chunk) {
            let keep = start + at as u64 + 1;
            if keep < length {
                file.set_len(keep)?;
            }
            return Ok(());
        }
        end = start;
    }
    if length > 0 && floor > 0 {
        return write_all(file, b"\n");
    }
    file.set_len(0)
}

#[cfg(test)]
mod tests;
