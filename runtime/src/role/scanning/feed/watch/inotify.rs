//! Events of single folders, where the file system has none of its own: inotify(7). Each folder takes a
//! watch, of which there is a bounded number.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{FileType, RawDir};

use super::pending::{Pending, Place, Spot, What};
use crate::role::scanning::feed::facts::{Facts, Kind};
use crate::role::scanning::feed::root::{Root, descriptor_path, enter};

/// The most folders that are watched: the kernel needs about a kilobyte for each.
pub(super) const MOST: usize = 8192;
/// Deeper folders are not watched.
const DEEPEST: usize = 64;

/// A queue of events, and the folders that it is about.
#[derive(Debug)]
pub(super) struct Inotify {
    queue: OwnedFd,
    /// The path of each watch's folder.
    folders: HashMap<i32, Arc<[u8]>>,
    /// Trees of which some folders are not watched.
    incomplete: bool,
}

impl Inotify {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            queue: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            folders: HashMap::new(),
            incomplete: false,
        })
    }

    pub(super) fn queue(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }

    /// How many folders.
    pub(super) fn len(&self) -> usize {
        self.folders.len()
    }

    /// Whether some folders are not watched.
    pub(super) fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// Watches a folder of the node with all below it on the same mount.
    pub(super) fn add(&mut self, root: &Root, path: &[u8]) {
        if root.remote_on(path).is_some() {
            self.incomplete = true;
            return;
        }
        let Ok(top) = root.folder(path) else {
            return;
        };
        let Ok(facts) = Facts::of_open(&top) else {
            return;
        };
        let mut open = vec![(top, path.to_vec(), 0)];
        while let Some((folder, path, depth)) = open.pop() {
            if root.is_private_path(&path) {
                continue;
            }
            if self.len() >= MOST || depth > DEEPEST || !self.watch(&folder, &path) {
                self.incomplete = true;
                continue;
            }
            for name in folders_in(&folder) {
                // Not opened before it is known where it is: whoever has it may not answer.
                let there = Facts::of(&folder, &name);
                if !there.is_ok_and(|it| it.mount == facts.mount) {
                    continue;
                }
                if let Ok(below) = enter(&folder, &name) {
                    let mut path = path.clone();
                    super::push(&mut path, name.as_bytes());
                    open.push((below, path, depth + 1));
                }
            }
        }
    }

    fn watch(&mut self, folder: &OwnedFd, path: &[u8]) -> bool {
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.queue, descriptor_path(folder).as_str(), flags) {
            Ok(watch) => {
                self.folders.insert(watch, path.into());
                true
            }
            Err(_) => false,
        }
    }

    /// Takes what has happened out of the queue. New folders are watched, and looked at as a whole: files
    /// may have been made in them before.
    pub(super) fn drain(&mut self, root: &Root, pending: &mut Pending) {
        let mut new = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let now = std::time::Instant::now();
        let mut events = Reader::new(&self.queue, &mut buffer);
        while let Ok(event) = events.next() {
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                pending.overflow();
                continue;
            }
            if flags.contains(ReadFlags::IGNORED) {
                self.folders.remove(&event.wd());
                continue;
            }
            let (Some(folder), Some(name)) = (self.folders.get(&event.wd()), event.file_name())
            else {
                continue;
            };
            let any = |flags_wanted: ReadFlags| flags.intersects(flags_wanted);
            let what = What {
                made: any(ReadFlags::CREATE),
                changed: any(ReadFlags::CLOSE_WRITE | ReadFlags::ATTRIB | ReadFlags::MOVED_TO),
                moved_in: any(ReadFlags::MOVED_TO),
                gone: any(ReadFlags::DELETE | ReadFlags::MOVED_FROM),
                is_folder: any(ReadFlags::ISDIR),
            };
            if what.is_folder && (what.made || what.moved_in) {
                let mut path = folder.to_vec();
                super::push(&mut path, name.to_bytes());
                new.push(path);
            }
            let folder = Place::Path(folder.clone());
            let name = name.to_bytes().into();
            pending.event(now, Spot { folder, name }, what);
        }
        for path in new {
            // A folder that was moved keeps its watches, which get their new paths here.
            self.add(root, &path);
            pending.miss(Place::Path(path.into()));
        }
    }
}

fn folders_in(folder: &OwnedFd) -> Vec<CString> {
    let mut list = Vec::with_capacity(8 << 10);
    let mut names = RawDir::new(folder, list.spare_capacity_mut());
    let mut found = Vec::new();
    while let Some(Ok(entry)) = names.next() {
        let name = entry.file_name();
        let is_folder = match entry.file_type() {
            _ if matches!(name.to_bytes(), b"." | b"..") => false,
            FileType::Directory => true,
            FileType::Unknown => {
                Facts::of(folder, name).is_ok_and(|facts| facts.kind == Kind::Directory)
            }
            _ => false,
        };
        if is_folder {
            found.push(name.to_owned());
        }
    }
    found
}
