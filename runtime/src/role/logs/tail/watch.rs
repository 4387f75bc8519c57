//! Folder events from the kernel. What they mean is decided elsewhere: an event is a hint to look.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// What a folder is watched for. One mask for all, because a second watch on the same folder (by
/// another path) replaces the first one's mask.
const MASK: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Bytes of events taken at once.
const BUFFER: usize = 32 << 10;

/// An inotify instance.
pub(super) struct Watch {
    fd: OwnedFd,
    buffer: Box<[MaybeUninit<u8>]>,
}

/// One event, with its name in [`Events`].
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) wd: i32,
    pub(super) flags: ReadFlags,
    pub(super) cookie: u32,
    name: Range<usize>,
}

/// Events taken from the kernel, in order; memory is reused.
#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) list: Vec<Event>,
    names: Vec<u8>,
}

impl Events {
    /// The name in the folder; empty if the event is about the folder itself.
    pub(super) fn name(&self, event: &Event) -> &OsStr {
        OsStr::from_bytes(&self.names[event.name.clone()])
    }
}

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            fd: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            buffer: vec![MaybeUninit::uninit(); BUFFER].into_boxed_slice(),
        })
    }

    /// Watches a folder; watching it again gives the same number.
    pub(super) fn add(&self, path: &Path) -> io::Result<i32> {
        Ok(inotify::add_watch(&self.fd, path, MASK)?)
    }

    pub(super) fn remove(&self, wd: i32) {
        // Fails if the kernel removed it already, with the folder.
        let _ = inotify::remove_watch(&self.fd, wd);
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Takes what one read gives into `events`, which is cleared before. Whether there was any.
    pub(super) fn read(&mut self, events: &mut Events) -> io::Result<bool> {
        events.list.clear();
        events.names.clear();
        let mut reader = inotify::Reader::new(&self.fd, &mut self.buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let start = events.names.len();
            events
                .names
                .extend_from_slice(event.file_name().map_or(b"", |name| name.to_bytes()));
            events.list.push(Event {
                wd: event.wd(),
                flags: event.events(),
                cookie: event.cookie(),
                name: start..events.names.len(),
            });
            if reader.is_buffer_empty() {
                return Ok(true);
            }
        }
    }
}
