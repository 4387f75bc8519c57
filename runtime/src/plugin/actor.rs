//! The task that owns a plugin: one loop, one event at a time.
//!
//! An update is: prepare a candidate beside the revision at work; swap between two pieces of work;
//! watch the new one for its probation with the old instance kept warm; put the old one back if the
//! new one fails. The old revision is never stopped before the new one has answered.

mod renewal;
mod update;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use super::backoff::Backoff;
use super::marks::Slot;
use super::prepare::{Prepared, Preparer, Rejection};
use super::schema::Checked;
use super::status::{Phase, Status};
use super::transition::{Observer, Transition};
use crate::manifest::Manifest;
use crate::module::{Cache, Parts};
use crate::sandbox::{
    Blueprint, Driver, Environment, Failure, Instance, KeyValue, Role, Sandbox, Task, Work,
    WorkSender,
};

/// How long roles may take to finish what is under way, at an update of their settings or the end.
const DRAIN: Duration = Duration::from_secs(3);

/// Pieces of work that may wait for the instance.
const WORK_QUEUE: usize = 4;

/// What the plugin is to be.
#[derive(Debug, Clone)]
pub enum Goal {
    /// Run what is declared, or stand still if it says `suspend`.
    Run(Declaration),
    /// Run what is declared, and let nothing else run until it does: what is at work may not any more.
    Replace {
        /// What is declared.
        declaration: Declaration,
        /// Why nothing else may run.
        message: String,
    },
    /// The manifest was refused: go on with what runs.
    Refuse {
        /// Why.
        message: String,
        /// What to run if nothing does.
        last_good: Option<Declaration>,
    },
    /// Stand still, whatever is declared.
    Halt {
        /// Why, as the reason of a condition.
        reason: &'static str,
        /// Why.
        message: String,
    },
    /// End, finishing what is under way.
    Stop,
}

impl Goal {
    /// Refuses, with nothing to run instead.
    pub fn refuse(message: String) -> Self {
        Self::Refuse {
            message,
            last_good: None,
        }
    }
}

/// Why a plugin is halted that the policy does not let run.
pub const POLICY_REFUSED: &str = "PolicyRefused";

/// A manifest to run.
#[derive(Debug, Clone)]
pub struct Declaration {
    /// What it says.
    pub manifest: Arc<Manifest>,
    /// Over the manifest's meaning and the module's file, if it names one: two declarations with
    /// one hash need no update between them.
    pub hash: String,
}

/// What an actor needs from the daemon.
pub struct Context {
    /// The plugin's identity, `namespace/name`.
    pub identity: Arc<str>,
    /// Where instances live.
    pub sandbox: Sandbox,
    /// Where compiled code lives.
    pub cache: Cache,
    /// The plugin's key-value store; linked only with the grant.
    pub state: Arc<dyn KeyValue>,
    /// The host's side of each role.
    pub drivers: Vec<(Role, Box<dyn Driver>)>,
    /// Where it is noted that a guest runs, for the next start's safe mode.
    pub slot: Slot,
    /// Who has the parts of modules; nobody without a cluster.
    pub parts: Option<Arc<dyn Parts>>,
    /// Is told what becomes of the plugin.
    pub observer: Arc<dyn Observer>,
}

/// A running actor.
pub struct Handle {
    goal: watch::Sender<Goal>,
    /// How the plugin is.
    pub status: Status,
    task: JoinHandle<()>,
}

impl Handle {
    /// Sets what the plugin is to be; the latest goal counts.
    pub fn set(&self, goal: Goal) {
        self.goal.send_replace(goal);
    }

    /// Ends the plugin and waits until it has finished.
    pub async fn stop(self) {
        self.goal.send_replace(Goal::Stop);
        if let Err(error) = self.task.await {
            tracing::error!("a plugin's actor ended abnormally: {error}");
        }
    }
}

