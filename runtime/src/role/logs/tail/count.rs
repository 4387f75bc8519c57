//! Counting lines without keeping any: those of a file that is given up.

use std::fs;
use std::time::Instant;

use super::super::cri::Clock;
use super::file::File;
use super::lines::{Joins, Piece, Record, Sink, Splitter};
use super::multiline::{Gather, Gathering};
use super::nameless::read_at;
use super::read::CRI_HEAD;
use crate::manifest::FileFormat;

/// How many lines there were.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    /// Lines, as they would have come out: joined ones are one.
    pub(super) lines: u64,
    /// How many were joined onto another.
    pub(super) joined: u64,
}

impl Sink for &mut Tally {
    fn is_full(&self) -> bool {
        false
    }

    fn take(&mut self, record: Record<'_>) {
        self.lines += 1;
        self.joined += u64::from(record.joined);
    }
}

/// Counts what reading would have handed on, by the same way through [`Splitter`].
pub(super) struct Counter {
    format: FileFormat,
    max_line: usize,
    clock: Clock,
    joins: Joins,
    gathering: Option<Box<Gathering>>,
    spare: Vec<u8>,
    now: Instant,
    tally: Tally,
}

impl Counter {
    /// Of a file, from where reading stopped.
    pub(super) fn of(file: &File, max_line: usize) -> Self {
        Self::new(
            file.format,
            max_line,
            file.joins.clone(),
            file.gathering.clone(),
        )
    }

    pub(super) fn new(
        format: FileFormat,
        max_line: usize,
        joins: Joins,
        gathering: Option<Box<Gathering>>,
    ) -> Self {
        Self {
            format,
            max_line,
            clock: Clock::default(),
            joins,
            gathering,
            spare: Vec::new(),
            now: Instant::now(),
            tally: Tally::default(),
        }
    }

    /// Takes whole lines off `chunk`; returns how many bytes were taken.
    pub(super) fn split(&mut self, chunk: &[u8]) -> usize {
        self.take(Piece::Chunk(chunk))
    }

    /// Takes one line.
    pub(super) fn line(&mut self, line: &[u8]) {
        self.take(Piece::Line(line, 0));
    }

    /// How many lines there were, those that never ended included.
    pub(super) fn finish(mut self) -> Tally {
        self.take(Piece::End);
        self.tally
    }

    fn take(&mut self, piece: Piece<'_>) -> usize {
        let mut malformed = 0;
        let splitter = Splitter {
            format: self.format,
            max_line: self.max_line,
            now: 0,
            clock: &mut self.clock,
            joins: &mut self.joins,
            malformed: &mut malformed,
            out: &mut self.tally,
        };
        match &mut self.gathering {
            None => splitter.take(piece, 0),
            Some(gathering) => splitter
                .through(|out| Gather {
                    gathering,
                    spare: &mut self.spare,
                    now: self.now,
                    max_line: self.max_line,
                    out,
                })
                .take(piece, 0),
        }
    }
}

/// Counts the lines of `file` from `at`, where reading would go on, to the end, which is returned, too;
/// or for as long as `go_on`. `piece` is [`super::nameless::PIECE`] long.
pub(super) fn rest(
    file: &fs::File,
    mut counter: Counter,
    mut at: u64,
    piece: &mut [u8],
    go_on: impl Fn() -> bool,
) -> (Tally, u64) {
    // Of a line that is longer than a piece, the beginning that reading would take.
    let most = counter.max_line + CRI_HEAD;
    let mut head = Vec::new();
    let mut in_long_line = false;
    let mut end = at;
    while let Ok(read) = read_at(file, piece, at)
        && go_on()
    {
        let chunk = &piece[..read];
        end = at + read as u64;
        let mut taken;
        if in_long_line {
            let feed = memchr::memchr(b'\n', chunk);
            let more = feed.unwrap_or(read).min(most - head.len());
            head.extend_from_slice(&chunk[..more]);
            taken = feed.map_or(0, |feed| feed + 1);
        } else {
            taken = counter.split(chunk);
            head.clear();
            let start = if taken == 0 { read.min(most) } else { 0 };
            head.extend_from_slice(&chunk[..start]);
        }
        let ended = in_long_line && taken > 0;
        if taken == 0 && read < piece.len() {
            if in_long_line || read > 0 {
                counter.line(&head);
            }
            break;
        }
        if ended {
            counter.line(&head);
        }
        in_long_line = taken == 0;
        if in_long_line {
            taken = read;
        }
        at += taken as u64;
    }
    (counter.finish(), end)
}
