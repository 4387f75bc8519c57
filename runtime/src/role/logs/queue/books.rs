//! What is in a queue, as far as memory needs to know: the segments' lengths, and for each lane how
//! far it has come. Nothing here touches a file, and nothing grows with the number of records.
//!
//! Lines are counted for each lane since the queue was made: what is `kept` of a lane and not
//! `taken` waits, but for the [`Gaps`], which were dropped. What a lane finds missing beyond those
//! was damaged.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::super::output::Parcel;
use super::cursor::{Cursor, LaneCursor, Position};
use super::frame::RecordHeader;
use super::gaps::Gaps;
use super::merge::can_merge;
use super::segment::{Found, Segment};

/// Parcels that wait in memory for each lane, in bytes on the disk; at least one.
const HEAD: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Books {
    segments: BTreeMap<u64, Held>,
    lanes: Vec<Lane>,
    /// Number of the next record.
    pub(super) number: u64,
    /// Where it will be, or before that.
    end: Position,
    /// Lines kept since the queue was opened.
    pub(super) kept_lines: u64,
    /// Lines settled since then.
    pub(super) settled_lines: u64,
    /// Lines dropped to make room since then.
    pub(super) dropped: u64,
    /// Lines lost with damaged records since then.
    pub(super) damaged: u64,
}

/// A segment.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) segment: Arc<Segment>,
    /// Up to here it holds kept records.
    pub(super) length: u64,
    /// To be removed: what was left in it is accounted for.
    pub(super) dropped: bool,
}

#[derive(Debug, Default)]
struct Lane {
    /// Where the next record is looked for.
    read: Position,
    /// Lines that were handed out, or found missing.
    taken: u64,
    /// Lines that were kept.
    kept: u64,
    gaps: Gaps,
    at_work: Option<AtWork>,
    /// Parcels that need not be read back, in order.
    head: VecDeque<Waiting>,
    head_bytes: u64,
}

/// Parcels, one after the other in one segment, that are handed out as one and not settled.
#[derive(Debug)]
struct AtWork {
    parcels: Vec<Arc<Parcel>>,
    at: Position,
    lines_before: u64,
    lines: u64,
    /// What they take on the disk.
    bytes: u64,
    /// No more are to come.
    whole: bool,
}

/// A record that was kept and whose parcel is in memory.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) parcel: Arc<Parcel>,
    pub(super) segment: Arc<Segment>,
    pub(super) found: Found,
}

/// Where to look for a lane's next record.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) segment: Arc<Segment>,
    pub(super) from: u64,
    pub(super) until: u64,
    /// Lines of the lane that come before it.
    pub(super) taken: u64,
    /// Records are wanted until they have as many bytes, but at least one.
    pub(super) bytes: u64,
}

/// What a lane does next.
#[derive(Debug)]
pub(super) enum Next {
    Parcel(Arc<Parcel>),
    /// To be merged, and given to [`Books::merged`].
    Merge(Vec<Arc<Parcel>>),
    Read(Search),
    /// Nothing waits.
    Wait,
    /// So many lines were to be there and are not. Ask again.
    Lost(u64),
}

impl Books {
    /// As a cursor says, with the segments that there are.
    pub(super) fn new(cursor: &Cursor, segments: BTreeMap<u64, Held>) -> Self {
        let lane = |lane: &LaneCursor| Lane {
            read: lane.at,
            taken: lane.gaps.skip(lane.settled),
            kept: lane.kept,
            gaps: lane.gaps.clone(),
            ..Lane::default()
        };
        let last = segments.iter().next_back();
        let last = last.map(|(&segment, held)| Position {
            segment,
            offset: held.length,
        });
        let read = cursor.lanes.iter().map(|lane| lane.at);
        Self {
            end: read.chain(last).max().unwrap_or_default(),
            segments,
            lanes: cursor.lanes.iter().map(lane).collect(),
            number: cursor.number,
            kept_lines: 0,
            settled_lines: 0,
            dropped: 0,
            damaged: 0,
        }
    }

