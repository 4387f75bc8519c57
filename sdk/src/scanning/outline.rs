//! What a plugin stands for, and what it wants to see.

use std::collections::HashMap;

use super::Severity;
use super::batch::Digests;
use crate::bindings::scanning::exports::bulkhead::plugin::scanning as raw;
use crate::error::Result;

/// What a finding may be about.
///
/// ```
/// use bulkhead_sdk::scanning::{Rule, Severity};
#[doc = include_str!("example.txt")]
/// # assessed!(Node::new(), |outline| { outline.rule(
/// Rule::new("empty-password", "A user has an empty password")
///     .severity(Severity::Critical)
///     .rationale("Whoever knows the name can log in.")
///     .remediation("Lock the account with `passwd -l NAME`.")
///     .reference("https://attack.mitre.org/techniques/T1078/")
/// # ); }, |_, _| ());
/// ```
#[derive(Debug, Clone)]
pub struct Rule {
    raw: raw::Rule,
}

impl Rule {
    /// A rule of medium severity. The id is unique in the plugin, and stays from one version to the
    /// next; the title says what was found if the rule matches.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # assessed!(Node::new(), |outline| { outline.rule(
    /// Rule::new("miner", "A file is a miner")
    /// # ); }, |_, _| ());
    /// ```
    pub fn new(id: &str, title: &str) -> Self {
        Self {
            raw: raw::Rule {
                id: id.to_owned(),
                title: title.to_owned(),
                severity: raw::Severity::Medium,
                rationale: String::new(),
                remediation: String::new(),
                references: Vec::new(),
            },
        }
    }

    /// Says how much it matters, unless a finding says otherwise.
    ///
    /// ```
    /// use bulkhead_sdk::scanning::{Rule, Severity};
    #[doc = include_str!("example.txt")]
    /// # let found = assessed!(Node::new(), |outline| { outline.rule(
    /// Rule::new("miner", "A file is a miner").severity(Severity::High)
    /// # ); }, |_, out| _ = out.path("/tmp/x", "miner"));
    /// # assert_eq!(found.all()[0].severity, Severity::High);
    /// ```
    #[must_use]
    pub fn severity(mut self, severity: Severity) -> Self {
        self.raw.severity = severity.into();
        self
    }

    /// Says why it matters.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # assessed!(Node::new(), |outline| { outline.rule(
    /// Rule::new("miner", "A file is a miner").rationale("Somebody else uses the node.")
    /// # ); }, |_, _| ());
    /// ```
    #[must_use]
    pub fn rationale(mut self, why: &str) -> Self {
        why.clone_into(&mut self.raw.rationale);
        self
    }

    /// Says what to do.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # assessed!(Node::new(), |outline| { outline.rule(
    /// Rule::new("miner", "A file is a miner").remediation("Rebuild the node.")
    /// # ); }, |_, _| ());
    /// ```
    #[must_use]
    pub fn remediation(mut self, how: &str) -> Self {
        how.clone_into(&mut self.raw.remediation);
        self
    }

    /// Adds an address to read more at; there may be eight.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # assessed!(Node::new(), |outline| { outline.rule(
    /// Rule::new("miner", "A file is a miner").reference("https://attack.mitre.org/techniques/T1496/")
    /// # ); }, |_, _| ());
    /// ```
    #[must_use]
    pub fn reference(mut self, address: &str) -> Self {
        self.raw.references.push(address.to_owned());
        self
    }
}

/// What a plugin wants to know of files. Which files there are is the manifest's business.
///
/// ```
#[doc = include_str!("example.txt")]
/// # let node = Node::new().file("/a", "123").digest("/a", "blake3", [7; 32]);
/// # scanned!(node, |outline| {
/// let programs = FileInterest::content(32 << 20).sha256();
/// let all = FileInterest::entries().blake3().attributes().others();
/// # outline.files(programs); outline.files(all); }, |batch, _| {
/// #     let file = batch.files().next().unwrap();
/// #     assert_eq!((file.blake3(), file.sha256(), file.whole()), (Some(&[7; 32]), None, None));
/// # });
/// ```
#[derive(Debug, Clone, Copy)]
pub struct FileInterest {
    raw: raw::FileInterest,
}

impl FileInterest {
    /// Their bytes, at most so many of each.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # scanned!(Node::new().file("/a", "123"), |outline| { outline.files(
    /// FileInterest::content(1 << 20)
    /// # ); }, |batch, _| assert_eq!(batch.files().next().unwrap().whole(), Some(b"123".as_slice())));
    /// ```
    pub fn content(longest: u64) -> Self {
        let raw = raw::FileInterest {
            content: longest,
            sha256: false,
            sha1: false,
            md5: false,
            blake3: false,
            attributes: false,
            others: false,
        };
        Self { raw }
    }

