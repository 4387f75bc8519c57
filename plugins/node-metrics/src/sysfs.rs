//! Folders of sysfs in which each file holds one value, grouped by device.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bulkhead_sdk::metrics::Entry;
use bulkhead_sdk::{Result, View, bail};

/// What the node exporter reads of a file at most.
const LONGEST: usize = 128;

/// A folder with its files, which may lie deeper.
#[derive(Debug)]
pub(crate) struct Folder<'a> {
    pub(crate) name: &'a str,
    /// By the path below the folder.
    files: Vec<(&'a str, Entry<'a>)>,
}

/// The folders in `parent` (which ends in `/`) that a collector sees files of, by name.
pub(crate) fn folders<'a>(view: &'a View, parent: &str) -> Vec<Folder<'a>> {
    group(
        view.files()
            .filter_map(|file| Some((file.path().strip_prefix(parent)?, file))),
    )
}

fn group<'a>(files: impl Iterator<Item = (&'a str, Entry<'a>)>) -> Vec<Folder<'a>> {
    let mut groups: BTreeMap<&str, Vec<(&str, Entry)>> = BTreeMap::new();
    for (path, file) in files {
        if let Some((name, rest)) = path.split_once('/') {
            groups.entry(name).or_default().push((rest, file));
        }
    }
    groups
        .into_iter()
        .map(|(name, files)| Folder { name, files })
        .collect()
}

impl<'a> Folder<'a> {
    /// All files, by the path below this folder.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&'a str, Entry<'a>)> {
        self.files.iter().copied()
    }

    /// The folders in this one.
    pub(crate) fn folders(&self) -> Vec<Folder<'a>> {
        group(self.files())
    }

    /// The folder of this name in this one; empty if there is none.
    pub(crate) fn folder(&self, name: &str) -> Folder<'a> {
        let within = |&(path, file): &(&'a str, Entry<'a>)| {
            Some((path.strip_prefix(name)?.strip_prefix('/')?, file))
        };
        Folder {
            name: self.name,
            files: self.files.iter().filter_map(within).collect(),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Option<Entry<'a>> {
        self.files()
            .find_map(|(known, file)| (known == path).then_some(file))
    }

    /// What a file says, if it could be read.
    pub(crate) fn text(&self, path: &str) -> Option<Cow<'a, str>> {
        text(self.get(path)?)
    }

    /// What a file says, if it is a number.
    pub(crate) fn number<T: std::str::FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// The same for a whole number of any base, told by its prefix.
    pub(crate) fn integer(&self, path: &str) -> Option<i128> {
        integer(&self.text(path)?)
    }
}

/// Fails if the class `path`, which is the collector's first want, is not there.
pub(crate) fn require_class(view: &View, path: &str) -> Result<()> {
    match view.want(0).next() {
        Some(_) => Ok(()),
        None => bail!("{path} is not there"),
    }
}

/// Fails if there were devices to tell of, and nothing could be told of any.
pub(crate) fn require_told(devices: &[Folder], told: usize) -> Result<()> {
    match devices.first() {
        Some(first) if told == 0 => bail!("{} and no other can be read", first.name),
        _ => Ok(()),
    }
}

/// What a file says, if it could be read: without blanks around it, and with a replacement character
/// for each run of bytes that are not UTF-8.
pub(crate) fn text(file: Entry<'_>) -> Option<Cow<'_, str>> {
    match file.error() {
        Some(_) => None,
        None => Some(clean(head(file).trim_ascii())),
    }
}

/// The same with blanks, but without newlines around it.
pub(crate) fn line(file: Entry<'_>) -> Option<Cow<'_, str>> {
    match (file.error(), clean(head(file))) {
        (Some(_), _) => None,
        (None, Cow::Borrowed(text)) => Some(Cow::Borrowed(text.trim_matches('\n'))),
        (None, Cow::Owned(text)) => Some(Cow::Owned(text.trim_matches('\n').to_owned())),
    }
}

/// All that a file says, if it could be read, with replacement characters for what is not UTF-8: a wrong
/// byte costs its line, not the file.
pub(crate) fn whole(file: Entry<'_>) -> Option<Cow<'_, str>> {
    match file.error() {
        Some(_) => None,
        // Looked at in words rather than bytes, which the lossy way is not.
        None => Some(match std::str::from_utf8(file.bytes()) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(file.bytes()),
        }),
    }
}

/// The same for the file at `path`.
///
/// # Errors
/// If it is not there, could not be read, or was cut.
pub(crate) fn whole_at<'a>(view: &'a View, path: &str) -> Result<Cow<'a, str>> {
    match view.get(path).filter(|file| !file.is_cut()).and_then(whole) {
        Some(text) => Ok(text),
        None => view.text(path).map(Cow::Borrowed),
    }
}

fn head(file: Entry<'_>) -> &[u8] {
    let bytes = file.bytes();
    bytes.get(..LONGEST).unwrap_or(bytes)
}

fn clean(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(bytes.len());
    let mut was_invalid = false;
    for chunk in bytes.utf8_chunks() {
        if !chunk.valid().is_empty() {
            cleaned.push_str(chunk.valid());
            was_invalid = false;
        }
        if !chunk.invalid().is_empty() && !was_invalid {
            cleaned.push(char::REPLACEMENT_CHARACTER);
            was_invalid = true;
        }
    }
    Cow::Owned(cleaned)
}

/// A whole number of 64 bits, signed or not: decimal, or of the base that its prefix tells, as Go's
/// `strconv.ParseInt` with base 0 has it.
pub(crate) fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let value = if let Some(rest) = prefixed(digits, "0x") {
        u64::from_str_radix(rest, 16)
    } else if let Some(rest) = prefixed(digits, "0b") {
        u64::from_str_radix(rest, 2)
    } else if let Some(rest) = prefixed(digits, "0o") {
        u64::from_str_radix(rest, 8)
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(digits, 8)
    } else {
        digits.parse()
    };
    let value = i128::from(value.ok()?);
    Some(if negative { -value } else { value })
}

fn prefixed<'a>(digits: &'a str, prefix: &str) -> Option<&'a str> {
    let head = digits.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix)
        .then(|| digits.get(prefix.len()..))?
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::{clean, integer};
    use proptest::prelude::*;

    #[test]
    fn numbers_have_the_base_of_their_prefix() {
        for (text, value) in [
            ("42", Some(42)),
            ("-42", Some(-42)),
            ("0xffffffffffffffff", Some(i128::from(u64::MAX))),
            ("0X1f", Some(31)),
            ("0b11", Some(3)),
            ("0o17", Some(15)),
            ("017", Some(15)),
            ("0", Some(0)),
            ("", None),
            ("-", None),
            ("0x", None),
            ("1 2", None),
            ("18446744073709551616", None),
        ] {
            assert_eq!(integer(text), value, "{text:?}");
        }
    }

    #[test]
    fn a_run_of_wrong_bytes_is_one_replacement_character() {
        assert_eq!(clean(b"a\xff\xfe\xfdb\xff"), "a\u{fffd}b\u{fffd}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = integer(&clean(&bytes));
        }
    }
}
