//! What was needed once is not kept: when the daemon has come to rest after a plugin was loaded, and again ever more
//! seldom, what it no longer uses goes back to the node.
//!
//! Most of that are pages of its own program and of plugins' compiled code. The kernel maps 64 KiB around each that is
//! touched and takes them back only when memory is short; until then they count as memory of the pod. So they are let
//! go all at once, and leave the page cache as well. Those in use come back from the disk when they are touched; what
//! has come with them and nobody has mapped leaves the page cache after [`SETTLE`]. The free parts of the heap go back at
//! each look: what one round of checks or one pass needs is not kept for the next.

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
/// Ticks between the first two times: what is in use is read again, some MiB. Each time it is twice as long until a plugin
/// is loaded: what has come back each time is in use.
const GAP: u32 = 30;
/// The most of it: a day.
const LONGEST: u32 = 8640;
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

    pub(super) fn count(&self) -> u64 {
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
        if still && since.is_none_or(|ticks| ticks >= self.gap) {
            self.since = Some(0);
            self.gap = (self.gap * 2).clamp(GAP, LONGEST);
            return Some(Step::LetGo);
        }
        (since == Some(SETTLE)).then_some(Step::Drop)
    }
}

/// Looks, and acts, for as long as it is polled. Before Linux 5.4 only the heap is given back.
pub(super) async fn keep(loads: Loads) {
    let mut watch = Watch::default();
    let mut ticks = interval(crate::failpoint::rest(TICK));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = 0;
    loop {
        ticks.tick().await;
        if let Err(error) = look(&mut watch, &loads, &mut before).await {
            tracing::debug!("memory that is not used is not given back: {error}");
        }
    }
}

/// `before`: the memory when it last let go.
async fn look(watch: &mut Watch, loads: &Loads, before: &mut u64) -> io::Result<()> {
    let resident = pages::resident()?;
    let step = watch.look(resident, loads.count());
    if step == Some(Step::LetGo) {
        *before = resident;
    }
    // It takes a millisecond, and some with a step.
    let acting = tokio::task::spawn_blocking(move || {
        crate::allocator::give_back();
        match step {
            Some(Step::LetGo) => pages::let_go(),
            Some(Step::Drop) => pages::drop_unused(),
            None => Ok(()),
        }
    });
    acting.await??;
    if step == Some(Step::Drop) {
        tracing::info!(
            resident_before = before,
            resident_after = resident,
            "at rest: memory that was needed once went back to the node"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// What it does at each of so many looks at the same amount.
    fn looks(watch: &mut Watch, ticks: u32) -> Vec<(u32, Step)> {
        let all = (1..=ticks).map(|tick| (tick, watch.look(30 * MIB, 0)));
        all.filter_map(|(tick, step)| Some((tick, step?))).collect()
    }

    #[test]
    fn lets_go_once_the_start_is_over_and_ever_more_seldom() {
        let mut watch = Watch::default();
        for resident in [10 * MIB, 30 * MIB] {
            assert_eq!(watch.look(resident, 0), None, "it still grows");
        }
        let (first, second) = (1, 1 + GAP);
        let third = second + 2 * GAP;
        let steps = [first, second, third].map(|at| [(at, Step::LetGo), (at + SETTLE, Step::Drop)]);
        assert_eq!(looks(&mut watch, third + 4 * GAP - 1), steps.concat());
        // In the year after, every day.
        let year = looks(&mut watch, 365 * LONGEST);
        assert!((365..375).contains(&(year.len() / 2)), "{}", year.len());
    }

    #[test]
    fn what_is_loaded_is_waited_for() {
        let mut watch = Watch::default();
        assert_eq!(looks(&mut watch, 2), [(2, Step::LetGo)]);
        assert_eq!(watch.look(25 * MIB, 1), None);
        assert_eq!(watch.look(28 * MIB, 1), None, "it still grows");
        assert_eq!(watch.look(28 * MIB, 1), Some(Step::LetGo));
        assert_eq!(watch.look(6 * MIB, 1), None);
    }

    #[test]
    fn a_daemon_whose_memory_moves_is_left_alone() {
        let mut watch = Watch::default();
        let moving = (0..100).map(|tick| (20 + tick % 2) * MIB);
        assert!(moving.map(|it| watch.look(it, 0)).all(|it| it.is_none()));
    }
}
