//! Choosing by regular expression, as the node exporter's include and exclude options do.

use std::collections::HashMap;

use bulkhead_sdk::{Error, Result};
use regex::Regex;

/// Compiles the regular expression of the configuration's `field`.
pub(crate) fn pattern(text: &str, field: &str) -> Result<Regex> {
    Regex::new(text)
        .map_err(|error| Error::new(format!("no regular expression: {error}")).at(field))
}

/// How many answers are remembered. More names than this are not the kernel's.
const ANSWERS: usize = 4096;

/// Nor are longer ones.
const LONGEST: usize = 64;

/// A regular expression that remembers what it matched: the same names come with each collection, and to
/// match one costs more than to parse its line.
#[derive(Debug)]
pub(crate) struct Remembering {
    pattern: Regex,
    answers: HashMap<Box<str>, bool>,
}

impl Remembering {
    /// Compiles the regular expression of the configuration's `field`.
    pub(crate) fn new(text: &str, field: &str) -> Result<Self> {
        Ok(Self {
            pattern: pattern(text, field)?,
            answers: HashMap::new(),
        })
    }

    pub(crate) fn is_match(&mut self, name: &str) -> bool {
        if let Some(known) = self.answers.get(name) {
            return *known;
        }
        let answer = self.pattern.is_match(name);
        if self.answers.len() < ANSWERS && name.len() <= LONGEST {
            self.answers.insert(name.into(), answer);
        }
        answer
    }
}

/// What one regular expression matches and another does not; an empty one is as if it were not there.
#[derive(Debug)]
pub(crate) struct Filter {
    include: Option<Regex>,
    exclude: Option<Regex>,
}

impl Filter {
    /// Of the configuration's fields `{field}Include` and `{field}Exclude`.
    pub(crate) fn new(include: &str, exclude: &str, field: &str) -> Result<Self> {
        let compile = |text: &str, suffix: &str| match text {
            "" => Ok(None),
            text => pattern(text, &format!("{field}{suffix}")).map(Some),
        };
        Ok(Self {
            include: compile(include, "Include")?,
            exclude: compile(exclude, "Exclude")?,
        })
    }

    pub(crate) fn accepts(&self, name: &str) -> bool {
        self.include.as_ref().is_none_or(|it| it.is_match(name))
            && !self.exclude.as_ref().is_some_and(|it| it.is_match(name))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::{ANSWERS, Filter, Remembering};

    #[test]
    fn chooses() {
        let all = Filter::new("", "", "x").unwrap();
        assert!(all.accepts("eth0") && all.accepts(""));
        let some = Filter::new("^eth", "0$", "x").unwrap();
        assert!(some.accepts("eth1"));
        assert!(!some.accepts("eth0") && !some.accepts("lo1"));
    }

    #[test]
    fn what_is_remembered_is_what_matches_and_has_a_bound() {
        let mut odd = Remembering::new("[13579]$", "x").unwrap();
        for _ in 0..2 {
            for number in 0..ANSWERS + 10 {
                assert_eq!(odd.is_match(&number.to_string()), number % 2 == 1);
            }
        }
        assert_eq!(odd.answers.len(), ANSWERS);
    }

    #[test]
    fn a_wrong_expression_names_its_field() {
        let field = |include, exclude| {
            let refused = Filter::new(include, exclude, "collectors.arp.device");
            refused.err().unwrap().field().to_owned()
        };
        assert_eq!(field("(", ""), "collectors.arp.deviceInclude");
        assert_eq!(field("", "("), "collectors.arp.deviceExclude");
    }
}
