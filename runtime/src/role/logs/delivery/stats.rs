//! What a destination's workers count, and how it is shown.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;

use super::front::QueueStatus;

/// How a destination is doing, for the status endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationStatus {
    /// Its name in the manifest.
    pub name: String,
    /// Its kind as the manifest writes it.
    pub kind: &'static str,
    /// Whether any lane waits for it.
    pub state: State,
    /// Since when it has been in trouble, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Failed attempts of the lane that has failed most often in a row.
    pub attempts: u32,
    /// The last failure and what to do about it; kept after it has recovered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When that was, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error_time: Option<String>,
    /// Records acknowledged; of a payload, the lines that it holds.
    pub lines: u64,
    /// Bytes acknowledged, as sent (after compression).
    pub bytes: u64,
    /// Requests acknowledged, whole or in part.
    pub requests: u64,
    /// Attempts after which the same had to be sent again.
    pub retries: u64,
    /// Records written to the dead letters.
    pub dead_lettered: u64,
    /// Requests at work now.
    pub in_flight: usize,
    /// Parcels that wait, over all lanes.
    pub waiting: usize,
    /// The queue on the disk in front of it, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueStatus>,
    /// While it catches up with the plugin's other destinations: bytes of files that it lacks of what
    /// they have, or will have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind_bytes: Option<u64>,
    /// When something was last acknowledged, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<String>,
}

/// Whether a destination takes what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum State {
    /// No lane has a failure behind it that is not made good.
    Healthy,
    /// At least one lane is waiting to try again.
    Retrying,
    /// It held up the plugin's other destinations, and works: it is sent by itself what it lacks.
    CatchingUp,
}

impl DestinationStatus {
    /// It is detached from the others, and behind by so many bytes.
    pub(in crate::role::logs) fn catches_up(&mut self, behind: u64) {
        self.behind_bytes = Some(behind);
        if self.state == State::Healthy {
            self.state = State::CatchingUp;
        }
    }
}

#[derive(Debug)]
pub(super) struct Stats {
    pub(super) name: String,
    kind: &'static str,
    lines: AtomicU64,
    bytes: AtomicU64,
    requests: AtomicU64,
    retries: AtomicU64,
    dead_lettered: AtomicU64,
    in_flight: AtomicUsize,
    /// Milliseconds since 1970; 0 for never.
    last_success: AtomicI64,
    trouble: Mutex<Trouble>,
}

#[derive(Debug, Default)]
struct Trouble {
    /// Failed attempts in a row of each lane that is in trouble.
    lanes: BTreeMap<usize, u32>,
    since: Option<jiff::Timestamp>,
    last: Option<(jiff::Timestamp, String)>,
}

/// Counts a request as in flight until dropped, however its future ends.
pub(super) struct InFlight<'a>(&'a Stats);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Stats {
    pub(super) fn new(name: &str, kind: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            lines: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            dead_lettered: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            last_success: AtomicI64::new(0),
            trouble: Mutex::default(),
        }
    }

    pub(super) fn begin(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(self)
    }

    pub(super) fn acknowledged(&self, lines: usize, bytes: usize) {
        self.lines.fetch_add(lines as u64, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        let now = jiff::Timestamp::now().as_millisecond();
        self.last_success.store(now, Relaxed);
    }

    pub(super) fn dead_lettered(&self, records: usize) {
        self.dead_lettered.fetch_add(records as u64, Relaxed);
    }

    pub(super) fn retried(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    /// A lane has failed `attempts` times in a row.
    pub(super) fn failed(&self, lane: usize, attempts: u32, reason: &str) {
        let now = jiff::Timestamp::now();
        let mut trouble = self.trouble();
        trouble.lanes.insert(lane, attempts);
        trouble.since.get_or_insert(now);
        trouble.last = Some((now, reason.to_owned()));
    }

    /// Something went wrong that is settled already.
    pub(super) fn noted(&self, reason: &str) {
        self.trouble().last = Some((jiff::Timestamp::now(), reason.to_owned()));
    }

    /// A lane that had failed works again.
    pub(super) fn recovered(&self, lane: usize) {
        let mut trouble = self.trouble();
        trouble.lanes.remove(&lane);
        if trouble.lanes.is_empty() {
            trouble.since = None;
        }
    }

    pub(super) fn snapshot(&self, waiting: usize, queue: Option<QueueStatus>) -> DestinationStatus {
        let trouble = self.trouble();
        let last_success = self.last_success.load(Relaxed);
        DestinationStatus {
            name: self.name.clone(),
            kind: self.kind,
            state: match trouble.lanes.is_empty() {
                true => State::Healthy,
                false => State::Retrying,
            },
            since: trouble.since.map(text),
            attempts: trouble.lanes.values().copied().max().unwrap_or(0),
            last_error: trouble.last.as_ref().map(|(_, reason)| reason.clone()),
            last_error_time: trouble.last.as_ref().map(|(time, _)| text(*time)),
            lines: self.lines.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            requests: self.requests.load(Relaxed),
            retries: self.retries.load(Relaxed),
            dead_lettered: self.dead_lettered.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
            waiting,
            queue,
            behind_bytes: None,
            last_success: (last_success != 0)
                .then(|| jiff::Timestamp::from_millisecond(last_success).ok())
                .flatten()
                .map(text),
        }
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text(time: jiff::Timestamp) -> String {
    format!("{time:.3}")
}
