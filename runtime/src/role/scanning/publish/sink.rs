//! One destination, and the changes that wait for it: in memory, and so bounded. What finds no room is not
//! sent, which is counted and said.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Context;
use crate::manifest::Destination;
use crate::role::logs::batch::{Batch, Line};
use crate::role::logs::delivery::{self, DestinationStatus, ONE_LANE, Outlet, Unheard};
use crate::role::logs::destination::OpenError;
use crate::role::logs::output::Parcel;

/// Bytes of changes that wait for one destination at most.
const WAITING: usize = 16 << 20;
/// Changes that are handed in at once at most.
const TOGETHER: usize = 256;
/// How often what was delivered is made durable, and a queue forgets it.
const SYNC: Duration = Duration::from_secs(1);

/// A destination of findings, since the role was started. Its lines are changes.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublishStatus {
    /// As for logs.
    #[serde(flatten)]
    pub destination: DestinationStatus,
    /// Changes that wait for room.
    pub waiting_changes: usize,
    /// Changes that are not sent, since too many waited already.
    pub lost_changes: u64,
    /// What is wrong here and what to do, if anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A change that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// Nanoseconds since 1970.
    time: i64,
    line: Arc<str>,
}

#[derive(Debug, Default)]
struct Waiting {
    changes: VecDeque<Change>,
    bytes: usize,
    /// Those that are being handed in: they came before the others.
    under_way: Vec<Change>,
    /// That changes are lost was said.
    is_full: bool,
}

/// What a destination that ends has not got.
pub(super) struct Left {
    waiting: Vec<Change>,
    /// Changes that it was being sent when the time was over.
    cut_short: u64,
}

