//! Which folders a pass came to, in one MiB however many there are.

use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::xxh3_128;

use crate::role::scanning::feed::facts::FileKey;

/// As bits.
const BITS: u64 = 1 << 23;
const PER_FOLDER: u32 = 4;

/// A Bloom filter: a few folders that were not seen look as if they were, and are forgotten by a later
/// pass; none the other way round.
#[derive(Debug)]
pub(in super::super) struct Seen {
    words: Box<[AtomicU64]>,
    /// Makes other folders look seen in another pass.
    salt: u64,
}

impl Seen {
    pub(in super::super) fn new() -> Self {
        Self {
            words: (0..BITS / 64).map(|_| AtomicU64::new(0)).collect(),
            salt: fastrand::u64(..),
        }
    }

    pub(in super::super) fn add(&self, subscriber: u32, folder: FileKey) {
        for (word, bit) in self.places(subscriber, folder) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    pub(in super::super) fn has(&self, subscriber: u32, folder: FileKey) -> bool {
        self.places(subscriber, folder)
            .all(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    fn places(&self, subscriber: u32, folder: FileKey) -> impl Iterator<Item = (&AtomicU64, u64)> {
        let mut bytes = [0; 28];
        let (salt, rest) = bytes.split_at_mut(8);
        salt.copy_from_slice(&self.salt.to_le_bytes());
        let (device, rest) = rest.split_at_mut(8);
        device.copy_from_slice(&folder.device.to_le_bytes());
        let (inode, rest) = rest.split_at_mut(8);
        inode.copy_from_slice(&folder.inode.to_le_bytes());
        rest.copy_from_slice(&subscriber.to_le_bytes());
        let hash = xxh3_128(&bytes);
        (0..PER_FOLDER).filter_map(move |n| {
            let place = (hash >> (n * 32)) as u64 % BITS;
            let word = self.words.get((place / 64) as usize)?;
            Some((word, 1 << (place % 64)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_and_hardly_anything_else() {
        let seen = Seen::new();
        let folder = |inode| FileKey { device: 7, inode };
        (0..100_000).for_each(|inode| seen.add(1, folder(inode)));
        assert!((0..100_000).all(|inode| seen.has(1, folder(inode))));
        let wrong = (0..100_000).filter(|inode| seen.has(2, folder(*inode)));
        assert!(wrong.count() < 100);
    }
}
