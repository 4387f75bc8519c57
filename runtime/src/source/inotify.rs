//! Watches folders for changes of certain files. Only says that something happened: what, a look at
//! the folder tells more reliably than a queue that may overflow.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::scan::is_manifest_name;

/// Folders under watch.
pub(super) struct Inotify {
    queue: OwnedFd,
    watches: HashMap<i32, Interest>,
    /// Names of which the last event was not the end of a change: being written, or gone and perhaps
    /// to be put back, as editors do.
    unfinished: HashSet<(i32, OsString)>,
}

/// Which names in a folder matter.
#[derive(Default)]
struct Interest {
    manifests: bool,
    names: HashSet<OsString>,
}

impl Interest {
    fn in_name(&self, name: &OsStr) -> bool {
        // `..data` is what kubelet swaps when a mounted ConfigMap changes.
        (self.manifests && (is_manifest_name(name) || name.as_bytes().starts_with(b"..data")))
            || self.names.contains(name)
    }
}

impl Inotify {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            queue: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            watches: HashMap::new(),
            unfinished: HashSet::new(),
        })
    }

    pub(super) fn queue(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }

    /// Watches the manifests of `folder` and the files of `modules`, and nothing else any more.
    /// Whether all of that can be watched.
    pub(super) fn watch<'a>(
        &mut self,
        folder: &Path,
        modules: impl Iterator<Item = &'a Path>,
    ) -> bool {
        let mut wanted: HashMap<PathBuf, Interest> = HashMap::new();
        wanted.entry(folder.to_owned()).or_default().manifests = true;
        for module in modules {
            // The folder, not the file: a file that is replaced by a rename keeps no watch.
            if let (Some(folder), Some(name)) = (module.parent(), module.file_name()) {
                let interest = wanted.entry(folder.to_owned()).or_default();
                interest.names.insert(name.to_owned());
            }
        }
        let mut complete = true;
        let mut watches: HashMap<i32, Interest> = HashMap::new();
        for (folder, interest) in wanted {
            let flags = WatchFlags::CREATE
                | WatchFlags::MODIFY
                | WatchFlags::CLOSE_WRITE
                | WatchFlags::ATTRIB
                | WatchFlags::DELETE
                | WatchFlags::MOVED_FROM
                | WatchFlags::MOVED_TO
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF
                | WatchFlags::ONLYDIR;
            match inotify::add_watch(&self.queue, &folder, flags) {
                // Two paths may lead to one folder, which is one watch.
                Ok(watch) => {
                    let known = watches.entry(watch).or_default();
                    known.manifests |= interest.manifests;
                    known.names.extend(interest.names);
                }
                Err(error) => {
                    tracing::debug!(folder = %folder.display(), %error, "cannot watch");
                    complete = false;
                }
            }
        }
        for watch in self.watches.keys().filter(|w| !watches.contains_key(w)) {
            // Gone already if its folder is.
            let _ = inotify::remove_watch(&self.queue, *watch);
        }
        self.watches = watches;
        complete
    }

    /// Whether every change since the last call of [`Self::looked`] has come to its end: the file was
    /// closed, or renamed into place.
    pub(super) fn at_rest(&self) -> bool {
        self.unfinished.is_empty()
    }

    /// What has happened up to now was seen by a look.
    pub(super) fn looked(&mut self) {
        self.unfinished.clear();
    }

    /// Takes what has happened out of the queue. Whether any of it matters.
    pub(super) fn drain(&mut self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(&self.queue, &mut buffer);
        let mut matters = false;
        loop {
            match events.next() {
                Ok(event) => {
                    let about_folder = ReadFlags::DELETE_SELF
                        | ReadFlags::MOVE_SELF
                        | ReadFlags::UNMOUNT
                        | ReadFlags::QUEUE_OVERFLOW;
                    matters |= event.events().intersects(about_folder);
                    let (Some(interest), Some(name)) =
                        (self.watches.get(&event.wd()), event.file_name())
                    else {
                        continue;
                    };
                    let name = OsStr::from_bytes(name.to_bytes());
                    if !interest.in_name(name) {
                        continue;
                    }
                    matters = true;
                    let ends = ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO;
                    let name = (event.wd(), name.to_owned());
                    if event.events().intersects(ends) {
                        self.unfinished.remove(&name);
                    } else {
                        self.unfinished.insert(name);
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => return matters,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::{self, File};
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_change_is_at_rest_when_its_file_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut inotify = Inotify::new().unwrap();
        assert!(inotify.watch(folder.path(), std::iter::empty()));
        let mut file = File::create(path("a.yaml")).unwrap();
        file.write_all(b"half").unwrap();
        assert!(inotify.drain() && !inotify.at_rest());
        drop(file);
        assert!(inotify.drain() && inotify.at_rest());
        // As an editor does: away, then written anew under the old name.
        fs::rename(path("a.yaml"), path("a.yaml~")).unwrap();
        assert!(inotify.drain() && !inotify.at_rest());
        fs::write(path("a.yaml"), "whole").unwrap();
        assert!(inotify.drain() && inotify.at_rest());
        fs::write(path("new"), "other").unwrap();
        assert!(!inotify.drain());
        fs::rename(path("new"), path("a.yaml")).unwrap();
        assert!(inotify.drain() && inotify.at_rest());
        fs::remove_file(path("a.yaml")).unwrap();
        assert!(inotify.drain() && !inotify.at_rest());
        inotify.looked();
        assert!(inotify.at_rest());
    }
}