    /// Bytes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(|held| held.length).sum()
    }

    /// What is to be written down.
    pub(super) fn cursor(&self) -> Cursor {
        let at = |lane: &Lane| match &lane.at_work {
            Some(work) => work.at,
            None if lane.is_idle() => self.end,
            None => lane.read,
        };
        let lane = |lane: &Lane| LaneCursor {
            at: at(lane),
            settled: lane.settled(),
            kept: lane.kept,
            gaps: lane.gaps.clone(),
        };
        Cursor {
            number: self.number,
            lanes: self.lanes.iter().map(lane).collect(),
        }
    }

    /// Lets a cursor say of everything that is kept by now that it is.
    pub(super) fn promise(&self, cursor: &mut Cursor) {
        cursor.number = self.number;
        for (cursor, lane) in cursor.lanes.iter_mut().zip(&self.lanes) {
            cursor.kept = lane.kept;
        }
    }

    /// Lines of a lane that were kept.
    pub(super) fn kept(&self, lane: usize) -> u64 {
        self.lanes.get(lane).map_or(0, |lane| lane.kept)
    }

    /// A record is on the disk: it is its lane's to deliver.
    pub(super) fn keep(&mut self, waiting: Waiting) {
        let Found { header, .. } = waiting.found;
        let number = waiting.segment.number;
        let held = self.segments.entry(number).or_insert_with(|| Held {
            segment: waiting.segment.clone(),
            length: 0,
            dropped: false,
        });
        held.length = waiting.found.end();
        self.end = Position {
            segment: number,
            offset: held.length,
        };
        self.number = header.number + 1;
        self.kept_lines += u64::from(header.lines);
        let Some(lane) = self.lanes.get_mut(header.lane as usize) else {
            return;
        };
        lane.kept = header.lines_after();
        let next = match lane.head.back() {
            Some(last) => last.found.header.lines_after(),
            None => lane.taken,
        };
        let room = lane.head.is_empty() || lane.head_bytes + header.length() <= HEAD;
        if room && next == header.lines_before {
            lane.head_bytes += header.length();
            lane.head.push_back(waiting);
        }
    }

    /// The segment that is appended to has ended, and the next will be `number`.
    pub(super) fn seal(&mut self, number: u64) {
        self.end = self.end.max(Position {
            segment: number,
            offset: 0,
        });
    }

    /// What `lane` does next, where parcels are merged until they have `merged` bytes. What it was
    /// handed and has not settled, it is handed again.
    pub(super) fn next(&mut self, lane: usize, merged: u64) -> Next {
        let segments = &self.segments;
        let Some(lane) = self.lanes.get_mut(lane) else {
            return Next::Wait;
        };
        lane.take_from_head(merged);
        if let Some(work) = &mut lane.at_work {
            let search = match work.whole || work.bytes >= merged {
                true => None,
                false => segments.get(&work.at.segment).and_then(|held| {
                    let more = lane.taken < lane.kept
                        && lane.head.is_empty()
                        && lane.read.segment == work.at.segment
                        && lane.read.offset < held.length;
                    more.then(|| Search {
                        segment: held.segment.clone(),
                        from: lane.read.offset,
                        until: held.length,
                        taken: lane.taken,
                        bytes: merged.saturating_sub(work.bytes),
                    })
                }),
            };
            if let Some(search) = search {
                return Next::Read(search);
            }
            work.whole = true;
            return match &work.parcels[..] {
                [parcel] => Next::Parcel(parcel.clone()),
                parcels => Next::Merge(parcels.to_vec()),
            };
        }
        if lane.taken >= lane.kept {
            return Next::Wait;
        }
        let ahead = segments.range(lane.read.segment..);
        let mut ahead = ahead.filter(|(_, held)| !held.dropped);
        for (&number, held) in &mut ahead {
            if number > lane.read.segment {
                lane.read = Position {
                    segment: number,
                    offset: 0,
                };
            }
            if lane.read.offset < held.length {
                return Next::Read(Search {
                    segment: held.segment.clone(),
                    from: lane.read.offset,
                    until: held.length,
                    taken: lane.taken,
                    bytes: merged,
                });
            }
        }
        let lost = lane.skip_to(lane.kept);
        self.damaged += lost;
        Next::Lost(lost)
    }

    /// What was at work has been merged to this.
    pub(super) fn merged(&mut self, lane: usize, parcel: Arc<Parcel>) {
        let work = self
            .lanes
            .get_mut(lane)
            .and_then(|lane| lane.at_work.as_mut());
        if let Some(work) = work {
            work.parcels = vec![parcel];
        }
    }

    /// A lane's [`Search`] has ended with nothing for it.
    pub(super) fn not_found(&mut self, lane: usize, search: &Search) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            if let Some(work) = &mut lane.at_work {
                work.whole = true;
            }
            let after = Position {
                segment: search.segment.number,
                offset: search.until,
            };
            lane.read = lane.read.max(after);
        }
    }

    /// A lane's [`Search`] has found a record of it; no parcel if that is damaged. Returns how many
    /// lines turned out to be lost.
    pub(super) fn found(
        &mut self,
        lane: usize,
        search: &Search,
        found: Found,
        parcel: Option<Arc<Parcel>>,
    ) -> u64 {
        let Some(lane) = self.lanes.get_mut(lane) else {
            return 0;
        };
        let header = found.header;
        let segment = search.segment.number;
        if let Some(work) = &mut lane.at_work {
            // Merged with that if it follows, and otherwise found once more.
            let follows = !work.whole && work.at.segment == segment;
            let follows = follows && header.lines_before == lane.taken;
            match parcel.filter(|parcel| follows && can_merge(parcel)) {
                Some(parcel) => lane.hand_out(segment, found, parcel),
                None => work.whole = true,
            }
            return 0;
        }
        let gone = header.lines_before < lane.taken
            || lane.gaps.skip(header.lines_before) != header.lines_before;
        if gone {
            // The segment with it, or the lane has moved on.
            return 0;
        }
        let mut lost = lane.skip_to(header.lines_before);
        match parcel {
            Some(parcel) => lane.hand_out(segment, found, parcel),
            None => {
                lane.read = Position {
                    segment,
                    offset: found.end(),
                };
                lost += lane.skip_to(header.lines_after());
            }
        }
        self.damaged += lost;
        lost
    }

    /// A lane could not read more than what it has at work, if it has something.
    pub(super) fn no_more(&mut self, lane: usize) -> bool {
        let work = self
            .lanes
            .get_mut(lane)
            .and_then(|lane| lane.at_work.as_mut());
        work.map(|work| work.whole = true).is_some()
    }

    /// What a lane was handed is settled.
    pub(super) fn settle(&mut self, lane: usize) {
        if let Some(lane) = self.lanes.get_mut(lane)
            && let Some(work) = lane.at_work.take()
        {
            self.settled_lines += work.lines;
            lane.gaps.forget_before(lane.taken);
        }
    }

    /// Lines that wait or are at work.
    pub(super) fn lines(&self) -> u64 {
        self.lanes.iter().map(Lane::lines).sum()
    }

    /// When the oldest line at work was written, in nanoseconds since 1970.
    pub(super) fn oldest(&self) -> Option<i64> {
        let at_work = self.lanes.iter().filter_map(|lane| lane.at_work.as_ref());
        let parcels = at_work.flat_map(|work| &work.parcels);
        let lines = parcels.flat_map(|parcel| &parcel.batch.lines);
        lines.map(|line| line.time).min()
    }

    /// Whether everything was settled.
    pub(super) fn is_idle(&self) -> bool {
        self.lanes.iter().all(Lane::is_idle)
    }

    /// The segments that all lanes have left behind, by what `cursor` says.
    pub(super) fn consumed(&self, cursor: &Cursor) -> Vec<u64> {
        let first = cursor.lanes.iter().map(|lane| lane.at.segment).min();
        let consumed = self.segments.range(..first.unwrap_or(0));
        consumed.map(|(&number, _)| number).collect()
    }

    /// The segments of which what was left is accounted for, by what the books' cursor says.
    pub(super) fn dropped_segments(&self) -> Vec<u64> {
        let dropped = self.segments.iter().filter(|(_, held)| held.dropped);
        dropped.map(|(&number, _)| number).collect()
    }

    pub(super) fn forget(&mut self, segment: u64) {
        self.segments.remove(&segment);
    }

    /// The oldest segment of which no lane has anything at work.
    pub(super) fn oldest_free(&self, active: Option<u64>) -> Option<(Arc<Segment>, u64)> {
        let free = self.segments.iter().filter(|(number, held)| {
            !held.dropped && Some(**number) != active && !self.is_at_work(**number)
        });
        free.map(|(_, held)| (held.segment.clone(), held.length))
            .next()
    }

    pub(super) fn is_at_work(&self, segment: u64) -> bool {
        let mut at_work = self.lanes.iter().filter_map(|lane| lane.at_work.as_ref());
        at_work.any(|work| work.at.segment == segment)
    }

    /// Drops a segment with these records in it, unless a lane has begun with one of them. Returns how
    /// many lines of it had not been settled.
    pub(super) fn drop_segment(&mut self, segment: u64, records: &[RecordHeader]) -> u64 {
        if self.is_at_work(segment) {
            return 0;
        }
        let dropped = records.iter().map(|header| self.drop_record(header)).sum();
        self.dropped += dropped;
        if let Some(held) = self.segments.get_mut(&segment) {
            held.dropped = true;
        }
        for lane in &mut self.lanes {
            lane.head
                .retain(|waiting| waiting.segment.number != segment);
            let lengths = lane
                .head
                .iter()
                .map(|waiting| waiting.found.header.length());
            lane.head_bytes = lengths.sum();
        }
        dropped
    }

    /// Returns how many of its lines had not been settled.
    fn drop_record(&mut self, header: &RecordHeader) -> u64 {
        let Some(lane) = self.lanes.get_mut(header.lane as usize) else {
            return 0;
        };
        if header.lines_before < lane.taken {
            return 0;
        }
        let new = lane.gaps.add(header.lines_before, header.lines_after());
        lane.taken = lane.gaps.skip(lane.taken);
        new
    }
}

