//! How values lie in the store: one byte that names the layout, then postcard.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A file as the kernel knows it, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// The hash of a file's first bytes: tells a file from another that got its inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Fingerprint {
    /// How many bytes were hashed.
    pub length: u32,
    /// Their hash.
    pub hash: u64,
}

/// The last bytes before an offset of a file: whether they still stand there tells whether the file has
/// what was read of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Footprint {
    /// Where they end.
    pub offset: u64,
    /// How many were hashed.
    pub length: u32,
    /// Their hash.
    pub hash: u64,
}

/// How far one file was shipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Counts truncations and changed fingerprints of this inode.
    pub generation: u64,
    /// What the file began with.
    pub fingerprint: Fingerprint,
    /// Where the file was last seen. For people and hints; the key is the [`FileId`].
    pub path: PathBuf,
    /// Destination name, and the offset in bytes before which it acknowledged everything.
    pub marks: Vec<(String, u64)>,
    /// What stood before these offsets, as far as it is known; each once.
    pub footprints: Vec<Footprint>,
    /// When this was recorded.
    pub updated: SystemTime,
}

/// The layout of all values but checkpoints, and of checkpoints before they had footprints; the first
/// byte of each value.
const LAYOUT: u8 = 1;
/// The layout of checkpoints that this daemon writes: the former, then the footprints.
const FOOTPRINTS: u8 = 2;

#[derive(Serialize, Deserialize)]
struct StoredCheckpoint {
    generation: u64,
    fingerprint_length: u32,
    fingerprint_hash: u64,
    // Paths are bytes on Linux, not text.
    path: Vec<u8>,
    marks: Vec<(String, u64)>,
    updated: Stamp,
}

/// A time since 1970; earlier ones (a clock that was never set) become 1970.
#[derive(Serialize, Deserialize, Clone, Copy)]
pub(super) struct Stamp {
    seconds: u64,
    nanos: u32,
}

impl From<SystemTime> for Stamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            seconds: since.as_secs(),
            nanos: since.subsec_nanos(),
        }
    }
}

impl Stamp {
    fn time(self) -> Option<SystemTime> {
        // Duration::new would panic on a carry past the last second.
        let since = Duration::from_secs(self.seconds)
            .checked_add(Duration::from_nanos(u64::from(self.nanos)))?;
        UNIX_EPOCH.checked_add(since)
    }
}

/// What a plugin's record holds.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredPlugin {
    first_seen: Stamp,
    last_seen: Stamp,
    deleted_at: Option<Stamp>,
}

impl StoredPlugin {
    pub(super) fn new(first: SystemTime, last: SystemTime, deleted: Option<SystemTime>) -> Self {
        Self {
            first_seen: first.into(),
            last_seen: last.into(),
            deleted_at: deleted.map(Stamp::from),
        }
    }

    /// First seen, last seen, deleted.
    pub(super) fn times(&self) -> Option<(SystemTime, SystemTime, Option<SystemTime>)> {
        let deleted = match self.deleted_at {
            Some(stamp) => Some(stamp.time()?),
            None => None,
        };
        Some((self.first_seen.time()?, self.last_seen.time()?, deleted))
    }
}

impl Checkpoint {
    pub(super) fn encode(&self) -> Vec<u8> {
        let stored = StoredCheckpoint {
            generation: self.generation,
            fingerprint_length: self.fingerprint.length,
            fingerprint_hash: self.fingerprint.hash,
            path: self.path.as_os_str().as_bytes().to_vec(),
            marks: self.marks.clone(),
            updated: self.updated.into(),
        };
        tagged(FOOTPRINTS, &(stored, &self.footprints))
    }

