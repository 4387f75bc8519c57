//! What a plugin found, checked as the host checks it.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::bail;
use crate::bindings::scanning::exports::bulkhead::plugin::scanning as raw;
use crate::error::{Context, Result};
use crate::scanning::Severity;

/// The findings of a pass, or of a look at the node.
///
/// ```
#[doc = include_str!("../scanning/example.txt")]
/// # plugin!(|outline| { outline.files(FileInterest::content(64)); }, |batch, out| {
/// #     for file in batch.files().filter(|file| file.whole().unwrap().starts_with(b"stratum+tcp:")) {
/// #         out.file(&file, "miner");
/// #     }
/// # }, |_, _| ());
/// let node = Node::new().file("/tmp/x", "stratum+tcp://pool").file("/tmp/y", "harmless");
/// let found = Harness::<MyPlugin>::new("{}")?.scan(&node)?;
/// assert_eq!(found.subjects("miner"), ["/tmp/x"]);
/// # bulkhead_sdk::Result::<()>::Ok(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Judged {
    all: Vec<JudgedFinding>,
}

/// One finding.
///
/// ```
#[doc = include_str!("../scanning/example.txt")]
/// # let found = scanned!(Node::new().file("/x", "a pool of miners"), |batch, out| for file in batch {
/// #     let at = file.whole().unwrap().windows(6).position(|window| window == b"miners");
/// #     out.file(&file, "miner").evidence("offset", at.unwrap());
/// # });
/// assert_eq!(found.all()[0].subject, "/x");
/// assert_eq!(found.all()[0].evidence["offset"], 10);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedFinding {
    /// The rule's id.
    pub rule: String,
    /// How severe it is.
    pub severity: Severity,
    /// The path, with what is not UTF-8 replaced, or what else it is about.
    pub subject: String,
    /// For people.
    pub message: String,
    /// An object; empty if there is none.
    pub evidence: Value,
    /// Addresses to read more at.
    pub references: Vec<String>,
    /// What makes it another one than others of the rule and the subject.
    pub fingerprint: String,
}

impl Judged {
    /// Adds the answer about `batch`, or to a call without files.
    pub(super) fn add(
        &mut self,
        findings: Vec<raw::Finding>,
        batch: Option<&raw::Batch>,
    ) -> Result<()> {
        for finding in findings {
            let rule = finding.rule.clone();
            let checked = check(finding, batch).context(format_args!("a finding of {rule:?}"))?;
            let key =
                |it: &JudgedFinding| (it.rule.clone(), it.subject.clone(), it.fingerprint.clone());
            if !self.all.iter().any(|known| key(known) == key(&checked)) {
                self.all.push(checked);
            }
        }
        Ok(())
    }

    /// All findings without repeats, in the order in which they were answered.
    ///
    /// ```
    #[doc = include_str!("../scanning/example.txt")]
    /// # let found = scanned!(Node::new().file("/x", "").file("/y", ""), |batch, out| for file in batch {
    /// #     out.file(&file, "empty");
    /// # });
    /// assert_eq!(found.all().len(), 2);
    /// ```
    pub fn all(&self) -> &[JudgedFinding] {
        &self.all
    }

    /// What a rule was found of, in the order in which it was answered.
    ///
    /// ```
    #[doc = include_str!("../scanning/example.txt")]
    /// # let found = scanned!(Node::new().file("/x", "").file("/y", ""), |batch, out| for file in batch {
    /// #     out.file(&file, "empty");
    /// # });
    /// assert_eq!(found.subjects("empty"), ["/x", "/y"]);
    /// # assert!(found.subjects("miner").is_empty());
    /// ```
    pub fn subjects(&self, rule: &str) -> Vec<&str> {
        let of_rule = self.all.iter().filter(|finding| finding.rule == rule);
        of_rule.map(|finding| finding.subject.as_str()).collect()
    }