/// Starts the actor on the current runtime.
pub fn spawn(context: Context, goal: Goal) -> Handle {
    let (goal, receiver) = watch::channel(goal);
    let status = Status::new(&context.identity);
    let (work_sender, work) = mpsc::channel(WORK_QUEUE);
    let preparer = Preparer {
        sandbox: context.sandbox,
        cache: context.cache,
        environment: Environment {
            journal: status.journal.clone(),
            state: Some(context.state),
            usage: status.usage.clone(),
            tap: status.tap.clone(),
            seed: None,
        },
        roles: context
            .drivers
            .iter()
            .map(|(role, driver)| (*role, driver.prepare()))
            .collect(),
        slot: context.slot.clone(),
        checked: Checked::default(),
        parts: context.parts,
    };
    let actor = Actor {
        identity: context.identity,
        goal: receiver,
        status: status.clone(),
        preparer,
        drivers: context.drivers,
        slot: context.slot,
        observer: context.observer,
        told: None,
        work,
        work_sender,
        active: None,
        previous: None,
        preparing: None,
        roles: Roles::Stopped,
        waiting: None,
        retry_at: None,
        backoff: Backoff::default(),
        rejected: None,
        declared_at: Instant::now(),
        renewal_due: false,
        ending: false,
    };
    let task = tokio::spawn(actor.run());
    Handle { goal, status, task }
}

/// The revision at work, or waiting for its instance to be made anew.
struct Active {
    manifest: Arc<Manifest>,
    blueprint: Blueprint,
    revision: super::status::Revision,
    instance: Option<Instance>,
}

impl From<Prepared> for Active {
    fn from(prepared: Prepared) -> Self {
        Self {
            manifest: prepared.manifest,
            blueprint: prepared.blueprint,
            revision: prepared.revision,
            instance: Some(prepared.instance),
        }
    }
}

/// Something is being prepared beside the revision at work.
struct Preparing {
    /// The manifest's hash, or none if the active revision gets a new instance.
    candidate: Option<String>,
    task: AbortOnDropHandle<Result<Prepared, Rejection>>,
}

/// A manifest that was rejected, and what the condition `UpToDate` says about it.
struct Rejected {
    hash: String,
    transition: Transition,
    message: String,
}

/// The host's side of the roles.
enum Roles {
    Stopped,
    Running,
    Stopping(Task<'static, ()>),
}

enum Event {
    Goal,
    Prepared(Option<String>, Box<Result<Prepared, Rejection>>),
    RolesStopped,
    ProbationOver,
    RetryDue,
    Renewal,
    Work(Box<dyn Work>),
}

struct Actor {
    identity: Arc<str>,
    goal: watch::Receiver<Goal>,
    status: Status,
    preparer: Preparer,
    drivers: Vec<(Role, Box<dyn Driver>)>,
    slot: Slot,
    observer: Arc<dyn Observer>,
    /// What the observer was told last: goals come again and again.
    told: Option<(Transition, String)>,
    work: mpsc::Receiver<Box<dyn Work>>,
    work_sender: WorkSender,
    active: Option<Active>,
    /// The last good revision, until the probation of the active one is over.
    previous: Option<(Active, Instant)>,
    preparing: Option<Preparing>,
    roles: Roles,
    /// A candidate that waits for the roles to stop.
    waiting: Option<Prepared>,
    retry_at: Option<Instant>,
    backoff: Backoff,
    /// The manifest that was tried and rejected; not tried again.
    rejected: Option<Rejected>,
    /// When the latest candidate was declared.
    declared_at: Instant,
    /// A fresh instance shall take over from the one at work.
    renewal_due: bool,
    ending: bool,
}

impl Actor {
    async fn run(mut self) {
        self.on_goal();
        loop {
            if self.ending && matches!(self.roles, Roles::Stopped) {
                break;
            }
            match self.next().await {
                Event::Goal => self.on_goal(),
                Event::Prepared(candidate, result) => self.on_prepared(candidate, *result).await,
                Event::RolesStopped => self.on_roles_stopped().await,
                Event::ProbationOver => {
                    self.previous = None;
                    self.status.change(|status| status.probation = false);
                    if self
                        .declared()
                        .is_some_and(|declared| self.is_at_work(&declared))
                    {
                        self.up_to_date("the declared revision is at work");
                    }
                }
                Event::RetryDue => self.on_retry(),
                // What is not there yet will be fresh.
                Event::Renewal => {
                    self.renewal_due = self.active.is_some() || self.preparing.is_some();
                }
                Event::Work(work) => self.on_work(work).await,
            }
            if self.renewal_due {
                self.renew();
            }
        }
        self.status.usage.clear_memory();
    }

