//! What a plugin decided about a batch, after the host checked it: every index and span in here is
//! within bounds, so nothing downstream checks again.

use std::sync::Arc;

use super::batch::{Batch, Source};
use super::ledger::Entry;

/// Index of a destination in the manifest's `logs.destinations`.
pub type DestinationIndex = usize;

/// A set of destinations by index; a manifest has at most 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DestinationSet(pub u64);

impl DestinationSet {
    /// The most destinations a manifest may have.
    pub const MAX: usize = 64;

    /// Whether `index` is in the set.
    pub fn contains(self, index: DestinationIndex) -> bool {
        index < Self::MAX && self.0 & (1 << index) != 0
    }

    /// Adds `index`, which is below [`Self::MAX`].
    pub fn insert(&mut self, index: DestinationIndex) {
        self.0 |= 1 << index;
    }
}

/// One line that goes on.
#[derive(Debug, Clone, Copy)]
pub struct OutputLine {
    /// Nanoseconds since 1970.
    pub time: i64,
    /// Index of the input line in the batch.
    pub line: u32,
    /// How many outputs of the same input line came before.
    pub ordinal: u32,
    /// Where it goes.
    pub to: DestinationSet,
    /// Span of the body in the batch's bytes or in the rewritten bytes.
    pub body: (u32, u32),
    /// Whether `body` lies in the batch's bytes.
    pub body_in_batch: bool,
    /// Whether the body is a JSON object.
    pub body_is_json: bool,
    /// Span of the added JSON members in the rewritten bytes; length 0 for none.
    pub fields: (u32, u32),
}

/// A payload that the plugin encoded itself.
#[derive(Debug, Clone)]
pub struct Payload {
    /// Span in [`Output::bytes`].
    pub span: (u32, u32),
    /// Where it goes.
    pub to: DestinationSet,
    /// The input lines that it holds.
    pub lines: Vec<u32>,
}

/// What goes on.
#[derive(Debug)]
pub enum Content {
    /// Every line, unchanged, to the given destinations.
    All(DestinationSet),
    /// These lines (ascending), unchanged.
    Keep(Vec<u32>, DestinationSet),
    /// Rewritten lines, ascending by input line.
    Lines(Vec<OutputLine>),
    /// The plugin's own payloads.
    Payloads(Vec<Payload>),
}

/// A checked verdict.
#[derive(Debug)]
pub struct Output {
    /// The guest's bytes, into which [`OutputLine`] and [`Payload`] point.
    pub bytes: Vec<u8>,
    /// What goes on.
    pub content: Content,
}

/// One line as a destination sees it.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Nanoseconds since 1970.
    pub time: i64,
    /// Text or, if `json`, a JSON object; not necessarily UTF-8.
    pub body: &'a [u8],
    /// Whether `body` is a JSON object.
    pub json: bool,
    /// JSON members to add, without braces; may be empty. Checked to be well-formed.
    pub fields: &'a [u8],
    /// The input line's `LINE_*` bits.
    pub flags: u32,
    /// Where the input line came from.
    pub source: &'a Arc<Source>,
    /// Index of the input line in the batch.
    pub line: u32,
    /// How many outputs of the same input line came before.
    pub ordinal: u32,
}

impl Batch {
    /// Line `index` as it was read.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn record(&self, index: usize) -> Record<'_> {
        Record {
            time: self.lines[index].time,
            body: self.body(index),
            json: false,
            fields: &[],
            flags: self.lines[index].flags,
            source: self.source(index),
            line: index as u32,
            ordinal: 0,
        }
    }
}

/// A batch and what the plugin decided about it, on its way to its destinations.
#[derive(Debug)]
pub struct Parcel {
    /// What the ledger has written down of it.
    pub entry: Entry,
    /// The lines as read.
    pub batch: Batch,
    /// The decision.
    pub output: Output,
    /// For a batch that is read again after a restart: for each span, the destinations that have
    /// acknowledged it before, and up to which offset. Empty in normal running.
    pub delivered: Vec<Vec<(DestinationIndex, u64)>>,
    /// For a batch that reaches beyond what it may be handed on of: for each span, the offset from
    /// which on lines are left out. Empty in normal running.
    pub clipped: Vec<u64>,
}

