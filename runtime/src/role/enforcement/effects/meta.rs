//! What a file is, without its content, and how to tell whether it is still the same.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;

/// What tells one state of a file from another. Of a folder it is only itself: what is in it may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: (u32, u32),
    inode: u64,
    permissions: (u16, u32, u32),
    size: u64,
    modified: i64,
    changed: i64,
}

/// What a file is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta {
    pub(super) kind: FileType,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    /// How many names it has.
    pub(super) links: u32,
    /// In nanoseconds since 1970.
    pub(super) modified: i64,
    /// It was made immutable, or append-only.
    pub(super) held: bool,
    pub(super) stamp: Stamp,
}

impl Meta {
    /// Of what has this name in a folder; a link is a link. None if there is nothing.
    pub(super) fn at(folder: impl AsFd, name: &str) -> Result<Option<Self>, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        match rustix::fs::statx(folder, name, flags, StatxFlags::BASIC_STATS) {
            Ok(found) => Ok(Some(Self::read(&found))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Of an open file.
    pub(super) fn of(file: impl AsFd) -> Result<Self, Errno> {
        let found = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        Ok(Self::read(&found))
    }

    fn read(found: &Statx) -> Self {
        let kind = FileType::from_raw_mode(found.stx_mode.into());
        let nanoseconds = |time: rustix::fs::StatxTimestamp| {
            let seconds = time.tv_sec.saturating_mul(1_000_000_000);
            seconds.saturating_add(time.tv_nsec.into())
        };
        let modified = nanoseconds(found.stx_mtime);
        let is_folder = kind == FileType::Directory;
        let unless_folder = |time: i64| if is_folder { 0 } else { time };
        Self {
            kind,
            mode: u32::from(found.stx_mode) & 0o7777,
            uid: found.stx_uid,
            gid: found.stx_gid,
            size: found.stx_size,
            links: found.stx_nlink,
            modified,
            held: (found.stx_attributes)
                .intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND),
            stamp: Stamp {
                device: (found.stx_dev_major, found.stx_dev_minor),
                inode: found.stx_ino,
                permissions: (found.stx_mode, found.stx_uid, found.stx_gid),
                size: if is_folder { 0 } else { found.stx_size },
                modified: unless_folder(modified),
                changed: unless_folder(nanoseconds(found.stx_ctime)),
            },
        }
    }

    /// Device and inode, whatever the path to it.
    pub(super) fn identity(&self) -> Identity {
        (self.stamp.device, self.stamp.inode)
    }

    /// For people.
    pub(super) fn what(&self) -> &'static str {
        match self.kind {
            FileType::RegularFile => "a file",
            FileType::Directory => "a folder",
            FileType::Symlink => "a symbolic link",
            FileType::Fifo => "a pipe",
            FileType::Socket => "a socket",
            FileType::CharacterDevice | FileType::BlockDevice => "a device",
            FileType::Unknown => "of an unknown kind",
        }
    }
}

/// Device and inode.
pub(super) type Identity = ((u32, u32), u64);
