//! What the endpoint shows, and the seam to those who know.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::plugin::Snapshot;
use crate::role::enforcement::{EnforcementReport, EnforcementStatus};
use crate::role::logs::LogsReport;
use crate::role::metrics::{MetricsReport, Target};
use crate::role::scanning::ScanningReport;
use crate::role::scanning::findings::Findings;
use crate::sandbox::Entry;

/// Answers the endpoint's questions. Must not block.
pub trait Reporter: Send + Sync + 'static {
    /// About the daemon.
    fn node(&self) -> NodeReport;
    /// About every plugin, by namespace and name.
    fn plugins(&self) -> Vec<PluginReport>;
    /// About one plugin.
    fn plugin(&self, namespace: &str, name: &str) -> Option<PluginReport>;
    /// What a plugin said lately, and how many of its records were dropped.
    fn journal(&self, namespace: &str, name: &str) -> Option<(Vec<Entry>, u64)>;
    /// What a plugin changes; none if there is no such plugin.
    fn enforcement(&self, namespace: &str, name: &str) -> Option<EnforcementStatus>;
    /// What can be scraped: every plugin, or one, by namespace and name.
    fn metrics(&self, only: Option<(&str, &str)>) -> Vec<Target>;
    /// What plugins found; none if no plugin can scan here.
    fn findings(&self) -> Option<Findings> {
        None
    }
}

/// The daemon.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// Its version.
    pub version: &'static str,
    /// When it started (UTC).
    pub started: Timestamp,
    /// Whether every declared plugin has been tried.
    pub ready: bool,
    /// Why not, if not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_ready: Option<String>,
    /// Plugins that are left out because they were in a call when the daemon died.
    pub safe_mode: Vec<String>,
    /// Plugins that are declared for other nodes, by their selectors.
    pub elsewhere: Vec<String>,
    /// What is wrong with the source of manifests, or with manifests of which nobody knows whose they
    /// are.
    pub problems: Vec<String>,
    /// How many plugins there are.
    pub plugins: usize,
    /// What is known of the node's pods, if there is a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodsReport>,
}

/// What is known of the node's pods. They are watched while a manifest asks for their metadata.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodsReport {
    /// What the cluster calls this node.
    pub node: String,
    /// How many there are.
    pub known: usize,
    /// Why that may be old, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Every plugin, by namespace and name.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct PluginList {
    /// The plugins.
    pub items: Vec<PluginReport>,
}

/// What a plugin said lately.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct JournalReport {
    /// The latest records, oldest first.
    pub items: Vec<Entry>,
    /// Records that were dropped because they came too fast.
    pub dropped: u64,
}

/// One plugin.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginReport {
    /// Of its manifest.
    pub namespace: String,
    /// Of its manifest.
    pub name: String,
    /// Phase, revisions, conditions, failures.
    #[serde(flatten)]
    pub state: Snapshot,
    /// Memory of its instance.
    pub memory_bytes: u64,
    /// CPU time spent in its calls.
    pub cpu_seconds: f64,
    /// Calls made.
    pub calls: u64,
    /// How long pieces of work took.
    pub latency: LatencyReport,
    /// The figures of the role `logs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<LogsReport>,
    /// The figures of the role `metrics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsReport>,
    /// The figures of the role `enforcement`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<EnforcementReport>,
    /// The figures of the role `scanning`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scanning: Option<ScanningReport>,
}

/// Durations of work; quantiles are at most 19% too high.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LatencyReport {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum_seconds: f64,
    /// The median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_seconds: Option<f64>,
    /// Nine of ten are below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p90_seconds: Option<f64>,
    /// 99 of 100 are below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_seconds: Option<f64>,
}
