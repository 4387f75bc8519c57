//! Watches what a plugin wants to see of the node's files, so that an edit is seen at once. Only says that
//! something happened: what, a look tells.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::effects::TEMPORARY;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The most folders that one plugin has watched; more are looked at now and then.
const FOLDERS: usize = 1024;

/// What matters in one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Names {
    /// Everything.
    All,
    /// Just these.
    Only(HashSet<OsString>),
}

impl Names {
    fn hold(&self, name: &OsStr) -> bool {
        match self {
            // What the daemon itself makes beside a file, before it takes the file's place.
            Self::All => !name.as_bytes().starts_with(TEMPORARY.as_bytes()),
            Self::Only(names) => names.contains(name),
        }
    }

    fn add(&mut self, more: &Self) {
        match (&mut *self, more) {
            (Self::Only(names), Self::Only(more)) => names.extend(more.iter().cloned()),
            _ => *self = Self::All,
        }
    }
}

/// Folders under watch.
pub(super) struct Drift {
    queue: AsyncFd<OwnedFd>,
    folders: HashMap<PathBuf, Names>,
    watches: HashMap<i32, Names>,
}

impl Drift {
    /// Watches nothing yet. To be called within a runtime.
    pub(super) fn new() -> io::Result<Self> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for descriptors that may be closed or replaced; this one is owned"
        )]
        let queue = AsyncFd::with_interest(queue, Interest::READABLE)?;
        Ok(Self {
            queue,
            folders: HashMap::new(),
            watches: HashMap::new(),
        })
    }

    /// Watches these folders and nothing else any more. Why some cannot be watched, if so.
    pub(super) fn watch(&mut self, folders: HashMap<PathBuf, Names>) -> Option<String> {
        let most = folders.len() > FOLDERS;
        if self.folders == folders {
            // A folder that was replaced by another has lost its watch; see `drain`.
            return most.then(|| too_many(folders.len()));
        }
        let mut problem = most.then(|| too_many(folders.len()));
        let mut watches: HashMap<i32, Names> = HashMap::new();
        for (folder, names) in folders.iter().take(FOLDERS) {
            match self.add(folder) {
                Ok(watch) => match watches.get_mut(&watch) {
                    // Two paths may lead to one folder, which is one watch.
                    Some(known) => known.add(names),
                    None => drop(watches.insert(watch, names.clone())),
                },
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(Errno::NOSPC) => {
                    problem = Some(
                        "the system has no more inotify watches; raise fs.inotify.max_user_watches"
                            .to_owned(),
                    );
                }
                Err(error) => {
                    problem = Some(format!("{} cannot be watched: {error}", folder.display()));
                }
            }
        }
        for watch in self.watches.keys().filter(|it| !watches.contains_key(it)) {
            // Gone already if its folder is.
            let _ = inotify::remove_watch(self.queue.get_ref(), *watch);
        }
        self.watches = watches;
        self.folders = folders;
        problem
    }

    fn add(&self, folder: &Path) -> Result<i32, Errno> {
        let flags = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(self.queue.get_ref(), folder, flags)
    }

    /// Resolves when something has happened that matters.
    pub(super) async fn happened(&mut self) {
        loop {
            match self.queue.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                Err(error) => {
                    tracing::warn!("inotify: {error}");
                    return std::future::pending().await;
                }
            }
            if self.drain() {
                return;
            }
        }
    }

    /// Takes what has happened out of the queue. Whether any of it matters.
    pub(super) fn drain(&mut self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(self.queue.get_ref(), &mut buffer);
        let mut matters = false;
        let mut lost = false;
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(_) => break,
            };
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                matters = true;
                continue;
            }
            let Some(names) = self.watches.get(&event.wd()) else {
                continue;
            };
            if flags.intersects(
                ReadFlags::DELETE_SELF
                    | ReadFlags::MOVE_SELF
                    | ReadFlags::IGNORED
                    | ReadFlags::UNMOUNT,
            ) {
                lost = true;
                matters = true;
                continue;
            }
            match event.file_name() {
                Some(name) => matters |= names.hold(OsStr::from_bytes(name.to_bytes())),
                // The folder itself: its mode or owner.
                None => matters = true,
            }
        }
        if lost {
            // Everything is watched anew after the next look.
            self.folders.clear();
        }
        matters
    }
}

fn too_many(count: usize) -> String {
    format!("{count} folders are too many to be watched; {FOLDERS} of them are")
}
