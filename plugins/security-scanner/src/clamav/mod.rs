//! ClamAV's signatures: of whole files by their hashes (`.hdb`, `.hsb`), and of content (`.ndb`), which
//! become rules ([`crate::yara::Compiler::ndb`]).

mod hashes;
pub(crate) mod ndb;

pub use hashes::{Digests, Hashes};

/// Lines with something on them, and where they begin.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let start = text.as_ptr() as usize;
    let lines = text
        .lines()
        .map(move |line| (line, line.as_ptr() as usize - start));
    lines.filter(|(line, _)| !line.trim().is_empty() && !line.starts_with('#'))
}
