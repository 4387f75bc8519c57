//! Long files to which something happened: they are read by a thread of their own, so that others need not
//! wait for them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::look;
use super::pending::{Spot, What};
use super::{TICK, tools};
use crate::role::scanning::feed::facts::Facts;
use crate::role::scanning::feed::lane::Lane;
use crate::role::scanning::feed::read::Reader;
use crate::role::scanning::feed::{Shared, lock};

/// A file of which so much is to be read is long.
const LONG: u64 = 16 << 20;
/// So many may wait.
const MOST: usize = 256;

/// Long files that wait, each once.
#[derive(Debug, Default)]
pub(super) struct Later {
    waiting: Mutex<VecDeque<(Spot, What)>>,
    more: Condvar,
}

/// Whether so much of a file is to be read for these that it would hold up others.
pub(super) fn is_long(facts: &Facts, lanes: &[Arc<Lane>]) -> bool {
    let wanted = lanes.iter().map(|lane| match lane.interest.digests.any() {
        true => facts.size,
        false => lane.interest.content.min(facts.size),
    });
    wanted.max().unwrap_or(0) > LONG
}

impl Later {
    /// Whether there is room.
    pub(super) fn add(&self, spot: &Spot, what: What) -> bool {
        let mut waiting = lock(&self.waiting);
        if waiting.iter().any(|(known, _)| known == spot) {
            return true;
        }
        if waiting.len() >= MOST {
            return false;
        }
        waiting.push_back((spot.clone(), what));
        drop(waiting);
        self.more.notify_all();
        true
    }

    /// Waits for the next one, for a tick.
    fn next(&self) -> Option<(Spot, What)> {
        let waiting = lock(&self.waiting);
        let is_empty = |waiting: &mut VecDeque<_>| waiting.is_empty();
        let woken = self.more.wait_timeout_while(waiting, TICK, is_empty);
        let mut waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        waiting.pop_front()
    }
}

/// Looks at long files until the feed ends.
pub(in super::super) fn attend(shared: &Arc<Shared>) {
    let watch = &shared.watch;
    let keeping = Mutex::default();
    let mut reader = Reader::new(tools(shared, &keeping));
    while !lock(&shared.members).is_stopping() {
        if let Some((spot, what)) = watch.later.next() {
            let lanes = look::look(shared, watch, &mut reader, &spot, what, true);
            lanes.iter().for_each(|lane| lane.flush());
            reader.rest();
        }
    }
}