impl Lane {
    /// Takes what need not be read back, as far as it can be handed out as one.
    fn take_from_head(&mut self, merged: u64) {
        let next = |lane: &Self, waiting: &Waiting| {
            let before = waiting.found.header.lines_before;
            before < lane.taken
                || before == lane.taken
                    && lane.at_work.as_ref().is_none_or(|work| {
                        !work.whole
                            && work.bytes < merged
                            && work.at.segment == waiting.segment.number
                            && can_merge(&waiting.parcel)
                    })
        };
        while self.head.front().is_some_and(|waiting| next(self, waiting))
            && let Some(waiting) = self.head.pop_front()
        {
            let Waiting {
                parcel,
                segment,
                found,
            } = waiting;
            self.head_bytes -= found.header.length();
            if found.header.lines_before == self.taken {
                let mergeable = can_merge(&parcel);
                self.hand_out(segment.number, found, parcel);
                if let Some(work) = &mut self.at_work {
                    work.whole |= !mergeable || work.bytes >= merged;
                }
            }
        }
    }

    /// Adds to what is at work, or begins with it.
    fn hand_out(&mut self, segment: u64, found: Found, parcel: Arc<Parcel>) {
        let header = found.header;
        let at = |offset| Position { segment, offset };
        self.read = at(found.end());
        self.taken = self.gaps.skip(header.lines_after());
        let whole = !can_merge(&parcel);
        let work = self.at_work.get_or_insert_with(|| AtWork {
            parcels: Vec::new(),
            at: at(found.at),
            lines_before: header.lines_before,
            lines: 0,
            bytes: 0,
            whole,
        });
        work.parcels.push(parcel);
        work.lines += u64::from(header.lines);
        work.bytes += header.length();
    }

    /// Goes on with line `line`. Returns how many before it are missing.
    fn skip_to(&mut self, line: u64) -> u64 {
        let missing = line.saturating_sub(self.taken) - self.gaps.within(self.taken, line);
        self.taken = self.gaps.skip(line);
        self.gaps.forget_before(self.settled());
        missing
    }

    fn settled(&self) -> u64 {
        let work = self.at_work.as_ref();
        work.map_or(self.taken, |work| work.lines_before)
    }

    fn lines(&self) -> u64 {
        let waiting = self.kept.saturating_sub(self.taken);
        let gone = self.gaps.within(self.taken, self.kept);
        waiting.saturating_sub(gone) + self.at_work.as_ref().map_or(0, |work| work.lines)
    }

    fn is_idle(&self) -> bool {
        self.at_work.is_none() && self.taken >= self.kept
    }
}
