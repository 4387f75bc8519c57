//! What a plugin planned, checked as the host checks it.

use std::collections::{BTreeMap, BTreeSet};

use crate::bail;
use crate::bindings::enforcement::exports::bulkhead::plugin::enforcement as raw;
use crate::error::Result;

/// What became of a rule.
///
/// ```
/// use bulkhead_sdk::testing::Verdict;
#[doc = include_str!("../enforcement/example.txt")]
/// # let planned = planned!(Node::new(), |outline| {
/// #     let motd = outline.rule(Rule::new("motd", "Visitors are greeted"));
/// # }, move |_, plan| plan.not_applicable(motd, "nobody visits the node"));
/// assert_eq!(planned.verdict("motd"), Some(Verdict::NotApplicable));
/// ```
pub use raw::Verdict;

/// The answer of one call.
///
/// ```
#[doc = include_str!("../enforcement/example.txt")]
/// # plugin!(|view, plan| if view.file("/etc/motd").is_none() {
/// #     plan.write_file("motd", "/etc/motd", "Hello\n");
/// # });
/// let planned = Harness::<MyPlugin>::new("{}")?.plan(&Node::new())?;
/// assert_eq!(planned.ids(), ["motd"]);
/// # bulkhead_sdk::Result::<()>::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct Planned {
    rules: Vec<raw::Rule>,
    /// In an order that `after` allows.
    changes: Vec<raw::Change>,
    handlers: Vec<raw::Change>,
    assessments: BTreeMap<String, (Verdict, String)>,
}

impl Planned {
    pub(super) fn check(outline: raw::Outline, plan: raw::Proposal) -> Result<Self> {
        check_outline(&outline)?;
        if plan.changes.len() > 4096 {
            bail!("{} changes; there may be 4096", plan.changes.len());
        }
        let mut ids = BTreeSet::new();
        for change in &plan.changes {
            check_text("the id of a change", &change.id, 1..=256)?;
            if !ids.insert(change.id.as_str()) {
                bail!("two changes have the id {:?}", change.id);
            }
            if change
                .rule
                .is_some_and(|rule| rule as usize >= outline.rules.len())
            {
                bail!("{:?} is of a rule that is not there", change.id);
            }
            if change.reason.len() > 1024 {
                bail!("the reason of {:?} is longer than 1 KiB", change.id);
            }
            check_action(change)?;
        }
        for change in &plan.changes {
            if let Some(lost) = change.after.iter().find(|id| !ids.contains(id.as_str())) {
                bail!("{:?} comes after {lost:?}, which is not there", change.id);
            }
        }
        let mut assessments = BTreeMap::new();
        for assessment in plan.assessments {
            let Some(rule) = outline.rules.get(assessment.rule as usize) else {
                bail!("an assessment of a rule that is not there");
            };
            if assessment.message.len() > 1024 {
                bail!("the message about {:?} is longer than 1 KiB", rule.id);
            }
            let found = (assessment.verdict, assessment.message);
            if assessments.insert(rule.id.clone(), found).is_some() {
                bail!("{:?} is assessed twice", rule.id);
            }
        }
        let (handlers, changes) = plan
            .changes
            .into_iter()
            .partition(|change| !change.when_changed.is_empty());
        Ok(Self {
            rules: outline.rules,
            changes: in_order(changes)?,
            handlers,
            assessments,
        })
    }

    /// Whether the node is as it should be. Handlers, which wait for changes, do not count.
    ///
    /// ```
    #[doc = include_str!("../enforcement/example.txt")]
    /// # plugin!(|view, plan| if view.file("/etc/motd").is_none() {
    /// #     plan.write_file("motd", "/etc/motd", "Hello\n");
    /// # });
    /// let node = Node::new().file("/etc/motd", "Hello\n");
    /// let planned = Harness::<MyPlugin>::new("{}")?.plan(&node)?;
    /// assert!(planned.is_empty());
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes' ids without handlers, in the order in which they are made.
    ///
    /// ```
    #[doc = include_str!("../enforcement/example.txt")]
    /// # let planned = planned!(Node::new(), |_, plan| {
    /// #     plan.write_file("file", "/etc/app/config", "").after("folder");
    /// #     plan.make_directory("folder", "/etc/app");
    /// # });
    /// assert_eq!(planned.ids(), ["folder", "file"]);
    /// ```
    pub fn ids(&self) -> Vec<&str> {
        self.changes
            .iter()
            .map(|change| change.id.as_str())
            .collect()
    }

