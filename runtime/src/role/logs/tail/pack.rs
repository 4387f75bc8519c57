//! Lines into a batch: cuts long ones and lays the bytes one after the other.

use super::super::batch::{Batch, Joined, LINE_CUT, LINE_UNFINISHED, Line};
use super::lines::{Record, Sink};

/// Bounds on a line and on a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_line: usize,
    pub(super) batch_bytes: usize,
    pub(super) batch_lines: usize,
}

impl Limits {
    pub(super) fn is_full(&self, batch: &Batch) -> bool {
        batch.bytes.len() >= self.batch_bytes || batch.lines.len() >= self.batch_lines
    }
}

/// What was counted while packing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) cut: u64,
    pub(super) unfinished: u64,
}

/// Puts lines of one file into a batch.
pub(super) struct Packer<'a> {
    pub(super) batch: &'a mut Batch,
    pub(super) limits: Limits,
    /// Index of the file's span in the batch.
    pub(super) span: u32,
    pub(super) counts: &'a mut Counts,
}

// Inlined by force: most lines are whole, and what is constant for those is then left out. Without it
// each line costs 7 ns more of about 45.
impl Sink for Packer<'_> {
    #[inline(always)]
    fn is_full(&self) -> bool {
        self.limits.is_full(self.batch)
    }

    #[inline(always)]
    fn take(&mut self, record: Record<'_>) {
        let (mut body, mut flags) = (record.body, record.flags);
        if body.len() > self.limits.max_line {
            body = &body[..self.limits.max_line];
            flags |= LINE_CUT;
        }
        if flags & (LINE_CUT | LINE_UNFINISHED) != 0 {
            self.counts.cut += u64::from(flags & LINE_CUT != 0);
            self.counts.unfinished += u64::from(flags & LINE_UNFINISHED != 0);
        }
        let batch = &mut *self.batch;
        // Within u32: a batch ends at a few MiB, see `Config::limits`.
        let offset = batch.bytes.len() as u32;
        batch.bytes.extend_from_slice(body);
        if record.last != record.at {
            batch.joined.resize(batch.lines.len(), Joined::default());
            batch.joined.push(Joined {
                lines: record.joined,
                last: record.last,
            });
        }
        batch.lines.push(Line {
            time: record.time,
            offset,
            length: body.len() as u32,
            source: self.span,
            flags,
        });
        batch.positions.push(record.at);
    }
}
