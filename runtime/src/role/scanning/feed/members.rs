//! Who subscribed, and whose turn it is: one pass at a time, for all that are due or will be soon.

use std::sync::Arc;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::cache::{Cache, PassRecord};
use super::lane::Lane;
use super::pace::Pace;
use super::pass::{Pass, Running, Taker, now};
use super::subscription::PassKind;
use super::{Shared, lock};
use crate::manifest::{Budget, Schedule};

/// Plugins that start at about the same time share their first pass.
const SETTLE: Duration = Duration::from_millis(500);
/// Whoever is due within this part of its period joins a pass that begins.
const SOON: u32 = 8;
/// How often it is looked whether somebody is gone.
const TICK: Duration = Duration::from_secs(1);

/// One subscriber.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) lane: Arc<Lane>,
    schedule: Schedule,
    budget: Budget,
    record: PassRecord,
    /// When the next pass over what changed is due.
    changed_due: Instant,
    /// A pass was asked for.
    requested: Option<PassKind>,
}

/// All of them, and the pass under way.
#[derive(Debug, Default)]
pub(super) struct Members {
    members: Vec<Member>,
    pub(super) running: Option<Running>,
    /// Passes that have begun.
    begun: u64,
    stopping: bool,
    /// Counts up whenever somebody comes or goes.
    pub(super) generation: u64,
}

impl Member {
    pub(super) fn new(
        lane: Arc<Lane>,
        schedule: Schedule,
        budget: Budget,
        record: PassRecord,
    ) -> Self {
        Self {
            lane,
            schedule,
            budget,
            record,
            changed_due: Instant::now() + SETTLE,
            requested: None,
        }
    }

    pub(super) fn is_real_time(&self) -> bool {
        self.schedule.real_time
    }

    /// How long until its next pass, and which it is.
    fn due(&self, at: Instant, wall: u64) -> (Duration, PassKind) {
        let changed = self.changed_due.saturating_duration_since(at);
        let full = self.schedule.full.0.as_secs();
        let full = self.record.full_ended.saturating_add(full);
        let full = Duration::from_secs(full.saturating_sub(wall));
        if let Some(kind) = self.requested {
            // A full pass passes what changed as well, and must not be put off by whoever asks often.
            let is_due = self.record.full_runs || full.is_zero();
            return (Duration::ZERO, if is_due { PassKind::Full } else { kind });
        }
        if self.record.full_runs {
            return (changed, PassKind::Full);
        }
        match full <= changed {
            true => (full, PassKind::Full),
            false => (changed, PassKind::Changed),
        }
    }

    fn period(&self, kind: PassKind) -> Duration {
        match kind {
            PassKind::Changed => self.schedule.changed.0,
            PassKind::Full => self.schedule.full.0,
        }
    }

    fn take(&mut self, kind: PassKind) -> Taker {
        self.requested = None;
        Taker {
            lane: self.lane.clone(),
            kind,
            budget: self.budget.clone(),
            record: self.record,
        }
    }
}

impl Members {
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// Those that are shown at once what happens, in this order.
    pub(super) fn real_time(&self) -> Vec<Arc<Lane>> {
        let members = self.members.iter().filter(|member| member.is_real_time());
        members.map(|member| member.lane.clone()).collect()
    }

    /// The strictest budget of those holds for what happens. There are no pauses: it is little, and now.
    pub(super) fn set_event_pace(&self, pace: &Pace) {
        let members = self.members.iter().filter(|member| member.is_real_time());
        pace.set_to_strictest(members.map(|member| &member.budget), None);
    }

    /// Whoever has dropped its end.
    pub(super) fn forget_closed(&mut self) {
        let before = self.members.len();
        self.members.retain(|member| !member.lane.is_closed());
        self.generation += u64::from(self.members.len() != before);
    }

    pub(super) fn add(&mut self, mut member: Member, cache: &Cache) {
        if member.record.full_ended == 0 {
            // The first pass passes everything anyway.
            member.record.full_ended = now();
            cache.record(member.lane.number, member.record);
        }
        self.members.push(member);
        self.generation += 1;
    }

