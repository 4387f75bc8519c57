//! One plan: the model's steps in order, each compared with the node.

mod access;
mod draft;
mod file;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod hostile;
mod kernel;
mod many;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
mod unit;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use bulkhead_sdk::enforcement::{Change, UnitChange, View};
use bulkhead_sdk::{Error, Plan};

use crate::compile::{Item, Kind, Model, Step, Subject};
use crate::config::HandlerAction;
use crate::expression::Known;

/// The most changes of a plan, with handlers.
const MOST_CHANGES: usize = 4096;

/// What became of an item. Errors are in the form that people read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    Pass(String),
    Fail(String),
    NotApplicable(String),
    Error(String),
}

impl From<Error> for Finding {
    fn from(error: Error) -> Self {
        Finding::Error(error.to_string())
    }
}

impl Finding {
    fn pass() -> Self {
        Finding::Pass(String::new())
    }
}

/// Plans the changes that the node needs.
pub(crate) fn plan(model: &Model, view: &View, plan: &mut Plan) {
    let mut planner = Planner {
        model,
        view,
        known: Known::new(view),
        plan,
        findings: vec![None; model.items.len()],
        made: Vec::with_capacity(model.steps.len()),
        ids: HashSet::new(),
        triggers: vec![Vec::new(); model.handlers.len()],
        access: HashMap::new(),
    };
    for step in &model.steps {
        planner.step(step);
    }
    planner.handlers();
    planner.assess();
}

struct Planner<'a> {
    model: &'a Model,
    view: &'a View,
    known: Known,
    plan: &'a mut Plan,
    /// Of each item.
    findings: Vec<Option<Finding>>,
    /// For each step that is done: the changes that whoever comes after it has to wait for.
    made: Vec<Vec<String>>,
    ids: HashSet<String>,
    /// For each handler, the changes that set it off, whether or not they are in this plan.
    triggers: Vec<Vec<String>>,
    /// What resources about many paths want of one, by path.
    access: HashMap<String, access::Wanted>,
}

/// What a step may use to make changes.
struct Making {
    /// Changes to wait for.
    after: Vec<String>,
    /// Changes made.
    made: Vec<String>,
}

