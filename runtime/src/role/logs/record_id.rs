//! The stable id of a record: the same whenever the same line is delivered again, and another one
//! for every other line on every node. Receivers that take an id drop repeats by it.
//!
//! It is a hash of machine, device, inode, file generation, offset of the line's first byte, for
//! joined lines that of the last one, ordinal of the output, and the line as it was read. The
//! generation is new after a truncation and for another file on the same inode, so a file that is
//! copied and truncated in place does not give its ids a second time. The line itself tells apart
//! what stands at one place of two machines that were cloned from one image, machine id and all, and
//! what was written in place of lines that a power cut took back after they had been delivered.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::batch::Batch;
use super::output::Record;

/// What tells this machine's records from those of all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine([u8; 32]);

impl Machine {
    /// The machine whose root folder is `root`, by its machine-id(5).
    ///
    /// Without one, something new with each start of the daemon: records that are delivered again
    /// after a restart are then taken for others, but never others for the same.
    pub fn of_node(root: &Path) -> Self {
        let path = root.join("etc/machine-id");
        let known = fs::read_to_string(&path).unwrap_or_default();
        let known = known.trim();
        if known.len() == 32 && known.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Self::new(known);
        }
        tracing::warn!(
            "{} holds no machine id: after a restart, records that are sent again get other ids; \
             run systemd-machine-id-setup",
            path.display()
        );
        let random = fs::read_to_string("/proc/sys/kernel/random/uuid");
        Self::new(&random.unwrap_or_else(|_| format!("{:x}", fastrand::u128(..))))
    }

    /// A machine by its id, which is confidential (machine-id(5)) and cannot be found from this.
    pub fn new(id: &str) -> Self {
        Self(Sha256::digest(format!("bulkhead record id:{id}")).into())
    }
}

/// The id of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId(u128);

impl RecordId {
    /// The id of `record`, which is one of `batch`'s, on `machine`.
    ///
    /// # Panics
    /// If the record's line is not in the batch.
    pub fn of(machine: &Machine, batch: &Batch, record: &Record<'_>) -> Self {
        let line = record.line as usize;
        let span = &batch.spans[batch.lines[line].source as usize];
        let mut bytes = [0; 84];
        bytes[..32].copy_from_slice(&machine.0);
        let numbers = [
            span.file.device,
            span.file.inode,
            span.generation,
            batch.positions[line],
        ];
        for (place, number) in bytes[32..64].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes[64..68].copy_from_slice(&record.ordinal.to_le_bytes());
        bytes[68..76].copy_from_slice(&xxh3_64(batch.body(line)).to_le_bytes());
        // Of joined lines also where they end: with further lines it is another record.
        let length = match batch.joined(line) {
            None => 76,
            Some(joined) => {
                bytes[76..].copy_from_slice(&joined.last.to_le_bytes());
                84
            }
        };
        Self(xxh3_128(&bytes[..length]))
    }

    /// Appends its text: 22 letters, digits, dashes and underscores.
    pub fn push(self, out: &mut Vec<u8>) {
        let mut text = [0; 22];
        // Fits: 16 bytes are 22 characters without padding.
        if let Ok(length) = URL_SAFE_NO_PAD.encode_slice(self.0.to_be_bytes(), &mut text) {
            out.extend_from_slice(&text[..length]);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::role::logs::batch::Joined;
    use crate::role::logs::testing::{batch, numbered};

    fn ids(machine: &Machine, batch: &Batch) -> Vec<RecordId> {
        (0..batch.lines.len())
            .map(|line| RecordId::of(machine, batch, &batch.record(line)))
            .collect()
    }

    #[test]
    fn a_repeat_has_the_same_id_and_everything_else_another() {
        let (a, b) = (Machine::new("a"), Machine::new("b"));
        let lines = numbered(0, 0, 100);
        let first = batch(0, &lines);
        // The same read again, and in smaller pieces.
        assert_eq!(ids(&a, &first), ids(&a, &batch(0, &lines)));
        let mut second_half = batch(0, &lines[50..]);
        for position in &mut second_half.positions {
            *position += first.positions[50];
        }
        assert_eq!(ids(&a, &first)[50..], ids(&a, &second_half));

        // Copied and truncated in place: the same inode and offsets, another generation.
        let mut truncated = batch(0, &lines);
        truncated.spans[0].generation += 1;
        let other_file = batch(1, &lines);
        let mut other_device = batch(0, &lines);
        other_device.spans[0].file.device += 1;
        let mut all = HashSet::new();
        for (machine, batch) in [
            (&a, &first),
            // Two daemons of one image, down to the inodes.
            (&b, &first),
            (&a, &truncated),
            (&a, &other_file),
            (&a, &other_device),
        ] {
            all.extend(ids(machine, batch));
        }
        assert_eq!(all.len(), 500);
        // Something else at the same place, as on a clone or after a power cut.
        let mut other_text = numbered(0, 0, 100);
        for line in &mut other_text {
            *line = line.replace(':', ";");
        }
        let other_text = batch(0, &other_text);
        assert_eq!(other_text.positions, first.positions);
        all.extend(ids(&a, &other_text));
        assert_eq!(all.len(), 600);
        let mut again = first.record(0);
        again.ordinal = 1;
        assert!(all.insert(RecordId::of(&a, &first, &again)));
        // The same first line with others joined onto it, fewer or more.
        let mut joined = first.clone();
        for last in [7, 9] {
            joined.joined = vec![Joined { lines: 1, last }];
            assert!(all.insert(RecordId::of(&a, &joined, &joined.record(0))));
            assert!(!all.insert(RecordId::of(&a, &joined, &joined.record(1))));
        }
    }

    #[test]
    fn the_text_is_short_and_safe_and_never_changes() {
        let batch = batch(0, &numbered(0, 0, 1));
        let mut text = Vec::new();
        RecordId::of(&Machine::new("a"), &batch, &batch.record(0)).push(&mut text);
        assert_eq!(String::from_utf8(text).unwrap(), "CNzhsGh8rfyf86_Ysw2f4w");
    }

    #[test]
    fn the_machine_is_read_below_the_nodes_root() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("etc/machine-id");
        fs::create_dir(root.path().join("etc")).unwrap();
        let id = "0123456789abcdef0123456789abcdef";
        fs::write(&path, format!("{id}\n")).unwrap();
        assert_eq!(Machine::of_node(root.path()), Machine::new(id));
        // A first boot, or none: never the same as another machine.
        for unknown in ["uninitialized\n", ""] {
            fs::write(&path, unknown).unwrap();
            assert_ne!(Machine::of_node(root.path()), Machine::of_node(root.path()));
        }
    }
}
