//! A plugin's answer, held against the contract: nothing of it is trusted before.

use std::ops::RangeInclusive;

use super::finding::{Found, Subject};
use crate::sandbox::bindings::scanning::exports::bulkhead::plugin::scanning as wit;

/// The most findings of one answer.
const MOST: usize = 100_000;

/// A promise of the contract that the plugin broke: its instance is not to be trusted any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer breaks the contract of the role scanning: {0}")]
pub struct Broken(pub(super) String);

/// All that there is of one file.
#[derive(Debug, PartialEq, Eq)]
pub struct Judged<'a> {
    /// Its path.
    pub path: &'a [u8],
    /// What was found, and nothing else.
    pub findings: Vec<Found>,
}

/// Checks the answer of `scan`. `files` are those of the batch: their paths, and whether it had the last
/// piece, which alone lets them be judged. Files that cannot be judged yet are not in the result.
///
/// # Errors
/// The promise that is broken.
pub fn check_files<'a>(
    answer: Vec<wit::Finding>,
    files: impl IntoIterator<Item = (&'a [u8], bool)>,
) -> Result<Vec<Judged<'a>>, Broken> {
    few(&answer)?;
    let mut judged: Vec<(bool, Judged<'a>)> = files
        .into_iter()
        .map(|(path, last)| {
            let findings = Vec::new();
            (last, Judged { path, findings })
        })
        .collect();
    let count = judged.len();
    for finding in answer {
        let wit::Subject::File(index) = finding.subject else {
            return broken("`scan` found something about what is no file of its batch");
        };
        match judged.get_mut(index as usize) {
            Some((true, file)) => {
                let subject = Subject::File(file.path.to_vec());
                file.findings.push(check(finding, subject)?);
            }
            Some((false, _)) => {
                return broken(format!(
                    "`scan` judged file {index}, whose last piece is still to come"
                ));
            }
            None => {
                return broken(format!(
                    "`scan` found something about file {index} of a batch of {count}"
                ));
            }
        }
    }
    let judged = judged.into_iter();
    Ok(judged
        .filter_map(|(last, file)| last.then_some(file))
        .collect())
}

/// Checks the answer of `end` or `assess`.
///
/// # Errors
/// The promise that is broken.
pub fn check_whole(answer: Vec<wit::Finding>) -> Result<Vec<Found>, Broken> {
    few(&answer)?;
    let found = answer.into_iter().map(|mut finding| {
        let subject = match &mut finding.subject {
            wit::Subject::File(_) => {
                return broken("something was found about a file of a batch, and there was none");
            }
            wit::Subject::Path(path) => {
                if !path.starts_with('/') || path.len() > 4096 || path.contains('\0') {
                    return broken("a path is not absolute, or longer than 4 KiB");
                }
                Subject::File(std::mem::take(path).into_bytes())
            }
            wit::Subject::Other(name) => {
                text("a subject", name, 1..=512)?;
                Subject::Other(std::mem::take(name))
            }
        };
        check(finding, subject)
    });
    found.collect()
}

fn few(answer: &[wit::Finding]) -> Result<(), Broken> {
    match answer.len() {
        0..=MOST => Ok(()),
        count => broken(format!("{count} findings at once; there may be {MOST}")),
    }
}

fn check(finding: wit::Finding, subject: Subject) -> Result<Found, Broken> {
    text("the id of a rule", &finding.rule, 1..=128)?;
    text("a fingerprint", &finding.fingerprint, 0..=128)?;
    if finding.message.len() > 1024 {
        return broken(format!(
            "a message of {:?} is longer than 1 KiB",
            finding.rule
        ));
    }
    if finding.evidence.len() > 4096 {
        return broken(format!(
            "the evidence of {:?} is longer than 4 KiB",
            finding.rule
        ));
    }
    if !finding.evidence.is_empty() {
        let object = serde_json::from_str::<serde_json::Map<_, _>>(&finding.evidence);
        if let Err(error) = object {
            return broken(format!(
                "the evidence of {:?} is no JSON object: {error}",
                finding.rule
            ));
        }
    }
    references(&finding.references)?;
    Ok(Found {
        rule: finding.rule,
        severity: finding.severity.into(),
        subject,
        message: finding.message,
        evidence: finding.evidence,
        references: finding.references,
        fingerprint: finding.fingerprint,
    })
}

pub(super) fn references(references: &[String]) -> Result<(), Broken> {
    if references.len() > 8 {
        return broken("there are more than 8 references");
    }
    references
        .iter()
        .try_for_each(|reference| text("a reference", reference, 1..=512))
}

