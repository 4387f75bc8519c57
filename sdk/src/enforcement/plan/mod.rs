//! What should be changed, built change by change.

mod change;

use std::collections::HashSet;

pub use change::Change;

use super::outline::RuleId;
use crate::bindings::enforcement::exports::bulkhead::plugin::enforcement as raw;
use crate::error::{Error, Result};

/// What [`Plan::change_module`] does.
///
/// ```
/// use bulkhead_sdk::enforcement::ModuleChange;
#[doc = include_str!("../example.txt")]
/// # let mut node = Node::new().module("br_netfilter", false);
/// # let planned = planned!(node, |_, plan| {
/// plan.change_module("now", "br_netfilter", ModuleChange::Load);
/// plan.change_module("later", "br_netfilter", ModuleChange::LoadAtStart);
/// # });
/// # node.apply(&planned)?;
/// # planned!(node, |outline| { outline.want_module("br_netfilter"); }, |view, _| {
/// #     let module = view.module("br_netfilter").unwrap();
/// #     assert!(module.loaded && module.at_start);
/// # });
/// # bulkhead_sdk::Result::<()>::Ok(())
/// ```
pub use raw::ModuleChange;

/// What [`Plan::change_unit`] does.
///
/// ```
/// use bulkhead_sdk::enforcement::UnitChange;
#[doc = include_str!("../example.txt")]
/// # let mut node = Node::new().unit("telnet.service", "enabled", "active");
/// # let planned = planned!(node, |_, plan| {
/// plan.change_unit("stop", "telnet.service", UnitChange::Stop);
/// plan.change_unit("disable", "telnet.service", UnitChange::Disable);
/// # });
/// # node.apply(&planned)?;
/// # planned!(node, |outline| { outline.want_unit("telnet.service"); }, |view, _| {
/// #     let unit = view.unit("telnet.service").unwrap();
/// #     assert_eq!((unit.active_state.as_str(), unit.file_state.as_str()), ("inactive", "disabled"));
/// # });
/// # bulkhead_sdk::Result::<()>::Ok(())
/// ```
pub use raw::UnitChange;

/// The host cuts nothing: it refuses a plan with a longer text. Texts for people are cut here.
const LONGEST_TEXT: usize = 1024;

/// The changes that a node needs, and what became of each rule.
///
/// Each change has an id, unique in the plan and the same in each plan. What is not said of permissions
/// stays as it is; a new file is root's with mode 0644, a new folder with 0755.
///
/// ```
#[doc = include_str!("../example.txt")]
/// fn configure(plan: &mut Plan) {
///     plan.make_directory("folder", "/etc/app").mode(0o750);
///     plan.write_file("configuration", "/etc/app/config", "fast = true\n").after("folder");
///     plan.change_unit("restart", "app.service", UnitChange::Restart).when_changed(["configuration"]);
/// }
/// # let mut node = Node::new().directory("/etc").unit("app.service", "enabled", "failed");
/// # node.apply(&planned!(node, |_, plan| configure(plan)))?;
/// # assert_eq!(node.done(), ["folder", "configuration", "restart"]);
/// # bulkhead_sdk::Result::<()>::Ok(())
/// ```
#[derive(Debug, Default)]
pub struct Plan {
    changes: Vec<raw::Change>,
    assessments: Vec<raw::Assessment>,
    misuse: Option<Error>,
}

