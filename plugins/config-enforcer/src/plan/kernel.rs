//! Kernel settings and modules.

use bulkhead_sdk::enforcement::{Module, ModuleChange};

use super::{Finding, Making, Planner};
use crate::compile::{Kind, SysctlRule};
use crate::config::{IfMissing, ModuleState};

const LOAD: &str = "load";
const AT_START: &str = "load at start";
const BLACKLIST: &str = "blacklist";

impl<'a> Planner<'a> {
    pub(super) fn sysctl(&mut self, name: &str, live: &[usize], making: &mut Making) {
        let id = format!("sysctl {name}");
        let mut failed = Vec::new();
        let mut needed: Option<(&'a SysctlRule, bool, bool, String)> = None;
        for index in live.iter().copied() {
            let Kind::Sysctl(rule) = &self.item(index).kind else {
                continue;
            };
            self.sets_off(index, &id);
            let known = self.view.sysctl(name);
            let Some(value) = known.and_then(|it| it.value.as_deref()) else {
                let why = "the kernel has no such setting".to_owned();
                self.find(
                    index,
                    match rule.if_missing {
                        IfMissing::NotApplicable => Finding::NotApplicable(why),
                        _ => Finding::Error(why),
                    },
                );
                continue;
            };
            let persisted = known.and_then(|it| it.persisted.as_deref());
            let now = rule.now && !same(value, &rule.value);
            let persist = rule.persist && !persisted.is_some_and(|it| same(it, &rule.value));
            let why = match (now, persist, persisted) {
                (false, false, _) => {
                    self.find(index, Finding::pass());
                    continue;
                }
                (true, ..) => format!("it is {value}"),
                (false, true, None) => format!("it is {value}, but not kept for the next start"),
                (false, true, Some(other)) => format!("it is {other} at the next start"),
            };
            self.find(index, Finding::Fail(why.clone()));
            if self.item(index).check_only {
                continue;
            }
            failed.push(index);
            let (now, persist) = match &needed {
                Some((_, before, kept, _)) => (now || *before, persist || *kept),
                None => (now, persist),
            };
            needed = Some((rule, now, persist, why));
        }
        if let Some((rule, now, persist, why)) = needed {
            self.change(&id, &failed, &why, making, |plan, id| {
                plan.set_sysctl(id, name, &rule.value, now, persist)
            });
        }
    }

    pub(super) fn module(&mut self, name: &str, live: &[usize], making: &mut Making) {
        for index in live.iter().copied() {
            let Kind::Module(rule) = &self.item(index).kind else {
                continue;
            };
            for what in [LOAD, AT_START, BLACKLIST] {
                self.sets_off(index, &format!("module {name} {what}"));
            }
            let (finding, changes) = match self.view.module(&rule.name) {
                None => (
                    Finding::Error("the host did not show it".to_owned()),
                    Vec::new(),
                ),
                Some(module) => match rule.state {
                    ModuleState::Loaded => loaded(module),
                    ModuleState::Blacklisted => blacklisted(module),
                },
            };
            let why = match &finding {
                Finding::Fail(why) => why.clone(),
                _ => String::new(),
            };
            self.find(index, finding);
            if self.item(index).check_only {
                continue;
            }
            for (what, change) in changes {
                let id = format!("module {name} {what}");
                self.change(&id, &[index], &why, making, |plan, id| {
                    plan.change_module(id, &rule.name, change)
                });
            }
        }
    }
}

/// The kernel writes several values with tabs between them.
fn same(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

type Changes = Vec<(&'static str, ModuleChange)>;

fn loaded(module: &Module) -> (Finding, Changes) {
    if module.built_in {
        return (Finding::Pass("it is built in".to_owned()), Vec::new());
    }
    let mut changes = Vec::new();
    if !module.loaded {
        if !module.available {
            let why = "the node has no such module".to_owned();
            return (Finding::Error(why), Vec::new());
        }
        changes.push((LOAD, ModuleChange::Load));
    }
    if !module.at_start {
        changes.push((AT_START, ModuleChange::LoadAtStart));
    }
    let finding = match (module.loaded, module.at_start) {
        (true, true) => Finding::pass(),
        (false, _) => Finding::Fail("it is not loaded".to_owned()),
        (true, false) => Finding::Fail("it is not loaded at the node's start".to_owned()),
    };
    (finding, changes)
}

fn blacklisted(module: &Module) -> (Finding, Changes) {
    if module.built_in {
        let why = "it is built into the kernel, and cannot be kept out".to_owned();
        return (Finding::Error(why), Vec::new());
    }
    match (module.blacklisted, module.loaded) {
        (true, false) => (Finding::pass(), Vec::new()),
        (true, true) => {
            let why = "it is in the kernel until the node starts anew".to_owned();
            (Finding::Fail(why), Vec::new())
        }
        (false, false) if !module.available => (
            Finding::Pass("the node has no such module".to_owned()),
            Vec::new(),
        ),
        (false, _) => {
            let changes = vec![(BLACKLIST, ModuleChange::Blacklist)];
            (Finding::Fail("it can be loaded".to_owned()), changes)
        }
    }
}
