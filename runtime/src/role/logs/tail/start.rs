//! Where reading starts in a file that is older than the plugin.
//!
//! A start is always a line's first byte. A line that was begun but not finished when we came is
//! therefore read whole once it is finished: half a line would be worth nothing, and after a restart
//! nobody could tell it from a whole one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{SystemTime, UNIX_EPOCH};

use super::super::cri::{self, Clock};
use crate::manifest::{FileFormat, StartAt};

/// How far back a line's start is looked for; the end of a longer unfinished line is the start.
const BACK: u64 = 1 << 20;
const STEP: usize = 16 << 10;

/// The offset at which reading starts in `file`, which has `size` bytes and was written at `written`.
pub(super) fn position(
    file: &File,
    size: u64,
    written: SystemTime,
    format: FileFormat,
    start_at: StartAt,
) -> io::Result<u64> {
    match start_at {
        StartAt::Beginning => Ok(0),
        StartAt::End => line_start(file, size),
        StartAt::Last(period) => {
            let cutoff = SystemTime::now()
                .checked_sub(period.0)
                .unwrap_or(UNIX_EPOCH);
            if written < cutoff {
                return line_start(file, size);
            }
            match format {
                FileFormat::Plain => Ok(0),
                FileFormat::Cri => first_since(file, size, nanos(cutoff)),
            }
        }
    }
}

/// Nanoseconds since 1970, bounded by what fits.
pub(super) fn nanos(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n),
    }
}

/// The start of the line that holds or would hold the byte at `at`.
fn line_start(file: &File, at: u64) -> io::Result<u64> {
    let mut buffer = [0; STEP];
    let mut end = at;
    while end > 0 && at - end < BACK {
        let start = end.saturating_sub(STEP as u64);
        let part = &mut buffer[..(end - start) as usize];
        file.read_exact_at(part, start)?;
        if let Some(feed) = memchr::memrchr(b'\n', part) {
            return Ok(start + feed as u64 + 1);
        }
        end = start;
    }
    Ok(if end == 0 { 0 } else { at })
}

/// The start of the first CRI line written at `cutoff` or later. Times are taken to ascend, as
/// runtimes write them; lines that are not CRI count as written with the next one that is.
fn first_since(file: &File, size: u64, cutoff: i64) -> io::Result<u64> {
    // Lines that start before `low` are older than the cutoff; the first at or after `high` is not.
    let (mut low, mut high) = (0, size);
    while low < high {
        let middle = low + (high - low) / 2;
        match first_time(file, line_start(file, middle)?, high)? {
            Some((time, next)) if time < cutoff => low = next.max(middle + 1),
            _ => high = line_start(file, middle)?.max(low).min(middle),
        }
    }
    line_start(file, low.min(size))
}

/// The time of the first CRI line that starts in `from..until`, and where the line after it starts.
fn first_time(file: &File, from: u64, until: u64) -> io::Result<Option<(i64, u64)>> {
    let mut buffer = [0; STEP];
    let mut clock = Clock::default();
    let mut at = from;
    while at < until {
        let read = file.read_at(&mut buffer, at)?;
        let chunk = &buffer[..read];
        let feed = memchr::memchr(b'\n', chunk);
        let found = cri::parse(&chunk[..feed.unwrap_or(read)], &mut clock);
        let next = match feed {
            Some(feed) => at + feed as u64 + 1,
            None => next_line(file, at + read as u64)?,
        };
        if let Some(entry) = found {
            return Ok(Some((entry.time, next)));
        }
        if read == 0 {
            break;
        }
        at = next;
    }
    Ok(None)
}

/// One past the next line feed at or after `from`, or the file's end.
fn next_line(file: &File, from: u64) -> io::Result<u64> {
    let mut buffer = [0; STEP];
    let mut at = from;
    loop {
        let read = file.read_at(&mut buffer, at)?;
        if let Some(feed) = memchr::memchr(b'\n', &buffer[..read]) {
            return Ok(at + feed as u64 + 1);
        }
        if read == 0 {
            return Ok(at);
        }
        at += read as u64;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn the_end_is_a_line_start() {
        let at = |content: &[u8]| line_start(&file(content), content.len() as u64).unwrap();
        assert_eq!(at(b""), 0);
        assert_eq!(at(b"a\nb\n"), 4);
        assert_eq!(at(b"a\nbc"), 2);
        assert_eq!(at(b"abc"), 0);
        let mut long = vec![b'x'; 3 * STEP];
        long[0] = b'\n';
        assert_eq!(at(&long), 1);
        assert_eq!(at(&vec![b'x'; BACK as usize + STEP]), BACK + STEP as u64);
    }

    proptest! {
        #[test]
        fn search_finds_the_first_line_since(
            steps in prop::collection::vec((0i64..3, 0usize..200, 0u8..6), 0..60),
            cutoff in 0i64..100,
        ) {
            let (mut data, mut now, mut expected) = (Vec::new(), 0, None);
            for &(step, length, kind) in &steps {
                now += step;
                // The first of the lines that are no CRI before the wanted one is fine, too.
                if kind > 0 {
                    if now >= cutoff && expected.is_none() {
                        expected = Some(data.len() as u64);
                    }
                    data.extend(format!("1970-01-01T00:00:{:02}.{:09}Z stdout F ", 0, now).bytes());
                }
                data.extend(std::iter::repeat_n(b'x', length));
                data.push(b'\n');
            }
            let size = data.len() as u64;
            let found = first_since(&file(&data), size, cutoff).unwrap();
            let expected = expected.unwrap_or(size);
            prop_assert!(found <= expected, "{found} {expected}");
            // Between the two there may only be lines without a time.
            let between = &data[found as usize..expected as usize];
            for line in between.split(|&b| b == b'\n') {
                prop_assert!(cri::parse(line, &mut Clock::default()).is_none());
            }
        }
    }
}