    /// Whether nothing was found.
    ///
    /// ```
    #[doc = include_str!("../scanning/example.txt")]
    /// # let found = scanned!(Node::new().file("/x", ""), |_, _| ());
    /// assert!(found.is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

fn check(finding: raw::Finding, batch: Option<&raw::Batch>) -> Result<JudgedFinding> {
    check_text("the rule's id", &finding.rule, 1..=128)?;
    let subject = match finding.subject {
        raw::Subject::File(index) => judged_path(index, batch)?,
        raw::Subject::Path(_) | raw::Subject::Other(_) if batch.is_some() => {
            bail!("`scan` judges the files of its batch only; tell others in `end` or `assess`");
        }
        raw::Subject::Path(path) => {
            if !path.starts_with('/') || path.len() > 4096 || path.contains('\0') {
                bail!("the path {path:?} is not absolute, or longer than 4 KiB");
            }
            path
        }
        raw::Subject::Other(subject) => {
            check_text("the subject", &subject, 1..=512)?;
            subject
        }
    };
    if finding.message.len() > 1024 {
        bail!("the message is longer than 1 KiB");
    }
    if finding.evidence.len() > 4096 {
        bail!("the evidence is longer than 4 KiB");
    }
    let evidence = match finding.evidence.as_str() {
        "" => Map::new(),
        text => serde_json::from_str(text).context("the evidence is no JSON object")?,
    };
    if finding.references.len() > 8 {
        bail!("there are more than 8 references");
    }
    for reference in &finding.references {
        check_text("a reference", reference, 1..=512)?;
    }
    check_text("the fingerprint", &finding.fingerprint, 0..=128)?;
    Ok(JudgedFinding {
        rule: finding.rule,
        severity: match finding.severity {
            raw::Severity::Info => Severity::Info,
            raw::Severity::Low => Severity::Low,
            raw::Severity::Medium => Severity::Medium,
            raw::Severity::High => Severity::High,
            raw::Severity::Critical => Severity::Critical,
        },
        subject,
        message: finding.message,
        evidence: Value::Object(evidence),
        references: finding.references,
        fingerprint: finding.fingerprint,
    })
}

/// The path of a file of which the batch has the last.
fn judged_path(index: u32, batch: Option<&raw::Batch>) -> Result<String> {
    let Some(batch) = batch else {
        bail!("it is about a file of a batch, but the call had none");
    };
    let Some(file) = batch.files.get(index as usize) else {
        bail!(
            "it is about file {index} of a batch of {}",
            batch.files.len()
        );
    };
    let mut mine = batch.pieces.iter().filter(|piece| piece.file == index);
    if mine.next_back().is_some_and(|piece| !piece.last) {
        bail!("it is about file {index}, whose last piece is still to come");
    }
    let start = file.path_offset as usize;
    let path = &batch.bytes[start..start + file.path_length as usize];
    Ok(String::from_utf8_lossy(path).into_owned())
}

pub(super) fn check_outline(outline: &raw::Outline) -> Result<()> {
    if outline.rules.len() > 65_536 || outline.wants.len() > 4096 {
        bail!("more than 65536 rules or 4096 wants");
    }
    if !(1..=64).contains(&outline.rule_set.len()) {
        bail!("the digest of the rules has not 1 to 64 bytes");
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
        if rule.references.len() > 8 {
            bail!("{:?} has more than 8 references", rule.id);
        }
        for reference in &rule.references {
            check_text("a reference", reference, 1..=512)?;
        }
    }
    Ok(())
}

fn check_text(what: &str, text: &str, length: RangeInclusive<usize>) -> Result<()> {
    if !length.contains(&text.len()) || text.contains(char::is_control) {
        bail!("{what}, {text:?}, has not {length:?} bytes without control characters");
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn finding(subject: raw::Subject) -> raw::Finding {
        raw::Finding {
            rule: "rule".to_owned(),
            severity: raw::Severity::Low,
            subject,
            message: String::new(),
            evidence: String::new(),
            references: Vec::new(),
            fingerprint: String::new(),
        }
    }

    fn refused(change: impl FnOnce(&mut raw::Finding)) -> String {
        let mut finding = finding(raw::Subject::Other("a".to_owned()));
        change(&mut finding);
        check(finding, None).err().unwrap().to_string()
    }

    #[test]
    fn refuses_what_the_host_would() {
        let index = refused(|it| it.subject = raw::Subject::File(0));
        assert_eq!(
            index,
            "it is about a file of a batch, but the call had none"
        );
        let path = refused(|it| it.subject = raw::Subject::Path("etc".to_owned()));
        assert!(
            path.starts_with("the path \"etc\" is not absolute"),
            "{path}"
        );
        let subject = refused(|it| it.subject = raw::Subject::Other(String::new()));
        assert!(subject.starts_with("the subject"), "{subject}");
        let rule = refused(|it| "a\nb".clone_into(&mut it.rule));
        assert!(rule.starts_with("the rule's id"), "{rule}");
        let message = refused(|it| it.message = "x".repeat(1025));
        assert_eq!(message, "the message is longer than 1 KiB");
        let evidence = refused(|it| "[1]".clone_into(&mut it.evidence));
        assert!(
            evidence.starts_with("the evidence is no JSON"),
            "{evidence}"
        );
        let references = refused(|it| it.references = vec!["https://a.example".to_owned(); 9]);
        assert_eq!(references, "there are more than 8 references");
        let fingerprint = refused(|it| it.fingerprint = "x".repeat(129));
        assert!(fingerprint.starts_with("the fingerprint"), "{fingerprint}");
    }

    #[test]
    fn a_batch_is_about_its_files() {
        let batch = raw::Batch {
            bytes: Vec::new(),
            files: Vec::new(),
            pieces: Vec::new(),
        };
        let refused = |subject| check(finding(subject), Some(&batch)).err().unwrap();
        let other = refused(raw::Subject::Other("user/a".to_owned()));
        assert!(other.to_string().starts_with("`scan` judges"), "{other}");
        let file = refused(raw::Subject::File(0));
        assert_eq!(file.to_string(), "it is about file 0 of a batch of 0");
    }

    #[test]
    fn repeats_are_one_finding() {
        let user = || finding(raw::Subject::Other("user/a".to_owned()));
        let mut other = user();
        "x".clone_into(&mut other.fingerprint);
        let mut judged = Judged::default();
        judged.add(vec![user(), user(), other], None).unwrap();
        assert_eq!(judged.subjects("rule"), ["user/a", "user/a"]);
    }
}
