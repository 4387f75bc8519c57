//! The role `enforcement`: look at the node for a plugin, ask it what should be changed, check each change
//! against what is granted, and make it, or only report it.

mod ask;
mod change;
mod drift;
mod driver;
mod dry_run;
pub mod effects;
mod flapping;
mod gone;
mod meant;
mod memory;
mod outline;
mod plan;
mod report;
mod round;

use std::collections::BTreeMap;

pub use change::{Action, Change, Handler, Permissions, UnitVerb};
pub use driver::{
    Context, EnforcementDriver, EnforcementStatus, History, Revert, Reverted, prepare,
};
pub use dry_run::{DryRun, dry_run};
pub use effects::Audit;
pub use gone::purge;
pub use report::{ChangeReport, ChangeState, EnforcementReport, RuleCounts, RuleReport, Verdict};

/// What a plugin is told of the node: the facts, and its labels as `labels.NAME`.
pub fn facts(
    node: &[(String, String)],
    labels: &BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let labels = labels.iter();
    let labels = labels.map(|(name, value)| (format!("labels.{name}"), value.clone()));
    node.iter().cloned().chain(labels).collect()
}
