//! Updates: a candidate is prepared beside the revision at work, takes its place between two pieces
//! of work, and gives it back if it fails in its probation.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_util::task::AbortOnDropHandle;

use super::super::backoff::Backoff;
use super::super::prepare::{Prepared, Progress, Rejection};
use super::super::status::{Phase, Revision, Status};
use super::super::transition::Transition;
use super::{Active, Actor, DRAIN, Declaration, Goal, Preparing, Rejected, Roles};
use crate::manifest::Manifest;
use crate::module::Digest;
use crate::sandbox::Cause;
use crate::sandbox::Failure;

impl Progress for Status {
    fn found(&self, digest: Digest) {
        self.change(|status| status.candidate = Some(digest));
    }

    fn waits(&self, why: String) {
        self.waits_for_module();
        let message = format!("the module is not there yet, and is asked for again: {why}");
        self.condition("UpToDate", false, "Fetching", message);
    }
}

/// A candidate that the node did not let compile or check is tried again after this long.
const INTERRUPTED: Duration = Duration::from_secs(30);

impl Actor {
    /// Makes `manifest` the candidate, unless it is at work or was rejected.
    pub(super) fn want(&mut self, declared: Declaration) {
        if self.is_at_work(&declared) {
            self.drop_candidate();
            self.rejected = None;
            self.resume_roles();
            // In its probation it has said so.
            if self.previous.is_none() {
                self.up_to_date("the declared revision is at work");
            }
            return;
        }
        // Every goal comes again when any manifest of the node changes.
        let waiting = self.waiting.as_ref().map(|it| &it.revision.manifest);
        let preparing = self.preparing.as_ref().and_then(|it| it.candidate.as_ref());
        if waiting == Some(&declared.hash) || preparing == Some(&declared.hash) {
            return;
        }
        if let Some(rejected) = self
            .rejected
            .take_if(|rejected| rejected.hash == declared.hash)
        {
            // Something else may have been declared, or refused, in between.
            self.drop_candidate();
            self.resume_roles();
            self.reject_for_good(rejected);
            return;
        }
        self.rejected = None;
        if self.active.is_none() {
            self.status.change(|status| status.phase = Phase::Pending);
        }
        self.status.waits_no_more();
        self.retry_at = None;
        self.waiting = None;
        self.declared_at = Instant::now();
        self.prepare_candidate(declared);
    }

    /// What is to run, if anything is.
    pub(super) fn declared(&self) -> Option<Declaration> {
        match &*self.goal.borrow() {
            Goal::Run(declared) if !declared.manifest.spec.suspend => Some(declared.clone()),
            Goal::Replace { declaration, .. } if !declaration.manifest.spec.suspend => {
                Some(declaration.clone())
            }
            _ => None,
        }
    }

