//! What becomes of findings, told to whoever listens: one JSON object a change.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::broadcast;

use super::finding::Severity;
use super::record::{Record, State};
use super::report::{LEFT_OUT, SubjectReport, evidence, timestamp};

/// Changes that wait for the slowest listener at most.
const WAITING: usize = 4096;

/// What became of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum Became {
    Opened,
    Reopened,
    Suppressed,
    Resolved,
}

/// A change of one finding, as it is published.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    time: Timestamp,
    state: Became,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    severity: Severity,
    rule: String,
    title: String,
    plugin: String,
    subject: SubjectReport,
    message: String,
    evidence: BTreeMap<String, Value>,
    references: Vec<String>,
    fingerprint: String,
    first_seen: Timestamp,
    last_seen: Timestamp,
}

impl Change {
    pub(super) fn new(became: Became, record: &Record) -> Self {
        let found = &record.found;
        Self {
            time: timestamp(record.changed),
            state: became,
            reason: match &record.state {
                State::LeftOut => Some(LEFT_OUT.to_owned()),
                State::Suppressed(reason) => Some(reason.clone()),
                State::Open | State::Resolved => None,
            },
            severity: found.severity,
            rule: found.rule.clone(),
            title: record.title.clone(),
            plugin: record.plugin.clone(),
            subject: SubjectReport::from(&found.subject),
            message: found.message.clone(),
            evidence: evidence(&found.evidence),
            references: found.references.clone(),
            fingerprint: found.fingerprint.clone(),
            first_seen: timestamp(record.first_seen),
            last_seen: timestamp(record.last_seen),
        }
    }

    /// When it was.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// Whose finding it is, as `NAMESPACE/NAME`.
    pub fn plugin(&self) -> &str {
        &self.plugin
    }

    /// One line of JSON, without the line feed.
    pub fn line(&self) -> String {
        // Maps with text as keys, and numbers that were JSON before: nothing of it can fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What a listener hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// A finding changed.
    Change(Arc<Change>),
    /// The listener was slow: so many changes are not told, the oldest.
    Lost(u64),
}

/// Changes from now on.
#[derive(Debug)]
pub struct Changes(broadcast::Receiver<Arc<Change>>);

impl Changes {
    /// Waits for the next one; None when the store is closed.
    pub async fn next(&mut self) -> Option<Heard> {
        match self.0.recv().await {
            Ok(change) => Some(Heard::Change(change)),
            Err(broadcast::error::RecvError::Lagged(lost)) => Some(Heard::Lost(lost)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The next one if it was told already.
    pub fn told(&mut self) -> Option<Heard> {
        match self.0.try_recv() {
            Ok(change) => Some(Heard::Change(change)),
            Err(broadcast::error::TryRecvError::Lagged(lost)) => Some(Heard::Lost(lost)),
            Err(_) => None,
        }
    }
}

/// Where changes are told.
#[derive(Debug, Clone)]
pub(super) struct Teller(broadcast::Sender<Arc<Change>>);

impl Teller {
    pub(super) fn new() -> Self {
        Self(broadcast::channel(WAITING).0)
    }

    pub(super) fn listen(&self) -> Changes {
        Changes(self.0.subscribe())
    }

    pub(super) fn is_heard(&self) -> bool {
        self.0.receiver_count() > 0
    }

    pub(super) fn tell(&self, change: Change) {
        // Nobody listens any more: it is in the store.
        let _ = self.0.send(Arc::new(change));
    }
}
