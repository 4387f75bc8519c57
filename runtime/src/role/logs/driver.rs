//! The host's side of the role: starts and stops the pipeline of a plugin, and writes checkpoints.
//! Nothing here touches a line.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::abandoned;
use super::at_rest::{self, Kept};
use super::dead_letter::DeadLetters;
use super::delivery::{self, DestinationStatus, Outlet, Settle};
use super::destination::{self, Surroundings};
use super::ledger::Ledger;
use super::output::{DestinationIndex, Parcel};
use super::pipeline;
use super::process;
use super::queue::Home as Queues;
use super::report::{LogsReport, Totals};
use super::tail::{self, Item, Nameless, Tail};
use crate::kubernetes::Pods;
use crate::manifest::{DestinationKind, LogSourceKind, Logs, Manifest};
use crate::sandbox::{Driver, Prepare, Task, WorkSender};
use crate::state::{self, Commit, Store, Values};

/// Files hash to this many lanes.
pub(super) const LANES: usize = 4;
/// Batches that wait between the tail and the plugin.
pub(super) const BATCHES: usize = 2;
/// How often checkpoints are written, if there is anything to write.
pub(super) const COMMIT: Duration = Duration::from_secs(1);
/// Requests under way get at least this long at a stop: what is cut off is sent again later.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// What a driver needs from the daemon.
pub struct Context {
    /// The plugin, `namespace/name`.
    pub identity: Arc<str>,
    /// Where checkpoints lie.
    pub store: Store,
    /// The plugin's key-value pairs, committed together with its checkpoints.
    pub values: Arc<Values>,
    /// When the plugin was first loaded on this node.
    pub first_seen: SystemTime,
    /// Records that will never be accepted.
    pub dead_letters: Arc<DeadLetters>,
    /// Where queues lie.
    pub queues: Queues,
    /// Where the daemon's own log goes, which is never read.
    pub own: tail::Own,
    /// What destinations may use of the node.
    pub surroundings: Surroundings,
    /// The node's pods, if there is a cluster.
    pub pods: Option<Pods>,
    /// Where tasks run that call no guest.
    pub runtime: Handle,
}

/// The role `logs` of one plugin.
pub struct LogsDriver {
    shared: Arc<Shared>,
    running: Option<Running>,
}

/// A view of a driver for the status endpoint; clones share it.
#[derive(Clone)]
pub struct LogsStatus(Arc<Shared>);

impl LogsStatus {
    /// The role's figures, or none if the role has not run.
    pub fn report(&self) -> Option<LogsReport> {
        let shared = &self.0;
        let live = shared.live();
        if !live.started {
            return None;
        }
        Some(LogsReport::new(
            &shared.ledger,
            &live.totals,
            live.tail.as_deref(),
            shared.destinations(&live.outlets),
            live.outlets.iter().filter_map(Outlet::oldest_queued).min(),
            live.problem.clone().or_else(|| live.queue_problem.clone()),
        ))
    }
}

pub(super) struct Shared {
    pub(super) context: Context,
    pub(super) ledger: Ledger,
    live: Mutex<Live>,
    committing: tokio::sync::Mutex<()>,
}

/// What runs now.
#[derive(Default)]
pub(super) struct Live {
    started: bool,
    outlets: Arc<Vec<Outlet>>,
    tail: Option<Arc<tail::Stats>>,
    /// The tail itself, outside of the pipeline: it is stopped in order even if that is not.
    follower: Option<Follower>,
    /// Tails of destinations that catch up.
    pub(super) chasers: Vec<(DestinationIndex, Tail)>,
    /// Files that the last tail left open, for the next one.
    pub(super) kept: Kept,
    /// Looks after them while the plugin stands still.
    keeper: Option<AbortOnDropHandle<()>>,
    /// Of tails that have ended.
    totals: Totals,
    /// Why nothing is read, if so.
    pub(super) problem: Option<String>,
    /// Why a queue cannot forget what was delivered, if so.
    queue_problem: Option<String>,
}

/// A running tail, and the end of its channel, which the pipeline holds while it works.
struct Follower {
    tail: Tail,
    items: Items,
}

/// What the tail hands on. Whoever stops the pipeline takes what is left.
pub(super) type Items = Arc<tokio::sync::Mutex<mpsc::Receiver<Item>>>;

