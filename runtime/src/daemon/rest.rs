//! What was needed once is not kept: when the daemon has come to rest after a plugin was loaded, or after more work than
//! usual (a first pass over all files), what it no longer uses goes back to the node.
//!
//! Most of that are pages of its own program and of plugins' compiled code. The kernel maps 64 KiB around each that is
//! touched and takes them back only when memory is short; until then they count as memory of the pod. So they are let
//! go all at once, those in use come back from the disk when they are touched, and after [`SETTLE`] the others leave
//! the page cache, too. The free parts of the heap go back besides.

mod pages;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

/// How often the daemon looks at its memory.
const TICK: Duration = Duration::from_secs(10);
/// In so many ticks what is used shows itself: a usual interval between scrapes.
const SETTLE: u32 = 6;
/// Ticks between two times at least, unless plugins were loaded: what is in use is read again, some MiB. Each time it is
/// twice as long, since what comes again and again is usual, however seldom.
const GAP: u32 = 30;
/// The most of it: a day.
const LONGEST: u32 = 8640;
/// More than what work as usual adds.
const GROWN: u64 = 2 << 20;
/// Memory that moves less in a tick does not grow.
const STILL: u64 = 512 << 10;

/// How many revisions of plugins have come to work; clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Loads(Arc<AtomicU64>);

impl Loads {
    /// One more.
    pub(super) fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Let go of what can be had again.
    LetGo,
    /// What has not come back by now leaves the page cache.
    Drop,
}

/// When to do it, from looks a tick apart.
#[derive(Debug, Default)]
struct Watch {
    loads: u64,
    last: u64,
    /// What work as usual takes: the most seen in the time to settle.
    usual: u64,
    /// Ticks since it let go; none if it has not since something was loaded.
    since: Option<u32>,
    /// How many there must be before it does so again.
    gap: u32,
}

impl Watch {
    /// At so much resident memory, after so many loads.
    fn look(&mut self, resident: u64, loads: u64) -> Option<Step> {
        let still = resident.abs_diff(self.last) < STILL;
        self.last = resident;
        if loads != self.loads {
            *self = Self {
                loads,
                last: resident,
                ..Self::default()
            };
            return None;
        }
        let since = self.since.map(|ticks| ticks.saturating_add(1));
        self.since = since;
        match since {
            Some(ticks) if ticks <= SETTLE => {
                self.usual = self.usual.max(resident);
                (ticks == SETTLE).then_some(Step::Drop)
            }
            _ => {
                let soon = since.is_some_and(|ticks| ticks < self.gap);
                let grown = resident >= self.usual.saturating_add(GROWN);
                (still && grown && !soon).then(|| {
                    self.since = Some(0);
                    self.usual = 0;
                    self.gap = (self.gap * 2).clamp(GAP, LONGEST);
                    Step::LetGo
                })
            }
        }
    }
}

/// Looks, and acts, for as long as it is polled, and the kernel can do it (Linux 5.4).
pub(super) async fn keep(loads: Loads) {
    let mut watch = Watch::default();
    let mut ticks = interval(crate::failpoint::rest(TICK));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = 0;
    loop {
        ticks.tick().await;
        let Err(error) = look(&mut watch, &loads, &mut before).await else {
            continue;
        };
        tracing::debug!("memory that is not used is not given back: {error}");
        if error.kind() == io::ErrorKind::InvalidInput {
            return;
        }
    }
}

/// `before`: the memory when it last let go.
async fn look(watch: &mut Watch, loads: &Loads, before: &mut u64) -> io::Result<()> {
    let resident = pages::resident()?;
    // Each step takes the kernel some milliseconds.
    match watch.look(resident, loads.count()) {
        Some(Step::LetGo) => {
            *before = resident;
            let step = tokio::task::spawn_blocking(|| {
                crate::allocator::give_back();
                pages::let_go()
            });
            step.await?
        }
        Some(Step::Drop) => {
            tokio::task::spawn_blocking(pages::drop_unused).await??;
            tracing::info!(
                resident_before = before,
                resident_after = watch.usual,
                "at rest: memory that was needed once went back to the node"
            );
            Ok(())
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// What it does at each of so many looks at the same amount.
    fn looks(watch: &mut Watch, resident: u64, ticks: u32) -> Vec<(u32, Step)> {
        let all = (1..=ticks).map(|tick| (tick, watch.look(resident, 0)));
        all.filter_map(|(tick, step)| Some((tick, step?))).collect()
    }

    /// One that has just let go.
    fn rested() -> Watch {
        let mut watch = Watch::default();
        assert_eq!(looks(&mut watch, 30 * MIB, 2), [(2, Step::LetGo)]);
        watch
    }

    #[test]
    fn lets_go_once_the_start_is_over_and_not_again_for_work_as_usual() {
        let mut watch = Watch::default();
        for resident in [10 * MIB, 30 * MIB] {
            assert_eq!(watch.look(resident, 0), None, "it still grows");
        }
        assert_eq!(watch.look(30 * MIB, 0), Some(Step::LetGo));
        // What a scrape takes shows itself meanwhile.
        assert_eq!(watch.look(6 * MIB, 0), None);
        let settled = [(SETTLE - 1, Step::Drop)];
        assert_eq!(looks(&mut watch, 9 * MIB, SETTLE), settled);
        assert_eq!(looks(&mut watch, 10 * MIB, 1000), []);
    }

    #[test]
    fn lets_go_again_after_more_work_but_not_soon() {
        let mut watch = rested();
        assert_eq!(looks(&mut watch, 9 * MIB, SETTLE), [(SETTLE, Step::Drop)]);
        assert_eq!(
            looks(&mut watch, 12 * MIB, GAP),
            [(GAP - SETTLE, Step::LetGo), (GAP, Step::Drop)]
        );
    }

    #[test]
    fn what_is_loaded_meanwhile_is_no_work_as_usual() {
        let mut watch = rested();
        assert_eq!(watch.look(6 * MIB, 0), None);
        assert_eq!(watch.look(25 * MIB, 1), None);
        assert_eq!(watch.look(25 * MIB, 1), Some(Step::LetGo));
    }

    #[test]
    fn work_that_comes_seldom_is_usual_in_the_end() {
        let mut watch = rested();
        let mut times = 0;
        // For a week.
        for tick in 0..7 * LONGEST {
            let at_work = (tick + 30) % 60 < 2;
            let resident = if at_work { 12 * MIB } else { 9 * MIB };
            times += u32::from(watch.look(resident, 0) == Some(Step::LetGo));
        }
        assert!((5..20).contains(&times), "{times}");
    }

    #[test]
    fn a_daemon_whose_memory_moves_is_left_alone() {
        let mut watch = Watch::default();
        let moving = (0..100).map(|tick| (20 + tick % 2) * MIB);
        assert!(moving.map(|it| watch.look(it, 0)).all(|it| it.is_none()));
    }
}
