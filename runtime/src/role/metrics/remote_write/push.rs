//! What one push holds, as Prometheus' remote write 1.0 has it:
//! <https://prometheus.io/docs/specs/prw/remote_write_spec/>
//!
//! Every line of the batch is one series with its one sample, ready to stand in a `WriteRequest`: in
//! protobuf a list's entries may stand one after the other, so any of these lines together are a
//! request. What is known of a family stands before its first series.

use std::collections::HashSet;

use prost::{encode_length_delimiter, length_delimiter_len};

use super::super::exposition::{Exposition, FamilyInfo, Sample};
use super::super::found::Kind;
use crate::role::logs::batch::{Batch, Line};

/// The value that says that a series has ended.
const STALE: u64 = 0x7ff0_0000_0000_0002;
/// Any other value that is no number.
const NOT_A_NUMBER: u64 = 0x7ff8_0000_0000_0001;

/// Series by their labels, as a request has them.
pub(super) type Known = HashSet<Box<[u8]>>;

/// A push, and what series are in it.
pub(super) struct Push {
    pub(super) batch: Batch,
    pub(super) known: Known,
}

/// What was found, at `time` in milliseconds since 1970; and the end of each of the series `before`
/// that is not there any more.
///
/// `added`: labels for every series that has none of the name. `describe`: tell what is known of families.
pub(super) fn push(
    found: &Exposition<'_>,
    added: &[(String, String)],
    time: i64,
    describe: bool,
    before: &Known,
) -> Push {
    let mut writing = Writing::new(time);
    let mut known = Known::with_capacity(before.len());
    let mut labels = Vec::new();
    found.samples(added, &mut |sample: Sample<'_>| {
        labels.clear();
        encode_labels(sample.labels, &mut labels);
        // With labels added, two series may have become one.
        if known.contains(&*labels) {
            return;
        }
        let bits = match sample.value.is_nan() {
            true => NOT_A_NUMBER,
            false => sample.value.to_bits(),
        };
        writing.line(sample.family.filter(|_| describe), &labels, bits);
        known.insert(labels.as_slice().into());
    });
    let gone = before.iter().filter(|series| !known.contains(*series));
    gone.for_each(|series| writing.line(None, series, STALE));
    Push {
        batch: writing.batch,
        known,
    }
}

/// The end of each of these series.
pub(super) fn ends(series: &Known, time: i64) -> Batch {
    let mut writing = Writing::new(time);
    series
        .iter()
        .for_each(|series| writing.line(None, series, STALE));
    writing.batch
}

struct Writing {
    batch: Batch,
    time: i64,
}

impl Writing {
    fn new(time: i64) -> Self {
        Self {
            batch: Batch::of_no_file(Vec::new()),
            time,
        }
    }

    fn line(&mut self, family: Option<FamilyInfo<'_>>, labels: &[u8], bits: u64) {
        let batch = &mut self.batch;
        let begin = batch.bytes.len();
        if let Some(family) = family {
            encode_family(&family, &mut batch.bytes);
        }
        encode_series(labels, bits, self.time, &mut batch.bytes);
        batch.positions.push(batch.lines.len() as u64);
        batch.lines.push(Line {
            time: self.time.saturating_mul(1_000_000),
            offset: begin as u32,
            length: (batch.bytes.len() - begin) as u32,
            source: 0,
            flags: 0,
        });
    }
}

/// A field that holds bytes: its key and length.
fn begin(field: u8, length: usize, out: &mut Vec<u8>) {
    out.push((field << 3) | 2);
    varint(length, out);
}

fn varint(number: usize, out: &mut Vec<u8>) {
    // Fails only for want of room, and a vector grows.
    let _ = encode_length_delimiter(number, out);
}

fn text(field: u8, text: &str, out: &mut Vec<u8>) {
    begin(field, text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

fn text_length(text: &str) -> usize {
    1 + length_delimiter_len(text.len()) + text.len()
}

/// `repeated Label labels = 1` of a `TimeSeries`.
fn encode_labels(labels: &[(&str, &str)], out: &mut Vec<u8>) {
    for (name, value) in labels {
        begin(1, text_length(name) + text_length(value), out);
        text(1, name, out);
        text(2, value, out);
    }
}

/// An entry of `repeated TimeSeries timeseries = 1` of the request, with one `Sample`.
fn encode_series(labels: &[u8], bits: u64, time: i64, out: &mut Vec<u8>) {
    let time = time as usize;
    let sample = 1 + 8 + 1 + length_delimiter_len(time);
    let length = labels.len() + 1 + length_delimiter_len(sample) + sample;
    begin(1, length, out);
    out.extend_from_slice(labels);
    begin(2, sample, out);
    out.push((1 << 3) | 1);
    out.extend_from_slice(&bits.to_le_bytes());
    out.push(2 << 3);
    varint(time, out);
}

/// An entry of `repeated MetricMetadata metadata = 3` of the request.
fn encode_family(family: &FamilyInfo<'_>, out: &mut Vec<u8>) {
    let kind = match family.kind {
        Kind::Untyped => 0,
        Kind::Counter => 1,
        // As in the text format, which has no type for an info.
        Kind::Gauge | Kind::Info => 2,
        Kind::Histogram => 3,
        Kind::Summary => 5,
    };
    let texts = [(2, family.name), (4, family.help), (5, family.unit)];
    let length: usize = texts.iter().map(|(_, text)| text_length(text)).sum();
    begin(3, 2 + length, out);
    out.extend_from_slice(&[1 << 3, kind]);
    texts.iter().for_each(|(field, it)| text(*field, it, out));
}

#[cfg(test)]
mod tests;
