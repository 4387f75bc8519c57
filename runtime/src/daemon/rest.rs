//! What was needed once is not kept: when the daemon has come to rest after more work than usual (a plugin was loaded,
//! files were scanned for the first time), what it no longer uses goes back to the node.
//!
//! Most of that are pages of its own program and of plugins' compiled code. The kernel maps 64 KiB around each that is
//! touched and takes them back only when memory is short; until then they count as memory of the pod. So they are let
//! go all at once, those in use come back from the disk when they are touched, and after [`SETTLE`] the others leave
//! the page cache, too. The free parts of the heap go back besides.

mod pages;

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

/// How often the daemon looks at its memory.
const TICK: Duration = Duration::from_secs(10);
/// So long what is used shows itself: a usual interval between scrapes.
const SETTLE: u32 = 6;
/// Between two times, since what is in use is read again: some MiB.
const GAP: u32 = 30;
/// More than what work as usual adds.
const GROWN: u64 = 2 << 20;
/// Memory that moves less in a tick does not grow.
const STILL: u64 = 512 << 10;

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Let go of what can be had again.
    LetGo,
    /// What has not come back by now leaves the page cache.
    Drop,
}

/// When to do it, from looks at the resident memory, a tick apart.
#[derive(Debug, Default)]
struct Watch {
    last: u64,
    /// What work as usual takes: the most seen in the time to settle.
    usual: u64,
    /// Ticks since it let go; none if it never did.
    since: Option<u32>,
}

impl Watch {
    fn look(&mut self, resident: u64) -> Option<Step> {
        let still = resident.abs_diff(self.last) < STILL;
        self.last = resident;
        match self.since.map(|ticks| ticks.saturating_add(1)) {
            Some(ticks) if ticks <= SETTLE => {
                self.since = Some(ticks);
                self.usual = self.usual.max(resident);
                (ticks == SETTLE).then_some(Step::Drop)
            }
            ticks => {
                self.since = ticks;
                let soon = ticks.is_some_and(|ticks| ticks < GAP);
                let grown = resident >= self.usual.saturating_add(GROWN);
                (still && grown && !soon).then(|| {
                    self.since = Some(0);
                    self.usual = 0;
                    Step::LetGo
                })
            }
        }
    }
}

/// Looks, and acts, for as long as it is polled, or the kernel can do it.
pub(super) async fn keep() {
    let Err(error) = follow().await;
    tracing::debug!("memory that is not used is not given back: {error}");
}

async fn follow() -> io::Result<Infallible> {
    let mut watch = Watch::default();
    let mut ticks = interval(crate::failpoint::rest(TICK));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = 0;
    loop {
        ticks.tick().await;
        let resident = pages::resident()?;
        // Each step takes the kernel some milliseconds.
        match watch.look(resident) {
            Some(Step::LetGo) => {
                before = resident;
                let step = tokio::task::spawn_blocking(|| {
                    crate::allocator::give_back();
                    pages::let_go()
                });
                step.await??;
            }
            Some(Step::Drop) => {
                tokio::task::spawn_blocking(pages::drop_unused).await??;
                tracing::info!(
                    resident_before = before,
                    resident_after = watch.usual,
                    "at rest: memory that was needed once went back to the node"
                );
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// What it does at each of so many looks at the same amount.
    fn looks(watch: &mut Watch, resident: u64, ticks: u32) -> Vec<(u32, Step)> {
        let all = (1..=ticks).map(|tick| (tick, watch.look(resident)));
        all.filter_map(|(tick, step)| Some((tick, step?))).collect()
    }

    #[test]
    fn lets_go_once_the_start_is_over_and_not_again_for_work_as_usual() {
        let mut watch = Watch::default();
        for resident in [10 * MIB, 30 * MIB] {
            assert_eq!(watch.look(resident), None, "it still grows");
        }
        assert_eq!(watch.look(30 * MIB), Some(Step::LetGo));
        // What a scrape takes shows itself meanwhile.
        assert_eq!(watch.look(6 * MIB), None);
        assert_eq!(
            looks(&mut watch, 9 * MIB, SETTLE),
            [(SETTLE - 1, Step::Drop)]
        );
        assert_eq!(looks(&mut watch, 10 * MIB, 1000), []);
    }

    #[test]
    fn lets_go_again_after_more_work_but_not_soon() {
        let mut watch = Watch::default();
        watch.look(30 * MIB);
        assert_eq!(watch.look(30 * MIB), Some(Step::LetGo));
        assert_eq!(looks(&mut watch, 9 * MIB, SETTLE), [(SETTLE, Step::Drop)]);
        assert_eq!(
            looks(&mut watch, 12 * MIB, GAP),
            [(GAP - SETTLE, Step::LetGo), (GAP, Step::Drop)]
        );
    }

    #[test]
    fn a_daemon_whose_memory_moves_is_left_alone() {
        let mut watch = Watch::default();
        let moving = (0..100).map(|tick| (20 + tick % 2) * MIB);
        assert!(moving.map(|it| watch.look(it)).all(|it| it.is_none()));
    }
}
