//! What was found, built finding by finding.

use std::rc::Rc;

use super::batch::File;
use super::outline::Names;
use super::{Severity, raw};
use crate::error::Result;
use crate::json::ToJson;

/// The host cuts nothing: it refuses an answer with longer texts. Texts for people are cut here.
const LONGEST_MESSAGE: usize = 1024;
const LONGEST_EVIDENCE: usize = 4096;
/// What is there instead of evidence that has no room.
const CUT: &[u8] = br#""truncated":true"#;

/// Findings, as many as there are; none is fine.
///
/// ```
/// use bulkhead_sdk::{Findings, scanning::File};
#[doc = include_str!("example.txt")]
/// fn judge(file: &File, out: &mut Findings) {
///     if file.mode() & 0o4000 != 0 {
///         out.file(file, "suid")
///             .message("a new program that runs as its owner")
///             .evidence("mode", format!("{:04o}", file.mode()));
///     }
/// }
/// # let found = scanned!(Node::new().file("/su", "").mode("/su", 0o4755), |batch, out| {
/// #     batch.files().for_each(|file| judge(&file, out));
/// # });
/// # assert_eq!(found.all()[0].evidence["mode"], "4755");
/// ```
#[derive(Debug, Default)]
pub struct Findings {
    all: Vec<Built>,
    names: Rc<Names>,
}

#[derive(Debug)]
struct Built {
    raw: raw::Finding,
    /// JSON members.
    evidence: Vec<u8>,
    is_cut: bool,
}

impl Findings {
    pub(crate) fn new(names: Rc<Names>) -> Self {
        let all = Vec::new();
        Self { all, names }
    }

    /// Something about a file of the batch.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn judge(file: &File, out: &mut Findings) {
    ///     out.file(file, "miner").message("names a pool of miners");
    /// }
    /// # let found = scanned!(Node::new().file("/tmp/x", ""), |batch, out| {
    /// #     batch.files().filter(|file| file.size() == 0).for_each(|file| judge(&file, out));
    /// # });
    /// # assert_eq!(found.subjects("miner").last(), Some(&"/tmp/x"));
    /// ```
    pub fn file(&mut self, file: &File<'_>, rule: &str) -> Finding<'_> {
        self.add(raw::Subject::File(file.index()), rule)
    }

    /// Something about a path that is not in the batch: a file that is gone, or one of a
    /// [`View`](super::View).
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let found = assessed!(Node::new(), |_, out| {
    /// out.path("/usr/bin/sudo", "gone").message("it was there before");
    /// # });
    /// assert_eq!(found.subjects("gone"), ["/usr/bin/sudo"]);
    /// ```
    pub fn path(&mut self, path: impl Into<String>, rule: &str) -> Finding<'_> {
        self.add(raw::Subject::Path(path.into()), rule)
    }

    /// Something about anything else. Start with what it is: `user/mallory`, `socket/tcp/0.0.0.0:23`.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let found = assessed!(Node::new(), |_, out| {
    /// out.other("user/mallory", "uid-0").message("a second root");
    /// # });
    /// assert_eq!(found.subjects("uid-0"), ["user/mallory"]);
    /// ```
    pub fn other(&mut self, subject: impl Into<String>, rule: &str) -> Finding<'_> {
        self.add(raw::Subject::Other(subject.into()), rule)
    }

    /// How many there are.
    ///
    /// ```
    /// let mut out = bulkhead_sdk::Findings::default();
    /// out.other("user/mallory", "uid-0");
    /// assert_eq!(out.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    ///
    /// ```
    /// assert!(bulkhead_sdk::Findings::default().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn add(&mut self, subject: raw::Subject, rule: &str) -> Finding<'_> {
        let severities = &self.names.severities;
        let severity = severities.get(rule).copied();
        let raw = raw::Finding {
            rule: rule.to_owned(),
            severity: severity.unwrap_or(raw::Severity::Medium),
            subject,
            message: String::new(),
            evidence: String::new(),
            references: Vec::new(),
            fingerprint: String::new(),
        };
        let index = self.all.len();
        self.all.push(Built {
            raw,
            evidence: Vec::new(),
            is_cut: false,
        });
        Finding {
            built: &mut self.all[index],
        }
    }

