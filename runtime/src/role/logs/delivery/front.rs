//! What stands in front of a destination's lanes: nothing, or a queue on the disk. Opening that and what
//! became of it is here; what a queue promises is its own (see `queue`).
//!
//! A destination that has no queue any more, and still has lines in one, gets those first.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::super::batch::FileId;
use super::super::destination::Destination;
use super::super::output::{DestinationIndex, Parcel};
use super::super::queue::{self, End, Home, Queue, Reader, Recovered, Settings, Watch};
use super::{Closed, Settle};
use crate::manifest;

/// How long a queue that cannot be opened is left alone.
const AGAIN: Duration = Duration::from_secs(1);
/// What is lost is said at most this often.
const SAY: Duration = Duration::from_secs(10);

/// How a queue is doing, for the status endpoint. Lines since the destination was opened:
/// `foundLines` + `keptLines` = `settledLines` + `droppedLines` + `damagedLines` + `lines`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// Lines that wait or are at work.
    pub lines: u64,
    /// Bytes on the disk, with those of lines that are delivered and not removed yet.
    pub bytes: u64,
    /// `queue.maxSize`; 0 if only what was left over is delivered.
    pub max_bytes: u64,
    /// Lines that were in it when it was opened.
    pub found_lines: u64,
    /// Lines that came into it.
    pub kept_lines: u64,
    /// Lines that were acknowledged or written to the dead letters.
    pub settled_lines: u64,
    /// Lines that were dropped to make room.
    pub dropped_lines: u64,
    /// Lines that were lost with damaged records.
    pub damaged_lines: u64,
    /// Whether something waits for room.
    pub full: bool,
    /// Why nothing can be kept, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// See the module.
pub(super) struct Front {
    plan: Plan,
    phase: watch::Sender<Phase>,
    recovered: Mutex<Recovered>,
}

/// What is to be opened.
pub(super) struct Plan {
    pub(super) home: Home,
    pub(super) destination: String,
    pub(super) index: DestinationIndex,
    pub(super) lanes: usize,
    /// What the manifest says.
    pub(super) wanted: Option<manifest::Queue>,
}

#[derive(Clone)]
enum Phase {
    /// It is not known yet whether there is one.
    Opening,
    /// It cannot be opened, and is tried again.
    Stuck(String),
    /// Parcels go into it.
    Queue(Arc<Queue>),
    /// Parcels wait until it is empty.
    Leftover(Arc<Queue>),
    /// There is none.
    Direct,
    /// It is closed, and was doing so then.
    Closed(Option<QueueStatus>),
}

/// Where a parcel goes.
pub(super) enum Way {
    Queue(Arc<Queue>),
    Lane,
}

/// Whether the way of parcels is free.
pub(super) enum Room {
    /// It leads into a queue, which takes another one at once or not.
    Queue(bool),
    /// It leads to the lanes.
    Lane,
    /// There is no way yet, or none any more.
    None,
}

/// What a queue tells, to whom it concerns.
pub(super) struct Told {
    pub(super) index: DestinationIndex,
    pub(super) plugin: Arc<str>,
    pub(super) name: String,
    pub(super) settle: Arc<dyn Settle>,
    pub(super) destination: Arc<dyn Destination>,
    /// Lines lost that were not said yet, and when some were.
    pub(super) lost: Mutex<(u64, Option<Instant>)>,
}

impl Watch for Told {
    fn kept(&self, parcel: &Arc<Parcel>, _: u32) {
        self.settle.settled(self.index, parcel, &[]);
    }

    fn dropped(&self, lines: u64) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.0 += lines;
        if lost.1.is_none_or(|said| said.elapsed() >= SAY) {
            tracing::warn!(plugin = %self.plugin, destination = self.name, lines = lost.0,
                "the queue is full: its oldest lines were dropped");
            *lost = (0, Some(Instant::now()));
        }
    }

    fn damaged(&self, _: u64) {}

    fn durable(&self) -> BoxFuture<'_, io::Result<()>> {
        self.destination.sync()
    }
}

