//! The daemon's own metrics in the Prometheus text format 0.0.4.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

mod enforcement;
mod passes;
mod publishing;
mod remote_write;
pub(super) mod scanning;

use std::fmt::Write as _;

use super::report::{NodeReport, PluginReport};
use crate::role::logs::delivery::{DestinationStatus, QueueStatus, State};
use crate::role::metrics::CollectorReport;

/// One family under construction.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"");
            for character in text.chars() {
                match character {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }
}

type Value = fn(&PluginReport) -> Option<f64>;

/// Families with one series a plugin.
const PLUGIN: &[(&str, &str, &str, Value)] = &[
    (
        "bulkhead_plugin_ready",
        "gauge",
        "Whether a revision of the plugin is at work.",
        |plugin| {
            Some(f64::from(u8::from(
                plugin.state.phase == crate::plugin::Phase::Running,
            )))
        },
    ),
    (
        "bulkhead_plugin_suspended",
        "gauge",
        "Whether the plugin stands still because somebody wants it to.",
        |plugin| Some(f64::from(u8::from(is_suspended(plugin)))),
    ),
    (
        "bulkhead_plugin_restarts_total",
        "counter",
        "Instances made anew after a failure.",
        |plugin| Some(plugin.state.restarts as f64),
    ),
    (
        "bulkhead_plugin_updates_total",
        "counter",
        "Updates that took effect.",
        |plugin| Some(plugin.state.updates as f64),
    ),
    (
        "bulkhead_plugin_rollbacks_total",
        "counter",
        "Updates that were taken back.",
        |plugin| Some(plugin.state.rollbacks as f64),
    ),
    (
        "bulkhead_plugin_cpu_seconds_total",
        "counter",
        "CPU time spent in calls of the plugin.",
        |plugin| Some(plugin.cpu_seconds),
    ),
    (
        "bulkhead_plugin_memory_bytes",
        "gauge",
        "Memory of the plugin's instance.",
        |plugin| Some(plugin.memory_bytes as f64),
    ),
    (
        "bulkhead_plugin_calls_total",
        "counter",
        "Calls of the plugin.",
        |plugin| Some(plugin.calls as f64),
    ),
    (
        "bulkhead_logs_read_lines_total",
        "counter",
        "Lines read from files.",
        |plugin| Some(plugin.logs.as_ref()?.lines.read as f64),
    ),
    (
        "bulkhead_logs_read_bytes_total",
        "counter",
        "Bytes read from files.",
        |plugin| Some(plugin.logs.as_ref()?.bytes.read as f64),
    ),
    (
        "bulkhead_logs_joined_lines_total",
        "counter",
        "Lines that were joined onto others, which alone are counted as lines.",
        |plugin| Some(plugin.logs.as_ref()?.joined_lines as f64),
    ),
    (
        "bulkhead_logs_in_flight_lines",
        "gauge",
        "Lines under way.",
        |plugin| Some(plugin.logs.as_ref()?.lines.in_flight as f64),
    ),
    (
        "bulkhead_logs_lag_bytes",
        "gauge",
        "Bytes not read yet, and under way.",
        |plugin| Some(plugin.logs.as_ref()?.lag.bytes as f64),
    ),
    (
        "bulkhead_logs_lag_seconds",
        "gauge",
        "Age of the oldest line under way.",
        |plugin| Some(plugin.logs.as_ref()?.lag.seconds),
    ),
    (
        "bulkhead_logs_files",
        "gauge",
        "Files that are followed.",
        |plugin| Some(plugin.logs.as_ref()?.files.watched as f64),
    ),
    (
        "bulkhead_logs_files_without_metadata_total",
        "counter",
        "Containers' logs that were read although nothing was known of their pods.",
        |plugin| Some(plugin.logs.as_ref()?.files.without_metadata as f64),
    ),
    (
        "bulkhead_metrics_collections_total",
        "counter",
        "Collections made of what the plugin measures.",
        |plugin| Some(plugin.metrics.as_ref()?.collections as f64),
    ),
    (
        "bulkhead_metrics_failed_collections_total",
        "counter",
        "Collections that ended before their time.",
        |plugin| Some(plugin.metrics.as_ref()?.failed_collections as f64),
    ),
    (
        "bulkhead_metrics_invalid_series_total",
        "counter",
        "Series left out because they break the data model or came twice.",
        |plugin| Some(plugin.metrics.as_ref()?.invalid_series as f64),
    ),
    (
        "bulkhead_metrics_cut_series",
        "gauge",
        "Series of the latest collection that are over the limit, and left out.",
        |plugin| Some(plugin.metrics.as_ref()?.cut_series as f64),
    ),
];

type CollectorValue = fn(&CollectorReport) -> f64;