    /// The number of the pass in which this is done; none if nobody of this name is there.
    pub(super) fn request(&mut self, name: &str, kind: PassKind) -> Option<u64> {
        let members = self.members.iter_mut();
        let mut members =
            members.filter(|member| member.lane.name == name && !member.lane.is_closed());
        let member = members.next()?;
        // Whoever asked for everything before gets it.
        if member.requested != Some(PassKind::Full) {
            member.requested = Some(kind);
        }
        Some(self.begun + 1)
    }

    /// Something may have been missed: everything that changed is passed soon to those that want it at
    /// once.
    pub(super) fn rescan(&mut self) {
        let members = self.members.iter_mut();
        for member in members.filter(|member| member.is_real_time()) {
            member.requested = member.requested.or(Some(PassKind::Changed));
        }
    }

    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Who takes part in a pass that begins now; otherwise how long until one may.
    fn next(&mut self) -> Result<Vec<Taker>, Duration> {
        let at = Instant::now();
        let wall = now();
        let due = self.members.iter().map(|member| member.due(at, wall).0);
        let first = due.min().unwrap_or(TICK);
        if !first.is_zero() {
            return Err(first.min(TICK));
        }
        let soon = self.members.iter_mut().filter_map(|member| {
            let (wait, kind) = member.due(at, wall);
            let slack = (member.period(kind) / SOON).max(SETTLE);
            (wait <= slack).then(|| member.take(kind))
        });
        Ok(soon.collect())
    }
}

/// Runs passes until the feed ends.
pub(super) fn run(shared: &Arc<Shared>) {
    loop {
        let pass = {
            let mut members = lock(&shared.members);
            loop {
                if members.stopping {
                    return;
                }
                members.forget_closed();
                match members.next() {
                    Ok(takers) => {
                        members.begun += 1;
                        let pass = Pass::new(shared, members.begun, takers);
                        members.running = Some(pass.running.clone());
                        break pass;
                    }
                    Err(wait) => {
                        let waited = shared.changed.wait_timeout(members, wait);
                        members = waited.unwrap_or_else(PoisonError::into_inner).0;
                    }
                }
            }
        };
        let records = pass.run(shared);
        crate::allocator::give_back();
        let mut members = lock(&shared.members);
        members.running = None;
        for member in &mut members.members {
            // Not by its name: another one may have subscribed under it meanwhile.
            let mut records = records.iter();
            let record = records.find(|(lane, _)| Arc::ptr_eq(lane, &member.lane));
            if let Some((_, record)) = record {
                member.record = *record;
                member.changed_due = Instant::now() + member.schedule.changed.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::account::Account;
    use super::*;

    #[test]
    fn whoever_asks_for_what_changed_does_not_put_off_a_full_pass() {
        let state = tempfile::tempdir().unwrap();
        let account = Arc::new(Account::new(Cache::open(state.path()).unwrap()));
        let (sender, _messages) = tokio::sync::mpsc::channel(1);
        let (scope, interest) = Default::default();
        let name = "local/scanner".to_owned();
        let lane = Lane::new(name, 0, scope, interest, 0, account, sender);
        let budget = Budget::default();
        let record = PassRecord::default();
        let mut member = Member::new(Arc::new(lane), Schedule::default(), budget, record);
        member.requested = Some(PassKind::Changed);
        let mut kind = |record, wall| {
            member.record = record;
            member.due(Instant::now(), wall)
        };
        let period = Schedule::default().full.0.as_secs();
        let now = |kind| (Duration::ZERO, kind);
        assert_eq!(kind(record, period - 1), now(PassKind::Changed));
        assert_eq!(kind(record, period), now(PassKind::Full));
        let interrupted = PassRecord {
            full_runs: true,
            ..record
        };
        assert_eq!(kind(interrupted, 0), now(PassKind::Full));
    }
}
