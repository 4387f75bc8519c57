//! A queue's folder: made private, locked against others, and used through its handle, so that
//! nobody who can rename a folder above it leads the daemon elsewhere.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::error::Error;
use crate::lock::Lock;

const FOLDER: OFlags = OFlags::DIRECTORY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW);
const LOCK: &str = "lock";

/// An open folder of one queue.
#[derive(Debug)]
pub(super) struct Folder {
    handle: OwnedFd,
    path: PathBuf,
    /// Held for as long as this is.
    _lock: Lock,
}

/// Whether a folder is made that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Make,
    Fail,
}

/// Opens the folder `names` below `base`, which must be there: where a disk is not mounted, nothing
/// is written in its stead.
pub(super) fn open_below(base: &Path, names: &[&str], missing: Missing) -> Result<OwnedFd, Error> {
    let mut path = base.to_owned();
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder = rustix::fs::open(base, flags, Mode::empty())
        .map_err(|error| Error::io("cannot open", base)(error.into()))?;
    for &name in names {
        path.push(name);
        folder = enter(&folder, name, missing)
            .map_err(|error| Error::io("cannot open", &path)(error.into()))?;
        let stat = rustix::fs::fstat(&folder)
            .map_err(|error| Error::io("cannot open", &path)(error.into()))?;
        let mode = stat.st_mode & 0o7777;
        if mode & 0o022 != 0 {
            return Err(Error::Exposed { folder: path, mode });
        }
    }
    Ok(folder)
}

fn enter(folder: &OwnedFd, name: &str, missing: Missing) -> Result<OwnedFd, Errno> {
    match rustix::fs::openat(folder, name, FOLDER, Mode::empty()) {
        Err(Errno::NOENT) if missing == Missing::Make => {}
        result => return result,
    }
    match rustix::fs::mkdirat(folder, name, Mode::RWXU) {
        // The name itself must survive a power cut, or what is synced below it has none.
        Ok(()) => rustix::fs::fsync(folder)?,
        Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    rustix::fs::openat(folder, name, FOLDER, Mode::empty())
}

impl Folder {
    /// Opens the folder `names` below `base` and locks it.
    pub(super) fn open(base: &Path, names: &[&str], missing: Missing) -> Result<Self, Error> {
        let mut path = base.to_owned();
        path.extend(names);
        let handle = open_below(base, names, missing)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = rustix::fs::openat(&handle, LOCK, flags, Mode::RUSR | Mode::WUSR);
        let lock = lock.map_err(io::Error::from).map(File::from);
        match lock.and_then(Lock::take) {
            Ok(Ok(lock)) => Ok(Self {
                handle,
                path,
                _lock: lock,
            }),
            Ok(Err(_)) => Err(Error::InUse { folder: path }),
            Err(error) => Err(Error::io("cannot lock", &path)(error)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file; makes it if it is to be `new`.
    pub(super) fn file(&self, name: &str, new: bool) -> io::Result<File> {
        let mut flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if new {
            flags |= OFlags::CREATE | OFlags::EXCL;
        }
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(File::from(rustix::fs::openat(
            &self.handle,
            name,
            flags,
            mode,
        )?))
    }

    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.handle, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The names in it.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        names(&self.handle)
    }

    /// Makes new names durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.handle)?)
    }
}

/// The names in an open folder. Those that are no UTF-8 are none of ours.
pub(super) fn names(folder: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if let Ok(name) = name.to_str()
            && !matches!(name, "." | "..")
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
