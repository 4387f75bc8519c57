//! The host's side of the role for one plugin: when rounds are made, and what is told of them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::drift::Drift;
use super::effects::{Audit, Effects, Past, Setup};
use super::flapping::Flapping;
use super::memory::Memory;
use super::outline;
use super::report::{EnforcementReport, RuleReport, Verdict};
use super::round::{Detail, Quiet, Round, Rounds};
use crate::manifest::{Enforcement, Identity, Manifest, Mode};
use crate::sandbox::{Driver, NodeFolders, Prepare, Task, WorkSender};

/// Drift is looked at after this long without another event: an editor may write in pieces.
const QUIET: Duration = Duration::from_millis(40);
/// And this long after the first one at the latest.
const PATIENCE: Duration = Duration::from_millis(300);
/// Rounds because of drift are this many times their own length apart.
const SHARE: u32 = 4;
/// How soon after a failure everything is looked at again, doubled each time up to the interval.
const RETRY: Duration = Duration::from_secs(15);
/// How often it is looked whether what was under way before has ended.
const CLOSING: Duration = Duration::from_millis(10);
/// How often what a round made is looked at again at once.
const SETTLING: u32 = 3;
/// Rules that are reported with the plugin.
const REPORTED: usize = 100;
/// And changes.
const DETAIL: Detail = Detail {
    changes: 100,
    diffs: 256 << 10,
};

/// What the role needs from the daemon.
pub struct Context {
    /// For whom.
    pub plugin: Identity,
    /// The node's folders.
    pub folders: NodeFolders,
    /// The daemon's state folder.
    pub state: PathBuf,
    /// Where privileged effects are noted.
    pub audit: Arc<Audit>,
    /// Whether nothing is changed, whatever manifests say.
    pub audit_only: bool,
    /// What is known of the node, for plugins with the grant `nodeFacts`.
    pub facts: Arc<dyn Fn() -> Vec<(String, String)> + Send + Sync>,
    /// Where tasks run that call no guest.
    pub runtime: Handle,
}

/// The role `enforcement` of one plugin.
pub struct EnforcementDriver {
    shared: Arc<Shared>,
    running: Option<Running>,
}

struct Running {
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// A view of a driver, to ask it and to report; clones share it.
#[derive(Clone)]
pub struct EnforcementStatus(Arc<Shared>);

struct Shared {
    context: Context,
    live: Mutex<Live>,
}

#[derive(Default)]
struct Live {
    report: Option<EnforcementReport>,
    rules: Vec<RuleReport>,
    orders: Option<mpsc::Sender<Order>>,
    /// What looks and changes, or did last.
    effects: Option<Arc<Effects>>,
}

/// What an operator wants.
pub(super) enum Order {
    /// Look at everything now.
    Check(oneshot::Sender<Result<EnforcementReport, String>>),
    /// Put changes back, and leave them alone.
    Revert(Revert, oneshot::Sender<Result<Vec<Reverted>, String>>),
    /// Leave nothing alone any more.
    Resume(oneshot::Sender<Result<EnforcementReport, String>>),
}

/// Which changes are put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revert {
    /// The number of one in the history, or the latest with this id; all if there is none.
    pub change: Option<String>,
    /// Also what somebody else has changed since.
    pub force: bool,
}

/// What was changed.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct History {
    /// Latest first.
    pub items: Vec<Past>,
}

impl Context {
    /// Opens what is kept for the plugin. Blocks.
    pub(super) fn open(&self, manifest: &Manifest) -> std::io::Result<(Arc<Effects>, Memory)> {
        let settings = manifest.spec.enforcement.clone().unwrap_or_default();
        let setup = Setup::of(
            &self.folders,
            &self.state,
            &self.plugin,
            &manifest.spec.grants,
            &settings.keep,
            self.audit.clone(),
        );
        let memory = Memory::open(Effects::folder(&self.state, &self.plugin))?;
        Ok((Arc::new(Effects::open(setup)?), memory))
    }
}

/// What became of one change that was to be put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reverted {
    /// Whether it was.
    pub done: bool,
    /// In words.
    pub line: String,
}

