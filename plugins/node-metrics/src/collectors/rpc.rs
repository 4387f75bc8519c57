//! The format of `/proc/net/rpc`: lines of a word and numbers.

use bulkhead_sdk::metrics::FamilyId;
use bulkhead_sdk::{Families, Result, bail};

/// Methods of NFS 2, in the order of their numbers.
#[rustfmt::skip]
pub(super) const NFS2: &[&str] = &[
    "Null", "GetAttr", "SetAttr", "Root", "Lookup", "ReadLink", "Read", "WrCache", "Write", "Create",
    "Remove", "Rename", "Link", "SymLink", "MkDir", "RmDir", "ReadDir", "FsStat",
];

/// Methods of NFS 3, in the order of their numbers.
#[rustfmt::skip]
pub(super) const NFS3: &[&str] = &[
    "Null", "GetAttr", "SetAttr", "Lookup", "Access", "ReadLink", "Read", "Write", "Create", "MkDir",
    "SymLink", "MkNod", "Remove", "RmDir", "Rename", "Link", "ReadDir", "ReadDirPlus", "FsStat",
    "FsInfo", "PathConf", "Commit",
];

/// A file's lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines<'a>(&'a str);

impl<'a> Lines<'a> {
    /// # Errors
    /// If there is no line at all that begins with one of `words`.
    pub(super) fn new(text: &'a str, words: &[&str]) -> Result<Self> {
        let lines = Self(text);
        match words.iter().any(|word| lines.after(word).is_some()) {
            true => Ok(lines),
            false => bail!("not a line of it is known"),
        }
    }

    fn after(self, word: &str) -> Option<&'a str> {
        self.0
            .lines()
            .filter_map(|line| line.split_once(' '))
            .find_map(|(first, rest)| (first == word).then_some(rest))
    }

    /// The `N` numbers of a line. All are 0 if the line is not there: then this kernel does not count
    /// them.
    pub(super) fn numbers<const N: usize>(self, word: &str) -> Option<[u64; N]> {
        let mut numbers = [0; N];
        if let Some(rest) = self.after(word) {
            let mut fields = rest.split_ascii_whitespace();
            for number in &mut numbers {
                *number = fields.next()?.parse().ok()?;
            }
            // The thread line goes on with a histogram that is not told any more.
            if fields.next().is_some() && word != "th" {
                return None;
            }
        }
        Some(numbers)
    }

    /// How often each method was called, from a line that begins with how many numbers follow, of
    /// which `least` must be there. What this kernel does not count is 0.
    fn counts(self, word: &str, least: usize) -> Option<Vec<u64>> {
        let Some(rest) = self.after(word) else {
            return Some(Vec::new());
        };
        let numbers: Option<Vec<u64>> = rest
            .split_ascii_whitespace()
            .map(|number| number.parse().ok())
            .collect();
        let (length, counts) = numbers?
            .split_first()
            .map(|(n, rest)| (*n, rest.to_vec()))?;
        (length == counts.len() as u64 && counts.len() >= least).then_some(counts)
    }

    /// Adds a series for each method of `methods` that has a name.
    pub(super) fn tell_methods(
        self,
        (word, proto): (&str, &str),
        methods: &[&str],
        least: usize,
        family: FamilyId,
        out: &mut Families,
    ) {
        let Some(counts) = self.counts(word, least) else {
            return;
        };
        for (index, method) in methods.iter().enumerate() {
            if !method.is_empty() {
                let count = counts.get(index).copied().unwrap_or_default();
                let labels = [("proto", proto), ("method", *method)];
                out.add(family, &labels, count as f64);
            }
        }
    }
}
