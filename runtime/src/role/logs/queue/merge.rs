//! Several parcels made one, so that what a trickle of lines left behind takes few requests.

use std::sync::Arc;

use super::super::batch::{Batch, Joined, Line, Span};
use super::super::ledger::Entry;
use super::super::output::{
    Content, DestinationIndex, DestinationSet, Output, OutputLine, Parcel, Record,
};

/// Whether a parcel can be merged with others: payloads are requests of their own anyway.
pub(super) fn can_merge(parcel: &Parcel) -> bool {
    !matches!(parcel.output.content, Content::Payloads(_))
}

/// What `destination` gets of `parcels`, of one lane and in order, each of which can be merged.
/// Together they are far below 4 GiB.
pub(super) fn merge(parcels: &[Arc<Parcel>], destination: DestinationIndex) -> Parcel {
    let mut merged = Merged {
        to: DestinationSet::default(),
        batch: Batch::default(),
        lines: Vec::new(),
        bytes: Vec::new(),
    };
    merged.to.insert(destination);
    for parcel in parcels {
        merged.add(parcel, destination);
    }
    Parcel {
        entry: Entry::default(),
        batch: merged.batch,
        output: Output {
            bytes: merged.bytes,
            content: Content::Lines(merged.lines),
        },
        delivered: Vec::new(),
        clipped: Vec::new(),
    }
}

struct Merged {
    to: DestinationSet,
    batch: Batch,
    lines: Vec<OutputLine>,
    bytes: Vec<u8>,
}

impl Merged {
    fn add(&mut self, parcel: &Parcel, destination: DestinationIndex) {
        let batch = &parcel.batch;
        self.batch.lane = batch.lane;
        let first = self.batch.lines.len() as u32;
        self.outputs(parcel, destination, first);
        let sources: Vec<u32> = batch.spans.iter().map(|span| self.source(span)).collect();
        let at = self.batch.bytes.len() as u32;
        self.batch.bytes.extend_from_slice(&batch.bytes);
        let lines = batch.lines.iter().map(|line| Line {
            offset: at + line.offset,
            source: sources[line.source as usize],
            ..*line
        });
        self.batch.lines.extend(lines);
        self.batch.positions.extend_from_slice(&batch.positions);
        if !batch.joined.is_empty() {
            let joined = &mut self.batch.joined;
            joined.resize(first as usize, Joined::default());
            joined.extend_from_slice(&batch.joined);
        }
    }

    /// Takes the outputs of lines that will come from line `first` on. Those that do not go to the
    /// destination keep their places: times are told apart by them.
    fn outputs(&mut self, parcel: &Parcel, destination: DestinationIndex, first: u32) {
        let (in_batch, made) = (self.batch.bytes.len() as u32, self.bytes.len() as u32);
        self.bytes.extend_from_slice(&parcel.output.bytes);
        let mut going = parcel.records(destination).peekable();
        let to = self.to;
        let mut whether = |line: u32, ordinal: u32| {
            let same = |record: &Record<'_>| (record.line, record.ordinal) == (line, ordinal);
            match going.next_if(same) {
                Some(_) => to,
                None => DestinationSet::default(),
            }
        };
        if let Content::Lines(lines) = &parcel.output.content {
            for output in lines {
                let from = if output.body_in_batch { in_batch } else { made };
                self.lines.push(OutputLine {
                    line: first + output.line,
                    to: whether(output.line, output.ordinal),
                    body: (from + output.body.0, output.body.1),
                    fields: (made + output.fields.0, output.fields.1),
                    ..*output
                });
            }
            return;
        }
        for (index, line) in parcel.batch.lines.iter().enumerate() {
            let index = index as u32;
            self.lines.push(OutputLine {
                time: line.time,
                line: first + index,
                ordinal: 0,
                to: whether(index, 0),
                body: (in_batch + line.offset, line.length),
                body_in_batch: true,
                body_is_json: false,
                fields: (made, 0),
            });
        }
    }

    /// The index of a span that stands for this one, too, and now reaches as far.
    fn source(&mut self, span: &Span) -> u32 {
        let spans = &mut self.batch.spans;
        let same = |known: &Span| {
            known.file == span.file
                && known.generation == span.generation
                && known.source == span.source
        };
        let index = spans.iter().rposition(same).unwrap_or_else(|| {
            spans.push(span.clone());
            spans.len() - 1
        });
        spans[index].end = span.end;
        spans[index].footprint = span.footprint;
        index as u32
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::parcel::testing::{parcels, seen};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_destination_sees_the_same_of_many_as_of_each(all in prop::collection::vec(parcels(), 1..6)) {
            let all: Vec<Arc<Parcel>> = all.into_iter().filter(can_merge).map(Arc::new).collect();
            for destination in 0..3 {
                let each: Vec<_> = all.iter().flat_map(|parcel| seen(parcel, destination)).collect();
                let merged = merge(&all, destination);
                prop_assert_eq!(seen(&merged, destination), each);
                prop_assert_eq!(merged.records(destination + 1).count(), 0);
            }
        }
    }

    #[test]
    fn stretches_of_one_file_have_one_source() {
        let parcel = |start| {
            let mut batch = super::super::super::testing::batch(0, &["a".to_owned()]);
            (batch.spans[0].start, batch.spans[0].end) = (start, start + 10);
            Arc::new(Parcel {
                entry: Entry::default(),
                batch,
                output: Output {
                    bytes: Vec::new(),
                    content: Content::All(DestinationSet(1)),
                },
                delivered: Vec::new(),
                clipped: Vec::new(),
            })
        };
        let merged = merge(&[parcel(0), parcel(10), parcel(20)], 0);
        let spans = merged.batch.spans.iter().map(|span| (span.start, span.end));
        assert_eq!(spans.collect::<Vec<_>>(), [(0, 30)]);
        assert_eq!(merged.batch.lines.len(), 3);
    }
}
