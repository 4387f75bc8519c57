//! What is in archives: zip, tar, gzip and zstd, also in each other.
//!
//! Everything that is looked at counts against one budget, and what is unpacked lives no longer than
//! that. So memory and work are bounded by [`Limits::unpacked`] whatever an archive claims to hold, also
//! if all its members are the same bytes of it.

mod tar;
mod unpack;
mod zip;

use std::fmt;

/// How much of an archive is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Archives in archives.
    pub depth: usize,
    /// Bytes of all members of one file, all levels together. A member that is smaller than what it is
    /// packed in counts as that.
    pub unpacked: u64,
    /// Bytes that one byte becomes at most, a bomb otherwise.
    pub ratio: u64,
    /// Members of one file, all levels together.
    pub members: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 8,
            unpacked: 32 << 20,
            ratio: 1000,
            members: 100_000,
        }
    }
}

/// Why something in an archive was not looked at, or not all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// More archives in archives than the limit.
    TooDeep,
    /// More bytes than the limit.
    TooLarge,
    /// More members than the limit.
    TooMany,
    /// More bytes than honest content of its packed size has.
    Bomb,
    /// It does not follow its format.
    Damaged,
    /// Only who has the password can look at it.
    Encrypted,
    /// It follows a part of its format that is not read here.
    Unsupported,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooDeep => "archives are nested too deeply",
            Self::TooLarge => "more is packed than may be unpacked of one file",
            Self::TooMany => "there are too many members",
            Self::Bomb => "a little unpacks to far too much",
            Self::Damaged => "the archive is damaged",
            Self::Encrypted => "the content is encrypted",
            Self::Unsupported => "a method of packing is not supported",
        })
    }
}

/// What is looked at: the file itself, or something in it.
#[derive(Debug)]
pub struct Member<'m> {
    /// The names from the outermost archive inwards; none for the file itself.
    pub path: &'m [String],
    /// The content, or as much of its beginning as could be unpacked.
    pub data: &'m [u8],
}

/// Calls `visit` with a file and everything in it. Answers what could not be looked at, with its path.
pub fn walk(
    data: &[u8],
    limits: Limits,
    visit: &mut dyn FnMut(Member<'_>),
) -> Vec<(Vec<String>, Trouble)> {
    let mut walk = Walk {
        limits,
        unpacked: limits.unpacked,
        members: limits.members,
        path: Vec::new(),
        troubles: Vec::new(),
        visit,
    };
    walk.content(data);
    walk.troubles
}

struct Walk<'w> {
    limits: Limits,
    /// How many bytes may still be unpacked.
    unpacked: u64,
    members: usize,
    path: Vec<String>,
    troubles: Vec<(Vec<String>, Trouble)>,
    visit: &'w mut dyn FnMut(Member<'_>),
}

/// Reports beyond these are left out: a million members may all be damaged.
const MAX_TROUBLES: usize = 100;
/// Names that are longer are cut: each may be as long as 64 KiB.
const MAX_NAME: usize = 255;

impl Walk<'_> {
    fn trouble(&mut self, trouble: Trouble) {
        if self.troubles.len() < MAX_TROUBLES {
            self.troubles.push((self.path.clone(), trouble));
        }
    }

    fn content(&mut self, data: &[u8]) {
        (self.visit)(Member {
            path: &self.path,
            data,
        });
        let Some(format) = Format::of(data) else {
            return;
        };
        if self.path.len() >= self.limits.depth {
            return self.trouble(Trouble::TooDeep);
        }
        match format {
            Format::Zip => zip::members(self, data),
            Format::Tar => tar::members(self, data),
            Format::Gzip => self.packed("gzip", unpack::gzip(data), data.len()),
            Format::Zstd => self.packed("zstd", unpack::zstd(data), data.len()),
        }
    }

    /// A member that is there as it is.
    fn plain(&mut self, name: &[u8], data: &[u8]) {
        if !self.count() {
            return;
        }
        self.enter(&String::from_utf8_lossy(name));
        match self.unpacked.checked_sub(data.len() as u64) {
            Some(rest) => {
                self.unpacked = rest;
                self.content(data);
            }
            None => self.trouble(Trouble::TooLarge),
        }
        self.path.pop();
    }

    fn enter(&mut self, name: &str) {
        self.path
            .push(name[..name.floor_char_boundary(MAX_NAME)].to_owned());
    }

    /// A member that `reader` unpacks from `size` bytes.
    fn packed(&mut self, name: &str, reader: impl std::io::Read, size: usize) {
        if !self.count() {
            return;
        }
        self.enter(name);
        let size = size as u64;
        if size > self.unpacked {
            self.trouble(Trouble::TooLarge);
            self.path.pop();
            return;
        }
        let honest = size.saturating_mul(self.limits.ratio);
        let honest = honest.saturating_add(1 << 16);
        let limit = honest.min(self.unpacked);
        let (content, end) = unpack::read(reader, limit);
        // Reading is work as well, whatever becomes of it.
        let cost = size.max(content.len() as u64);
        self.unpacked = self.unpacked.saturating_sub(cost);
        match end {
            unpack::End::Reached => {}
            unpack::End::Limit if honest <= limit => self.trouble(Trouble::Bomb),
            unpack::End::Limit => self.trouble(Trouble::TooLarge),
            unpack::End::Damaged => self.trouble(Trouble::Damaged),
        }
        self.content(&content);
        self.path.pop();
    }

    fn count(&mut self) -> bool {
        let any = self.members > 0;
        if any {
            self.members -= 1;
        } else if self
            .troubles
            .last()
            .is_none_or(|(_, last)| *last != Trouble::TooMany)
        {
            self.trouble(Trouble::TooMany);
        }
        any
    }
}

enum Format {
    Zip,
    Tar,
    Gzip,
    Zstd,
}

impl Format {
    fn of(data: &[u8]) -> Option<Self> {
        match data {
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Some(Self::Zip),
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ => tar::is_header(data).then_some(Self::Tar),
        }
    }
}
