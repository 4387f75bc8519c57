//! What a plugin stands for, and what it wants to see.

use std::collections::HashMap;

use crate::bindings::enforcement::exports::bulkhead::plugin::enforcement as raw;

/// How much a broken rule matters.
///
/// ```
/// use bulkhead_sdk::enforcement::Severity;
/// assert!(Severity::Critical > Severity::Info);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Not much.
    Low,
    /// Somewhat.
    #[default]
    Medium,
    /// A lot.
    High,
    /// More than anything else.
    Critical,
}

/// One thing that should be so.
///
/// ```
/// use bulkhead_sdk::enforcement::{Rule, Severity};
#[doc = include_str!("example.txt")]
/// # let planned = planned!(Node::new(), |outline| { outline.rule(
/// Rule::new("ssh-no-root-login", "root cannot log in through SSH")
///     .severity(Severity::High)
///     .rationale("An account that everybody knows is tried first.")
///     .remediation("Set PermitRootLogin to no in /etc/ssh/sshd_config.")
/// # ); }, |_, _| ());
/// # assert_eq!(planned.rules()[0].id, "ssh-no-root-login");
/// ```
#[derive(Debug, Clone)]
pub struct Rule {
    raw: raw::Rule,
}

impl Rule {
    /// A rule of medium severity. The id is unique in the plugin, and stays from one version to the
    /// next; the title says what should be so.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let planned = planned!(Node::new(), |outline| { outline.rule(
    /// Rule::new("motd", "Visitors are greeted")
    /// # ); }, |_, _| ());
    /// # assert_eq!(planned.rules()[0].title, "Visitors are greeted");
    /// ```
    pub fn new(id: &str, title: &str) -> Self {
        Self {
            raw: raw::Rule {
                id: id.to_owned(),
                title: title.to_owned(),
                severity: raw::Severity::Medium,
                rationale: String::new(),
                remediation: String::new(),
            },
        }
    }

    /// Says how much it matters.
    ///
    /// ```
    /// use bulkhead_sdk::enforcement::{Rule, Severity};
    #[doc = include_str!("example.txt")]
    /// # let planned = planned!(Node::new(), |outline| { outline.rule(
    /// Rule::new("motd", "Visitors are greeted").severity(Severity::Info)
    /// # ); }, |_, _| ());
    /// # assert_eq!(format!("{:?}", planned.rules()[0].severity), "Severity::Info");
    /// ```
    #[must_use]
    pub fn severity(mut self, severity: Severity) -> Self {
        self.raw.severity = match severity {
            Severity::Info => raw::Severity::Info,
            Severity::Low => raw::Severity::Low,
            Severity::Medium => raw::Severity::Medium,
            Severity::High => raw::Severity::High,
            Severity::Critical => raw::Severity::Critical,
        };
        self
    }

    /// Says why it should be so.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let planned = planned!(Node::new(), |outline| { outline.rule(
    /// Rule::new("motd", "Visitors are greeted").rationale("It is polite.")
    /// # ); }, |_, _| ());
    /// # assert_eq!(planned.rules()[0].rationale, "It is polite.");
    /// ```
    #[must_use]
    pub fn rationale(mut self, why: &str) -> Self {
        why.clone_into(&mut self.raw.rationale);
        self
    }

    /// Says how to mend it by hand.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let planned = planned!(Node::new(), |outline| { outline.rule(
    /// Rule::new("motd", "Visitors are greeted").remediation("Write a greeting to /etc/motd.")
    /// # ); }, |_, _| ());
    /// # assert_eq!(planned.rules()[0].remediation, "Write a greeting to /etc/motd.");
    /// ```
    #[must_use]
    pub fn remediation(mut self, how: &str) -> Self {
        how.clone_into(&mut self.raw.remediation);
        self
    }
}

/// A rule of an [`Outline`]: what plans and assessments name it by.
///
/// ```
/// use bulkhead_sdk::enforcement::{Outline, Rule};
/// let mut outline = Outline::new();
/// let first = outline.rule(Rule::new("a", "A"));
/// assert_ne!(outline.rule(Rule::new("b", "B")), first);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub(crate) u32);

/// Files that an [`Outline`] wants: what [`View::files`](super::View::files) finds them by.
///
/// ```
/// let mut outline = bulkhead_sdk::Outline::new();
/// let scripts = outline.want_entry("/etc/cron.d/*");
/// assert_ne!(outline.want_file("/etc/crontab"), scripts);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WantId(pub(crate) u32);

/// Which of an outline's wants a name is.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) files: HashMap<String, u32>,
    pub(crate) sysctls: HashMap<String, u32>,
    pub(crate) modules: HashMap<String, u32>,
    pub(crate) units: HashMap<String, u32>,
}

/// What a plugin is about. Wanting something twice is wanting it once.
///
/// ```
/// use bulkhead_sdk::enforcement::{Outline, Rule};
#[doc = include_str!("example.txt")]
/// # let node = Node::new().sysctl("net.ipv4.ip_forward", "1");
/// # let planned = planned!(node, |shown| {
/// let mut outline = Outline::new();
/// let rule = outline.rule(Rule::new("forwarding", "The node forwards packets"));
/// outline.want_sysctl("net.ipv4.ip_forward");
/// # shown = outline; }, move |view, plan| {
/// #     assert!(view.sysctl("net.ipv4.ip_forward").is_some());
/// #     plan.pass(rule, "");
/// # });
/// # assert_eq!(planned.verdict("forwarding"), Some(Verdict::Pass));
/// ```
#[derive(Debug, Default)]
pub struct Outline {
    rules: Vec<raw::Rule>,
    wants: Vec<raw::Want>,
    names: Names,
}

