//! One round: look at the node, ask the plugin what should be changed, and make the changes or report
//! them. When rounds are made is the driver's business.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::ask::{Answer, AskPlan, GetOutline, ask};
use super::change::{Change, Handler};
use super::drift::Names;
use super::driver::{Revert, Reverted};
use super::effects::{Effects, Error, Made, Past, Plan as Of, Seen, Subject, verb};
use super::flapping::Flapping;
use super::meant::meant;
use super::memory::Memory;
use super::outline::Outline;
use super::plan::{Assessment, Plan, Refused};
use super::report::{ChangeReport, ChangeState, RuleCounts, RuleReport, Verdict};
use crate::manifest::{Manifest, Mode};
use crate::sandbox::WorkSender;

/// How much is reported one by one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Detail {
    /// Changes that are not made.
    pub(super) changes: usize,
    /// Bytes of their diffs, all together.
    pub(super) diffs: usize,
}

/// Facts of the node, by name.
pub(super) type Facts = Arc<dyn Fn() -> Vec<(String, String)> + Send + Sync>;

/// Why changes are not made now, whatever they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quiet {
    /// The daemon was started so.
    AuditOnly,
    /// The manifest says so.
    Audit,
    /// It is not the time.
    OutsideWindows,
}

impl Quiet {
    /// What holds now.
    pub(super) fn now(manifest: &Manifest, audit_only: bool) -> Option<Self> {
        let settings = manifest.spec.enforcement.clone().unwrap_or_default();
        if audit_only {
            Some(Self::AuditOnly)
        } else if settings.mode == Mode::Audit {
            Some(Self::Audit)
        } else if !settings.is_open(Timestamp::now()) {
            Some(Self::OutsideWindows)
        } else {
            None
        }
    }

    /// For people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::AuditOnly => "the daemon runs with --audit-only",
            Self::Audit => "enforcement.mode is audit",
            Self::OutsideWindows => "it is outside of enforcement.windows",
        }
    }
}

/// What rounds of one plugin have in common.
pub(super) struct Rounds {
    pub(super) effects: Arc<Effects>,
    pub(super) manifest: Arc<Manifest>,
    /// The declared revision, for the history.
    pub(super) revision: String,
    pub(super) work: WorkSender,
    pub(super) audit_only: bool,
    pub(super) facts: Facts,
    pub(super) detail: Detail,
    pub(super) flapping: Flapping,
    pub(super) memory: Memory,
    /// When it is, nothing more is begun.
    pub(super) cancel: CancellationToken,
}

/// What a round came to.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) counts: RuleCounts,
    pub(super) rules: Vec<RuleReport>,
    pub(super) outstanding: Vec<ChangeReport>,
    pub(super) outstanding_count: u64,
    /// How many of these are told one by one.
    room: usize,
    pub(super) made: u64,
    pub(super) failed: u64,
    /// Ids of changes that something else keeps undoing.
    pub(super) flapping: Vec<String>,
    pub(super) took: Duration,
    /// What to watch until the next one.
    pub(super) watched: HashMap<PathBuf, Names>,
    /// Why handlers or holds could not be noted.
    pub(super) problem: Option<String>,
}

/// What has become of one planned change.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Undecided,
    Made,
    /// There was nothing to be done by then.
    Already,
    /// It failed, and did something all the same, or may have.
    Halfway(String),
    Not(ChangeState, String),
}

impl Fate {
    /// Whether whoever is to be told of the change must be.
    fn is_felt(&self) -> bool {
        matches!(self, Self::Made | Self::Halfway(_))
    }

    /// Why the change is still to be made.
    fn outstanding(self) -> Option<(ChangeState, String)> {
        match self {
            Self::Undecided | Self::Made | Self::Already => None,
            Self::Halfway(why) => Some((ChangeState::Failed, why)),
            Self::Not(state, why) => Some((state, why)),
        }
    }
}

impl Rounds {
    /// Makes one round. The error is why it came to nothing.
    pub(super) async fn round(&mut self) -> Result<Round, String> {
        let begun = Instant::now();
        let cancel = self.cancel.clone();
        // Whom the plugin answers may be gone before it does: its instance may be.
        let planned = cancel.run_until_cancelled(self.plan()).await;
        let (outline, seen, plan) = planned.ok_or("the role ends")??;
        let mut round = Round {
            watched: watched(&seen),
            room: self.detail.changes,
            ..Round::default()
        };
        round.assess(&outline, &plan);
        for refused in &plan.refused {
            round.refused(refused, &outline);
        }
        self.carry_out(&mut round, &outline, seen, plan).await?;
        let now = Instant::now();
        self.flapping.forgive(now);
        round.flapping = self.flapping.list();
        round.took = begun.elapsed();
        Ok(round)
    }

