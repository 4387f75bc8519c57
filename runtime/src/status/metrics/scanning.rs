//! The families of the role `scanning`: findings.

use super::Page;
use crate::manifest::Identity;
use crate::role::scanning::findings::{Severity, Tally};

/// Series of a plugin by rule at most: the rules with the most findings, and all others together.
const RULES: usize = 200;
/// The rule of all others together.
const OTHER: &str = "other";

type Value = fn(&Tally) -> u64;

/// Families with one series a plugin.
const PLUGIN: &[(&str, &str, &str, Value)] = &[
    (
        "bulkhead_scanning_findings_suppressed",
        "gauge",
        "Findings that the manifest accepts.",
        |tally| tally.suppressed,
    ),
    (
        "bulkhead_scanning_findings_resolved",
        "gauge",
        "Findings that are gone, as far as they are kept.",
        |tally| tally.resolved,
    ),
    (
        "bulkhead_scanning_findings_dropped_total",
        "counter",
        "Findings that were not kept, because there were too many.",
        |tally| tally.dropped,
    ),
];

/// Appends them to a page.
pub(in super::super) fn write(page: &mut String, plugins: &[(Identity, Tally)]) {
    let mut families = Page(std::mem::take(page));
    let family = "bulkhead_scanning_findings";
    families.family(
        family,
        "gauge",
        "Open findings, by rule and severity; of rules with few findings together.",
    );
    for (plugin, tally) in plugins {
        let (namespace, name) = (plugin.namespace(), plugin.name());
        for count in tally.rules(RULES) {
            let rule = count.rule.as_deref().unwrap_or(OTHER);
            for severity in Severity::ALL {
                let open = count.open.of(severity);
                if open > 0 {
                    let labels = [
                        ("namespace", namespace),
                        ("name", name),
                        ("severity", severity.as_str()),
                        ("rule", rule),
                    ];
                    families.sample(family, &labels, open as f64);
                }
            }
        }
    }
    for (family, kind, help, value) in PLUGIN {
        families.family(family, kind, help);
        for (plugin, tally) in plugins {
            let labels = [("namespace", plugin.namespace()), ("name", plugin.name())];
            families.sample(family, &labels, value(tally) as f64);
        }
    }
    *page = families.0;
}