impl Plan {
    /// Writes a file, which need not be there.
    ///
    /// ```
    #[doc = include_str!("../example.txt")]
    /// # let mut node = Node::new().directory("/etc/app");
    /// # let planned = planned!(node, |_, plan| {
    /// plan.write_file("token", "/etc/app/token", "s3cret").mode(0o600).secret();
    /// # });
    /// # node.apply(&planned)?;
    /// # assert_eq!(node.text("/etc/app/token"), Some("s3cret"));
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn write_file(&mut self, id: &str, path: &str, content: impl Into<Vec<u8>>) -> Change<'_> {
        let write = raw::WriteFile {
            path: path.to_owned(),
            content: Some(content.into()),
            permissions: none(),
        };
        self.add(id, raw::Action::WriteFile(write))
    }

    /// Changes who a file belongs to and who may use it. For a folder, use [`Self::make_directory`].
    ///
    /// ```
    #[doc = include_str!("../example.txt")]
    /// # let mut node = Node::new().file("/etc/shadow", "").owner("/etc/shadow", 1000, 42);
    /// # let planned = planned!(node, |_, plan| {
    /// plan.set_permissions("shadow", "/etc/shadow").mode(0o640).uid(0);
    /// # });
    /// # node.apply(&planned)?;
    /// # assert_eq!(node.permissions("/etc/shadow"), Some((0o640, 0, 42)));
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn set_permissions(&mut self, id: &str, path: &str) -> Change<'_> {
        let write = raw::WriteFile {
            path: path.to_owned(),
            content: None,
            permissions: none(),
        };
        self.add(id, raw::Action::WriteFile(write))
    }

    /// Makes a folder, whose parent must be there; one that is there only gets the permissions.
    ///
    /// ```
    #[doc = include_str!("../example.txt")]
    /// # let mut node = Node::new().directory("/var/log");
    /// # let planned = planned!(node, |_, plan| {
    /// plan.make_directory("audit", "/var/log/audit").mode(0o700);
    /// # });
    /// # node.apply(&planned)?;
    /// # assert_eq!(node.permissions("/var/log/audit"), Some((0o700, 0, 0)));
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn make_directory(&mut self, id: &str, path: &str) -> Change<'_> {
        let make = raw::MakeDirectory {
            path: path.to_owned(),
            permissions: none(),
        };
        self.add(id, raw::Action::MakeDirectory(make))
    }

    /// Makes a symbolic link, or has it point elsewhere.
    ///
    /// ```
    #[doc = include_str!("../example.txt")]
    /// # let mut node = Node::new().file("/etc/localtime", "");
    /// # let planned = planned!(node, |_, plan| {
    /// plan.make_symlink("utc", "/etc/localtime", "/usr/share/zoneinfo/Etc/UTC");
    /// # });
    /// # node.apply(&planned)?;
    /// # assert_eq!(node.target("/etc/localtime"), Some("/usr/share/zoneinfo/Etc/UTC"));
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn make_symlink(&mut self, id: &str, path: &str, target: &str) -> Change<'_> {
        let make = raw::MakeSymlink {
            path: path.to_owned(),
            target: target.to_owned(),
        };
        self.add(id, raw::Action::MakeSymlink(make))
    }

    /// Removes a file, a link, or an empty folder.
    ///
    /// ```
    #[doc = include_str!("../example.txt")]
    /// # let mut node = Node::new().file("/etc/cron.d/old", "");
    /// # let planned = planned!(node, |_, plan| {
    /// plan.remove("old", "/etc/cron.d/old");
    /// # });
    /// # node.apply(&planned)?;
    /// # assert_eq!(node.text("/etc/cron.d/old"), None);
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn remove(&mut self, id: &str, path: &str) -> Change<'_> {
        self.add(id, raw::Action::Remove(path.to_owned()))
    }

    /// Sets a kernel setting: now, for the node's next start, or both.
    ///
    /// ```
    #[doc = include_str!("../example.txt")]
    /// # let mut node = Node::new().sysctl("net.ipv4.conf.all.send_redirects", "1");
    /// # let planned = planned!(node, |_, plan| {
    /// plan.set_sysctl("no-redirects", "net.ipv4.conf.all.send_redirects", "0", true, true);
    /// # });
    /// # node.apply(&planned)?;
    /// # assert_eq!(node.setting("net.ipv4.conf.all.send_redirects"), (Some("0"), Some("0")));
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn set_sysctl(
        &mut self,
        id: &str,
        name: &str,
        value: &str,
        now: bool,
        persist: bool,
    ) -> Change<'_> {
        let set = raw::SetSysctl {
            name: name.to_owned(),
            value: value.to_owned(),
            now,
            persist,
        };
        self.add(id, raw::Action::SetSysctl(set))
    }

    /// Loads a kernel module, or sees to it that it is never loaded.
    ///
    /// ```
    #[doc = include_str!("../example.txt")]
    /// # let planned = planned!(Node::new(), |_, plan| {
    /// plan.change_module("no-cramfs", "cramfs", ModuleChange::Blacklist);
    /// # });
    /// assert_eq!(planned.ids(), ["no-cramfs"]);
    /// ```
    pub fn change_module(&mut self, id: &str, name: &str, change: ModuleChange) -> Change<'_> {
        let name = name.to_owned();
        self.add(
            id,
            raw::Action::ChangeModule(raw::ChangeModule { name, change }),
        )
    }

    /// Starts, stops, enables a systemd unit, and so on.
    ///
    /// ```
    #[doc = include_str!("../example.txt")]
    /// # let planned = planned!(Node::new(), |_, plan| {
    /// plan.change_unit("audit", "auditd.service", UnitChange::Enable);
    /// # });
    /// assert_eq!(planned.ids(), ["audit"]);
    /// ```
    pub fn change_unit(&mut self, id: &str, name: &str, change: UnitChange) -> Change<'_> {
        let name = name.to_owned();
        self.add(
            id,
            raw::Action::ChangeUnit(raw::ChangeUnit { name, change }),
        )
    }

    fn add(&mut self, id: &str, action: raw::Action) -> Change<'_> {
        let raw = raw::Change {
            id: id.to_owned(),
            rule: None,
            reason: String::new(),
            action,
            after: Vec::new(),
            when_changed: Vec::new(),
            secret: false,
        };
        let index = self.changes.len();
        self.changes.push(raw);
        Change {
            raw: &mut self.changes[index],
            misuse: &mut self.misuse,
        }
    }

    /// It is as the rule says. Messages are for people, say what was found, and may be empty.
    ///
    /// ```
    #[doc = include_str!("../example.txt")]
    /// fn assess(rule: RuleId, plan: &mut Plan) {
    ///     plan.pass(rule, "mode 0640");
    /// }
    /// # let planned = planned!(Node::new(), |outline| {
    /// #     let rule = outline.rule(Rule::new("shadow", ""));
    /// # }, move |_, plan| assess(rule, plan));
    /// # assert_eq!((planned.verdict("shadow"), planned.message("shadow")), (Some(Verdict::Pass), "mode 0640"));
    /// ```
    pub fn pass(&mut self, rule: RuleId, message: impl AsRef<str>) {
        self.assess(rule, raw::Verdict::Pass, message.as_ref());
    }

    /// It is not as the rule says.
    ///
    /// ```
    #[doc = include_str!("../example.txt")]
    /// fn assess(rule: RuleId, plan: &mut Plan) {
    ///     plan.fail(rule, "mode 0644, and all may read it");
    /// }
    /// # let planned = planned!(Node::new(), |outline| {
    /// #     let rule = outline.rule(Rule::new("shadow", ""));
    /// # }, move |_, plan| assess(rule, plan));
    /// # assert_eq!(planned.verdict("shadow"), Some(Verdict::Fail));
    /// ```
    pub fn fail(&mut self, rule: RuleId, message: impl AsRef<str>) {
        self.assess(rule, raw::Verdict::Fail, message.as_ref());
    }

    /// The rule says nothing about this node.
    ///
    /// ```
    #[doc = include_str!("../example.txt")]
    /// fn assess(rule: RuleId, plan: &mut Plan) {
    ///     plan.not_applicable(rule, "the node has no SSH server");
    /// }
    /// # let planned = planned!(Node::new(), |outline| {
    /// #     let rule = outline.rule(Rule::new("ssh", ""));
    /// # }, move |_, plan| assess(rule, plan));
    /// # assert_eq!(planned.verdict("ssh"), Some(Verdict::NotApplicable));
    /// ```
    pub fn not_applicable(&mut self, rule: RuleId, message: impl AsRef<str>) {
        self.assess(rule, raw::Verdict::NotApplicable, message.as_ref());
    }

    /// It cannot be told whether it is as the rule says, or no change can make it so.
    ///
    /// ```
    #[doc = include_str!("../example.txt")]
    /// fn assess(rule: RuleId, plan: &mut Plan) {
    ///     plan.error(rule, "the node has no user `app`");
    /// }
    /// # let planned = planned!(Node::new(), |outline| {
    /// #     let rule = outline.rule(Rule::new("app", ""));
    /// # }, move |_, plan| assess(rule, plan));
    /// # assert_eq!(planned.verdict("app"), Some(Verdict::Error));
    /// ```
    pub fn error(&mut self, rule: RuleId, message: impl AsRef<str>) {
        self.assess(rule, raw::Verdict::Error, message.as_ref());
    }

    fn assess(&mut self, rule: RuleId, verdict: raw::Verdict, message: &str) {
        self.assessments.push(raw::Assessment {
            rule: rule.0,
            verdict,
            message: cut(message),
        });
    }

    /// What was built, if no promise is broken that shows here: better an error than an instance that
    /// the host throws away.
    pub(crate) fn finish(self) -> Result<raw::Proposal> {
        let Self {
            changes,
            assessments,
            misuse,
        } = self;
        if let Some(misuse) = misuse {
            return Err(misuse);
        }
        let mut ids = HashSet::with_capacity(changes.len());
        for change in &changes {
            let id = change.id.as_str();
            if !(1..=256).contains(&id.len()) || id.contains(char::is_control) {
                crate::bail!(
                    "the change's id {id:?} is not 1 to 256 bytes without control characters"
                );
            }
            if !ids.insert(id) {
                crate::bail!("two changes have the id {id:?}");
            }
        }
        for change in &changes {
            if let Some(lost) = change.after.iter().find(|id| !ids.contains(id.as_str())) {
                crate::bail!("{:?} comes after {lost:?}, which the plan lacks", change.id);
            }
        }
        let mut rules = HashSet::with_capacity(assessments.len());
        if let Some(twice) = assessments.iter().find(|each| !rules.insert(each.rule)) {
            crate::bail!("the rule {} is assessed twice", twice.rule);
        }
        Ok(raw::Proposal {
            changes,
            assessments,
        })
    }
}