struct Running {
    stop: CancellationToken,
    /// `logs.deletedFileWait`.
    wait: Duration,
    pipeline: AbortOnDropHandle<()>,
    checkpointer: AbortOnDropHandle<()>,
    outlets: Arc<Vec<Outlet>>,
}

impl LogsDriver {
    /// Reads the plugin's checkpoints, so not for async code.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn open(context: Context) -> Result<Self, state::Error> {
        let ledger = Ledger::default();
        ledger.load(context.store.load_checkpoints(&context.identity)?);
        Ok(Self {
            shared: Arc::new(Shared {
                context,
                ledger,
                live: Mutex::default(),
                committing: tokio::sync::Mutex::default(),
            }),
            running: None,
        })
    }

    /// The view for the status endpoint.
    pub fn status(&self) -> LogsStatus {
        LogsStatus(self.shared.clone())
    }
}

impl Driver for LogsDriver {
    fn prepare(&self) -> Prepare {
        let shared = self.shared.clone();
        Arc::new(move |manifest, instance| {
            let opened = manifest.spec.logs.iter().try_for_each(|logs| {
                logs.destinations.iter().try_for_each(|destination| {
                    destination::open(destination, &shared.context.surroundings).map(|_| ())
                })
            });
            match opened {
                Ok(()) => process::prepare(manifest, instance),
                Err(error) => Box::pin(std::future::ready(Ok(Err(format!(
                    "logs.destinations: {error}"
                ))))),
            }
        })
    }

    fn restarts(&self, from: &Manifest, to: &Manifest) -> bool {
        from.spec.logs != to.spec.logs
    }

    fn start(&mut self, manifest: Arc<Manifest>, work: WorkSender) {
        let shared = self.shared.clone();
        let Some(logs) = manifest.spec.logs.clone() else {
            // `prepare` refused such a manifest.
            return;
        };
        let stop = CancellationToken::new();
        let wait = logs.deleted_file_wait.0;
        let names = names(&logs);
        let outlets = shared.open_outlets(&logs);
        {
            let mut live = shared.live();
            live.started = true;
            live.keeper = None;
        }
        let runtime = shared.context.runtime.clone();
        let pipeline = runtime.spawn(pipeline::run(
            shared.clone(),
            logs,
            work,
            outlets.clone(),
            stop.clone(),
        ));
        let checkpointer = runtime.spawn({
            let stop = stop.clone();
            async move {
                let mut looked: Option<Instant> = None;
                while tokio::time::timeout(COMMIT, stop.cancelled())
                    .await
                    .is_err()
                {
                    if looked.is_none_or(|looked| looked.elapsed() >= abandoned::LOOK) {
                        looked = Some(Instant::now());
                        shared.look_at_abandoned(names.clone()).await;
                    }
                    shared.commit().await;
                    close(shared.ledger.close_nameless(wait)).await;
                    shared.ledger.give_up_unreachable();
                }
            }
        });
        self.running = Some(Running {
            stop,
            wait,
            pipeline: AbortOnDropHandle::new(pipeline),
            checkpointer: AbortOnDropHandle::new(checkpointer),
            outlets,
        });
    }

    fn stop(&mut self, drain: Duration, _again: bool) -> Task<'static, ()> {
        let shared = self.shared.clone();
        let running = self.running.take();
        Box::pin(async move {
            let Some(running) = running else { return };
            running.stop.cancel();
            let mut pipeline = running.pipeline;
            if tokio::time::timeout(drain, &mut pipeline).await.is_err() {
                pipeline.abort();
                let _ = pipeline.await;
            }
            shared.stop_tail().await;
            let patience = drain.max(LAST_REQUESTS);
            join_all(running.outlets.iter().map(|outlet| outlet.drain(patience))).await;
            // One may have begun while its task was told to end.
            shared.stop_chasers().await;
            let _ = running.checkpointer.await;
            let durable = shared.commit().await;
            running.outlets.iter().for_each(Outlet::release);
            if !durable {
                // What the disk may have lost is delivered again, to a file that is opened anew.
                close(shared.ledger.roll_back()).await;
                shared.live().outlets = Arc::default();
            }
            shared.live().fold();
            let keeper = at_rest::keep(Arc::downgrade(&shared), running.wait);
            let keeper = shared.context.runtime.spawn(keeper);
            shared.live().keeper = Some(AbortOnDropHandle::new(keeper));
        })
    }
}

