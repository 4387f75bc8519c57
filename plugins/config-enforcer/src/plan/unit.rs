//! systemd units.

use bulkhead_sdk::enforcement::{Unit, UnitChange};

use super::{Finding, Making, Planner, join, runs};
use crate::compile::Kind;
use crate::config::{self, IfMissing};

/// What may be done to a unit, in the order in which it is done.
const CHANGES: &[(&str, UnitChange)] = &[
    ("stop", UnitChange::Stop),
    ("disable", UnitChange::Disable),
    ("mask", UnitChange::Mask),
    ("unmask", UnitChange::Unmask),
    ("enable", UnitChange::Enable),
    ("start", UnitChange::Start),
];

impl Planner<'_> {
    pub(super) fn unit(&mut self, name: &str, live: &[usize], making: &mut Making) {
        // By their place in `CHANGES`: the item that needs it first, and why.
        let mut needed: Vec<Option<(usize, String)>> = vec![None; CHANGES.len()];
        for index in live.iter().copied() {
            let Kind::Unit(rule) = &self.item(index).kind else {
                continue;
            };
            for (what, _) in CHANGES {
                self.sets_off(index, &format!("unit {name} {what}"));
            }
            let Some(unit) = self.view.unit(name) else {
                self.find(index, Finding::Error("the host did not show it".to_owned()));
                continue;
            };
            let mut wrong = Vec::new();
            let finding = judge(rule, unit, &mut wrong);
            if let Finding::Fail(_) = &finding
                && !self.item(index).check_only
            {
                for (change, why) in wrong {
                    let place = CHANGES.iter().position(|(what, _)| *what == change);
                    if let Some(slot) = place.and_then(|place| needed.get_mut(place)) {
                        slot.get_or_insert((index, why));
                    }
                }
            }
            self.find(index, finding);
        }
        let outside = making.after.clone();
        for ((what, change), needed) in CHANGES.iter().zip(needed) {
            let Some((index, why)) = needed else { continue };
            let id = format!("unit {name} {what}");
            self.change(&id, &[index], &why, making, |plan, id| {
                plan.change_unit(id, name, *change)
            });
            // The next after this.
            making.after.extend(making.made.last().cloned());
        }
        making.after = outside;
    }
}

/// What is wrong with a unit, as changes with reasons.
fn judge(rule: &config::Unit, unit: &Unit, wrong: &mut Vec<(&'static str, String)>) -> Finding {
    if !unit.problem.is_empty() {
        return Finding::Error(format!("its state is not known: {}", unit.problem));
    }
    let wanted = rule.enabled == Some(true) || rule.running == Some(true);
    let found = unit.load_state != "not-found";
    let is_masked = unit.load_state == "masked" || unit.file_state.starts_with("masked");
    if !found && wanted {
        let why = "the node has no such unit".to_owned();
        return match rule.if_missing {
            IfMissing::NotApplicable => Finding::NotApplicable(why),
            _ => Finding::Error(why),
        };
    }
    if !found && rule.masked != Some(true) {
        return Finding::Pass("the node has no such unit".to_owned());
    }
    if is_masked && wanted && rule.masked != Some(false) {
        return Finding::Error("it is masked; say `masked: false` to have it unmasked".to_owned());
    }
    let active = runs(&unit.active_state);
    if rule.running == Some(false) && active {
        wrong.push(("stop", "it runs".to_owned()));
    }
    let state = unit.file_state.as_str();
    if rule.enabled == Some(false) && state.starts_with("enabled") {
        wrong.push(("disable", "it is enabled".to_owned()));
    }
    match rule.masked {
        Some(true) if !is_masked => wrong.push(("mask", "it is not masked".to_owned())),
        Some(false) if is_masked => wrong.push(("unmask", "it is masked".to_owned())),
        _ => {}
    }
    // Others have nothing that could be enabled: `static`, `indirect`, `generated`, `alias`.
    let is_off = matches!(state, "disabled" | "") || is_masked;
    if rule.enabled == Some(true) && is_off {
        wrong.push(("enable", "it is not enabled".to_owned()));
    }
    if rule.running == Some(true) && !active {
        wrong.push(("start", format!("it is {}", unit.active_state)));
    }
    match wrong.is_empty() {
        true if matches!(state, "enabled" | "disabled" | "masked" | "") => Finding::pass(),
        true => Finding::Pass(format!("it is {state}")),
        false => {
            let reasons: Vec<String> = wrong.iter().map(|(_, why)| why.clone()).collect();
            Finding::Fail(join(&reasons))
        }
    }
}