    /// Ids of the handlers that these changes set off.
    ///
    /// ```
    #[doc = include_str!("../enforcement/example.txt")]
    /// # let planned = planned!(Node::new(), |_, plan| {
    /// #     plan.change_unit("reload ssh", "ssh.service", UnitChange::Reload).when_changed(["sshd_config"]);
    /// #     plan.change_unit("reload app", "app.service", UnitChange::Reload).when_changed(["config"]);
    /// #     plan.write_file("sshd_config", "/etc/ssh/sshd_config", "");
    /// # });
    /// assert_eq!(planned.handlers(), ["reload ssh"]);
    /// ```
    pub fn handlers(&self) -> Vec<&str> {
        self.set_off().map(|change| change.id.as_str()).collect()
    }

    pub(super) fn set_off(&self) -> impl Iterator<Item = &raw::Change> {
        let made: BTreeSet<&str> = self.ids().into_iter().collect();
        self.handlers.iter().filter(move |each| {
            each.when_changed
                .iter()
                .any(|id| made.contains(id.as_str()))
        })
    }

    /// A change by its id, as the contract has it; handlers too.
    ///
    /// ```
    #[doc = include_str!("../enforcement/example.txt")]
    /// # let planned = planned!(Node::new(), |_, plan| {
    /// #     plan.write_file("token", "/etc/app/token", "s3cret").secret();
    /// # });
    /// assert!(planned.change("token").unwrap().secret);
    /// ```
    pub fn change(&self, id: &str) -> Option<&raw::Change> {
        let mut all = self.changes.iter().chain(&self.handlers);
        all.find(|change| change.id == id)
    }

    pub(super) fn changes(&self) -> &[raw::Change] {
        &self.changes
    }

    /// What became of a rule, by its id.
    ///
    /// ```
    /// use bulkhead_sdk::testing::Verdict;
    #[doc = include_str!("../enforcement/example.txt")]
    /// # let planned = planned!(Node::new(), |outline| {
    /// #     let motd = outline.rule(Rule::new("motd", "Visitors are greeted"));
    /// # }, move |_, plan| plan.fail(motd, "it greets nobody"));
    /// assert_eq!(planned.verdict("motd"), Some(Verdict::Fail));
    /// ```
    pub fn verdict(&self, rule: &str) -> Option<Verdict> {
        self.assessments.get(rule).map(|(verdict, _)| *verdict)
    }

    /// What was said about a rule; empty if nothing was.
    ///
    /// ```
    #[doc = include_str!("../enforcement/example.txt")]
    /// # let planned = planned!(Node::new(), |outline| {
    /// #     let motd = outline.rule(Rule::new("motd", "Visitors are greeted"));
    /// # }, move |_, plan| plan.fail(motd, "it greets nobody"));
    /// assert_eq!(planned.message("motd"), "it greets nobody");
    /// ```
    pub fn message(&self, rule: &str) -> &str {
        self.assessments
            .get(rule)
            .map_or("", |(_, message)| message)
    }

    /// The rules that the plugin stands for, as the contract has them.
    ///
    /// ```
    #[doc = include_str!("../enforcement/example.txt")]
    /// # let planned = planned!(Node::new(), |outline| {
    /// #     outline.rule(Rule::new("motd", "Visitors are greeted"));
    /// # }, |_, _| ());
    /// assert_eq!(planned.rules()[0].id, "motd");
    /// ```
    pub fn rules(&self) -> &[raw::Rule] {
        &self.rules
    }
}

