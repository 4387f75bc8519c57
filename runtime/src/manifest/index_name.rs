//! Names of indices and data streams, with the record's date in them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a pattern may hold: year, month, day, hour, day of the year, and ISO 8601's year and week.
const KNOWN: &str = "YmdHjGV";
/// The longest name that a server takes, in bytes.
const LONGEST: usize = 255;

/// A name such as `logs-app-%Y.%m.%d`, of which `%` and a letter stand for the record's date in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct IndexName(String);

impl IndexName {
    /// The name for a record of this time, in nanoseconds since 1970. The same within an hour.
    pub fn at(&self, time: i64) -> String {
        let time = jiff::Timestamp::from_nanosecond(i128::from(time)).unwrap_or_default();
        // What is wrong with a pattern was found when it was read.
        jiff::fmt::strtime::format(&self.0, time).unwrap_or_else(|_| self.0.clone())
    }
}

impl TryFrom<String> for IndexName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut rest = text.as_str();
        while let Some((_, after)) = rest.split_once('%') {
            let letter = after.chars().next();
            if !letter.is_some_and(|letter| KNOWN.contains(letter)) {
                return Err(format!(
                    "{text:?} has a `%` that stands for no part of a date\nwrite %Y, %m, %d, %H, %j, %G or %V, for example logs-app-%Y.%m.%d"
                ));
            }
            rest = &after[1..];
        }
        let name = Self(text);
        let example = name.at(0);
        // https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-indices-create
        let wrong = |c: char| c.is_uppercase() || c.is_control() || "\\/*?\"<>| ,#:".contains(c);
        if example.is_empty()
            || example.len() > LONGEST
            || example.contains(wrong)
            || example.starts_with(['-', '_', '+'])
            || matches!(&*example, "." | "..")
        {
            return Err(format!(
                "{:?} is no name that an index may have\nwrite lower-case letters, digits, dots and dashes, for example logs-app-%Y.%m.%d",
                name.0
            ));
        }
        Ok(name)
    }
}

impl From<IndexName> for String {
    fn from(name: IndexName) -> Self {
        name.0
    }
}

impl fmt::Display for IndexName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn name(text: &str) -> Result<IndexName, String> {
        IndexName::try_from(text.to_owned())
    }

    #[test]
    fn the_date_is_the_records_in_utc() {
        let time = 1_735_603_199_999_999_999; // 2024-12-30T23:59:59.999999999Z
        for (pattern, wanted) in [
            ("logs-app-default", "logs-app-default"),
            ("logs-app-%Y.%m.%d", "logs-app-2024.12.30"),
            ("a-%G-w%V", "a-2025-w01"),
            ("a-%Y%j-%H", "a-2024365-23"),
        ] {
            assert_eq!(name(pattern).unwrap().at(time), wanted);
        }
        let next = name("%Y.%m.%d").unwrap().at(time + 1);
        assert_eq!(next, "2024.12.31");
        assert_eq!(name("%Y").unwrap().at(i64::MIN), "1677");
    }

    #[test]
    fn what_no_index_may_be_called_is_refused() {
        for wrong in [
            "", "Logs", "a b", "a*", "_a", "-a", "a/b", "a:b", "a,b", "a#b", "..", "a%", "a-%q",
            "a-%%", "a-%é",
        ] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
        assert!(name(&"a".repeat(256)).is_err());
    }
}
