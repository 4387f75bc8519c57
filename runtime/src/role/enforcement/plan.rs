//! What a plugin's `plan` answers, checked: against the contract, against what is granted, and among
//! itself. What is wrong with one change costs that change, and those that wait for it, never the others.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::change::{Action, Change, Handler, Permissions, UnitVerb};
use super::effects::{Subject, verb};
use crate::manifest::{
    ChangeGrants, ModuleName, NodePath, SysctlName, UnitName, root_equivalent_folder,
};
use crate::sandbox::bindings::enforcement::exports::bulkhead::plugin::enforcement as wit;

/// The most changes of a plan.
const CHANGES: usize = 4096;
/// The most bytes of ids and texts.
const ID: usize = 256;
const TEXT: usize = 1024;
/// The most permission bits.
const MODE: u32 = 0o7777;
/// Of these, what makes a program run as its owner or group.
const SET_ID: u32 = 0o6000;

/// A plan that keeps to the contract.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Changes in an order in which they can be made.
    pub(super) changes: Vec<Planned>,
    pub(super) handlers: Vec<Handler>,
    /// By rule; none where the plugin said nothing.
    pub(super) assessments: Vec<Option<Assessment>>,
    /// What may not be done, or cannot be.
    pub(super) refused: Vec<Refused>,
}

/// One change with those before it.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) change: Change,
    /// Indexes into [`Plan::changes`], each smaller than its own.
    pub(super) after: Vec<usize>,
}

/// What a plugin says of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assessment {
    pub(super) verdict: wit::Verdict,
    pub(super) message: String,
}

/// A change that is not even tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) id: Arc<str>,
    pub(super) rule: Option<u32>,
    pub(super) kind: &'static str,
    pub(super) subject: String,
    pub(super) why: String,
}

impl Plan {
    /// Checks an answer. The error is a broken promise of the plugin's.
    pub(super) fn check(
        proposal: wit::Proposal,
        rules: usize,
        grants: &ChangeGrants,
    ) -> Result<Self, String> {
        let count = proposal.changes.len();
        if count > CHANGES {
            return Err(format!("{count} changes; at most {CHANGES} are allowed"));
        }
        let mut plan = Self {
            assessments: assess(proposal.assessments, rules)?,
            ..Self::default()
        };
        let mut ids = HashSet::new();
        for change in &proposal.changes {
            let id = &change.id;
            if id.is_empty() || id.len() > ID || id.chars().any(char::is_control) {
                return Err(format!("a change has the id {id:?}"));
            }
            if !ids.insert(id.clone()) {
                return Err(format!("two changes have the id {id:?}"));
            }
            if change.rule.is_some_and(|rule| rule as usize >= rules) {
                return Err(format!("the change {id:?} is of a rule that is not there"));
            }
        }
        let mut granted = Vec::new();
        for change in proposal.changes {
            let after = change.after;
            let when_changed = change.when_changed;
            let mut reason = change.reason;
            shorten(&mut reason);
            let id: Arc<str> = change.id.into();
            match action(change.action, grants) {
                Ok(action) => {
                    let change = Change {
                        id,
                        rule: change.rule,
                        reason,
                        action,
                        secret: change.secret,
                    };
                    match when_changed.is_empty() {
                        true => granted.push((change, after)),
                        false => plan.handlers.push(Handler {
                            change,
                            when_changed: when_changed.into_iter().map(Into::into).collect(),
                        }),
                    }
                }
                Err((kind, subject, why)) => plan.refused.push(Refused {
                    id,
                    rule: change.rule,
                    kind,
                    subject,
                    why,
                }),
            }
        }
        plan.single_out(&mut granted);
        plan.order(granted);
        Ok(plan)
    }

    fn refuse(&mut self, change: &Change, why: String) {
        self.refused.push(Refused {
            id: change.id.clone(),
            rule: change.rule,
            kind: verb(&change.action),
            subject: Subject::of(&change.action).to_string(),
            why,
        });
    }

    /// Refuses changes that contradict each other: all of them, since nobody knows which is meant.
    fn single_out(&mut self, changes: &mut Vec<(Change, Vec<String>)>) {
        let mut takers: HashMap<String, Vec<Arc<str>>> = HashMap::new();
        for (change, _) in changes.iter() {
            let takers = takers.entry(change.action.place()).or_default();
            takers.push(change.id.clone());
        }
        changes.retain(|(change, _)| {
            let others = takers.get(&change.action.place());
            let others = others.into_iter().flatten().filter(|id| **id != change.id);
            let others: Vec<String> = others.map(|id| format!("{id:?}")).collect();
            if !others.is_empty() {
                let why = format!(
                    "the plan has another change of it as well, {}; none of them is made",
                    others.join(", ")
                );
                self.refuse(change, why);
            }
            others.is_empty()
        });
    }

