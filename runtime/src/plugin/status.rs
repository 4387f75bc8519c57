//! How a plugin is, for whoever asks: written by its actor, read by the status endpoint.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Notify;

use crate::module::Digest;
use crate::sandbox::{Failure, Journal, Role, Tap, Usage};

/// The node is not ready for so long because of a module that cannot be had.
const MODULE_PATIENCE: Duration = Duration::from_secs(30);

/// Where a plugin is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Phase {
    /// Its first revision is being prepared.
    Pending,
    /// A revision is at work.
    Running,
    /// It has a revision whose instance failed and is being restarted, or no revision because the
    /// first one keeps failing.
    Degraded,
    /// The manifest says `suspend: true`, or the daemon started in safe mode without it.
    Suspended,
    /// The manifest or module was refused and no earlier revision runs.
    Refused,
    /// It is being stopped.
    Terminating,
}

/// Of a condition, by the Kubernetes API conventions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum ConditionStatus {
    /// The condition holds.
    True,
    /// It does not.
    False,
    /// Not known yet.
    Unknown,
}

/// One aspect of a plugin's state.
/// <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#typical-status-properties>
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Ready`, `UpToDate`.
    pub r#type: &'static str,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One word for programs, in CamelCase.
    pub reason: &'static str,
    /// For people: what happened and what to do.
    pub message: String,
    /// When `status` changed last (UTC).
    pub last_transition_time: Timestamp,
}

/// One revision, as the status shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// SHA-256 of the module.
    pub digest: Digest,
    /// Hash of the manifest's content.
    pub manifest: String,
    /// The plugin's own name.
    pub name: String,
    /// The plugin's own version.
    pub version: String,
    /// Its roles.
    pub roles: Vec<Role>,
    /// When it began to serve, or for a candidate to be prepared (UTC).
    pub since: Timestamp,
}

/// The actor's view of the plugin.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Where it is in its life.
    pub phase: Phase,
    /// The revision at work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<Revision>,
    /// Digest of the module that is being prepared, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Digest>,
    /// Whether the active revision is still on probation.
    pub probation: bool,
    /// The conditions, each type once.
    pub conditions: Vec<Condition>,
    /// How often an instance had to be made anew.
    pub restarts: u64,
    /// Updates that took effect.
    pub updates: u64,
    /// Updates that were taken back.
    pub rollbacks: u64,
    /// What ended the latest instance that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Failure>,
    /// When that was (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure_time: Option<Timestamp>,
    /// How long the latest update took from its declaration until it served, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_seconds: Option<f64>,
    /// How long of that the plugin was kept from working, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_pause_seconds: Option<f64>,
}

/// A plugin's status; clones share it.
#[derive(Debug, Clone)]
pub struct Status {
    snapshot: Arc<Mutex<Snapshot>>,
    /// What its instances used.
    pub usage: Arc<Usage>,
    /// What it said.
    pub journal: Journal,
    /// How long pieces of work took.
    pub latency: Arc<Latency>,
    /// Where somebody may listen to it.
    pub tap: Tap,
    renew: Arc<Notify>,
    /// Since when the module that is wanted cannot be had.
    missing_since: Arc<Mutex<Option<Instant>>>,
}

impl Status {
    pub(super) fn new(identity: &str) -> Self {
        Self {
            snapshot: Arc::new(Mutex::new(Snapshot {
                phase: Phase::Pending,
                active: None,
                candidate: None,
                probation: false,
                conditions: Vec::new(),
                restarts: 0,
                updates: 0,
                rollbacks: 0,
                last_failure: None,
                last_failure_time: None,
                last_update_seconds: None,
                last_update_pause_seconds: None,
            })),
            usage: Arc::default(),
            journal: Journal::new(identity),
            latency: Arc::default(),
            tap: Tap::default(),
            renew: Arc::default(),
            missing_since: Arc::default(),
        }
    }

    /// Asks for a fresh instance of the revision at work, which takes over from the one before.
    pub fn renew(&self) {
        self.renew.notify_one();
    }

    pub(super) async fn renewal(&self) {
        self.renew.notified().await;
    }

    /// Whether its first revision is being prepared, and has not waited long for its module: what is missing may
    /// never come.
    pub fn is_loading(&self) -> bool {
        let since = self.missing_since();
        let waits = since.is_some_and(|since| since.elapsed() >= MODULE_PATIENCE);
        self.snapshot().phase == Phase::Pending && !waits
    }

    pub(super) fn waits_for_module(&self) {
        self.missing_since().get_or_insert_with(Instant::now);
    }

    pub(super) fn waits_no_more(&self) {
        *self.missing_since() = None;
    }

    fn missing_since(&self) -> MutexGuard<'_, Option<Instant>> {
        let since = self.missing_since.lock();
        since.unwrap_or_else(PoisonError::into_inner)
    }

    /// A consistent copy.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.snapshot.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn condition(
        &self,
        r#type: &'static str,
        holds: bool,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let status = if holds {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        };
        let message = message.into();
        self.change(|snapshot| {
            let position = snapshot
                .conditions
                .iter()
                .position(|condition| condition.r#type == r#type);
            match position.and_then(|position| snapshot.conditions.get_mut(position)) {
                Some(condition) => {
                    if condition.status != status {
                        condition.last_transition_time = Timestamp::now();
                    }
                    condition.status = status;
                    condition.reason = reason;
                    condition.message = message;
                }
                None => snapshot.conditions.push(Condition {
                    r#type,
                    status,
                    reason,
                    message,
                    last_transition_time: Timestamp::now(),
                }),
            }
        });
    }
}

/// A histogram of durations with four buckets to each doubling, from 1 microsecond to an hour.
#[derive(Debug)]
pub struct Latency {
    buckets: [AtomicU64; Self::BUCKETS],
    sum_nanos: AtomicU64,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; Self::BUCKETS],
            sum_nanos: AtomicU64::new(0),
        }
    }
}

impl Latency {
    const BUCKETS: usize = 128;

    /// The upper bound of a bucket, in seconds.
    fn bound(index: usize) -> f64 {
        1e-6 * 2f64.powf(index as f64 / 4.0)
    }

    pub(super) fn record(&self, duration: Duration) {
        let micros = duration.as_secs_f64() * 1e6;
        let index = if micros <= 1.0 {
            0
        } else {
            ((micros.log2() * 4.0).ceil() as usize).min(Self::BUCKETS - 1)
        };
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_nanos.fetch_add(
            u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .sum()
    }

    /// Their sum.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed))
    }

    /// The duration in seconds below which the share `quantile` (0 to 1) lies, at most 19% too
    /// high; none if nothing was recorded.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((count as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Ordering::Relaxed);
            if seen >= rank {
                return Some(Self::bound(index));
            }
        }
        Some(Self::bound(Self::BUCKETS - 1))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_module_that_cannot_be_had_is_not_waited_for_long() {
        let status = Status::new("shop/app");
        assert!(status.is_loading());
        status.waits_for_module();
        assert!(status.is_loading());
        *status.missing_since() = Instant::now().checked_sub(MODULE_PATIENCE);
        status.waits_for_module();
        assert!(!status.is_loading());
        status.waits_no_more();
        assert!(status.is_loading());
    }

    #[test]
    fn quantiles_are_close() {
        let latency = Latency::default();
        assert_eq!(latency.quantile(0.5), None);
        for micros in 1..=1000 {
            latency.record(Duration::from_micros(micros));
        }
        let median = latency.quantile(0.5).unwrap();
        assert!((500e-6..600e-6).contains(&median), "{median}");
        assert!(latency.quantile(1.0).unwrap() >= 1000e-6);
        assert_eq!(latency.count(), 1000);
    }

    #[test]
    fn a_condition_changes_its_time_with_its_status_only() {
        let status = Status::new("local/x");
        status.condition("Ready", true, "A", "a");
        let first = status.snapshot().conditions[0].clone();
        status.condition("Ready", true, "B", "b");
        let second = status.snapshot().conditions[0].clone();
        assert_eq!(first.last_transition_time, second.last_transition_time);
        assert_eq!((second.reason, second.message.as_str()), ("B", "b"));
        assert_eq!(status.snapshot().conditions.len(), 1);
    }
}