    /// Not their bytes, only what is known of them.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # scanned!(Node::new().file("/a", "123"), |outline| { outline.files(
    /// FileInterest::entries().sha256()
    /// # ); }, |batch, _| assert_eq!(batch.files().next().unwrap().pieces().len(), 0));
    /// ```
    pub fn entries() -> Self {
        Self::content(0)
    }

    /// The SHA-256 of the whole file, whatever its length.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # scanned!(Node::new().file("/a", "123"), |outline| { outline.files(
    /// FileInterest::entries().sha256()
    /// # ); }, |batch, _| assert!(batch.files().next().unwrap().sha256().is_some()));
    /// ```
    #[must_use]
    pub fn sha256(mut self) -> Self {
        self.raw.sha256 = true;
        self
    }

    /// Its SHA-1, which lists of old still have.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # scanned!(Node::new().file("/a", "123").digest("/a", "sha1", [7; 20]), |outline| { outline.files(
    /// FileInterest::entries().sha1()
    /// # ); }, |batch, _| assert_eq!(batch.files().next().unwrap().sha1(), Some(&[7; 20])));
    /// ```
    #[must_use]
    pub fn sha1(mut self) -> Self {
        self.raw.sha1 = true;
        self
    }

    /// Its MD5, which lists of old still have.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # scanned!(Node::new().file("/a", "123").digest("/a", "md5", [7; 16]), |outline| { outline.files(
    /// FileInterest::entries().md5()
    /// # ); }, |batch, _| assert_eq!(batch.files().next().unwrap().md5(), Some(&[7; 16])));
    /// ```
    #[must_use]
    pub fn md5(mut self) -> Self {
        self.raw.md5 = true;
        self
    }

    /// Its BLAKE3, the fastest of them.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # scanned!(Node::new().file("/a", "123").digest("/a", "blake3", [7; 32]), |outline| { outline.files(
    /// FileInterest::entries().blake3()
    /// # ); }, |batch, _| assert_eq!(batch.files().next().unwrap().blake3(), Some(&[7; 32])));
    /// ```
    #[must_use]
    pub fn blake3(mut self) -> Self {
        self.raw.blake3 = true;
        self
    }

    /// Extended attributes, file capabilities among them.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # scanned!(Node::new().file("/a", "123").attribute("/a", "user.a", ""), |outline| { outline.files(
    /// FileInterest::entries().attributes()
    /// # ); }, |batch, _| assert_eq!(batch.files().next().unwrap().attributes().count(), 1));
    /// ```
    #[must_use]
    pub fn attributes(mut self) -> Self {
        self.raw.attributes = true;
        self
    }

    /// Also folders, links and special files, by what they are.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # scanned!(Node::new().directory("/a"), |outline| { outline.files(
    /// FileInterest::entries().others()
    /// # ); }, |batch, _| assert_eq!(batch.files().next().unwrap().kind(), FileKind::Directory));
    /// ```
    #[must_use]
    pub fn others(mut self) -> Self {
        self.raw.others = true;
        self
    }
}

/// Files that an [`Outline`] wants: what [`View::files`](super::View::files) finds them by.
///
/// ```
/// let mut outline = bulkhead_sdk::scanning::Outline::new();
/// let flags = outline.want_file("/etc/kubernetes/*.conf");
/// assert_ne!(outline.want_entry("/run/*.sock"), flags);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WantId(pub(crate) u32);

/// What answers and views need to know of the outline.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) severities: HashMap<String, raw::Severity>,
    pub(crate) digests: Digests,
    pub(crate) files: HashMap<String, u32>,
}

/// What a plugin is about. Wanting something twice is wanting it once.
///
/// ```
#[doc = include_str!("example.txt")]
/// # let node = Node::new().file("/a", "").process(1, "/sbin/init");
/// # plugin!(|shown| {
/// let mut outline = Outline::new();
/// outline.rule(Rule::new("miner", "A file is a miner"));
/// outline.files(FileInterest::content(1 << 20));
/// outline.rule_set("what decides about a file: the rules' texts, the configuration");
/// outline.want_processes();
/// # shown = outline; }, |batch, _| assert_eq!(batch.len(), 1), |view, _| assert_eq!(view.processes().len(), 1));
/// # let mut plugin = Harness::<MyPlugin>::new("{}")?;
/// # assert!(plugin.scan(&node)?.is_empty() && plugin.assess(&node)?.is_empty());
/// # bulkhead_sdk::Result::<()>::Ok(())
/// ```
#[derive(Debug, Default)]
pub struct Outline {
    rules: Vec<raw::Rule>,
    files: Option<raw::FileInterest>,
    wants: Vec<raw::Want>,
    want_files: HashMap<String, u32>,
    rule_set: Option<u128>,
}

