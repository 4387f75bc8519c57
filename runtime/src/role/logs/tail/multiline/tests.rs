//! Joining, from lines to records.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod presets;
mod property;

use std::time::{Duration, Instant};

use super::*;
use crate::manifest::FileFormat;
use crate::manifest::{JoinRule, LinePattern, Multiline, Period};
use crate::role::logs::batch::{Batch, LINE_CUT, LINE_STDERR};
use crate::role::logs::cri::Clock;
use crate::role::logs::tail::lines::{Joins, Piece, Splitter};
use crate::role::logs::tail::pack::{Counts, Limits, Packer};

/// A file's lines on their way through the joining.
struct Bench {
    max_line: usize,
    format: FileFormat,
    gathering: Gathering,
    batch: Batch,
    clock: Clock,
    joins: Joins,
    counts: Counts,
    spare: Vec<u8>,
    now: Instant,
    at: u64,
}

fn multiline(rule: JoinRule) -> Multiline {
    Multiline {
        rule,
        timeout: Period::seconds(2),
        max_lines: 100,
    }
}

fn pattern(text: &str) -> LinePattern {
    LinePattern::try_from(text.to_owned()).unwrap()
}

fn start(text: &str) -> Multiline {
    multiline(JoinRule::Start(pattern(text)))
}

impl Bench {
    fn new(multiline: &Multiline, format: FileFormat) -> Self {
        let rules = Rules::new(multiline).unwrap();
        Self {
            max_line: 1000,
            format,
            gathering: Gathering::new(rules.into()),
            batch: Batch::default(),
            clock: Clock::default(),
            joins: Joins::default(),
            counts: Counts::default(),
            spare: Vec::new(),
            now: Instant::now(),
            at: 0,
        }
    }

    fn take(&mut self, piece: Piece<'_>) -> usize {
        let splitter = Splitter {
            format: self.format,
            max_line: self.max_line,
            now: 7,
            clock: &mut self.clock,
            joins: &mut self.joins,
            malformed: &mut 0,
            out: Packer {
                batch: &mut self.batch,
                limits: Limits {
                    max_line: self.max_line,
                    batch_bytes: usize::MAX,
                    batch_lines: usize::MAX,
                },
                span: 0,
                counts: &mut self.counts,
            },
        };
        let gather = splitter.through(|out| Gather {
            gathering: &mut self.gathering,
            spare: &mut self.spare,
            now: self.now,
            max_line: self.max_line,
            out,
        });
        let taken = gather.take(piece, self.at);
        self.at += taken as u64;
        taken
    }

    fn write(&mut self, text: &str) -> &mut Self {
        self.take(Piece::Chunk(text.as_bytes()));
        self
    }

    /// Hands on what is due.
    fn tick(&mut self, later: Duration) -> &mut Self {
        self.now += later;
        if let Some(due) = self.gathering.due(self.now, self.joins.pending()) {
            self.take(Piece::Joined(due));
        }
        self
    }

    fn end(&mut self) -> &mut Self {
        self.take(Piece::End);
        self
    }

    fn bodies(&self) -> Vec<&str> {
        (0..self.batch.lines.len())
            .map(|index| std::str::from_utf8(self.batch.body(index)).unwrap())
            .collect()
    }

    fn flags(&self) -> Vec<u32> {
        self.batch.lines.iter().map(|line| line.flags).collect()
    }

    /// How many lines were joined onto each.
    fn joined(&self) -> Vec<u32> {
        (0..self.batch.lines.len())
            .map(|index| self.batch.joined(index).map_or(0, |joined| joined.lines))
            .collect()
    }
}

#[test]
fn a_start_takes_all_that_follows() {
    let mut bench = Bench::new(&start(r"^\d"), FileFormat::Plain);
    bench
        .write("cut off\n more\n1 a\n\tb\n\n2 c\n3 d\ne\n")
        .end();
    let expected = ["cut off\n more", "1 a\n\tb\n", "2 c", "3 d\ne"];
    assert_eq!(bench.bodies(), expected);
    assert_eq!(bench.joined(), [1, 2, 0, 1]);
    assert_eq!(bench.batch.positions, [0, 14, 22, 26]);
    assert_eq!(bench.batch.last_position(1), 21);
    assert_eq!(bench.batch.last_position(2), 22);
}

#[test]
fn a_continuation_goes_on_with_what_came_before() {
    let rule = JoinRule::Continuation(pattern(r"^\s|^and "));
    let mut bench = Bench::new(&multiline(rule), FileFormat::Plain);
    bench.write(" first\na\n b\nand c\nd\ne\n f\n").end();
    assert_eq!(bench.bodies(), [" first", "a\n b\nand c", "d", "e\n f"]);
}

