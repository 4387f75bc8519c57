//! Delivery: takes parcels to one destination and tells how each fared. Retries, waiting, dead
//! letters, counting and shutdown are here, once for all kinds; what a request is and how an answer
//! is read is the kind's (see `destination`).
//!
//! Order: each lane has one worker task and one request in flight, and every parcel of a lane
//! passes through, even with nothing for this destination in it. So parcels of a lane are settled
//! in the order in which they were handed in, and the order within a file holds.
//!
//! Memory: a lane holds at most [`WAITING`] waiting parcels and one at work; [`Outlet::send`] waits
//! when they are there. What becomes of the plugin's other destinations then is the caller's.
//!
//! A destination may have a queue on the disk in front of its lanes (see `front`). Then a parcel is
//! settled, as far as the caller is concerned, when the queue has it, and the lanes take from there.

mod front;
mod stats;
mod worker;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::manifest;

use super::batch::FileId;
use super::dead_letter::DeadLetters;
use super::destination::{self, Destination, OpenError, Surroundings};
use super::output::{DestinationIndex, Parcel};
use super::queue::{End, Home};
pub use front::QueueStatus;
use front::{Front, Plan, Room, Told, Way};
use stats::Stats;
pub use stats::{DestinationStatus, State};
use worker::Worker;

/// Parcels that wait in a lane, beside the one at work.
pub const WAITING: usize = 1;

/// How many lanes what pushes metrics or findings has: they are sent in the order of their times.
pub const ONE_LANE: usize = 1;

/// Is told how each parcel fared at each destination.
pub trait Settle: Send + Sync + 'static {
    /// Every line of `parcel` that goes to `destination` was acknowledged or is in its queue, or is
    /// among `dead_lettered` (indices of input lines, ascending, each once). Called exactly once for each
    /// parcel handed in, in the order of its lane; not called for what a shutdown cut short.
    ///
    /// Must not block.
    fn settled(&self, destination: DestinationIndex, parcel: &Arc<Parcel>, dead_lettered: &[u32]);
}

/// Nobody waits to hear how parcels fared.
pub struct Unheard;

impl Settle for Unheard {
    fn settled(&self, _: DestinationIndex, _: &Arc<Parcel>, _: &[u32]) {}
}

/// What the outlets of one plugin share.
#[derive(Clone)]
pub struct Context {
    /// The plugin as `NAMESPACE/NAME`, for log lines.
    pub plugin: Arc<str>,
    /// How many lanes there are; a parcel's lane is below it.
    pub lanes: usize,
    /// Who is told.
    pub settle: Arc<dyn Settle>,
    /// Where records go that will never be accepted; without it they are counted alone.
    pub dead_letters: Option<Arc<DeadLetters>>,
    /// Where queues lie.
    pub(in crate::role) queues: Home,
    /// What destinations may use of the node.
    pub surroundings: Surroundings,
    /// Where the tasks run.
    pub runtime: Handle,
}

/// The outlet was told to drain, or its lane has ended: the parcel was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the destination is closed")]
pub struct Closed;

