//! What has happened and is to be looked at: each file once, however often it was written, and never more
//! than a certain number of files.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many files may wait. What happens beyond that is shed: their folders are scanned later.
const MOST: usize = 8192;
/// So many folders of which something was shed; more, and everything is scanned.
const FOLDERS: usize = 256;
/// A file is looked at again at once, a few times,
const QUICK: u32 = 3;
const QUICKLY: Duration = Duration::from_millis(20);
/// and then once in so long, while something happens to it all the time.
const SLOWLY: Duration = Duration::from_secs(1);
/// A file of which nothing was heard for so long is as if it was new.
const FORGET: Duration = Duration::from_secs(2);
/// What was shed is scanned so long after the last time.
const BETWEEN: Duration = Duration::from_secs(5);

/// Where something happened: a folder, as the kernel names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// By a handle.
    Handle {
        file_system: u64,
        kind: i32,
        handle: Box<[u8]>,
    },
    /// By its path.
    Path(Arc<[u8]>),
}

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Spot {
    pub(super) folder: Place,
    pub(super) name: Box<[u8]>,
}

/// What happened to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct What {
    /// A name was made: it matters if it is not a new file, which will be written.
    pub(super) made: bool,
    /// It was written, moved here, or its mode or owner changed.
    pub(super) changed: bool,
    /// It was moved here: if it is a folder, with all that is in it.
    pub(super) moved_in: bool,
    /// It was removed, or moved away.
    pub(super) gone: bool,
    /// It is a folder.
    pub(super) is_folder: bool,
}

impl What {
    fn and(self, other: Self) -> Self {
        Self {
            made: self.made || other.made,
            changed: self.changed || other.changed,
            moved_in: self.moved_in || other.moved_in,
            gone: self.gone || other.gone,
            is_folder: other.is_folder,
        }
    }
}

/// What is to be scanned again since something was missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Missed {
    Folders(Vec<Place>),
    Everything,
}

/// How much came and went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    /// Events of the kernel.
    pub(super) events: u64,
    /// Those for which there was no room.
    pub(super) shed: u64,
    /// How often the kernel had no room.
    pub(super) overflows: u64,
}

#[derive(Debug, Clone, Copy)]
struct Recent {
    at: Instant,
    times: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pending {
    waiting: HashMap<Arc<Spot>, ((Instant, u64), What)>,
    order: BTreeMap<(Instant, u64), Arc<Spot>>,
    recent: HashMap<Arc<Spot>, Recent>,
    number: u64,
    missed: HashSet<Place>,
    everything: bool,
    last_rescan: Option<Instant>,
    pub(super) tally: Tally,
}

impl Pending {
    /// Something happened.
    pub(super) fn event(&mut self, now: Instant, spot: Spot, what: What) {
        self.tally.events += 1;
        if let Some((_, before)) = self.waiting.get_mut(&spot) {
            *before = before.and(what);
            return;
        }
        if self.waiting.len() >= MOST {
            self.tally.shed += 1;
            return self.miss(spot.folder);
        }
        let due = self.recent.get(&spot).map_or(now, |recent| {
            let pause = if recent.times < QUICK {
                QUICKLY
            } else {
                SLOWLY
            };
            now.max(recent.at + pause)
        });
        self.number += 1;
        let key = (due, self.number);
        let spot = Arc::new(spot);
        self.order.insert(key, spot.clone());
        self.waiting.insert(spot, (key, what));
    }

    /// The kernel had no room.
    pub(super) fn overflow(&mut self) {
        self.tally.overflows += 1;
        self.everything = true;
    }

    /// There was no room for something that was taken.
    pub(super) fn shed(&mut self, spot: &Spot) {
        self.tally.shed += 1;
        self.miss(spot.folder.clone());
    }

    /// All in a folder is to be looked at.
    pub(super) fn miss(&mut self, folder: Place) {
        match self.missed.len() < FOLDERS || self.missed.contains(&folder) {
            true => {
                self.missed.insert(folder);
            }
            false => self.everything = true,
        }
    }

    /// Something is due: what, and where.
    pub(super) fn take(&mut self, now: Instant) -> Option<(Arc<Spot>, What)> {
        let first = self.order.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let spot = first.remove();
        let (_, what) = self.waiting.remove(&spot)?;
        self.remember(now, &spot);
        Some((spot, what))
    }

