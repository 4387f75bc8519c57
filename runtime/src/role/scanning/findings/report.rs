//! Findings as they are shown.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::finding::{Severity, Subject};
use super::record::{Record, State};
use super::rules::Rule;

/// Why a finding is resolved that may still be so.
pub(super) const LEFT_OUT: &str = "its file is not scanned any more";

/// How a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FindingState {
    /// It is so.
    Open,
    /// It is so, and accepted by the manifest.
    Suppressed,
    /// It is so no more.
    Resolved,
}

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum SubjectReport {
    /// A file or what else is at a path.
    File {
        /// The path on the node; what is not UTF-8 is replaced.
        path: String,
        /// The path's bytes in Base64, only if they are not UTF-8.
        #[serde(skip_serializing_if = "Option::is_none")]
        path_bytes: Option<String>,
    },
    /// Anything else.
    Other {
        /// For example `user/mallory`.
        name: String,
    },
}

impl From<&Subject> for SubjectReport {
    fn from(subject: &Subject) -> Self {
        match subject {
            Subject::File(path) => Self::File {
                path: String::from_utf8_lossy(path).into_owned(),
                path_bytes: std::str::from_utf8(path)
                    .is_err()
                    .then(|| STANDARD.encode(path)),
            },
            Subject::Other(name) => Self::Other { name: name.clone() },
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Finding")]
pub struct FindingReport {
    /// Its number on this node: later findings have higher ones.
    pub number: u64,
    /// Who found it, as `NAMESPACE/NAME`.
    pub plugin: String,
    /// The rule's id.
    pub rule: String,
    /// The rule's title; empty if the plugin does not list the rule.
    pub title: String,
    /// How severe it is.
    pub severity: Severity,
    /// How it is.
    pub state: FindingState,
    /// Why it is accepted, or resolved though nobody looked whether it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it is about.
    pub subject: SubjectReport,
    /// What was found.
    pub message: String,
    /// What was seen.
    pub evidence: BTreeMap<String, Value>,
    /// Addresses to read more at.
    pub references: Vec<String>,
    /// What makes it another one than others of the rule and the subject.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    /// When it was found first.
    pub first_seen: Timestamp,
    /// When it was found last.
    pub last_seen: Timestamp,
    /// When its state was last another.
    pub changed: Timestamp,
    /// Why it matters, while the plugin works and lists the rule.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rationale: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remediation: String,
}

impl FindingReport {
    pub(super) fn new(number: u64, record: Record, rule: Option<&Rule>) -> Self {
        let Record {
            plugin,
            found,
            title,
            state,
            first_seen,
            last_seen,
            changed,
            scope: _,
        } = record;
        let (state, reason) = match state {
            State::Open => (FindingState::Open, None),
            State::Suppressed(reason) => (FindingState::Suppressed, Some(reason)),
            State::Resolved => (FindingState::Resolved, None),
            State::LeftOut => (FindingState::Resolved, Some(LEFT_OUT.to_owned())),
        };
        let text = |of: fn(&Rule) -> &String| rule.map(of).cloned().unwrap_or_default();
        Self {
            number,
            plugin,
            rule: found.rule,
            title,
            severity: found.severity,
            state,
            reason,
            subject: SubjectReport::from(&found.subject),
            message: found.message,
            evidence: evidence(&found.evidence),
            references: found.references,
            fingerprint: found.fingerprint,
            first_seen: timestamp(first_seen),
            last_seen: timestamp(last_seen),
            changed: timestamp(changed),
            rationale: text(|rule| &rule.rationale),
            remediation: text(|rule| &rule.remediation),
        }
    }
}

/// It was an object when it was checked.
pub(super) fn evidence(text: &str) -> BTreeMap<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

pub(super) fn timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or_default()
}
