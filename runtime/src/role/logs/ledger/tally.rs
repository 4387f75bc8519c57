//! What became of the lines that were read: plain numbers, no rules.

use std::ops::{AddAssign, SubAssign};

use super::entry::Lines;
use super::under_way::Load;

/// Lines, and what they take in their file.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::role::logs) struct Amount {
    pub(in crate::role::logs) lines: u64,
    /// Lines that were joined onto those.
    pub(in crate::role::logs) joined: u64,
    /// With line feeds and everything that a runtime writes around a line.
    pub(in crate::role::logs) bytes: u64,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, more: Self) {
        self.lines += more.lines;
        self.joined += more.joined;
        self.bytes += more.bytes;
    }
}

impl SubAssign for Amount {
    fn sub_assign(&mut self, less: Self) {
        self.lines = self.lines.saturating_sub(less.lines);
        self.joined = self.joined.saturating_sub(less.joined);
        self.bytes = self.bytes.saturating_sub(less.bytes);
    }
}

/// What became of the lines that were read since the daemon started. What an interruption will have
/// read again is taken back.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::role::logs) struct Tally {
    pub(in crate::role::logs) settled: Settled,
    /// Lines that were joined onto those that were read or given up, beside them.
    pub(in crate::role::logs) joined: u64,
    /// Under way.
    pub(in crate::role::logs) in_flight: u64,
    /// Bytes of lines under way, without line feeds.
    pub(in crate::role::logs) in_flight_bytes: u64,
    /// Taken back, and truncated away before they could be read again.
    pub(in crate::role::logs) truncated: Amount,
    /// Taken back, and deleted before they could be read again.
    pub(in crate::role::logs) deleted: Amount,
}

impl Tally {
    pub(super) fn enter(&mut self, lines: &Lines) {
        self.joined += lines.amount.joined;
        self.in_flight += lines.amount.lines;
        self.in_flight_bytes += lines.text;
    }

    fn leave(&mut self, load: Load) {
        self.in_flight = self.in_flight.saturating_sub(load.amount.lines);
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(load.text);
    }

    /// Every destination has passed these, of which some are in the dead letters.
    pub(super) fn settle(&mut self, load: Load, dead: u64) {
        self.leave(load);
        let acknowledged = load.routed.min(load.amount.lines).saturating_sub(dead);
        let filtered = load.amount.lines.saturating_sub(acknowledged + dead);
        self.settled.acknowledged += acknowledged;
        self.settled.filtered += filtered;
        self.settled.dead_lettered += dead;
        self.settled.bytes += load.text;
    }

    /// These are read again, and count as never read until then.
    pub(super) fn take_back(&mut self, load: Load) {
        self.leave(load);
        self.joined = self.joined.saturating_sub(load.amount.joined);
    }

    /// These will never be settled, because their content is no more.
    pub(super) fn give_up_truncated(&mut self, load: Load) {
        self.leave(load);
        self.truncated += load.amount;
    }

    /// These will never be settled, because their file is closed.
    pub(super) fn give_up_deleted(&mut self, load: Load) {
        self.leave(load);
        self.deleted += load.amount;
    }

    /// Lines read and not taken back.
    pub(in crate::role::logs) fn read(&self) -> u64 {
        let settled = &self.settled;
        settled.acknowledged + settled.filtered + settled.dead_lettered + self.in_flight
    }
}

/// What every destination has done with.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::role::logs) struct Settled {
    /// Every destination that they were routed to acknowledged them.
    pub(in crate::role::logs) acknowledged: u64,
    /// The plugin kept them from all destinations.
    pub(in crate::role::logs) filtered: u64,
    /// Written to the dead-letter file, because a destination will never accept them or the plugin
    /// cannot process them.
    pub(in crate::role::logs) dead_lettered: u64,
    /// Bytes of all these, without line feeds.
    pub(in crate::role::logs) bytes: u64,
}
