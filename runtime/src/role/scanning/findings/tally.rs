//! How many findings of a plugin there are.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::finding::Severity;
use super::record::{Record, State};

/// Findings by severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SeverityCounts {
    /// Worth knowing.
    pub info: u64,
    /// Not much.
    pub low: u64,
    /// Somewhat.
    pub medium: u64,
    /// A lot.
    pub high: u64,
    /// More than anything else.
    pub critical: u64,
}

impl SeverityCounts {
    /// How many there are of one severity.
    pub fn of(&self, severity: Severity) -> u64 {
        match severity {
            Severity::Info => self.info,
            Severity::Low => self.low,
            Severity::Medium => self.medium,
            Severity::High => self.high,
            Severity::Critical => self.critical,
        }
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        Severity::ALL.iter().map(|it| self.of(*it)).sum()
    }

    fn change(&mut self, severity: Severity, change: fn(u64, u64) -> u64) {
        let count = match severity {
            Severity::Info => &mut self.info,
            Severity::Low => &mut self.low,
            Severity::Medium => &mut self.medium,
            Severity::High => &mut self.high,
            Severity::Critical => &mut self.critical,
        };
        *count = change(*count, 1);
    }
}

/// The open findings of one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleCount {
    /// Its id; None for all others together.
    pub rule: Option<String>,
    /// How many are open.
    pub open: SeverityCounts,
}

/// The findings of one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// Those that are open.
    pub open: SeverityCounts,
    /// Those that are accepted by the manifest.
    pub suppressed: u64,
    /// Those that are gone, as far as they are kept.
    pub resolved: u64,
    /// Those that were not kept since the daemon's start, because there were too many.
    pub dropped: u64,
    #[serde(skip)]
    pub(super) by_rule: BTreeMap<String, SeverityCounts>,
}

impl Tally {
    /// Those that count against the limit.
    pub(super) fn kept(&self) -> u64 {
        self.open.total() + self.suppressed
    }

    pub(super) fn add(&mut self, record: &Record) {
        self.change(record, u64::saturating_add);
    }

    pub(super) fn remove(&mut self, record: &Record) {
        self.change(record, u64::saturating_sub);
    }

    fn change(&mut self, record: &Record, change: fn(u64, u64) -> u64) {
        let (rule, severity) = (&record.found.rule, record.found.severity);
        match record.state {
            State::Open => {
                self.open.change(severity, change);
                let counts = match self.by_rule.get_mut(rule) {
                    Some(counts) => counts,
                    None => self.by_rule.entry(rule.clone()).or_default(),
                };
                counts.change(severity, change);
                if counts.total() == 0 {
                    self.by_rule.remove(rule);
                }
            }
            State::Suppressed(_) => self.suppressed = change(self.suppressed, 1),
            State::Resolved | State::LeftOut => self.resolved = change(self.resolved, 1),
        }
    }

    /// The rules with the most open findings, at most so many; all others together come last.
    pub fn rules(&self, most: usize) -> Vec<RuleCount> {
        let mut rules: Vec<(&String, &SeverityCounts)> = self.by_rule.iter().collect();
        // By name among equals: the same rules, scrape after scrape.
        rules.sort_by_key(|(rule, counts)| (std::cmp::Reverse(counts.total()), *rule));
        let (named, others) = rules.split_at(rules.len().min(most));
        let mut counts: Vec<RuleCount> = named
            .iter()
            .map(|(rule, open)| RuleCount {
                rule: Some((*rule).clone()),
                open: **open,
            })
            .collect();
        if !others.is_empty() {
            let mut open = SeverityCounts::default();
            for (_, other) in others {
                open.info += other.info;
                open.low += other.low;
                open.medium += other.medium;
                open.high += other.high;
                open.critical += other.critical;
            }
            counts.push(RuleCount { rule: None, open });
        }
        counts
    }
}
