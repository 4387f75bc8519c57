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
                    matters |= event.events().intersects(about_folder)
                        || match (self.watches.get(&event.wd()), event.file_name()) {
                            (Some(interest), Some(name)) => {
                                interest.in_name(OsStr::from_bytes(name.to_bytes()))
                            }
                            _ => false,
                        };
                }
                Err(Errno::INTR) => {}
                Err(_) => return matters,
            }
        }
    }
}
