//! Families about what plugins with the role `scanning` are shown. There are none of them while no plugin scans.

use super::{Page, PluginReport, identity};
use crate::role::scanning::{PassReport, ScanningReport};

/// Name, type, help text and value.
type Family<T> = (&'static str, &'static str, &'static str, fn(&T) -> f64);

const FILES: &[Family<ScanningReport>] = &[
    (
        "bulkhead_scanning_files_total",
        "counter",
        "Files that were passed to the plugin.",
        |it| it.files as f64,
    ),
    (
        "bulkhead_scanning_file_bytes_total",
        "counter",
        "Bytes of files that were passed to the plugin.",
        |it| it.bytes as f64,
    ),
    (
        "bulkhead_scanning_unjudged_files_total",
        "counter",
        "Files by which the plugin failed: they are not judged until they change.",
        |it| it.unjudged as f64,
    ),
    (
        "bulkhead_scanning_passes_total",
        "counter",
        "Passes over all files that have ended.",
        |it| it.passes as f64,
    ),
];

/// Of the last pass, once there was one.
const LAST: &[Family<PassReport>] = &[
    (
        "bulkhead_scanning_last_pass_timestamp_seconds",
        "gauge",
        "When the last pass over all files ended.",
        |it| it.ended.as_second() as f64,
    ),
    (
        "bulkhead_scanning_last_pass_complete",
        "gauge",
        "Whether the last pass over all files left nothing out.",
        |it| f64::from(u8::from(it.complete)),
    ),
];

pub(super) fn write(page: &mut Page, plugins: &[PluginReport]) {
    let scans = |plugin: &PluginReport| plugin.scanning.is_some();
    if !plugins.iter().any(scans) {
        return;
    }
    for (name, kind, help, value) in FILES {
        page.family(name, kind, help);
        for plugin in plugins {
            if let Some(scanning) = &plugin.scanning {
                page.sample(name, &identity(plugin), value(scanning));
            }
        }
    }
    for (name, kind, help, value) in LAST {
        page.family(name, kind, help);
        for plugin in plugins {
            let scanning = plugin.scanning.as_ref();
            if let Some(last) = scanning.and_then(|scanning| scanning.last_pass.as_ref()) {
                page.sample(name, &identity(plugin), value(last));
            }
        }
    }
}