pub(super) struct Sink {
    target: Destination,
    plugin: Arc<str>,
    /// What all lines have in common.
    attributes: Vec<(String, String)>,
    outlet: Outlet,
    waiting: Mutex<Waiting>,
    more: Notify,
    /// Changes that the delivery has, or had.
    handed_in: AtomicU64,
    lost: AtomicU64,
    problem: Mutex<Option<String>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Waiting {
    /// Whether there was room.
    fn push(&mut self, change: Change) -> bool {
        let bytes = self.bytes + change.line.len();
        if bytes > WAITING {
            return false;
        }
        self.bytes = bytes;
        self.changes.push_back(change);
        true
    }

    /// What is handed in next: the same again until it is [`Self::taken`].
    fn next(&mut self) -> &[Change] {
        if self.under_way.is_empty() {
            let count = self.changes.len().min(TOGETHER);
            self.under_way.extend(self.changes.drain(..count));
        }
        &self.under_way
    }

    /// What was handed in is not here any more.
    fn taken(&mut self) {
        let bytes: usize = self.under_way.iter().map(|it| it.line.len()).sum();
        self.bytes -= bytes;
        self.under_way.clear();
        self.is_full &= !self.changes.is_empty();
    }

    fn len(&self) -> usize {
        self.under_way.len() + self.changes.len()
    }

    /// All of it.
    fn take(&mut self) -> Vec<Change> {
        let Self {
            changes, under_way, ..
        } = std::mem::take(self);
        under_way.into_iter().chain(changes).collect()
    }

    /// Puts before all others what came before them. There is room for it: it had its own.
    fn put_before(&mut self, changes: Vec<Change>) {
        let bytes: usize = changes.iter().map(|it| it.line.len()).sum();
        self.bytes += bytes;
        for change in changes.into_iter().rev() {
            self.changes.push_front(change);
        }
    }
}

impl Sink {
    /// Begins to send to `target`.
    pub(super) fn start(
        target: &Destination,
        context: &Context,
        runtime: &Handle,
    ) -> Result<Arc<Self>, OpenError> {
        let delivery = delivery::Context {
            plugin: context.identity.clone(),
            lanes: ONE_LANE,
            settle: Arc::new(Unheard),
            dead_letters: Some(context.dead_letters.clone()),
            queues: context.queues.clone(),
            surroundings: context.surroundings.clone(),
            runtime: runtime.clone(),
        };
        let node = context.surroundings.node_name.to_string();
        let sink = Arc::new(Self {
            outlet: Outlet::start(0, target, &delivery)?,
            target: target.clone(),
            plugin: context.identity.clone(),
            attributes: vec![("k8s.node.name".to_owned(), node)],
            waiting: Mutex::default(),
            more: Notify::new(),
            handed_in: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            problem: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let (sending, syncing) = (sink.clone(), sink.clone());
        sink.tasks.spawn_on(
            async move {
                let stop = sending.stop.clone();
                stop.run_until_cancelled(sending.send_for_ever()).await;
            },
            runtime,
        );
        sink.tasks.spawn_on(
            async move {
                let stop = syncing.stop.clone();
                stop.run_until_cancelled(syncing.sync_for_ever()).await;
            },
            runtime,
        );
        sink.tasks.close();
        Ok(sink)
    }

    pub(super) fn target(&self) -> &Destination {
        &self.target
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a change to those that wait, if there is room.
    pub(super) fn push(&self, time: i64, line: &Arc<str>) {
        let line = line.clone();
        let mut waiting = self.waiting();
        if waiting.push(Change { time, line }) {
            self.more.notify_one();
            return;
        }
        self.lost(1);
        if !std::mem::replace(&mut waiting.is_full, true) {
            tracing::error!(plugin = %self.plugin, destination = self.target.name,
                "more changes of findings wait than are kept in memory: they are not sent from now on; give the destination a queue, or see why it takes none");
        }
    }

    /// Counts changes that are not sent.
    pub(super) fn lost(&self, count: u64) {
        self.lost.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes over what waited for the same destination with other settings.
    pub(super) fn inherit(&self, left: Left) {
        self.lost(left.cut_short);
        self.waiting().put_before(left.waiting);
        self.more.notify_one();
    }

    async fn send_for_ever(&self) {
        loop {
            self.send_all().await;
            self.more.notified().await;
        }
    }

    /// Hands in what waits. Cancelled, it goes on where it was.
    async fn send_all(&self) {
        loop {
            let (parcel, count) = {
                let mut waiting = self.waiting();
                match waiting.next() {
                    [] => return,
                    changes => (self.parcel(changes), changes.len()),
                }
            };
            if self.outlet.send(Arc::new(parcel)).await.is_err() {
                // Only at its end.
                return;
            }
            self.handed_in.fetch_add(count as u64, Ordering::Relaxed);
            self.waiting().taken();
        }
    }

    fn parcel(&self, changes: &[Change]) -> Parcel {
        let mut batch = Batch::of_no_file(self.attributes.clone());
        for Change { time, line } in changes {
            let offset = batch.bytes.len() as u32;
            batch.bytes.extend_from_slice(line.as_bytes());
            batch.positions.push(batch.lines.len() as u64);
            batch.lines.push(Line {
                time: *time,
                offset,
                length: line.len() as u32,
                source: 0,
                flags: 0,
            });
        }
        Parcel::made_of_objects(batch)
    }

    async fn sync_for_ever(&self) {
        loop {
            tokio::time::sleep(SYNC).await;
            self.sync().await;
        }
    }

    async fn sync(&self) {
        let problem = self.outlet.sync().await.err().map(|error| {
            format!("what was sent may be lost by a power cut, or sent again: {error}")
        });
        let mut known = self.problem();
        if let Some(problem) = problem.as_ref().filter(|it| Some(*it) != known.as_ref()) {
            tracing::error!(plugin = %self.plugin, destination = self.target.name, "{problem}");
        }
        *known = problem;
    }

    fn problem(&self) -> MutexGuard<'_, Option<String>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends its tasks.
    pub(super) fn cancel(&self) {
        self.stop.cancel();
    }

    /// Sends what waits for at most `patience`, and lets go of the destination.
    pub(super) async fn end(&self, patience: Duration) -> Left {
        let begun = Instant::now();
        self.cancel();
        // Their end is waited for, so that nothing is handed in twice.
        self.tasks.wait().await;
        // Not all of the time, which what is at work needs, too.
        let _ = tokio::time::timeout(patience / 2, self.send_all()).await;
        let left = patience.saturating_sub(begun.elapsed());
        self.outlet.drain(left).await;
        self.sync().await;
        self.outlet.release();
        let cut_short = match &self.target.queue {
            // They are in it.
            Some(_) => 0,
            None => {
                let status = self.outlet.status();
                let handed_in = self.handed_in.load(Ordering::Relaxed);
                handed_in.saturating_sub(status.lines + status.dead_lettered)
            }
        };
        Left {
            waiting: self.waiting().take(),
            cut_short,
        }
    }

    /// Says that changes are never sent.
    pub(super) fn give_up(&self, left: &Left) {
        let count = left.cut_short + left.waiting.len() as u64;
        if count > 0 {
            tracing::error!(plugin = %self.plugin, destination = self.target.name, count,
                "changes of findings could not be sent in time, and are not sent any more; /v1/findings has them");
        }
    }

    /// How it is doing.
    pub(super) fn status(&self) -> PublishStatus {
        PublishStatus {
            destination: self.outlet.status(),
            waiting_changes: self.waiting().len(),
            lost_changes: self.lost.load(Ordering::Relaxed),
            problem: self.problem().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(number: i64, length: usize) -> Change {
        Change {
            time: number,
            line: "x".repeat(length).into(),
        }
    }

    fn times(changes: &[Change]) -> Vec<i64> {
        changes.iter().map(|change| change.time).collect()
    }

    #[test]
    fn what_is_under_way_is_the_same_until_it_is_taken() {
        let mut waiting = Waiting::default();
        for number in 0..300 {
            assert!(waiting.push(change(number, 1)));
        }
        let all: Vec<i64> = (0..300).collect();
        assert_eq!(times(waiting.next()), all[..TOGETHER]);
        assert!(waiting.push(change(300, 1)));
        assert_eq!(times(waiting.next()), all[..TOGETHER]);
        assert_eq!(waiting.len(), 301);
        waiting.taken();
        assert_eq!(times(waiting.next()), (256..301).collect::<Vec<_>>());
        waiting.taken();
        assert_eq!((waiting.len(), waiting.bytes), (0, 0));
        assert!(waiting.next().is_empty());
    }

    #[test]
    fn memory_is_bounded_until_something_is_taken() {
        let mut waiting = Waiting::default();
        let half = WAITING / 2;
        assert!(waiting.push(change(0, half)) && waiting.push(change(1, half)));
        assert!(!waiting.push(change(2, 1)));
        // What is under way still takes room.
        assert_eq!(times(waiting.next()), [0, 1]);
        assert!(!waiting.push(change(3, 1)));
        waiting.taken();
        assert!(waiting.push(change(4, 1)));
    }

    #[test]
    fn what_is_inherited_comes_first_and_in_order() {
        let mut old = Waiting::default();
        for number in 0..300 {
            old.push(change(number, 1));
        }
        old.next();
        let mut new = Waiting::default();
        new.push(change(300, 1));
        assert_eq!(times(new.next()), [300]);
        new.push(change(301, 1));
        new.put_before(old.take());
        assert_eq!(old.len(), 0);
        // What was under way already stays so.
        assert_eq!(times(new.next()), [300]);
        new.taken();
        assert_eq!(times(&new.take()), [(0..300).collect(), vec![301]].concat());
    }
}
