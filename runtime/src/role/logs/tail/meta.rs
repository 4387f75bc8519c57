//! What the kernel tells of a file, its birth included: the standard library does not ask for that
//! where the C library is musl, as in the static binary, and a log's birth says whether it is read from
//! its start and is part of the ids of its records.

use std::fs::{File, Metadata};
use std::io;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};

/// A file's metadata and birth.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    metadata: Metadata,
    born: Option<SystemTime>,
}

impl Meta {
    /// Of what a path leads to.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        let ask = || {
            statx(
                CWD,
                path,
                AtFlags::empty(),
                StatxFlags::BTIME | StatxFlags::INO,
            )
        };
        Ok(Self::new(metadata, ask))
    }

    /// Of a path itself, which may be a link.
    pub(super) fn of_link(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::symlink_metadata(path)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let ask = || statx(CWD, path, flags, StatxFlags::BTIME | StatxFlags::INO);
        Ok(Self::new(metadata, ask))
    }

    /// Of an open file.
    pub(super) fn of_file(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let mask = StatxFlags::BTIME | StatxFlags::INO;
        let ask = || statx(file.as_fd(), "", AtFlags::EMPTY_PATH, mask);
        Ok(Self::new(metadata, ask))
    }

    fn new(metadata: Metadata, ask: impl FnOnce() -> rustix::io::Result<Statx>) -> Self {
        let born = metadata.created().ok();
        let born = born.or_else(|| birth(&ask().ok()?, metadata.ino()));
        Self { metadata, born }
    }

    /// When it was made; nothing if the file system does not keep that.
    pub(super) fn born(&self) -> Option<SystemTime> {
        self.born
    }
}

impl Deref for Meta {
    type Target = Metadata;

    fn deref(&self) -> &Metadata {
        &self.metadata
    }
}

/// The birth of that inode; another may have its name by now.
fn birth(found: &Statx, inode: u64) -> Option<SystemTime> {
    let known = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
    if !known || found.stx_ino != inode {
        return None;
    }
    let time = &found.stx_btime;
    let seconds = Duration::from_secs(u64::try_from(time.tv_sec).ok()?);
    UNIX_EPOCH.checked_add(seconds + Duration::from_nanos(time.tv_nsec.into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_answer_is_that_of_the_standard_library() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mask = StatxFlags::BTIME | StatxFlags::INO;
        let found = statx(CWD, file.path(), AtFlags::empty(), mask).unwrap();
        let meta = Meta::of_file(file.as_file()).unwrap();
        let born = birth(&found, meta.ino());
        assert!(born.is_some());
        #[cfg(target_env = "gnu")]
        assert_eq!(born, meta.metadata.created().ok());
        assert_eq!(born, meta.born());
        assert_eq!(born, Meta::of(file.path()).unwrap().born());
        assert_eq!(birth(&found, meta.ino() + 1), None);
    }
}
