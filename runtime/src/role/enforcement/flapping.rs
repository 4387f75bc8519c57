//! Changes that do not last: something else keeps undoing them. They are made at first as quickly as
//! any, then less and less often, so that two programs do not fight over a file for ever.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many times within [`WINDOW`] is flapping.
const MANY: usize = 5;
const WINDOW: Duration = Duration::from_secs(300);
/// The first wait, doubled each time up to the longest.
const WAIT: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);

/// How often changes were made lately.
#[derive(Debug, Default)]
pub(super) struct Flapping {
    changes: HashMap<Arc<str>, Made>,
}

#[derive(Debug, Default)]
struct Made {
    /// When, latest last; at most [`MANY`].
    times: VecDeque<Instant>,
    /// How often it was made while flapping.
    waits: u32,
    /// Not before then.
    until: Option<Instant>,
}

impl Flapping {
    /// Takes note that a change was made. Whether it has begun to flap just now.
    pub(super) fn made(&mut self, id: &Arc<str>, now: Instant) -> bool {
        let made = self.changes.entry(id.clone()).or_default();
        if made.times.len() == MANY {
            made.times.pop_front();
        }
        made.times.push_back(now);
        let flapped = made.until.is_some();
        let often = made.times.len() == MANY
            && made
                .times
                .front()
                .is_some_and(|first| now.duration_since(*first) <= WINDOW);
        if !often && !flapped {
            return false;
        }
        let wait = WAIT.saturating_mul(1 << made.waits.min(10)).min(LONGEST);
        made.waits += 1;
        made.until = Some(now + wait);
        !flapped
    }

    /// How long a change is left alone from now on, if it flaps.
    pub(super) fn wait(&self, id: &str, now: Instant) -> Option<Duration> {
        let until = self.changes.get(id)?.until?;
        until.checked_duration_since(now).filter(|it| !it.is_zero())
    }

    /// The changes that flap, in order.
    pub(super) fn list(&self) -> Vec<String> {
        let flapping = self.changes.iter().filter(|(_, made)| made.until.is_some());
        let mut ids: Vec<String> = flapping.map(|(id, _)| id.to_string()).collect();
        ids.sort();
        ids
    }

    /// When the first of those that wait may be made again.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let waits = self.changes.values().filter_map(|made| made.until);
        waits.filter(|until| *until > now).min()
    }

    /// Forgets what has held for as long as it would have been left alone, and an hour at least.
    pub(super) fn forgive(&mut self, now: Instant) {
        self.changes.retain(|_, made| {
            let last = made.times.back().copied().unwrap_or(now);
            let rest = match made.until {
                Some(until) => until.duration_since(last).max(LONGEST),
                None => WINDOW,
            };
            now.duration_since(last) <= rest
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_undone_again_and_again_is_left_alone_for_longer_and_longer() {
        let (mut flapping, id): (_, Arc<str>) = (Flapping::default(), "files/motd".into());
        let mut now = Instant::now();
        for _ in 0..4 {
            assert!(!flapping.made(&id, now));
            assert_eq!(flapping.wait(&id, now), None);
            now += SECOND;
        }
        assert!(flapping.made(&id, now));
        assert_eq!(flapping.wait(&id, now), Some(WAIT));
        now += WAIT;
        assert_eq!(flapping.wait(&id, now), None);
        assert!(!flapping.made(&id, now));
        assert_eq!(flapping.wait(&id, now), Some(WAIT * 2));
        for _ in 0..40 {
            flapping.made(&id, now);
        }
        assert_eq!(flapping.wait(&id, now), Some(LONGEST));
        assert_eq!(flapping.next(now), Some(now + LONGEST));
        flapping.forgive(now + LONGEST);
        assert_eq!(flapping.list(), ["files/motd"]);
        flapping.forgive(now + LONGEST + SECOND);
        assert!(flapping.list().is_empty());
    }

    #[test]
    fn now_and_then_is_no_flapping() {
        let (mut flapping, id): (_, Arc<str>) = (Flapping::default(), "x".into());
        let begin = Instant::now();
        for i in 0..50 {
            assert!(!flapping.made(&id, begin + WINDOW / 3 * i));
        }
        assert_eq!(flapping.next(begin), None);
    }
}
