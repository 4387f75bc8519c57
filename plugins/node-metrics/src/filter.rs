//! Choosing by regular expression, as the node exporter's include and exclude options do.

use bulkhead_sdk::{Error, Result};
use regex::Regex;

/// Compiles the regular expression of the configuration's `field`.
pub(crate) fn pattern(text: &str, field: &str) -> Result<Regex> {
    Regex::new(text)
        .map_err(|error| Error::new(format!("no regular expression: {error}")).at(field))
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
    use super::Filter;

    #[test]
    fn chooses() {
        let all = Filter::new("", "", "x").unwrap();
        assert!(all.accepts("eth0") && all.accepts(""));
        let some = Filter::new("^eth", "0$", "x").unwrap();
        assert!(some.accepts("eth1"));
        assert!(!some.accepts("eth0") && !some.accepts("lo1"));
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
