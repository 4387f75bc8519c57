//! How pushing to a server goes, as the status endpoint shows it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::role::logs::delivery::{DestinationStatus, QueueStatus, State};

/// A server to which a plugin's series are pushed, since the role was started.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoteWriteStatus {
    /// Its name in the manifest.
    pub name: String,
    /// Whether it takes what it is sent.
    pub state: State,
    /// Since when it has been in trouble, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Failed attempts in a row.
    pub attempts: u32,
    /// The last failure and what to do about it; kept after it has recovered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When that was, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error_time: Option<String>,
    /// Samples acknowledged, the ends of series among them.
    pub samples: u64,
    /// Samples that it would never have accepted, or that were tried too often.
    pub rejected_samples: u64,
    /// Pushes that were not made, because those before them still waited or something was wrong.
    pub missed_pushes: u64,
    /// Bytes acknowledged, as sent (after compression).
    pub bytes: u64,
    /// Requests acknowledged.
    pub requests: u64,
    /// Attempts after which the same had to be sent again.
    pub retries: u64,
    /// Pushes that wait, beside the one at work and those in the queue.
    pub waiting: usize,
    /// The queue on the disk in front of it, if there is one; its lines are samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueStatus>,
    /// When something was last acknowledged, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<String>,
    /// What is wrong here and what to do, if anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl RemoteWriteStatus {
    pub(super) fn new(status: DestinationStatus, missed: u64, problem: Option<String>) -> Self {
        Self {
            name: status.name,
            state: status.state,
            since: status.since,
            attempts: status.attempts,
            last_error: status.last_error,
            last_error_time: status.last_error_time,
            samples: status.lines,
            rejected_samples: status.dead_lettered,
            missed_pushes: missed,
            bytes: status.bytes,
            requests: status.requests,
            retries: status.retries,
            waiting: status.waiting,
            queue: status.queue,
            last_success: status.last_success,
            problem,
        }
    }
}