/// Families with one series a collector, of the latest collection.
const COLLECTOR: &[(&str, &str, &str, CollectorValue)] = &[
    (
        "bulkhead_metrics_collector_success",
        "gauge",
        "Whether the collector succeeded.",
        |collector| f64::from(u8::from(collector.success)),
    ),
    (
        "bulkhead_metrics_collector_series",
        "gauge",
        "Series that the collector found.",
        |collector| collector.series as f64,
    ),
    (
        "bulkhead_metrics_collector_bytes",
        "gauge",
        "Bytes that the collector's series take in the daemon.",
        |collector| collector.bytes as f64,
    ),
    (
        "bulkhead_metrics_collector_duration_seconds",
        "gauge",
        "How long reading the collector's files and its call took.",
        |collector| collector.seconds,
    ),
];

type DestinationValue = fn(&DestinationStatus) -> f64;

/// Families with one series a destination.
const DESTINATION: &[(&str, &str, &str, DestinationValue)] = &[
    (
        "bulkhead_logs_destination_healthy",
        "gauge",
        "Whether the destination takes what it is sent.",
        |destination| f64::from(u8::from(destination.state != State::Retrying)),
    ),
    (
        "bulkhead_logs_destination_lines_total",
        "counter",
        "Lines acknowledged.",
        |destination| destination.lines as f64,
    ),
    (
        "bulkhead_logs_destination_bytes_total",
        "counter",
        "Bytes acknowledged, as sent.",
        |destination| destination.bytes as f64,
    ),
    (
        "bulkhead_logs_destination_requests_total",
        "counter",
        "Requests acknowledged, whole or in part.",
        |destination| destination.requests as f64,
    ),
    (
        "bulkhead_logs_destination_retries_total",
        "counter",
        "Attempts after which the same had to be sent again.",
        |destination| destination.retries as f64,
    ),
    (
        "bulkhead_logs_destination_dead_lettered_lines_total",
        "counter",
        "Lines written to the dead letters.",
        |destination| destination.dead_lettered as f64,
    ),
    (
        "bulkhead_logs_destination_waiting_parcels",
        "gauge",
        "Parcels that wait.",
        |destination| destination.waiting as f64,
    ),
    (
        "bulkhead_logs_destination_behind_bytes",
        "gauge",
        "Bytes of files that a destination which catches up lacks of what the others have.",
        |destination| destination.behind_bytes.unwrap_or(0) as f64,
    ),
];

type QueueValue = fn(&QueueStatus) -> f64;

/// Families with one series for each destination that has a queue on the disk.
const QUEUE: &[(&str, &str, &str, QueueValue)] = &[
    (
        "bulkhead_logs_destination_queue_lines",
        "gauge",
        "Lines in the queue on the disk.",
        |queue| queue.lines as f64,
    ),
    (
        "bulkhead_logs_destination_queue_bytes",
        "gauge",
        "Bytes that the queue takes on the disk.",
        |queue| queue.bytes as f64,
    ),
    (
        "bulkhead_logs_destination_queue_max_bytes",
        "gauge",
        "Bytes that the queue may take on the disk.",
        |queue| queue.max_bytes as f64,
    ),
    (
        "bulkhead_logs_destination_queue_full",
        "gauge",
        "Whether lines wait for room in the queue.",
        |queue| f64::from(u8::from(queue.full)),
    ),
    (
        "bulkhead_logs_destination_queue_healthy",
        "gauge",
        "Whether the queue can be read and written.",
        |queue| f64::from(u8::from(queue.problem.is_none())),
    ),
    (
        "bulkhead_logs_destination_queue_dropped_lines_total",
        "counter",
        "Lines dropped from the queue to make room.",
        |queue| queue.dropped_lines as f64,
    ),
    (
        "bulkhead_logs_destination_queue_damaged_lines_total",
        "counter",
        "Lines lost with damaged records of the queue.",
        |queue| queue.damaged_lines as f64,
    ),
];

