//! From a path of the node to the folder that it is in, held open, and its name there.
//!
//! What a path says was checked when the manifest was read; where it leads is known only here, and may
//! change at any time. So the folder is opened first, and then checked through its descriptor: what is
//! done afterwards is done to that folder, whatever happens to the path.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::error::Error;
use super::kind::temporary_name;
use super::meta::{Identity, Meta};
use crate::manifest::{NodePath, root_equivalent_folder};
use crate::sandbox::NodeFolders;

/// statfs(2).
const PROCFS: i64 = 0x9fa0;
const SYSFS: i64 = 0x6265_6572;
/// Where a node has the kernel's file systems.
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// The node's tree of files.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    /// As links in /proc/self/fd spell it.
    path: PathBuf,
    private: Vec<PathBuf>,
}

/// What a path may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Bound<'a> {
    /// Where its folder leads to: just this path is meant.
    Anywhere,
    /// Only what is in the folder that this leads to, relative to the root.
    Within(&'a str),
}

impl<'a> Bound<'a> {
    /// Of a path that is granted by this one, which is itself or above it.
    pub(super) fn of(granted: &'a NodePath, path: &NodePath) -> Self {
        match granted == path {
            true => Self::Anywhere,
            false => Self::Within(granted.inner()),
        }
    }
}

/// An open folder that may be used.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    /// As the daemon sees it.
    pub(super) real: PathBuf,
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Tree {
    pub(super) fn open(folders: &NodeFolders) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&*folders.root, flags, Mode::empty())?;
        Ok(Self {
            path: real(&root).ok_or(Errno::NOENT)?,
            root,
            private: folders.private.to_vec(),
        })
    }

    /// Where the daemon sees it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a path relative to the root. Links, absolute ones too, are the node's.
    pub(super) fn resolve(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { "." } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        // Again if something was renamed on the way, see openat2(2).
        for _ in 0..32 {
            let opened = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve);
            if !matches!(opened, Err(Errno::AGAIN)) {
                return opened;
            }
        }
        Err(Errno::AGAIN)
    }

    /// Checks an open folder by where it is in truth. `spelled` is for messages.
    fn check(
        &self,
        folder: &OwnedFd,
        spelled: &str,
        bound: Bound<'_>,
        private: &[Identity],
    ) -> Result<PathBuf, Error> {
        let path = format!("/{spelled}");
        let system = |errno| Error::of(&path, errno);
        let seen = real(folder).ok_or_else(|| system(Errno::NOENT))?;
        let astray = |real: &Path| Error::Astray {
            path: path.clone(),
            real: real.display().to_string(),
        };
        let below = seen.strip_prefix(&self.path).map_err(|_| astray(&seen))?;
        let node = Path::new("/").join(below);
        let kind = rustix::fs::fstatfs(folder).map_err(system)?.f_type;
        if matches!(kind, PROCFS | SYSFS) || KERNELS.iter().any(|it| node.starts_with(it)) {
            let real = node.display().to_string();
            return Err(Error::Kernels { path, real });
        }
        if (seen.ancestors().filter_map(identity)).any(|above| private.contains(&above)) {
            return Err(Error::Private { path });
        }
        if let Bound::Within(granted) = bound {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let granted = self.resolve(granted, flags).map_err(system)?;
            if !real(&granted).is_some_and(|granted| seen.starts_with(granted)) {
                return Err(astray(&node));
            }
        }
        Self::not_by_a_link_of_somebody(&node, spelled, bound, None)?;
        Ok(seen)
    }

    /// Refuses what is as good as being root, unless the grant itself says so, which the policy has then let
    /// in: a link may lead there that somebody made who may write where the grant is. `node` is a folder as it
    /// is in truth, and `name` a name in it.
    fn not_by_a_link_of_somebody(
        node: &Path,
        spelled: &str,
        bound: Bound<'_>,
        name: Option<&str>,
    ) -> Result<(), Error> {
        let granted = match (bound, name) {
            (Bound::Within(granted), _) => Path::new("/").join(granted),
            (Bound::Anywhere, Some(name)) => Path::new("/").join(spelled).join(name),
            (Bound::Anywhere, None) => Path::new("/").join(spelled),
        };
        if root_equivalent_folder(&granted).is_some() {
            return Ok(());
        }
        let target = name.map_or_else(|| node.to_owned(), |name| node.join(name));
        // A folder above one of the system's is none itself.
        let found = root_equivalent_folder(&target);
        match found.filter(|system| name.is_some() || target.starts_with(system)) {
            None => Ok(()),
            Some(system) => Err(Error::RootEquivalent {
                path: format!("/{spelled}"),
                system,
            }),
        }
    }

    /// Refuses links on the way that do not belong to root: whoever owns one chooses what is changed.
    /// Whether there is any link.
    fn links(&self, path: &str) -> Result<bool, Unopened> {
        let mut any = false;
        let ends = path.match_indices('/').map(|(end, _)| end);
        for end in ends.chain([path.len()]).filter(|end| *end > 0) {
            let part = path.get(..end).unwrap_or_default();
            let flags = OFlags::PATH | OFlags::NOFOLLOW;
            let found = match self.resolve(part, flags) {
                Ok(found) => found,
                Err(Errno::NOENT | Errno::NOTDIR) => return Err(Unopened::Missing),
                Err(errno) => return Err(Unopened::System(errno)),
            };
            let stat = rustix::fs::fstat(&found).map_err(Unopened::System)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                any = true;
                if stat.st_uid != 0 {
                    return Err(Unopened::Forbidden(Error::ForeignLink {
                        path: format!("/{part}"),
                        uid: stat.st_uid,
                    }));
                }
            }
        }
        Ok(any)
    }
}