/// The names of the destinations.
fn names(logs: &Logs) -> Vec<String> {
    let destinations = logs.destinations.iter();
    destinations
        .map(|destination| destination.name.clone())
        .collect()
}

/// Closes files: a large one that is deleted takes a while.
pub(super) async fn close(files: Vec<Nameless>) {
    if !files.is_empty() {
        // Fails only if closing panics, and then they are closed.
        let _ = tokio::task::spawn_blocking(move || drop(files)).await;
    }
}

impl Live {
    /// Keeps the counts of a tail that has ended.
    fn fold(&mut self) {
        if let Some(stats) = self.tail.take() {
            self.totals.add(&stats);
        }
    }
}

/// What settles parcels: the ledger, behind the trait of the delivery room.
struct Books(Arc<Shared>);

impl Settle for Books {
    fn settled(&self, destination: DestinationIndex, parcel: &Arc<Parcel>, dead: &[u32]) {
        self.0.ledger.settle(destination, parcel, dead);
    }
}

impl Shared {
    fn destinations(&self, outlets: &[Outlet]) -> Vec<DestinationStatus> {
        let status = |(index, outlet): (DestinationIndex, &Outlet)| {
            let mut status = outlet.status();
            if self.ledger.is_detached(index) {
                status.catches_up(self.ledger.behind(index).unwrap_or(0));
            }
            status
        };
        outlets.iter().enumerate().map(status).collect()
    }

    pub(super) fn live(&self) -> std::sync::MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_outlets(self: &Arc<Self>, logs: &Logs) -> Arc<Vec<Outlet>> {
        let context = delivery::Context {
            plugin: self.context.identity.clone(),
            lanes: LANES,
            settle: Arc::new(Books(self.clone())),
            dead_letters: Some(self.context.dead_letters.clone()),
            queues: self.context.queues.clone(),
            surroundings: self.context.surroundings.clone(),
            runtime: self.context.runtime.clone(),
        };
        let mut outlets = Vec::with_capacity(logs.destinations.len());
        for (index, destination) in logs.destinations.iter().enumerate() {
            match Outlet::start(index, destination, &context) {
                Ok(outlet) => outlets.push(outlet),
                // `prepare` opened them all; the node has changed since.
                Err(error) => {
                    tracing::error!(plugin = %self.context.identity, "{error}");
                    self.live().problem = Some(error.to_string());
                    outlets.clear();
                    break;
                }
            }
        }
        let outlets = Arc::new(outlets);
        self.live().outlets = outlets.clone();
        outlets
    }

    async fn look_at_abandoned(&self, present: Vec<String>) {
        let (plugin, queues) = (self.context.identity.clone(), self.context.queues.clone());
        let look = move || abandoned::look(&plugin, &queues, &present);
        if let Err(error) = tokio::task::spawn_blocking(look).await {
            tracing::error!(plugin = %self.context.identity, "{error}");
        }
    }

    /// Writes what was acknowledged since the last commit; what could not be is kept for the next.
    /// Returns false if a destination may have lost what it had acknowledged.
    async fn commit(&self) -> bool {
        let _one_at_a_time = self.committing.lock().await;
        let mut commit = Commit::new(&*self.context.identity);
        let collected = self.ledger.collect(&mut commit);
        self.context.values.collect(&mut commit);
        let outlets = self.live().outlets.clone();
        let mut result: Result<(), String> = Ok(());
        let undurable = |error| format!("cannot make delivered lines durable: {error}");
        if commit.is_empty() {
            for outlet in outlets.iter() {
                if let Err(error) = outlet.sync_queue().await {
                    result = Err(undurable(error));
                }
            }
            let problem = result.err();
            let mut live = self.live();
            if problem.is_some() && live.queue_problem != problem {
                tracing::error!(plugin = %self.context.identity, problem);
            }
            live.queue_problem = problem;
            return true;
        }
        crate::failpoint::hit("checkpoint.collected");
        for outlet in outlets.iter() {
            if let Err(error) = outlet.sync().await {
                result = Err(undurable(error));
            }
        }
        let durable = result.is_ok();
        if durable {
            let store = self.context.store.clone();
            let committed = tokio::task::spawn_blocking(move || store.commit(&commit)).await;
            result = match committed {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(error) => Err(error.to_string()),
            };
        }
        self.context.values.committed(result.is_ok());
        let problem = match result {
            Ok(()) => {
                close(self.ledger.committed(collected)).await;
                None
            }
            Err(error) => {
                self.ledger.put_back(collected);
                Some(format!(
                    "checkpoints are not written: {error}; lines are delivered all the same, and again after a restart"
                ))
            }
        };
        let mut live = self.live();
        live.queue_problem = None;
        if let Some(problem) = &problem
            && live.problem.as_ref() != Some(problem)
        {
            tracing::error!(plugin = %self.context.identity, "{problem}");
        }
        live.problem = problem;
        durable
    }

