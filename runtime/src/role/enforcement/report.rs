//! The role's figures, as the status endpoint shows them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::outline::Rule;
use super::plan::Assessment;
use crate::sandbox::bindings::enforcement::exports::bulkhead::plugin::enforcement as wit;

/// How a plugin with the role `enforcement` finds the node, and what became of its changes.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnforcementReport {
    /// What the manifest says: `audit` or `enforce`.
    pub mode: &'static str,
    /// Why changes are only reported now, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_reporting: Option<String>,
    /// When everything was looked at last (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_check: Option<Timestamp>,
    /// How long that took.
    pub seconds: f64,
    /// How often everything was looked at since the daemon started.
    pub checks: u64,
    /// Of these, the ones that came to nothing.
    pub failed_checks: u64,
    /// Of these, the ones because something was seen to change.
    pub drift_checks: u64,
    /// The rules, by what was found.
    pub rules: RuleCounts,
    /// Rules that are broken, or of which nothing is known; at most 100.
    pub broken: Vec<RuleReport>,
    /// What should be changed and is not; at most 100.
    pub outstanding: Vec<ChangeReport>,
    /// How many there are of these.
    pub outstanding_count: u64,
    /// Changes made since the daemon started.
    pub made: u64,
    /// Changes that failed since then.
    pub failed: u64,
    /// Changes put back since then.
    pub reverted: u64,
    /// Handlers that wait to be done.
    pub waiting_handlers: u64,
    /// Changes that something else keeps undoing.
    pub flapping: Vec<String>,
    /// What is wrong with the role itself and what to do, if anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// How many rules were found how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleCounts {
    /// They hold.
    pub pass: u64,
    /// They are broken.
    pub fail: u64,
    /// They do not apply to this node.
    pub not_applicable: u64,
    /// It cannot be told.
    pub error: u64,
}

impl RuleCounts {
    /// Rules that hold of those that apply, in percent; 100 if none applies.
    pub fn score(&self) -> f64 {
        match self.pass + self.fail + self.error {
            0 => 100.0,
            all => self.pass as f64 * 100.0 / all as f64,
        }
    }

    pub(super) fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Pass => self.pass += 1,
            Verdict::Fail => self.fail += 1,
            Verdict::NotApplicable => self.not_applicable += 1,
            Verdict::Error => self.error += 1,
        }
    }
}

/// What was found of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It holds.
    Pass,
    /// It is broken.
    Fail,
    /// It does not apply to this node.
    NotApplicable,
    /// It cannot be told, or nothing can be done about it.
    Error,
}

impl From<wit::Verdict> for Verdict {
    fn from(verdict: wit::Verdict) -> Self {
        match verdict {
            wit::Verdict::Pass => Self::Pass,
            wit::Verdict::Fail => Self::Fail,
            wit::Verdict::NotApplicable => Self::NotApplicable,
            wit::Verdict::Error => Self::Error,
        }
    }
}

/// One rule and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleReport {
    /// Its id.
    pub id: String,
    /// What should be so.
    pub title: String,
    /// How much it matters: `info`, `low`, `medium`, `high`, `critical`.
    pub severity: &'static str,
    /// What was found.
    pub verdict: Verdict,
    /// The same in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Why it should be so.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rationale: String,
    /// How to mend it by hand.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remediation: String,
}

impl RuleReport {
    pub(super) fn of(rule: &Rule, found: Option<&Assessment>) -> Self {
        Self {
            id: rule.id.clone(),
            title: rule.title.clone(),
            severity: rule.severity,
            verdict: found.map_or(Verdict::Error, |found| found.verdict.into()),
            message: found.map_or_else(
                || "the plugin said nothing of it".to_owned(),
                |found| found.message.clone(),
            ),
            rationale: rule.rationale.clone(),
            remediation: rule.remediation.clone(),
        }
    }
}

/// Why a change is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ChangeState {
    /// Changes are only reported now.
    Pending,
    /// Something else keeps undoing it, so it is left alone for a while.
    Flapping,
    /// It was put back by hand, and is left alone.
    Held,
    /// One that it waits for was not made.
    Waiting,
    /// It was tried.
    Failed,
    /// It is not granted, or cannot be made.
    Refused,
}

/// A change that is not made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeReport {
    /// Its id.
    pub id: String,
    /// The rule that is broken without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What it is: `write-file`, `set-sysctl`.
    pub kind: &'static str,
    /// What it changes.
    pub subject: String,
    /// Why it should be made.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why it is not made.
    pub state: ChangeState,
    /// The same in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What it would change, as a unified diff or in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub diff: String,
}
