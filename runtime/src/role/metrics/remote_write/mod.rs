//! Remote write: what the plugin measures is pushed to servers, each as often as the manifest says.
//!
//! What is delivered, tried again, queued and counted is so by the delivery of the role `logs`: to it a
//! push is a batch whose lines are series (see `push`), and the server a destination
//! (`logs::destination::remote_write`) with one lane. Without a queue on the disk at most one push waits
//! beside the one at work; an interval that finds no room is missed, and counted.
//!
//! Series that are not there any more end with a marker, as Prometheus has it: at the next push or, when
//! the plugin stands still or goes away, with a push of its own.

mod push;
mod report;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use super::collection::Collection;
use super::driver::{Labels, MetricsStatus};
use super::exposition::Exposition;
use crate::manifest::{Manifest, RemoteWrite};
use crate::role::logs::Queues;
use crate::role::logs::abandoned;
use crate::role::logs::batch::Batch;
use crate::role::logs::delivery::{self, ONE_LANE, Outlet, Unheard};
use crate::role::logs::destination::secrets::Template;
use crate::role::logs::destination::{OpenError, Surroundings, remote_write};
use crate::role::logs::output::Parcel;
use push::Known;
pub use report::RemoteWriteStatus;

/// What is known of families is told this seldom.
const DESCRIBE: Duration = Duration::from_secs(60);
/// How often a queue notes what was delivered.
const SYNC: Duration = Duration::from_secs(1);
/// Requests under way, and the end of series, get at least this long at a stop.
const LAST_REQUESTS: Duration = Duration::from_secs(1);
/// What an update pushes to no more gets this long.
const LEAVE: Duration = Duration::from_secs(3);
/// Times of one server's pushes that are this close, in milliseconds, are kept apart; beyond it the clock
/// was set.
const APART: i64 = 1000;

/// What remote write needs from the daemon.
#[derive(Clone)]
pub struct Context {
    /// The plugin, `namespace/name`.
    pub identity: Arc<str>,
    /// Where queues lie.
    pub queues: Queues,
    /// What destinations may use of the node.
    pub surroundings: Surroundings,
}

/// What one push has to know of those before it, whichever revision made them.
#[derive(Default)]
struct Memory {
    /// What the latest push had.
    known: Arc<Known>,
    /// Its time, in milliseconds since 1970.
    time: i64,
    /// When the next one is due, and how often.
    due: Option<(Instant, Duration)>,
    described: Option<Instant>,
}

impl Memory {
    /// The time of the next push.
    fn stamp(&mut self) -> i64 {
        let now = jiff::Timestamp::now().as_millisecond();
        let set = !(now..now + APART).contains(&self.time);
        self.time = if set { now } else { self.time + 1 };
        self.time
    }

    /// How long until the first push: what is left of an interval that an earlier revision began, or else
    /// any part of one, so that not all nodes push in one instant.
    fn first(&self, interval: Duration) -> Duration {
        let left = self.due.filter(|(_, known)| *known == interval);
        let left = left.and_then(|(due, _)| due.checked_duration_since(Instant::now()));
        left.unwrap_or_else(|| interval.mul_f64(fastrand::f64()))
    }
}

/// Pushes to one server.
pub(super) struct Writer {
    target: RemoteWrite,
    context: Context,
    outlet: Outlet,
    labels: Mutex<Vec<(String, Template)>>,
    memory: Arc<Mutex<Memory>>,
    missed: AtomicU64,
    /// Why nothing is pushed or forgotten, if so.
    problem: Mutex<Option<String>>,
}

/// The servers of a running plugin, and the tasks that push to them.
pub(super) struct Running {
    writers: Vec<Arc<Writer>>,
    tasks: Vec<AbortOnDropHandle<()>>,
}

/// Whether all that the manifest pushes to can be opened.
pub(super) fn check(manifest: &Manifest, context: &Context) -> Result<(), String> {
    let targets = manifest.spec.metrics.iter().flat_map(|it| &it.remote_write);
    let mut targets = targets.map(|target| {
        let refused = |error: OpenError| format!("metrics.remoteWrite: {error}");
        templates(target, context)?;
        remote_write::open(target, &context.surroundings).map_err(refused)
    });
    targets.try_for_each(|opened| opened.map(|_| ()))
}

