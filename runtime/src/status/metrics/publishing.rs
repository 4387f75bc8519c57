//! Families with one series for each destination that changes of a plugin's findings go to. There are none of
//! them while there is no such destination.

use super::{Page, PluginReport, identity};
use crate::role::logs::delivery::{QueueStatus, State};
use crate::role::scanning::PublishStatus;

/// Name, type, help text and value.
type Family<T> = (&'static str, &'static str, &'static str, fn(&T) -> f64);

const DESTINATION: &[Family<PublishStatus>] = &[
    (
        "bulkhead_scanning_destination_healthy",
        "gauge",
        "Whether the destination takes what it is sent.",
        |it| f64::from(u8::from(it.destination.state != State::Retrying)),
    ),
    (
        "bulkhead_scanning_destination_changes_total",
        "counter",
        "Changes of findings acknowledged.",
        |it| it.destination.lines as f64,
    ),
    (
        "bulkhead_scanning_destination_dead_lettered_changes_total",
        "counter",
        "Changes that the destination would never have accepted.",
        |it| it.destination.dead_lettered as f64,
    ),
    (
        "bulkhead_scanning_destination_lost_changes_total",
        "counter",
        "Changes that are not sent, because too many waited already.",
        |it| it.lost_changes as f64,
    ),
    (
        "bulkhead_scanning_destination_waiting_changes",
        "gauge",
        "Changes that wait in memory.",
        |it| it.waiting_changes as f64,
    ),
    (
        "bulkhead_scanning_destination_bytes_total",
        "counter",
        "Bytes acknowledged, as sent.",
        |it| it.destination.bytes as f64,
    ),
    (
        "bulkhead_scanning_destination_requests_total",
        "counter",
        "Requests acknowledged.",
        |it| it.destination.requests as f64,
    ),
    (
        "bulkhead_scanning_destination_retries_total",
        "counter",
        "Attempts after which the same had to be sent again.",
        |it| it.destination.retries as f64,
    ),
];

const QUEUE: &[Family<QueueStatus>] = &[
    (
        "bulkhead_scanning_destination_queue_changes",
        "gauge",
        "Changes in the queue on the disk.",
        |queue| queue.lines as f64,
    ),
    (
        "bulkhead_scanning_destination_queue_bytes",
        "gauge",
        "Bytes that the queue takes on the disk.",
        |queue| queue.bytes as f64,
    ),
    (
        "bulkhead_scanning_destination_queue_max_bytes",
        "gauge",
        "The most bytes that it may take.",
        |queue| queue.max_bytes as f64,
    ),
    (
        "bulkhead_scanning_destination_queue_full",
        "gauge",
        "Whether the queue is full.",
        |queue| f64::from(u8::from(queue.full)),
    ),
    (
        "bulkhead_scanning_destination_queue_healthy",
        "gauge",
        "Whether the queue can be read and written.",
        |queue| f64::from(u8::from(queue.problem.is_none())),
    ),
    (
        "bulkhead_scanning_destination_queue_dropped_changes_total",
        "counter",
        "Changes dropped from the queue to make room.",
        |queue| queue.dropped_lines as f64,
    ),
    (
        "bulkhead_scanning_destination_queue_damaged_changes_total",
        "counter",
        "Changes lost with damaged records of the queue.",
        |queue| queue.damaged_lines as f64,
    ),
];

pub(super) fn write(page: &mut Page, plugins: &[PluginReport]) {
    families(page, plugins, DESTINATION, |it| Some(it));
    families(page, plugins, QUEUE, |it| it.destination.queue.as_ref());
}

/// Writes families about what `of` finds of each destination; none if it finds nothing.
fn families<T>(
    page: &mut Page,
    plugins: &[PluginReport],
    families: &[Family<T>],
    of: impl for<'s> Fn(&'s PublishStatus) -> Option<&'s T>,
) {
    let all = plugins.iter().flat_map(|plugin| {
        let all = plugin.scanning.iter().flat_map(|it| &it.destinations);
        all.map(move |one| (identity(plugin), one))
    });
    let found = all.filter_map(|(id, one)| Some((id, one.destination.name.as_str(), of(one)?)));
    let found: Vec<_> = found.collect();
    for (name, kind, help, value) in families.iter().filter(|_| !found.is_empty()) {
        page.family(name, kind, help);
        for ([namespace, plugin], destination, status) in &found {
            let label = ("destination", *destination);
            page.sample(name, &[*namespace, *plugin, label], value(status));
        }
    }
}
