//! From bytes to lines in a batch: finds line feeds, takes CRI lines apart, joins partial ones, cuts
//! long ones. Knows nothing of files; bytes come with the offset of the first one.
//!
//! A line is what stands between line feeds; every other byte is kept as it is, a carriage return
//! included.

use std::time::Instant;

use super::super::batch::{Batch, LINE_CUT, LINE_STDERR, LINE_UNFINISHED, Line};
use super::super::cri::{self, Clock};
use crate::manifest::FileFormat;

/// The first parts of a line whose last part has not come yet.
#[derive(Debug)]
struct Pending {
    /// Offset of the first part.
    start: u64,
    /// Time of the first part.
    time: i64,
    bytes: Vec<u8>,
    cut: bool,
}

/// The pending lines of a file's streams: stdout and stderr may interleave.
#[derive(Debug, Default)]
pub(super) struct Joins {
    streams: [Option<Box<Pending>>; 2],
    /// When the last part came.
    pub(super) since: Option<Instant>,
}

impl Joins {
    /// Offset of the first byte that is pending: what comes before has been handed on.
    pub(super) fn start(&self) -> Option<u64> {
        self.streams.iter().flatten().map(|part| part.start).min()
    }

    /// Which streams have a pending line.
    pub(super) fn pending(&self) -> [bool; 2] {
        [self.streams[0].is_some(), self.streams[1].is_some()]
    }
}

/// What was counted while splitting.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) cut: u64,
    pub(super) malformed: u64,
    pub(super) unfinished: u64,
}

/// Bounds on a line and on a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_line: usize,
    pub(super) batch_bytes: usize,
    pub(super) batch_lines: usize,
}

impl Limits {
    pub(super) fn is_full(&self, batch: &Batch) -> bool {
        batch.bytes.len() >= self.batch_bytes || batch.lines.len() >= self.batch_lines
    }
}

/// Splits bytes of one file into a batch.
pub(super) struct Splitter<'a> {
    pub(super) batch: &'a mut Batch,
    pub(super) limits: Limits,
    pub(super) format: FileFormat,
    /// Index of the file's span in the batch.
    pub(super) span: u32,
    /// The time of lines that do not say theirs.
    pub(super) now: i64,
    pub(super) clock: &'a mut Clock,
    pub(super) joins: &'a mut Joins,
    pub(super) counts: Counts,
}

impl Splitter<'_> {
    /// Takes whole lines off `chunk`, whose first byte is at offset `at` and starts a line, until
    /// none is left or the batch is full. Returns how many bytes were taken.
    pub(super) fn split(&mut self, chunk: &[u8], at: u64) -> usize {
        let mut taken = 0;
        for feed in memchr::memchr_iter(b'\n', chunk) {
            if self.limits.is_full(self.batch) {
                break;
            }
            self.line(&chunk[taken..feed], at + taken as u64, false);
            taken = feed + 1;
        }
        taken
    }

    /// Takes one line without its line feed; `cut` if `line` is only its beginning.
    #[inline]
    pub(super) fn line(&mut self, line: &[u8], at: u64, cut: bool) {
        let flag = if cut { LINE_CUT } else { 0 };
        if self.format == FileFormat::Plain {
            return self.push(self.now, line, flag, at);
        }
        let Some(entry) = cri::parse(line, self.clock) else {
            self.counts.malformed += 1;
            return self.push(self.now, line, flag, at);
        };
        let body = &line[entry.body..];
        let stream = usize::from(entry.stderr);
        if !entry.partial && self.joins.streams[stream].is_none() {
            let stderr = if entry.stderr { LINE_STDERR } else { 0 };
            return self.push(entry.time, body, flag | stderr, at);
        }
        let pending = self.joins.streams[stream].get_or_insert_with(|| {
            Box::new(Pending {
                start: at,
                time: entry.time,
                bytes: Vec::new(),
                cut: false,
            })
        });
        let room = self.limits.max_line.saturating_sub(pending.bytes.len());
        pending.cut |= cut || body.len() > room;
        pending
            .bytes
            .extend_from_slice(&body[..body.len().min(room)]);
        if entry.partial {
            self.joins.since = Some(Instant::now());
        } else {
            self.flush(stream, 0);
        }
    }

    /// Hands on what is pending as unfinished lines, in order of their start.
    pub(super) fn flush_all(&mut self) {
        let start = |this: &Self, stream: usize| {
            this.joins.streams[stream]
                .as_ref()
                .map_or(u64::MAX, |pending| pending.start)
        };
        let first = usize::from(start(self, 1) < start(self, 0));
        self.flush(first, LINE_UNFINISHED);
        self.flush(1 - first, LINE_UNFINISHED);
    }

    /// Takes the end of a file that has no line feed.
    pub(super) fn unfinished(&mut self, line: &[u8], at: u64, cut: bool) {
        let before = self.batch.lines.len();
        self.line(line, at, cut);
        if let Some(last) = self.batch.lines.get_mut(before) {
            last.flags |= LINE_UNFINISHED;
            self.counts.unfinished += 1;
        }
    }

    fn flush(&mut self, stream: usize, flags: u32) {
        let Some(pending) = self.joins.streams[stream].take() else {
            return;
        };
        if self.joins.start().is_none() {
            self.joins.since = None;
        }
        self.counts.unfinished += u64::from(flags & LINE_UNFINISHED != 0);
        let cut = if pending.cut { LINE_CUT } else { 0 };
        let stderr = if stream == 1 { LINE_STDERR } else { 0 };
        let flags = flags | cut | stderr;
        self.push(pending.time, &pending.bytes, flags, pending.start);
    }

    #[inline]
    fn push(&mut self, time: i64, body: &[u8], mut flags: u32, at: u64) {
        let mut body = body;
        if body.len() > self.limits.max_line {
            body = &body[..self.limits.max_line];
            flags |= LINE_CUT;
        }
        self.counts.cut += u64::from(flags & LINE_CUT != 0);
        // Within u32: a batch ends at a few MiB, see `Config::limits`.
        let offset = self.batch.bytes.len() as u32;
        self.batch.bytes.extend_from_slice(body);
        self.batch.lines.push(Line {
            time,
            offset,
            length: body.len() as u32,
            source: self.span,
            flags,
        });
        self.batch.positions.push(at);
    }
}