/// The labels that every series gets.
fn templates(target: &RemoteWrite, context: &Context) -> Result<Vec<(String, Template)>, String> {
    let mut labels = target.labels.clone();
    labels
        .entry("job".to_owned())
        .or_insert_with(|| context.identity.to_string());
    labels
        .entry("instance".to_owned())
        .or_insert_with(|| context.surroundings.node_name.to_string());
    let parse = |(name, value): (String, String)| {
        let template = Template::parse(&value, &context.surroundings.secrets);
        let name_of = &target.name;
        let template = template.map_err(|problem| {
            format!("metrics.remoteWrite: {name_of:?}: labels.{name}: {problem}")
        })?;
        Ok((name, template))
    };
    labels.into_iter().map(parse).collect()
}

impl Running {
    /// Starts to push, to the servers that can be opened: `check` has opened them all.
    ///
    /// `before`: those that an earlier revision pushed to. One that stays as it is goes on with all that
    /// waits for it; what is not pushed to any more is let go.
    pub(super) fn start(
        targets: &[RemoteWrite],
        context: &Context,
        mut before: Vec<Arc<Writer>>,
        metrics: &MetricsStatus,
        runtime: &Handle,
    ) -> Self {
        let mut writers = Vec::with_capacity(targets.len());
        for target in targets {
            let mut same = before.extract_if(.., |it| it.target == *target);
            if let Some(writer) = same.next() {
                writers.push(writer);
                continue;
            }
            drop(same);
            let mut others = before.iter();
            let heir = others.find(|it| it.is_succeeded_by(target));
            let memory = heir.map(|it| it.memory.clone()).unwrap_or_default();
            match Writer::open(target, context, memory, runtime) {
                Ok(writer) => writers.push(Arc::new(writer)),
                Err(problem) => tracing::error!(plugin = %context.identity, "{problem}"),
            }
        }
        let spawn = |writer: &Arc<Writer>| {
            AbortOnDropHandle::new(runtime.spawn(writer.clone().run(metrics.clone())))
        };
        let mut tasks: Vec<_> = writers.iter().map(spawn).collect();
        let leave = before.into_iter().map(|writer| {
            let goes_on = targets.iter().any(|it| writer.is_succeeded_by(it));
            async move { writer.stop(LEAVE, goes_on).await }
        });
        let leave = join_all(leave);
        let present = targets.iter().map(|target| target.name.clone()).collect();
        let look = look_at_abandoned(context.clone(), present);
        tasks.push(AbortOnDropHandle::new(runtime.spawn(async move {
            leave.await;
            look.await;
        })));
        Self { writers, tasks }
    }

    pub(super) fn writers(&self) -> &[Arc<Writer>] {
        &self.writers
    }

    /// Stops pushing. If the role does not go on, its series end and what is under way gets `drain`; or
    /// else the servers are there for the next start.
    pub(super) async fn stop(self, drain: Duration, again: bool) -> Vec<Arc<Writer>> {
        self.tasks.iter().for_each(AbortOnDropHandle::abort);
        // Their end is waited for, so that nothing is handed in after the last.
        join_all(self.tasks).await;
        if again {
            return self.writers;
        }
        let patience = drain.max(LAST_REQUESTS);
        join_all(self.writers.iter().map(|it| it.stop(patience, false))).await;
        Vec::new()
    }
}

/// Looks at the queues of servers that the manifest names no more: at once and, if there may be any later,
/// every hour.
async fn look_at_abandoned(context: Context, present: Vec<String>) {
    loop {
        let (context, names) = (context.clone(), present.clone());
        let look = move || abandoned::look(&context.identity, &context.queues, &names);
        match tokio::task::spawn_blocking(look).await {
            Ok(false) if present.is_empty() => return,
            Ok(_) => {}
            Err(error) => tracing::error!("{error}"),
        }
        tokio::time::sleep(abandoned::LOOK).await;
    }
}

