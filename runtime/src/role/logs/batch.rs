//! A packed batch of lines: what the tail hands on and the plugin is called with.
//!
//! One byte list and one table of fixed-size records, as in `sdk/wit/logs.wit`, so that a batch
//! crosses into the sandbox with one copy. Nothing here reads files or knows of destinations.

use std::path::Path;
use std::sync::Arc;

/// What tells one file from another: a path does not, because logs are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Device number (`st_dev`).
    pub device: u64,
    /// Inode number (`st_ino`).
    pub inode: u64,
}

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

/// Hash of a file's first bytes: tells a reused inode or a rewritten file from the one we knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fingerprint {
    /// How many bytes were hashed; grows with the file up to the tail's limit.
    pub length: u32,
    /// XXH3 of those bytes.
    pub hash: u64,
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
}

/// Written to stderr.
pub const LINE_STDERR: u32 = 1;
/// Cut by the host because it was longer than the limit.
pub const LINE_CUT: u32 = 1 << 1;
/// Unfinished: the file ended or was rotated before the line feed.
pub const LINE_UNFINISHED: u32 = 1 << 2;

/// One line's record; the layout is the contract's `line`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Nanoseconds since 1970 (UTC).
    pub time: i64,
    /// Start in [`Batch::bytes`].
    pub offset: u32,
    /// Length in bytes without the line feed.
    pub length: u32,
    /// Index into [`Batch::spans`] (one source a span).
    pub source: u32,
    /// `LINE_*` bits.
    pub flags: u32,
}

/// Lines of the files of one lane, in order within each file.
#[derive(Debug, Default)]
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
}

impl Batch {
    /// The bytes of line `index`.
    ///
    /// # Panics
    /// If `index` is out of range: indices come from this batch or were checked against it.
    pub fn body(&self, index: usize) -> &[u8] {
        let line = &self.lines[index];
        &self.bytes[line.offset as usize..][..line.length as usize]
    }

    /// The source of line `index`.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn source(&self, index: usize) -> &Arc<Source> {
        &self.spans[self.lines[index].source as usize].source
    }
}
