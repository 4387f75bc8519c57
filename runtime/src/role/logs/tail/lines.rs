//! From bytes to lines: finds line feeds, takes CRI lines apart, joins partial ones. Knows nothing of
//! files; bytes come with the offset of the first one. Where lines go is a [`Sink`].
//!
//! A line is what stands between line feeds; every other byte is kept as it is, a carriage return
//! included.

use std::time::Instant;

use super::super::batch::{LINE_CUT, LINE_STDERR, LINE_UNFINISHED};
use super::super::cri::{self, Clock};
use crate::manifest::FileFormat;

/// The first parts of a line whose last part has not come yet.
#[derive(Debug, Clone)]
struct Pending {
    /// Offset of the first part.
    start: u64,
    /// Offset of the last part that came.
    last: u64,
    /// Time of the first part.
    time: i64,
    bytes: Vec<u8>,
    cut: bool,
}

/// The pending lines of a file's streams: stdout and stderr may interleave.
#[derive(Debug, Default, Clone)]
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

/// A whole line, or several that were joined.
pub(super) struct Record<'a> {
    /// Offset of its first byte.
    pub(super) at: u64,
    /// Offset of the last physical line of which it is made.
    pub(super) last: u64,
    /// Time of the first of them.
    pub(super) time: i64,
    pub(super) body: &'a [u8],
    /// `LINE_*`.
    pub(super) flags: u32,
    /// How many lines were joined onto the first.
    pub(super) joined: u32,
}

impl Record<'_> {
    /// The index of its stream.
    pub(super) fn stream(&self) -> usize {
        usize::from(self.flags & LINE_STDERR != 0)
    }
}

/// Where lines go.
pub(super) trait Sink {
    /// Whether no further line shall be taken off the bytes.
    fn is_full(&self) -> bool;

    /// Takes a line.
    fn take(&mut self, record: Record<'_>);

    /// Takes a line of no stream.
    #[inline]
    fn take_alone(&mut self, record: Record<'_>) {
        self.take(record);
    }

    /// Hands on what is held back of these streams.
    fn release(&mut self, _streams: [bool; 2]) {}
}

/// What is to be taken.
#[derive(Clone, Copy)]
pub(super) enum Piece<'a> {
    /// Bytes that start with a line's first; whole lines are taken off them.
    Chunk(&'a [u8]),
    /// One line without its line feed, with `LINE_*` that it has already.
    Line(&'a [u8], u32),
    /// Parts whose rest does not come.
    Parts,
    /// Joined lines of these streams, to which no further ones come.
    Joined([bool; 2]),
    /// All that is pending: nothing more comes.
    End,
}

/// Splits bytes of one file into lines.
pub(super) struct Splitter<'a, S> {
    pub(super) format: FileFormat,
    /// Longer lines may be cut.
    pub(super) max_line: usize,
    /// The time of lines that do not say theirs.
    pub(super) now: i64,
    pub(super) clock: &'a mut Clock,
    pub(super) joins: &'a mut Joins,
    /// Counts lines of a CRI file that are none.
    pub(super) malformed: &'a mut u64,
    pub(super) out: S,
}

impl<'a, S: Sink> Splitter<'a, S> {
    /// The same, with a sink before the sink.
    pub(super) fn through<T: Sink>(self, wrap: impl FnOnce(S) -> T) -> Splitter<'a, T> {
        Splitter {
            format: self.format,
            max_line: self.max_line,
            now: self.now,
            clock: self.clock,
            joins: self.joins,
            malformed: self.malformed,
            out: wrap(self.out),
        }
    }

    /// Takes a piece whose first byte is at offset `at`. Returns how many bytes of a chunk were taken.
    pub(super) fn take(mut self, piece: Piece<'_>, at: u64) -> usize {
        match piece {
            Piece::Chunk(chunk) => return self.split(chunk, at),
            Piece::Line(line, flags) => self.line(line, at, flags),
            Piece::Parts => self.flush_parts(),
            Piece::Joined(streams) => self.out.release(streams),
            Piece::End => {
                self.flush_parts();
                self.out.release([true; 2]);
            }
        }
        0
    }

    /// Takes whole lines off `chunk` until none is left or the sink is full.
    fn split(&mut self, chunk: &[u8], at: u64) -> usize {
        let mut taken = 0;
        for feed in memchr::memchr_iter(b'\n', chunk) {
            if self.out.is_full() {
                break;
            }
            self.line(&chunk[taken..feed], at + taken as u64, 0);
            taken = feed + 1;
        }
        taken
    }

    #[inline]
    fn line(&mut self, line: &[u8], at: u64, flags: u32) {
        let record = |time, body, flags| Record {
            at,
            last: at,
            time,
            body,
            flags,
            joined: 0,
        };
        if self.format == FileFormat::Plain {
            return self.out.take(record(self.now, line, flags));
        }
        let Some(entry) = cri::parse(line, self.clock) else {
            *self.malformed += 1;
            return self.out.take_alone(record(self.now, line, flags));
        };
        let body = &line[entry.body..];
        let stream = usize::from(entry.stderr);
        if !entry.partial && self.joins.streams[stream].is_none() {
            let stderr = if entry.stderr { LINE_STDERR } else { 0 };
            return self.out.take(record(entry.time, body, flags | stderr));
        }
        let pending = self.joins.streams[stream].get_or_insert_with(|| {
            Box::new(Pending {
                start: at,
                last: at,
                time: entry.time,
                bytes: Vec::new(),
                cut: false,
            })
        });
        let room = self.max_line.saturating_sub(pending.bytes.len());
        pending.last = at;
        pending.cut |= flags & LINE_CUT != 0 || body.len() > room;
        pending
            .bytes
            .extend_from_slice(&body[..body.len().min(room)]);
        if entry.partial {
            self.joins.since = Some(Instant::now());
        } else {
            self.flush(stream, flags & LINE_UNFINISHED);
        }
    }

