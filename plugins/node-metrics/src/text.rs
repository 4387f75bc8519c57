//! Ways in which the kernel writes numbers.

use bulkhead_sdk::{Context, Error, Result, View};

/// The lines `key value`, with one or more blanks between. Lines without a value are passed over.
pub(crate) fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines()
        .filter_map(|line| line.trim().split_once(char::is_whitespace))
        .map(|(key, value)| (key, value.trim_start()))
}

/// The lines of a file in which names stand that somebody else chose: one that is not UTF-8 costs its
/// line, not the file.
pub(crate) fn lines<'a>(view: &'a View, path: &str) -> Result<impl Iterator<Item = &'a str>> {
    let bytes = match view.get(path) {
        Some(file) if file.error().is_none() && !file.is_cut() => file.bytes(),
        _ => view.text(path)?.as_bytes(),
    };
    Ok(bytes
        .split(|&byte| byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok()))
}

/// A file that holds one whole number.
pub(crate) fn integer_at(view: &View, path: &str) -> Result<u64> {
    view.text(path)?.trim().parse().context(path)
}

/// A whole number to the base 16, without a prefix.
pub(crate) fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// Whether `text` may be a part of a metric's name.
pub(crate) fn is_name_part(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// An error if a collector told nothing although `path` is there.
pub(crate) fn require(told: bool, path: &str) -> Result<()> {
    match told {
        true => Ok(()),
        false => Err(Error::new(format!("{path} makes no sense"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::{hex, is_name_part, pairs};

    #[test]
    fn pairs_pass_over_what_is_none() {
        let found: Vec<_> = pairs("a 1\n\nb\n c\t 2 3 \n").collect();
        assert_eq!(found, [("a", "1"), ("c", "2 3")]);
    }

    #[test]
    fn numbers_and_names() {
        assert_eq!(hex("00ff"), Some(255));
        assert_eq!(hex("xyz"), None);
        assert!(is_name_part("Active_anon"));
        for wrong in ["", "a-b", "a b", "ä", "a:b"] {
            assert!(!is_name_part(wrong), "{wrong:?}");
        }
    }
}
