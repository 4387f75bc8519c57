//! The container runtime interface's log format: `TIME STREAM TAG BODY`, one physical line each.
//!
//! Parsing one line lives here; finding lines, joining partial ones and reading files do not. The
//! parser runs once a line on the hot path, so it is written by hand and never allocates: lines
//! that follow each other mostly share their second, which [`Clock`] remembers.

/// One physical line, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Nanoseconds since 1970 (UTC).
    pub time: i64,
    /// Whether the stream is stderr.
    pub stderr: bool,
    /// Whether the line goes on in the stream's next entry (tag `P`).
    pub partial: bool,
    /// Where the body starts in the physical line; it reaches to the line's end.
    pub body: usize,
}

/// Turns `2024-01-02T03:04:05.123456789Z` into nanoseconds since 1970, remembering the last second.
#[derive(Debug, Clone)]
pub struct Clock {
    prefix: [u8; PREFIX],
    /// Seconds since 1970 of `prefix` read as UTC.
    seconds: i64,
}

/// Length of `2024-01-02T03:04:05`.
const PREFIX: usize = 19;

impl Default for Clock {
    fn default() -> Self {
        Self {
            prefix: *b"1970-01-01T00:00:00",
            seconds: 0,
        }
    }
}

/// Takes a physical line (without its line feed) apart; `None` if it is not in CRI format.
#[inline]
pub fn parse(line: &[u8], clock: &mut Clock) -> Option<Entry> {
    let (time, at) = clock.parse(line)?;
    // " stdout F": a blank, the stream, a blank and at least one byte of tag.
    let rest = line.get(at..)?;
    let stderr = match rest.get(..8)? {
        b" stdout " => false,
        b" stderr " => true,
        _ => return None,
    };
    // Tags are separated by colons and the first says whether the line is partial.
    let partial = match rest.get(8)? {
        b'F' => false,
        b'P' => true,
        _ => return None,
    };
    let body = match rest.get(9) {
        Some(b' ') => at + 10,
        None => line.len(),
        Some(b':') => match memchr::memchr(b' ', &rest[9..]) {
            Some(blank) => at + 9 + blank + 1,
            None => line.len(),
        },
        Some(_) => return None,
    };
    Some(Entry {
        time,
        stderr,
        partial,
        body,
    })
}

impl Clock {
    /// Reads the time at the start of `text`: nanoseconds since 1970 and the time's length.
    #[inline]
    pub fn parse(&mut self, text: &[u8]) -> Option<(i64, usize)> {
        let prefix: &[u8; PREFIX] = text.first_chunk()?;
        if *prefix != self.prefix {
            self.seconds = seconds(prefix)?;
            self.prefix = *prefix;
        }
        let mut at = PREFIX;
        let mut nanos = 0;
        if text.get(at) == Some(&b'.') {
            at += 1;
            (nanos, at) = fraction(text, at)?;
        }
        let offset = match text.get(at)? {
            b'Z' => {
                at += 1;
                0
            }
            sign @ (b'+' | b'-') => {
                let zone = text.get(at + 1..at + 6)?;
                if zone[2] != b':' {
                    return None;
                }
                let seconds = two(&zone[..2], 23)? * 3600 + two(&zone[3..], 59)? * 60;
                at += 6;
                if *sign == b'+' { seconds } else { -seconds }
            }
            _ => return None,
        };
        let time = (self.seconds - offset)
            .checked_mul(1_000_000_000)?
            .checked_add(nanos)?;
        Some((time, at))
    }
}