    /// Stops the tail, after the pipeline. What was read and not handed on is entered, to be taken
    /// back; what the next tail cannot open is kept for it.
    async fn stop_tail(&self) {
        self.stop_chasers().await;
        let Some(Follower { tail, items }) = self.live().follower.take() else {
            return;
        };
        let left = match tokio::task::spawn_blocking(move || tail.stop()).await {
            Ok(left) => left,
            Err(error) => {
                tracing::error!("stopping the tail failed: {error}");
                return;
            }
        };
        let mut items = items.lock().await;
        let in_channel = std::iter::from_fn(|| items.try_recv().ok());
        for item in in_channel.chain(left.items) {
            match item {
                Item::Batch(batch) => self.ledger.enter_unsent(&batch),
                Item::Gone(file, nameless) => self.ledger.gone(file, nameless),
            }
        }
        for owed in &left.owed {
            self.ledger.owe(owed);
        }
        self.live().kept.extend(left.files);
    }

    pub(super) fn tail_config(&self, logs: &Logs) -> tail::Config {
        let mut config = tail::Config::new(logs.sources.clone(), self.context.first_seen);
        config.start_at = logs.start_at;
        config.max_line = usize::try_from(logs.max_line.0).unwrap_or(usize::MAX);
        config.deleted_file_wait = logs.deleted_file_wait.0;
        config.lanes = LANES;
        config.own = self.context.own.clone();
        let metadata = logs.sources.iter().filter_map(|source| match &source.kind {
            LogSourceKind::Containers(source) => source.metadata.clone(),
            LogSourceKind::Files(_) => None,
        });
        let metadata: Vec<_> = metadata.collect();
        if let Some(pods) = &self.context.pods
            && !metadata.is_empty()
        {
            config.pods = Some(Arc::new(pods.ask(metadata)));
        }
        for destination in &logs.destinations {
            if let DestinationKind::File(file) = &destination.kind {
                config.own.files.push(file.path.clone());
            }
            let queue = destination.queue.as_ref();
            let path = queue.and_then(|queue| queue.path.as_deref());
            config.own.folders.push(self.context.queues.folder(path));
        }
        config
    }

    /// Starts the tail where the ledger says; tries again until it works or `stop`.
    pub(super) async fn start_tail(
        &self,
        logs: &Logs,
        outlets: &[Outlet],
        stop: &CancellationToken,
    ) -> Option<Items> {
        // Those that cannot be opened yet say so later.
        let opened = outlets.iter().map(|outlet| match outlet.is_open() {
            true => outlet.take_ends(),
            false => HashMap::new(),
        });
        let ends: Vec<_> = opened.collect();
        let (known, mut nameless) = {
            // Held for both, so that no file is closed in between.
            let mut live = self.live();
            let known = self.ledger.begin(&names(logs), &ends);
            let mut nameless = self.ledger.take_nameless();
            nameless.extend(live.kept.take());
            (known, nameless)
        };
        loop {
            let (sender, items) = mpsc::channel(BATCHES);
            let items = Arc::new(tokio::sync::Mutex::new(items));
            let stats = Arc::new(tail::Stats::default());
            let config = self.tail_config(logs);
            match Tail::start(config, known.clone(), &mut nameless, sender, stats.clone()) {
                Ok(tail) => {
                    self.ledger.begun();
                    let mut live = self.live();
                    live.tail = Some(stats);
                    live.follower = Some(Follower {
                        tail,
                        items: items.clone(),
                    });
                    return Some(items);
                }
                Err(error) => {
                    let problem = format!("cannot follow files: {error}");
                    tracing::error!(plugin = %self.context.identity, "{problem}");
                    self.live().problem = Some(problem);
                }
            }
            // This may be the end: they must not go with it.
            self.live().kept.extend(nameless);
            let stopped = tokio::time::timeout(COMMIT, stop.cancelled()).await;
            if stopped.is_ok() {
                return None;
            }
            nameless = self.live().kept.take().collect();
        }
    }
}
