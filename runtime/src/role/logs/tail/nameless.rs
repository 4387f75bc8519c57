//! Open files that no path may lead to any more: how they get from one tail to the next, and what is
//! lost with one that is closed.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::{fs, io};

use super::super::batch::FileId;
use super::super::ledger::Amount;
use super::Known;
use super::lines::{Counter, Joins};
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
}

impl Nameless {
    /// Which file it is.
    pub fn file(&self) -> FileId {
        self.known.file
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
        let counter = Counter::new(self.format, &Joins::default());
        let mut piece = vec![0; PIECE];
        let (lines, end) = count(&self.handle, counter, from, &mut piece, || true);
        Amount {
            lines,
            bytes: end.saturating_sub(from),
        }
    }
}

/// Counts the lines of `file` from `at`, where a line starts, to the end, which is returned, too; or
/// for as long as `go_on`. `piece` is [`PIECE`] long.
pub(super) fn count(
    file: &fs::File,
    mut counter: Counter,
    mut at: u64,
    piece: &mut [u8],
    go_on: impl Fn() -> bool,
) -> (u64, u64) {
    let mut in_long_line = false;
    let mut end = at;
    while let Ok(read) = read_at(file, piece, at)
        && go_on()
    {
        let chunk = &piece[..read];
        end = at + read as u64;
        let mut taken = counter.split(chunk);
        if taken > 0 {
            in_long_line = false;
        }
        if taken == 0 && read == piece.len() {
            // Its start was as good as it gets; skip to its line feed, which counts it.
            in_long_line = true;
            taken = read;
        }
        if read < piece.len() {
            if taken < read || in_long_line {
                counter.line(&chunk[taken..]);
            }
            break;
        }
        at += taken as u64;
    }
    (counter.finish(), end)
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