    /// Looks, and asks until the answer is to what was seen: the plugin may be updated in between.
    async fn plan(&self) -> Result<(Arc<Outline>, Arc<Seen>, Plan), String> {
        for _ in 0..8 {
            let outline = ask(&self.work, |reply| Box::new(GetOutline(reply))).await?;
            let (effects, wants) = (self.effects.clone(), outline.wants.clone());
            let seen = blocking(move || effects.look(&wants)).await?;
            let seen = Arc::new(seen.map_err(|error| error.to_string())?);
            let facts = match self.manifest.spec.grants.node_facts {
                true => (self.facts)(),
                false => Vec::new(),
            };
            let asked = ask(&self.work, |reply| {
                Box::new(AskPlan {
                    outline: outline.clone(),
                    seen: seen.clone(),
                    facts,
                    grants: self.manifest.spec.grants.changes.clone(),
                    reply,
                })
            });
            match asked.await? {
                Answer::Plan(plan) => return Ok((outline, seen, plan)),
                Answer::Refused(message) => {
                    return Err(format!("the plugin has no plan: {message}"));
                }
                Answer::Stale => {}
            }
        }
        Err("the plugin's instance was replaced again and again meanwhile".to_owned())
    }

    /// Puts changes back, and notes first that they are to be left alone: the daemon may end in between.
    pub(super) async fn revert(&mut self, what: Revert) -> Result<Vec<Reverted>, String> {
        if self.audit_only {
            return Err(
                "the daemon runs with --audit-only, and changes nothing on this node".to_owned(),
            );
        }
        let effects = self.effects.clone();
        let change = what.change.clone();
        let meant = blocking(move || meant(&effects, change.as_deref())).await??;
        let ids: Vec<String> = meant.iter().map(|past| past.change.clone()).collect();
        let only = what.change.is_some().then_some(&*ids);
        let held = self.memory.hold(&self.revision, only);
        held.map_err(|error| format!("that it is to stay so cannot be noted: {error}"))?;
        let (effects, revision) = (self.effects.clone(), self.revision.clone());
        let reverted = blocking(move || {
            let reverted = meant.iter().map(|past| {
                let Past {
                    sequence,
                    action,
                    subject,
                    ..
                } = past;
                let done = effects.revert(*sequence, &revision, what.force);
                let line = match &done {
                    Ok(_) => format!("put back {sequence}: {action} {subject}"),
                    Err(error) => format!("not put back {sequence}: {action} {subject}: {error}"),
                };
                let nothing = matches!(&done, Err(error) if !matches!(error, Error::Unfinished(_)));
                (past.change.clone(), done.is_ok(), nothing, line)
            });
            reverted.collect::<Vec<_>>()
        });
        let reverted = reverted.await?;
        let failed = reverted.iter().filter(|(_, _, nothing, _)| *nothing);
        let failed: Vec<&str> = failed.map(|(change, ..)| change.as_str()).collect();
        if what.change.is_some() && !failed.is_empty() {
            // It is as the plugin wants it, or as somebody else does: not as it was put back.
            let released = self.memory.let_go(&failed);
            released.map_err(|error| format!("that it is kept again cannot be noted: {error}"))?;
        }
        let done = reverted.into_iter();
        Ok(done
            .map(|(_, done, _, line)| Reverted { done, line })
            .collect())
    }

