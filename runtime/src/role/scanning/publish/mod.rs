//! Changes of a plugin's findings on their way to destinations.
//!
//! What is delivered, tried again, queued and counted is so by the delivery of the role `logs`: to it some
//! changes are a batch whose lines are JSON objects. Each destination has a list of changes that wait for it
//! (see `sink`), so that one that stands still costs the others nothing. Whoever fills these lists never
//! waits, since the store does not wait for it either.
//!
//! It goes on while revisions change, so that nothing is missed between them.

mod sink;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::findings::{Changes, Findings, Heard};
use crate::manifest::{Destination, Manifest};
use crate::role::logs::dead_letter::DeadLetters;
use crate::role::logs::destination::{self, Surroundings};
use crate::role::logs::{Queues, abandoned};
pub use sink::PublishStatus;
use sink::Sink;

/// Requests under way get at least this long at a stop.
const LAST_REQUESTS: Duration = Duration::from_secs(1);
/// A destination that the manifest names no more gets this long.
const LEAVE: Duration = Duration::from_secs(3);

/// What destinations of findings need from the daemon.
#[derive(Clone)]
pub struct Context {
    /// The plugin, `NAMESPACE/NAME`.
    pub identity: Arc<str>,
    /// Where queues lie.
    pub queues: Queues,
    /// Where changes go that no destination will ever accept.
    pub dead_letters: Arc<DeadLetters>,
    /// What destinations may use of the node.
    pub surroundings: Surroundings,
}

/// Whether all destinations of a manifest can be opened.
pub(super) fn check(manifest: &Manifest, context: &Context) -> Result<(), String> {
    let scanning = manifest.spec.scanning.iter();
    let mut destinations = scanning.flat_map(|scanning| &scanning.destinations);
    destinations.try_for_each(|target| {
        let opened = destination::open(target, &context.surroundings);
        let opened = opened.map(|_| ());
        opened.map_err(|error| format!("scanning.destinations: {error}"))
    })
}

/// The destinations of one plugin, whichever revision runs.
pub(super) struct Publisher {
    context: Context,
    runtime: Handle,
    live: Arc<Mutex<Live>>,
    /// Destinations that the manifest names no more, sending their last.
    leaving: TaskTracker,
}

#[derive(Default)]
struct Live {
    sinks: Vec<Arc<Sink>>,
    listener: Option<Listener>,
    /// Looks at queues of destinations that are gone.
    _look: Option<AbortOnDropHandle<()>>,
}

struct Listener {
    cancel: CancellationToken,
    task: AbortOnDropHandle<()>,
}

fn lock(live: &Mutex<Live>) -> MutexGuard<'_, Live> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Publisher {
    pub(super) fn new(context: Context, runtime: Handle) -> Self {
        Self {
            context,
            runtime,
            live: Arc::default(),
            leaving: TaskTracker::new(),
        }
    }

    /// Sends to these from now on; `check` has opened them all. Those that stay as they are go on with all
    /// that waits for them.
    pub(super) fn set(&self, targets: &[Destination]) {
        let mut live = lock(&self.live);
        let mut before = std::mem::take(&mut live.sinks);
        let mut leave = Vec::new();
        for target in targets {
            let mut same = before.extract_if(.., |sink| sink.target() == target);
            if let Some(sink) = same.next() {
                live.sinks.push(sink);
                continue;
            }
            drop(same);
            match Sink::start(target, &self.context, &self.runtime) {
                Ok(sink) => live.sinks.push(sink),
                Err(error) => {
                    tracing::error!(plugin = %self.context.identity, "scanning.destinations: {error}");
                }
            }
        }
        for sink in before {
            let mut heirs = live.sinks.iter();
            let heir = heirs.find(|heir| heir.target().name == sink.target().name);
            leave.push((sink, heir.cloned()));
        }
        let present = targets.iter().map(|target| target.name.clone()).collect();
        let look = look_at_abandoned(self.context.clone(), present);
        live._look = Some(AbortOnDropHandle::new(self.runtime.spawn(look)));
        for (sink, heir) in leave {
            let leave = async move {
                let left = sink.end(LEAVE).await;
                match heir {
                    Some(heir) => heir.inherit(left),
                    None => sink.give_up(&left),
                }
            };
            self.leaving.spawn_on(leave, &self.runtime);
        }
    }

    /// Hears from now on what becomes of findings, if anybody is to be told.
    pub(super) fn listen(&self, findings: &Findings) {
        let mut live = lock(&self.live);
        if live.sinks.is_empty() {
            live.listener = None;
            return;
        }
        if live.listener.is_some() {
            return;
        }
        let cancel = CancellationToken::new();
        let listen = listen(
            findings.changes(),
            self.context.identity.clone(),
            self.live.clone(),
            cancel.clone(),
        );
        let task = AbortOnDropHandle::new(self.runtime.spawn(listen));
        live.listener = Some(Listener { cancel, task });
    }

    /// Sends what there is for at most `drain`, and lets go of all destinations.
    pub(super) fn stop(&self, drain: Duration) -> impl Future<Output = ()> + Send + use<> {
        let (live, leaving) = (self.live.clone(), self.leaving.clone());
        async move {
            leaving.close();
            leaving.wait().await;
            leaving.reopen();
            let listener = lock(&live).listener.take();
            if let Some(listener) = listener {
                listener.cancel.cancel();
                // It fails only by a panic, which is in the log.
                let _ = listener.task.await;
            }
            let stopped = std::mem::take(&mut *lock(&live));
            let patience = drain.max(LAST_REQUESTS);
            join_all(stopped.sinks.iter().map(|sink| async move {
                let left = sink.end(patience).await;
                sink.give_up(&left);
            }))
            .await;
        }
    }

    /// How they are doing.
    pub(super) fn status(&self) -> Vec<PublishStatus> {
        let sinks = lock(&self.live).sinks.clone();
        sinks.iter().map(|sink| sink.status()).collect()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        lock(&self.live).sinks.iter().for_each(|sink| sink.cancel());
    }
}

/// Puts changes of this plugin's findings on all lists until it is cancelled, and then those that were told
/// by then.
async fn listen(
    mut changes: Changes,
    plugin: Arc<str>,
    live: Arc<Mutex<Live>>,
    cancel: CancellationToken,
) {
    while let Some(Some(heard)) = cancel.run_until_cancelled(changes.next()).await {
        pass_on(&heard, &plugin, &live);
    }
    while let Some(heard) = changes.told() {
        pass_on(&heard, &plugin, &live);
    }
}

fn pass_on(heard: &Heard, plugin: &str, live: &Mutex<Live>) {
    let sinks = || lock(live).sinks.clone();
    match heard {
        Heard::Change(change) if change.plugin() == plugin => {
            let line: Arc<str> = change.line().into();
            let time = i64::try_from(change.time().as_nanosecond()).unwrap_or(i64::MAX);
            sinks().iter().for_each(|sink| sink.push(time, &line));
        }
        Heard::Change(_) => {}
        Heard::Lost(count) => {
            tracing::error!(
                plugin,
                count,
                "changes of findings came faster than they could be taken: so many, of all plugins together, are not sent"
            );
            sinks().iter().for_each(|sink| sink.lost(*count));
        }
    }
}

/// Looks at the queues of destinations that the manifest names no more: at once and, if there may be any
/// later, every hour.
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