impl Outline {
    /// An outline without rules and wants.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let planned = planned!(Node::new(), |outline| { outline =
    /// Outline::new()
    /// # ; }, |view, _| assert!(view.file("/etc/motd").is_none()));
    /// # assert!(planned.rules().is_empty());
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule.
    ///
    /// ```
    /// use bulkhead_sdk::enforcement::{Outline, Rule};
    /// let mut outline = Outline::new();
    /// let greeted = outline.rule(Rule::new("motd", "Visitors are greeted"));
    /// let patched = outline.rule(Rule::new("patched", "The node is up to date"));
    /// assert!(greeted < patched);
    /// ```
    pub fn rule(&mut self, rule: Rule) -> RuleId {
        self.rules.push(rule.raw);
        RuleId(self.rules.len() as u32 - 1)
    }

    /// Wants files with their content, at most 4 MiB each. Named by a path, whose components may hold
    /// `*`, `?` and `[...]`; a component `**` stands for up to eight folders.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let node = Node::new().file("/etc/ssh/sshd_config", "Port 22\n").file("/etc/sudoers.d/app", "");
    /// # planned!(node, |outline| {
    /// outline.want_file("/etc/ssh/sshd_config");
    /// let sudoers = outline.want_file("/etc/sudoers.d/*");
    /// # }, move |view, _| {
    /// #     assert_eq!(view.file("/etc/ssh/sshd_config").unwrap().text(), Some("Port 22\n"));
    /// #     assert_eq!(view.files(sudoers).next().unwrap().path(), "/etc/sudoers.d/app");
    /// # });
    /// ```
    pub fn want_file(&mut self, glob: &str) -> WantId {
        self.file(glob, true)
    }

    /// Wants to know what files, folders or links are, but not what is in them.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # planned!(Node::new().file("/etc/cron.d/job", "* * * * * root id\n"), |outline| {
    /// let jobs = outline.want_entry("/etc/cron.d/*");
    /// # }, move |view, _| {
    /// #     let job = view.files(jobs).next().unwrap();
    /// #     assert_eq!((job.path(), job.content()), ("/etc/cron.d/job", b"".as_slice()));
    /// # });
    /// ```
    pub fn want_entry(&mut self, glob: &str) -> WantId {
        self.file(glob, false)
    }

    fn file(&mut self, glob: &str, content: bool) -> WantId {
        if let Some(known) = self.names.files.get(glob) {
            if let Some(raw::Want::File(file)) = self.wants.get_mut(*known as usize) {
                file.content |= content;
            }
            return WantId(*known);
        }
        let glob = glob.to_owned();
        let id = self.wants.len() as u32;
        self.names.files.insert(glob.clone(), id);
        let want = raw::FileWant { glob, content };
        self.wants.push(raw::Want::File(want));
        WantId(id)
    }

    /// Wants a kernel setting.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # planned!(Node::new().sysctl("net.ipv4.ip_forward", "1"), |outline| {
    /// outline.want_sysctl("net.ipv4.ip_forward");
    /// # }, |view, _| assert!(view.sysctl("net.ipv4.ip_forward").is_some()));
    /// ```
    pub fn want_sysctl(&mut self, name: &str) {
        add(
            &mut self.wants,
            &mut self.names.sysctls,
            name,
            raw::Want::Sysctl,
        );
    }

    /// Wants to know of a kernel module.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # planned!(Node::new().module("br_netfilter", true), |outline| {
    /// outline.want_module("br_netfilter");
    /// # }, |view, _| assert!(view.module("br_netfilter").unwrap().loaded));
    /// ```
    pub fn want_module(&mut self, name: &str) {
        let want = raw::Want::KernelModule;
        add(&mut self.wants, &mut self.names.modules, name, want);
    }

    /// Wants to know of a systemd unit, by its full name.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # planned!(Node::new().unit("ssh.service", "enabled", "active"), |outline| {
    /// outline.want_unit("ssh.service");
    /// # }, |view, _| assert_eq!(view.unit("ssh.service").unwrap().file_state, "enabled"));
    /// ```
    pub fn want_unit(&mut self, name: &str) {
        add(
            &mut self.wants,
            &mut self.names.units,
            name,
            raw::Want::Unit,
        );
    }

    pub(crate) fn into_parts(self) -> (raw::Outline, Names) {
        let Self {
            rules,
            wants,
            names,
        } = self;
        (raw::Outline { rules, wants }, names)
    }
}

fn add(
    wants: &mut Vec<raw::Want>,
    names: &mut HashMap<String, u32>,
    name: &str,
    want: fn(String) -> raw::Want,
) {
    if !names.contains_key(name) {
        names.insert(name.to_owned(), wants.len() as u32);
        wants.push(want(name.to_owned()));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn wants_the_same_once_and_with_content_if_anybody_does() {
        let mut outline = Outline::new();
        let first = outline.want_entry("/a");
        outline.want_sysctl("a");
        outline.want_sysctl("a");
        assert_eq!(outline.want_file("/a"), first);
        assert_eq!(outline.want_entry("/a"), first);
        let (raw, names) = outline.into_parts();
        assert_eq!(raw.wants.len(), 2);
        assert!(matches!(&raw.wants[0], raw::Want::File(file) if file.content));
        assert_eq!((names.files["/a"], names.sysctls["a"]), (0, 1));
    }
}
