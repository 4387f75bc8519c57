//! What is wrong with a manifest: where it is, what it is, and what to write instead.

use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// A place in a file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

/// What sort of problem it is; the reason of a status condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Reason {
    /// The file could not be read.
    Unreadable,
    /// Not YAML, or cut off in the middle.
    Syntax,
    /// An `apiVersion` or `kind` that this daemon does not know.
    UnsupportedVersion,
    /// A field that does not exist.
    UnknownField,
    /// A field with a value that cannot be, or one that is missing.
    InvalidField,
    /// Two manifests have one identity.
    DuplicateIdentity,
    /// The node's policy does not let this manifest have it.
    PolicyRefused,
}

/// One problem of one manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Error {
    /// The file.
    pub file: PathBuf,
    /// Where in the file, if that is known.
    pub position: Option<Position>,
    /// The sort of problem.
    pub reason: Reason,
    /// Path of the field, for example `logs.destinations[1].http.url`; empty for the whole.
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What to write or do instead.
    pub remedy: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        if !self.field.is_empty() {
            write!(f, " {}:", self.field)?;
        }
        write!(f, " {}", self.problem)?;
        if !self.remedy.is_empty() {
            write!(f, ": {}", self.remedy)?;
        }
        Ok(())
    }
}

/// A problem before its file and place are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) reason: Reason,
    pub(super) field: String,
    /// Given if the place is not the field's own.
    pub(super) at: Option<Position>,
    pub(super) problem: String,
    pub(super) remedy: String,
}

impl Problem {
    pub(super) fn invalid(
        field: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            reason: Reason::InvalidField,
            field: field.into(),
            at: None,
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    pub(super) fn at(self, at: Position) -> Self {
        Self {
            at: Some(at),
            ..self
        }
    }

    pub(super) fn because(self, reason: Reason) -> Self {
        Self { reason, ..self }
    }
}

/// The problems of one manifest; as many as a person reads.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    const MOST: usize = 50;

    pub(super) fn push(&self, problem: Problem) {
        let mut problems = self.0.borrow_mut();
        if problems.len() < Self::MOST {
            problems.push(problem);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    pub(super) fn into_vec(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// The one of `known` that `given` was most likely meant to be.
pub(super) fn closest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    // Longer names are not typing errors, and the distance takes quadratic time.
    if given.len() > 64 {
        return None;
    }
    known
        .iter()
        .map(|name| (distance(&given.to_lowercase(), &name.to_lowercase()), *name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).clamp(1, 3))
        .min()
        .map(|(_, name)| name)
}

/// How many letters to insert, remove, change or swap with the neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = change.min(row[j - 1] + 1).min(rows[i - 1][j] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// Shortens what somebody else wrote for a message.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_name_is_found_and_a_wild_one_is_not_guessed() {
        let known = ["memory", "deadline", "cpu", "output"];
        assert_eq!(closest("memroy", &known), Some("memory"));
        assert_eq!(closest("Memory", &known), Some("memory"));
        assert_eq!(closest("dedline", &known), Some("deadline"));
        assert_eq!(closest("cups", &known), None);
        assert_eq!(closest("timeout", &known), None);
        assert_eq!(closest(&"m".repeat(10_000), &known), None);
    }

    #[test]
    fn an_error_names_place_field_problem_and_remedy() {
        let error = Error {
            file: "/etc/p.yaml".into(),
            position: Some(Position { line: 3, column: 7 }),
            reason: Reason::InvalidField,
            field: "limits.memory".to_owned(),
            problem: "is zero".to_owned(),
            remedy: "write 64Mi".to_owned(),
        };
        assert_eq!(
            error.to_string(),
            "/etc/p.yaml:3:7: limits.memory: is zero: write 64Mi"
        );
    }
}
