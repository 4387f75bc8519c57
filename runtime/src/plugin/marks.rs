//! Notes on disk of which plugins are in a call, so that a daemon that was killed by one of them
//! can tell at its next start which it was.
//!
//! One fixed slot a plugin: the identity, and one byte that says whether a guest runs. The byte is
//! written to the page cache, which outlives this process; a power cut is no crash loop.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a slot: the flag, the identity's length (u16 little-endian), the identity.
const SLOT: u64 = 512;

/// The file of notes.
#[derive(Debug, Clone)]
pub struct Marks {
    file: Arc<File>,
    taken: Arc<Mutex<Vec<Arc<str>>>>,
}

impl Marks {
    /// Opens the notes in `path`, empties them, and returns the plugins that were in a call when
    /// the daemon before this one ended.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<String>)> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut found = Vec::new();
        let slots = file.metadata()?.len() / SLOT;
        for slot in 0..slots {
            let mut bytes = [0; SLOT as usize];
            file.read_exact_at(&mut bytes, slot * SLOT)?;
            let length = usize::from(u16::from_le_bytes([bytes[1], bytes[2]]));
            if bytes[0] == 1
                && let Some(identity) = bytes.get(3..3 + length)
                && let Ok(identity) = std::str::from_utf8(identity)
            {
                found.push(identity.to_owned());
            }
        }
        file.set_len(0)?;
        let marks = Self {
            file: Arc::new(file),
            taken: Arc::default(),
        };
        Ok((marks, found))
    }

    /// The slot of a plugin.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn slot(&self, identity: &Arc<str>) -> io::Result<Slot> {
        let index = {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            match taken.iter().position(|other| other == identity) {
                Some(index) => index,
                None => {
                    taken.push(identity.clone());
                    taken.len() - 1
                }
            }
        };
        let mut bytes = vec![0; SLOT as usize];
        // Identities are at most 63 + 1 + 253 bytes.
        let name = &identity.as_bytes()[..identity.len().min(SLOT as usize - 3)];
        bytes[1..3].copy_from_slice(&(name.len() as u16).to_le_bytes());
        bytes[3..3 + name.len()].copy_from_slice(name);
        let offset = index as u64 * SLOT;
        self.file.write_all_at(&bytes, offset)?;
        Ok(Slot {
            file: self.file.clone(),
            offset,
            calls: Arc::default(),
        })
    }
}

/// A plugin's slot.
#[derive(Debug, Clone)]
pub struct Slot {
    file: Arc<File>,
    offset: u64,
    calls: Arc<AtomicUsize>,
}

impl Slot {
    /// Notes that a guest runs, until the guard is dropped.
    pub(super) fn enter(&self) -> InCall<'_> {
        if self.calls.fetch_add(1, Ordering::AcqRel) == 0 {
            self.write(1);
        }
        InCall(self)
    }

    fn write(&self, flag: u8) {
        // One byte to the page cache: no wait. If it fails, only the next start's safe mode knows less.
        let _ = self.file.write_all_at(&[flag], self.offset);
    }
}

/// A guest runs.
pub(super) struct InCall<'a>(&'a Slot);

impl Drop for InCall<'_> {
    fn drop(&mut self) {
        if self.0.calls.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.write(0);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_next_start_knows_who_was_in_a_call() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in-call");
        let (marks, found) = Marks::open(&path).unwrap();
        assert!(found.is_empty());
        let a = marks.slot(&"local/a".into()).unwrap();
        let b = marks.slot(&"local/b".into()).unwrap();
        let again = marks.slot(&"local/a".into()).unwrap();
        assert_eq!(a.offset, again.offset);
        drop(a.enter());
        std::mem::forget(b.enter());
        let (_, found) = Marks::open(&path).unwrap();
        assert_eq!(found, ["local/b"]);
        let (_, found) = Marks::open(&path).unwrap();
        assert!(found.is_empty());
    }
}
