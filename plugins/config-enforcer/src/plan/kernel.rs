//! Kernel settings and modules.

use bulkhead_sdk::enforcement::{Module, ModuleChange};

use super::{Finding, Making, Planner};
use crate::compile::{Kind, SysctlRule};
use crate::config::{Accept, IfMissing, ModuleState};

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
            let fits = |found: &str| {
                let as_good = |accept: &Accept| accept.holds(found, &rule.value);
                same(found, &rule.value) || rule.accept.as_ref().is_some_and(as_good)
            };
            let now = rule.now && !fits(value);
            // A value that is as good was set by somebody else, who keeps it too.
            let unkept = same(value, &rule.value) || now;
            let persist = rule.persist && persisted.map_or(unkept, |kept| !fits(kept));
            let (finding, why) = match (now, persist, rule.now) {
                (false, false, _) => (Finding::pass(), String::new()),
                (true, ..) => fail(format!("it is {value}")),
                // It is so; who else may see to it at the start is not known.
                (false, true, true) => {
                    let why = "this plugin does not keep it for the next start";
                    (Finding::Pass(why.to_owned()), why.to_owned())
                }
                (false, true, false) => fail(format!(
                    "it is {} at the next start",
                    persisted.unwrap_or("not set")
                )),
            };
            let failed_now = matches!(finding, Finding::Fail(_));
            self.find(index, finding);
            if self.item(index).check_only || !(now || persist) {
                continue;
            }
            if failed_now {
                failed.push(index);
            }
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
            // What passes breaks no rule, though there may be something to do.
            let (mends, why) = match &finding {
                Finding::Fail(why) => (vec![index], why.clone()),
                Finding::Pass(why) => (Vec::new(), why.clone()),
                _ => (Vec::new(), String::new()),
            };
            self.find(index, finding);
            if self.item(index).check_only {
                continue;
            }
            for (what, change) in changes {
                let id = format!("module {name} {what}");
                self.change(&id, &mends, &why, making, |plan, id| {
                    plan.change_module(id, &rule.name, change)
                });
            }
        }
    }
}

fn fail(why: String) -> (Finding, String) {
    (Finding::Fail(why.clone()), why)
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
        (true, false) => {
            Finding::Pass("this plugin does not have it loaded at the next start".to_owned())
        }
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
