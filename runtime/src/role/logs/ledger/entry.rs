//! A parcel, as the books know it: what it has of each file.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::batch::{Batch, FileId, Footprint, Span};
use super::super::output::{Content, DestinationIndex, Output};
use super::file::Mark;
use super::tally::Amount;

/// What the books wrote down of a parcel when it was entered.
#[derive(Debug, Default)]
pub struct Entry {
    /// How often reading had begun by then.
    pub(super) epoch: u64,
    /// The destinations it is handed to that have not settled it, as bits. None if it is for one that
    /// catches up.
    pub(super) waiting: Option<AtomicU64>,
    /// One for each span.
    pub(super) parts: Vec<Part>,
}

impl Entry {
    /// Takes a destination off those that are waited for. Returns whether it was the last.
    pub(super) fn settled_by(&self, destination: DestinationIndex) -> bool {
        let Some(waiting) = &self.waiting else {
            return false;
        };
        // The books are locked by whoever calls this.
        let bit = 1 << destination;
        waiting.fetch_and(!bit, Ordering::Relaxed) == bit
    }
}

/// What a parcel has of one file.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: FileId,
    /// Which of the files that had this inode.
    pub(super) instance: u64,
    pub(super) generation: u64,
    pub(super) start: u64,
    pub(super) end: u64,
    /// One past the position of its furthest line: beyond `end` while a record of another stream is
    /// open that began there.
    pub(super) reach: u64,
    /// What stands before an offset at its end or beyond.
    pub(super) footprint: Option<Footprint>,
    pub(super) lines: Lines,
}

/// Lines, and what was decided about them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lines {
    pub(super) amount: Amount,
    /// Bytes of the lines themselves.
    pub(super) text: u64,
    /// How many go somewhere.
    pub(super) routed: u64,
}

impl Part {
    pub(super) fn start(&self) -> Mark {
        Mark {
            generation: self.generation,
            offset: self.start,
        }
    }

    pub(super) fn reach(&self) -> Mark {
        Mark {
            generation: self.generation,
            offset: self.reach,
        }
    }

    pub(super) fn end(&self) -> Mark {
        Mark {
            generation: self.generation,
            offset: self.end,
        }
    }

    fn new(span: &Span) -> Self {
        Self {
            file: span.file,
            // Until the file is known.
            instance: u64::MAX,
            generation: span.generation,
            start: span.start,
            end: span.end,
            reach: span.end,
            footprint: span.footprint,
            lines: Lines {
                amount: Amount {
                    bytes: span.end - span.start,
                    ..Amount::default()
                },
                ..Lines::default()
            },
        }
    }
}

/// The parts of a batch, and when its oldest line was written. Nothing is decided.
pub(super) fn parts(batch: &Batch) -> (Vec<Part>, Option<i64>) {
    let mut parts: Vec<Part> = batch.spans.iter().map(Part::new).collect();
    let mut oldest: Option<i64> = None;
    for (index, line) in batch.lines.iter().enumerate() {
        let part = &mut parts[line.source as usize];
        part.reach = part.reach.max(batch.last_position(index) + 1);
        let lines = &mut part.lines;
        lines.amount.lines += 1;
        lines.text += u64::from(line.length);
        oldest = Some(oldest.map_or(line.time, |oldest| oldest.min(line.time)));
    }
    for (line, joined) in batch.lines.iter().zip(&batch.joined) {
        parts[line.source as usize].lines.amount.joined += u64::from(joined.lines);
    }
    (parts, oldest)
}

/// Writes down how many lines of each part go to at least one destination.
pub(super) fn route(parts: &mut [Part], batch: &Batch, output: &Output) {
    match &output.content {
        Content::All(to) if to.0 != 0 => {
            for part in parts {
                part.lines.routed = part.lines.amount.lines;
            }
        }
        Content::Keep(lines, to) if to.0 != 0 && parts.len() == 1 => {
            parts[0].lines.routed = lines.len() as u64;
        }
        _ => each_routed(batch, output, |line| {
            parts[batch.lines[line].source as usize].lines.routed += 1;
        }),
    }
}

/// Whether every record and payload lies on one side of `clip` in its file (one offset a span).
pub(super) fn cuts_clean(batch: &Batch, output: &Output, clip: &[u64]) -> bool {
    let mut lines = 0..batch.lines.len();
    !matches!(output.content, Content::Payloads(_))
        && lines.all(|line| {
            let clip = clip[batch.lines[line].source as usize];
            batch.positions[line] >= clip || batch.last_position(line) < clip
        })
}

/// The lines of span `index` that begin, as far as their last part goes, in `from..until`.
pub(super) fn lines_between(
    batch: &Batch,
    output: &Output,
    index: usize,
    from: u64,
    until: u64,
) -> Lines {
    let within = |line: usize| {
        batch.lines[line].source as usize == index
            && (from..until).contains(&batch.last_position(line))
    };
    let mut lines = Lines::default();
    for line in (0..batch.lines.len()).filter(|&line| within(line)) {
        lines.amount.lines += 1;
        lines.amount.joined += batch
            .joined(line)
            .map_or(0, |joined| u64::from(joined.lines));
        lines.text += u64::from(batch.lines[line].length);
    }
    lines.amount.bytes = until - from;
    each_routed(batch, output, |line| {
        lines.routed += u64::from(within(line));
    });
    lines
}

/// Calls `found` once for each line that goes to at least one destination.
fn each_routed(batch: &Batch, output: &Output, mut found: impl FnMut(usize)) {
    match &output.content {
        Content::All(to) if to.0 != 0 => (0..batch.lines.len()).for_each(found),
        Content::Keep(lines, to) if to.0 != 0 => {
            lines.iter().for_each(|&line| found(line as usize));
        }
        Content::All(_) | Content::Keep(..) => {}
        Content::Lines(lines) => {
            let mut last = None;
            for line in lines.iter().filter(|line| line.to.0 != 0) {
                if last.replace(line.line) != Some(line.line) {
                    found(line.line as usize);
                }
            }
        }
        Content::Payloads(payloads) => {
            let going = payloads.iter().filter(|payload| payload.to.0 != 0);
            let mut lines: Vec<u32> = going
                .flat_map(|payload| payload.lines.iter().copied())
                .collect();
            lines.sort_unstable();
            lines.dedup();
            lines.iter().for_each(|&line| found(line as usize));
        }
    }
}