    /// Nothing if the bytes are no checkpoint.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (stored, footprints): (StoredCheckpoint, Vec<Footprint>) = match bytes.split_first()? {
            (&FOOTPRINTS, body) => whole(body)?,
            _ => (decode(bytes)?, Vec::new()),
        };
        Some(Self {
            generation: stored.generation,
            fingerprint: Fingerprint {
                length: stored.fingerprint_length,
                hash: stored.fingerprint_hash,
            },
            path: OsString::from_vec(stored.path).into(),
            marks: stored.marks,
            footprints,
            updated: stored.updated.time()?,
        })
    }
}

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    tagged(LAYOUT, value)
}

fn tagged<T: Serialize>(layout: u8, value: &T) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "writing to a growing vector cannot fail, and the types here are plain data of known lengths"
    )]
    postcard::to_extend(value, vec![layout]).expect("plain data serializes")
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (&LAYOUT, body) = bytes.split_first()? else {
        return None;
    };
    whole(body)
}

fn whole<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(body).ok()?;
    rest.is_empty().then_some(value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn checkpoints() -> impl Strategy<Value = Checkpoint> {
        (
            any::<u64>(),
            any::<(u32, u64)>(),
            proptest::collection::vec(1u8..=255, 0..200),
            proptest::collection::vec(("\\PC{0,40}", any::<u64>()), 0..64),
            proptest::collection::vec(any::<(u64, u32, u64)>(), 0..3),
            (0u64..1 << 40, 0u32..1_000_000_000),
        )
            .prop_map(
                |(generation, print, path, marks, footprints, time)| Checkpoint {
                    generation,
                    fingerprint: Fingerprint {
                        length: print.0,
                        hash: print.1,
                    },
                    path: OsString::from_vec(path).into(),
                    marks,
                    footprints: footprints
                        .into_iter()
                        .map(|(offset, length, hash)| Footprint {
                            offset,
                            length,
                            hash,
                        })
                        .collect(),
                    updated: UNIX_EPOCH + Duration::new(time.0, time.1),
                },
            )
    }

    proptest! {
        #[test]
        fn a_checkpoint_comes_back_as_it_was(checkpoint in checkpoints()) {
            prop_assert_eq!(Checkpoint::decode(&checkpoint.encode()), Some(checkpoint));
        }

        #[test]
        fn a_shortened_or_lengthened_value_is_refused(checkpoint in checkpoints(), cut in any::<prop::sample::Index>()) {
            let mut bytes = checkpoint.encode();
            prop_assert_eq!(Checkpoint::decode(&bytes[..cut.index(bytes.len())]), None);
            bytes.push(0);
            prop_assert_eq!(Checkpoint::decode(&bytes), None);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Checkpoint::decode(&bytes);
            let mut tagged = vec![LAYOUT];
            tagged.extend(&bytes);
            let _ = Checkpoint::decode(&tagged);
            tagged[0] = FOOTPRINTS;
            let _ = Checkpoint::decode(&tagged);
            tagged[0] = LAYOUT;
            let _ = decode::<StoredPlugin>(&tagged).and_then(|p| p.times());
        }
    }

    proptest! {
        #[test]
        fn a_checkpoint_from_before_footprints_has_none(checkpoint in checkpoints()) {
            let bytes = checkpoint.encode();
            let footprints = postcard::to_allocvec(&checkpoint.footprints).unwrap();
            let mut before = bytes[..bytes.len() - footprints.len()].to_vec();
            before[0] = LAYOUT;
            let expected = Checkpoint { footprints: Vec::new(), ..checkpoint };
            prop_assert_eq!(Checkpoint::decode(&before), Some(expected));
        }
    }

    #[test]
    fn another_layout_is_not_guessed_at() {
        let mut bytes = StoredPlugin::new(UNIX_EPOCH, UNIX_EPOCH, None);
        bytes.deleted_at = Some(Stamp {
            seconds: u64::MAX,
            nanos: u32::MAX,
        });
        assert!(
            bytes.times().is_none(),
            "a time past the end of time is no time"
        );
        let mut encoded = encode(&bytes);
        encoded[0] = LAYOUT + 1;
        assert!(decode::<StoredPlugin>(&encoded).is_none());
    }
}
