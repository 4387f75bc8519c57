//! Folders of a walk: each knows the one that it is in, so that neither its depth nor the length of its
//! path matters to the kernel, and its descriptor may be closed and opened again.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, Weak};

use rustix::io::Errno;

use super::super::facts::{Facts, FileKey};
use super::super::lock;
use super::super::root::{Root, enter};
use super::super::scope::Trail;

/// So many of the folders that were opened last stay open.
const OPEN: usize = 128;
/// Longer paths are not followed: they are nobody's but an attacker's.
pub(super) const LONGEST_PATH: usize = 16 << 10;

/// Where a folder is.
#[derive(Debug)]
pub(super) enum At {
    /// At a path of the node: the walk began here.
    Path(Vec<u8>),
    /// In another folder.
    In(Arc<Folder>, CString),
    /// Nowhere any more.
    Gone,
}

/// A folder that is being walked.
#[derive(Debug)]
pub(super) struct Folder {
    at: At,
    /// Of its path.
    pub(super) length: usize,
    pub(super) facts: Facts,
    /// Which turns it is listed for.
    pub(super) mask: u64,
    /// By turn; none at all if nobody leaves out anything below.
    trails: Box<[Trail]>,
    descriptor: Mutex<Option<Arc<OwnedFd>>>,
}

impl Folder {
    pub(super) fn new(
        at: At,
        facts: Facts,
        mask: u64,
        trails: Box<[Trail]>,
        opened: OwnedFd,
    ) -> Self {
        let length = match &at {
            At::Path(path) => path.len(),
            At::In(parent, name) => parent.length_below(name),
            At::Gone => 0,
        };
        Self {
            at,
            length,
            facts,
            mask,
            trails,
            descriptor: Mutex::new(Some(Arc::new(opened))),
        }
    }

    pub(super) fn key(&self) -> FileKey {
        self.facts.key
    }

    pub(super) fn trail(&self, turn: usize) -> Option<&Trail> {
        self.trails.get(turn)
    }

    /// How long the path of `name` in it is.
    pub(super) fn length_below(&self, name: &CStr) -> usize {
        // The root's own path ends with the separator.
        let separator = usize::from(self.length > 1);
        self.length + separator + name.count_bytes()
    }

    /// Its path.
    pub(super) fn path(&self) -> Vec<u8> {
        let mut names = Vec::new();
        let mut folder = self;
        let mut path = loop {
            match &folder.at {
                At::In(parent, name) => {
                    names.push(name.as_bytes());
                    folder = parent;
                }
                At::Path(path) => break path.clone(),
                At::Gone => break Vec::new(),
            }
        };
        for name in names.into_iter().rev() {
            push(&mut path, name);
        }
        path
    }

    /// Its descriptor, opened again if need be.
    pub(super) fn descriptor(&self, root: &Root) -> Result<Arc<OwnedFd>, Errno> {
        let mut closed = Vec::new();
        let mut folder = self;
        let mut opened = loop {
            if let Some(opened) = lock(&folder.descriptor).clone() {
                break opened;
            }
            match &folder.at {
                At::In(parent, name) => {
                    closed.push((folder, name));
                    folder = parent;
                }
                At::Path(path) => break folder.verified(root.folder(path)?)?,
                At::Gone => return Err(Errno::NOENT),
            }
        };
        while let Some((folder, name)) = closed.pop() {
            opened = folder.verified(enter(&opened, name)?)?;
        }
        *lock(&self.descriptor) = Some(opened.clone());
        Ok(opened)
    }

    /// Somebody may have put another one in its place.
    fn verified(&self, opened: OwnedFd) -> Result<Arc<OwnedFd>, Errno> {
        match Facts::of_open(&opened)?.key == self.key() {
            true => Ok(Arc::new(opened)),
            false => Err(Errno::STALE),
        }
    }
}

impl Drop for Folder {
    /// One after the other: a thread's stack is not as deep as folders may be.
    fn drop(&mut self) {
        let mut at = std::mem::replace(&mut self.at, At::Gone);
        while let At::In(parent, _) = at {
            match Arc::into_inner(parent) {
                Some(mut parent) => at = std::mem::replace(&mut parent.at, At::Gone),
                None => return,
            }
        }
    }
}

/// Appends a name to a path.
pub(super) fn push(path: &mut Vec<u8>, name: &[u8]) {
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// The folders that were opened last.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<VecDeque<Weak<Folder>>>);

impl Recent {
    /// This one is open; the one that was opened longest ago is closed.
    pub(super) fn opened(&self, folder: &Arc<Folder>) {
        let mut recent = lock(&self.0);
        recent.push_back(Arc::downgrade(folder));
        let oldest = match recent.len() > OPEN {
            true => recent.pop_front(),
            false => None,
        };
        drop(recent);
        if let Some(oldest) = oldest.and_then(|oldest| oldest.upgrade()) {
            // Whoever uses it right now keeps it open.
            drop(lock(&oldest.descriptor).take());
        }
    }
}
