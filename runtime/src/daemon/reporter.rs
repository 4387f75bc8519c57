//! What the status endpoint can ask of this daemon.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;

use crate::control::Controls;
use crate::kubernetes::Pods;
use crate::manifest::Identity;
use crate::plugin::{Phase, Status};
use crate::role::enforcement::EnforcementStatus;
use crate::role::logs::LogsStatus;
use crate::role::metrics::{MetricsStatus, Target};
use crate::role::scanning::findings::Findings;
use crate::role::scanning::{Rooms, ScanningStatus};
use crate::sandbox::Entry;
use crate::status::{LatencyReport, NodeReport, PluginReport, PodsReport, Reporter};

/// One plugin, as its actor and its roles show it.
pub(super) struct View {
    pub(super) status: Status,
    pub(super) logs: LogsStatus,
    pub(super) metrics: MetricsStatus,
    pub(super) enforcement: EnforcementStatus,
    pub(super) scanning: ScanningStatus,
}

/// See the module.
pub(super) struct NodeReporter {
    started: Timestamp,
    safe_mode: Vec<String>,
    pods: Option<Pods>,
    scanning: Arc<Rooms>,
    allow_recording: bool,
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    plugins: BTreeMap<Identity, View>,
    problems: Vec<String>,
    elsewhere: Vec<String>,
    applied: bool,
    ending: bool,
}

impl NodeReporter {
    pub(super) fn new(
        safe_mode: Vec<String>,
        pods: Option<Pods>,
        scanning: Arc<Rooms>,
        allow_recording: bool,
    ) -> Self {
        Self {
            started: Timestamp::now(),
            safe_mode,
            pods,
            scanning,
            allow_recording,
            inner: RwLock::default(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, identity: Identity, view: View) {
        self.write().plugins.insert(identity, view);
    }

    pub(super) fn remove(&self, identity: &Identity) {
        self.write().plugins.remove(identity);
    }

    pub(super) fn problems(&self, problems: Vec<String>) {
        self.write().problems = problems;
    }

    pub(super) fn elsewhere(&self, plugins: Vec<String>) {
        self.write().elsewhere = plugins;
    }

    /// The manifests were applied once.
    pub(super) fn applied(&self) {
        self.write().applied = true;
    }

    pub(super) fn ending(&self) {
        self.write().ending = true;
    }
}

fn report(identity: &Identity, view: &View) -> PluginReport {
    let status = &view.status;
    PluginReport {
        namespace: identity.namespace().to_owned(),
        name: identity.name().to_owned(),
        state: status.snapshot(),
        memory_bytes: status.usage.memory(),
        cpu_seconds: status.usage.cpu().as_secs_f64(),
        calls: status.usage.calls(),
        latency: LatencyReport {
            count: status.latency.count(),
            sum_seconds: status.latency.sum().as_secs_f64(),
            p50_seconds: status.latency.quantile(0.5),
            p90_seconds: status.latency.quantile(0.9),
            p99_seconds: status.latency.quantile(0.99),
        },
        logs: view.logs.report(),
        metrics: view.metrics.report(),
        enforcement: view.enforcement.report(),
        scanning: view.scanning.report(),
    }
}

impl Reporter for NodeReporter {
    fn node(&self) -> NodeReport {
        let inner = self.read();
        let pending: Vec<String> = inner
            .plugins
            .iter()
            .filter(|(_, view)| view.status.is_loading())
            .map(|(identity, _)| identity.to_string())
            .collect();
        let not_ready = if inner.ending {
            Some("the daemon is ending".to_owned())
        } else if !inner.applied {
            Some("the manifests have not been read yet".to_owned())
        } else if !pending.is_empty() {
            Some(format!("still loading: {}", pending.join(", ")))
        } else {
            None
        };
        NodeReport {
            version: env!("CARGO_PKG_VERSION"),
            started: self.started,
            ready: not_ready.is_none(),
            not_ready,
            safe_mode: self.safe_mode.clone(),
            elsewhere: inner.elsewhere.clone(),
            problems: inner.problems.clone(),
            plugins: inner.plugins.len(),
            pods: self.pods.as_ref().map(|pods| PodsReport {
                node: pods.node().to_owned(),
                known: pods.count(),
                problem: pods.problem(),
            }),
        }
    }

    fn plugins(&self) -> Vec<PluginReport> {
        let inner = self.read();
        let plugins = inner.plugins.iter();
        plugins
            .map(|(identity, view)| report(identity, view))
            .collect()
    }

    fn plugin(&self, namespace: &str, name: &str) -> Option<PluginReport> {
        let inner = self.read();
        let mut plugins = inner.plugins.iter();
        plugins
            .find(|(identity, _)| identity.namespace() == namespace && identity.name() == name)
            .map(|(identity, view)| report(identity, view))
    }

    fn journal(&self, namespace: &str, name: &str) -> Option<(Vec<Entry>, u64)> {
        let inner = self.read();
        let mut plugins = inner.plugins.iter();
        plugins
            .find(|(identity, _)| identity.namespace() == namespace && identity.name() == name)
            .map(|(_, view)| view.status.journal.read())
    }

    fn metrics(&self, only: Option<(&str, &str)>) -> Vec<Target> {
        let inner = self.read();
        let plugins = inner.plugins.iter();
        let plugins = plugins.map(|(identity, view)| (identity.namespace(), identity.name(), view));
        plugins
            .filter(|(namespace, name, _)| only.is_none_or(|only| only == (*namespace, *name)))
            .map(|(namespace, name, view)| Target {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                metrics: view.metrics.clone(),
                works: view.status.snapshot().phase == Phase::Running,
            })
            .collect()
    }

    fn findings(&self) -> Option<Findings> {
        self.scanning.findings()
    }

    fn enforcement(&self, namespace: &str, name: &str) -> Option<EnforcementStatus> {
        let inner = self.read();
        let mut plugins = inner.plugins.iter();
        plugins
            .find(|(identity, _)| identity.namespace() == namespace && identity.name() == name)
            .map(|(_, view)| view.enforcement.clone())
    }
}

impl Controls for NodeReporter {
    fn enforcement(&self, name: &str) -> Vec<(String, EnforcementStatus)> {
        let inner = self.read();
        let plugins = inner.plugins.iter().filter(|(identity, view)| {
            let called = identity.name() == name || identity.to_string() == name;
            called && view.enforcement.report().is_some()
        });
        plugins
            .map(|(identity, view)| (identity.to_string(), view.enforcement.clone()))
            .collect()
    }

    fn scanning(&self, name: Option<&str>) -> Vec<(String, ScanningStatus)> {
        let inner = self.read();
        let plugins = inner.plugins.iter().filter(|(identity, view)| {
            let called =
                name.is_none_or(|name| identity.name() == name || identity.to_string() == name);
            called && (view.scanning.report().is_some() || view.scanning.has_findings())
        });
        plugins
            .map(|(identity, view)| (identity.to_string(), view.scanning.clone()))
            .collect()
    }

    fn recordable(&self, name: &str) -> Option<Vec<(String, Status)>> {
        if !self.allow_recording {
            return None;
        }
        let inner = self.read();
        let called = |identity: &Identity| identity.name() == name || identity.to_string() == name;
        let plugins = inner
            .plugins
            .iter()
            .filter(|(identity, _)| called(identity));
        Some(
            plugins
                .map(|(identity, view)| (identity.to_string(), view.status.clone()))
                .collect(),
        )
    }

    fn findings(&self) -> Option<Findings> {
        self.scanning.findings()
    }
}