type Opened = Result<Rc<Folder>, Unopened>;

/// Why a folder is not used.
#[derive(Debug, Clone)]
pub(super) enum Unopened {
    /// It is not there.
    Missing,
    /// It cannot be opened.
    System(Errno),
    /// It may not be used.
    Forbidden(Error),
}

/// The most folders that are held open because they may be needed again.
const HELD: usize = 128;

/// Folders opened for one look or one batch of changes: each once, as long as there are not too many.
pub(super) struct Folders<'a> {
    pub(super) tree: &'a Tree,
    /// For whom.
    owner: String,
    private: Vec<Identity>,
    opened: HashMap<(String, Option<String>), Opened>,
}

impl<'a> Folders<'a> {
    pub(super) fn new(tree: &'a Tree, owner: &crate::manifest::Identity) -> Self {
        Self {
            tree,
            owner: owner.to_string(),
            private: tree.private.iter().filter_map(|it| identity(it)).collect(),
            opened: HashMap::new(),
        }
    }

    /// A folder relative to the root.
    pub(super) fn folder(&mut self, path: &str, bound: Bound<'_>) -> Opened {
        let within = match bound {
            Bound::Anywhere => None,
            Bound::Within(granted) => Some(granted.to_owned()),
        };
        let key = (path.to_owned(), within);
        if let Some(opened) = self.opened.get(&key) {
            return opened.clone();
        }
        let opened = self.open(path, bound);
        // A look goes down one folder after the other: those that it has left are needed no more.
        if self.opened.len() >= HELD {
            self.opened.clear();
        }
        self.opened.insert(key, opened.clone());
        opened
    }

    fn open(&self, path: &str, bound: Bound<'_>) -> Opened {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
        let links = self.tree.links(path)?;
        let fd = self
            .tree
            .resolve(path, flags)
            .map_err(|errno| match errno {
                Errno::NOENT | Errno::NOTDIR => Unopened::Missing,
                errno => Unopened::System(errno),
            })?;
        let real = self.tree.check(&fd, path, bound, &self.private);
        let real = real.map_err(Unopened::Forbidden)?;
        // Without links it is what it is called, or somebody has put one there just now.
        if !links && real != self.tree.path.join(path) {
            return Err(Unopened::Forbidden(Error::Changed {
                path: format!("/{path}"),
            }));
        }
        Ok(Rc::new(Folder { fd, real }))
    }

    /// Forgets what is no longer so: a folder was made, removed, or replaced.
    pub(super) fn forget(&mut self) {
        self.opened.clear();
    }