    fn remember(&mut self, now: Instant, spot: &Arc<Spot>) {
        if self.recent.len() >= MOST {
            self.recent.retain(|_, recent| now < recent.at + FORGET);
        }
        // A storm: then each of its files may be looked at once more than it should.
        if self.recent.len() >= MOST {
            self.recent.clear();
        }
        let recent = self
            .recent
            .entry(spot.clone())
            .or_insert(Recent { at: now, times: 0 });
        if now >= recent.at + FORGET {
            recent.times = 0;
        }
        recent.times += 1;
        recent.at = now;
    }

    /// What was missed, if it is time to scan it: not in the middle of a storm.
    pub(super) fn take_missed(&mut self, now: Instant) -> Option<Missed> {
        let wait = self.last_rescan.is_some_and(|last| now < last + BETWEEN);
        if wait || self.waiting.len() >= MOST / 2 {
            return None;
        }
        let missed = if self.everything {
            self.everything = false;
            self.missed.clear();
            Missed::Everything
        } else if self.missed.is_empty() {
            return None;
        } else {
            Missed::Folders(self.missed.drain().collect())
        };
        self.last_rescan = Some(now);
        Some(missed)
    }

    /// How long nothing is due; none: until something happens.
    pub(super) fn idle(&self, now: Instant) -> Option<Duration> {
        let due = self.order.first_key_value().map(|((due, _), _)| *due);
        let missed = self.everything || !self.missed.is_empty();
        let rescan = missed.then(|| self.last_rescan.map_or(now, |last| last + BETWEEN));
        let next = [due, rescan].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn spot(folder: &str, name: &str) -> Spot {
        Spot {
            folder: Place::Path(folder.as_bytes().into()),
            name: name.as_bytes().into(),
        }
    }

    const WRITTEN: What = What {
        made: false,
        changed: true,
        moved_in: false,
        gone: false,
        is_folder: false,
    };

    #[test]
    fn a_file_is_looked_at_at_once_and_then_once_a_second() {
        let mut pending = Pending::default();
        let begun = Instant::now();
        let mut looks = Vec::new();
        // Written each millisecond for five seconds.
        for millisecond in 0..5000 {
            let now = begun + Duration::from_millis(millisecond);
            pending.event(now, spot("/a", "log"), WRITTEN);
            while pending.take(now).is_some() {
                looks.push(millisecond);
            }
        }
        assert_eq!(looks, [0, 20, 40, 1040, 2040, 3040, 4040]);
        // Then nothing for a while.
        let later = begun + Duration::from_secs(60);
        assert!(
            pending.take(later).is_some(),
            "the last write is not forgotten"
        );
        let later = later + FORGET;
        pending.event(later, spot("/a", "log"), WRITTEN);
        assert!(pending.take(later).is_some());
        pending.event(later, spot("/a", "log"), WRITTEN);
        assert!(pending.take(later + QUICKLY).is_some());
    }

    #[test]
    fn what_happens_to_a_file_that_waits_is_put_together() {
        let mut pending = Pending::default();
        let now = Instant::now();
        let made = What {
            made: true,
            ..What::default()
        };
        pending.event(now, spot("/a", "x"), made);
        pending.event(now, spot("/a", "x"), WRITTEN);
        let (_, what) = pending.take(now).unwrap();
        assert!(what.made && what.changed);
        assert!(pending.take(now).is_none());
    }

    #[test]
    fn a_storm_is_shed_and_its_folders_are_scanned_once_it_is_over() {
        let mut pending = Pending::default();
        let now = Instant::now();
        for n in 0..100_000 {
            pending.event(now, spot("/storm", &n.to_string()), WRITTEN);
        }
        assert_eq!(pending.waiting.len(), MOST);
        assert_eq!(pending.order.len(), MOST);
        assert_eq!(pending.tally.shed, 100_000 - MOST as u64);
        assert_eq!(pending.take_missed(now), None, "in the middle of it");
        while pending.take(now).is_some() {}
        assert!(pending.recent.len() <= MOST);
        let folder = Place::Path(b"/storm".as_slice().into());
        assert_eq!(
            pending.take_missed(now),
            Some(Missed::Folders(vec![folder]))
        );
        assert_eq!(pending.take_missed(now), None);
        assert_eq!(pending.idle(now), None);
    }

    #[test]
    fn too_many_folders_are_everything_and_so_is_an_overflow() {
        let mut pending = Pending::default();
        let now = Instant::now();
        for n in 0..=FOLDERS {
            pending.miss(Place::Path(n.to_string().as_bytes().into()));
        }
        assert_eq!(pending.take_missed(now), Some(Missed::Everything));
        pending.overflow();
        assert_eq!(pending.take_missed(now), None, "not all the time");
        assert_eq!(pending.idle(now), Some(BETWEEN));
        assert_eq!(pending.take_missed(now + BETWEEN), Some(Missed::Everything));
    }
}