fn none() -> raw::Permissions {
    raw::Permissions {
        mode: None,
        uid: None,
        gid: None,
    }
}

fn cut(text: &str) -> String {
    const MARK: &str = "...";
    if text.len() <= LONGEST_TEXT {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(LONGEST_TEXT - MARK.len());
    format!("{}{MARK}", &text[..end])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn refused(build: impl FnOnce(&mut Plan)) -> String {
        let mut plan = Plan::default();
        build(&mut plan);
        plan.finish().err().unwrap().to_string()
    }

    #[test]
    fn refuses_what_the_host_would() {
        let twice = refused(|plan| {
            plan.remove("a", "/a");
            plan.remove("a", "/b");
        });
        assert_eq!(twice, "two changes have the id \"a\"");
        let lost = refused(|plan| {
            plan.remove("a", "/a").after("b");
        });
        assert_eq!(lost, "\"a\" comes after \"b\", which the plan lacks");
        let assessed = refused(|plan| {
            plan.pass(RuleId(3), "");
            plan.fail(RuleId(3), "");
        });
        assert_eq!(assessed, "the rule 3 is assessed twice");
        for id in ["", "a\n", &"a".repeat(257)] {
            let odd = refused(|plan| {
                plan.remove(id, "/a");
            });
            assert!(odd.contains("is not 1 to 256 bytes"), "{odd}");
        }
    }

    #[test]
    fn only_files_and_folders_have_permissions() {
        let misuse = refused(|plan| {
            plan.remove("a", "/a").mode(0o600);
        });
        assert_eq!(
            misuse,
            "\"a\" has permissions, but is about no file and no folder"
        );
    }

    #[test]
    fn cuts_texts_between_characters() {
        let mut plan = Plan::default();
        plan.remove("a", "/a").because("ä".repeat(600));
        let raw = plan.finish().unwrap();
        let reason = &raw.changes[0].reason;
        assert!(
            reason.len() <= LONGEST_TEXT && reason.ends_with("ä..."),
            "{reason}"
        );
    }
}
