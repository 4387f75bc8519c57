//! Families with one series for each server that a plugin's series are pushed to. There are none of them
//! while nothing is pushed.

use super::{Page, PluginReport, identity};
use crate::role::logs::delivery::{QueueStatus, State};
use crate::role::metrics::RemoteWriteStatus;

/// Name, type, help text and value.
type Family<T> = (&'static str, &'static str, &'static str, fn(&T) -> f64);

const SERVER: &[Family<RemoteWriteStatus>] = &[
    (
        "bulkhead_metrics_remote_write_healthy",
        "gauge",
        "Whether the server takes what it is sent.",
        |server| f64::from(u8::from(server.state != State::Retrying)),
    ),
    (
        "bulkhead_metrics_remote_write_samples_total",
        "counter",
        "Samples acknowledged.",
        |server| server.samples as f64,
    ),
    (
        "bulkhead_metrics_remote_write_rejected_samples_total",
        "counter",
        "Samples that the server would never have accepted.",
        |server| server.rejected_samples as f64,
    ),
    (
        "bulkhead_metrics_remote_write_missed_pushes_total",
        "counter",
        "Pushes that were not made, because those before them still waited or something was wrong.",
        |server| server.missed_pushes as f64,
    ),
    (
        "bulkhead_metrics_remote_write_bytes_total",
        "counter",
        "Bytes acknowledged, as sent.",
        |server| server.bytes as f64,
    ),
    (
        "bulkhead_metrics_remote_write_requests_total",
        "counter",
        "Requests acknowledged.",
        |server| server.requests as f64,
    ),
    (
        "bulkhead_metrics_remote_write_retries_total",
        "counter",
        "Attempts after which the same had to be sent again.",
        |server| server.retries as f64,
    ),
    (
        "bulkhead_metrics_remote_write_waiting_pushes",
        "gauge",
        "Pushes that wait, beside those in the queue on the disk.",
        |server| server.waiting as f64,
    ),
];

const QUEUE: &[Family<QueueStatus>] = &[
    (
        "bulkhead_metrics_remote_write_queue_samples",
        "gauge",
        "Samples in the queue on the disk.",
        |queue| queue.lines as f64,
    ),
    (
        "bulkhead_metrics_remote_write_queue_bytes",
        "gauge",
        "Bytes that the queue takes on the disk.",
        |queue| queue.bytes as f64,
    ),
    (
        "bulkhead_metrics_remote_write_queue_max_bytes",
        "gauge",
        "Bytes that the queue may take on the disk.",
        |queue| queue.max_bytes as f64,
    ),
    (
        "bulkhead_metrics_remote_write_queue_full",
        "gauge",
        "Whether samples wait for room in the queue.",
        |queue| f64::from(u8::from(queue.full)),
    ),
    (
        "bulkhead_metrics_remote_write_queue_healthy",
        "gauge",
        "Whether the queue can be read and written.",
        |queue| f64::from(u8::from(queue.problem.is_none())),
    ),
    (
        "bulkhead_metrics_remote_write_queue_dropped_samples_total",
        "counter",
        "Samples dropped from the queue to make room.",
        |queue| queue.dropped_lines as f64,
    ),
    (
        "bulkhead_metrics_remote_write_queue_damaged_samples_total",
        "counter",
        "Samples lost with damaged records of the queue.",
        |queue| queue.damaged_lines as f64,
    ),
];

pub(super) fn write(page: &mut Page, plugins: &[PluginReport]) {
    families(page, plugins, SERVER, |server| Some(server));
    families(page, plugins, QUEUE, |server| server.queue.as_ref());
}

/// Writes families about what `of` finds of each server; none if it finds nothing.
fn families<T>(
    page: &mut Page,
    plugins: &[PluginReport],
    families: &[Family<T>],
    of: impl for<'s> Fn(&'s RemoteWriteStatus) -> Option<&'s T>,
) {
    let servers = plugins.iter().flat_map(|plugin| {
        let servers = plugin.metrics.iter().flat_map(|it| &it.remote_write);
        servers.map(move |server| (identity(plugin), server))
    });
    let found = servers.filter_map(|(id, server)| Some((id, server.name.as_str(), of(server)?)));
    let found: Vec<_> = found.collect();
    for (name, kind, help, value) in families.iter().filter(|_| !found.is_empty()) {
        page.family(name, kind, help);
        for ([namespace, plugin], server, status) in &found {
            let label = ("destination", *server);
            page.sample(name, &[*namespace, *plugin, label], value(status));
        }
    }
}
