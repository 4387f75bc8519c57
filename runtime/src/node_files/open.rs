//! Opening what is wanted, and whether it may be read, by where it is in truth.
//!
//! Most files hold one value of many in a folder. So the folder is opened and looked at once, and its
//! files are opened from there without following links: they are where the folder is.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::rules::{Place, may_be_reached};
use super::want::Want;

/// The most folders of a place that are kept open; files in others are opened the long way.
const KEPT: usize = 128;

/// Opens files of the node; what it keeps open is for a moment's reading.
pub(super) struct Opener {
    /// Where the node's root folder is.
    root: Arc<Path>,
    /// Device and inode of the private folders: there may be several paths to each.
    private: Vec<(u64, u64)>,
    /// The folders that places begin at.
    places: HashMap<Place, Option<Rc<OwnedFd>>>,
    /// Folders with wanted files, by their paths below their places, or why they cannot be opened.
    kept: HashMap<Place, HashMap<String, Result<Rc<Folder>, Errno>>>,
}

struct Folder {
    fd: OwnedFd,
    /// Of those of `/sys`: where it is in truth, below that.
    real: Option<String>,
}

impl Place {
    /// The folder that its paths begin at, below the node's root.
    pub(super) fn folder(self) -> &'static str {
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

impl Opener {
    /// Below the node's `root`; of `private` folders nobody reads anything.
    pub(super) fn new(root: Arc<Path>, private: &[PathBuf]) -> Self {
        let private = private.iter().filter_map(|path| identity(path));
        Self {
            root,
            private: private.collect(),
            places: HashMap::new(),
            kept: HashMap::new(),
        }
    }

    /// Whether the folder is there that a place begins at.
    pub(super) fn has(&mut self, place: Place) -> bool {
        self.place(place).is_some()
    }

    /// Opens a file or folder that may be read.
    pub(super) fn file(&mut self, want: &Want, at: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let (above, name) = at.rsplit_once('/').unwrap_or(("", at));
        if let Some(folder) = self.kept(want, above)? {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            match openat2(&folder.fd, name, flags, resolve) {
                // A link, which may lead elsewhere: the long way.
                Err(Errno::LOOP) => {}
                opened => {
                    return match folder.opens(want.place, name) {
                        true => opened,
                        false => opened.and(Err(Errno::ACCESS)),
                    };
                }
            }
        }
        let file = self.open(want.place, at, flags)?;
        self.allowed(&file, want)?;
        Ok(file)
    }

    /// Opens whatever it is, without asking whether it may be read.
    pub(super) fn open(
        &mut self,
        place: Place,
        path: &str,
        flags: OFlags,
    ) -> Result<OwnedFd, Errno> {
        let folder = self.place(place).ok_or(Errno::NOENT)?;
        let path = if path.is_empty() { "." } else { path };
        openat2(&*folder, path, flags, place.resolve())
    }

    /// Whether no link is on the way from the first `listed` bytes of a path to its end.
    pub(super) fn is_below(&mut self, place: Place, path: &str, listed: usize) -> bool {
        let (above, below) = path.split_at_checked(listed).unwrap_or_default();
        let below = below.trim_start_matches('/');
        if below.is_empty() {
            return true;
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        self.open(place, above, OFlags::PATH)
            .and_then(|folder| openat2(&folder, below, OFlags::PATH, resolve))
            .is_ok()
    }

    /// The folder in which wanted files are, if it is kept open.
    fn kept(&mut self, want: &Want, at: &str) -> Result<Option<Rc<Folder>>, Errno> {
        let place = want.place;
        let is_shared = match place {
            Place::Proc => !at.is_empty() && want.has_one_folder(),
            Place::Sys => true,
            Place::Plain => false,
        };
        if !is_shared {
            return Ok(None);
        }
        let kept = self.kept.entry(place).or_default();
        if let Some(known) = kept.get(at) {
            return known.clone().map(Some);
        }
        if kept.len() >= KEPT {
            return Ok(None);
        }
        let opened = self.open(place, at, OFlags::PATH | OFlags::DIRECTORY);
        let opened = opened.map(|fd| {
            let real = match place {
                Place::Sys => self.below_sys(&fd),
                Place::Proc | Place::Plain => None,
            };
            Rc::new(Folder { fd, real })
        });
        let kept = self.kept.entry(place).or_default();
        kept.insert(at.to_owned(), opened.clone());
        opened.map(Some)
    }

    fn place(&mut self, place: Place) -> Option<Rc<OwnedFd>> {
        let open = || {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let path = self.root.join(place.folder());
            let opened = rustix::fs::open(path, flags, Mode::empty());
            opened.ok().map(Rc::new)
        };
        self.places.entry(place).or_insert_with(open).clone()
    }

    /// Where an open file is on the node.
    pub(super) fn real(&self, file: &OwnedFd) -> Option<PathBuf> {
        let below = seen(file)?;
        let below = below.strip_prefix(&*self.root).ok()?;
        Some(Path::new("/").join(below))
    }

    fn below_sys(&self, file: &OwnedFd) -> Option<String> {
        let real = self.real(file)?;
        Some(real.strip_prefix("/sys").ok()?.to_str()?.to_owned())
    }

    /// Fails if an open file or folder may not be read, by where it is in truth.
    pub(super) fn allowed(&mut self, file: &OwnedFd, want: &Want) -> Result<(), Errno> {
        let allowed = match want.place {
            // Nothing there was reached by a link.
            Place::Proc => true,
            Place::Sys => self.below_sys(file).is_some_and(|it| may_be_reached(&it)),
            Place::Plain => self.is_plain(file, want),
        };
        allowed.then_some(()).ok_or(Errno::ACCESS)
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
        let (Some(seen), Some(real)) = (seen(file), self.real(file)) else {
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

impl Folder {
    /// Whether a file in it, which is no link, may be read.
    fn opens(&self, place: Place, name: &str) -> bool {
        match place {
            Place::Sys => {
                let real = self.real.as_ref();
                real.is_some_and(|real| may_be_reached(&format!("{real}/{name}")))
            }
            Place::Proc => true,
            Place::Plain => false,
        }
    }
}

fn openat2(
    folder: impl AsFd,
    path: &str,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    // Again if something was renamed on the way, see openat2(2).
    for _ in 0..8 {
        let opened = rustix::fs::openat2(folder.as_fd(), path, flags, Mode::empty(), resolve);
        if !matches!(opened, Err(Errno::AGAIN)) {
            return opened;
        }
    }
    Err(Errno::AGAIN)
}

/// Where an open file is, as the daemon sees it.
fn seen(file: &OwnedFd) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

/// Device and inode, whatever the path to it.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
