//! Events of whole file systems: fanotify(7).
//!
//! A mark on a mount sees what happens through that mount alone, so nothing of what the host does from
//! inside a pod. A mark on the file system sees all.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::pending::{Pending, Place, Spot, What};
use crate::role::scanning::feed::facts::Facts;
use crate::role::scanning::feed::root::Root;
use crate::role::scanning::feed::sys;

/// What is asked for. Writing is told when it ends.
const MASK: u64 = libc::FAN_CLOSE_WRITE
    | libc::FAN_ATTRIB
    | libc::FAN_CREATE
    | libc::FAN_DELETE
    | libc::FAN_MOVED_FROM
    | libc::FAN_MOVED_TO
    | libc::FAN_ONDIR;

/// What is read at once: a few thousand events.
const BUFFER: usize = 128 << 10;
/// Bytes before the records of an event.
const METADATA: usize = 24;

/// A queue of events, and the file systems that it is about.
#[derive(Debug)]
pub(super) struct Fanotify {
    queue: OwnedFd,
    /// By the file system's id, folders of the node on it: its handles are opened through the mount that
    /// one of them is on. No descriptor is kept: it would keep the mount from being taken away.
    file_systems: HashMap<u64, Vec<Vec<u8>>>,
    buffer: Vec<u8>,
    /// This process, whose own writes nobody needs to hear of.
    own: u32,
}

impl Fanotify {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            queue: sys::fanotify_init()?,
            file_systems: HashMap::new(),
            buffer: Vec::new(),
            own: std::process::id(),
        })
    }

    pub(super) fn queue(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }

    /// Adds the file system of a folder of the node.
    pub(super) fn add(&mut self, folder: impl AsFd, path: &[u8]) -> io::Result<()> {
        let id = file_system_id(&folder)?;
        let known = self.file_systems.get(&id);
        if known.is_some_and(|folders| folders.iter().any(|known| known == path)) {
            return Ok(());
        }
        sys::fanotify_mark(self.queue.as_fd(), &folder, MASK)?;
        self.file_systems
            .entry(id)
            .or_default()
            .push(path.to_owned());
        Ok(())
    }

    /// How many file systems.
    pub(super) fn len(&self) -> usize {
        self.file_systems.len()
    }

    /// Takes what has happened out of the queue, as far as it has room at once. Whether there may be more.
    pub(super) fn drain(&mut self, pending: &mut Pending) -> bool {
        self.buffer.resize(BUFFER, 0);
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&self.queue, &mut *buffer));
        let more = match read {
            Ok(read) => {
                let now = std::time::Instant::now();
                let events = buffer.get(..read).unwrap_or_default();
                self.events(events, |event| match event {
                    Event::Overflow => pending.overflow(),
                    Event::At(spot, what) => pending.event(now, spot, what),
                });
                read > 0
            }
            Err(Errno::AGAIN) => false,
            Err(error) => {
                tracing::warn!(%error, "cannot read what happens to files");
                pending.overflow();
                false
            }
        };
        self.buffer = buffer;
        more
    }

    /// Of file systems that are watched, and not of this process.
    fn events(&self, mut bytes: &[u8], mut tell: impl FnMut(Event)) {
        while let Some(length) = number::<4>(bytes, 0).map(u32::from_ne_bytes) {
            let Some((event, rest)) = bytes.split_at_checked(length as usize) else {
                return;
            };
            bytes = rest;
            if event.len() < METADATA {
                return;
            }
            let mask = number::<8>(event, 8).map_or(0, u64::from_ne_bytes);
            let process = number::<4>(event, 20).map_or(0, u32::from_ne_bytes);
            if mask & libc::FAN_Q_OVERFLOW != 0 {
                tell(Event::Overflow);
            } else if process != self.own
                && let Some(spot) = spot(event.get(METADATA..).unwrap_or_default())
            {
                tell(Event::At(spot, what(mask)));
            }
        }
    }

    /// The path on the node of a folder of an event; none if it is gone, or not to be reached from the
    /// node's root.
    pub(super) fn path(
        &self,
        root: &Root,
        file_system: u64,
        kind: i32,
        handle: &[u8],
    ) -> Option<Vec<u8>> {
        // Something of another machine may be mounted over the folder that is watched, or the one that it is
        // about: whoever looks there may wait for ever.
        let is_here = |path: &[u8]| root.remote_on(path).is_none();
        let folders = self.file_systems.get(&file_system)?.iter();
        folders.filter(|on| is_here(on)).find_map(|on| {
            let mount = root.folder(on).ok()?;
            let folder = sys::open_by_handle(mount.as_fd(), kind, handle).ok()?;
            let path = root.path_of(&folder).filter(|path| is_here(path))?;
            // In a mount of a part of the file system, a folder outside has a path that leads elsewhere.
            let there = root.place(&path).ok()?;
            let (there, folder) = (Facts::of_open(there).ok()?, Facts::of_open(folder).ok()?);
            (there.key == folder.key).then_some(path)
        })
    }

    /// Only these folders' file systems matter from now on. Events of others are not resolved; their mark
    /// stays until the daemon ends.
    pub(super) fn retain(&mut self, paths: &[&Vec<u8>]) {
        for folders in self.file_systems.values_mut() {
            folders.retain(|folder| paths.contains(&folder));
        }
        self.file_systems.retain(|_, folders| !folders.is_empty());
    }
}

enum Event {
    Overflow,
    At(Spot, What),
}

/// As the kernel tells it in events, see statfs(2).
fn file_system_id(folder: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstatvfs(folder)?.f_fsid)
}

fn join(first: u32, second: u32) -> u64 {
    u64::from(first) | u64::from(second) << 32
}

fn what(mask: u64) -> What {
    let any = |bits: u64| mask & bits != 0;
    What {
        made: any(libc::FAN_CREATE),
        changed: any(libc::FAN_CLOSE_WRITE | libc::FAN_ATTRIB | libc::FAN_MOVED_TO),
        moved_in: any(libc::FAN_MOVED_TO),
        gone: any(libc::FAN_DELETE | libc::FAN_MOVED_FROM),
        is_folder: any(libc::FAN_ONDIR),
    }
}

/// From the record of a folder's handle and a name: `struct fanotify_event_info_fid`, then a
/// `struct file_handle`, then the name with a zero byte at its end.
fn spot(mut records: &[u8]) -> Option<Spot> {
    loop {
        let kind = *records.first()?;
        let length = usize::from(number::<2>(records, 2).map(u16::from_ne_bytes)?);
        let (record, rest) = records.split_at_checked(length)?;
        if record.is_empty() {
            return None;
        }
        records = rest;
        if kind != libc::FAN_EVENT_INFO_TYPE_DFID_NAME {
            continue;
        }
        let first = number::<4>(record, 4).map(u32::from_ne_bytes)?;
        let second = number::<4>(record, 8).map(u32::from_ne_bytes)?;
        let handle_length = number::<4>(record, 12).map(u32::from_ne_bytes)? as usize;
        let kind = number::<4>(record, 16).map(i32::from_ne_bytes)?;
        let (handle, name) = record.get(20..)?.split_at_checked(handle_length)?;
        let end = memchr::memchr(0, name)?;
        return Some(Spot {
            folder: Place::Handle {
                file_system: join(first, second),
                kind,
                handle: handle.into(),
            },
            name: name.get(..end)?.into(),
        });
    }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The kernel is trusted, but not with the daemon's life.
        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = spot(&bytes);
        }
    }
}