    async fn carry_out(
        &mut self,
        round: &mut Round,
        outline: &Outline,
        seen: Arc<Seen>,
        plan: Plan,
    ) -> Result<(), String> {
        let now = Instant::now();
        let quiet = Quiet::now(&self.manifest, self.audit_only);
        let changes = plan.changes;
        let mut fates = vec![Fate::Undecided; changes.len()];
        for (fate, planned) in fates.iter_mut().zip(&changes) {
            if let Some((state, why)) = self.reason_not_to(&planned.change, quiet, now) {
                *fate = Fate::Not(state, why);
            }
        }
        // Handlers are noted as due before what makes them so: the daemon may end in between.
        let wanted = |id: &str| {
            let of = changes.iter().zip(&fates);
            let mut of = of.filter(|(_, fate)| **fate == Fate::Undecided);
            of.any(|(planned, _)| *planned.change.id == *id)
        };
        let handlers = plan.handlers.iter();
        let due_before = handlers.clone().map(|handler| handler.change.id.clone());
        let due_before: Vec<Arc<str>> = due_before.filter(|id| self.memory.is_due(id)).collect();
        let due = handlers.filter(|it| it.when_changed.iter().any(|id| wanted(id)));
        let due: Vec<String> = due.map(|handler| handler.change.id.to_string()).collect();
        if let Err(error) = self.memory.expect(due.iter().map(String::as_str)) {
            return Err(format!(
                "handlers cannot be noted, so nothing is changed: {error}"
            ));
        }
        loop {
            let mut ready = Vec::new();
            for i in 0..changes.len() {
                if fates[i] != Fate::Undecided {
                    continue;
                }
                let mut before = changes[i].after.iter();
                if let Some(lost) =
                    before.find(|other| matches!(fates[**other], Fate::Halfway(_) | Fate::Not(..)))
                {
                    let why = format!("it waits for {:?}", changes[*lost].change.id);
                    fates[i] = Fate::Not(ChangeState::Waiting, why);
                } else if changes[i]
                    .after
                    .iter()
                    .all(|it| matches!(fates[*it], Fate::Made | Fate::Already))
                {
                    ready.push(i);
                }
            }
            if ready.is_empty() {
                break;
            }
            if self.cancel.is_cancelled() {
                return Err("the role ends".to_owned());
            }
            let batch: Vec<Change> = ready.iter().map(|i| changes[*i].change.clone()).collect();
            for (i, result) in ready
                .into_iter()
                .zip(self.make(batch, outline, &seen).await?)
            {
                fates[i] = self.note(&changes[i].change, result, round);
            }
        }
        let made = changes.iter().zip(&fates);
        let made = made.filter(|(_, fate)| fate.is_felt());
        let made: Vec<Arc<str>> = made.map(|(planned, _)| planned.change.id.clone()).collect();
        let handlers = plan.handlers.into_iter().filter(|handler| {
            let triggered = handler.when_changed.iter().any(|id| made.contains(id));
            triggered || due_before.contains(&handler.change.id)
        });
        self.handle(round, outline, &seen, handlers.collect(), quiet)
            .await?;
        let mut outstanding = Vec::new();
        for (planned, fate) in changes.into_iter().zip(fates) {
            if let Some((state, why)) = fate.outstanding() {
                outstanding.push((planned.change, state, why));
            }
        }
        self.preview(round, outline, outstanding).await
    }

    /// Does the handlers that are due: each once, whatever made it so.
    async fn handle(
        &mut self,
        round: &mut Round,
        outline: &Outline,
        seen: &Arc<Seen>,
        handlers: Vec<Handler>,
        quiet: Option<Quiet>,
    ) -> Result<(), String> {
        let now = Instant::now();
        let mut left: Vec<&str> = Vec::new();
        for handler in &handlers {
            let id = &handler.change.id;
            if let Some((state, why)) = self.reason_not_to(&handler.change, quiet, now) {
                left.push(id);
                round.outstanding(outline, &handler.change, state, why, String::new());
                continue;
            }
            let batch = vec![handler.change.clone()];
            let result = self.make(batch, outline, seen).await?.pop();
            let result = result.unwrap_or(Err(Error::Stopped));
            let fate = self.note(&handler.change, result, round);
            if let Some((state, why)) = fate.outstanding() {
                left.push(id);
                round.outstanding(outline, &handler.change, state, why, String::new());
            }
        }
        if let Err(error) = self.memory.done(|id| left.contains(&id)) {
            round.problem = Some(format!("that handlers were done cannot be noted: {error}"));
        }
        Ok(())
    }

    fn reason_not_to(
        &self,
        change: &Change,
        quiet: Option<Quiet>,
        now: Instant,
    ) -> Option<(ChangeState, String)> {
        if let Some(quiet) = quiet {
            return Some((ChangeState::Pending, quiet.words().to_owned()));
        }
        if self.memory.holds(&self.revision, &change.id) {
            let why = "it was put back by hand; it is made again when the manifest changes, or after `bulkhead enforcement resume`";
            return Some((ChangeState::Held, why.to_owned()));
        }
        let wait = self.flapping.wait(&change.id, now)?;
        let why = format!(
            "something else keeps undoing it; it is made again in {} s",
            wait.as_secs() + 1
        );
        Some((ChangeState::Flapping, why))
    }

    async fn make(
        &self,
        batch: Vec<Change>,
        outline: &Outline,
        seen: &Arc<Seen>,
    ) -> Result<Vec<Result<Made, Error>>, String> {
        let (effects, seen, revision) = (self.effects.clone(), seen.clone(), self.revision.clone());
        let rules = outline.ids.clone();
        blocking(move || {
            let changes: Vec<&Change> = batch.iter().collect();
            let of = Of {
                revision: &revision,
                rules: &rules,
                seen: Some(&seen),
            };
            effects.make_all(&changes, &of)
        })
        .await
    }

