//! How a record and a segment begin on the disk. Nothing here touches a file.
//!
//! Numbers are little-endian. Every checksum of a record is made with a seed that only this queue
//! knows, so that bytes inside a log line, or left over from another queue, never pass for a record.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What this daemon writes, and the newest that it reads.
pub(super) const FORMAT: u32 = 1;
/// What a segment begins with.
pub(super) const SEGMENT_HEADER: usize = 48;
/// What a record begins with.
pub(super) const RECORD_HEADER: usize = 60;

const SEGMENT_MAGIC: [u8; 8] = *b"bulkheaq";
const RECORD_MAGIC: [u8; 4] = [0xb1, 0x9e, 0xad, 0x71];

/// The secret of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(pub(super) u64);

impl Key {
    /// What the checksums of a segment's records are seeded with.
    fn seed(self, segment: u64) -> u64 {
        xxh3_64_with_seed(&segment.to_le_bytes(), self.0)
    }
}

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) lanes: u32,
    pub(super) key: Key,
    pub(super) number: u64,
}

/// What the first bytes of a file are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    Segment(SegmentHeader),
    /// Of another format, which this is.
    Format(u32),
    Damaged,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.lanes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.key.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.number.to_le_bytes());
        let check = xxh3_64_with_seed(&bytes[..40], 0);
        bytes[40..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; SEGMENT_HEADER]) -> Beginning {
        if bytes[..8] != SEGMENT_MAGIC || u64_at(bytes, 40) != xxh3_64_with_seed(&bytes[..40], 0) {
            return Beginning::Damaged;
        }
        match u32_at(bytes, 8) {
            FORMAT => Beginning::Segment(Self {
                lanes: u32_at(bytes, 12),
                key: Key(u64_at(bytes, 16)),
                number: u64_at(bytes, 24),
            }),
            other => Beginning::Format(other),
        }
    }
}

/// What a record says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) lane: u32,
    /// One more than the record before it in the queue.
    pub(super) number: u64,
    /// Lines of the lane that came before it, since the queue was made: from two of these it is known
    /// how many lines are missing in between, whatever became of their records.
    pub(super) lines_before: u64,
    /// Lines in it, at least one.
    pub(super) lines: u32,
    /// Length of the summary, which follows the header.
    pub(super) summary: u32,
    /// Length of the parcel, which follows the summary.
    pub(super) body: u32,
    pub(super) summary_check: u64,
    pub(super) body_check: u64,
}

impl RecordHeader {
    /// Bytes of the whole record.
    pub(super) fn length(&self) -> u64 {
        RECORD_HEADER as u64 + u64::from(self.summary) + u64::from(self.body)
    }

    /// Lines of the lane up to its end.
    pub(super) fn lines_after(&self) -> u64 {
        self.lines_before.saturating_add(u64::from(self.lines))
    }

    pub(super) fn encode(&self, key: Key, segment: u64) -> [u8; RECORD_HEADER] {
        let mut bytes = [0; RECORD_HEADER];
        bytes[..4].copy_from_slice(&RECORD_MAGIC);
        bytes[4..8].copy_from_slice(&self.lane.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.lines_before.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.lines.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.summary.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.body.to_le_bytes());
        bytes[36..44].copy_from_slice(&self.summary_check.to_le_bytes());
        bytes[44..52].copy_from_slice(&self.body_check.to_le_bytes());
        let check = xxh3_64_with_seed(&bytes[..52], key.seed(segment));
        bytes[52..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// None if no record of this segment begins so.
    pub(super) fn decode(
        bytes: &[u8; RECORD_HEADER],
        key: Key,
        segment: u64,
        lanes: u32,
    ) -> Option<Self> {
        let header = Self {
            lane: u32_at(bytes, 4),
            number: u64_at(bytes, 8),
            lines_before: u64_at(bytes, 16),
            lines: u32_at(bytes, 24),
            summary: u32_at(bytes, 28),
            body: u32_at(bytes, 32),
            summary_check: u64_at(bytes, 36),
            body_check: u64_at(bytes, 44),
        };
        let check = || xxh3_64_with_seed(&bytes[..52], key.seed(segment));
        (bytes[..4] == RECORD_MAGIC && u64_at(bytes, 52) == check())
            .then_some(header)
            .filter(|header| header.lane < lanes && header.lines > 0)
    }
}

/// The checksum of a summary or a parcel.
pub(super) fn checksum(bytes: &[u8], key: Key) -> u64 {
    xxh3_64_with_seed(bytes, key.0)
}

/// Where the next record may begin in `bytes`, if anywhere.
pub(super) fn find_magic(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, &RECORD_MAGIC)
}

/// # Panics
/// If `bytes` are shorter than `at + 4`; both are constants of a layout here.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

/// # Panics
/// If `bytes` are shorter than `at + 8`; both are constants of a layout here.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key(7);

    fn record() -> RecordHeader {
        RecordHeader {
            lane: 3,
            number: 1 << 40,
            lines_before: 1 << 50,
            lines: 9,
            summary: 100,
            body: 100_000,
            summary_check: 1,
            body_check: 2,
        }
    }

    #[test]
    fn headers_come_back_and_a_changed_byte_is_seen() {
        let record = record();
        let bytes = record.encode(KEY, 5);
        assert_eq!(RecordHeader::decode(&bytes, KEY, 5, 4), Some(record));
        // Of another segment, another queue, or a lane that there is not.
        assert_eq!(RecordHeader::decode(&bytes, KEY, 6, 4), None);
        assert_eq!(RecordHeader::decode(&bytes, Key(8), 5, 4), None);
        assert_eq!(RecordHeader::decode(&bytes, KEY, 5, 3), None);
        let segment = SegmentHeader {
            lanes: 4,
            key: KEY,
            number: 12,
        };
        let start = segment.encode();
        assert_eq!(SegmentHeader::decode(&start), Beginning::Segment(segment));
        for at in 0..RECORD_HEADER {
            let mut bytes = bytes;
            bytes[at] ^= 0x10;
            assert_eq!(RecordHeader::decode(&bytes, KEY, 5, 4), None, "{at}");
        }
        for at in 0..SEGMENT_HEADER {
            let mut start = start;
            start[at] ^= 0x10;
            assert_eq!(SegmentHeader::decode(&start), Beginning::Damaged, "{at}");
        }
    }

    #[test]
    fn another_format_is_told_from_damage() {
        let mut bytes = SegmentHeader {
            lanes: 4,
            key: KEY,
            number: 0,
        }
        .encode();
        bytes[8..12].copy_from_slice(&9u32.to_le_bytes());
        let check = xxh3_64_with_seed(&bytes[..40], 0);
        bytes[40..].copy_from_slice(&check.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), Beginning::Format(9));
    }
}
