//! Delivery: takes parcels to one destination and tells how each fared. Retries, waiting, dead
//! letters, counting and shutdown are here, once for all kinds; what a request is and how an answer
//! is read is the kind's (see `destination`).
//!
//! Order: each lane has one worker task and one request in flight, and every parcel of a lane
//! passes through, even with nothing for this destination in it. So parcels of a lane are settled
//! in the order in which they were handed in, and the order within a file holds.
//!
//! Memory: a lane holds at most [`QUEUE`] waiting parcels and one at work; [`Outlet::send`] waits
//! when they are there. What becomes of the plugin's other destinations then is the caller's.

mod stats;
mod worker;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::manifest;

use super::dead_letter::DeadLetters;
use super::destination::{self, Destination, OpenError, Surroundings};
use super::output::{DestinationIndex, Parcel};
use stats::Stats;
pub use stats::{DestinationStatus, State};
use worker::Worker;

/// Parcels that wait in a lane, beside the one at work.
pub const QUEUE: usize = 2;

/// Is told how each parcel fared at each destination.
pub trait Settle: Send + Sync + 'static {
    /// Every line of `parcel` that goes to `destination` was acknowledged, or is among
    /// `dead_lettered` (indices of input lines, ascending, each once). Called exactly once for each
    /// parcel handed in, in the order of its lane; not called for what a shutdown cut short.
    ///
    /// Must not block.
    fn settled(&self, destination: DestinationIndex, parcel: &Arc<Parcel>, dead_lettered: &[u32]);
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
    /// Where records go that will never be accepted.
    pub dead_letters: Arc<DeadLetters>,
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
    queues: Vec<mpsc::Sender<Arc<Parcel>>>,
    /// Parcels handed in and not settled.
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
        Ok(Self::with(index, &manifest.name, opened, context))
    }

    fn with(
        index: DestinationIndex,
        name: &str,
        opened: destination::Opened,
        context: &Context,
    ) -> Self {
        let stats = Arc::new(Stats::new(name, opened.kind));
        let unsettled = Arc::new(AtomicUsize::new(0));
        let tasks = TaskTracker::new();
        let closing = CancellationToken::new();
        let stop = CancellationToken::new();
        let queues = (0..context.lanes.max(1))
            .map(|lane| {
                let (sender, receiver) = mpsc::channel(QUEUE);
                let worker = Worker::new(worker::Setup {
                    index,
                    lane,
                    destination: Arc::clone(&opened.destination),
                    retry: opened.retry.clone(),
                    plugin: Arc::clone(&context.plugin),
                    settle: Arc::clone(&context.settle),
                    dead_letters: Arc::clone(&context.dead_letters),
                    stats: Arc::clone(&stats),
                    unsettled: Arc::clone(&unsettled),
                    stop: stop.clone(),
                });
                tasks.spawn_on(worker.run(receiver, closing.clone()), &context.runtime);
                sender
            })
            .collect();
        tasks.close();
        Self {
            queues,
            unsettled,
            destination: opened.destination,
            stats,
            tasks,
            closing,
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        }
    }

    /// Hands a parcel in; waits while its lane is full. Parcels of one lane must be handed in one
    /// after the other, in order. A parcel was not taken if this is cancelled.
    pub async fn send(&self, parcel: Arc<Parcel>) -> Result<(), Closed> {
        let lane = parcel.batch.lane % self.queues.len();
        let place = self.queues[lane].reserve().await.map_err(|_| Closed)?;
        self.unsettled.fetch_add(1, Ordering::Relaxed);
        place.send(parcel);
        Ok(())
    }

    /// Whether everything that was handed in is settled.
    pub fn is_idle(&self) -> bool {
        self.unsettled.load(Ordering::Acquire) == 0
    }

    /// Makes every acknowledged line durable. Call it before a checkpoint is committed, and do not
    /// commit after an error.
    pub async fn sync(&self) -> io::Result<()> {
        self.destination.sync().await
    }

    /// Takes no more parcels, delivers those it has for at most `patience`, then cancels what is
    /// left. Returns whether everything was settled.
    pub async fn drain(&self, patience: Duration) -> bool {
        self.closing.cancel();
        let in_time = tokio::time::timeout(patience, self.tasks.wait())
            .await
            .is_ok();
        self.stop.cancel();
        self.tasks.wait().await;
        in_time
    }

    /// How it is doing.
    pub fn status(&self) -> DestinationStatus {
        let waiting = self
            .queues
            .iter()
            .map(|queue| queue.max_capacity() - queue.capacity())
            .sum();
        self.stats.snapshot(waiting)
    }
}

#[cfg(test)]
mod tests;