    /// Where a path is, and what is there.
    pub(super) fn spot(&mut self, path: &NodePath, bound: Bound<'_>) -> Result<Spot, Error> {
        let (folder, name) = path.split();
        let folder = self
            .folder(folder, bound)
            .map_err(|unopened| match unopened {
                Unopened::Missing => Error::NoFolder {
                    folder: format!("/{folder}"),
                },
                Unopened::System(errno) => Error::of(path.as_str(), errno),
                Unopened::Forbidden(error) => error,
            })?;
        if let Ok(below) = folder.real.strip_prefix(&self.tree.path) {
            let node = Path::new("/").join(below);
            let spelled = path.split().0;
            Tree::not_by_a_link_of_somebody(&node, spelled, bound, Some(name))?;
        }
        let meta = Meta::at(&*folder, name).map_err(|errno| Error::of(path.as_str(), errno))?;
        if meta.is_some_and(|meta| self.private.contains(&meta.identity())) {
            let path = path.as_str().to_owned();
            return Err(Error::Private { path });
        }
        Ok(Spot {
            folder,
            name: name.to_owned(),
            temporary: temporary_name(&self.owner, name),
            path: path.as_str().to_owned(),
            meta,
        })
    }
}

/// A place for a file: a folder, a name in it, and what was found there.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) folder: Rc<Folder>,
    pub(super) name: String,
    /// The name under which something is made before it takes its place: the same each time, so that what a
    /// crash has left is found, and another one for each plugin.
    pub(super) temporary: String,
    /// For people.
    pub(super) path: String,
    pub(super) meta: Option<Meta>,
}

impl Spot {
    pub(super) fn error(&self, errno: Errno) -> Error {
        Error::of(&self.path, errno)
    }

    /// Opens what was found there: not what a link points to, and nothing else that has its name by now.
    pub(super) fn open(&self, flags: OFlags) -> Result<OwnedFd, Error> {
        let meta = self.meta.as_ref().ok_or_else(|| self.changed())?;
        // A descriptor that can do nothing first: to open a device or a pipe may do something.
        let found = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = rustix::fs::openat(&*self.folder, &self.name, found, Mode::empty());
        let found = found.map_err(|_| self.changed())?;
        let now = Meta::of(&found).map_err(|errno| self.error(errno))?;
        match now.stamp == meta.stamp {
            true => reopen(&found, flags).map_err(|errno| self.error(errno)),
            false => Err(self.changed()),
        }
    }

    /// Whether what was found there is what is there.
    pub(super) fn is_as_found(&self) -> Result<(), Error> {
        let now = Meta::at(&*self.folder, &self.name).map_err(|errno| self.error(errno))?;
        match now.map(|now| now.stamp) == self.meta.map(|meta| meta.stamp) {
            true => Ok(()),
            false => Err(self.changed()),
        }
    }

    pub(super) fn changed(&self) -> Error {
        let path = self.path.clone();
        Error::Changed { path }
    }
}

/// Opens for use what a descriptor of `O_PATH` stands for.
pub(super) fn reopen(file: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    rustix::fs::open(path, flags, Mode::empty())
}

/// Where an open file is, as the daemon sees it.
fn real(file: &OwnedFd) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

/// Of what a path leads to.
fn identity(path: &Path) -> Option<Identity> {
    let flags = AtFlags::empty();
    let found = rustix::fs::statx(rustix::fs::CWD, path, flags, StatxFlags::BASIC_STATS).ok()?;
    Some(((found.stx_dev_major, found.stx_dev_minor), found.stx_ino))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn so_many_folders_are_held_open_and_no_more() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::open(&NodeFolders {
            root: root.path().into(),
            private: [].into(),
        })
        .unwrap();
        let plugin = crate::manifest::Identity::new("local", "x").unwrap();
        let mut folders = Folders::new(&tree, &plugin);
        let mut held = Vec::new();
        for i in 0..3 * HELD {
            let name = i.to_string();
            std::fs::create_dir(root.path().join(&name)).unwrap();
            let folder = folders.folder(&name, Bound::Anywhere).unwrap();
            assert!(folder.real.ends_with(&name));
            held.push(Rc::downgrade(&folder));
        }
        let open = held.iter().filter(|it| it.strong_count() > 0).count();
        assert!(open <= HELD, "{open}");
        let again = folders.folder("0", Bound::Anywhere).unwrap();
        assert!(again.real.ends_with("0"));
    }
}
