//! The record that is open in each stream of a file, and the sink that joins lines onto it.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::super::super::batch::LINE_CUT;
use super::super::lines::{Record, Sink};
use super::machine::State;
use super::rules::{Rules, Step};

/// A buffer of more than this is not kept for the next record.
const SPARE: usize = 16 << 10;

/// A record to which further lines may come.
#[derive(Debug, Clone)]
struct Open {
    /// Offset of its first line.
    at: u64,
    /// Offset of its last line.
    last: u64,
    /// Time of its first line.
    time: i64,
    bytes: Vec<u8>,
    flags: u32,
    lines: u32,
    state: State,
    /// When its last line came.
    since: Instant,
}

impl Open {
    /// Joins a line onto it, as far as `max_line` bytes reach.
    fn join(&mut self, line: &Record<'_>, state: State, now: Instant, max_line: usize) {
        self.last = line.last;
        self.lines += 1;
        self.state = state;
        self.since = now;
        self.flags |= line.flags;
        let room = max_line.saturating_sub(self.bytes.len());
        let whole = line.body.len() < room;
        if room > 0 {
            self.bytes.push(b'\n');
            let length = line.body.len().min(room - 1);
            self.bytes.extend_from_slice(&line.body[..length]);
        }
        if !whole {
            self.flags |= LINE_CUT;
        }
    }
}

/// The open records of one file: stdout and stderr do not mix.
#[derive(Debug, Clone)]
pub(in super::super) struct Gathering {
    rules: Arc<Rules>,
    streams: [Option<Open>; 2],
}

impl Gathering {
    pub(in super::super) fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            streams: [None, None],
        }
    }

    pub(in super::super) fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// Offset of the first line of an open record: what comes before has been handed on.
    pub(in super::super) fn start(&self) -> Option<u64> {
        self.streams.iter().flatten().map(|open| open.at).min()
    }

    /// How much memory its open records hold.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> [usize; 2] {
        [0, 1].map(|stream| {
            self.streams[stream]
                .as_ref()
                .map_or(0, |open| open.bytes.len())
        })
    }

    /// The streams whose record has waited for as long as it may, if any. `parts` are those of which
    /// a line is under way.
    pub(in super::super) fn due(&self, now: Instant, parts: [bool; 2]) -> Option<[bool; 2]> {
        let due = [0, 1].map(|stream| {
            let open = self.streams[stream].as_ref();
            let late = |open: &Open| now.duration_since(open.since) >= self.rules.timeout;
            !parts[stream] && open.is_some_and(late)
        });
        (due != [false; 2]).then_some(due)
    }
}

/// Joins lines and hands the records on to another sink.
pub(in super::super) struct Gather<'a, S> {
    pub(in super::super) gathering: &'a mut Gathering,
    /// A buffer for the next record, reused across records and files.
    pub(in super::super) spare: &'a mut Vec<u8>,
    pub(in super::super) now: Instant,
    /// Records are cut here.
    pub(in super::super) max_line: usize,
    pub(in super::super) out: S,
}

impl<S: Sink> Gather<'_, S> {
    fn begin(&mut self, line: &Record<'_>, body: &[u8], state: State) {
        let mut bytes = mem::take(self.spare);
        bytes.extend_from_slice(body);
        let cut = if body.len() < line.body.len() {
            LINE_CUT
        } else {
            0
        };
        self.gathering.streams[line.stream()] = Some(Open {
            at: line.at,
            last: line.last,
            time: line.time,
            bytes,
            flags: line.flags | cut,
            lines: 1,
            state,
            since: self.now,
        });
    }

    fn hand_on(&mut self, stream: usize) {
        let Some(mut open) = self.gathering.streams[stream].take() else {
            return;
        };
        self.out.take(Record {
            at: open.at,
            last: open.last,
            time: open.time,
            body: &open.bytes,
            flags: open.flags,
            joined: open.lines - 1,
        });
        if open.bytes.capacity() <= SPARE {
            open.bytes.clear();
            *self.spare = open.bytes;
        }
    }
}

impl<S: Sink> Sink for Gather<'_, S> {
    fn is_full(&self) -> bool {
        self.out.is_full()
    }

    fn take(&mut self, line: Record<'_>) {
        let stream = line.stream();
        // What stands behind the limit may or may not be at hand, and must not decide anything.
        let body = &line.body[..line.body.len().min(self.max_line)];
        let Gathering { rules, streams } = &mut *self.gathering;
        let open = streams[stream]
            .as_mut()
            .filter(|open| open.lines < rules.max_lines);
        let state = open.as_ref().map(|open| open.state);
        match (rules.step(state, body), open) {
            (Step::Continues(state), Some(open)) => {
                open.join(&line, state, self.now, self.max_line);
            }
            (Step::Begins(state) | Step::Continues(state), _) => {
                self.hand_on(stream);
                self.begin(&line, body, state);
            }
            (Step::Alone, _) => {
                self.hand_on(stream);
                self.out.take(line);
            }
        }
    }

    fn take_alone(&mut self, line: Record<'_>) {
        self.out.take_alone(line);
    }

    fn release(&mut self, streams: [bool; 2]) {
        let start = |open: &Option<Open>| open.as_ref().map_or(u64::MAX, |open| open.at);
        let [stdout, stderr] = &self.gathering.streams;
        let first = usize::from(start(stderr) < start(stdout));
        for stream in [first, 1 - first] {
            if streams[stream] {
                self.hand_on(stream);
            }
        }
    }
}
