//! A parcel as one destination needs it, to bytes and back. Lines that do not go there keep their
//! place, because indices and times are counted by it, but not their text.
//!
//! A body is a table (its length, then postcard) and, after it, the texts: of the lines that go there,
//! as they were read, because their ids hold them; then what the plugin made of them.

mod decode;

use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Serialize};

use super::super::batch::{Batch, FileId, Footprint, Span};
use super::super::output::{Content, DestinationIndex, OutputLine, Parcel, Record};
pub(super) use decode::{decode, decode_summary};

/// A place in a file: how far a record, or the queue, holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::role::logs) struct End {
    pub(in crate::role::logs) generation: u64,
    pub(in crate::role::logs) offset: u64,
    /// What stands before it, or after.
    pub(in crate::role::logs) footprint: Option<Footprint>,
}

impl From<&Span> for End {
    fn from(span: &Span) -> Self {
        Self {
            generation: span.generation,
            offset: span.end,
            footprint: span.footprint,
        }
    }
}

/// A parcel, ready to be written.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) lines: u32,
    pub(super) summary: Vec<u8>,
    pub(super) body: Vec<u8>,
}

/// The bytes pass their checksum and are no parcel all the same: a bug, or another daemon's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// How far a parcel reaches in each of its files, so that this is known of a record without its lines.
#[derive(Serialize, Deserialize)]
struct StoredSummary {
    /// Device, inode, generation, offset, and what stands before it.
    ends: Vec<(u64, u64, u64, u64, Option<Footprint>)>,
}

#[derive(Serialize, Deserialize)]
struct Table<'a> {
    #[serde(borrow)]
    spans: Vec<StoredSpan<'a>>,
    lines: Vec<StoredLine>,
    /// Lines that were joined onto each, and the offset of the last.
    joined: Vec<(u32, u64)>,
    content: StoredContent,
}

#[derive(Serialize, Deserialize)]
struct StoredSpan<'a> {
    device: u64,
    inode: u64,
    generation: u64,
    fingerprint: (u32, u64),
    // Paths are bytes on Linux, not text.
    path: &'a [u8],
    attributes: Vec<(&'a str, &'a str)>,
    start: u64,
    end: u64,
    footprint: Option<Footprint>,
}

/// Numbers that ascend as a rule are stored as the difference from the line before.
#[derive(Serialize, Deserialize)]
struct StoredLine {
    time: i64,
    position: i64,
    source: u32,
    flags: u32,
    /// Length of its text. Absent if it goes elsewhere, or only in payloads.
    text: Option<u32>,
}

#[derive(Serialize, Deserialize)]
enum StoredContent {
    /// Lines as they were read: their difference from the one before.
    Kept(Vec<u32>),
    Lines(Vec<StoredOutput>),
    /// Each payload's length, and its lines.
    Payloads(Vec<(u32, Vec<u32>)>),
}

#[derive(Serialize, Deserialize)]
struct StoredOutput {
    time: i64,
    line: u32,
    ordinal: u32,
    /// Absent if it goes elsewhere.
    text: Option<StoredText>,
}

#[derive(Serialize, Deserialize)]
struct StoredText {
    /// Where in the line the body is, if it is a part of that.
    within: Option<u32>,
    body: u32,
    json: bool,
    fields: u32,
}

/// Differences between neighbours, which wrap around and so never fail.
#[derive(Default)]
struct Differences(i64);

impl Differences {
    fn of(&mut self, value: i64) -> i64 {
        value.wrapping_sub(std::mem::replace(&mut self.0, value))
    }

    fn back(&mut self, difference: i64) -> i64 {
        self.0 = self.0.wrapping_add(difference);
        self.0
    }
}

