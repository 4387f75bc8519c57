//! What was changed, newest first, and how it is put back.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::Effects;
use super::error::Error;
use super::kept::{Ended, Outcome, Record};
use super::kind;
use super::perform::{Job, Made};
use super::state::State;
use super::subject::Subject;

/// One change that was made, or tried.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Past {
    /// Its number, which grows.
    pub sequence: u64,
    /// When it was begun.
    pub time: Timestamp,
    /// By which revision of the plugin.
    pub revision: String,
    /// Its id in the plan.
    pub change: String,
    /// The id of the rule that was broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What was done, in one word.
    pub action: String,
    /// To what.
    pub subject: String,
    /// Why.
    pub reason: String,
    /// Whether the content is nobody's to see.
    pub secret: bool,
    /// What was there, without content.
    pub before: State,
    /// What was to be there, or is, without content.
    pub after: State,
    /// How they differ.
    pub diff: String,
    /// How it ended; none while it is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Ended>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The number of the change that it undid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undoes: Option<u64>,
}

impl Past {
    fn of(record: Record, outcome: Option<Outcome>, diff: String) -> Self {
        let (result, error, found) = match outcome {
            Some(outcome) => (Some(outcome.result), outcome.error, outcome.after),
            None => (None, None, None),
        };
        let shown = |state: State| shown(state, record.secret);
        Self {
            sequence: record.sequence,
            time: record.time,
            revision: record.revision,
            change: record.change,
            rule: record.rule,
            action: record.action,
            subject: record.subject,
            reason: record.reason,
            secret: record.secret,
            before: shown(record.before),
            after: shown(found.unwrap_or(record.after)),
            diff,
            result,
            error,
            undoes: record.undoes,
        }
    }
}

/// A state as everybody may see it. From the digest of a secret one could tell whether a guess is right.
pub(super) fn shown(mut state: State, secret: bool) -> State {
    match &mut state {
        State::Sysctl { value, persisted } if secret => {
            (*value, *persisted) = (None, None);
        }
        State::Symlink { target, .. } if secret => target.clear(),
        _ => {}
    }
    if let State::File {
        digest,
        content,
        attributes,
        ..
    } = &mut state
    {
        *content = None;
        attributes.clear();
        if secret {
            *digest = None;
        }
    }
    state
}

impl Effects {
    /// Changes before this one, newest first, at most so many.
    pub fn history(&self, before: Option<u64>, limit: usize) -> Vec<Past> {
        let kept = self.kept();
        let sequences = kept.before(before).take(limit);
        let past = sequences.filter_map(|sequence| match kept.get(sequence, false) {
            Ok((record, outcome, diff)) => Some(Past::of(record, outcome, diff)),
            Err(error) => {
                tracing::warn!("change {sequence}: {error}");
                None
            }
        });
        past.collect()
    }

    /// The number of the newest change with this id that was made.
    pub fn latest(&self, change: &str) -> Option<u64> {
        let kept = self.kept();
        kept.before(None).find(|sequence| {
            kept.get(*sequence, false)
                .is_ok_and(|(record, outcome, _)| {
                    let done = outcome.is_some_and(|it| it.result == Ended::Done);
                    record.change == change && record.undoes.is_none() && done
                })
        })
    }

    /// Puts back what was there before a change, unless somebody else has changed it since (`force`: even
    /// then). That is a change itself: audited, kept, and in the history.
    ///
    /// # Errors
    /// If nothing is kept of it, it cannot be put back, or the change that puts it back fails.
    pub fn revert(&self, sequence: u64, revision: &str, force: bool) -> Result<Made, Error> {
        let (record, outcome, _) = self.kept().get(sequence, true)?;
        let subject = Subject::read(&record.scheme, &record.subject);
        let subject = subject.ok_or(Error::Unknown(sequence))?;
        if outcome.as_ref().map(|it| it.result) == Some(Ended::Failed) {
            let why = "it failed, and changed nothing".to_owned();
            return Err(Error::Irrevocable(why));
        }
        if !force {
            let made = outcome.and_then(|it| it.after).unwrap_or(record.after);
            let most = self.kept().most();
            let now = kind::now(&subject, &made, &mut self.desk(None, most))?;
            if now.digest() != made.digest() {
                let subject = record.subject;
                return Err(Error::ChangedSince { subject });
            }
        }
        let job = Job {
            kind: kind::undoing(&subject, record.before)?,
            record: Record {
                sequence: 0,
                time: Timestamp::now(),
                revision: revision.to_owned(),
                reason: format!("puts back what was there before change {sequence}"),
                action: "revert".to_owned(),
                before: State::Absent,
                after: State::Absent,
                undoes: Some(sequence),
                ..record
            },
        };
        let mut results = self.perform(vec![job], None);
        results.pop().unwrap_or(Err(Error::Unknown(sequence)))
    }
}
