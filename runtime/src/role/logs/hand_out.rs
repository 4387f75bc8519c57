//! Handing parcels to the destinations of a plugin, so that none holds up the others: one that is
//! waited for too long is detached and catches up by itself (see `catch_up`), and gets what comes again
//! once it has.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use super::catch_up::{self, Straggler};
use super::delivery::{Closed, Outlet};
use super::driver::Shared;
use super::output::{DestinationIndex, Parcel};
use crate::manifest::Logs;
use crate::sandbox::WorkSender;

/// A destination that was waited for this much longer than not, while another has nothing to do, is
/// detached.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often detached destinations are looked at.
pub(super) const LOOK: Duration = Duration::from_millis(250);
/// One that is behind by no more than this, in bytes, is waited for, or it might never be taken back
/// while lines keep coming.
const NEAR: u64 = 1 << 20;
/// For how long: twice as long each time that this was not enough, until [`PATIENCE`].
const PAUSE: Duration = Duration::from_millis(100);
/// Pauses take one part in so many of the time at most.
const SELDOM: u32 = 20;

/// The way out of a pipeline.
pub(super) struct HandOut {
    shared: Arc<Shared>,
    logs: Arc<Logs>,
    work: WorkSender,
    outlets: Arc<Vec<Outlet>>,
    /// One for each of them.
    waits: Vec<Waits>,
    detached: Vec<Detached>,
    /// Tasks of destinations that were taken back: they end by themselves.
    ending: Vec<(DestinationIndex, AbortOnDropHandle<()>)>,
    looked: Instant,
    /// When the last pause ended, and how long the next may be.
    paused: (Instant, Duration),
}

/// How much longer a destination was waited for than not, lately.
#[derive(Clone, Copy)]
struct Waits {
    level: Duration,
    /// Until when that was measured.
    until: Instant,
}

impl Waits {
    /// Since it was measured it was not waited for.
    fn rest(&mut self) {
        let now = Instant::now();
        self.level = self.level.saturating_sub(now - self.until);
        self.until = now;
    }

    /// Since it was measured it was waited for.
    fn wait(&mut self) {
        let now = Instant::now();
        self.level = (self.level + (now - self.until)).min(PATIENCE);
        self.until = now;
    }

    fn too_long(&self) -> bool {
        self.level >= PATIENCE
    }
}

struct Detached {
    destination: DestinationIndex,
    task: AbortOnDropHandle<()>,
    _stop: DropGuard,
}

impl HandOut {
    /// Destinations whose queue cannot be opened are detached from the beginning.
    pub(super) fn new(
        shared: Arc<Shared>,
        logs: Arc<Logs>,
        work: WorkSender,
        outlets: Arc<Vec<Outlet>>,
    ) -> Self {
        let now = Instant::now();
        let mut out = Self {
            shared,
            logs,
            work,
            waits: vec![
                Waits {
                    level: Duration::ZERO,
                    until: now
                };
                outlets.len()
            ],
            outlets,
            detached: Vec::new(),
            ending: Vec::new(),
            looked: now,
            paused: (now, PAUSE),
        };
        for index in 0..out.outlets.len() {
            if !out.outlets[index].is_open() {
                out.shared.ledger.detach(index, None);
                out.catch_up(index);
            }
        }
        out
    }

    /// Whether [`Self::look`] has something to look at.
    pub(super) fn any_detached(&self) -> bool {
        !self.detached.is_empty()
    }

    fn is_detached(&self, destination: DestinationIndex) -> bool {
        self.detached
            .iter()
            .any(|other| other.destination == destination)
    }

    /// Takes those back that have everything that was entered.
    pub(super) fn look(&mut self) {
        let caught_up = |one: &mut Detached| {
            self.outlets[one.destination].is_open() && self.shared.ledger.attach(one.destination)
        };
        for one in self.detached.extract_if(.., caught_up) {
            tracing::info!(
                plugin = %self.shared.context.identity,
                destination = self.logs.destinations[one.destination].name,
                "has caught up with the others"
            );
            self.ending.push((one.destination, one.task));
        }
        let ended = |one: &mut Detached| one.task.is_finished();
        let ended: Vec<Detached> = self.detached.extract_if(.., ended).collect();
        for one in ended {
            self.shared.report_bug("a destination's catching up ended");
            self.catch_up(one.destination);
        }
    }

