#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use proptest::sample::Index;

use super::super::super::record_id::{Machine, RecordId};
use std::path::Path;
use std::sync::Arc;

use super::super::super::batch::{Fingerprint, Joined, Line, Source};
use super::super::super::output::{DestinationSet, Output, Payload};
use super::*;

/// What a destination sees of a record, and by what it is known.
type Seen = (i64, Vec<u8>, bool, Vec<u8>, u32, Arc<Source>, RecordId);

fn seen(parcel: &Parcel, destination: DestinationIndex) -> Vec<Seen> {
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

fn payloads_of(parcel: &Parcel, destination: DestinationIndex) -> Vec<(Vec<u8>, Vec<u32>)> {
    let payloads = parcel.payloads(destination);
    payloads
        .map(|(bytes, lines)| (bytes.to_vec(), lines.to_vec()))
        .collect()
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
            batch
        })
}

/// A batch, what was decided about it, and what destinations have of it.
fn parcels() -> impl Strategy<Value = Parcel> {
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

proptest! {
    #[test]
    fn a_destination_sees_the_same_after_the_disk(parcel in parcels(), destination in 0usize..3, to in 0usize..64) {
        let (records, payloads) = (seen(&parcel, destination), payloads_of(&parcel, destination));
        let Some(encoded) = encode(&parcel, destination) else {
            prop_assert!(records.is_empty() && payloads.is_empty());
            return Ok(());
        };
        let read = decode(&encoded.body, to).unwrap();
        prop_assert_eq!(&seen(&read, to), &records);
        prop_assert_eq!(&payloads_of(&read, to), &payloads);
        let other = (to + 1) % 64;
        prop_assert!(seen(&read, other).is_empty() && payloads_of(&read, other).is_empty());
        // What settles it counts by these.
        prop_assert_eq!(&read.batch.positions, &parcel.batch.positions);
        prop_assert_eq!(&read.batch.joined, &parcel.batch.joined);
        let ends = |batch: &Batch| -> Vec<_> {
            let spans = batch.spans.iter();
            spans.map(|span| (span.file, span.generation, span.fingerprint, span.start, span.end)).collect()
        };
        prop_assert_eq!(ends(&read.batch), ends(&parcel.batch));
        // Lines that have to have times of their own get them by their place among all.
        if let (Content::Lines(read), Content::Lines(all)) = (&read.output.content, &parcel.output.content) {
            let times = |lines: &[OutputLine]| -> Vec<_> {
                lines.iter().map(|line| (line.line, line.ordinal, line.time)).collect()
            };
            prop_assert_eq!(times(read), times(all));
        }
        let mut lines: Vec<u32> = payloads.iter().flat_map(|(_, lines)| lines.clone()).collect();
        lines.extend(parcel.records(destination).map(|record| record.line));
        lines.sort_unstable();
        lines.dedup();
        prop_assert_eq!(encoded.lines as usize, lines.len());
        let end = |span: &Span| (span.file, End { generation: span.generation, offset: span.end });
        let ends: Vec<_> = parcel.batch.spans.iter().map(end).collect();
        prop_assert_eq!(decode_summary(&encoded.summary).unwrap(), ends);
    }

    #[test]
    fn arbitrary_bytes_are_refused(parcel in parcels(), cut in any::<Index>(), bytes in prop::collection::vec(any::<u8>(), 0..99)) {
        let _ = decode(&bytes, 0);
        let _ = decode_summary(&bytes);
        if let Some(encoded) = encode(&parcel, 1) {
            let cut = cut.index(encoded.body.len());
            prop_assert!(decode(&encoded.body[..cut], 1).is_err());
            // Whatever it is then: what can be read of it lies within its bounds.
            let mut changed = encoded.body;
            changed[cut] ^= 1 << (cut % 8);
            if let Ok(parcel) = decode(&changed, 1) {
                seen(&parcel, 1);
                payloads_of(&parcel, 1);
            }
        }
    }

    #[test]
    fn a_line_that_goes_elsewhere_takes_little_room(count in 1usize..50) {
        let lines = vec!["x".repeat(1000); count];
        let mut batch = super::super::super::testing::batch(0, &lines);
        batch.positions.iter_mut().for_each(|position| *position += 1 << 40);
        let parcel = Parcel {
            entry: Default::default(),
            batch,
            output: Output { bytes: Vec::new(), content: Content::Keep(vec![0], DestinationSet(1)) },
            delivered: Vec::new(),
 clipped: Vec::new(),
        };
        let encoded = encode(&parcel, 0).unwrap();
        prop_assert!(encoded.body.len() < 1200 + 20 * count, "{}", encoded.body.len());
    }
}