impl Parcel {
    /// All of a batch that came from no file, to the first destination.
    pub fn made(batch: Batch) -> Self {
        let mut to = DestinationSet::default();
        to.insert(0);
        Self {
            entry: Entry::default(),
            batch,
            output: Output {
                bytes: Vec::new(),
                content: Content::All(to),
            },
            delivered: Vec::new(),
            clipped: Vec::new(),
        }
    }

    /// The same of a batch whose lines are JSON objects.
    pub fn made_of_objects(batch: Batch) -> Self {
        let mut to = DestinationSet::default();
        to.insert(0);
        let lines = batch.lines.iter().zip(0..).map(|(line, index)| OutputLine {
            time: line.time,
            line: index,
            ordinal: 0,
            to,
            body: (line.offset, line.length),
            body_in_batch: true,
            body_is_json: true,
            fields: (0, 0),
        });
        let content = Content::Lines(lines.collect());
        let mut parcel = Self::made(batch);
        parcel.output.content = content;
        parcel
    }

    /// The lines that go to `destination`, in order. Empty for payload content.
    pub fn records(&self, destination: DestinationIndex) -> impl Iterator<Item = Record<'_>> {
        let (all, keep, lines): (usize, &[u32], &[OutputLine]) = match &self.output.content {
            Content::All(to) if to.contains(destination) => (self.batch.lines.len(), &[], &[]),
            Content::Keep(keep, to) if to.contains(destination) => (0, keep, &[]),
            Content::Lines(lines) => (0, &[], lines),
            _ => (0, &[], &[]),
        };
        let unchanged = (0..all as u32)
            .chain(keep.iter().copied())
            .map(|line| self.batch.record(line as usize));
        let changed = lines
            .iter()
            .filter(move |line| line.to.contains(destination))
            .map(|line| self.changed(line));
        unchanged
            .chain(changed)
            .filter(move |record| !self.leaves_out(destination, record.line))
    }

    /// The payloads that go to `destination`, in order: the bytes, and the input lines they hold.
    pub fn payloads(&self, destination: DestinationIndex) -> impl Iterator<Item = (&[u8], &[u32])> {
        let payloads: &[Payload] = match &self.output.content {
            Content::Payloads(payloads) => payloads,
            _ => &[],
        };
        payloads
            .iter()
            .filter(move |payload| {
                payload.to.contains(destination)
                    && !payload
                        .lines
                        .iter()
                        .all(|&line| self.leaves_out(destination, line))
            })
            .map(|payload| {
                let (offset, length) = payload.span;
                (
                    &self.output.bytes[offset as usize..][..length as usize],
                    payload.lines.as_slice(),
                )
            })
    }

    fn leaves_out(&self, destination: DestinationIndex, line: u32) -> bool {
        if self.delivered.is_empty() && self.clipped.is_empty() {
            return false;
        }
        let span = self.batch.lines[line as usize].source as usize;
        let clip = self.clipped.get(span);
        if clip.is_some_and(|&clip| self.batch.positions[line as usize] >= clip) {
            return true;
        }
        // A record may be longer now than the one that was delivered: then it goes once more.
        let position = self.batch.last_position(line as usize);
        let delivered = self.delivered.get(span).into_iter().flatten();
        delivered
            .copied()
            .any(|(to, until)| to == destination && position < until)
    }

    fn changed(&self, output: &OutputLine) -> Record<'_> {
        let index = output.line as usize;
        let span = |bytes: &'_ [u8], (offset, length): (u32, u32)| -> (usize, usize) {
            debug_assert!(offset as usize + length as usize <= bytes.len());
            (offset as usize, length as usize)
        };
        let holder: &[u8] = if output.body_in_batch {
            &self.batch.bytes
        } else {
            &self.output.bytes
        };
        let (body_at, body_len) = span(holder, output.body);
        let (fields_at, fields_len) = span(&self.output.bytes, output.fields);
        Record {
            time: output.time,
            body: &holder[body_at..][..body_len],
            json: output.body_is_json,
            fields: &self.output.bytes[fields_at..][..fields_len],
            flags: self.batch.lines[index].flags,
            source: self.batch.source(index),
            line: output.line,
            ordinal: output.ordinal,
        }
    }
}