fn check_outline(outline: &raw::Outline) -> Result<()> {
    if outline.rules.len() > 4096 || outline.wants.len() > 8192 {
        bail!("more than 4096 rules or 8192 wants");
    }
    let mut ids = BTreeSet::new();
    for rule in &outline.rules {
        check_text("the id of a rule", &rule.id, 1..=128)?;
        if !ids.insert(&rule.id) {
            bail!("two rules have the id {:?}", rule.id);
        }
        check_text("the title of a rule", &rule.title, 0..=256)?;
        if rule.rationale.len() > 2048 || rule.remediation.len() > 2048 {
            bail!("{:?} explains more than 2 KiB", rule.id);
        }
    }
    Ok(())
}

fn check_text(what: &str, text: &str, length: std::ops::RangeInclusive<usize>) -> Result<()> {
    if !length.contains(&text.len()) || text.contains(char::is_control) {
        bail!("{what}, {text:?}, has not {length:?} bytes without control characters");
    }
    Ok(())
}

fn check_action(change: &raw::Change) -> Result<()> {
    let (path, permissions) = match &change.action {
        raw::Action::WriteFile(write) => (&write.path, Some(&write.permissions)),
        raw::Action::MakeDirectory(make) => (&make.path, Some(&make.permissions)),
        raw::Action::MakeSymlink(make) => (&make.path, None),
        raw::Action::Remove(path) => (path, None),
        _ => return Ok(()),
    };
    let normal = path.strip_prefix('/').is_some_and(|path| {
        let odd = |part: &str| matches!(part, "" | "." | "..");
        !path.split('/').any(odd) && !path.contains('\0')
    });
    if !normal {
        bail!(
            "{:?}: the path {path:?} is not absolute and normal",
            change.id
        );
    }
    if permissions.and_then(|it| it.mode).unwrap_or_default() > 0o7777 {
        bail!("{:?}: no such mode", change.id);
    }
    Ok(())
}

/// Each after what it comes after; otherwise as they came.
fn in_order(mut waiting: Vec<raw::Change>) -> Result<Vec<raw::Change>> {
    let mut pending: BTreeSet<String> = waiting.iter().map(|each| each.id.clone()).collect();
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut later = Vec::new();
        for change in waiting {
            if change.after.iter().any(|id| pending.contains(id)) {
                later.push(change);
            } else {
                pending.remove(&change.id);
                ordered.push(change);
            }
        }
        if later.len() == before {
            let ids: Vec<&str> = later.iter().map(|each| each.id.as_str()).collect();
            bail!("changes wait for each other: {}", ids.join(", "));
        }
        waiting = later;
    }
    Ok(ordered)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::enforcement::{Outline, Plan, Rule, RuleId};

    fn refused(build: impl FnOnce(&mut Outline, &mut Plan)) -> String {
        let (mut outline, mut plan) = (Outline::new(), Plan::default());
        build(&mut outline, &mut plan);
        let plan = plan.finish().unwrap();
        Planned::check(outline.into_parts().0, plan)
            .err()
            .unwrap()
            .to_string()
    }

    #[test]
    fn refuses_what_the_host_would() {
        let cycle = refused(|_, plan| {
            plan.remove("a", "/a").after("b");
            plan.remove("b", "/b").after("a");
            plan.remove("c", "/c");
        });
        assert_eq!(cycle, "changes wait for each other: a, b");
        let lost = refused(|_, plan| {
            plan.remove("a", "/a").rule(RuleId(0));
        });
        assert_eq!(lost, "\"a\" is of a rule that is not there");
        let assessed = refused(|_, plan| plan.pass(RuleId(0), ""));
        assert_eq!(assessed, "an assessment of a rule that is not there");
        let twice = refused(|outline, _| {
            outline.rule(Rule::new("a", ""));
            outline.rule(Rule::new("a", ""));
        });
        assert_eq!(twice, "two rules have the id \"a\"");
        for path in ["a", "/a/", "/a/../b", "//a", "/"] {
            let odd = refused(|_, plan| {
                plan.remove("a", path);
            });
            assert!(odd.ends_with("is not absolute and normal"), "{path}: {odd}");
        }
        let mode = refused(|_, plan| {
            plan.set_permissions("a", "/a").mode(0o10000);
        });
        assert_eq!(mode, "\"a\": no such mode");
    }
}