    async fn next(&mut self) -> Event {
        let making = self.preparing.as_ref();
        let renewing = making.is_some_and(|preparing| preparing.candidate.is_none());
        let active = self.active.as_ref();
        let serving = !renewing && active.is_some_and(|active| active.instance.is_some());
        let probation = self.previous.as_ref().map(|(_, until)| *until);
        tokio::select! {
            biased;
            changed = self.goal.changed(), if !self.ending => {
                if changed.is_err() {
                    self.ending = true;
                    self.stop_roles(DRAIN);
                }
                Event::Goal
            }
            result = prepared(&mut self.preparing) => {
                let candidate = self.preparing.take().and_then(|preparing| preparing.candidate);
                Event::Prepared(candidate, Box::new(result))
            }
            () = stopped(&mut self.roles) => Event::RolesStopped,
            () = at(probation) => Event::ProbationOver,
            () = at(self.retry_at) => Event::RetryDue,
            () = self.status.renewal() => Event::Renewal,
            // The actor holds a sender itself, so this never ends with `None`.
            Some(work) = self.work.recv(), if serving => Event::Work(work),
        }
    }

    fn on_goal(&mut self) {
        if self.ending {
            return;
        }
        let goal = self.goal.borrow_and_update().clone();
        match goal {
            Goal::Stop => {
                self.ending = true;
                self.preparing = None;
                self.waiting = None;
                self.status
                    .change(|status| status.phase = Phase::Terminating);
                self.stop_roles(DRAIN);
            }
            Goal::Refuse { message, last_good } => {
                self.drop_candidate();
                self.resume_roles();
                self.refuse(Transition::Refused, message);
                if self.active.is_none()
                    && let Some(last_good) = last_good
                {
                    self.prepare_candidate(last_good);
                }
            }
            Goal::Halt { reason, message } => {
                tracing::warn!(plugin = %self.identity, reason, "stands still: {message}");
                if reason == POLICY_REFUSED {
                    self.tell(Transition::Refused, &message);
                }
                self.halt(reason, message);
            }
            Goal::Run(declared)
            | Goal::Replace {
                declaration: declared,
                ..
            } if declared.manifest.spec.suspend => {
                tracing::info!(plugin = %self.identity, "suspended");
                self.halt("Suspended", "the manifest says suspend: true".into());
            }
            Goal::Run(declared) => self.want(declared),
            Goal::Replace {
                declaration,
                message,
            } => {
                if self.active.is_some() && !self.is_at_work(&declaration) {
                    tracing::warn!(plugin = %self.identity, "stands still until the declared revision works: {message}");
                    self.tell(Transition::Refused, &message);
                    self.halt(POLICY_REFUSED, message);
                }
                self.want(declaration);
            }
        }
    }

    async fn on_roles_stopped(&mut self) {
        self.roles = Roles::Stopped;
        if self.ending {
            return;
        }
        if let Some(candidate) = self.waiting.take() {
            self.swap(candidate).await;
        } else {
            self.resume_roles();
        }
    }

    /// Starts the roles again for the active revision, if there is one and they stand still.
    fn resume_roles(&mut self) {
        if matches!(self.roles, Roles::Stopped)
            && let Some(active) = &self.active
        {
            self.start_roles(active.manifest.clone());
        }
    }

    fn start_roles(&mut self, manifest: Arc<Manifest>) {
        let Some(active) = &self.active else { return };
        for (role, driver) in &mut self.drivers {
            if active.revision.roles.contains(role) {
                driver.start(manifest.clone(), self.work_sender.clone());
            }
        }
        self.roles = Roles::Running;
    }

    fn stop_roles(&mut self, drain: Duration) {
        if !matches!(self.roles, Roles::Running) {
            return;
        }
        let serving = self
            .active
            .as_ref()
            .is_some_and(|active| active.instance.is_some());
        let drain = if serving { drain } else { Duration::ZERO };
        let waiting = self.waiting.as_ref().map(|next| &next.revision);
        let next = waiting.or(self.active.as_ref().map(|active| &active.revision));
        let next = next.filter(|_| !self.ending);
        let stops: Vec<_> = self
            .drivers
            .iter_mut()
            .map(|(role, driver)| {
                let again = next.is_some_and(|next| next.roles.contains(role));
                driver.stop(drain, again)
            })
            .collect();
        self.roles = Roles::Stopping(Box::pin(async move {
            join_all(stops).await;
        }));
    }

    async fn on_work(&mut self, work: Box<dyn Work>) {
        let Some(instance) = self
            .active
            .as_mut()
            .and_then(|active| active.instance.as_mut())
        else {
            return;
        };
        let begin = Instant::now();
        let outcome = {
            let _in_call = self.slot.enter();
            tokio::select! {
                biased;
                outcome = work.run(instance) => Some(outcome),
                () = halted(self.goal.clone()) => None,
            }
        };
        self.status.latency.record(begin.elapsed());
        match outcome {
            Some(Ok(())) => {
                self.renewal_due |= instance.take_retired();
                self.backoff.success();
            }
            Some(Err(failure)) => self.on_failure(failure),
            // The call was cut short; the goal comes next and drops the instance.
            None => {}
        }
    }