impl Writer {
    fn open(
        target: &RemoteWrite,
        context: &Context,
        memory: Arc<Mutex<Memory>>,
        runtime: &Handle,
    ) -> Result<Self, String> {
        let labels = templates(target, context)?;
        let opened = remote_write::open(target, &context.surroundings);
        let delivery = delivery::Context {
            plugin: context.identity.clone(),
            lanes: ONE_LANE,
            settle: Arc::new(Unheard),
            // Nobody would send them again, and there would be as many each time.
            dead_letters: None,
            queues: context.queues.clone(),
            surroundings: context.surroundings.clone(),
            runtime: runtime.clone(),
        };
        let opened = opened.map_err(|error| format!("metrics.remoteWrite: {error}"))?;
        let queue = target.queue.as_ref();
        Ok(Self {
            outlet: Outlet::with(0, &target.name, queue, opened, &delivery),
            target: target.clone(),
            context: context.clone(),
            labels: Mutex::new(labels),
            memory,
            missed: AtomicU64::new(0),
            problem: Mutex::default(),
        })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn problem(&self) -> MutexGuard<'_, Option<String>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what is wrong, or that nothing is.
    fn note(&self, problem: Option<String>) {
        let mut known = self.problem();
        if let Some(problem) = problem.as_ref().filter(|it| Some(*it) != known.as_ref()) {
            let (plugin, server) = (&self.context.identity, &self.target.name);
            tracing::error!(%plugin, destination = server, "{problem}");
        }
        *known = problem;
    }

    async fn run(self: Arc<Self>, metrics: MetricsStatus) {
        // Before that there is no room, and it would count as missed.
        self.outlet.tried().await;
        let interval = self.target.interval.0;
        let first = tokio::time::Instant::now() + self.memory().first(interval);
        let mut due = tokio::time::interval_at(first, interval);
        due.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut sync = tokio::time::interval(SYNC);
        sync.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                tick = due.tick() => {
                    self.memory().due = Some((tick.into_std() + interval, interval));
                    self.push(&metrics).await;
                }
                _ = sync.tick() => {
                    if let Err(error) = self.outlet.sync_queue().await {
                        self.note(Some(format!("the queue cannot forget what was sent: {error}")));
                    }
                }
            }
        }
    }

    /// Asks the plugin, and hands in what it found.
    async fn push(self: &Arc<Self>, metrics: &MetricsStatus) {
        if !self.outlet.has_room() {
            self.missed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let time = self.memory().stamp();
        let until = Instant::now() + self.target.interval.0;
        let Some((labels, collection)) = metrics.collect(until, true).await else {
            return;
        };
        let this = self.clone();
        // There may be a million series.
        let made = tokio::task::spawn_blocking(move || this.make(&labels, &collection, time));
        let made = match made.await {
            Ok(made) => made,
            Err(error) => Err(error.to_string()),
        };
        let (push, describes) = match made {
            Ok(made) => made,
            Err(problem) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                return self.note(Some(problem));
            }
        };
        let parcel = Arc::new(Parcel::made(push.batch));
        if self.outlet.send(parcel).await.is_ok() {
            let mut memory = self.memory();
            memory.known = Arc::new(push.known);
            if describes {
                memory.described = Some(Instant::now());
            }
            drop(memory);
            self.note(None);
        }
    }

    /// A push, and whether it says what is known of families.
    fn make(
        &self,
        labels: &Labels,
        collection: &Collection,
        time: i64,
    ) -> Result<(push::Push, bool), String> {
        let mut added = Vec::new();
        let mut templates = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, template) in templates.iter_mut() {
            let resolved = template.resolve();
            let resolved = resolved.map_err(|problem| format!("labels.{name}: {problem}"))?;
            added.push((name.clone(), resolved.text));
        }
        drop(templates);
        let (before, described) = {
            let memory = self.memory();
            (memory.known.clone(), memory.described)
        };
        let describe = described.is_none_or(|at| at.elapsed() >= DESCRIBE);
        let (namespace, name) = self.context.identity.split_once('/').unwrap_or_default();
        let mut found = Exposition::default();
        found.add(namespace, name, labels, collection);
        let push = push::push(&found, &added, time, describe, &before);
        Ok((push, describe))
    }

    /// Whether `target` is the same server with other settings.
    fn is_succeeded_by(&self, target: &RemoteWrite) -> bool {
        self.target.name == target.name && self.target.url == target.url
    }

    /// Lets go of the server. `goes_on`: another one pushes the same series to it.
    async fn stop(&self, patience: Duration, goes_on: bool) {
        let begun = Instant::now();
        if !goes_on {
            let batch = {
                let mut memory = self.memory();
                let time = memory.stamp();
                push::ends(&std::mem::take(&mut *memory).known, time)
            };
            // Not all of the time, which what is at work needs, too.
            let _ = tokio::time::timeout(patience / 2, self.end(batch)).await;
        }
        self.outlet
            .drain(patience.saturating_sub(begun.elapsed()))
            .await;
        // What was delivered meanwhile. What cannot be noted is sent again.
        if let Err(error) = self.outlet.sync_queue().await {
            tracing::warn!(plugin = %self.context.identity, destination = self.target.name, "{error}");
        }
        self.outlet.release();
    }

    async fn end(&self, batch: Batch) {
        if !batch.lines.is_empty() {
            // Closed only by `stop`.
            let _ = self.outlet.send(Arc::new(Parcel::made(batch))).await;
        }
    }

    /// How it is doing.
    pub(super) fn status(&self) -> RemoteWriteStatus {
        let missed = self.missed.load(Ordering::Relaxed);
        let problem = self.problem().clone();
        RemoteWriteStatus::new(self.outlet.status(), missed, problem)
    }
}
