//! Findings that are known and accepted.

use glob::Pattern;
use jiff::civil::Date;

use super::finding::Found;
use crate::manifest::{SubjectGlob, Suppression};

/// The suppressions of a manifest, ready to be matched.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Suppressions(Vec<Entry>);

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    rule: SubjectGlob,
    subject: Option<Pattern>,
    reason: String,
    until: Option<Date>,
}

impl Suppressions {
    pub(super) fn new(manifest: &[Suppression]) -> Self {
        let entries = manifest.iter().filter_map(|suppression| {
            let subject = suppression.subject.as_deref().map(Pattern::new);
            Some(Entry {
                rule: suppression.rule.clone(),
                // What is no glob is refused with the manifest; it must not suppress everything.
                subject: subject.transpose().ok()?,
                reason: suppression.reason.clone(),
                until: suppression.until,
            })
        });
        Self(entries.collect())
    }

    /// Why a finding is accepted on this day, if it is.
    pub(super) fn reason(&self, found: &Found, today: Date) -> Option<&str> {
        let matches = |entry: &&Entry| {
            entry.until.is_none_or(|until| today <= until)
                && entry.rule.matches(&found.rule)
                && entry
                    .subject
                    .as_ref()
                    .is_none_or(|subject| subject.matches(&found.subject.text()))
        };
        let entry = self.0.iter().find(matches)?;
        Some(&entry.reason)
    }

    /// Whether one that counted on `before` does not on `today`, or the other way round.
    pub(super) fn differ(&self, before: Date, today: Date) -> bool {
        let mut untils = self.0.iter().filter_map(|entry| entry.until);
        untils.any(|until| (before <= until) != (today <= until))
    }
}
