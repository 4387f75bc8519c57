//! The host's side of the role for one plugin: when a collection is made, and who shares it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::collect::{Collect, Memory};
use super::collection::Collection;
use super::plan;
use super::remote_write::{self, Writer};
use super::report::MetricsReport;
use crate::manifest::{Manifest, Metrics};
use crate::node_files::Reader;
use crate::sandbox::{Driver, Prepare, Task, WorkSender};

/// What the role needs from the daemon.
pub struct Context {
    /// Reads the node's files.
    pub reader: Reader,
    /// Where tasks run that call no guest.
    pub runtime: Handle,
    /// For pushing.
    pub remote_write: remote_write::Context,
}

/// The role `metrics` of one plugin.
pub struct MetricsDriver {
    shared: Arc<Shared>,
    pushing: Option<remote_write::Running>,
}

/// A view of a driver, to collect and to report; clones share it.
#[derive(Clone)]
pub struct MetricsStatus(Arc<Shared>);

struct Shared {
    context: Context,
    memory: Arc<Memory>,
    live: Mutex<Live>,
    /// What the last revision pushed to, while the role stands still for the next.
    pushed: Mutex<Vec<Arc<Writer>>>,
}

#[derive(Default)]
struct Live {
    /// Where work goes, while the role runs.
    running: Option<(Metrics, WorkSender)>,
    /// Where it is pushed to.
    writers: Vec<Arc<Writer>>,
    /// The collection under way: none yet while it is.
    under_way: Option<watch::Receiver<Option<Arc<Collection>>>>,
    latest: Option<Arc<Collection>>,
    /// How often the role was stopped: a collection from before is nobody's any more.
    generation: u64,
    collections: u64,
    failures: u64,
    invalid: u64,
}

impl MetricsDriver {
    /// A driver that stands still.
    pub fn new(context: Context) -> Self {
        Self {
            shared: Arc::new(Shared {
                context,
                memory: Arc::default(),
                live: Mutex::default(),
                pushed: Mutex::default(),
            }),
            pushing: None,
        }
    }

    /// The view for the status endpoint and for scrapes.
    pub fn status(&self) -> MetricsStatus {
        MetricsStatus(self.shared.clone())
    }
}

/// How instances are made ready for this role.
pub fn prepare(context: remote_write::Context) -> Prepare {
    Arc::new(
        move |manifest, instance| match remote_write::check(manifest, &context) {
            Ok(()) => Box::pin(plan::prepare(manifest, instance)),
            Err(problem) => Box::pin(std::future::ready(Ok(Err(problem)))),
        },
    )
}

impl Driver for MetricsDriver {
    fn prepare(&self) -> Prepare {
        prepare(self.shared.context.remote_write.clone())
    }

    /// Always: what one revision found, or failed with, says nothing of the next. A plugin that has the
    /// role `logs` as well pays for it with a pause of that.
    fn restarts(&self, _: &Manifest, _: &Manifest) -> bool {
        true
    }

    fn start(&mut self, manifest: Arc<Manifest>, work: WorkSender) {
        let settings = manifest.spec.metrics.clone().unwrap_or_default();
        let shared = &self.shared;
        shared.memory.forgive();
        shared.live().running = Some((settings.clone(), work));
        let pushing = remote_write::Running::start(
            &settings.remote_write,
            &shared.context.remote_write,
            std::mem::take(&mut shared.pushed()),
            &self.status(),
            &shared.context.runtime,
        );
        shared.live().writers = pushing.writers().to_vec();
        self.pushing = Some(pushing);
    }

    fn stop(&mut self, drain: Duration, again: bool) -> Task<'static, ()> {
        {
            let mut live = self.shared.live();
            live.running = None;
            live.generation += 1;
            // What a plugin that is gone has found is not so any more.
            live.latest = None;
            live.under_way = None;
            live.writers.clear();
        }
        let (pushing, shared) = (self.pushing.take(), self.shared.clone());
        Box::pin(async move {
            if let Some(pushing) = pushing {
                *shared.pushed() = pushing.stop(drain, again).await;
            }
        })
    }
}

