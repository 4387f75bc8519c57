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
/// Rule::new("ssh-no-root-login", "root cannot log in through SSH")
///     .severity(Severity::High)
///     .rationale("An account that everybody knows is tried first.")
///     .remediation("Set PermitRootLogin to no in /etc/ssh/sshd_config.");
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
    /// bulkhead_sdk::enforcement::Rule::new("motd", "Visitors are greeted");
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
    /// Rule::new("motd", "Visitors are greeted").severity(Severity::Info);
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
    /// # use bulkhead_sdk::enforcement::Rule;
    /// Rule::new("motd", "Visitors are greeted").rationale("It is polite.");
    /// ```
    #[must_use]
    pub fn rationale(mut self, why: &str) -> Self {
        why.clone_into(&mut self.raw.rationale);
        self
    }

    /// Says how to mend it by hand.
    ///
    /// ```
    /// # use bulkhead_sdk::enforcement::Rule;
    /// Rule::new("motd", "Visitors are greeted").remediation("Write a greeting to /etc/motd.");
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
/// let mut outline = Outline::new();
/// let rule = outline.rule(Rule::new("forwarding", "The node forwards packets"));
/// outline.want_sysctl("net.ipv4.ip_forward");
/// # let _ = rule;
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
    /// bulkhead_sdk::Outline::new();
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule.
    ///
    /// ```
    /// use bulkhead_sdk::enforcement::{Outline, Rule};
    /// let rule = Outline::new().rule(Rule::new("motd", "Visitors are greeted"));
    /// # let _ = rule;
    /// ```
    pub fn rule(&mut self, rule: Rule) -> RuleId {
        self.rules.push(rule.raw);
        RuleId(self.rules.len() as u32 - 1)
    }

    /// Wants files with their content, at most 4 MiB each. Named by a path, whose components may hold
    /// `*`, `?` and `[...]`; a component `**` stands for up to eight folders.
    ///
    /// ```
    /// let mut outline = bulkhead_sdk::Outline::new();
    /// outline.want_file("/etc/ssh/sshd_config");
    /// outline.want_file("/etc/sudoers.d/*");
    /// ```
    pub fn want_file(&mut self, glob: &str) -> WantId {
        self.file(glob, true)
    }

    /// Wants to know what files, folders or links are, but not what is in them.
    ///
    /// ```
    /// bulkhead_sdk::Outline::new().want_entry("/etc/cron.d/*");
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
    /// bulkhead_sdk::Outline::new().want_sysctl("net.ipv4.ip_forward");
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
    /// bulkhead_sdk::Outline::new().want_module("br_netfilter");
    /// ```
    pub fn want_module(&mut self, name: &str) {
        let want = raw::Want::KernelModule;
        add(&mut self.wants, &mut self.names.modules, name, want);
    }

    /// Wants to know of a systemd unit, by its full name.
    ///
    /// ```
    /// bulkhead_sdk::Outline::new().want_unit("ssh.service");
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