impl EnforcementDriver {
    /// A driver that stands still.
    pub fn new(context: Context) -> Self {
        let live = Mutex::default();
        let shared = Arc::new(Shared { context, live });
        let running = None;
        Self { shared, running }
    }

    /// The view for the status endpoint.
    pub fn status(&self) -> EnforcementStatus {
        EnforcementStatus(self.shared.clone())
    }
}

/// How instances are made ready for this role.
pub fn prepare() -> Prepare {
    Arc::new(|manifest, instance| Box::pin(outline::prepare(manifest, instance)))
}

impl Driver for EnforcementDriver {
    fn prepare(&self) -> Prepare {
        prepare()
    }

    /// Always: another revision is another desired state.
    fn restarts(&self, _: &Manifest, _: &Manifest) -> bool {
        true
    }

    fn start(&mut self, manifest: Arc<Manifest>, work: WorkSender) {
        let (sender, orders) = mpsc::channel(4);
        let settings = manifest.spec.enforcement.clone().unwrap_or_default();
        {
            let mut live = self.shared.live();
            let counted = live.report.take().unwrap_or_default();
            live.report = Some(EnforcementReport {
                mode: mode(&settings),
                ..counted
            });
            live.orders = Some(sender);
        }
        let cancel = CancellationToken::new();
        let guard = Guard {
            shared: self.shared.clone(),
            settings,
            orders,
            cancel: cancel.clone(),
        };
        let task = self.shared.context.runtime.spawn(guard.run(manifest, work));
        self.running = Some(Running { cancel, task });
    }

    fn stop(&mut self, drain: Duration, _: bool) -> Task<'static, ()> {
        {
            let mut live = self.shared.live();
            live.orders = None;
            // A change that has begun ends; what is left of its round is not begun.
            if let Some(effects) = &live.effects {
                effects.stop();
            }
        }
        let running = self.running.take();
        Box::pin(async move {
            let Some(Running { cancel, task }) = running else {
                return;
            };
            cancel.cancel();
            let abort = task.abort_handle();
            if tokio::time::timeout(drain, task).await.is_err() {
                abort.abort();
            }
        })
    }
}

impl EnforcementStatus {
    /// The role's figures, or none if it does not run.
    pub fn report(&self) -> Option<EnforcementReport> {
        let live = self.0.live();
        live.orders.as_ref()?;
        live.report.clone()
    }

    /// Every rule, and what was found of it last.
    pub fn rules(&self) -> Vec<RuleReport> {
        self.0.live().rules.clone()
    }

    /// What was changed, latest first: at most `limit`, before number `before`. Blocks.
    pub fn history(&self, before: Option<u64>, limit: usize) -> History {
        let effects = self.0.live().effects.clone();
        let items = effects.map(|effects| effects.history(before, limit));
        History {
            items: items.unwrap_or_default(),
        }
    }

    /// Looks at everything now.
    ///
    /// # Errors
    /// Why that came to nothing.
    pub async fn check(&self) -> Result<EnforcementReport, String> {
        self.order(Order::Check).await
    }

    /// Puts changes back, and leaves them alone until the manifest changes or [`Self::resume`]. Says what
    /// was done, a line each.
    ///
    /// # Errors
    /// Why nothing was.
    pub async fn revert(&self, what: Revert) -> Result<Vec<Reverted>, String> {
        self.order(|reply| Order::Revert(what, reply)).await
    }

    /// Takes up again what was put back by hand.
    ///
    /// # Errors
    /// Why that came to nothing.
    pub async fn resume(&self) -> Result<EnforcementReport, String> {
        self.order(Order::Resume).await
    }