impl Front {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            phase: watch::Sender::new(Phase::Opening),
            recovered: Mutex::default(),
        }
    }

    /// Opens the queue, however long that takes; one that is left over is removed once it is empty.
    pub(super) async fn run(
        self: Arc<Self>,
        told: Arc<Told>,
        runtime: Handle,
        closing: CancellationToken,
    ) {
        let opened = closing.run_until_cancelled(self.open(told, runtime)).await;
        let Some(Some(queue)) = opened else { return };
        let emptied = closing.run_until_cancelled(queue.emptied()).await;
        if emptied.is_some() {
            if let Err(error) = self.remove(queue).await {
                tracing::error!(
                    "a queue that is not wanted any more could not be removed: {error}"
                );
            }
            self.enter(Phase::Direct);
        }
    }

    /// Returns a queue that is left over.
    async fn open(self: &Arc<Self>, told: Arc<Told>, runtime: Handle) -> Option<Arc<Queue>> {
        loop {
            let (this, told, runtime) = (self.clone(), told.clone(), runtime.clone());
            let opening = tokio::task::spawn_blocking(move || this.try_open(told, &runtime));
            let problem = match opening.await {
                Ok(Ok(None)) => {
                    self.enter(Phase::Direct);
                    return None;
                }
                Ok(Ok(Some(queue))) => {
                    let queue = Arc::new(queue);
                    let wanted = self.plan.wanted.is_some();
                    self.enter(match wanted {
                        true => Phase::Queue(queue.clone()),
                        false => Phase::Leftover(queue.clone()),
                    });
                    return (!wanted).then_some(queue);
                }
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            if !matches!(&*self.phase.borrow(), Phase::Stuck(known) if *known == problem) {
                tracing::error!("{problem}");
            }
            self.enter(Phase::Stuck(problem));
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn try_open(&self, told: Arc<Told>, runtime: &Handle) -> Result<Option<Queue>, queue::Error> {
        let Plan {
            home,
            destination,
            wanted,
            ..
        } = &self.plan;
        let settings = wanted.clone().unwrap_or_default();
        if wanted.is_none() && !home.has(destination)? {
            return Ok(None);
        }
        let path = match wanted {
            Some(wanted) => wanted.path.clone(),
            None => home.path(destination)?,
        };
        let settings = Settings::new(
            self.plan.index,
            self.plan.lanes,
            settings.max_size.0,
            settings.when_full,
        );
        let opened = Queue::open(home, destination, path.as_deref(), settings, told, runtime);
        let (queue, recovered) = opened?;
        *self.recovered() = recovered;
        Ok(Some(queue))
    }

    async fn remove(self: &Arc<Self>, queue: Arc<Queue>) -> Result<(), String> {
        queue.close().await.map_err(|error| error.to_string())?;
        let this = self.clone();
        // While it is locked.
        let removing =
            tokio::task::spawn_blocking(move || this.plan.home.remove(&this.plan.destination));
        let removed = removing.await.map_err(|error| error.to_string())?;
        removed.map_err(|error| error.to_string())
    }

    /// Goes on, unless it is closed.
    fn enter(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let closed = matches!(phase, Phase::Closed(_));
            if !closed {
                *phase = next;
            }
            !closed
        });
    }

    /// Resolves when the first attempt to open it is over.
    pub(super) async fn tried(&self) {
        let mut phases = self.phase.subscribe();
        // Fails only if there is no sender, and this has it.
        let _ = phases
            .wait_for(|phase| !matches!(phase, Phase::Opening))
            .await;
    }

    /// Whether parcels have a way to go.
    pub(super) fn is_open(&self) -> bool {
        !matches!(&*self.phase.borrow(), Phase::Opening | Phase::Stuck(_))
    }

    /// The way of parcels; waits until there is one.
    pub(super) async fn way(&self) -> Result<Way, Closed> {
        match self.opened().await {
            Phase::Queue(queue) => Ok(Way::Queue(queue)),
            Phase::Leftover(_) | Phase::Direct => Ok(Way::Lane),
            Phase::Opening | Phase::Stuck(_) | Phase::Closed(_) => Err(Closed),
        }
    }

    pub(super) fn room(&self) -> Room {
        match &*self.phase.borrow() {
            Phase::Queue(queue) => Room::Queue(queue.has_room()),
            Phase::Leftover(_) | Phase::Direct => Room::Lane,
            Phase::Opening | Phase::Stuck(_) | Phase::Closed(_) => Room::None,
        }
    }

    /// What a lane delivers before what is sent to it.
    pub(super) async fn reader(&self, lane: usize) -> Result<Option<Reader>, Closed> {
        match self.opened().await {
            Phase::Queue(queue) | Phase::Leftover(queue) => Ok(Some(queue.reader(lane))),
            Phase::Direct => Ok(None),
            Phase::Opening | Phase::Stuck(_) | Phase::Closed(_) => Err(Closed),
        }
    }

    async fn opened(&self) -> Phase {
        let mut phases = self.phase.subscribe();
        let opened = phases.wait_for(|phase| !matches!(phase, Phase::Opening | Phase::Stuck(_)));
        match opened.await {
            Ok(phase) => phase.clone(),
            // There is no sender, and this has it.
            Err(_) => Phase::Closed(None),
        }
    }

    fn queue(&self) -> Option<Arc<Queue>> {
        match &*self.phase.borrow() {
            Phase::Queue(queue) | Phase::Leftover(queue) => Some(queue.clone()),
            _ => None,
        }
    }

    fn recovered(&self) -> std::sync::MutexGuard<'_, Recovered> {
        self.recovered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it held each file when it was opened: told once.
    pub(super) fn take_ends(&self) -> HashMap<FileId, End> {
        std::mem::take(&mut self.recovered().ends)
    }

    /// Whether what was handed in is on the disk, as far as that is where it goes.
    pub(super) fn is_idle(&self) -> bool {
        match &*self.phase.borrow() {
            Phase::Queue(queue) => queue.is_idle(),
            _ => true,
        }
    }

    /// Makes durable what was settled, and notes it. Returns false if there is no queue to note it in.
    pub(super) async fn sync(&self) -> io::Result<bool> {
        match self.queue() {
            Some(queue) => queue.sync().await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Takes no more, and keeps what it has been handed.
    pub(super) async fn close(&self) {
        match self.queue() {
            // It is synced once more, with the last checkpoint.
            Some(queue) => drop(queue.close().await),
            None => self.enter(Phase::Closed(None)),
        }
    }

    /// Lets go of a queue that is closed.
    pub(super) fn release(&self) {
        let status = self.status();
        self.enter(Phase::Closed(status));
    }

    /// When the oldest line at work was written, in nanoseconds since 1970.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.queue()?.stats().oldest
    }

    /// None if there is no queue, or if it is not known yet.
    pub(super) fn status(&self) -> Option<QueueStatus> {
        let wanted = self.plan.wanted.as_ref();
        let max_bytes = wanted.map_or(0, |wanted| wanted.max_size.0);
        let queue = match &*self.phase.borrow() {
            Phase::Queue(queue) | Phase::Leftover(queue) => queue.clone(),
            Phase::Stuck(problem) => {
                return Some(QueueStatus {
                    max_bytes,
                    problem: Some(problem.clone()),
                    ..QueueStatus::default()
                });
            }
            Phase::Opening | Phase::Direct => return None,
            Phase::Closed(status) => return status.clone(),
        };
        let stats = queue.stats();
        Some(QueueStatus {
            lines: stats.lines,
            bytes: stats.bytes,
            max_bytes,
            found_lines: self.recovered().lines,
            kept_lines: stats.kept,
            settled_lines: stats.settled,
            dropped_lines: stats.dropped,
            damaged_lines: stats.damaged,
            full: stats.full,
            problem: stats.problem,
        })
    }
}