    pub(super) fn is_at_work(&self, declared: &Declaration) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|active| active.revision.manifest == declared.hash)
    }

    /// The declared revision changed while another was being prepared; a fresh instance of the
    /// active revision goes on being made.
    pub(super) fn drop_candidate(&mut self) {
        self.waiting = None;
        self.preparing = self
            .preparing
            .take()
            .filter(|preparing| preparing.candidate.is_none());
        self.status.change(|status| status.candidate = None);
        if self.preparing.is_none() {
            self.revive("the update that was under way was withdrawn");
        }
    }

    pub(super) fn prepare_candidate(&mut self, declared: Declaration) {
        let preparer = self.preparer.clone();
        let status = self.status.clone();
        let hash = declared.hash.clone();
        let task = tokio::spawn(async move { preparer.candidate(declared, &status).await });
        self.preparing = Some(Preparing {
            candidate: Some(hash),
            task: AbortOnDropHandle::new(task),
        });
    }

    pub(super) async fn on_prepared(
        &mut self,
        candidate: Option<String>,
        result: Result<Prepared, Rejection>,
    ) {
        self.status.change(|status| status.candidate = None);
        match (candidate, result) {
            (None, result) => self.on_instance(result).await,
            (Some(_), Ok(prepared)) => {
                let must_stop = match (&self.roles, &self.active) {
                    (Roles::Stopping(_), _) => true,
                    (Roles::Running, Some(active)) => {
                        let to = (&*prepared.manifest, &prepared.revision);
                        self.must_restart((&active.manifest, &active.revision), to)
                    }
                    _ => false,
                };
                if must_stop {
                    self.waiting = Some(prepared);
                    self.stop_roles(DRAIN);
                } else {
                    self.swap(prepared).await;
                }
            }
            (Some(hash), Err(rejection)) => self.reject(hash, rejection),
        }
    }

    /// Prepares the declared revision if making a fresh instance of the active one put an end to that.
    pub(super) fn catch_up(&mut self) {
        let Some(declared) = self.declared() else {
            return;
        };
        let rejected = self.rejected.as_ref();
        let due = self.preparing.is_none()
            && self.waiting.is_none()
            && !self.is_at_work(&declared)
            && rejected.is_none_or(|rejected| rejected.hash != declared.hash);
        if due {
            self.prepare_candidate(declared);
        }
    }

    /// The candidate does not come to work.
    fn reject(&mut self, hash: String, rejection: Rejection) {
        match (&rejection, &self.active) {
            (Rejection::Refused(message), _) => {
                self.reject_for_good(Rejected {
                    hash,
                    transition: Transition::Refused,
                    message: message.clone(),
                });
                self.revive(message);
            }
            // Nothing is wrong with the candidate.
            (Rejection::Failed(failure), Some(_)) if failure.cause == Cause::Interrupted => {
                let message = format!("{failure}; the revision before it goes on meanwhile");
                self.note_failure(failure);
                self.refuse(Transition::UpdateFailed, message.clone());
                self.revive(&message);
                let again = INTERRUPTED.mul_f64(0.8 + 0.4 * fastrand::f64());
                self.retry_at.get_or_insert(Instant::now() + again);
            }
            (Rejection::Failed(failure), Some(_)) => {
                let message = format!(
                    "{failure}; the revision before it goes on. Change the manifest or the module to try another"
                );
                self.note_failure(failure);
                self.reject_for_good(Rejected {
                    hash,
                    transition: Transition::UpdateFailed,
                    message: message.clone(),
                });
                self.revive(&message);
            }
            // Nothing runs, so trying again costs nothing.
            (Rejection::Failed(failure), None) => {
                self.note_failure(failure);
                self.retry_later(&failure.to_string());
            }
        }
    }

    /// The active revision may have lost its instance while a candidate was being prepared.
    fn revive(&mut self, why: &str) {
        let dead = self
            .active
            .as_ref()
            .is_some_and(|active| active.instance.is_none());
        if dead && self.retry_at.is_none() {
            self.retry_later(why);
        }
    }

    fn reject_for_good(&mut self, rejected: Rejected) {
        self.refuse(rejected.transition, rejected.message.clone());
        self.rejected = Some(rejected);
    }

    pub(super) fn refuse(&mut self, transition: Transition, message: String) {
        let reason = transition.reason();
        if self.tell(transition, &message) {
            tracing::warn!(plugin = %self.identity, reason, "{message}");
        }
        if self.active.is_none() {
            // What a candidate used went with it.
            self.status.usage.clear_memory();
            self.status.change(|status| status.phase = Phase::Refused);
            self.status
                .condition("Ready", false, reason, message.clone());
        }
        self.status.condition("UpToDate", false, reason, message);
    }

    /// Puts the candidate in the place of the active revision, between two pieces of work.
    pub(super) async fn swap(&mut self, mut candidate: Prepared) {
        let begin = Instant::now();
        if let Err(rejection) = self.hand_on(&mut candidate).await {
            let at_work = self.active.as_ref().map(|active| active.manifest.clone());
            self.reject(candidate.revision.manifest, rejection);
            if let Some(manifest) = at_work
                && matches!(self.roles, Roles::Stopped)
            {
                self.start_roles(manifest);
            }
            return;
        }
        crate::failpoint::hit("update.before-swap");
        let manifest = candidate.manifest.clone();
        let probation = manifest.spec.update.probation.0;
        let is_update = self.active.is_some();
        candidate.revision.since = Timestamp::now();
        let revision = candidate.revision.clone();
        let old = self.active.replace(candidate.into());
        let pause = begin.elapsed();
        crate::failpoint::hit("update.after-swap");
        if let Some(old) = old {
            // A revision that is replaced during its own probation was never good.
            let good = self.previous.take().map_or(old, |(previous, _)| previous);
            self.previous = Some((good, Instant::now() + probation));
        }
        if matches!(self.roles, Roles::Stopped) {
            self.start_roles(manifest);
        }
        self.backoff = Backoff::default();
        self.retry_at = None;
        // A fresh instance of the revision before has no place any more.
        self.preparing = self
            .preparing
            .take()
            .filter(|preparing| preparing.candidate.is_some());
        tracing::info!(
            plugin = %self.identity,
            name = revision.name,
            version = revision.version,
            digest = %revision.digest,
            pause_us = pause.as_micros() as u64,
            "{}", if is_update { "updated" } else { "loaded" }
        );
        let what = format!(
            "{} {} with module {} is at work",
            revision.name, revision.version, revision.digest
        );
        self.status.change(|status| {
            status.active = Some(revision);
            status.probation = is_update;
            if is_update {
                status.updates += 1;
                status.last_update_seconds = Some(self.declared_at.elapsed().as_secs_f64());
                status.last_update_pause_seconds = Some(pause.as_secs_f64());
            }
        });
        self.ready("serving");
        let transition = match is_update {
            true => Transition::Updated,
            false => Transition::Loaded,
        };
        // One with the same module as the last says the same, and is news.
        self.told = None;
        self.tell(transition, &what);
        if is_update {
            self.status.condition(
                "UpToDate",
                true,
                "Probation",
                format!(
                    "the declared revision is at work, on probation for {}",
                    humantime::format_duration(probation)
                ),
            );
        } else {
            self.up_to_date("the declared revision is at work");
        }
        // The last good one runs in place of what is declared.
        let refused = match &*self.goal.borrow() {
            Goal::Refuse { message, .. } => Some(message.clone()),
            _ => None,
        };
        if let Some(message) = refused {
            self.refuse(Transition::Refused, message);
        }
    }

    /// Whether the host's side of a role must stop between two revisions: its settings changed, or one of
    /// them has not got the role.
    fn must_restart(&self, from: (&Manifest, &Revision), to: (&Manifest, &Revision)) -> bool {
        self.drivers.iter().any(|(role, driver)| {
            match (from.1.roles.contains(role), to.1.roles.contains(role)) {
                (true, true) => driver.restarts(from.0, to.0),
                (before, after) => before != after,
            }
        })
    }

    pub(super) fn roll_back(&mut self, failed: Active, previous: Active, failure: &Failure) {
        crate::failpoint::hit("update.rollback");
        let message = format!(
            "the new revision failed in its probation ({failure}); the one before it is at work again. Change the manifest to try another"
        );
        tracing::warn!(plugin = %self.identity, "rolled back: {message}");
        self.tell(Transition::RolledBack, &message);
        let restart = self.must_restart(
            (&failed.manifest, &failed.revision),
            (&previous.manifest, &previous.revision),
        );
        self.rejected = Some(Rejected {
            hash: failed.revision.manifest,
            transition: Transition::RolledBack,
            message: message.clone(),
        });
        let revision = previous.revision.clone();
        let serving = previous.instance.is_some();
        self.active = Some(previous);
        if restart {
            self.stop_roles(Duration::ZERO);
        }
        self.status.change(|status| {
            status.active = Some(revision);
            status.probation = false;
            status.rollbacks += 1;
        });
        if serving {
            self.ready("serving, after a roll-back");
        } else {
            self.retry_later("the revision before it needs a fresh instance");
        }
        self.status
            .condition("UpToDate", false, "RolledBack", message);
    }
}
