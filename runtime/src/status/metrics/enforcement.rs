//! The families of the role `enforcement`.

use super::super::report::PluginReport;
use super::{Page, identity};
use crate::role::enforcement::{EnforcementReport, RuleCounts};

type Value = fn(&EnforcementReport) -> Option<f64>;

/// Families with one series a plugin.
const PLUGIN: &[(&str, &str, &str, Value)] = &[
    (
        "bulkhead_enforcement_checks_total",
        "counter",
        "How often the node was looked at for the plugin.",
        |it| Some(it.checks as f64),
    ),
    (
        "bulkhead_enforcement_failed_checks_total",
        "counter",
        "Checks that came to nothing.",
        |it| Some(it.failed_checks as f64),
    ),
    (
        "bulkhead_enforcement_last_check_timestamp_seconds",
        "gauge",
        "When the node was looked at last.",
        |it| Some(it.last_check?.as_millisecond() as f64 / 1000.0),
    ),
    (
        "bulkhead_enforcement_check_duration_seconds",
        "gauge",
        "How long the latest check took, with the changes that it made.",
        |it| Some(it.seconds),
    ),
    (
        "bulkhead_enforcement_changes_made_total",
        "counter",
        "Changes made to the node.",
        |it| Some(it.made as f64),
    ),
    (
        "bulkhead_enforcement_changes_failed_total",
        "counter",
        "Changes that were tried and failed.",
        |it| Some(it.failed as f64),
    ),
    (
        "bulkhead_enforcement_changes_reverted_total",
        "counter",
        "Changes put back by an operator.",
        |it| Some(it.reverted as f64),
    ),
    (
        "bulkhead_enforcement_changes_outstanding",
        "gauge",
        "Changes that should be made and are not.",
        |it| Some(it.outstanding_count as f64),
    ),
    (
        "bulkhead_enforcement_changes_flapping",
        "gauge",
        "Changes that something else keeps undoing.",
        |it| Some(it.flapping.len() as f64),
    ),
    (
        "bulkhead_enforcement_handlers_waiting",
        "gauge",
        "Handlers that are due and not done.",
        |it| Some(it.waiting_handlers as f64),
    ),
];

type Count = fn(&RuleCounts) -> u64;

const VERDICTS: &[(&str, Count)] = &[
    ("pass", |rules| rules.pass),
    ("fail", |rules| rules.fail),
    ("notApplicable", |rules| rules.not_applicable),
    ("error", |rules| rules.error),
];

pub(super) fn write(page: &mut Page, plugins: &[PluginReport]) {
    let roles = plugins.iter().filter_map(|plugin| {
        let report = plugin.enforcement.as_ref()?;
        Some((identity(plugin), report))
    });
    for (family, kind, help, value) in PLUGIN {
        page.family(family, kind, help);
        for (labels, report) in roles.clone() {
            if let Some(value) = value(report) {
                page.sample(family, &labels, value);
            }
        }
    }
    let family = "bulkhead_enforcement_rules";
    page.family(family, "gauge", "Rules, by what was found of them last.");
    for ([namespace, name], report) in roles {
        for (verdict, count) in VERDICTS {
            let labels = [namespace, name, ("verdict", *verdict)];
            page.sample(family, &labels, count(&report.rules) as f64);
        }
    }
}
