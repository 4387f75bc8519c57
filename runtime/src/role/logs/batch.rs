//! A packed batch of lines: what the tail hands on and the plugin is called with.
//!
//! One byte list and one table of fixed-size records, as in `sdk/wit/logs.wit`, so that a batch
//! crosses into the sandbox with one copy. Nothing here reads files or knows of destinations.

use std::path::Path;
use std::sync::Arc;

pub use crate::state::{FileId, Fingerprint, Footprint};

impl FileId {
    /// The lane, below `lanes`, to which this file belongs for as long as it lives.
    pub fn lane(self, lanes: usize) -> usize {
        // The finalizer of SplitMix64: inodes are handed out in sequence and must spread.
        let mut mixed = self.inode ^ self.device.rotate_left(32);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % lanes.max(1) as u64) as usize
    }
}

/// Where the lines of a batch come from.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// Absolute path on the node, as found by the tail.
    pub path: Arc<Path>,
    /// OpenTelemetry attributes known from the path (`k8s.pod.name`, ...); empty for a plain file.
    pub attributes: Vec<(String, String)>,
}

/// A stretch of one file that a batch covers, and what a checkpoint needs to find it again.
#[derive(Debug, Clone)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// Tells apart the contents that this inode had: the file's birth in nanoseconds since 1970,
    /// and one more for each truncation. An inode is given to another file once its file is gone.
    pub generation: u64,
    /// Of the file's start, as known when the batch was made.
    pub fingerprint: Fingerprint,
    /// Its source, with the path under which it was found.
    pub source: Arc<Source>,
    /// First byte covered.
    pub start: u64,
    /// One past the last byte covered: reading goes on here once the batch is settled.
    /// Equal to `start` (with no line) to record a position alone.
    pub end: u64,
    /// It is the first of a file that does not hold what was delivered of it, and is read from its start
    /// once more.
    pub again: bool,
    /// What stands before its end, or before the end of what it was a part of.
    pub footprint: Option<Footprint>,
}

/// Written to stderr.
pub const LINE_STDERR: u32 = 1;
/// Cut by the host because it was longer than the limit.
pub const LINE_CUT: u32 = 1 << 1;
/// Unfinished: the file ended or was rotated before the line feed.
pub const LINE_UNFINISHED: u32 = 1 << 2;

/// One line's record: `time` in nanoseconds since 1970, `offset` and `length` in [`Batch::bytes`],
/// `source` an index into [`Batch::spans`] (one source a span), `flags` of `LINE_*`.
///
/// It is the contract's own type, so that a batch goes into the sandbox as it lies here.
pub use crate::sandbox::bindings::logs::exports::bulkhead::plugin::logs::Line;

/// What was joined onto a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Joined {
    /// How many lines. None if it only came in several parts.
    pub lines: u32,
    /// The offset of the last of them, or of the last part, in the file.
    pub last: u64,
}

/// Lines of the files of one lane, in order within each file.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    /// Files hash to lanes; a batch holds files of one lane only.
    pub lane: usize,
    /// One for each file in the batch; a file appears at most once.
    pub spans: Vec<Span>,
    /// The lines' bytes, one after the other.
    pub bytes: Vec<u8>,
    /// The lines.
    pub lines: Vec<Line>,
    /// For each line, the offset of its first byte in its file (for the stable record id).
    pub positions: Vec<u64>,
    /// For each line, what was joined onto it; shorter if nothing was from some line on.
    pub joined: Vec<Joined>,
}

impl Batch {
    /// Without lines yet; they come from no file, but have these attributes.
    pub fn of_no_file(attributes: Vec<(String, String)>) -> Self {
        let span = Span {
            file: FileId {
                device: 0,
                inode: 0,
            },
            generation: 0,
            fingerprint: Fingerprint::default(),
            source: Arc::new(Source {
                path: Path::new("").into(),
                attributes,
            }),
            start: 0,
            end: 0,
            again: false,
            footprint: None,
        };
        Self {
            spans: vec![span],
            ..Self::default()
        }
    }

    /// The bytes of line `index`.
    ///
    /// # Panics
    /// If `index` is out of range: indices come from this batch or were checked against it.
    pub fn body(&self, index: usize) -> &[u8] {
        let line = &self.lines[index];
        &self.bytes[line.offset as usize..][..line.length as usize]
    }

    /// What was joined onto line `index`, if anything was.
    pub fn joined(&self, index: usize) -> Option<Joined> {
        let joined = self.joined.get(index).copied();
        joined.filter(|joined| *joined != Joined::default())
    }

    /// The offset in its file of the last line, or part of a line, that line `index` is made of.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn last_position(&self, index: usize) -> u64 {
        self.joined(index)
            .map_or(self.positions[index], |joined| joined.last)
    }

    /// The source of line `index`.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn source(&self, index: usize) -> &Arc<Source> {
        &self.spans[self.lines[index].source as usize].source
    }
}
