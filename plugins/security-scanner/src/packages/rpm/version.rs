//! Versions of rpm, compared as rpm compares them.

use std::cmp::Ordering;

use super::super::number;

/// `[EPOCH:]VERSION[-RELEASE]`. Without a release, that of the other does not matter.
pub(in super::super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (parts(a), parts(b));
    let release = || match (a.2, b.2) {
        (Some(a), Some(b)) => part(a, b),
        _ => Ordering::Equal,
    };
    number(a.0)
        .cmp(&number(b.0))
        .then_with(|| part(a.1, b.1))
        .then_with(release)
}

fn parts(version: &str) -> (&str, &str, Option<&str>) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
    match rest.rsplit_once('-') {
        Some((version, release)) => (epoch, version, Some(release)),
        None => (epoch, rest, None),
    }
}

/// Runs of letters and runs of digits, whatever is between them, but for `~` and `^`.
fn part(mut a: &str, mut b: &str) -> Ordering {
    loop {
        a = a.trim_start_matches(is_between);
        b = b.trim_start_matches(is_between);
        match (a.strip_prefix('~'), b.strip_prefix('~')) {
            (Some(x), Some(y)) => {
                (a, b) = (x, y);
                continue;
            }
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
            (None, None) => {}
        }
        match (a.strip_prefix('^'), b.strip_prefix('^')) {
            (Some(x), Some(y)) => {
                (a, b) = (x, y);
                continue;
            }
            // After the end, and before all else.
            (Some(_), None) if b.is_empty() => return Ordering::Greater,
            (None, Some(_)) if a.is_empty() => return Ordering::Less,
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
            (None, None) => {}
        }
        if a.is_empty() || b.is_empty() {
            return (!a.is_empty()).cmp(&!b.is_empty());
        }
        let digits = a.starts_with(|it: char| it.is_ascii_digit());
        let is = |it: char| match digits {
            true => it.is_ascii_digit(),
            false => it.is_ascii_alphabetic(),
        };
        let (first, after) = a.split_at(a.find(|it| !is(it)).unwrap_or(a.len()));
        let (second, behind) = b.split_at(b.find(|it| !is(it)).unwrap_or(b.len()));
        if second.is_empty() {
            // A number is newer than a word.
            return if digits {
                Ordering::Greater
            } else {
                Ordering::Less
            };
        }
        let order = match digits {
            true => number(first).cmp(&number(second)),
            false => first.cmp(second),
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (after, behind);
    }
}

fn is_between(it: char) -> bool {
    !it.is_ascii_alphanumeric() && !matches!(it, '~' | '^')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the tests of rpm itself, `tests/rpmvercmp.at`.
    #[test]
    fn versions_are_in_the_order_of_rpm() {
        for (smaller, larger) in [
            ("1.0", "2.0"),
            ("2.0", "2.0.1"),
            ("2.0.1", "2.0.1a"),
            ("5.5p1", "5.5p2"),
            ("5.5p1", "5.5p10"),
            ("10xyz", "10.1xyz"),
            ("xyz.4", "8"),
            ("xyz.4", "2"),
            ("5.5p2", "5.6p1"),
            ("5.6p1", "6.5p1"),
            ("6.0", "6.0.rc1"),
            ("10a2", "10b2"),
            ("1.0", "1.0a"),
            ("1.0", "1.0aa"),
            ("10.0001", "10.0039"),
            ("4.999.9", "5.0"),
            ("1.0~rc1", "1.0"),
            ("1.0~rc1", "1.0~rc2"),
            ("1.0~rc1~git123", "1.0~rc1"),
            ("1.0", "1.0^"),
            ("1.0", "1.0^git1"),
            ("1.0^git1", "1.0^git2"),
            ("1.0^git1", "1.01"),
            ("1.0^20160101", "1.0.1"),
            ("1.0^20160101^git1", "1.0^20160102"),
            ("1.0~rc1^git1", "1.0"),
            ("1.0^git1~pre", "1.0^git1"),
            ("9-1", "1:1-1"),
            ("1.0-1.el9", "1.0-2.el9"),
            ("3.0.7-24.el9", "3.0.7-24.el9_2"),
        ] {
            assert_eq!(
                compare(smaller, larger),
                Ordering::Less,
                "{smaller} {larger}"
            );
            assert_eq!(
                compare(larger, smaller),
                Ordering::Greater,
                "{larger} {smaller}"
            );
        }
        for (a, b) in [
            ("10.0001", "10.1"),
            ("2_0", "2.0"),
            ("a", "a"),
            ("a+", "a_"),
            ("1.0", "0:1.0"),
            ("1.0", "1.0-9"),
            ("1.0-1", "1.00-01"),
            ("", ""),
        ] {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} {b}");
        }
    }
}