    async fn order<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Order,
    ) -> Result<T, String> {
        let gone =
            || "the plugin does not enforce anything now; `bulkhead status` says why".to_owned();
        let orders = self.0.live().orders.clone().ok_or_else(gone)?;
        let (reply, answer) = oneshot::channel();
        orders.send(make(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn mode(settings: &Enforcement) -> &'static str {
    match settings.mode {
        Mode::Audit => "audit",
        Mode::Enforce => "enforce",
    }
}

/// The task of a role that runs.
struct Guard {
    shared: Arc<Shared>,
    settings: Enforcement,
    orders: mpsc::Receiver<Order>,
    cancel: CancellationToken,
}

/// Why a round is made.
enum Cause {
    Time,
    Drift,
    Order(Order),
}

impl Guard {
    async fn run(mut self, manifest: Arc<Manifest>, work: WorkSender) {
        let Some((effects, memory)) = self.open(&manifest).await else {
            return;
        };
        let mut rounds = Rounds {
            effects,
            revision: manifest.digest_hex(),
            manifest,
            work,
            audit_only: self.shared.context.audit_only,
            facts: self.shared.context.facts.clone(),
            detail: DETAIL,
            flapping: Flapping::default(),
            memory,
            cancel: self.cancel.clone(),
        };
        let mut drift = match self.settings.watch.then(Drift::new) {
            Some(Ok(drift)) => Some(drift),
            Some(Err(error)) => {
                tracing::warn!("files cannot be watched: {error}");
                None
            }
            None => None,
        };
        let mut cause = Cause::Time;
        let mut failures = 0_u32;
        loop {
            let begun = Instant::now();
            let went_well = self.converge(&mut rounds, drift.as_mut(), cause).await;
            failures = if went_well { 0 } else { failures + 1 };
            if self.cancel.is_cancelled() {
                return;
            }
            let pause = begun
                .elapsed()
                .saturating_mul(SHARE)
                .min(self.settings.interval.0);
            let next = self.next(&rounds, failures);
            let next_cause = self
                .wait(drift.as_mut(), Instant::now() + pause, next)
                .await;
            let Some(next_cause) = next_cause else {
                return;
            };
            cause = next_cause;
        }
    }

    /// Opens what is kept, again and again until it can be. None when the role is to end.
    async fn open(&self, manifest: &Arc<Manifest>) -> Option<(Arc<Effects>, Memory)> {
        loop {
            let (shared, manifest) = (self.shared.clone(), manifest.clone());
            let opening = tokio::task::spawn_blocking(move || {
                // The one before is closed first: both would write to the same files. A change that it has
                // begun may still be under way.
                let before = shared.live().effects.take();
                let before = before.map(|before| Arc::downgrade(&before));
                while before.as_ref().is_some_and(|it| it.strong_count() > 0) {
                    std::thread::sleep(CLOSING);
                }
                let opened = shared.context.open(&manifest);
                if let Ok((effects, _)) = &opened {
                    shared.live().effects = Some(effects.clone());
                }
                opened
            });
            let problem = match opening.await {
                Ok(Ok(opened)) => return Some(opened),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            let problem =
                format!("what was there before cannot be kept, so nothing is changed: {problem}");
            tracing::error!(plugin = %self.shared.context.plugin, "{problem}");
            if let Some(report) = &mut self.shared.live().report {
                report.problem = Some(problem);
            }
            let wait = self.cancel.run_until_cancelled(tokio::time::sleep(RETRY));
            wait.await?;
        }
    }

    /// When everything is looked at again without a reason.
    fn next(&self, rounds: &Rounds, failures: u32) -> Instant {
        let now = Instant::now();
        let interval = self.settings.interval.0;
        let wait = match failures.checked_sub(1) {
            None => interval,
            Some(before) => RETRY.saturating_mul(1 << before.min(10)).min(interval),
        };
        let mut next = now + wait;
        if let Some(flapping) = rounds.flapping.next(now) {
            next = next.min(flapping);
        }
        if !self.settings.windows.is_empty() {
            // A window opens on a minute.
            next = next.min(now + Duration::from_secs(60));
        }
        next
    }

    /// Waits for a reason to look. None when the role is to end.
    async fn wait(
        &mut self,
        drift: Option<&mut Drift>,
        not_before: Instant,
        next: Instant,
    ) -> Option<Cause> {
        let drifted = async {
            let Some(drift) = drift else {
                return std::future::pending().await;
            };
            drift.happened().await;
            let latest = tokio::time::Instant::now() + PATIENCE;
            while let Ok(()) = tokio::time::timeout(QUIET, drift.happened()).await {
                if tokio::time::Instant::now() >= latest {
                    break;
                }
            }
            tokio::time::sleep_until(not_before.into()).await;
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => None,
            order = self.orders.recv() => order.map(Cause::Order),
            () = drifted => Some(Cause::Drift),
            () = tokio::time::sleep_until(next.into()) => Some(Cause::Time),
        }
    }

    /// Makes rounds until one finds nothing to do. Whether everything went well.
    async fn converge(
        &mut self,
        rounds: &mut Rounds,
        mut drift: Option<&mut Drift>,
        cause: Cause,
    ) -> bool {
        let drifted = matches!(cause, Cause::Drift);
        let mut reply = None;
        match cause {
            Cause::Time | Cause::Drift => {}
            Cause::Order(Order::Check(sender)) => reply = Some(sender),
            Cause::Order(Order::Resume(sender)) => {
                if let Err(error) = rounds.memory.release() {
                    let _ = sender.send(Err(format!("that cannot be noted: {error}")));
                    return false;
                }
                reply = Some(sender);
            }
            Cause::Order(Order::Revert(what, sender)) => {
                let reverted = rounds.revert(what).await;
                if let Ok(done) = &reverted {
                    let mut live = self.shared.live();
                    if let Some(report) = &mut live.report {
                        report.reverted += done.iter().filter(|it| it.done).count() as u64;
                    }
                }
                // Whoever asked may be gone.
                let _ = sender.send(reverted);
            }
        }
        let mut went_well = true;
        for settling in 0..SETTLING {
            // What has happened up to here, the look will see.
            if let Some(drift) = drift.as_deref_mut() {
                drift.drain();
            }
            let round = rounds.round().await;
            if self.cancel.is_cancelled() && round.is_err() {
                return false;
            }
            let made = round.as_ref().map_or(0, |round| round.made);
            let watched = match (&round, drift.as_deref_mut()) {
                (Ok(round), Some(drift)) => drift.watch(round.watched.clone()),
                _ => None,
            };
            went_well = round.as_ref().is_ok_and(|round| round.failed == 0);
            let first = drifted && settling == 0;
            self.tell(rounds, round, watched, first);
            if made == 0 || self.cancel.is_cancelled() {
                break;
            }
        }
        if let Some(reply) = reply {
            let live = self.shared.live();
            let report = live.report.clone().unwrap_or_default();
            let answer = match &report.problem {
                Some(problem) if !went_well && report.outstanding_count == 0 => {
                    Err(problem.clone())
                }
                _ => Ok(report),
            };
            let _ = reply.send(answer);
        }
        went_well
    }

    fn tell(
        &self,
        rounds: &Rounds,
        round: Result<Round, String>,
        watched: Option<String>,
        drifted: bool,
    ) {
        let mut live = self.shared.live();
        let mut report = live.report.take().unwrap_or_default();
        report.checks += 1;
        report.drift_checks += u64::from(drifted);
        report.mode = mode(&self.settings);
        let quiet = Quiet::now(&rounds.manifest, rounds.audit_only);
        report.only_reporting = quiet.map(|quiet| quiet.words().to_owned());
        report.waiting_handlers = rounds.memory.due() as u64;
        match round {
            Ok(round) => {
                report.last_check = Some(Timestamp::now());
                report.seconds = round.took.as_secs_f64();
                report.rules = round.counts;
                let broken = round.rules.iter();
                let broken =
                    broken.filter(|it| matches!(it.verdict, Verdict::Fail | Verdict::Error));
                report.broken = broken.take(REPORTED).cloned().collect();
                live.rules = round.rules;
                report.flapping = round.flapping;
                report.outstanding = round.outstanding;
                report.outstanding_count = round.outstanding_count;
                report.made += round.made;
                report.failed += round.failed;
                let forgotten = rounds.memory.problem().map(str::to_owned);
                report.problem = round.problem.or(forgotten).or(watched);
            }
            Err(why) => {
                report.failed_checks += 1;
                tracing::warn!(plugin = %rounds.manifest.identity, "could not be checked: {why}");
                report.problem = Some(why);
            }
        }
        live.report = Some(report);
    }
}