pub(super) fn text(what: &str, text: &str, length: RangeInclusive<usize>) -> Result<(), Broken> {
    if length.contains(&text.len()) && !text.contains(char::is_control) {
        return Ok(());
    }
    let (start, end) = (length.start(), length.end());
    broken(format!(
        "{what} has not {start} to {end} bytes without control characters"
    ))
}

fn broken<T>(what: impl Into<String>) -> Result<T, Broken> {
    Err(Broken(what.into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::rules::Rules;
    use super::*;

    fn finding(subject: wit::Subject) -> wit::Finding {
        wit::Finding {
            rule: "rule".to_owned(),
            severity: wit::Severity::High,
            subject,
            message: String::new(),
            evidence: String::new(),
            references: Vec::new(),
            fingerprint: String::new(),
        }
    }

    fn refused(change: impl FnOnce(&mut wit::Finding)) -> String {
        let mut odd = finding(wit::Subject::Other("a".to_owned()));
        change(&mut odd);
        check_whole(vec![odd]).unwrap_err().0
    }

    #[test]
    fn what_is_too_long_or_odd_breaks_the_contract() {
        for (odd, said) in [
            (
                refused(|it| it.rule.clear()),
                "the id of a rule has not 1 to 128",
            ),
            (refused(|it| it.rule = "a\n".into()), "the id of a rule"),
            (refused(|it| it.rule = "a".repeat(129)), "the id of a rule"),
            (refused(|it| it.message = "a".repeat(1025)), "a message of"),
            (
                refused(|it| it.evidence = format!("{{\"a\":\"{}\"}}", "a".repeat(4096))),
                "the evidence of \"rule\" is longer",
            ),
            (
                refused(|it| it.evidence = "1".into()),
                "the evidence of \"rule\" is no JSON object",
            ),
            (
                refused(|it| it.evidence = "{} {}".into()),
                "the evidence of \"rule\" is no JSON object",
            ),
            (
                refused(|it| it.fingerprint = "a".repeat(129)),
                "a fingerprint",
            ),
            (
                refused(|it| it.references = vec!["a".into(); 9]),
                "there are more than 8",
            ),
            (
                refused(|it| it.references = vec![String::new()]),
                "a reference",
            ),
            (
                refused(|it| it.subject = wit::Subject::Other(String::new())),
                "a subject",
            ),
            (
                refused(|it| it.subject = wit::Subject::Path("etc".into())),
                "a path is not absolute",
            ),
            (
                refused(|it| it.subject = wit::Subject::Path("/\0".into())),
                "a path is not absolute",
            ),
            (
                refused(|it| it.subject = wit::Subject::File(0)),
                "something was found about a file",
            ),
        ] {
            assert!(odd.starts_with(said), "{odd}");
        }
    }

    #[test]
    fn a_batch_is_judged_file_by_file() {
        let files = [(b"/a".as_slice(), true), (b"/\xff", true), (b"/c", false)];
        let answer = vec![
            finding(wit::Subject::File(1)),
            finding(wit::Subject::File(1)),
        ];
        let judged = check_files(answer, files).unwrap();
        assert_eq!(judged.len(), 2, "{judged:?}");
        assert_eq!((judged[0].path, judged[0].findings.len()), (&b"/a"[..], 0));
        assert_eq!(judged[1].findings.len(), 2);
        assert_eq!(
            judged[1].findings[0].subject,
            Subject::File(b"/\xff".to_vec())
        );
        for (subject, said) in [
            (wit::Subject::File(3), "about file 3 of a batch of 3"),
            (wit::Subject::File(2), "whose last piece is still to come"),
            (wit::Subject::Path("/a".into()), "no file of its batch"),
            (wit::Subject::Other("a".into()), "no file of its batch"),
        ] {
            let odd = check_files(vec![finding(subject)], files).unwrap_err().0;
            assert!(odd.contains(said), "{odd}");
        }
    }

    #[test]
    fn rules_are_listed_once() {
        let rule = |id: &str| wit::Rule {
            id: id.to_owned(),
            title: String::new(),
            severity: wit::Severity::Low,
            rationale: String::new(),
            remediation: String::new(),
            references: Vec::new(),
        };
        let rules = Rules::check(vec![rule("a"), rule("b")]).unwrap();
        assert_eq!(rules.len(), 2);
        let twice = Rules::check(vec![rule("a"), rule("a")]).unwrap_err().0;
        assert_eq!(twice, "two rules have the id \"a\"");
        let mut long = rule("a");
        long.rationale = "a".repeat(2049);
        assert!(Rules::check(vec![long]).is_err());
    }
}
