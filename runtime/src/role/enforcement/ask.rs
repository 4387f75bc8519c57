//! Asking the plugin: what it is about, and what should be changed.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::effects::Seen;
use super::outline::Outline;
use super::plan::Plan;
use crate::manifest::ChangeGrants;
use crate::sandbox::bindings::enforcement::exports::bulkhead::plugin::enforcement as wit;
use crate::sandbox::{Cause, Failure, Instance, Task, Work, WorkSender};

const PLAN: &str = "enforcement.plan";

/// Sends a piece of work and waits for its answer.
pub(super) async fn ask<T>(
    work: &WorkSender,
    make: impl FnOnce(oneshot::Sender<T>) -> Box<dyn Work>,
) -> Result<T, String> {
    let gone = || "the plugin failed or was updated meanwhile; its status says why".to_owned();
    let (reply, answer) = oneshot::channel();
    work.send(make(reply)).await.map_err(|_| gone())?;
    answer.await.map_err(|_| gone())
}

/// What the instance at work is about.
pub(super) struct GetOutline(pub(super) oneshot::Sender<Arc<Outline>>);

impl Work for GetOutline {
    fn run<'a>(self: Box<Self>, instance: &'a mut Instance) -> Task<'a, Result<(), Failure>> {
        Box::pin(async move {
            if let Some(outline) = instance.noted::<Arc<Outline>>() {
                // Whoever asked may be gone.
                let _ = self.0.send(outline.clone());
            }
            Ok(())
        })
    }
}

/// Asks for a plan.
pub(super) struct AskPlan {
    pub(super) outline: Arc<Outline>,
    pub(super) seen: Arc<Seen>,
    pub(super) facts: Vec<(String, String)>,
    pub(super) grants: ChangeGrants,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// What a plugin answers.
pub(super) enum Answer {
    Plan(Plan),
    Refused(String),
    /// What was seen is not what this instance wants to see.
    Stale,
}

impl Work for AskPlan {
    fn run<'a>(self: Box<Self>, instance: &'a mut Instance) -> Task<'a, Result<(), Failure>> {
        Box::pin(async move {
            let noted = instance.noted::<Arc<Outline>>();
            if !noted.is_some_and(|noted| Arc::ptr_eq(noted, &self.outline)) {
                let _ = self.reply.send(Answer::Stale);
                return Ok(());
            }
            let answer = match call(instance, &self.seen, &self.facts).await? {
                Err(message) => Answer::Refused(message),
                Ok(proposal) => {
                    let rules = self.outline.rules.len();
                    match Plan::check(proposal, rules, &self.grants) {
                        Ok(plan) => Answer::Plan(plan),
                        Err(broken) => {
                            let message = format!("broke the contract: {broken}");
                            let failure = Failure::new(PLAN, Cause::BrokenPromise, message);
                            return Err(instance.condemn(failure));
                        }
                    }
                }
            };
            let _ = self.reply.send(answer);
            Ok(())
        })
    }
}

async fn call(
    instance: &mut Instance,
    seen: &Seen,
    facts: &[(String, String)],
) -> Result<Result<wit::Proposal, String>, Failure> {
    let guest = instance.enforcement().ok_or_else(|| {
        let message = "the component does not export bulkhead:plugin/enforcement";
        Failure::new(PLAN, Cause::BrokenPromise, message)
    })?;
    let (sysctls, units) = (seen.sysctls(), seen.units());
    let (users, groups) = (seen.users(), seen.groups());
    let facts: Vec<(&str, &str)> = facts
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let (sysctls, units, users, groups, facts) = (&sysctls, &units, &users, &groups, &facts);
    instance
        .call(PLAN, move |store, _| {
            Box::pin(async move {
                let view = wit::View {
                    bytes: &seen.bytes,
                    files: &seen.files,
                    sysctls,
                    kernel_modules: &seen.kernel_modules,
                    units,
                    users,
                    groups,
                    facts,
                };
                store.data_mut().called_with(&(&view,));
                guest.call_plan(store, view).await
            })
        })
        .await
}
