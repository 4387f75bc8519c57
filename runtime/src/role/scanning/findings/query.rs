//! Asking for findings: filters, and pages in an order that does not change under the reader.

use glob::Pattern;
use jiff::Timestamp;

use super::finding::Severity;
use super::record::{FINDINGS, Record, State};
use super::report::FindingReport;
use super::store::Shared;
use crate::manifest::Identity;
use crate::state::{Error, existing};

/// The most findings that are looked at for one page: a filter that fits few must not hold the disk.
const LOOKED_AT: usize = 50_000;

/// Which states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct States {
    /// Those that are so.
    pub open: bool,
    /// Those that are accepted.
    pub suppressed: bool,
    /// Those that are gone.
    pub resolved: bool,
}

impl Default for States {
    fn default() -> Self {
        Self {
            open: true,
            suppressed: true,
            resolved: false,
        }
    }
}

/// Where a page begins: before the finding with this number.
pub type Cursor = u64;

/// What is asked for. All filters must fit.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Of plugins of this namespace.
    pub namespace: Option<String>,
    /// Of plugins of this name.
    pub name: Option<String>,
    /// Of rules by id.
    pub rule: Option<Pattern>,
    /// At least so severe.
    pub severity: Option<Severity>,
    /// Of these states.
    pub states: States,
    /// Whose subject's text begins so.
    pub subject: Option<String>,
    /// Whose state changed then or later.
    pub since: Option<Timestamp>,
    /// The page.
    pub before: Option<Cursor>,
    /// At most so many.
    pub limit: usize,
}

/// Findings, latest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// At most as many as asked for.
    pub items: Vec<FindingReport>,
    /// Where the next page begins, which may be empty; None if there is none.
    pub next: Option<Cursor>,
}

impl Query {
    pub(super) fn answer(&self, shared: &Shared) -> Result<Page, Error> {
        let (records, next) = shared.handle.read(|transaction| {
            let Some(table) = existing(transaction.open_table(FINDINGS))? else {
                return Ok((Vec::new(), None));
            };
            let before = self.before.unwrap_or(u64::MAX);
            let mut records = Vec::new();
            for (looked_at, entry) in table.range(..before)?.rev().enumerate() {
                let (number, bytes) = entry?;
                let number = number.value();
                if records.len() >= self.limit || looked_at >= LOOKED_AT {
                    return Ok((records, Some(number + 1)));
                }
                let record = Record::decode(number, bytes.value())?;
                if self.fits(&record) {
                    records.push((number, record));
                }
            }
            Ok((records, None))
        })?;
        let plugins = shared.plugins();
        let items = records.into_iter().map(|(number, record)| {
            let plugin = record.plugin.parse::<Identity>().ok();
            let known = plugin.and_then(|plugin| plugins.get(&plugin));
            let rule = known.and_then(|known| known.rules.get(&record.found.rule));
            FindingReport::new(number, record, rule)
        });
        Ok(Page {
            items: items.collect(),
            next,
        })
    }

    fn fits(&self, record: &Record) -> bool {
        let state = match record.state {
            State::Open => self.states.open,
            State::Suppressed(_) => self.states.suppressed,
            State::Resolved | State::LeftOut => self.states.resolved,
        };
        let (namespace, name) = record.plugin.split_once('/').unwrap_or_default();
        let is = |wanted: &Option<String>, known: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == known)
        };
        let found = &record.found;
        state
            && is(&self.namespace, namespace)
            && is(&self.name, name)
            && self.severity.is_none_or(|least| found.severity >= least)
            && self
                .since
                .is_none_or(|since| record.changed >= since.as_millisecond())
            && self
                .rule
                .as_ref()
                .is_none_or(|rule| rule.matches(&found.rule))
            && self
                .subject
                .as_deref()
                .is_none_or(|prefix| found.subject.text().starts_with(prefix))
    }
}