    /// The active instance is gone.
    fn on_failure(&mut self, failure: Failure) {
        self.note_failure(&failure);
        let failed = self.active.take();
        let Some(mut failed) = failed else { return };
        failed.instance = None;
        self.status.usage.clear_memory();
        match self.previous.take() {
            Some((previous, _)) => self.roll_back(failed, previous, &failure),
            None => {
                self.active = Some(failed);
                self.retry_later(&failure.to_string());
            }
        }
    }

    fn note_failure(&self, failure: &Failure) {
        tracing::warn!(
            plugin = %self.identity,
            call = failure.call,
            cause = ?failure.cause,
            backtrace = ?failure.backtrace,
            "{}", failure.message
        );
        self.status.change(|status| {
            status.last_failure = Some(failure.clone());
            status.last_failure_time = Some(Timestamp::now());
        });
    }

    /// Tells the observer; whether that was news.
    fn tell(&mut self, transition: Transition, message: &str) -> bool {
        let told = self.told.as_ref();
        if told.is_some_and(|(last, said)| *last == transition && said == message) {
            return false;
        }
        self.told = Some((transition, message.to_owned()));
        self.observer.transition(transition, message);
        true
    }

    fn retry_later(&mut self, why: &str) {
        if self.status.snapshot().phase != Phase::Degraded {
            self.tell(Transition::Crashing, why);
        }
        let delay = self.backoff.next();
        self.retry_at = Some(Instant::now() + delay);
        let next = Timestamp::now()
            .checked_add(delay)
            .unwrap_or(Timestamp::MAX);
        self.status.change(|status| status.phase = Phase::Degraded);
        self.status.condition(
            "Ready",
            false,
            "Crashing",
            format!("{why}; next try at {next:.3}"),
        );
    }

    fn on_retry(&mut self) {
        self.retry_at = None;
        if let Some(active) = &self.active {
            match &active.instance {
                None => self.preparing = Some(self.begin_instance(active)),
                // It is the candidate that is tried again.
                Some(_) => self.catch_up(),
            }
            return;
        }
        let goal = self.goal.borrow().clone();
        match goal {
            Goal::Run(declared)
            | Goal::Replace {
                declaration: declared,
                ..
            }
            | Goal::Refuse {
                last_good: Some(declared),
                ..
            } => self.prepare_candidate(declared),
            _ => {}
        }
    }

    /// Stops the plugin at once. Its state stays, and input goes on where it was after.
    fn halt(&mut self, reason: &'static str, message: String) {
        self.preparing = None;
        self.waiting = None;
        self.previous = None;
        self.active = None;
        self.retry_at = None;
        self.rejected = None;
        self.stop_roles(Duration::ZERO);
        self.status.usage.clear_memory();
        self.status.change(|status| {
            status.phase = Phase::Suspended;
            status.active = None;
            status.candidate = None;
            status.probation = false;
        });
        self.status
            .condition("UpToDate", false, reason, message.clone());
        self.status.condition("Ready", false, reason, message);
    }

    fn ready(&mut self, message: &str) {
        self.status.change(|status| status.phase = Phase::Running);
        self.status.condition("Ready", true, "Serving", message);
    }

    fn up_to_date(&mut self, message: &str) {
        self.status.condition("UpToDate", true, "Current", message);
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

async fn prepared(preparing: &mut Option<Preparing>) -> Result<Prepared, Rejection> {
    match preparing {
        Some(preparing) => (&mut preparing.task).await.unwrap_or_else(|error| {
            Err(Rejection::Refused(format!(
                "the daemon failed while it prepared the plugin, please report it: {error}"
            )))
        }),
        None => std::future::pending().await,
    }
}

async fn stopped(roles: &mut Roles) {
    match roles {
        Roles::Stopping(stop) => stop.await,
        _ => std::future::pending().await,
    }
}

/// Resolves when the goal is to stand still.
async fn halted(mut goal: watch::Receiver<Goal>) {
    loop {
        let halt = match &*goal.borrow_and_update() {
            Goal::Run(declared)
            | Goal::Replace {
                declaration: declared,
                ..
            } => declared.manifest.spec.suspend,
            Goal::Halt { .. } => true,
            Goal::Refuse { .. } | Goal::Stop => false,
        };
        if halt {
            return;
        }
        if goal.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}
