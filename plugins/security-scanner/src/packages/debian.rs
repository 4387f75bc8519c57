//! Versions of Debian, compared as dpkg compares them.

use std::cmp::Ordering;

use super::number;

/// `[EPOCH:]UPSTREAM[-REVISION]`.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (parts(a), parts(b));
    number(a.0)
        .cmp(&number(b.0))
        .then_with(|| part(a.1, b.1))
        .then_with(|| part(a.2, b.2))
}

fn parts(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// What is no digit, then a number, and so on.
fn part<'v>(mut a: &'v str, mut b: &'v str) -> Ordering {
    while !(a.is_empty() && b.is_empty()) {
        let (words, numbers);
        (words, a, b) = split(a, b, |byte| !byte.is_ascii_digit());
        (numbers, a, b) = split(a, b, |byte| byte.is_ascii_digit());
        let order = word(words.0, words.1).then_with(|| number(numbers.0).cmp(&number(numbers.1)));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

type Split<'v> = ((&'v str, &'v str), &'v str, &'v str);

/// What both begin with, and the rest of both.
fn split<'v>(a: &'v str, b: &'v str, is: fn(char) -> bool) -> Split<'v> {
    let at = |text: &str| text.find(|it| !is(it)).unwrap_or(text.len());
    let ((first, a), (second, b)) = (a.split_at(at(a)), b.split_at(at(b)));
    ((first, second), a, b)
}

/// `~` comes before the end, letters before all others.
fn word(a: &str, b: &str) -> Ordering {
    let weight = |it: Option<u8>| match it {
        Some(b'~') => -1,
        None => 0,
        Some(letter) if letter.is_ascii_alphabetic() => i32::from(letter),
        Some(other) => i32::from(other) + 256,
    };
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let places = 0..a.len().max(b.len());
    let orders = places.map(|i| weight(a.get(i).copied()).cmp(&weight(b.get(i).copied())));
    orders.fold(Ordering::Equal, Ordering::then)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_the_order_of_dpkg() {
        for (smaller, larger) in [
            ("1.0", "1.1"),
            ("1.9", "1.10"),
            ("1.0~rc1", "1.0"),
            ("1.0~~", "1.0~"),
            ("1.0", "1.0a"),
            ("1.0a", "1.0+b"),
            ("1.0-1", "1.0-2"),
            ("1.0", "1.0-1"),
            ("9", "1:1"),
            ("1:2", "2:1"),
            ("1.0-1+deb12u1", "1.0-1+deb12u2"),
            ("1.0-1~bpo11+1", "1.0-1"),
            ("1.2-3-4", "1.2-3-5"),
            ("2.36-9+deb12u4", "2.36-9+deb12u10"),
            ("1.0.0", "1.0.1"),
            ("1a", "1.a"),
            ("1.", "1.1"),
            ("99999999999999999999", "100000000000000000000"),
            ("1.0~a", "1.0~b"),
            ("1-a", "1-a1"),
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
            ("1.0", "0:1.0"),
            ("1.0", "1.00"),
            ("1.01", "1.1"),
            ("1.0-0", "1.0"),
            ("", ""),
        ] {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} {b}");
        }
    }
}