    /// What was built, if no promise is broken that shows here: better an error than an instance that the
    /// host throws away.
    pub(crate) fn finish(self) -> Result<Vec<raw::Finding>> {
        self.all.into_iter().map(Built::finish).collect()
    }
}

impl Built {
    fn finish(self) -> Result<raw::Finding> {
        let Self {
            mut raw,
            mut evidence,
            is_cut,
        } = self;
        check_name("rule", &raw.rule, 1, 128)?;
        if let raw::Subject::Other(subject) = &raw.subject {
            check_name("subject", subject, 1, 512)?;
        }
        check_name("fingerprint", &raw.fingerprint, 0, 128)?;
        if raw.references.len() > 8 {
            crate::bail!("a finding of {:?} has more than 8 references", raw.rule);
        }
        for reference in &raw.references {
            check_name("reference", reference, 1, 512)?;
        }
        if is_cut {
            member(&mut evidence, CUT);
        }
        if !evidence.is_empty() {
            evidence.push(b'}');
            raw.evidence = String::from_utf8(evidence)?;
        }
        Ok(raw)
    }
}

/// Adds a member to an object that is being written.
fn member(object: &mut Vec<u8>, text: &[u8]) {
    object.push(if object.is_empty() { b'{' } else { b',' });
    object.extend_from_slice(text);
}

fn check_name(what: &str, text: &str, shortest: usize, longest: usize) -> Result<()> {
    if text.len() < shortest || text.len() > longest || text.contains(char::is_control) {
        crate::bail!(
            "the {what} {text:?} is not {shortest} to {longest} bytes without control characters"
        );
    }
    Ok(())
}

/// One of [`Findings`], to say more about it.
///
/// ```
#[doc = include_str!("example.txt")]
/// # let found = assessed!(Node::new(), |_, out| {
/// out.other("socket/tcp/0.0.0.0:23", "listening")
///     .severity(Severity::High)
///     .message("telnet is open to everybody")
///     .evidence("port", 23)
///     .reference("https://attack.mitre.org/techniques/T1021/");
/// # });
/// assert_eq!(found.all()[0].evidence["port"], 23);
/// ```
#[derive(Debug)]
pub struct Finding<'a> {
    built: &'a mut Built,
}