/// By its manifest or by its node, not by the policy or in safe mode.
fn is_suspended(plugin: &PluginReport) -> bool {
    let mut conditions = plugin.state.conditions.iter();
    let by_somebody = ["Suspended", "SuspendedOnNode"];
    plugin.state.phase == crate::plugin::Phase::Suspended
        && conditions.any(|it| it.r#type == "Ready" && by_somebody.contains(&it.reason))
}

/// Writes the page.
pub(super) fn page(node: &NodeReport, plugins: &[PluginReport]) -> String {
    let mut page = Page(String::new());
    page.family("bulkhead_build_info", "gauge", "The daemon's version.");
    page.sample("bulkhead_build_info", &[("version", node.version)], 1.0);
    page.family(
        "bulkhead_ready",
        "gauge",
        "Whether every declared plugin has been tried.",
    );
    page.sample("bulkhead_ready", &[], f64::from(u8::from(node.ready)));
    page.family(
        "bulkhead_node_problems",
        "gauge",
        "What keeps the daemon from knowing or loading what is declared; the status tells each.",
    );
    page.sample("bulkhead_node_problems", &[], node.problems.len() as f64);
    let pods = node.pods.as_ref();
    page.family(
        "bulkhead_pods_watched",
        "gauge",
        "Whether what is known of this node's pods is up to date, as far as anybody asks.",
    );
    if let Some(pods) = pods {
        let well = f64::from(u8::from(pods.problem.is_none()));
        page.sample("bulkhead_pods_watched", &[], well);
    }
    page.family("bulkhead_pods_known", "gauge", "Pods of this node.");
    if let Some(pods) = pods {
        page.sample("bulkhead_pods_known", &[], pods.known as f64);
    }
    for (name, kind, help, value) in PLUGIN {
        page.family(name, kind, help);
        for plugin in plugins {
            if let Some(value) = value(plugin) {
                page.sample(name, &identity(plugin), value);
            }
        }
    }
    let latency = "bulkhead_plugin_work_duration_seconds";
    page.family(latency, "summary", "How long pieces of work took.");
    for plugin in plugins {
        let [namespace, name] = identity(plugin);
        let report = &plugin.latency;
        for (quantile, value) in [
            ("0.5", report.p50_seconds),
            ("0.9", report.p90_seconds),
            ("0.99", report.p99_seconds),
        ] {
            if let Some(value) = value {
                page.sample(latency, &[namespace, name, ("quantile", quantile)], value);
            }
        }
        page.sample(
            &format!("{latency}_sum"),
            &[namespace, name],
            report.sum_seconds,
        );
        page.sample(
            &format!("{latency}_count"),
            &[namespace, name],
            report.count as f64,
        );
    }
    let outcomes = "bulkhead_logs_lines_total";
    page.family(outcomes, "counter", "Lines by what became of them.");
    for plugin in plugins {
        let Some(logs) = &plugin.logs else { continue };
        let [namespace, name] = identity(plugin);
        for (outcome, count) in [
            ("acknowledged", logs.lines.acknowledged),
            ("filtered", logs.lines.filtered),
            ("dead-lettered", logs.lines.dead_lettered),
        ] {
            page.sample(
                outcomes,
                &[namespace, name, ("outcome", outcome)],
                count as f64,
            );
        }
    }
    let given_up = "bulkhead_logs_given_up_lines_total";
    page.family(
        given_up,
        "counter",
        "Lines lost before they could be read, by reason.",
    );
    for plugin in plugins {
        let Some(logs) = &plugin.logs else { continue };
        let [namespace, name] = identity(plugin);
        for (reason, count) in &logs.lines.given_up {
            page.sample(
                given_up,
                &[namespace, name, ("reason", reason)],
                *count as f64,
            );
        }
    }
    for (family, kind, help, value) in DESTINATION {
        page.family(family, kind, help);
        for plugin in plugins {
            let [namespace, name] = identity(plugin);
            for destination in plugin.logs.iter().flat_map(|logs| &logs.destinations) {
                let label = ("destination", destination.name.as_str());
                page.sample(family, &[namespace, name, label], value(destination));
            }
        }
    }
    for (family, kind, help, value) in COLLECTOR {
        page.family(family, kind, help);
        for plugin in plugins {
            let [namespace, name] = identity(plugin);
            for collector in plugin.metrics.iter().flat_map(|it| &it.collectors) {
                let label = ("collector", collector.name.as_str());
                page.sample(family, &[namespace, name, label], value(collector));
            }
        }
    }
    for (family, kind, help, value) in QUEUE {
        page.family(family, kind, help);
        for plugin in plugins {
            let [namespace, name] = identity(plugin);
            for destination in plugin.logs.iter().flat_map(|logs| &logs.destinations) {
                let Some(queue) = &destination.queue else {
                    continue;
                };
                let label = ("destination", destination.name.as_str());
                page.sample(family, &[namespace, name, label], value(queue));
            }
        }
    }
    enforcement::write(&mut page, plugins);
    remote_write::write(&mut page, plugins);
    passes::write(&mut page, plugins);
    publishing::write(&mut page, plugins);
    page.0
}

fn identity(plugin: &PluginReport) -> [(&'static str, &str); 2] {
    [("namespace", &plugin.namespace), ("name", &plugin.name)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut page = Page(String::new());
        page.sample("x", &[("a", "q\"\\\n")], 1.5);
        assert_eq!(page.0, "x{a=\"q\\\"\\\\\\n\"} 1.5\n");
    }
}
