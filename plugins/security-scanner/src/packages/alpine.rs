//! Versions of Alpine, compared as apk compares them.

use std::cmp::Ordering;

use super::number;

/// What comes before the version without it, and what comes after.
const SUFFIXES: [(&str, i8); 9] = [
    ("alpha", -4),
    ("beta", -3),
    ("pre", -2),
    ("rc", -1),
    ("cvs", 1),
    ("svn", 2),
    ("git", 3),
    ("hg", 4),
    ("p", 5),
];

/// Parts of a version. Where two versions have different ones, the one that is first here is larger.
#[derive(Debug, Clone, Copy)]
enum Part<'v> {
    Number(&'v str),
    Letter(char),
    Suffix(i8),
    SuffixNumber(&'v str),
    Revision(&'v str),
    End,
}

impl Part<'_> {
    fn kind(self) -> u8 {
        match self {
            Self::Number(_) => 0,
            Self::Letter(_) => 1,
            Self::Suffix(_) => 2,
            Self::SuffixNumber(_) => 3,
            Self::Revision(_) => 4,
            Self::End => 5,
        }
    }
}

/// `N{.N}[LETTER]{_SUFFIX[N]}[-rN]`; none if one of them is not so.
pub(super) fn compare<'a>(a: &'a str, b: &'a str) -> Option<Ordering> {
    let (a, b) = (parts(a)?, parts(b)?);
    for i in 0..a.len().max(b.len()) {
        let at = |parts: &[Part<'a>]| parts.get(i).copied().unwrap_or(Part::End);
        let order = match (at(&a), at(&b)) {
            (Part::Number(a), Part::Number(b))
                if i > 0 && (a.starts_with('0') || b.starts_with('0')) =>
            {
                a.cmp(b)
            }
            (Part::Number(a), Part::Number(b))
            | (Part::SuffixNumber(a), Part::SuffixNumber(b))
            | (Part::Revision(a), Part::Revision(b)) => number(a).cmp(&number(b)),
            (Part::Letter(a), Part::Letter(b)) => a.cmp(&b),
            (Part::Suffix(a), Part::Suffix(b)) => a.cmp(&b),
            (Part::End, Part::End) => Ordering::Equal,
            (Part::Suffix(before), _) if before < 0 => Ordering::Less,
            (_, Part::Suffix(before)) if before < 0 => Ordering::Greater,
            (a, b) => b.kind().cmp(&a.kind()),
        };
        if order.is_ne() {
            return Some(order);
        }
    }
    Some(Ordering::Equal)
}

fn parts(version: &str) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let (first, mut rest) = digits(version)?;
    parts.push(Part::Number(first));
    while let Some(after) = rest.strip_prefix('.') {
        let (next, after) = digits(after)?;
        parts.push(Part::Number(next));
        rest = after;
    }
    if let Some(letter) = rest.chars().next().filter(char::is_ascii_lowercase) {
        parts.push(Part::Letter(letter));
        rest = &rest[1..];
    }
    while let Some(after) = rest.strip_prefix('_') {
        let known = |(name, order): &(&str, i8)| Some((after.strip_prefix(name)?, *order));
        let (after, order) = SUFFIXES.iter().find_map(known)?;
        parts.push(Part::Suffix(order));
        rest = after;
        if let Some((number, after)) = digits(rest) {
            parts.push(Part::SuffixNumber(number));
            rest = after;
        }
    }
    if let Some(after) = rest.strip_prefix("-r") {
        let (revision, after) = digits(after)?;
        parts.push(Part::Revision(revision));
        rest = after;
    }
    rest.is_empty().then_some(parts)
}

/// One digit at least, and what follows.
fn digits(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|it: char| !it.is_ascii_digit())
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_the_order_of_apk() {
        for (smaller, larger) in [
            ("1.0", "1.1"),
            ("1.9", "1.10"),
            ("1.2.3-r0", "1.2.3-r1"),
            ("1.2.3-r9", "1.2.3-r10"),
            ("1.0_alpha1", "1.0_beta1"),
            ("1.0_rc1", "1.0"),
            ("1.0", "1.0_p1"),
            ("1.0_rc1", "1.0_rc2"),
            ("1.0_alpha", "1.0_alpha1"),
            ("1.0_pre1", "1.0_rc1"),
            ("1.0", "1.0a"),
            ("1.0a", "1.0b"),
            ("1.0a", "1.0.1"),
            ("1.0", "1.0.0"),
            ("1.0", "1.0-r0"),
            ("1.0_rc1-r3", "1.0-r0"),
            ("1.0_p1", "1.0a"),
            ("1.05", "1.5"),
            ("1.005", "1.05"),
            ("1.0_git20230101", "1.0_git20230102"),
            ("3.0.12-r4", "3.0.12-r5"),
            ("1.1.1t-r2", "1.1.1u-r0"),
            ("9", "10"),
            ("1.0_cvs1", "1.0_p1"),
        ] {
            assert_eq!(
                compare(smaller, larger),
                Some(Ordering::Less),
                "{smaller} {larger}"
            );
            assert_eq!(
                compare(larger, smaller),
                Some(Ordering::Greater),
                "{larger} {smaller}"
            );
        }
        assert_eq!(compare("1.2.3-r1", "1.2.3-r1"), Some(Ordering::Equal));
        for wrong in [
            "", "a", "1.", "1.0_x1", "1.0-1", "1.0 ", "1.0-r", "1.0A", "ä",
        ] {
            assert_eq!(compare(wrong, "1.0"), None, "{wrong}");
        }
    }
}