    /// As [`Self::look`], now and then; gives one that has nearly caught up the time for the rest. To
    /// be called before anything more is entered.
    pub(super) async fn before_entering(&mut self) {
        if self.detached.is_empty() || self.looked.elapsed() < LOOK {
            return;
        }
        self.look();
        self.looked = Instant::now();
        let shared = self.shared.clone();
        let near = |one: &Detached| {
            let behind = shared.ledger.behind(one.destination);
            behind.is_some_and(|bytes| bytes <= NEAR)
        };
        let (last, pause) = self.paused;
        if last.elapsed() < pause * SELDOM || !self.detached.iter().any(near) {
            return;
        }
        let many = self.detached.len();
        let since = Instant::now();
        self.shared.ledger.pause(true);
        while self.detached.iter().any(near) && since.elapsed() < pause {
            tokio::time::sleep(Duration::from_millis(2)).await;
            self.look();
        }
        self.shared.ledger.pause(false);
        let enough = self.detached.len() < many;
        let next = if enough { PAUSE } else { pause * 2 };
        self.paused = (Instant::now(), next.min(PATIENCE));
    }

    /// Hands a parcel to every destination that is not detached.
    pub(super) async fn hand(&mut self, parcel: &Arc<Parcel>) -> Result<(), Closed> {
        let outlets = self.outlets.clone();
        // One that is taken back meanwhile has this parcel's lines already.
        let to: Vec<DestinationIndex> = (0..outlets.len())
            .filter(|&index| !self.is_detached(index))
            .collect();
        for index in to {
            self.waits[index].rest();
            let mut send = pin!(outlets[index].send(parcel.clone()));
            let mut paused = false;
            loop {
                if self.waits[index].too_long() {
                    // One that has caught up as far as it can takes the place of this one.
                    paused = true;
                    self.shared.ledger.pause(true);
                    self.look();
                    if self.another_is_idle(index) {
                        self.detach(index, parcel);
                        break;
                    }
                }
                let sent = timeout(LOOK, &mut send).await;
                self.waits[index].wait();
                if let Ok(result) = sent {
                    result?;
                    break;
                }
            }
            if paused {
                self.shared.ledger.pause(false);
            }
        }
        Ok(())
    }

    /// Whether an attached destination beside this one has settled all that it was handed.
    fn another_is_idle(&self, index: DestinationIndex) -> bool {
        let mut others = (0..self.outlets.len()).filter(|&other| other != index);
        others.any(|other| !self.is_detached(other) && self.outlets[other].is_idle())
    }

    /// Goes on without a destination, which did not get this parcel.
    fn detach(&mut self, destination: DestinationIndex, parcel: &Parcel) {
        let plugin = &self.shared.context.identity;
        let name = &self.logs.destinations[destination].name;
        tracing::warn!(%plugin, destination = name,
            "holds up the other destinations: it will catch up by itself");
        self.shared.ledger.detach(destination, Some(parcel));
        self.waits[destination].level = Duration::ZERO;
        self.catch_up(destination);
    }

    /// Starts the task of a destination that is detached.
    fn catch_up(&mut self, destination: DestinationIndex) {
        let stop = CancellationToken::new();
        let mine = |(other, _): &mut (DestinationIndex, _)| *other == destination;
        let before = self.ending.extract_if(.., mine).map(|(_, task)| task);
        let straggler = Straggler {
            shared: self.shared.clone(),
            logs: self.logs.clone(),
            work: self.work.clone(),
            outlets: self.outlets.clone(),
            destination,
        };
        let run = catch_up::run(straggler, before.collect(), stop.clone());
        let task = AbortOnDropHandle::new(self.shared.context.runtime.spawn(run));
        self.detached.push(Detached {
            destination,
            task,
            _stop: stop.drop_guard(),
        });
    }
}
