//! The role for one plugin, as its actor starts and stops it, and as others look at it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::feed::PassKind;
use super::outline;
use super::publish::{self, Publisher};
use super::report::ScanningReport;
use super::rooms::Rooms;
use super::scanner::{Part, Scanner};
use crate::manifest::{Identity, Manifest};
use crate::sandbox::{Driver, Prepare, Task, WorkSender};

/// What the role needs from the daemon.
pub struct Context {
    /// For whom.
    pub plugin: Identity,
    /// Shared by all plugins.
    pub rooms: Arc<Rooms>,
    /// What is known of the node, for plugins with the grant `nodeFacts`.
    pub facts: Arc<dyn Fn() -> Vec<(String, String)> + Send + Sync>,
    /// Where tasks run that call no guest.
    pub runtime: Handle,
    /// For destinations of findings.
    pub publish: publish::Context,
}

/// The role `scanning` of one plugin.
pub struct ScanningDriver {
    shared: Arc<Shared>,
    running: Option<Running>,
}

struct Running {
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// A view of a driver, to report and to ask for a pass; clones share it.
#[derive(Clone)]
pub struct ScanningStatus(Arc<Shared>);

/// What the driver, its task and its views share.
pub(super) struct Shared {
    pub(super) context: Context,
    pub(super) publisher: Publisher,
    live: Mutex<Live>,
}

#[derive(Default)]
pub(super) struct Live {
    runs: bool,
    pub(super) report: ScanningReport,
    pub(super) problems: BTreeMap<Part, String>,
}

impl Shared {
    pub(super) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ScanningDriver {
    /// A driver that stands still.
    pub fn new(context: Context) -> Self {
        let publisher = Publisher::new(context.publish.clone(), context.runtime.clone());
        let shared = Arc::new(Shared {
            context,
            publisher,
            live: Mutex::default(),
        });
        let running = None;
        Self { shared, running }
    }

    /// The view for the status endpoint.
    pub fn status(&self) -> ScanningStatus {
        ScanningStatus(self.shared.clone())
    }
}

/// How instances are made ready for this role.
pub fn prepare(context: publish::Context) -> Prepare {
    Arc::new(
        move |manifest, instance| match publish::check(manifest, &context) {
            Ok(()) => Box::pin(outline::prepare(manifest, instance)),
            Err(problem) => Box::pin(std::future::ready(Ok(Err(problem)))),
        },
    )
}

impl Driver for ScanningDriver {
    fn prepare(&self) -> Prepare {
        prepare(self.shared.context.publish.clone())
    }

    /// Always: another revision judges by other rules.
    fn restarts(&self, _: &Manifest, _: &Manifest) -> bool {
        true
    }

    fn start(&mut self, manifest: Arc<Manifest>, work: WorkSender) {
        let settings = manifest.spec.scanning.clone().unwrap_or_default();
        self.shared.live().runs = true;
        self.shared.publisher.set(&settings.destinations);
        let cancel = CancellationToken::new();
        let scan = Scanner {
            shared: self.shared.clone(),
            settings,
            manifest,
            work,
        };
        let cancelled = cancel.clone();
        let task = self.shared.context.runtime.spawn(async move {
            // What was not judged by then is passed again in the next pass.
            cancelled.run_until_cancelled(scan.run()).await;
        });
        self.running = Some(Running { cancel, task });
    }

    fn stop(&mut self, drain: Duration, again: bool) -> Task<'static, ()> {
        self.shared.live().runs = false;
        let running = self.running.take();
        let shared = self.shared.clone();
        Box::pin(async move {
            let until = Instant::now() + drain;
            if let Some(Running { cancel, task }) = running {
                cancel.cancel();
                let abort = task.abort_handle();
                if tokio::time::timeout_at(until.into(), task).await.is_err() {
                    abort.abort();
                }
            }
            if !again {
                let left = until.saturating_duration_since(Instant::now());
                shared.publisher.stop(left).await;
            }
        })
    }
}

impl ScanningStatus {
    /// The role's figures, or none if it does not run.
    pub fn report(&self) -> Option<ScanningReport> {
        let mut report = {
            let live = self.0.live();
            live.runs.then(|| {
                let problem = live.problems.values().next().cloned();
                ScanningReport {
                    problem,
                    ..live.report.clone()
                }
            })?
        };
        let context = &self.0.context;
        if let Some((feed, findings)) = context.rooms.opened() {
            let tally = findings.tally(&context.plugin);
            report.findings = tally.open;
            report.suppressed = tally.suppressed;
            let status = feed.status();
            let name = context.plugin.to_string();
            let mine = |pass: &super::feed::Progress| {
                pass.participants
                    .iter()
                    .any(|participant| participant.name == name)
            };
            report.pass = status.pass.filter(mine);
            report.watched = Some(status.watched);
        }
        report.destinations = self.0.publisher.status();
        Some(report)
    }

    /// Begins a pass over all files as soon as none is under way. Its number, as the report will have it;
    /// none if the plugin is shown no files.
    pub fn request(&self, kind: PassKind) -> Option<u64> {
        let context = &self.0.context;
        let (feed, _) = context.rooms.opened()?;
        feed.request(&context.plugin.to_string(), kind)
    }

    /// Whether any findings of it are kept, also while it does not run.
    pub fn has_findings(&self) -> bool {
        let context = &self.0.context;
        let Some(findings) = context.rooms.findings() else {
            return false;
        };
        let tally = findings.tally(&context.plugin);
        tally.open.total() + tally.suppressed + tally.resolved > 0
    }
}
