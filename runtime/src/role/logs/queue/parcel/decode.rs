//! From bytes to a parcel. Whatever they are, what comes out lies within its bounds.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::super::super::batch::{Batch, FileId, Fingerprint, Joined, Line, Source, Span};
use super::super::super::ledger::Entry;
use super::super::super::output::{
    Content, DestinationIndex, DestinationSet, Output, OutputLine, Parcel, Payload,
};
use super::{
    Differences, End, Malformed, StoredContent, StoredOutput, StoredSpan, StoredSummary, Table,
};

/// How far a record holds each of its files.
pub(in super::super) fn decode_summary(bytes: &[u8]) -> Result<Vec<(FileId, End)>, Malformed> {
    let stored: StoredSummary = whole(bytes)?;
    let end = |(device, inode, generation, offset, footprint)| {
        let end = End {
            generation,
            offset,
            footprint,
        };
        (FileId { device, inode }, end)
    };
    Ok(stored.ends.into_iter().map(end).collect())
}

/// The parcel of a record, addressed to `destination`.
pub(in super::super) fn decode(
    bytes: &[u8],
    destination: DestinationIndex,
) -> Result<Parcel, Malformed> {
    let (length, rest) = bytes.split_first_chunk().ok_or(Malformed)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (table, texts) = rest.split_at_checked(length).ok_or(Malformed)?;
    let table: Table<'_> = whole(table)?;
    let mut batch = Batch {
        spans: table.spans.iter().map(span).collect(),
        joined: (table.joined.iter())
            .map(|&(lines, last)| Joined { lines, last })
            .collect(),
        ..Batch::default()
    };
    let mut texts = Texts::new(texts)?;
    let (mut times, mut positions) = (Differences::default(), Differences::default());
    for line in &table.lines {
        if line.source as usize >= batch.spans.len() {
            return Err(Malformed);
        }
        let text = texts.take(line.text.unwrap_or(0))?;
        batch.lines.push(Line {
            time: times.back(line.time),
            offset: batch.bytes.len() as u32,
            length: text.len() as u32,
            source: line.source,
            flags: line.flags,
        });
        batch.positions.push(positions.back(line.position) as u64);
        batch.bytes.extend_from_slice(text);
    }
    let bytes = texts.rest.to_vec();
    let mut to = DestinationSet::default();
    to.insert(destination);
    let content = match table.content {
        StoredContent::Kept(lines) => Content::Keep(kept(&batch, lines)?, to),
        StoredContent::Lines(lines) => Content::Lines(outputs(&batch, &lines, texts, to)?),
        StoredContent::Payloads(stored) => Content::Payloads(payloads(&batch, stored, texts, to)?),
    };
    Ok(Parcel {
        entry: Entry::default(),
        batch,
        output: Output { bytes, content },
        delivered: Vec::new(),
        clipped: Vec::new(),
    })
}

fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Malformed> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(Malformed),
    }
}

fn span(stored: &StoredSpan<'_>) -> Span {
    let attributes = stored.attributes.iter();
    Span {
        file: FileId {
            device: stored.device,
            inode: stored.inode,
        },
        generation: stored.generation,
        fingerprint: Fingerprint {
            length: stored.fingerprint.0,
            hash: stored.fingerprint.1,
        },
        source: Arc::new(Source {
            path: Arc::from(Path::new(OsStr::from_bytes(stored.path))),
            attributes: attributes
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }),
        start: stored.start,
        end: stored.end,
        again: false,
        footprint: stored.footprint,
    }
}

/// Hands out texts piece by piece.
struct Texts<'a> {
    rest: &'a [u8],
    /// How much was handed out.
    at: u32,
}

impl<'a> Texts<'a> {
    fn new(texts: &'a [u8]) -> Result<Self, Malformed> {
        // What lies in there is told by 32 bits.
        u32::try_from(texts.len()).map_err(|_| Malformed)?;
        Ok(Self { rest: texts, at: 0 })
    }

    fn take(&mut self, length: u32) -> Result<&'a [u8], Malformed> {
        let (text, rest) = (self.rest)
            .split_at_checked(length as usize)
            .ok_or(Malformed)?;
        self.rest = rest;
        self.at += length;
        Ok(text)
    }

    /// Where the next `length` bytes are.
    fn span(&mut self, length: u32) -> Result<(u32, u32), Malformed> {
        let start = self.at;
        self.take(length)?;
        Ok((start, length))
    }

    fn end(self) -> Result<(), Malformed> {
        self.rest.is_empty().then_some(()).ok_or(Malformed)
    }
}

/// The next line, by its difference from the last.
fn next(batch: &Batch, last: &mut u32, difference: u32) -> Result<u32, Malformed> {
    *last = last.checked_add(difference).ok_or(Malformed)?;
    ((*last as usize) < batch.lines.len())
        .then_some(*last)
        .ok_or(Malformed)
}

fn kept(batch: &Batch, stored: Vec<u32>) -> Result<Vec<u32>, Malformed> {
    let mut last = 0;
    let differences = stored.into_iter();
    differences
        .map(|difference| next(batch, &mut last, difference))
        .collect()
}

fn outputs(
    batch: &Batch,
    stored: &[StoredOutput],
    texts: Texts<'_>,
    to: DestinationSet,
) -> Result<Vec<OutputLine>, Malformed> {
    let mut made = Texts::new(texts.rest)?;
    let mut times = Differences::default();
    let mut last = 0u32;
    let mut lines = Vec::with_capacity(stored.len());
    for output in stored {
        let mut line = OutputLine {
            time: times.back(output.time),
            line: next(batch, &mut last, output.line)?,
            ordinal: output.ordinal,
            to: DestinationSet::default(),
            body: (0, 0),
            body_in_batch: false,
            body_is_json: false,
            fields: (0, 0),
        };
        if let Some(text) = &output.text {
            line.to = to;
            line.body_in_batch = text.within.is_some();
            line.body = match text.within {
                Some(within) => {
                    let own = &batch.lines[line.line as usize];
                    let end = within.checked_add(text.body).ok_or(Malformed)?;
                    if end > own.length {
                        return Err(Malformed);
                    }
                    (own.offset + within, text.body)
                }
                None => made.span(text.body)?,
            };
            line.body_is_json = text.json;
            line.fields = made.span(text.fields)?;
        }
        lines.push(line);
    }
    made.end()?;
    Ok(lines)
}

fn payloads(
    batch: &Batch,
    stored: Vec<(u32, Vec<u32>)>,
    texts: Texts<'_>,
    to: DestinationSet,
) -> Result<Vec<Payload>, Malformed> {
    let mut made = Texts::new(texts.rest)?;
    let mut payloads = Vec::with_capacity(stored.len());
    for (length, lines) in stored {
        if lines.iter().any(|&line| line as usize >= batch.lines.len()) {
            return Err(Malformed);
        }
        let span = made.span(length)?;
        payloads.push(Payload { span, to, lines });
    }
    made.end()?;
    Ok(payloads)
}