    /// Hands on the parts that are pending as unfinished lines, in order of their start.
    fn flush_parts(&mut self) {
        let start = |this: &Self, stream: usize| {
            this.joins.streams[stream]
                .as_ref()
                .map_or(u64::MAX, |pending| pending.start)
        };
        let first = usize::from(start(self, 1) < start(self, 0));
        self.flush(first, LINE_UNFINISHED);
        self.flush(1 - first, LINE_UNFINISHED);
    }

    fn flush(&mut self, stream: usize, flags: u32) {
        let Some(pending) = self.joins.streams[stream].take() else {
            return;
        };
        if self.joins.start().is_none() {
            self.joins.since = None;
        }
        let cut = if pending.cut { LINE_CUT } else { 0 };
        let stderr = if stream == 1 { LINE_STDERR } else { 0 };
        self.out.take(Record {
            at: pending.start,
            last: pending.last,
            time: pending.time,
            body: &pending.bytes,
            flags: flags | cut | stderr,
            joined: 0,
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::batch::Batch;
    use super::super::count::Counter;
    use super::super::pack::{Counts, Limits, Packer};
    use super::*;

    /// (position, time, flags, body)
    type Out = Vec<(u64, i64, u32, Vec<u8>)>;

    /// Splits `data` as if it came in pieces that end at `cuts`. Returns the lines and the numbers of
    /// cut, malformed and unfinished ones.
    fn run(
        data: &[u8],
        cuts: &[usize],
        max_line: usize,
        format: FileFormat,
        end: bool,
    ) -> (Out, [u64; 3]) {
        let mut batch = Batch::default();
        let (mut clock, mut joins) = (Clock::default(), Joins::default());
        let (mut counts, mut malformed) = (Counts::default(), 0);
        let mut take = |piece: Piece<'_>, at: usize| {
            let splitter = Splitter {
                format,
                max_line,
                now: 7,
                clock: &mut clock,
                joins: &mut joins,
                malformed: &mut malformed,
                out: Packer {
                    batch: &mut batch,
                    limits: Limits {
                        max_line,
                        batch_bytes: usize::MAX,
                        batch_lines: usize::MAX,
                    },
                    span: 0,
                    counts: &mut counts,
                },
            };
            splitter.take(piece, at as u64)
        };
        let mut at = 0;
        for &cut in cuts.iter().chain([&data.len()]) {
            let cut = cut.clamp(at, data.len());
            at += take(Piece::Chunk(&data[at..cut]), at);
        }
        if end {
            if at < data.len() {
                take(Piece::Line(&data[at..], LINE_UNFINISHED), at);
            }
            take(Piece::End, 0);
        }
        let out = (0..batch.lines.len())
            .map(|index| {
                let line = batch.lines[index];
                let body = batch.body(index).to_vec();
                (batch.positions[index], line.time, line.flags, body)
            })
            .collect();
        (out, [counts.cut, malformed, counts.unfinished])
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
        let (out, [_, malformed, unfinished]) = run(data, &[], 1000, FileFormat::Cri, true);
        let second = data.iter().position(|&b| b == b'\n').unwrap() as u64 + 1;
        assert_eq!(out[0], (second, 2, LINE_STDERR, b"err-or".to_vec()));
        assert_eq!(out[1], (0, 1, 0, b"one two three".to_vec()));
        assert_eq!(out[2].1, 7, "a malformed line gets the time of reading");
        assert_eq!(out[2].3, b"garbage");
        assert_eq!((out[3].2, &out[3].3[..]), (LINE_UNFINISHED, &b"left"[..]));
        assert_eq!(out.len(), 4);
        assert_eq!((malformed, unfinished), (1, 1));
    }

    #[test]
    fn cuts_long_lines_and_joined_ones() {
        let (out, [cut, ..]) = run(b"abcdef\n\r\n\nxyz\n", &[], 4, FileFormat::Plain, true);
        let lines: Vec<_> = out.iter().map(|line| (line.2, &line.3[..])).collect();
        assert_eq!(
            lines,
            [(LINE_CUT, &b"abcd"[..]), (0, b"\r"), (0, b""), (0, b"xyz")]
        );
        assert_eq!(cut, 1);
        let data = b"1970-01-01T00:00:00Z stdout P abc\n1970-01-01T00:00:00Z stdout P def\n\
            1970-01-01T00:00:00Z stdout F ghi\n";
        let (out, [cut, ..]) = run(data, &[], 4, FileFormat::Cri, true);
        assert_eq!(out, [(0, 0, LINE_CUT, b"abcd".to_vec())]);
        assert_eq!(cut, 1);
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

            let mut counter = Counter::new(FileFormat::Cri, max_line, Joins::default(), None);
            let taken = counter.split(&data);
            if taken < data.len() {
                counter.line(&data[taken..]);
            }
            prop_assert_eq!(counter.finish().lines, whole.0.len() as u64);
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
