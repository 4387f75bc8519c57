//! The rules that a plugin lists.

use std::collections::HashMap;

use super::check::{Broken, text};
use super::finding::Severity;
use crate::sandbox::bindings::scanning::exports::bulkhead::plugin::scanning as wit;

/// The most that a plugin lists.
const MOST: usize = 65_536;

/// What a finding may be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What was found.
    pub title: String,
    /// How much it matters.
    pub severity: Severity,
    /// Why it matters.
    pub rationale: String,
    /// What to do.
    pub remediation: String,
    /// Addresses to read more at.
    pub references: Vec<String>,
}

/// A plugin's rules by id.
#[derive(Debug, Clone, Default)]
pub struct Rules(HashMap<String, Rule>);

impl Rules {
    /// Checks the rules of an outline.
    ///
    /// # Errors
    /// The promise of the contract that is broken.
    pub fn check(rules: Vec<wit::Rule>) -> Result<Self, Broken> {
        if rules.len() > MOST {
            return Err(Broken(format!(
                "{} rules; there may be {MOST}",
                rules.len()
            )));
        }
        let mut known = HashMap::with_capacity(rules.len());
        for rule in rules {
            text("the id of a rule", &rule.id, 1..=128)?;
            text("the title of a rule", &rule.title, 0..=256)?;
            if rule.rationale.len() > 2048 || rule.remediation.len() > 2048 {
                return Err(Broken(format!("{:?} explains more than 2 KiB", rule.id)));
            }
            super::check::references(&rule.references)?;
            let checked = Rule {
                title: rule.title,
                severity: rule.severity.into(),
                rationale: rule.rationale,
                remediation: rule.remediation,
                references: rule.references,
            };
            if known.insert(rule.id.clone(), checked).is_some() {
                return Err(Broken(format!("two rules have the id {:?}", rule.id)));
            }
        }
        Ok(Self(known))
    }

    /// The rule with an id, if it is listed.
    pub fn get(&self, id: &str) -> Option<&Rule> {
        self.0.get(id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<wit::Severity> for Severity {
    fn from(severity: wit::Severity) -> Self {
        match severity {
            wit::Severity::Info => Self::Info,
            wit::Severity::Low => Self::Low,
            wit::Severity::Medium => Self::Medium,
            wit::Severity::High => Self::High,
            wit::Severity::Critical => Self::Critical,
        }
    }
}
