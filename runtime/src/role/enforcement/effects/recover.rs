//! After a crash: changes that were begun, and of which nothing else is known, are told from what is there.

use super::Effects;
use super::audit::Entry;
use super::kept::{Ended, Outcome};
use super::kind;
use super::place::Bound;
use super::subject::Subject;

impl Effects {
    /// Ends what was under way, and removes what it left behind.
    pub(super) fn recover(&self) {
        let mut kept = self.kept();
        let mut desk = self.desk(None, kept.most());
        let plugin = self.plugin.to_string();
        let mut outcomes = Vec::new();
        for sequence in kept.unended() {
            let Ok((record, _, _)) = kept.get(sequence, false) else {
                continue;
            };
            let Some(subject) = Subject::read(&record.scheme, &record.subject) else {
                continue;
            };
            if let Subject::Path(path) = &subject
                && let Some(granted) = desk.grants.file(path)
                && let Ok(spot) = desk.folders.spot(path, Bound::of(granted, path))
            {
                let _ = kind::clear(&spot.folder, &spot.temporary);
            }
            let now = kind::now(&subject, &record.after, &mut desk);
            let after = record.after.digest();
            let before = record.before.digest();
            // What leaves no trace, such as a restart, counts as not made.
            let is_there = now.as_ref().is_ok_and(|now| now.digest() == after);
            let done = is_there && before != after;
            let result = if done {
                Ended::Done
            } else {
                Ended::Interrupted
            };
            let error = match (result, &now) {
                (Ended::Done, _) => None,
                (_, Err(error)) => Some(format!("the daemon ended in between; {error}")),
                (_, Ok(now)) if now.digest() == before => {
                    Some("the daemon ended before it was made".to_owned())
                }
                (_, Ok(_)) => Some("the daemon ended in between".to_owned()),
            };
            let audited = self.audit.append(&[Entry {
                stage: "outcome",
                plugin: &plugin,
                revision: &record.revision,
                change: &record.change,
                kept: sequence,
                action: &record.action,
                subject: &record.subject,
                before: &before,
                after: &after,
                result: Some(result.word()),
                error: error.as_deref(),
            }]);
            if let Err(error) = audited {
                tracing::error!("the audit log cannot be written: {error}");
                return;
            }
            outcomes.push(Outcome {
                sequence,
                result,
                error,
                after: None,
            });
        }
        kept.end(outcomes);
    }
}
