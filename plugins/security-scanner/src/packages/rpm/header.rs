//! A package's header: a table of tags, and where their values are.

use super::super::installed::{Package, package as named};
use super::number;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const SOURCE: u32 = 1044;

/// Kinds of values.
const INT32: u32 = 4;
const STRING: u32 = 6;

/// Tags of one header: rpm allows no more.
const MAX_TAGS: usize = 0xffff;
/// A name, a version or the name of a source's file is never longer.
const MAX_TEXT: usize = 512;
/// Bytes before the table, and of one tag in it.
const PREFIX: usize = 8;
const TAG: usize = 16;

/// What the beginning of a header comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    Package(Package),
    /// A header without what makes a package, or the key of a signature.
    Other,
    /// So many bytes are needed.
    More(usize),
    Damaged,
}

/// Where a value is that is needed.
#[derive(Debug, Clone, Copy)]
struct Place {
    kind: u32,
    at: usize,
}

/// The package, from the first bytes of its header.
pub(super) fn package(bytes: &[u8]) -> Read {
    let word = |at| number::<4>(bytes, at).map(|it| u32::from_be_bytes(it) as usize);
    let (Some(tags), Some(data)) = (word(0), word(4)) else {
        return Read::Damaged;
    };
    if tags > MAX_TAGS {
        return Read::Damaged;
    }
    let start = PREFIX + tags * TAG;
    let Some(table) = bytes.get(PREFIX..start) else {
        return Read::More(start);
    };
    let mut places = [None; 5];
    for entry in table.chunks_exact(TAG) {
        let word = |at| number::<4>(entry, at).map_or(0, u32::from_be_bytes);
        let known = [NAME, VERSION, RELEASE, EPOCH, SOURCE];
        if let Some(i) = known.iter().position(|tag| *tag == word(0)) {
            let (kind, at) = (word(4), word(8) as usize);
            if at >= data {
                return Read::Damaged;
            }
            let at = start.saturating_add(at);
            places[i] = Some(Place { kind, at });
        }
    }
    let end = start.saturating_add(data);
    // What is needed of the last of them, if there is so much.
    let last = places.iter().flatten().map(|it| it.at).max().unwrap_or(0);
    let needed = last.saturating_add(MAX_TEXT).min(end);
    if bytes.len() < needed {
        return Read::More(needed);
    }
    let text = |i: usize| {
        let place: Place = places[i].filter(|it: &Place| it.kind == STRING)?;
        let rest = bytes.get(place.at..end.min(bytes.len()))?;
        let length = memchr::memchr(0, rest.get(..MAX_TEXT).unwrap_or(rest))?;
        std::str::from_utf8(&rest[..length]).ok()
    };
    let (Some(name), Some(version), Some(release)) = (text(0), text(1), text(2)) else {
        return Read::Other;
    };
    if name == "gpg-pubkey" {
        return Read::Other;
    }
    let epoch = places[3].filter(|it| it.kind == INT32);
    let epoch = epoch.and_then(|it| number::<4>(bytes, it.at));
    let with_epoch = |version: &str, release: &str| match epoch.map(u32::from_be_bytes) {
        None | Some(0) => format!("{version}-{release}"),
        Some(epoch) => format!("{epoch}:{version}-{release}"),
    };
    let full = with_epoch(version, release);
    // The name of a file, without its epoch: that of the package, nearly always.
    let source = text(4).and_then(source);
    let (source, of) = match source {
        Some((source, version, release)) => (source, with_epoch(version, release)),
        None => (name, full.clone()),
    };
    Read::Package(named(name, &full, source, &of))
}

/// `NAME-VERSION-RELEASE.src.rpm`.
fn source(file: &str) -> Option<(&str, &str, &str)> {
    let stem = file.strip_suffix(".rpm")?;
    let stem = stem
        .strip_suffix(".src")
        .or_else(|| stem.strip_suffix(".nosrc"))?;
    let (rest, release) = stem.rsplit_once('-')?;
    let (name, version) = rest.rsplit_once('-')?;
    Some((name, version, release))
}
