#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use proptest::sample::Index;

use super::super::super::output::{DestinationSet, Output};
use super::testing::{parcels, seen};
use super::*;

fn payloads_of(parcel: &Parcel, destination: DestinationIndex) -> Vec<(Vec<u8>, Vec<u32>)> {
    let payloads = parcel.payloads(destination);
    payloads
        .map(|(bytes, lines)| (bytes.to_vec(), lines.to_vec()))
        .collect()
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
        let end = |span: &Span| (span.file, End::from(span));
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
