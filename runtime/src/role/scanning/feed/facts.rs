//! What the kernel says of a file without opening it.

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp};
use rustix::io::Errno;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file: the only kind that is ever opened for reading.
    File,
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A disk or the like.
    BlockDevice,
    /// A terminal or the like, and whatever the kernel may have that is none of these.
    CharacterDevice,
}

/// A device and an inode: one file, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FileKey {
    /// The file system's device, as `stat` has it.
    pub device: u64,
    /// The inode in it.
    pub inode: u64,
}

/// What `statx` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) key: FileKey,
    pub(super) kind: Kind,
    pub(super) size: u64,
    /// Bytes that it takes on its disk: few if it has holes.
    pub(super) allocated: u64,
    /// Nanoseconds since 1970, as the next one.
    pub(super) modified: i64,
    pub(super) changed: i64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u32,
    /// Which mount it was reached through.
    pub(super) mount: u64,
}

impl Facts {
    /// Of `name` in `folder`, itself if it is a link. Mounts nothing, and asks no server.
    pub(super) fn of(folder: impl AsFd, name: &CStr) -> Result<Self, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        Self::ask(folder, name, flags | AtFlags::STATX_DONT_SYNC)
    }

    /// Of what is open.
    pub(super) fn of_open(file: impl AsFd) -> Result<Self, Errno> {
        Self::ask(file, c"", AtFlags::EMPTY_PATH)
    }

    /// The same as it was heard last: a server that is gone is not waited for.
    pub(super) fn known_of_open(file: impl AsFd) -> Result<Self, Errno> {
        Self::ask(file, c"", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC)
    }

    fn ask(at: impl AsFd, name: &CStr, flags: AtFlags) -> Result<Self, Errno> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        rustix::fs::statx(at, name, flags, wanted).map(|statx| Self::from(&statx))
    }

    /// Whether nothing was done to the file between two looks.
    pub(super) fn same_state(&self, other: &Self) -> bool {
        self.stamp() == other.stamp()
    }

    fn stamp(&self) -> (FileKey, Kind, u64, i64, i64) {
        let Self {
            key,
            kind,
            size,
            modified,
            changed,
            ..
        } = *self;
        (key, kind, size, modified, changed)
    }
}

impl From<&Statx> for Facts {
    fn from(statx: &Statx) -> Self {
        let mode = u32::from(statx.stx_mode);
        Self {
            key: FileKey {
                device: rustix::fs::makedev(statx.stx_dev_major, statx.stx_dev_minor),
                inode: statx.stx_ino,
            },
            kind: match FileType::from_raw_mode(mode) {
                FileType::RegularFile => Kind::File,
                FileType::Directory => Kind::Directory,
                FileType::Symlink => Kind::Symlink,
                FileType::Fifo => Kind::Fifo,
                FileType::Socket => Kind::Socket,
                FileType::BlockDevice => Kind::BlockDevice,
                FileType::CharacterDevice | FileType::Unknown => Kind::CharacterDevice,
            },
            size: statx.stx_size,
            allocated: statx.stx_blocks.saturating_mul(512),
            modified: nanoseconds(&statx.stx_mtime),
            changed: nanoseconds(&statx.stx_ctime),
            mode: mode & 0o7777,
            uid: statx.stx_uid,
            gid: statx.stx_gid,
            links: statx.stx_nlink,
            mount: statx.stx_mnt_id,
        }
    }
}

fn nanoseconds(time: &StatxTimestamp) -> i64 {
    let seconds = time.tv_sec.saturating_mul(1_000_000_000);
    seconds.saturating_add(i64::from(time.tv_nsec))
}
