//! One turn of one file: read a bounded piece, make sure that the file is still the one that we
//! knew, and put its lines into the batch being made.

use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Instant, SystemTime};

use super::super::batch::{Batch, LINE_CUT, LINE_UNFINISHED, Span};
use super::super::cri::Clock;
use super::super::ledger::Amount;
use super::count::{self, Counter, Tally};
use super::file::{self, File};
use super::lines::{Piece, Splitter};
use super::multiline::Gather;
use super::nameless::{PIECE, read_at};
use super::pack::{Counts, Limits, Packer};
use super::start::nanos;
use super::stats::{GivenUp, Stats};
use crate::failpoint;

/// The most that one turn reads.
const TURN: usize = PIECE;
/// The least that one turn asks for: smaller reads cost more calls than they save.
const LEAST: usize = 16 << 10;
/// Room for a CRI line's time, stream and tag beside its body.
pub(super) const CRI_HEAD: usize = 128;

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Everything there is was read.
    Idle,
    /// There is more.
    More,
    /// The batch must be handed on before the file goes on.
    Full,
}

/// A batch being made.
pub(super) struct Building {
    pub(super) batch: Batch,
    number: u64,
}

/// What reading needs besides the file, reused from turn to turn.
pub(super) struct Reader {
    buffer: Box<[u8]>,
    head: Vec<u8>,
    /// A buffer for lines that are joined.
    spare: Vec<u8>,
    clock: Clock,
    limits: Limits,
    batches: u64,
    /// Room for lines in the next batch: about what the last ones had.
    lines: usize,
}