/// Counts lines as [`Splitter`] would make them, without keeping any.
pub(super) struct Counter {
    format: FileFormat,
    pending: [bool; 2],
    clock: Clock,
    pub(super) lines: u64,
}

impl Counter {
    pub(super) fn new(format: FileFormat, joins: &Joins) -> Self {
        Self {
            format,
            pending: joins.pending(),
            clock: Clock::default(),
            lines: 0,
        }
    }

    /// Takes whole lines off `chunk`; returns how many bytes were taken.
    pub(super) fn split(&mut self, chunk: &[u8]) -> usize {
        let mut taken = 0;
        for feed in memchr::memchr_iter(b'\n', chunk) {
            self.line(&chunk[taken..feed]);
            taken = feed + 1;
        }
        taken
    }

    /// Takes one line.
    pub(super) fn line(&mut self, line: &[u8]) {
        if self.format == FileFormat::Cri
            && let Some(entry) = cri::parse(line, &mut self.clock)
        {
            self.pending[usize::from(entry.stderr)] = entry.partial;
            self.lines += u64::from(!entry.partial);
        } else {
            self.lines += 1;
        }
    }

    /// How many lines there were, those that never ended included.
    pub(super) fn finish(self) -> u64 {
        self.lines
            + self
                .pending
                .iter()
                .map(|&part| u64::from(part))
                .sum::<u64>()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// (position, time, flags, body)
    type Out = Vec<(u64, i64, u32, Vec<u8>)>;

    /// Splits `data` as if it came in pieces that end at `cuts`.
    fn run(
        data: &[u8],
        cuts: &[usize],
        max_line: usize,
        format: FileFormat,
        end: bool,
    ) -> (Out, Counts) {
        let mut batch = Batch::default();
        let (mut clock, mut joins) = (Clock::default(), Joins::default());
        let mut splitter = Splitter {
            batch: &mut batch,
            limits: Limits {
                max_line,
                batch_bytes: usize::MAX,
                batch_lines: usize::MAX,
            },
            format,
            span: 0,
            now: 7,
            clock: &mut clock,
            joins: &mut joins,
            counts: Counts::default(),
        };
        let mut at = 0;
        for &cut in cuts.iter().chain([&data.len()]) {
            let cut = cut.clamp(at, data.len());
            at += splitter.split(&data[at..cut], at as u64);
        }
        if end {
            if at < data.len() {
                splitter.unfinished(&data[at..], at as u64, false);
            }
            splitter.flush_all();
        }
        let counts = splitter.counts;
        let out = (0..batch.lines.len())
            .map(|index| {
                let line = batch.lines[index];
                let body = batch.body(index).to_vec();
                (batch.positions[index], line.time, line.flags, body)
            })
            .collect();
        (out, counts)
    }

    #[test]
    fn joins_interleaved_partial_lines() {
        let data = b"1970-01-01T00:00:00.000000001Z stdout P one \n\
            1970-01-01T00:00:00.000000002Z stderr P err-\n\
            1970-01-01T00:00:00.000000003Z stdout P two \n\
            1970-01-01T00:00:00.000000004Z stderr F or\n\
            1970-01-01T00:00:00.000000005Z stdout F three\n\
            garbage\n\
            1970-01-01T00:00:00.000000006Z stdout P left";
        let (out, counts) = run(data, &[], 1000, FileFormat::Cri, true);
        let second = data.iter().position(|&b| b == b'\n').unwrap() as u64 + 1;
        assert_eq!(out[0], (second, 2, LINE_STDERR, b"err-or".to_vec()));
        assert_eq!(out[1], (0, 1, 0, b"one two three".to_vec()));
        assert_eq!(out[2].1, 7, "a malformed line gets the time of reading");
        assert_eq!(out[2].3, b"garbage");
        assert_eq!((out[3].2, &out[3].3[..]), (LINE_UNFINISHED, &b"left"[..]));
        assert_eq!(out.len(), 4);
        assert_eq!((counts.malformed, counts.unfinished), (1, 1));
    }

    #[test]
    fn cuts_long_lines_and_joined_ones() {
        let (out, counts) = run(b"abcdef\n\r\n\nxyz\n", &[], 4, FileFormat::Plain, true);
        let lines: Vec<_> = out.iter().map(|line| (line.2, &line.3[..])).collect();
        assert_eq!(
            lines,
            [(LINE_CUT, &b"abcd"[..]), (0, b"\r"), (0, b""), (0, b"xyz")]
        );
        assert_eq!(counts.cut, 1);
        let data = b"1970-01-01T00:00:00Z stdout P abc\n1970-01-01T00:00:00Z stdout P def\n\
            1970-01-01T00:00:00Z stdout F ghi\n";
        let (out, counts) = run(data, &[], 4, FileFormat::Cri, true);
        assert_eq!(out, [(0, 0, LINE_CUT, b"abcd".to_vec())]);
        assert_eq!(counts.cut, 1);
    }

    fn physical_line() -> impl Strategy<Value = Vec<u8>> {
        let body = prop::collection::vec(any::<u8>().prop_filter("lf", |&b| b != b'\n'), 0..20);
        (0u32..1000, any::<bool>(), 0u8..8, body).prop_map(|(nanos, stderr, kind, body)| {
            if kind == 0 {
                return body;
            }
            let stream = if stderr { "stderr" } else { "stdout" };
            let tag = if kind < 4 { 'P' } else { 'F' };
            let mut line = format!("2024-01-02T03:04:05.{nanos:09}Z {stream} {tag} ").into_bytes();
            line.extend(body);
            line
        })
    }

    proptest! {
        /// However a file's bytes arrive, the lines are the same, and as many as the counter counts.
        #[test]
        fn chunks_do_not_matter(
            lines in prop::collection::vec(physical_line(), 0..30),
            cuts in prop::collection::vec(0usize..1500, 0..10),
            tail in any::<bool>(),
            max_line in 1usize..60,
        ) {
            let mut data = lines.join(&b'\n');
            if tail {
                data.push(b'\n');
            }
            let mut cuts = cuts;
            cuts.sort_unstable();
            let whole = run(&data, &[], max_line, FileFormat::Cri, true);
            let parts = run(&data, &cuts, max_line, FileFormat::Cri, true);
            prop_assert_eq!(&whole, &parts);

            let mut counter = Counter::new(FileFormat::Cri, &Joins::default());
            let taken = counter.split(&data);
            if taken < data.len() {
                counter.line(&data[taken..]);
            }
            prop_assert_eq!(counter.finish(), whole.0.len() as u64);
        }

        #[test]
        fn any_bytes_are_lines(data in prop::collection::vec(any::<u8>(), 0..300), cri in any::<bool>()) {
            let format = if cri { FileFormat::Cri } else { FileFormat::Plain };
            let (out, _) = run(&data, &[], 1000, format, true);
            if !cri {
                let expected: Vec<&[u8]> = data.split(|&b| b == b'\n').collect();
                let expected = expected.strip_suffix(&[&b""[..]]).unwrap_or(&expected);
                prop_assert_eq!(out.iter().map(|line| &line.3[..]).collect::<Vec<_>>(), expected);
            }
        }
    }
}