impl Outline {
    /// An outline without rules and wants.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let node = Node::new().process(1, "/sbin/init");
    /// # assessed!(node, |outline| { outline =
    /// Outline::new()
    /// # ; }, |view, _| assert!(view.processes().is_empty()));
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule. Findings may also be about rules that are not listed, such as those that the
    /// configuration brings; for these, findings say how severe they are.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let found = assessed!(Node::new(), |outline| {
    /// outline.rule(Rule::new("miner", "A file is a miner").severity(Severity::High));
    /// # }, |_, out| _ = out.path("/tmp/x", "miner"));
    /// # assert_eq!(found.all()[0].severity, Severity::High);
    /// ```
    pub fn rule(&mut self, rule: Rule) {
        self.rules.push(rule.raw);
    }

    /// Wants to judge files.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # scanned!(Node::new().file("/a", ""), |outline| {
    /// outline.files(FileInterest::entries().sha256());
    /// # }, |batch, _| assert_eq!(batch.len(), 1));
    /// ```
    pub fn files(&mut self, interest: FileInterest) {
        self.files = Some(interest.raw);
    }

    /// Adds to what decides about a file, of any length: the rules' texts, the configuration, the
    /// plugin's version. As long as all of it stays the same, a file that has not changed is not passed
    /// again. Needed by plugins that judge files.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # scanned!(Node::new().file("/a", ""), |outline| {
    /// # let (rules, version) = ("rule eicar { ... }", "1.2.0");
    /// outline.files(FileInterest::content(1 << 20));
    /// outline.rule_set(rules);
    /// outline.rule_set(version);
    /// # }, |batch, _| assert_eq!(batch.len(), 1));
    /// ```
    pub fn rule_set(&mut self, part: impl AsRef<[u8]>) {
        // FNV-1a of 128 bits: nobody gains by two sets of rules of one digest but who writes both.
        const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        let part = part.as_ref();
        let mut digest = self.rule_set.unwrap_or(BASIS);
        for &byte in (part.len() as u64).to_le_bytes().iter().chain(part) {
            digest = (digest ^ u128::from(byte)).wrapping_mul(PRIME);
        }
        self.rule_set = Some(digest);
    }

    /// Wants to see the processes.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # assessed!(Node::new().process(1, "/sbin/init"), |outline| {
    /// outline.want_processes();
    /// # }, |view, _| assert_eq!(view.processes()[0].name, "init"));
    /// ```
    pub fn want_processes(&mut self) {
        self.want(raw::Want::Processes);
    }

    /// Wants to see the open sockets.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # assessed!(Node::new().listener("tcp", "0.0.0.0", 22, None), |outline| {
    /// outline.want_sockets();
    /// # }, |view, _| assert_eq!(view.sockets()[0].port, 22));
    /// ```
    pub fn want_sockets(&mut self) {
        self.want(raw::Want::Sockets);
    }

    /// Wants to see the users.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # assessed!(Node::new(), |outline| {
    /// outline.want_users();
    /// # }, |view, _| assert_eq!(view.users()[0].name, "root"));
    /// ```
    pub fn want_users(&mut self) {
        self.want(raw::Want::Users);
    }

    /// Wants to see the kernel's modules.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # assessed!(Node::new().module("br_netfilter", true), |outline| {
    /// outline.want_kernel_modules();
    /// # }, |view, _| assert_eq!(view.kernel_modules()[0].name, "br_netfilter"));
    /// ```
    pub fn want_kernel_modules(&mut self) {
        self.want(raw::Want::KernelModules);
    }

    /// Wants to see a kernel setting.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # assessed!(Node::new().sysctl("kernel.randomize_va_space", "2"), |outline| {
    /// outline.want_sysctl("kernel.randomize_va_space");
    /// # }, |view, _| assert_eq!(view.sysctl("kernel.randomize_va_space"), Some("2")));
    /// ```
    pub fn want_sysctl(&mut self, name: &str) {
        self.want(raw::Want::Sysctl(name.to_owned()));
    }