    /// Puts changes into an order in which each comes after those that it waits for.
    fn order(&mut self, changes: Vec<(Change, Vec<String>)>) {
        let index: HashMap<Arc<str>, usize> = changes
            .iter()
            .enumerate()
            .map(|(i, (change, _))| (change.id.clone(), i))
            .collect();
        let mut waits: Vec<Vec<usize>> = Vec::with_capacity(changes.len());
        let mut hopeless: HashMap<usize, String> = HashMap::new();
        for (i, (_, after)) in changes.iter().enumerate() {
            let mut before = Vec::new();
            for id in after {
                match index.get(id.as_str()) {
                    Some(&other) => before.push(other),
                    None => {
                        let why =
                            format!("it waits for {id:?}, which is refused or not in the plan");
                        hopeless.entry(i).or_insert(why);
                    }
                }
            }
            waits.push(before);
        }
        let mut followers: Vec<Vec<usize>> = vec![Vec::new(); changes.len()];
        let mut missing: Vec<usize> = waits.iter().map(Vec::len).collect();
        for (i, before) in waits.iter().enumerate() {
            for &other in before {
                followers[other].push(i);
            }
        }
        let mut place: Vec<Option<usize>> = vec![None; changes.len()];
        let mut ready: Vec<usize> = (0..changes.len()).filter(|&i| missing[i] == 0).collect();
        let mut changes: Vec<Option<(Change, Vec<String>)>> =
            changes.into_iter().map(Some).collect();
        let mut next = 0;
        while let Some(&i) = ready.get(next) {
            next += 1;
            for &follower in &followers[i] {
                missing[follower] -= 1;
                if missing[follower] == 0 {
                    ready.push(follower);
                }
            }
            let Some((change, _)) = changes[i].take() else {
                continue;
            };
            let lost = waits[i].iter().find(|other| place[**other].is_none());
            let why = match (hopeless.remove(&i), lost) {
                (Some(why), _) => Some(why),
                (None, Some(_)) => Some("it waits for a change that is refused".to_owned()),
                (None, None) => None,
            };
            if let Some(why) = why {
                self.refuse(&change, why);
                continue;
            }
            place[i] = Some(self.changes.len());
            let after = waits[i].iter().filter_map(|other| place[*other]).collect();
            self.changes.push(Planned { change, after });
        }
        // What is left waits for itself, by way of others or not.
        for (change, after) in changes.into_iter().flatten() {
            let why = format!(
                "it waits for itself, by way of {}; take one of these dependencies away",
                after.join(", ")
            );
            self.refuse(&change, why);
        }
    }
}

/// Whether the policy lets a grant in only for modules that are trusted like root.
fn is_root_equivalent(granted: &NodePath) -> bool {
    root_equivalent_folder(Path::new(granted.as_str())).is_some()
}