impl Finding<'_> {
    /// What was found, for people. Cut at 1 KiB.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let found = assessed!(Node::new(), |_, out| {
    /// out.other("user/mallory", "uid-0").message("a second root");
    /// # });
    /// assert_eq!(found.all()[0].message, "a second root");
    /// ```
    pub fn message(self, message: impl AsRef<str>) -> Self {
        const MARK: &str = "...";
        let message = message.as_ref();
        self.built.raw.message = if message.len() > LONGEST_MESSAGE {
            let end = message.floor_char_boundary(LONGEST_MESSAGE - MARK.len());
            format!("{}{MARK}", &message[..end])
        } else {
            message.to_owned()
        };
        self
    }

    /// How severe this one is; as its rule says in the outline unless called.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let found = assessed!(Node::new(), |_, out| {
    /// out.other("user/mallory", "uid-0").severity(Severity::Critical);
    /// # });
    /// assert_eq!(found.all()[0].severity, Severity::Critical);
    /// ```
    pub fn severity(self, severity: Severity) -> Self {
        self.built.raw.severity = severity.into();
        self
    }

    /// Adds a value that was seen. All together are at most 4 KiB; what has no room is left out, and
    /// `truncated` says so.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let found = assessed!(Node::new(), |_, out| {
    /// out.path("/etc/shadow", "mode").evidence("mode", "0644").evidence("uid", 0);
    /// # });
    /// assert_eq!(found.all()[0].evidence["mode"], "0644");
    /// ```
    pub fn evidence(self, name: &str, value: impl ToJson) -> Self {
        let mut text = Vec::new();
        name.write_json(&mut text);
        text.push(b':');
        value.write_json(&mut text);
        let evidence = &mut self.built.evidence;
        // With the brackets, the commas, and the mark that may have to follow.
        if evidence.len() + text.len() + CUT.len() + 4 > LONGEST_EVIDENCE {
            self.built.is_cut = true;
        } else {
            member(evidence, &text);
        }
        self
    }

    /// Adds an address to read more at; there may be eight.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let found = assessed!(Node::new(), |_, out| {
    /// out.other("package/openssl", "CVE-2026-0001").reference("https://osv.dev/CVE-2026-0001");
    /// # });
    /// assert_eq!(found.all()[0].references, ["https://osv.dev/CVE-2026-0001"]);
    /// ```
    pub fn reference(self, address: impl Into<String>) -> Self {
        self.built.raw.references.push(address.into());
        self
    }

    /// What makes it another finding than others of the same rule and subject. Without it, a rule is
    /// found once of a subject. It must not change as long as what was found stays.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let found = assessed!(Node::new(), |_, out| {
    /// out.path("/etc/ssh/sshd_config", "weak-cipher").fingerprint("3des-cbc");
    /// out.path("/etc/ssh/sshd_config", "weak-cipher").fingerprint("arcfour");
    /// # });
    /// assert_eq!(found.all().len(), 2);
    /// ```
    pub fn fingerprint(self, fingerprint: impl Into<String>) -> Self {
        self.built.raw.fingerprint = fingerprint.into();
        self
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn built(build: impl FnOnce(&mut Findings)) -> Result<Vec<raw::Finding>> {
        let mut findings = Findings::default();
        build(&mut findings);
        findings.finish()
    }

    #[test]
    fn refuses_what_the_host_would() {
        for rule in ["", "a\n", &"a".repeat(129)] {
            let odd = built(|out| _ = out.other("a", rule)).unwrap_err();
            assert!(odd.to_string().contains("is not 1 to 128 bytes"), "{odd}");
        }
        let subject = built(|out| _ = out.other("s".repeat(513), "a")).unwrap_err();
        assert!(subject.to_string().starts_with("the subject"), "{subject}");
        let many = built(|out| {
            let finding = out.other("s", "a");
            (0..9).fold(finding, |finding, _| finding.reference("https://a.example"));
        });
        assert_eq!(
            many.unwrap_err().to_string(),
            "a finding of \"a\" has more than 8 references"
        );
    }

    #[test]
    fn cuts_messages_between_characters() {
        let raw = built(|out| _ = out.other("s", "a").message("ä".repeat(600))).unwrap();
        let message = &raw[0].message;
        assert!(
            message.len() <= LONGEST_MESSAGE && message.ends_with("ä..."),
            "{message}"
        );
    }

    #[test]
    fn evidence_is_an_object_that_says_if_it_is_cut() {
        let raw = built(|out| {
            out.other("s", "none");
            out.other("s", "two").evidence("a", 1).evidence("b", "x\n");
            let finding = out.other("s", "many");
            (0..500).fold(finding, |it, i| it.evidence(&format!("name {i}"), i));
            out.other("s", "long").evidence("a", "x".repeat(5000));
        })
        .unwrap();
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(raw[0].evidence, "");
        assert_eq!(
            parse(&raw[1].evidence),
            serde_json::json!({"a": 1, "b": "x\n"})
        );
        let many = &raw[2].evidence;
        assert!(many.len() <= LONGEST_EVIDENCE, "{}", many.len());
        assert!(many.len() > LONGEST_EVIDENCE - 64, "{}", many.len());
        assert_eq!(parse(many)["truncated"], true);
        assert_eq!(parse(many)["name 17"], 17);
        assert_eq!(raw[3].evidence, r#"{"truncated":true}"#);
    }
}