    /// Wants files with their content, at most 4 MiB each. Named by a path, whose components may hold
    /// `*`, `?` and `[...]`; a component `**` stands for up to eight folders.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let node = Node::new().file("/etc/ssh/sshd_config", "Port 22\n").file("/var/lib/dpkg/info/a.list", "");
    /// # assessed!(node, |outline| {
    /// outline.want_file("/etc/ssh/sshd_config");
    /// let packages = outline.want_file("/var/lib/dpkg/info/*.list");
    /// # }, move |view, _| {
    /// #     assert_eq!(view.file("/etc/ssh/sshd_config").unwrap().text(), Some("Port 22\n"));
    /// #     assert_eq!(view.files(packages).next().unwrap().path(), "/var/lib/dpkg/info/a.list");
    /// # });
    /// ```
    pub fn want_file(&mut self, glob: &str) -> WantId {
        self.want_by_glob(glob, true)
    }

    /// Wants to know what files, folders or links are, but not what is in them.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let node = Node::new().special("/run/containerd/containerd.sock", FileKind::Socket);
    /// # assessed!(node, |outline| {
    /// outline.want_entry("/run/containerd/containerd.sock");
    /// # }, |view, _| {
    /// #     let socket = view.file("/run/containerd/containerd.sock").unwrap();
    /// #     assert_eq!(socket.kind(), Some(FileKind::Socket));
    /// # });
    /// ```
    pub fn want_entry(&mut self, glob: &str) -> WantId {
        self.want_by_glob(glob, false)
    }

    fn want_by_glob(&mut self, glob: &str, content: bool) -> WantId {
        let want = if content {
            raw::Want::FileContent
        } else {
            raw::Want::FileEntry
        };
        if let Some(known) = self.want_files.get(glob) {
            if content && let Some(raw) = self.wants.get_mut(*known as usize) {
                *raw = want(glob.to_owned());
            }
            return WantId(*known);
        }
        let id = self.wants.len() as u32;
        self.want_files.insert(glob.to_owned(), id);
        self.wants.push(want(glob.to_owned()));
        WantId(id)
    }

    fn want(&mut self, want: raw::Want) {
        // A few dozen at most, once.
        let same = |known: &raw::Want| match (known, &want) {
            (raw::Want::Sysctl(known), raw::Want::Sysctl(name)) => known == name,
            _ => std::mem::discriminant(known) == std::mem::discriminant(&want),
        };
        if !self.wants.iter().any(same) {
            self.wants.push(want);
        }
    }

    pub(crate) fn into_parts(self) -> Result<(raw::Outline, Names)> {
        let Self {
            rules,
            files,
            wants,
            want_files,
            rule_set,
        } = self;
        if files.is_some() && rule_set.is_none() {
            crate::bail!(
                "the outline wants files, but does not say what decides about them; call `rule_set`"
            );
        }
        let severities = rules
            .iter()
            .map(|rule| (rule.id.clone(), rule.severity))
            .collect();
        let names = Names {
            severities,
            digests: files.as_ref().map(Digests::of).unwrap_or_default(),
            files: want_files,
        };
        let rule_set = rule_set.unwrap_or_default().to_le_bytes().to_vec();
        let outline = raw::Outline {
            rules,
            files,
            wants,
            rule_set,
        };
        Ok((outline, names))
    }
}

impl From<Severity> for raw::Severity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Info,
            Severity::Low => Self::Low,
            Severity::Medium => Self::Medium,
            Severity::High => Self::High,
            Severity::Critical => Self::Critical,
        }
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
        outline.want_users();
        outline.want_sysctl("a");
        outline.want_sysctl("b");
        outline.want_sysctl("a");
        outline.want_users();
        assert_eq!(outline.want_file("/a"), first);
        assert_eq!(outline.want_entry("/a"), first);
        let (raw, _) = outline.into_parts().unwrap();
        assert!(matches!(&raw.wants[0], raw::Want::FileContent(glob) if glob == "/a"));
        assert_eq!(raw.wants.len(), 4, "{:?}", raw.wants);
    }

    #[test]
    fn a_set_of_rules_is_what_it_is_made_of() {
        let digest = |parts: &[&str]| {
            let mut outline = Outline::new();
            parts.iter().for_each(|part| outline.rule_set(part));
            outline.into_parts().unwrap().0.rule_set
        };
        assert_eq!(digest(&["a", "b"]), digest(&["a", "b"]));
        assert_ne!(digest(&["a", "b"]), digest(&["b", "a"]));
        assert_ne!(digest(&["ab"]), digest(&["a", "b"]));
        assert_ne!(digest(&[""]), digest(&[]));
    }

    #[test]
    fn files_need_a_set_of_rules() {
        let mut outline = Outline::new();
        outline.files(FileInterest::entries());
        let refused = outline.into_parts().err().unwrap().to_string();
        assert!(refused.ends_with("call `rule_set`"), "{refused}");
    }
}