/// Reads the digits of a fraction at `at`: its value in nanoseconds and where it ends. Digits
/// below the nanosecond are dropped.
#[inline]
fn fraction(text: &[u8], at: usize) -> Option<(i64, usize)> {
    // Runtimes write nine digits nearly always; that case needs no loop over unknown lengths.
    if let Some(nine) = text.get(at..).and_then(|rest| rest.first_chunk::<9>()) {
        let mut value = 0u32;
        let mut bad = false;
        for &byte in nine {
            let digit = byte.wrapping_sub(b'0');
            bad |= digit > 9;
            value = value.wrapping_mul(10).wrapping_add(u32::from(digit));
        }
        if !bad && !text.get(at + 9).is_some_and(u8::is_ascii_digit) {
            return Some((i64::from(value), at + 9));
        }
    }
    let digits = text[at..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if digits == 0 {
        return None;
    }
    let mut value = 0i64;
    for place in 0..9 {
        let digit = if place < digits {
            i64::from(text[at + place] - b'0')
        } else {
            0
        };
        value = value * 10 + digit;
    }
    Some((value, at + digits))
}

/// Two decimal digits, at most `max`.
fn two(text: &[u8], max: i64) -> Option<i64> {
    let (tens, ones) = (text[0].wrapping_sub(b'0'), text[1].wrapping_sub(b'0'));
    let value = i64::from(tens) * 10 + i64::from(ones);
    (tens <= 9 && ones <= 9 && value <= max).then_some(value)
}

/// Seconds since 1970 of `2024-01-02T03:04:05` read as UTC. A leap second (`:60`) is the next
/// minute's first.
fn seconds(text: &[u8; PREFIX]) -> Option<i64> {
    if [text[4], text[7], text[10], text[13], text[16]] != *b"--T::" {
        return None;
    }
    let year = two(&text[..2], 99)? * 100 + two(&text[2..], 99)?;
    let month = two(&text[5..], 12)?;
    let day = two(&text[8..], 31)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if month == 0 || day == 0 || day > longest {
        return None;
    }
    // Count years from March, so that the leap day is a year's last; 719468 days lie between
    // 0000-03-01 and 1970-01-01.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 1
        - 719_468;
    let clock = two(&text[11..], 23)? * 3600 + two(&text[14..], 59)? * 60 + two(&text[17..], 60)?;
    Some(days * 86_400 + clock)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(text: &str) -> Option<i64> {
        Clock::default()
            .parse(text.as_bytes())
            .filter(|&(_, length)| length == text.len())
            .map(|(time, _)| time)
    }

    #[test]
    fn reads_times() {
        let expect = |text: &str| {
            let jiff: jiff::Timestamp = text.parse().unwrap();
            assert_eq!(time(text), Some(jiff.as_nanosecond() as i64), "{text}");
        };
        expect("1970-01-01T00:00:00Z");
        expect("2024-01-02T03:04:05.123456789Z");
        expect("2024-02-29T23:59:59.5+05:30");
        expect("2024-02-29T23:59:59.000001-11:00");
        expect("1969-12-31T23:59:59.999999999Z");
        expect("2100-03-01T00:00:00.1234567Z");
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in [
            "",
            "2024-01-02",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-00T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01 00:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+0100",
            "2024-01-01T00:00:00+24:00",
            "9999-01-01T00:00:00Z",
        ] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn digits_below_the_nanosecond_are_dropped() {
        assert_eq!(
            time("1970-01-01T00:00:00.0000000019Z"),
            Some(1),
            "ten digits"
        );
    }

    #[test]
    fn takes_lines_apart() {
        let parse = |line: &'static str| {
            let entry = parse(line.as_bytes(), &mut Clock::default())?;
            Some((entry.time, entry.stderr, entry.partial, &line[entry.body..]))
        };
        let t = "1970-01-01T00:00:01Z";
        assert_eq!(t.len(), 20);
        let second = 1_000_000_000;
        assert_eq!(
            parse("1970-01-01T00:00:01Z stdout F hello there"),
            Some((second, false, false, "hello there"))
        );
        assert_eq!(
            parse("1970-01-01T00:00:01Z stderr P  x"),
            Some((second, true, true, " x"))
        );
        assert_eq!(
            parse("1970-01-01T00:00:01Z stdout F "),
            Some((second, false, false, ""))
        );
        assert_eq!(
            parse("1970-01-01T00:00:01Z stdout F"),
            Some((second, false, false, ""))
        );
        assert_eq!(
            parse("1970-01-01T00:00:01Z stdout P:a:b body"),
            Some((second, false, true, "body"))
        );
        for bad in [
            "1970-01-01T00:00:01Z stdin F x",
            "1970-01-01T00:00:01Z stdout X x",
            "1970-01-01T00:00:01Z stdout Full x",
            "1970-01-01T00:00:01Z stdout",
            "1970-01-01T00:00:01Z",
            "plain text",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4)) {
            let mut clock = Clock::default();
            for line in &lines {
                if let Some(entry) = parse(line, &mut clock) {
                    prop_assert!(entry.body <= line.len());
                }
            }
        }

        /// Damage to a good line gives `None` or an entry within the line, never a panic.
        #[test]
        fn survives_damage(at in 0usize..60, byte in any::<u8>(), cut in 0usize..60) {
            let mut line = b"2024-01-02T03:04:05.123456789+01:00 stdout F:tag the body".to_vec();
            if let Some(place) = line.get_mut(at) {
                *place = byte;
            }
            line.truncate(cut);
            if let Some(entry) = parse(&line, &mut Clock::default()) {
                prop_assert!(entry.body <= line.len());
            }
        }

        /// Every time that has a timestamp in nanoseconds is read as another library reads it, also
        /// with a remembered second from before.
        #[test]
        fn agrees_with_jiff(times in prop::collection::vec((-9_000_000_000i64..9_000_000_000, 0i64..1_000_000_000), 1..5)) {
            let mut clock = Clock::default();
            for &(seconds, nanos) in &times {
                let stamp = jiff::Timestamp::new(seconds, nanos as i32).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
                let text = format!("{stamp:.9} stdout F x");
                let entry = parse(text.as_bytes(), &mut clock).unwrap();
                prop_assert_eq!(i128::from(entry.time), stamp.as_nanosecond());
            }
        }
    }
}
