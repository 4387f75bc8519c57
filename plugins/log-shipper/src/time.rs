//! Times as logs write them.

use crate::config::TimeFormat;

const SECOND: i128 = 1_000_000_000;

/// Nanoseconds since 1970, if `text` is a time in that format.
pub(crate) fn parse(text: &[u8], format: TimeFormat) -> Option<i64> {
    let nanoseconds = match format {
        TimeFormat::Rfc3339 => rfc3339(text)?,
        TimeFormat::EpochSeconds => epoch(text, SECOND)?,
        TimeFormat::EpochMillis => epoch(text, 1_000_000)?,
        TimeFormat::EpochMicros => epoch(text, 1_000)?,
        TimeFormat::EpochNanos => epoch(text, 1)?,
        TimeFormat::Auto => rfc3339(text).or_else(|| {
            let whole = text.iter().take_while(|byte| **byte != b'.').count();
            // 11 digits of seconds reach the year 5138; 12 of milliseconds begin in 1973.
            epoch(
                text,
                match whole {
                    0..=11 => SECOND,
                    12..=14 => 1_000_000,
                    15..=17 => 1_000,
                    _ => 1,
                },
            )
        })?,
    };
    i64::try_from(nanoseconds).ok()
}

/// A decimal number of units of so many nanoseconds. What is finer than a nanosecond is cut off.
fn epoch(text: &[u8], unit: i128) -> Option<i128> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let point = digits.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&digits[..at], &digits[at + 1..]),
        None => (digits, [].as_slice()),
    };
    if whole.is_empty() || whole.len() > 19 || (point.is_some() && fraction.is_empty()) {
        return None;
    }
    let mut nanoseconds = number(whole)? * unit;
    let mut unit = unit;
    for byte in fraction {
        unit /= 10;
        nanoseconds += number(std::slice::from_ref(byte))? * unit;
    }
    Some(if negative { -nanoseconds } else { nanoseconds })
}

fn number(digits: &[u8]) -> Option<i128> {
    digits.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + i128::from(byte - b'0'))
    })
}

/// RFC 3339, with the `T` in either case or a space, and any number of decimals.
fn rfc3339(text: &[u8]) -> Option<i128> {
    let (date_time, rest) = text.split_first_chunk::<19>()?;
    let at = |range: std::ops::Range<usize>| number(&date_time[range]);
    let marks = [(4, b"-"), (7, b"-"), (13, b":"), (16, b":")];
    if marks
        .iter()
        .any(|(index, mark)| date_time[*index] != mark[0])
        || !matches!(date_time[10], b'T' | b't' | b' ')
    {
        return None;
    }
    let (year, month, day) = (at(0..4)?, at(5..7)?, at(8..10)?);
    let (hour, minute, second) = (at(11..13)?, at(14..16)?, at(17..19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days_in_month).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, zone) = match rest {
        [b'.' | b',', rest @ ..] => {
            let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if length == 0 {
                return None;
            }
            let mut unit = SECOND;
            let mut nanoseconds = 0;
            for byte in &rest[..length.min(9)] {
                unit /= 10;
                nanoseconds += i128::from(byte - b'0') * unit;
            }
            (nanoseconds, &rest[length..])
        }
        rest => (0, rest),
    };
    let offset = match zone {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), hours @ .., b':', a, b] if hours.len() == 2 => {
            let (hours, minutes) = (number(hours)?, number(&[*a, *b])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -60 } else { 60 }
        }
        _ => return None,
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(seconds * SECOND + fraction)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years are counted from March, so that
/// the leap day is the last one.
fn days(year: i128, month: i128, day: i128) -> i128 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 719_468
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn auto(text: &str) -> Option<i64> {
        parse(text.as_bytes(), TimeFormat::Auto)
    }

    #[test]
    fn reads_known_times() {
        assert_eq!(auto("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(
            auto("2026-11-24T10:00:00.25+01:00"),
            Some(1_795_510_800_250_000_000)
        );
        assert_eq!(auto("2000-02-29 23:59:60Z"), Some(951_868_800_000_000_000));
        for text in [
            "1795510800",
            "1795510800.0",
            "1795510800000",
            "1795510800000000",
            "1795510800000000000",
        ] {
            assert_eq!(auto(text), Some(1_795_510_800_000_000_000), "{text}");
        }
        assert_eq!(
            parse(b"-1.5", TimeFormat::EpochSeconds),
            Some(-1_500_000_000)
        );
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in [
            "",
            "now",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-24T24:00:00Z",
            "2026-11-24T10:00:00",
            "2026-11-24T10:00:00.Z",
            "2026-11-24T10:00:00+1:00",
            "1.",
            ".5",
            "-",
            "99999999999999999999",
            "9999-12-31T00:00:00Z",
        ] {
            assert_eq!(auto(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn days_follow_one_another(year in 1_i128..3000, month in 1_i128..=12) {
            let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
            let length = days(next_year, next, 1) - days(year, month, 1);
            prop_assert!((28..=31).contains(&length));
            prop_assert_eq!(length == 29, month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
        }

        #[test]
        fn never_panics(text in any::<Vec<u8>>()) {
            parse(&text, TimeFormat::Auto);
        }
    }
}