impl Reader {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            buffer: vec![0; TURN].into_boxed_slice(),
            head: Vec::new(),
            spare: Vec::new(),
            clock: Clock::default(),
            limits,
            batches: 0,
            lines: 0,
        }
    }

    pub(super) fn begin(&mut self, lane: usize) -> Building {
        self.batches += 1;
        Building {
            batch: Batch {
                lane,
                ..Batch::default()
            },
            number: self.batches,
        }
    }

    pub(super) fn end(&mut self, building: Building) -> Option<Batch> {
        let batch = building.batch;
        self.lines = (self.lines * 3 + batch.lines.len()) / 4;
        (!batch.spans.is_empty()).then_some(batch)
    }

    pub(super) fn is_full(&self, building: &Building) -> bool {
        self.limits.is_full(&building.batch)
    }

    /// Reads once from the open `file`. An error leaves the file as it was before.
    pub(super) fn turn(
        &mut self,
        file: &mut File,
        building: &mut Building,
        stats: &Stats,
    ) -> io::Result<Outcome> {
        let other_generation =
            |(number, _, generation)| number == building.number && generation != file.generation;
        if self.is_full(building) || file.in_batch.is_some_and(other_generation) {
            return Ok(Outcome::Full);
        }
        let result = self.read(file, building, stats);
        // Also after an error: lines in the batch must have their span.
        self.cover(file, building);
        result
    }

    fn read(
        &mut self,
        file: &mut File,
        building: &mut Building,
        stats: &Stats,
    ) -> io::Result<Outcome> {
        let Some(handle) = &file.handle else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let was = file.size;
        let from = file.scan;
        let long = file.scan > file.offset;
        let room = self.limits.batch_bytes - building.batch.bytes.len();
        let mut want = if long { TURN } else { room.clamp(LEAST, TURN) };
        let (mut read, mut meta);
        loop {
            read = read_at(handle, &mut self.buffer[..want], from)?;
            meta = handle.metadata()?;
            // A line that does not fit in a small read gets the whole buffer.
            let fits = read < want || want == TURN || long;
            if fits || memchr::memchr(b'\n', &self.buffer[..read]).is_some() {
                break;
            }
            want = TURN;
        }
        file.size = meta.size();
        file.written = meta.modified().ok();
        let end = from + read as u64;
        // Shorter than what was just read: it was read in time, and the next turn finds out.
        let shrunk_since = read > 0 && file.size < end;
        if file.copy {
            if file.offset != file.size {
                file.seek(file.size);
                file.position_due = true;
            }
        } else if !shrunk_since
            && (file.size < from || !file.check_head()? || !file.check_footprints()?)
        {
            self.truncated(file, was, building, stats);
            return Ok(Outcome::More);
        }
        failpoint::hit("tail.read");
        if read > 0 {
            file.active = Instant::now();
        }
        let before = file.offset;
        let mut outcome = if end < file.size || shrunk_since {
            Outcome::More
        } else {
            Outcome::Idle
        };
        if file.copy {
            outcome = Outcome::Idle;
        } else if long {
            match memchr::memchr(b'\n', &self.buffer[..read]) {
                None => file.scan = end,
                Some(feed) => {
                    let feed = from + feed as u64;
                    self.long_line(file, building, stats, feed)?;
                    file.offset = feed + 1;
                    file.scan = file.offset;
                    outcome = Outcome::More;
                }
            }
        } else {
            let chunk = std::mem::take(&mut self.buffer);
            let taken = self.put(file, building, stats, Piece::Chunk(&chunk[..read]));
            self.buffer = chunk;
            file.offset += taken as u64;
            file.scan = file.offset;
            if taken == 0 && read == TURN {
                file.scan = end;
            } else if self.is_full(building) && taken < read {
                outcome = Outcome::Full;
            }
        }
        if outcome == Outcome::Idle {
            self.rest(file, building, stats)?;
        }
        stats.bytes_read.fetch_add(file.offset - before, Relaxed);
        Ok(outcome)
    }

    /// Hands on what is not to be waited for any longer, in a file that was read to its end.
    fn rest(&mut self, file: &mut File, building: &mut Building, stats: &Stats) -> io::Result<()> {
        if file.finishing {
            if file.offset < file.size {
                self.long_line_end(file, building, stats)?;
            }
            self.put(file, building, stats, Piece::End);
        } else if file.flushing {
            self.put(file, building, stats, Piece::Parts);
        }
        file.flushing = false;
        if file.gathering.is_some()
            && let Some(streams) = file.due(Instant::now())
        {
            self.put(file, building, stats, Piece::Joined(streams));
        }
        Ok(())
    }

    /// Counts the lines from the read position to the end, those that are held back included, for a
    /// file that is given up.
    pub(super) fn count(&mut self, file: &File, go_on: impl Fn() -> bool) -> Amount {
        let counter = Counter::of(file, self.limits.max_line);
        let (tally, end) = match &file.handle {
            Some(handle) => count::rest(handle, counter, file.offset, &mut self.buffer, go_on),
            None => (counter.finish(), file.offset),
        };
        let Tally { lines, joined } = tally;
        let seen = file.size.saturating_sub(file.low_water());
        let lost = Amount {
            lines,
            joined,
            bytes: seen.max(end.saturating_sub(file.low_water())),
        };
        if end >= file.size {
            return lost;
        }
        // It could not be read to its end, but a part of that has been read before.
        Amount {
            lines: lines.max(file.taken_back.lines),
            joined: joined.max(file.taken_back.joined),
            ..lost
        }
    }

    fn truncated(&mut self, file: &mut File, was: u64, building: &mut Building, stats: &Stats) {
        // What we hold are the last lines of the old contents.
        self.put(file, building, stats, Piece::End);
        self.cover(file, building);
        let bytes = was.saturating_sub(file.offset);
        let unseen = Amount {
            bytes,
            ..std::mem::take(&mut file.taken_back)
        };
        if bytes > 0 {
            stats.give_up(GivenUp::Truncated, file.id, unseen);
        }
        stats.truncations.fetch_add(1, Relaxed);
        failpoint::hit("tail.truncated");
        file.renew();
    }

    /// Takes the line from the read position to `feed` that is longer than the buffer.
    fn long_line(
        &mut self,
        file: &mut File,
        building: &mut Building,
        stats: &Stats,
        feed: u64,
    ) -> io::Result<()> {
        self.read_head(file, feed)?;
        let head = std::mem::take(&mut self.head);
        let cut = (head.len() as u64) < feed - file.offset;
        let flags = if cut { LINE_CUT } else { 0 };
        self.put(file, building, stats, Piece::Line(&head, flags));
        self.head = head;
        Ok(())
    }

    /// Takes what stands behind the last line feed, as an unfinished line.
    fn long_line_end(
        &mut self,
        file: &mut File,
        building: &mut Building,
        stats: &Stats,
    ) -> io::Result<()> {
        self.read_head(file, file.size)?;
        let head = std::mem::take(&mut self.head);
        let cut = (head.len() as u64) < file.size - file.offset;
        let cut = if cut { LINE_CUT } else { 0 };
        let piece = Piece::Line(&head, LINE_UNFINISHED | cut);
        self.put(file, building, stats, piece);
        self.head = head;
        file.offset = file.size;
        file.scan = file.size;
        Ok(())
    }

    /// Reads a line's beginning, at most the longest allowed, into `self.head`.
    fn read_head(&mut self, file: &File, end: u64) -> io::Result<()> {
        let most = self.limits.max_line + CRI_HEAD;
        let length = usize::try_from(end - file.offset).map_or(most, |length| length.min(most));
        self.head.resize(length, 0);
        match &file.handle {
            Some(handle) => handle.read_exact_at(&mut self.head, file.offset),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Puts lines of `file` into the batch; `piece` begins at the file's read offset. Returns how many
    /// bytes of it were taken.
    fn put(
        &mut self,
        file: &mut File,
        building: &mut Building,
        stats: &Stats,
        piece: Piece<'_>,
    ) -> usize {
        let span = match file.in_batch {
            Some((number, span, _)) if number == building.number => span,
            _ => building.batch.spans.len() as u32,
        };
        let batch = &mut building.batch;
        if batch.lines.is_empty() && self.lines > 0 {
            batch.lines.reserve(self.lines);
            batch.positions.reserve(self.lines);
            batch
                .bytes
                .reserve(self.limits.batch_bytes.min(self.lines * 256));
        }
        let before = batch.lines.len();
        let (mut counts, mut malformed) = (Counts::default(), 0);
        let splitter = Splitter {
            format: file.format,
            max_line: self.limits.max_line,
            now: nanos(SystemTime::now()),
            clock: &mut self.clock,
            joins: &mut file.joins,
            malformed: &mut malformed,
            out: Packer {
                batch,
                limits: self.limits,
                span,
                counts: &mut counts,
            },
        };
        let taken = match &mut file.gathering {
            None => splitter.take(piece, file.offset),
            Some(gathering) => splitter
                .through(|out| Gather {
                    gathering,
                    spare: &mut self.spare,
                    now: Instant::now(),
                    max_line: self.limits.max_line,
                    out,
                })
                .take(piece, file.offset),
        };
        let lines = building.batch.lines.len() - before;
        if file.taken_back != Amount::default() {
            let joined = building.batch.joined.iter().skip(before);
            file.taken_back -= Amount {
                lines: lines as u64,
                joined: joined.map(|joined| u64::from(joined.lines)).sum(),
                bytes: 0,
            };
        }
        stats.lines_read.fetch_add(lines as u64, Relaxed);
        for (counter, count) in [
            (&stats.lines_cut, counts.cut),
            (&stats.malformed, malformed),
            (&stats.lines_unfinished, counts.unfinished),
        ] {
            if count > 0 {
                counter.fetch_add(count, Relaxed);
            }
        }
        if lines > 0 {
            file.position_due = true;
        }
        taken
    }

    /// Puts the file's span into the batch, or moves its end, if there is something to record.
    fn cover(&mut self, file: &mut File, building: &mut Building) {
        if !std::mem::take(&mut file.position_due) {
            return;
        }
        let end = file.low_water();
        let footprint = file.handle.as_ref().and_then(|handle| {
            // Without one, nothing is checked.
            file::footprint(handle, end).unwrap_or_default()
        });
        if file.taken_back != Amount::default() {
            file.taken_back.bytes = file.taken_back.bytes.saturating_sub(end - file.marked);
            if file.taken_back.bytes == 0 {
                // All of it was read again, even if other lines came of it now.
                file.taken_back = Amount::default();
            }
        }
        match file.in_batch {
            Some((number, index, _)) if number == building.number => {
                let span = &mut building.batch.spans[index as usize];
                span.end = end;
                span.footprint = footprint;
                span.fingerprint = file.fingerprint;
            }
            _ => {
                let index = building.batch.spans.len() as u32;
                file.in_batch = Some((building.number, index, file.generation));
                building.batch.spans.push(Span {
                    file: file.id,
                    generation: file.generation,
                    fingerprint: file.fingerprint,
                    source: file.source.clone(),
                    start: file.marked,
                    end,
                    again: std::mem::take(&mut file.again),
                    footprint,
                });
            }
        }
        file.marked = end;
    }
}