impl<'a> Planner<'a> {
    fn item(&self, index: usize) -> &'a Item {
        &self.model.items[index]
    }

    fn find(&mut self, item: usize, finding: Finding) {
        self.findings[item] = Some(finding);
    }

    fn step(&mut self, step: &'a Step) {
        let mut after: Vec<String> = Vec::new();
        for before in &step.after {
            for id in self.made.get(*before).into_iter().flatten() {
                if !after.contains(id) {
                    after.push(id.clone());
                }
            }
        }
        let mut live: Vec<usize> = Vec::new();
        for index in step.items.iter().copied() {
            match self.obstacle(index) {
                Some(finding) => self.find(index, finding),
                None => live.push(index),
            }
        }
        for (one, other, why) in &step.conflicts {
            if live.contains(one) && live.contains(other) {
                for (index, against) in [(*one, *other), (*other, *one)] {
                    let id = &self.item(against).id;
                    self.find(index, Finding::Error(format!("contradicts `{id}`: {why}")));
                }
            }
        }
        live.retain(|index| self.findings[*index].is_none());
        let mut making = Making {
            after,
            made: Vec::new(),
        };
        match &step.subject {
            Subject::Path(path) => self.path(path, &live, &mut making),
            Subject::Sysctl(name) => self.sysctl(name, &live, &mut making),
            Subject::Module(name) => self.module(name, &live, &mut making),
            Subject::Unit(name) => self.unit(name, &live, &mut making),
            Subject::Item(index) => {
                if live.contains(index) {
                    let finding = self.many(*index, &mut making);
                    self.find(*index, finding);
                }
            }
        }
        let Making { after, made } = making;
        // Whoever comes after a step without changes waits for those before it.
        self.made.push(if made.is_empty() { after } else { made });
    }

    fn many(&mut self, index: usize, making: &mut Making) -> Finding {
        match &self.item(index).kind {
            Kind::Permissions(rule) => self.permissions_of_many(index, rule, making),
            Kind::Absent(absence) => self.absent(index, absence, making),
            Kind::Lookout(lookout) => many::look_out(self.view, lookout),
            _ => Finding::Error("is about nothing".to_owned()),
        }
    }

    /// Why an item is not looked at any further.
    fn obstacle(&self, index: usize) -> Option<Finding> {
        let item = self.item(index);
        if let Some(condition) = &item.when {
            match self.model.templates.holds(condition, &self.known) {
                Ok(None) => {}
                Ok(Some(why)) => return Some(Finding::NotApplicable(why)),
                Err(error) => return Some(Finding::from(error.context("`when`"))),
            }
        }
        let failed = item
            .depends_on
            .iter()
            .find(|other| matches!(self.findings.get(**other), Some(Some(Finding::Error(_)))))?;
        let id = &self.item(*failed).id;
        Some(Finding::Error(format!(
            "depends on `{id}`, which is in error"
        )))
    }

    /// Adds a change that mends `items`, unless the plan has it already.
    fn change(
        &mut self,
        id: &str,
        items: &[usize],
        reason: &str,
        making: &mut Making,
        add: impl for<'p> FnOnce(&'p mut Plan, &str) -> Change<'p>,
    ) {
        let id = short(id);
        // What a plan has no room for comes in the next one.
        let room = MOST_CHANGES - self.model.handlers.len().min(MOST_CHANGES);
        if self.ids.len() >= room || !self.ids.insert(id.clone()) {
            return;
        }
        let rule = items.iter().find_map(|item| self.model.items[*item].rule);
        let mut change = add(self.plan, &id).because(reason);
        if let Some(rule) = rule {
            change = change.rule(rule);
        }
        for before in &making.after {
            change = change.after(before);
        }
        making.made.push(id);
    }

    /// Notes that a change of this id, if it is made, sets off the handlers that the item notifies.
    fn sets_off(&mut self, item: usize, id: &str) {
        for handler in &self.model.items[item].notify {
            self.triggers[*handler].push(short(id));
        }
    }

    /// The handlers, which are in each plan.
    fn handlers(&mut self) {
        for (index, handler) in self.model.handlers.iter().enumerate() {
            let loaded = |name: &&String| {
                self.view
                    .unit(name)
                    .is_some_and(|unit| unit.load_state == "loaded")
            };
            let Some(unit) = handler.units.iter().find(loaded) else {
                continue;
            };
            let runs = self
                .view
                .unit(unit)
                .is_some_and(|it| runs(&it.active_state));
            let triggers = std::mem::take(&mut self.triggers[index]);
            if triggers.is_empty() || !runs {
                continue;
            }
            let action = match handler.action {
                HandlerAction::Restart => UnitChange::Restart,
                HandlerAction::Reload => UnitChange::Reload,
            };
            let id = short(&format!("handler {}", handler.id));
            self.plan
                .change_unit(&id, unit, action)
                .because("what it reads has changed")
                .when_changed(triggers);
        }
    }

    fn assess(&mut self) {
        for (item, finding) in self.model.items.iter().zip(&self.findings) {
            let (Some(rule), Some(finding)) = (item.rule, finding) else {
                continue;
            };
            match finding {
                Finding::Pass(message) => self.plan.pass(rule, message),
                Finding::Fail(message) => self.plan.fail(rule, message),
                Finding::NotApplicable(message) => self.plan.not_applicable(rule, message),
                Finding::Error(message) => self.plan.error(rule, message),
            }
        }
    }

    /// Those of the items that change something.
    fn enforced(&self, items: &[usize]) -> Vec<usize> {
        let changes = |index: &usize| !self.model.items[*index].check_only;
        items.iter().copied().filter(changes).collect()
    }
}

/// Whether a unit is to be told of what changed.
fn runs(active_state: &str) -> bool {
    matches!(active_state, "active" | "reloading" | "activating")
}

/// The id of a change: at most 256 bytes, without control characters, and still another for each.
fn short(id: &str) -> String {
    if id.len() <= 256 && !id.contains(char::is_control) {
        return id.to_owned();
    }
    // FNV-1a.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let start: String = id.chars().filter(|it| !it.is_control()).collect();
    let end = start.floor_char_boundary(230.min(start.len()));
    format!("{} {hash:016x}", &start[..end])
}

/// What the host means by the number of an error.
fn why(errno: u32) -> Cow<'static, str> {
    let words = match errno {
        5 => "the disk gave an error",
        13 => {
            "a link on its way leads out of what is granted or belongs to another user than root, or it is in a folder that no plugin may see; `namei -l` on the node shows its links: mend them, or grant what they lead to"
        }
        16 => "it was written to meanwhile; it is looked at again",
        40 => "the links on its way lead in a circle; mend them",
        _ => return format!("error {errno}").into(),
    };
    words.into()
}

/// Several reasons as one.
fn join(reasons: &[String]) -> String {
    let mut seen = HashSet::new();
    let reasons: Vec<&str> = reasons
        .iter()
        .map(String::as_str)
        .filter(|reason| !reason.is_empty() && seen.insert(*reason))
        .collect();
    reasons.join("; ")
}
