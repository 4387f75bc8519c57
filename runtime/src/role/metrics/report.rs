//! The role's figures, as the status endpoint shows them.

use schemars::JsonSchema;
use serde::Serialize;

use super::collection::{Collection, CollectorOutcome};
use super::remote_write::RemoteWriteStatus;
use crate::manifest::Metrics;

/// What a plugin with the role `metrics` finds, and what that costs.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricsReport {
    /// Collections made since the daemon started.
    pub collections: u64,
    /// Of these, the ones that ended before their time.
    pub failed_collections: u64,
    /// Series left out since then, because they break the data model or came twice.
    pub invalid_series: u64,
    /// Series of the latest collection.
    pub series: u64,
    /// The most that are kept (`metrics.maxSeries`).
    pub max_series: u32,
    /// Series of the latest collection that were over that, and left out.
    pub cut_series: u64,
    /// Bytes that the latest collection takes in the daemon.
    pub bytes: u64,
    /// How long the latest collection took.
    pub seconds: f64,
    /// The collectors, in the order of their calls.
    pub collectors: Vec<CollectorReport>,
    /// Where its series are pushed to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remote_write: Vec<RemoteWriteStatus>,
    /// What is wrong and what to do, if anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One collector in the latest collection.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CollectorReport {
    /// Its name.
    pub name: String,
    /// Whether it succeeded.
    pub success: bool,
    /// Series that it found.
    pub series: u64,
    /// Bytes that these take in the daemon.
    pub bytes: u64,
    /// Reading its files and its call.
    pub seconds: f64,
    /// Why it failed, if it did. A collector fails where what it measures is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl MetricsReport {
    /// `counts`: collections, failed ones, invalid series.
    pub(super) fn new(
        latest: Option<&Collection>,
        counts: [u64; 3],
        settings: &Metrics,
        remote_write: Vec<RemoteWriteStatus>,
    ) -> Self {
        let [collections, failed_collections, invalid_series] = counts;
        let outcomes = latest.map_or(&[][..], |latest| &latest.collectors);
        let sum = |of: fn(&CollectorOutcome) -> u64| outcomes.iter().map(of).sum::<u64>();
        let cut_series = sum(|it| it.left_out.over_limit);
        let invalid = outcomes.iter().find_map(|it| it.left_out.first.as_ref());
        let failure = latest.and_then(|latest| latest.failure.clone());
        let problem = failure
            .or_else(|| {
                (cut_series > 0).then(|| {
                    format!(
                        "{cut_series} series are left out, because metrics.maxSeries is {}; raise it, or let the plugin find fewer",
                        settings.max_series
                    )
                })
            })
            .or_else(|| invalid.map(|why| format!("series are left out: {why}")));
        Self {
            collections,
            failed_collections,
            invalid_series,
            series: sum(|it| it.series() as u64),
            max_series: settings.max_series,
            cut_series,
            bytes: sum(|it| it.bytes() as u64),
            seconds: latest.map_or(0.0, |latest| latest.took.as_secs_f64()),
            collectors: outcomes.iter().map(CollectorReport::of).collect(),
            remote_write,
            problem,
        }
    }
}

impl CollectorReport {
    fn of(outcome: &CollectorOutcome) -> Self {
        Self {
            name: outcome.name.to_string(),
            success: outcome.error.is_none(),
            series: outcome.series() as u64,
            bytes: outcome.bytes() as u64,
            seconds: outcome.took.as_secs_f64(),
            message: outcome.error.clone(),
        }
    }
}
