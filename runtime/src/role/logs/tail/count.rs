//! Counting lines without keeping any: those of a file that is given up.

use std::time::Instant;

use super::super::cri::Clock;
use super::file::File;
use super::lines::{Joins, Piece, Record, Sink, Splitter};
use super::multiline::{Gather, Gathering};
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
