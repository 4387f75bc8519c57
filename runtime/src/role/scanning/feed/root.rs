//! The node's root folder, and how anything below it is opened: through descriptors of folders, never
//! through a link, and never anything but folders and regular files.

use std::ffi::CStr;
use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::facts::{Facts, FileKey};
use super::filesystem::Nature;
use super::mounts::{Inside, Mounts};
use crate::sandbox::NodeFolders;

/// The node's root folder.
#[derive(Debug)]
pub(super) struct Root {
    folder: OwnedFd,
    /// The mount that it is on.
    mount: u64,
    mounts: Mounts,
    /// As links in `/proc/self/fd` spell it, without a `/` at its end: empty on a bare host.
    spelled: Vec<u8>,
    /// `/proc/self/fd`, through which what is known to be a regular file is opened.
    descriptors: OwnedFd,
    /// Folders that nobody is shown: the daemon's own, and their paths on the node.
    private: Vec<FileKey>,
    private_paths: Vec<Vec<u8>>,
    /// Where they are in their file systems, which may be mounted elsewhere as well.
    private_places: Vec<Inside>,
}

impl Root {
    pub(super) fn open(folders: &NodeFolders) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &Path| rustix::fs::open(path, flags, Mode::empty());
        let folder = open(&folders.root)?;
        let mut spelled = std::fs::canonicalize(&folders.root)?
            .into_os_string()
            .into_vec();
        if spelled == b"/" {
            spelled.clear();
        }
        let private = folders.private.iter().filter_map(|path| {
            let facts = Facts::of_open(open(path).ok()?).ok()?;
            Some(facts.key)
        });
        let mut root = Self {
            mount: Facts::of_open(&folder)?.mount,
            folder,
            mounts: Mounts::open()?,
            spelled,
            descriptors: open(Path::new("/proc/self/fd"))?,
            private: private.collect(),
            private_paths: Vec::new(),
            private_places: Vec::new(),
        };
        let paths = folders.private.iter().filter_map(|path| {
            let opened = open(path).ok()?;
            // In a pod, it is mounted beside the node's root, and usually under the same name.
            let named = path.as_os_str().as_bytes();
            let there = root.place(named).and_then(Facts::of_open);
            let same = there.is_ok_and(|there| root.is_private(there.key));
            root.path_of(opened)
                .or_else(|| same.then(|| named.to_vec()))
        });
        root.private_paths = paths.collect();
        let top = Facts::of_open(open(Path::new("/"))?)?.mount;
        let places = folders.private.iter().filter_map(|path| {
            let path = std::fs::canonicalize(path).ok()?;
            root.mounts.inside(top, path.as_os_str().as_bytes())
        });
        root.private_places = places.collect();
        Ok(root)
    }

    /// A path of the node as the daemon's own mounts spell it.
    fn spelled(&self, path: &[u8]) -> Vec<u8> {
        [&self.spelled, path].concat()
    }

    /// Whether a folder is the daemon's own.
    pub(super) fn is_private(&self, key: FileKey) -> bool {
        self.private.contains(&key)
    }

    /// Whether a path is in a folder of the daemon's own, by whatever mount.
    pub(super) fn is_private_path(&self, path: &[u8]) -> bool {
        let named = self.private_paths.iter().any(|private| {
            let rest = path.strip_prefix(private.as_slice());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        });
        named || self.is_private_place(path)
    }

    fn is_private_place(&self, path: &[u8]) -> bool {
        let inside = self.mounts.inside(self.mount, &self.spelled(path));
        inside.is_some_and(|inside| self.private_places.iter().any(|it| inside.is_in(it)))
    }

    /// Which mount a path of the node is on. Asks nobody but the kernel, so that it is told also if there is
    /// nothing at that path.
    pub(super) fn mount_at(&self, path: &[u8]) -> u64 {
        self.mounts.at(self.mount, &self.spelled(path))
    }

    /// What a mount is. One that is gone has nothing for anybody.
    pub(super) fn nature(&self, mount: u64) -> Nature {
        self.mounts.nature(mount).unwrap_or(Nature::Kernel)
    }

    /// The first mount of a remote file system on the way to a path of the node: whoever opens that path
    /// may wait for ever.
    pub(super) fn remote_on(&self, path: &[u8]) -> Option<u64> {
        self.mounts.remote_on(self.mount, &self.spelled(path))
    }

    /// The paths on the node at which something is mounted below `tree`, other than file systems of the
    /// kernel and of other machines.
    pub(super) fn mounts_below(&self, tree: &[u8]) -> Vec<Vec<u8>> {
        let points = self.mounts.points().into_iter();
        let plain = points.filter(|(_, nature)| *nature == Nature::Plain);
        let mut below: Vec<Vec<u8>> = plain
            .filter_map(|(point, _)| Some(point.strip_prefix(self.spelled.as_slice())?.to_vec()))
            .filter(|path| {
                let rest = path.strip_prefix(tree);
                rest.is_some_and(|rest| {
                    !rest.is_empty() && (tree == b"/" || rest.starts_with(b"/"))
                })
            })
            // It may be hidden by another one, or behind one.
            .filter(|path| {
                let nature = self.nature(self.mount_at(path));
                nature == Nature::Plain && self.remote_on(path).is_none()
            })
            .collect();
        below.sort();
        below.dedup();
        below
    }

    /// Bytes that are used of its file system.
    pub(super) fn used(&self) -> Option<u64> {
        let said = rustix::fs::fstatvfs(&self.folder).ok()?;
        Some(
            said.f_blocks
                .saturating_sub(said.f_bfree)
                .saturating_mul(said.f_frsize),
        )
    }

    /// Opens a path of the node, absolute, without following any link. Opens nothing but its place.
    pub(super) fn place(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = match path.strip_prefix(b"/").unwrap_or(path) {
            b"" => b".".as_slice(),
            path => path,
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        // Again if something was renamed on the way, see openat2(2).
        for _ in 0..8 {
            let opened = rustix::fs::openat2(&self.folder, path, flags, Mode::empty(), resolve);
            if !matches!(opened, Err(Errno::AGAIN)) {
                return opened;
            }
        }
        Err(Errno::AGAIN)
    }

    /// Opens a folder of the node to be listed.
    pub(super) fn folder(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        enter(self.place(path)?, c".")
    }

    /// Opens what `place` is for reading. Only for what was seen to be a regular file: opening anything
    /// else may have an effect. What `place` is cannot change any more.
    pub(super) fn read(&self, place: impl AsFd) -> Result<OwnedFd, Errno> {
        let number = place.as_fd().as_raw_fd().to_string();
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        without_access_time(|more| {
            let flags = flags | more;
            rustix::fs::openat(&self.descriptors, number.as_str(), flags, Mode::empty())
        })
    }

    /// The path on the node of an open folder; none if it is not below the root.
    pub(super) fn path_of(&self, folder: impl AsFd) -> Option<Vec<u8>> {
        let number = folder.as_fd().as_raw_fd().to_string();
        let link = rustix::fs::readlinkat(&self.descriptors, number.as_str(), Vec::new()).ok()?;
        let path = link.to_bytes().strip_prefix(self.spelled.as_slice())?;
        match path {
            b"" => Some(b"/".to_vec()),
            [b'/', ..] => Some(path.to_vec()),
            _ => None,
        }
    }
}

/// The path through which the kernel reaches what is open, whatever it is.
pub(super) fn descriptor_path(file: impl AsFd) -> String {
    let mut path = "/proc/self/fd/".to_owned();
    // Writing to a text does not fail.
    let _ = write!(path, "{}", file.as_fd().as_raw_fd());
    path
}

/// Opens the folder `name` in `folder` to be listed.
pub(super) fn enter(folder: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    without_access_time(|more| rustix::fs::openat(&folder, name, flags | more, Mode::empty()))
}

/// Opens the place of `name` in `folder`, itself if it is a link. Has no effect on what is there.
pub(super) fn place(folder: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty())
}

/// Reading must not look like use, where that is allowed: to owners and to root.
fn without_access_time(open: impl Fn(OFlags) -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    match open(OFlags::NOATIME) {
        Err(Errno::PERM) => open(OFlags::empty()),
        opened => opened,
    }
}
