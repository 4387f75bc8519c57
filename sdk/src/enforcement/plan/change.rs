//! More about one change.

use super::cut;
use crate::bindings::enforcement::exports::bulkhead::plugin::enforcement as raw;
use crate::enforcement::RuleId;
use crate::error::Error;

/// A change of a [`Plan`](super::Plan), to say more about it.
///
/// ```
#[doc = include_str!("../example.txt")]
/// # let mut node = Node::new().file("/etc/motd", "");
/// # let planned = planned!(node, |_, plan| {
/// plan.write_file("motd", "/etc/motd", "Hello\n").because("it greets nobody").mode(0o644);
/// # });
/// assert_eq!(planned.change("motd").unwrap().reason, "it greets nobody");
/// # node.apply(&planned)?;
/// # assert_eq!(node.text("/etc/motd"), Some("Hello\n"));
/// # bulkhead_sdk::Result::<()>::Ok(())
/// ```
#[derive(Debug)]
pub struct Change<'a> {
    pub(super) raw: &'a mut raw::Change,
    pub(super) misuse: &'a mut Option<Error>,
}

impl Change<'_> {
    /// The rule that is broken without it.
    ///
    /// ```
    #[doc = include_str!("../example.txt")]
    /// fn greet(rule: RuleId, plan: &mut Plan) {
    ///     plan.write_file("motd", "/etc/motd", "Hello\n").rule(rule);
    /// }
    /// # let planned = planned!(Node::new(), |outline| {
    /// #     outline.rule(Rule::new("other", ""));
    /// #     let rule = outline.rule(Rule::new("motd", "Visitors are greeted"));
    /// # }, move |_, plan| greet(rule, plan));
    /// # assert_eq!(planned.change("motd").unwrap().rule, Some(1));
    /// ```
    pub fn rule(self, rule: RuleId) -> Self {
        self.raw.rule = Some(rule.0);
        self
    }

    /// Why, for people.
    ///
    /// ```
    #[doc = include_str!("../example.txt")]
    /// # let planned = planned!(Node::new(), |_, plan| {
    /// plan.remove("old", "/etc/cron.d/old").because("nobody needs it");
    /// # });
    /// assert_eq!(planned.change("old").unwrap().reason, "nobody needs it");
    /// ```
    pub fn because(self, reason: impl AsRef<str>) -> Self {
        self.raw.reason = cut(reason.as_ref());
        self
    }

    /// The permission bits of a file or folder.
    ///
    /// ```
    #[doc = include_str!("../example.txt")]
    /// # let mut node = Node::new().file("/etc/shadow", "");
    /// # let planned = planned!(node, |_, plan| {
    /// plan.set_permissions("shadow", "/etc/shadow").mode(0o640);
    /// # });
    /// # node.apply(&planned)?;
    /// # assert_eq!(node.permissions("/etc/shadow"), Some((0o640, 0, 0)));
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn mode(mut self, mode: u32) -> Self {
        if let Some(permissions) = self.permissions() {
            permissions.mode = Some(mode);
        }
        self
    }

    /// Whose the file or folder is.
    ///
    /// ```
    #[doc = include_str!("../example.txt")]
    /// # let mut node = Node::new().file("/etc/shadow", "").owner("/etc/shadow", 1000, 42);
    /// # let planned = planned!(node, |_, plan| {
    /// plan.set_permissions("shadow", "/etc/shadow").uid(0);
    /// # });
    /// # node.apply(&planned)?;
    /// # assert_eq!(node.permissions("/etc/shadow"), Some((0o644, 0, 42)));
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn uid(mut self, uid: u32) -> Self {
        if let Some(permissions) = self.permissions() {
            permissions.uid = Some(uid);
        }
        self
    }

    /// The group of the file or folder.
    ///
    /// ```
    #[doc = include_str!("../example.txt")]
    /// # let mut node = Node::new().file("/etc/shadow", "");
    /// # let planned = planned!(node, |_, plan| {
    /// plan.set_permissions("shadow", "/etc/shadow").gid(42);
    /// # });
    /// # node.apply(&planned)?;
    /// # assert_eq!(node.permissions("/etc/shadow"), Some((0o644, 0, 42)));
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn gid(mut self, gid: u32) -> Self {
        if let Some(permissions) = self.permissions() {
            permissions.gid = Some(gid);
        }
        self
    }

    fn permissions(&mut self) -> Option<&mut raw::Permissions> {
        match &mut self.raw.action {
            raw::Action::WriteFile(write) => Some(&mut write.permissions),
            raw::Action::MakeDirectory(make) => Some(&mut make.permissions),
            _ => {
                let id = &self.raw.id;
                let misuse = format!("{id:?} has permissions, but is about no file and no folder");
                *self.misuse = Some(Error::new(misuse));
                None
            }
        }
    }

    /// A change of the same plan that must have been made before. If it fails, this one is not tried.
    ///
    /// ```
    #[doc = include_str!("../example.txt")]
    /// # let planned = planned!(Node::new(), |_, plan| {
    /// plan.write_file("file", "/etc/app/config", "").after("folder");
    /// plan.make_directory("folder", "/etc/app");
    /// # });
    /// assert_eq!(planned.ids(), ["folder", "file"]);
    /// ```
    pub fn after(self, id: impl Into<String>) -> Self {
        self.raw.after.push(id.into());
        self
    }

    /// Makes it a handler: it is done once, after all others, if one of these was made. Have it in
    /// each plan, whether or not these are, so that it is done even if the daemon ends in between.
    ///
    /// ```
    #[doc = include_str!("../example.txt")]
    /// # let planned = planned!(Node::new(), |_, plan| {
    /// plan.write_file("sshd_config", "/etc/ssh/sshd_config", "PermitRootLogin no\n");
    /// plan.change_unit("reload", "ssh.service", UnitChange::Reload).when_changed(["sshd_config"]);
    /// # });
    /// assert_eq!(planned.handlers(), ["reload"]);
    /// ```
    pub fn when_changed<T: Into<String>>(self, ids: impl IntoIterator<Item = T>) -> Self {
        self.raw
            .when_changed
            .extend(ids.into_iter().map(Into::into));
        self
    }

    /// The content is nobody's business: it is not shown, nor how it differs.
    ///
    /// ```
    #[doc = include_str!("../example.txt")]
    /// # let planned = planned!(Node::new(), |_, plan| {
    /// plan.write_file("token", "/etc/app/token", "s3cret").secret();
    /// # });
    /// assert!(planned.change("token").unwrap().secret);
    /// ```
    pub fn secret(self) -> Self {
        self.raw.secret = true;
        self
    }
}
