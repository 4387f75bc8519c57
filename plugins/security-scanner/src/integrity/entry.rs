//! What is known of one file, and how it is stored.

use bulkhead_sdk::scanning::{File, FileKind, Finding};
use sha2::{Digest as _, Sha256};

/// Sizes of what follows the path.
const KIND: usize = 1;
const NUMBERS: usize = 12;
const DIGEST: usize = 32;
const ATTRIBUTES: usize = 16;
const FIXED: usize = KIND + NUMBERS + DIGEST + ATTRIBUTES;

/// A file as it was, or is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    kind: u8,
    pub(super) mode: u32,
    uid: u32,
    gid: u32,
    /// SHA-256 of the content; zeros for what has none.
    content: [u8; DIGEST],
    /// The beginning of the SHA-256 of extended attributes, or of where a link points to.
    attributes: [u8; ATTRIBUTES],
}

impl Entry {
    pub(super) fn of(file: &File<'_>) -> Self {
        let mut digest = Sha256::new();
        match file.target() {
            Some(target) => digest.update(target),
            None => {
                let mut all: Vec<_> = file.attributes().collect();
                all.sort_unstable();
                for part in all.iter().flat_map(|(name, value)| [name, value]) {
                    digest.update((part.len() as u64).to_le_bytes());
                    digest.update(part);
                }
            }
        }
        let digest: [u8; 32] = digest.finalize().into();
        Self {
            kind: number(file.kind()),
            mode: file.mode(),
            uid: file.uid(),
            gid: file.gid(),
            content: file.sha256().copied().unwrap_or_default(),
            attributes: std::array::from_fn(|i| digest[i]),
        }
    }

    /// Which of its properties are not those of `other`.
    pub(super) fn differences(&self, other: &Self) -> Vec<&'static str> {
        let all = [
            ("kind", self.kind != other.kind),
            ("content", self.content != other.content),
            ("mode", self.mode != other.mode),
            ("owner", self.uid != other.uid),
            ("group", self.gid != other.gid),
            (
                if self.kind == number(FileKind::Symlink) {
                    "target"
                } else {
                    "attributes"
                },
                self.attributes != other.attributes,
            ),
        ];
        let differing = all.into_iter().filter(|(_, differs)| *differs);
        differing.map(|(name, _)| name).collect()
    }

    /// Adds it to the evidence, each property as `WHEN.NAME`.
    pub(super) fn tell<'f>(&self, finding: Finding<'f>, when: &str) -> Finding<'f> {
        let name = |name: &str| format!("{when}.{name}");
        let finding = finding
            .evidence(
                &name("kind"),
                NAMES.get(usize::from(self.kind)).copied().unwrap_or("?"),
            )
            .evidence(&name("mode"), format!("{:04o}", self.mode))
            .evidence(&name("uid"), self.uid)
            .evidence(&name("gid"), self.gid)
            .evidence(&name("attributes"), hex(&self.attributes));
        match self.kind {
            0 => finding.evidence(&name("sha256"), hex(&self.content)),
            _ => finding,
        }
    }

    /// Appends a record.
    pub(super) fn write(&self, path: &[u8], out: &mut Vec<u8>) {
        // Linux has no path that is longer.
        let length = u16::try_from(path.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&path[..length.into()]);
        out.push(self.kind);
        for number in [self.mode, self.uid, self.gid] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.content);
        out.extend_from_slice(&self.attributes);
    }

    /// A record and what follows it.
    pub(super) fn read(data: &[u8]) -> Option<(&[u8], Self, &[u8])> {
        let (length, rest) = data.split_first_chunk()?;
        let (path, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
        let (fixed, rest) = rest.split_first_chunk::<FIXED>()?;
        let number = |at| fixed[at..].first_chunk().copied().map(u32::from_le_bytes);
        let entry = Self {
            kind: fixed[0],
            mode: number(1)?,
            uid: number(5)?,
            gid: number(9)?,
            content: *fixed[KIND + NUMBERS..].first_chunk()?,
            attributes: *fixed[KIND + NUMBERS + DIGEST..].first_chunk()?,
        };
        Some((path, entry, rest))
    }
}

const NAMES: [&str; 7] = [
    "file",
    "directory",
    "symlink",
    "fifo",
    "socket",
    "block device",
    "character device",
];

fn number(kind: FileKind) -> u8 {
    match kind {
        FileKind::File => 0,
        FileKind::Directory => 1,
        FileKind::Symlink => 2,
        FileKind::Fifo => 3,
        FileKind::Socket => 4,
        FileKind::BlockDevice => 5,
        FileKind::CharacterDevice => 6,
    }
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