    /// Takes note of what became of a change.
    fn note(&mut self, change: &Change, result: Result<Made, Error>, round: &mut Round) -> Fate {
        let (kind, subject) = (
            verb(&change.action),
            Subject::of(&change.action).to_string(),
        );
        let plugin = &self.manifest.identity;
        match result {
            Ok(Made { sequence: None }) => Fate::Already,
            Ok(Made { sequence: Some(_) }) => {
                round.made += 1;
                tracing::info!(%plugin, change = %change.id, kind, subject, "changed: {}", change.reason);
                if self.flapping.made(&change.id, Instant::now()) {
                    tracing::warn!(%plugin, change = %change.id, kind, subject,
                        "something else keeps undoing this change; it is made less often from now on");
                }
                Fate::Made
            }
            Err(error) => {
                round.failed += 1;
                tracing::warn!(%plugin, change = %change.id, kind, subject, "could not be changed: {error}");
                match error {
                    Error::Unfinished(_) => Fate::Halfway(error.to_string()),
                    error => Fate::Not(ChangeState::Failed, error.to_string()),
                }
            }
        }
    }

    /// Reports what is outstanding, with what it would change.
    async fn preview(
        &self,
        round: &mut Round,
        outline: &Outline,
        outstanding: Vec<(Change, ChangeState, String)>,
    ) -> Result<(), String> {
        let room = round.room.saturating_sub(round.outstanding.len());
        let mut left = self.detail.diffs;
        let effects = self.effects.clone();
        let previewed = blocking(move || {
            let changes: Vec<&Change> = outstanding.iter().map(|(change, ..)| change).collect();
            let shown = changes.get(..room).unwrap_or(&changes);
            let mut previews = effects.preview_all(shown).into_iter();
            let each = outstanding.into_iter().map(|(change, state, why)| {
                let diff = match previews.next() {
                    Some(Ok(preview)) if preview.diff.len() <= left => preview.diff,
                    Some(Ok(_)) => "(too long to be shown here)".to_owned(),
                    Some(Err(error)) => error.to_string(),
                    None => String::new(),
                };
                left = left.saturating_sub(diff.len());
                (change, state, why, diff)
            });
            each.collect::<Vec<_>>()
        })
        .await?;
        for (change, state, why, diff) in previewed {
            round.outstanding(outline, &change, state, why, diff);
        }
        Ok(())
    }
}

impl Round {
    fn assess(&mut self, outline: &Outline, plan: &Plan) {
        for (rule, found) in outline.rules.iter().zip(&plan.assessments) {
            let verdict = found
                .as_ref()
                .map_or(Verdict::Error, |it: &Assessment| it.verdict.into());
            self.counts.count(verdict);
            self.rules.push(RuleReport::of(rule, found.as_ref()));
        }
    }

    fn refused(&mut self, refused: &Refused, outline: &Outline) {
        self.outstanding_count += 1;
        if self.outstanding.len() < self.room {
            self.outstanding.push(ChangeReport {
                id: refused.id.to_string(),
                rule: rule_of(refused.rule, outline),
                kind: refused.kind,
                subject: refused.subject.clone(),
                reason: String::new(),
                state: ChangeState::Refused,
                message: refused.why.clone(),
                diff: String::new(),
            });
        }
    }

    fn outstanding(
        &mut self,
        outline: &Outline,
        change: &Change,
        state: ChangeState,
        message: String,
        diff: String,
    ) {
        self.outstanding_count += 1;
        if self.outstanding.len() < self.room {
            self.outstanding.push(ChangeReport {
                id: change.id.to_string(),
                rule: rule_of(change.rule, outline),
                kind: verb(&change.action),
                subject: Subject::of(&change.action).to_string(),
                reason: change.reason.clone(),
                state,
                message,
                diff,
            });
        }
    }
}

fn watched(seen: &Seen) -> HashMap<PathBuf, Names> {
    let watched = seen.watched().into_iter();
    let watched = watched.map(|watched| {
        let names = match watched.names {
            Some(names) => Names::Only(names.into_iter().map(Into::into).collect()),
            None => Names::All,
        };
        (watched.folder, names)
    });
    watched.collect()
}

fn rule_of(rule: Option<u32>, outline: &Outline) -> Option<String> {
    let rule = outline.rules.get(rule? as usize)?;
    Some(rule.id.clone())
}

async fn blocking<T: Send + 'static>(
    task: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(task).await;
    done.map_err(|error| format!("the daemon failed; please report this as a bug: {error}"))
}

#[cfg(test)]
mod tests;
