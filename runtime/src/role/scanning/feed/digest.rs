//! Digests of whole files, computed as they are read.

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// Which digests somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// SHA-256, 32 bytes.
    pub sha256: bool,
    /// SHA-1, 20 bytes.
    pub sha1: bool,
    /// MD5, 16 bytes.
    pub md5: bool,
    /// BLAKE3, 32 bytes.
    pub blake3: bool,
}

impl Wanted {
    /// Whether there is any.
    pub fn any(self) -> bool {
        self.sha256 || self.sha1 || self.md5 || self.blake3
    }

    /// What either wants.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            sha256: self.sha256 || other.sha256,
            sha1: self.sha1 || other.sha1,
            md5: self.md5 || other.md5,
            blake3: self.blake3 || other.blake3,
        }
    }
}

/// Digests in the making.
#[derive(Default)]
pub(super) struct Hashers {
    sha256: Option<Sha256>,
    sha1: Option<Sha1>,
    md5: Option<Md5>,
    blake3: Option<Box<blake3::Hasher>>,
}

impl Hashers {
    pub(super) fn of(wanted: Wanted) -> Self {
        Self {
            sha256: wanted.sha256.then(Sha256::new),
            sha1: wanted.sha1.then(Sha1::new),
            md5: wanted.md5.then(Md5::new),
            blake3: wanted.blake3.then(Box::default),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        // In pieces that stay in the processor's cache from one to the next.
        for bytes in bytes.chunks(64 << 10) {
            if let Some(hasher) = &mut self.sha256 {
                hasher.update(bytes);
            }
            if let Some(hasher) = &mut self.sha1 {
                hasher.update(bytes);
            }
            if let Some(hasher) = &mut self.md5 {
                hasher.update(bytes);
            }
            if let Some(hasher) = &mut self.blake3 {
                hasher.update(bytes);
            }
        }
    }

    pub(super) fn finish(self) -> Digests {
        Digests {
            sha256: self.sha256.map(|it| it.finalize().into()),
            sha1: self.sha1.map(|it| it.finalize().into()),
            md5: self.md5.map(|it| it.finalize().into()),
            blake3: self.blake3.map(|it| it.finalize().into()),
        }
    }
}

/// Digests of one file; all that anybody wants of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Digests {
    sha256: Option<[u8; 32]>,
    sha1: Option<[u8; 20]>,
    md5: Option<[u8; 16]>,
    blake3: Option<[u8; 32]>,
}

impl Digests {
    /// Appends what is wanted, in the contract's order; nothing if they were not computed.
    pub(super) fn write(&self, wanted: Wanted, to: &mut Vec<u8>) {
        let parts: [(bool, Option<&[u8]>); 4] = [
            (
                wanted.sha256,
                self.sha256.as_ref().map(<[u8; 32]>::as_slice),
            ),
            (wanted.sha1, self.sha1.as_ref().map(<[u8; 20]>::as_slice)),
            (wanted.md5, self.md5.as_ref().map(<[u8; 16]>::as_slice)),
            (
                wanted.blake3,
                self.blake3.as_ref().map(<[u8; 32]>::as_slice),
            ),
        ];
        for (wanted, digest) in parts {
            if let (true, Some(digest)) = (wanted, digest) {
                to.extend_from_slice(digest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Known answers: FIPS 180, RFC 1321, and `b3sum` of `abc`.
    #[test]
    fn digests_are_what_the_standards_say_in_the_contracts_order() {
        let all = Wanted {
            sha256: true,
            sha1: true,
            md5: true,
            blake3: true,
        };
        let mut hashers = Hashers::of(all);
        hashers.update(b"a");
        hashers.update(b"bc");
        let digests = hashers.finish();
        let mut bytes = Vec::new();
        digests.write(all, &mut bytes);
        assert_eq!(
            hex(&bytes),
            concat!(
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                "a9993e364706816aba3e25717850c26c9cd0d89d",
                "900150983cd24fb0d6963f7d28e17f72",
                "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
            )
        );
        let mut bytes = Vec::new();
        let one = Wanted {
            md5: true,
            ..Wanted::default()
        };
        digests.write(one, &mut bytes);
        assert_eq!(hex(&bytes), "900150983cd24fb0d6963f7d28e17f72");
    }
}
