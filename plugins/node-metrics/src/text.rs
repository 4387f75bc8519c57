//! Ways in which the kernel writes numbers.

/// The lines `key value`, with one or more blanks between. Lines without a value are passed over.
pub(crate) fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines()
        .filter_map(|line| line.trim().split_once(char::is_whitespace))
        .map(|(key, value)| (key, value.trim_start()))
}