/// Cuts what is longer than people read.
fn shorten(text: &mut String) {
    if text.len() > TEXT {
        let end = (0..=TEXT).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
}

fn assess(given: Vec<wit::Assessment>, rules: usize) -> Result<Vec<Option<Assessment>>, String> {
    let mut assessments = vec![None; rules];
    for assessment in given {
        let index = assessment.rule;
        let Some(place) = assessments.get_mut(index as usize) else {
            return Err(format!("assesses rule {index} of {rules}"));
        };
        let mut message = assessment.message;
        shorten(&mut message);
        let verdict = assessment.verdict;
        if place.replace(Assessment { verdict, message }).is_some() {
            return Err(format!("assesses rule {index} twice"));
        }
    }
    Ok(assessments)
}

/// Kind, subject, and why not.
type NotGranted = (&'static str, String, String);

fn action(action: wit::Action, grants: &ChangeGrants) -> Result<Action, NotGranted> {
    let not = |kind: &'static str, subject: &str, why: String| {
        (kind, subject.to_owned(), why.replace('\n', ": "))
    };
    let missing = |kind: &'static str, subject: &str, yaml: String| {
        let why = format!(
            "it is not granted; to grant it, add to the manifest: `grants: {{changes: {{{yaml}}}}}`"
        );
        (kind, subject.to_owned(), why)
    };
    let path = |kind, text: String| {
        let path = NodePath::parse(&text).map_err(|why| not(kind, &text, why))?;
        match grants.file(&path) {
            Some(_) => Ok(path),
            None => Err(missing(kind, &text, format!("files: [{text}]"))),
        }
    };
    let permissions = |kind, path: &NodePath, given: wit::Permissions| {
        let mode = given.mode.filter(|mode| *mode > MODE);
        match mode {
            Some(mode) => Err(not(
                kind,
                path.as_str(),
                format!("mode {mode:o} has bits that no file has; write at most 7777"),
            )),
            None if given.mode.is_some_and(|mode| mode & SET_ID != 0)
                && kind == "write-file"
                && !grants.file(path).is_some_and(is_root_equivalent) =>
            {
                let why = "a file that runs as its owner is as good as being root: the grant must be of a folder of the system, which needs allowRootEquivalent";
                Err(not(kind, path.as_str(), why.to_owned()))
            }
            None => Ok(Permissions {
                mode: given.mode,
                uid: given.uid,
                gid: given.gid,
            }),
        }
    };
    Ok(match action {
        wit::Action::WriteFile(file) => {
            let path = path("write-file", file.path)?;
            Action::WriteFile {
                permissions: permissions("write-file", &path, file.permissions)?,
                path,
                content: file.content,
            }
        }
        wit::Action::MakeDirectory(directory) => {
            let path = path("make-directory", directory.path)?;
            Action::MakeDirectory {
                permissions: permissions("make-directory", &path, directory.permissions)?,
                path,
            }
        }
        wit::Action::MakeSymlink(link) => {
            let path = path("make-symlink", link.path)?;
            let target = link.target;
            if target.is_empty() || target.len() > 4095 || target.contains('\0') {
                let why = format!("{target:?} is nothing that a link can point to");
                return Err(not("make-symlink", path.as_str(), why));
            }
            Action::MakeSymlink { path, target }
        }
        wit::Action::Remove(text) => Action::Remove {
            path: path("remove", text)?,
        },
        wit::Action::SetSysctl(set) => {
            let kind = "set-sysctl";
            let name = SysctlName::parse(&set.name).map_err(|why| not(kind, &set.name, why))?;
            if !grants.sysctl(&name) {
                return Err(missing(kind, &set.name, format!("sysctls: [{name}]")));
            }
            if set.value.len() > 4096 || set.value.chars().any(|it| it.is_control() && it != '\t') {
                let why = "its value has control characters, or more than 4096 bytes".to_owned();
                return Err(not(kind, &set.name, why));
            }
            Action::SetSysctl {
                name,
                value: set.value,
                now: set.now,
                persist: set.persist,
            }
        }
        wit::Action::ChangeModule(module) => {
            let kind = match module.change {
                wit::ModuleChange::Load => "load-module",
                wit::ModuleChange::LoadAtStart => "load-module-at-start",
                wit::ModuleChange::Blacklist => "blacklist-module",
            };
            let name =
                ModuleName::parse(&module.name).map_err(|why| not(kind, &module.name, why))?;
            if !grants.kernel_module(&name) {
                let yaml = format!("kernelModules: [{name}]");
                return Err(missing(kind, &module.name, yaml));
            }
            match module.change {
                wit::ModuleChange::Load => Action::LoadModule { name },
                wit::ModuleChange::LoadAtStart => Action::LoadModuleAtStart { name },
                wit::ModuleChange::Blacklist => Action::BlacklistModule { name },
            }
        }
        wit::Action::ChangeUnit(unit) => {
            let kind = "change-unit";
            let name = UnitName::parse(&unit.name).map_err(|why| not(kind, &unit.name, why))?;
            if !grants.unit(&name) {
                return Err(missing(kind, &unit.name, format!("units: [{name}]")));
            }
            let verb = match unit.change {
                wit::UnitChange::Enable => UnitVerb::Enable,
                wit::UnitChange::Disable => UnitVerb::Disable,
                wit::UnitChange::Start => UnitVerb::Start,
                wit::UnitChange::Stop => UnitVerb::Stop,
                wit::UnitChange::Restart => UnitVerb::Restart,
                wit::UnitChange::Reload => UnitVerb::Reload,
                wit::UnitChange::Mask => UnitVerb::Mask,
                wit::UnitChange::Unmask => UnitVerb::Unmask,
            };
            Action::ChangeUnit { name, verb }
        }
    })
}

#[cfg(test)]
mod tests;