/// What `destination` needs of a parcel. None if nothing goes there.
pub(super) fn encode(parcel: &Parcel, destination: DestinationIndex) -> Option<Encoded> {
    let batch = &parcel.batch;
    // What the plugin made.
    let mut made = Vec::new();
    let mut going = vec![false; batch.lines.len()];
    let content = match &parcel.output.content {
        Content::All(_) | Content::Keep(..) => {
            let mut last = 0;
            let lines = parcel.records(destination).map(|record| {
                going[record.line as usize] = true;
                record.line - std::mem::replace(&mut last, record.line)
            });
            StoredContent::Kept(lines.collect())
        }
        Content::Lines(lines) => {
            let mut records = parcel.records(destination).peekable();
            let mut times = Differences::default();
            let mut last = 0;
            let store = |output: &OutputLine| {
                let same = |record: &Record<'_>| {
                    (record.line, record.ordinal) == (output.line, output.ordinal)
                };
                let text = records.next_if(same).map(|record| {
                    going[record.line as usize] = true;
                    let within = within(batch, output);
                    if within.is_none() {
                        made.extend_from_slice(record.body);
                    }
                    made.extend_from_slice(record.fields);
                    StoredText {
                        within,
                        body: record.body.len() as u32,
                        json: record.json,
                        fields: record.fields.len() as u32,
                    }
                });
                StoredOutput {
                    time: times.of(output.time),
                    line: output.line - std::mem::replace(&mut last, output.line),
                    ordinal: output.ordinal,
                    text,
                }
            };
            StoredContent::Lines(lines.iter().map(store).collect())
        }
        Content::Payloads(_) => {
            let payloads = parcel.payloads(destination).map(|(payload, lines)| {
                lines.iter().for_each(|&line| going[line as usize] = true);
                made.extend_from_slice(payload);
                (payload.len() as u32, lines.to_vec())
            });
            StoredContent::Payloads(payloads.collect())
        }
    };
    let lines = going.iter().filter(|&&going| going).count() as u32;
    if lines == 0 {
        return None;
    }
    Some(Encoded {
        lines,
        summary: to_bytes(&summary(batch), Vec::new()),
        body: body(batch, content, &going, &made),
    })
}

/// Where in its line an output's body is, if it is a part of that.
fn within(batch: &Batch, output: &OutputLine) -> Option<u32> {
    let line = &batch.lines[output.line as usize];
    let (at, length) = output.body;
    let within = at
        .checked_sub(line.offset)
        .filter(|_| output.body_in_batch)?;
    (u64::from(within) + u64::from(length) <= u64::from(line.length)).then_some(within)
}

fn summary(batch: &Batch) -> StoredSummary {
    let end = |span: &Span| {
        let FileId { device, inode } = span.file;
        (device, inode, span.generation, span.end, span.footprint)
    };
    StoredSummary {
        ends: batch.spans.iter().map(end).collect(),
    }
}

fn body(batch: &Batch, content: StoredContent, going: &[bool], made: &[u8]) -> Vec<u8> {
    let whole = !matches!(content, StoredContent::Payloads(_));
    let (mut times, mut positions) = (Differences::default(), Differences::default());
    let lines = batch.lines.iter().zip(&batch.positions).zip(going);
    let table = Table {
        spans: batch.spans.iter().map(stored).collect(),
        lines: lines
            .map(|((line, &position), &going)| StoredLine {
                time: times.of(line.time),
                position: positions.of(position as i64),
                source: line.source,
                flags: line.flags,
                text: (going && whole).then_some(line.length),
            })
            .collect(),
        joined: (batch.joined.iter())
            .map(|joined| (joined.lines, joined.last))
            .collect(),
        content,
    };
    let mut bytes = to_bytes(&table, vec![0; 4]);
    // Fits: a batch is at most 64 MiB, and what a plugin makes of it 64 MiB more.
    let length = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    for (line, stored) in table.lines.iter().enumerate() {
        if stored.text.is_some() {
            bytes.extend_from_slice(batch.body(line));
        }
    }
    bytes.extend_from_slice(made);
    bytes
}

fn stored(span: &Span) -> StoredSpan<'_> {
    let attributes = span.source.attributes.iter();
    StoredSpan {
        device: span.file.device,
        inode: span.file.inode,
        generation: span.generation,
        fingerprint: (span.fingerprint.length, span.fingerprint.hash),
        path: span.source.path.as_os_str().as_bytes(),
        attributes: attributes
            .map(|(name, value)| (&**name, &**value))
            .collect(),
        start: span.start,
        end: span.end,
        footprint: span.footprint,
    }
}

fn to_bytes<T: Serialize>(value: &T, bytes: Vec<u8>) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "writing to a growing vector cannot fail, and the types here are plain data of known lengths"
    )]
    postcard::to_extend(value, bytes).expect("plain data serializes")
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
