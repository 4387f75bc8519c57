//! A parcel under way, as the books know it.

use super::super::batch::{Batch, FileId};
use super::super::output::{Content, DestinationSet, Output};
use super::tally::{Amount, Settled};

#[derive(Debug)]
pub(super) struct Pending {
    /// Destinations that have not settled yet, as bits.
    pub(super) waiting: u64,
    /// Whether the plugin was asked: otherwise nobody knows what becomes of its lines.
    pub(super) decided: bool,
    pub(super) parts: Vec<Part>,
    /// Lines that go somewhere.
    routed: u64,
    pub(super) lines: u64,
    /// Without line feeds.
    pub(super) bytes: u64,
    /// Time of the oldest line.
    pub(super) oldest: Option<i64>,
    /// Indices of lines that were dead-lettered.
    pub(super) dead: Vec<u32>,
}

/// What a parcel has of one file.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: FileId,
    pub(super) generation: u64,
    pub(super) end: u64,
    pub(super) amount: Amount,
}

impl Part {
    /// Where it begins.
    pub(super) fn start(&self) -> u64 {
        self.end - self.amount.bytes
    }
}

impl Pending {
    /// Of lines about which nothing was decided.
    pub(super) fn undecided(batch: &Batch, destinations: usize) -> Self {
        let nothing = Output {
            bytes: Vec::new(),
            content: Content::Keep(Vec::new(), DestinationSet::default()),
        };
        Self {
            decided: false,
            ..Self::new(batch, &nothing, destinations, Vec::new())
        }
    }

    /// `dead` are lines that were dead-lettered before.
    pub(super) fn new(batch: &Batch, output: &Output, destinations: usize, dead: Vec<u32>) -> Self {
        let part = |span: &super::super::batch::Span| Part {
            file: span.file,
            generation: span.generation,
            end: span.end,
            amount: Amount {
                bytes: span.end - span.start,
                ..Amount::default()
            },
        };
        let mut parts: Vec<Part> = batch.spans.iter().map(part).collect();
        let mut oldest: Option<i64> = None;
        for (line, joined) in batch.lines.iter().zip(&batch.joined) {
            parts[line.source as usize].amount.joined += u64::from(joined.lines);
        }
        for line in &batch.lines {
            parts[line.source as usize].amount.lines += 1;
            oldest = Some(oldest.map_or(line.time, |oldest| oldest.min(line.time)));
        }
        Self {
            waiting: match destinations {
                64.. => u64::MAX,
                count => (1 << count) - 1,
            },
            decided: true,
            parts,
            routed: routed(batch, output),
            lines: batch.lines.len() as u64,
            bytes: batch.bytes.len() as u64,
            oldest,
            dead,
        }
    }

    /// Lines that were joined onto its own.
    pub(super) fn joined(&self) -> u64 {
        self.parts.iter().map(|part| part.amount.joined).sum()
    }

    /// What became of its lines, once no destination is waited for.
    pub(super) fn outcome(mut self) -> Settled {
        self.dead.sort_unstable();
        self.dead.dedup();
        let dead_lettered = self.dead.len() as u64;
        let acknowledged = self.routed.saturating_sub(dead_lettered);
        Settled {
            acknowledged,
            filtered: self.lines.saturating_sub(acknowledged + dead_lettered),
            dead_lettered,
            bytes: self.bytes,
        }
    }
}

/// How many lines of the batch go to at least one destination.
fn routed(batch: &Batch, output: &Output) -> u64 {
    let count = match &output.content {
        Content::All(to) if to.0 != 0 => batch.lines.len(),
        Content::Keep(lines, to) if to.0 != 0 => lines.len(),
        Content::All(_) | Content::Keep(..) => 0,
        Content::Lines(lines) => {
            let mut last = None;
            let going = lines.iter().filter(|line| line.to.0 != 0);
            going
                .filter(|line| last.replace(line.line) != Some(line.line))
                .count()
        }
        Content::Payloads(payloads) => {
            let going = payloads.iter().filter(|payload| payload.to.0 != 0);
            let mut lines: Vec<u32> = going
                .flat_map(|payload| payload.lines.iter().copied())
                .collect();
            lines.sort_unstable();
            lines.dedup();
            lines.len()
        }
    };
    count as u64
}