#[test]
fn streams_do_not_mix_and_parts_are_joined_first() {
    let mut bench = Bench::new(&start("^>"), FileFormat::Cri);
    let t = |second: u32| format!("1970-01-01T00:00:0{second}Z");
    let text = [
        format!("{} stdout F > one\n", t(1)),
        format!("{} stderr F > two\n", t(2)),
        format!("{} stdout P of \n", t(3)),
        format!("{} stderr F of two\n", t(4)),
        "no CRI\n".to_owned(),
        format!("{} stdout F one\n", t(5)),
        format!("{} stdout P > th\n", t(6)),
        format!("{} stdout F ree\n", t(7)),
    ]
    .concat();
    bench.write(&text).end();
    let expected = ["no CRI", "> one\nof one", "> two\nof two", "> three"];
    assert_eq!(bench.bodies(), expected);
    assert_eq!(bench.flags(), [0, 0, LINE_STDERR, 0]);
    let seconds = |index: usize| bench.batch.lines[index].time / 1_000_000_000;
    assert_eq!([1, 2, 3].map(seconds), [1, 2, 6], "the first line's time");
    assert_eq!(bench.joined(), [0, 1, 1, 0]);
}

#[test]
fn a_record_is_handed_on_after_the_time_out() {
    let mut bench = Bench::new(&start("^>"), FileFormat::Cri);
    let t = "1970-01-01T00:00:00Z";
    let second = Duration::from_secs(1);
    bench.write(&format!("{t} stdout F > a\n{t} stderr F > b\n"));
    bench.tick(second).write(&format!("{t} stderr F c\n"));
    bench.tick(second);
    assert_eq!(bench.bodies(), ["> a"]);
    assert!(bench.gathering.start().is_some());
    // A line of which only a part has come is waited for.
    bench.write(&format!("{t} stderr P d\n")).tick(9 * second);
    assert_eq!(bench.bodies(), ["> a"]);
    bench.write(&format!("{t} stderr F e\n")).tick(second);
    assert_eq!(bench.bodies(), ["> a"]);
    bench.tick(second);
    assert_eq!(bench.bodies(), ["> a", "> b\nc\nde"]);
    assert_eq!(bench.gathering.start(), None);
}

#[test]
fn long_records_are_cut_and_swallow_their_rest() {
    let mut bench = Bench::new(&start("^>"), FileFormat::Plain);
    bench.max_line = 8;
    bench
        .write("> a\nbcd\n> a\nbcde\nf\n\n> abcdefgh\ni\n> a\nbc\n\n> a\nbc\n\n\n")
        .end();
    let expected = [
        "> a\nbcd",
        "> a\nbcde",
        "> abcdef",
        "> a\nbc\n",
        "> a\nbc\n\n",
    ];
    assert_eq!(bench.bodies(), expected);
    assert_eq!(bench.flags(), [0, LINE_CUT, LINE_CUT, 0, 0]);
    assert_eq!(bench.joined(), [1, 3, 1, 2, 3]);
    assert_eq!(bench.counts.cut, 2);
}

#[test]
fn what_is_pending_is_bounded() {
    let mut bench = Bench::new(&start("^>"), FileFormat::Plain);
    bench.max_line = 100;
    bench.write(&format!("> {}\n", "x".repeat(500)));
    assert_eq!(bench.gathering.bytes(), [100, 0]);
    bench.write("> a\n");
    for _ in 0..3 {
        bench.write(&format!("{}\n", "x".repeat(500)));
        assert_eq!(bench.gathering.bytes(), [100, 0]);
    }
    bench.end();
    assert_eq!(bench.gathering.bytes(), [0, 0]);
}

/// Of a line that is longer than the buffer that part is not even read.
#[test]
fn what_stands_behind_the_limit_decides_nothing() {
    let mut bench = Bench::new(&start("z"), FileFormat::Plain);
    bench.max_line = 4;
    bench.write("z\nabcdz\nabcz\n").end();
    assert_eq!(bench.bodies(), ["z\nab", "abcz"]);
}

#[test]
fn many_lines_are_several_records_and_nothing_is_lost() {
    let mut bench = Bench::new(
        &Multiline {
            max_lines: 3,
            ..start("^>")
        },
        FileFormat::Plain,
    );
    bench.write("> a\n1\n2\n3\n4\n5\n6\n> b\n").end();
    assert_eq!(bench.bodies(), ["> a\n1\n2", "3\n4\n5", "6", "> b"]);
    // Read again from the second record's start it is the same.
    let mut again = Bench::new(
        &Multiline {
            max_lines: 3,
            ..start("^>")
        },
        FileFormat::Plain,
    );
    again.write("3\n4\n5\n6\n> b\n").end();
    assert_eq!(again.bodies(), bench.bodies()[1..]);
}
