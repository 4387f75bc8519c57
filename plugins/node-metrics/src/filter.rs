//! Choosing by regular expression, as the node exporter's include and exclude options do.

use std::cell::RefCell;
use std::collections::HashMap;

use bulkhead_sdk::{Error, Result};
use regex_lite::Regex;

/// How many answers are remembered. Names of pods' devices and mount points come and go: then all are forgotten.
const ANSWERS: usize = 2048;

/// Of longer names none is. Mount points of pods have some 130 bytes.
const LONGEST: usize = 256;

/// A regular expression that remembers what it matched: the same names come with each collection, and to
/// match one costs more than to parse its line.
#[derive(Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    answers: RefCell<HashMap<Box<str>, bool>>,
}

impl Pattern {
    /// Compiles the regular expression of the configuration's `field`.
    pub(crate) fn new(text: &str, field: &str) -> Result<Self> {
        let regex = Regex::new(text)
            .map_err(|error| Error::new(format!("no regular expression: {error}")).at(field))?;
        Ok(Self {
            regex,
            answers: RefCell::default(),
        })
    }

    /// The same, or none of an empty text.
    pub(crate) fn optional(text: &str, field: &str) -> Result<Option<Self>> {
        match text {
            "" => Ok(None),
            text => Self::new(text, field).map(Some),
        }
    }

    pub(crate) fn is_match(&self, name: &str) -> bool {
        let mut answers = self.answers.borrow_mut();
        if let Some(known) = answers.get(name) {
            return *known;
        }
        let answer = self.regex.is_match(name);
        if name.len() <= LONGEST {
            if answers.len() >= ANSWERS {
                answers.clear();
            }
            answers.insert(name.into(), answer);
        }
        answer
    }
}

/// What one regular expression matches and another does not; an empty one is as if it were not there.
#[derive(Debug)]
pub(crate) struct Filter {
    include: Option<Pattern>,
    exclude: Option<Pattern>,
}

impl Filter {
    /// Of the configuration's fields `{field}Include` and `{field}Exclude`.
    pub(crate) fn new(include: &str, exclude: &str, field: &str) -> Result<Self> {
        Ok(Self {
            include: Pattern::optional(include, &format!("{field}Include"))?,
            exclude: Pattern::optional(exclude, &format!("{field}Exclude"))?,
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
    use super::{ANSWERS, Filter, LONGEST, Pattern};

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
        let odd = Pattern::new("[13579]$", "x").unwrap();
        for _ in 0..2 {
            for number in 0..ANSWERS + 10 {
                assert_eq!(odd.is_match(&number.to_string()), number % 2 == 1);
            }
        }
        assert!(odd.answers.borrow().len() <= ANSWERS);
        assert!(odd.is_match("7") && odd.answers.borrow().contains_key("7"));
        assert!(!odd.is_match(&"8".repeat(LONGEST + 1)));
        assert!(
            odd.answers
                .borrow()
                .keys()
                .all(|name| name.len() <= LONGEST)
        );
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