impl MetricsStatus {
    /// The static labels that the manifest adds to every series, and what the plugin finds now, or found
    /// within `metrics.cache`. None if the role does not run.
    ///
    /// `works`: whether the plugin has an instance; a collection waits for one in vain.
    pub(super) async fn collect(
        &self,
        until: Instant,
        works: bool,
    ) -> Option<(Labels, Arc<Collection>)> {
        let begun = Instant::now();
        let (labels, mut under_way) = {
            let mut live = self.0.live();
            let (settings, work) = live.running.clone()?;
            let labels = settings.labels.clone().into_iter().collect();
            if !works {
                let why = "the plugin does not work now; its status says why".to_owned();
                let failed = Collection::failed(why, Duration::ZERO);
                return Some((labels, Arc::new(failed)));
            }
            let cached = live.latest.as_ref().filter(|latest| {
                latest.failure.is_none() && latest.ended.elapsed() < settings.cache.0
            });
            if let Some(cached) = cached {
                return Some((labels, cached.clone()));
            }
            let under_way = match &live.under_way {
                Some(under_way) => under_way.clone(),
                None => {
                    let (sender, receiver) = watch::channel(None);
                    live.under_way = Some(receiver.clone());
                    let generation = live.generation;
                    let shared = self.0.clone();
                    let collection = collect(shared.clone(), settings, work);
                    self.0.context.runtime.spawn(async move {
                        let collection = Arc::new(collection.await);
                        shared.live().keep(collection.clone(), generation);
                        sender.send_replace(Some(collection));
                    });
                    receiver
                }
            };
            (labels, under_way)
        };
        let found = under_way.wait_for(Option::is_some);
        let found = match tokio::time::timeout_at(until.into(), found).await {
            Ok(Ok(found)) => found.clone(),
            // The task was dropped: the daemon ends.
            Ok(Err(_)) => None,
            Err(_) => Some(Arc::new(Collection::failed(
                "it was not done when the scrape had to answer".to_owned(),
                begun.elapsed(),
            ))),
        };
        found.map(|found| (labels, found))
    }

    /// The role's figures, or none if it does not run.
    pub fn report(&self) -> Option<MetricsReport> {
        let live = self.0.live();
        let (settings, _) = live.running.as_ref()?;
        let latest = live.latest.as_deref();
        let counts = [live.collections, live.failures, live.invalid];
        let pushed = live.writers.iter().map(|writer| writer.status()).collect();
        Some(MetricsReport::new(latest, counts, settings, pushed))
    }
}

/// Labels that the manifest adds.
pub(super) type Labels = Vec<(String, String)>;

impl Shared {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pushed(&self) -> MutexGuard<'_, Vec<Arc<Writer>>> {
        self.pushed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    fn keep(&mut self, collection: Arc<Collection>, generation: u64) {
        self.collections += 1;
        self.failures += u64::from(collection.failure.is_some());
        let outcomes = collection.collectors.iter();
        self.invalid += outcomes.map(|it| it.left_out.invalid).sum::<u64>();
        if self.generation == generation {
            self.under_way = None;
            self.latest = Some(collection);
        }
    }
}

/// Makes one collection.
async fn collect(shared: Arc<Shared>, settings: Metrics, work: WorkSender) -> Collection {
    let begun = Instant::now();
    let until = begun + settings.timeout.0;
    // What there is by then is answered with, before nobody waits for it.
    let last_call = begun + settings.timeout.0.mul_f64(0.9);
    let (reply, collection) = oneshot::channel();
    let collect = Collect {
        memory: shared.memory.clone(),
        reader: shared.context.reader.clone(),
        runtime: shared.context.runtime.clone(),
        begun,
        until: last_call,
        most_series: settings.max_series as usize,
        reply,
    };
    let asked = async move {
        work.send(Box::new(collect)).await.ok()?;
        collection.await.ok()
    };
    match tokio::time::timeout_at(until.into(), asked).await {
        Ok(Some(collection)) => collection,
        Ok(None) => Collection::failed(
            "the plugin ended or was updated meanwhile".to_owned(),
            begun.elapsed(),
        ),
        Err(_) => Collection::failed(
            format!("it took longer than metrics.timeout, {}", settings.timeout),
            begun.elapsed(),
        ),
    }
}