/// One destination of a running plugin. Dropping it cancels its tasks.
pub struct Outlet {
    front: Arc<Front>,
    lanes: Vec<mpsc::Sender<Arc<Parcel>>>,
    /// Parcels handed to the lanes and not settled.
    unsettled: Arc<AtomicUsize>,
    destination: Arc<dyn Destination>,
    stats: Arc<Stats>,
    tasks: TaskTracker,
    closing: CancellationToken,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Outlet {
    /// Starts delivering to the manifest's destination number `index`.
    pub fn start(
        index: DestinationIndex,
        manifest: &manifest::Destination,
        context: &Context,
    ) -> Result<Self, OpenError> {
        let opened = destination::open(manifest, &context.surroundings)?;
        let queue = manifest.queue.as_ref();
        Ok(Self::with(index, &manifest.name, queue, opened, context))
    }

    /// Starts delivering to a destination that is open, which the status calls `name`.
    pub(in crate::role) fn with(
        index: DestinationIndex,
        name: &str,
        queue: Option<&manifest::Queue>,
        opened: destination::Opened,
        context: &Context,
    ) -> Self {
        let plan = Plan {
            home: context.queues.clone(),
            destination: name.to_owned(),
            index,
            lanes: context.lanes.max(1),
            wanted: queue.cloned(),
        };
        let stats = Arc::new(Stats::new(&plan.destination, opened.kind));
        let told = Arc::new(Told {
            index,
            plugin: Arc::clone(&context.plugin),
            name: plan.destination.clone(),
            settle: Arc::clone(&context.settle),
            destination: Arc::clone(&opened.destination),
            lost: Mutex::default(),
        });
        let front = Arc::new(Front::new(plan));
        let unsettled = Arc::new(AtomicUsize::new(0));
        let tasks = TaskTracker::new();
        let closing = CancellationToken::new();
        let stop = CancellationToken::new();
        let opening = Arc::clone(&front).run(told, context.runtime.clone(), closing.clone());
        tasks.spawn_on(opening, &context.runtime);
        let lanes = (0..context.lanes.max(1))
            .map(|lane| {
                let (sender, receiver) = mpsc::channel(WAITING);
                let worker = Worker::new(worker::Setup {
                    index,
                    lane,
                    destination: Arc::clone(&opened.destination),
                    retry: opened.retry.clone(),
                    plugin: Arc::clone(&context.plugin),
                    settle: Arc::clone(&context.settle),
                    dead_letters: context.dead_letters.clone(),
                    stats: Arc::clone(&stats),
                    unsettled: Arc::clone(&unsettled),
                    stop: stop.clone(),
                });
                let run = worker.run(Arc::clone(&front), receiver, closing.clone());
                tasks.spawn_on(run, &context.runtime);
                sender
            })
            .collect();
        tasks.close();
        Self {
            front,
            lanes,
            unsettled,
            destination: opened.destination,
            stats,
            tasks,
            closing,
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        }
    }

    /// Resolves when it is known whether a parcel can be handed in: see [`Self::is_open`].
    pub async fn tried(&self) {
        self.front.tried().await;
    }

    /// Whether a parcel can be handed in: not while there is a queue that cannot be opened.
    pub fn is_open(&self) -> bool {
        self.front.is_open()
    }

    /// Resolves when a parcel can be handed in, or never will be.
    pub async fn opened(&self) {
        // Which of the two, the first parcel is told.
        let _ = self.front.way().await;
    }

    /// How far its queue held each file when it was opened, so that this need not be handed in again.
    /// Told once.
    pub(super) fn take_ends(&self) -> HashMap<FileId, End> {
        self.front.take_ends()
    }

    /// Hands a parcel in; waits while its lane or its queue is full. Parcels of one lane must be handed
    /// in one after the other, in order. A parcel was not taken if this is cancelled.
    pub async fn send(&self, parcel: Arc<Parcel>) -> Result<(), Closed> {
        if let Way::Queue(queue) = self.front.way().await? {
            return queue.append(parcel).await.map_err(|_| Closed);
        }
        let lane = parcel.batch.lane % self.lanes.len();
        let place = self.lanes[lane].reserve().await.map_err(|_| Closed)?;
        self.unsettled.fetch_add(1, Ordering::Relaxed);
        place.send(parcel);
        Ok(())
    }

    /// Whether [`Self::send`] would not wait for room.
    pub fn has_room(&self) -> bool {
        match self.front.room() {
            Room::Queue(room) => room,
            Room::Lane => self.lanes.iter().all(|lane| lane.capacity() > 0),
            Room::None => false,
        }
    }

    /// Whether everything that was handed in is settled.
    pub fn is_idle(&self) -> bool {
        self.unsettled.load(Ordering::Acquire) == 0 && self.front.is_idle()
    }

    /// Makes every acknowledged line durable. Call it before a checkpoint is committed, and do not
    /// commit after an error.
    pub async fn sync(&self) -> io::Result<()> {
        match self.front.sync().await? {
            true => Ok(()),
            false => self.destination.sync().await,
        }
    }

    /// Lets a queue forget what was delivered: to be called now and then when there is no checkpoint to
    /// commit.
    pub async fn sync_queue(&self) -> io::Result<()> {
        self.front.sync().await.map(|_| ())
    }

    /// Lets go of a queue, after [`Self::drain`] and the last checkpoint.
    pub fn release(&self) {
        self.front.release();
    }

    /// Takes no more parcels, delivers those it has for at most `patience`, then cancels what is
    /// left. Of a queue only what is at work. Returns whether everything else was settled.
    pub async fn drain(&self, patience: Duration) -> bool {
        self.closing.cancel();
        let ended = async {
            self.front.close().await;
            self.tasks.wait().await;
        };
        let in_time = tokio::time::timeout(patience, ended).await.is_ok();
        self.stop.cancel();
        self.tasks.wait().await;
        in_time
    }

    /// How it is doing.
    pub fn status(&self) -> DestinationStatus {
        let waiting = self
            .lanes
            .iter()
            .map(|lane| lane.max_capacity() - lane.capacity())
            .sum();
        self.stats.snapshot(waiting, self.front.status())
    }

    /// When the oldest line was written that its lanes took from a queue, in nanoseconds since 1970.
    pub(super) fn oldest_queued(&self) -> Option<i64> {
        self.front.oldest()
    }
}

#[cfg(test)]
mod tests;
