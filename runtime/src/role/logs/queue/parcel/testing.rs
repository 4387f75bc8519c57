//! Arbitrary parcels, and what a destination sees of them.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;

use super::super::super::batch::{
    Batch, FileId, Fingerprint, Footprint, Joined, Line, Source, Span,
};
use super::super::super::output::{
    Content, DestinationIndex, DestinationSet, Output, OutputLine, Parcel, Payload, Record,
};
use super::super::super::record_id::{Machine, RecordId};

/// What a destination sees of a record, and by what it is known.
pub(in super::super) type Seen = (i64, Vec<u8>, bool, Vec<u8>, u32, Arc<Source>, RecordId);

pub(in super::super) fn seen(parcel: &Parcel, destination: DestinationIndex) -> Vec<Seen> {
    let machine = Machine::new("test");
    let see = |record: Record<'_>| {
        (
            record.time,
            record.body.to_vec(),
            record.json,
            record.fields.to_vec(),
            record.flags,
            record.source.clone(),
            RecordId::of(&machine, &parcel.batch, &record),
        )
    };
    parcel.records(destination).map(see).collect()
}

fn batches() -> impl Strategy<Value = Batch> {
    let spans = prop::collection::vec(
        (
            any::<(u64, u64, u64, u32, u64)>(),
            "[a-z/]{1,9}",
            any::<bool>(),
        ),
        1..4,
    );
    let lines = prop::collection::vec(
        (
            any::<Index>(),
            prop::collection::vec(any::<u8>(), 0..20),
            any::<(i64, u64, u32)>(),
        ),
        1..20,
    );
    (
        spans,
        lines,
        prop::collection::vec(any::<(u32, u64)>(), 0..3),
    )
        .prop_map(|(spans, lines, joined)| {
            let mut batch = Batch {
                lane: 2,
                joined: joined
                    .iter()
                    .map(|&(lines, last)| Joined { lines, last })
                    .collect(),
                ..Batch::default()
            };
            for ((device, inode, generation, length, hash), path, attributes) in spans {
                let attribute = ("k8s.pod.name".to_owned(), path.clone());
                batch.spans.push(Span {
                    file: FileId { device, inode },
                    generation,
                    fingerprint: Fingerprint { length, hash },
                    source: Arc::new(Source {
                        path: Arc::from(Path::new(&path)),
                        attributes: attributes.then_some(attribute).into_iter().collect(),
                    }),
                    start: inode / 2,
                    end: inode,
                    again: false,
                    footprint: attributes.then_some(Footprint {
                        offset: inode,
                        length,
                        hash,
                    }),
                });
            }
            for (source, body, (time, position, flags)) in lines {
                batch.lines.push(Line {
                    time,
                    offset: batch.bytes.len() as u32,
                    length: body.len() as u32,
                    source: source.index(batch.spans.len()) as u32,
                    flags,
                });
                batch.positions.push(position);
                batch.bytes.extend_from_slice(&body);
            }
            batch.joined.truncate(batch.lines.len());
            batch
        })
}

/// A batch, what was decided about it, and what destinations have of it.
pub(in super::super) fn parcels() -> impl Strategy<Value = Parcel> {
    let output = (
        any::<u8>(),
        prop::collection::vec((any::<Index>(), 0u64..8, 0u32..9), 0..24),
    );
    (batches(), output, prop::option::of(any::<Index>())).prop_map(
        |(batch, (kind, choices), delivered)| {
            let count = batch.lines.len();
            let bytes = b"a text that a plugin made {}".to_vec();
            let mut lines: Vec<(u32, u64, u32)> = choices
                .into_iter()
                .map(|(line, to, length)| (line.index(count) as u32, to, length))
                .collect();
            lines.sort_unstable();
            let mut unique: Vec<u32> = lines.iter().map(|line| line.0).collect();
            unique.dedup();
            let set = DestinationSet(u64::from(kind) / 4 % 8);
            let content = match kind % 4 {
                0 => Content::All(set),
                1 => Content::Keep(unique, set),
                2 => {
                    let mut ordinal = 0;
                    let mut last = None;
                    let output = |(line, to, length): (u32, u64, u32)| {
                        ordinal = if last.replace(line) == Some(line) {
                            ordinal + 1
                        } else {
                            0
                        };
                        let own = batch.lines[line as usize];
                        let body_in_batch = length % 2 == 0;
                        OutputLine {
                            time: own.time ^ i64::from(length),
                            line,
                            ordinal,
                            to: DestinationSet(to),
                            body: if body_in_batch {
                                (own.offset, own.length)
                            } else {
                                (3, length)
                            },
                            body_in_batch,
                            body_is_json: length == 3,
                            fields: (9, length / 2),
                        }
                    };
                    Content::Lines(lines.into_iter().map(output).collect())
                }
                _ => Content::Payloads(
                    lines
                        .chunks(3)
                        .map(|chunk| {
                            let mut lines: Vec<u32> = chunk.iter().map(|line| line.0).collect();
                            lines.dedup();
                            let span = (chunk[0].2, chunk[0].2 + 1);
                            let to = DestinationSet(chunk[0].1);
                            Payload { span, to, lines }
                        })
                        .collect(),
                ),
            };
            let clipped = match kind {
                250.. => vec![batch.positions[0]; batch.spans.len()],
                _ => Vec::new(),
            };
            let delivered = delivered.map(|line| {
                let until = batch.positions[line.index(count)];
                vec![vec![(1, until)]; batch.spans.len()]
            });
            Parcel {
                entry: Default::default(),
                batch,
                output: Output { bytes, content },
                delivered: delivered.unwrap_or_default(),
                clipped,
            }
        },
    )
}
