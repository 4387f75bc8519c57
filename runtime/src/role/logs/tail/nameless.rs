//! Open files that no path may lead to any more: how they get from one tail to the next, and what is
//! lost with one that is closed.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::{fs, io};

use super::super::batch::FileId;
use super::super::ledger::Amount;
use super::Known;
use super::count::{self, Counter};
use super::lines::Joins;
use super::multiline::{Gathering, Rules};
use crate::manifest::FileFormat;

/// How much is read at once while lines are counted; a line without a line feed in that much is one
/// line, however it goes on.
pub(super) const PIECE: usize = 256 << 10;

/// A file that has no name any more, or may soon have none, kept open: then only through this can the
/// rest of it be read.
#[derive(Debug)]
pub struct Nameless {
    pub(super) handle: fs::File,
    /// Where reading began: for a file of which nothing was settled.
    pub(super) known: Known,
    pub(super) format: FileFormat,
    pub(super) multiline: Option<Arc<Rules>>,
}

impl Nameless {
    /// Which file it is.
    pub fn file(&self) -> FileId {
        self.known.file
    }

    /// The same file, opened once more.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(in crate::role::logs) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            handle: self.handle.try_clone()?,
            known: self.known.clone(),
            format: self.format,
            multiline: self.multiline.clone(),
        })
    }

    /// Its generation, as in [`Known`].
    pub fn generation(&self) -> u64 {
        self.known.generation
    }

    /// Whether no name in any folder leads to it, so that it takes disk space only because it is open.
    pub fn is_deleted(&self) -> bool {
        self.handle.metadata().is_ok_and(|meta| meta.nlink() == 0)
    }

    /// What it holds from `from` on, or from where reading began. Reads it to its end, so not for
    /// async code. What cannot be read is not in it.
    pub(in crate::role::logs) fn rest(&self, from: Option<u64>) -> Amount {
        let from = from.unwrap_or(self.known.offset);
        let counter = Counter::new(
            self.format,
            PIECE,
            Joins::default(),
            self.multiline
                .as_ref()
                .map(|rules| Box::new(Gathering::new(rules.clone()))),
        );
        let mut piece = vec![0; PIECE];
        let (tally, end) = count::rest(&self.handle, counter, from, &mut piece, || true);
        Amount {
            lines: tally.lines,
            joined: tally.joined,
            bytes: end.saturating_sub(from),
        }
    }
}

/// Reads at an offset, through interruptions.
pub(super) fn read_at(file: &fs::File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
