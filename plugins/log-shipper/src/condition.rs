//! Conditions, compiled once and tested for each line.

use bulkhead_sdk::{Context, Error, Result};
use memchr::memmem::Finder;
use regex::bytes::Regex;

use crate::config;
use crate::pattern;
use crate::record::{Field, Record, Scratch};

/// A compiled [`config::Condition`]. There are a few of them for the life of the plugin: their size
/// is no matter, another indirection for each line would be.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub(crate) enum Condition {
    Field(Field, Test),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
}

#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub(crate) enum Test {
    OneOf(Vec<Needle>),
    Contains(Finder<'static>),
    Matches(Regex),
    Exists(bool),
}

/// A value to be equal to.
#[derive(Debug)]
pub(crate) struct Needle {
    text: Vec<u8>,
    number: Option<f64>,
}

impl Needle {
    fn new(value: &config::Scalar) -> Self {
        Self {
            text: value.text().into_bytes(),
            number: match value {
                config::Scalar::Integer(number) => Some(*number as f64),
                config::Scalar::Number(number) => Some(*number),
                _ => None,
            },
        }
    }

    #[inline]
    fn equals(&self, text: &[u8]) -> bool {
        self.text == text
            || self.number.is_some_and(|number| {
                matches!(text.first(), Some(b'-' | b'0'..=b'9'))
                    && std::str::from_utf8(text)
                        .ok()
                        .and_then(|text| text.parse().ok())
                        == Some(number)
            })
    }
}

impl Condition {
    pub(crate) fn new(config: &config::Condition) -> Result<Self> {
        let config::Condition {
            field,
            equals,
            one_of,
            contains,
            matches,
            exists,
            all,
            any,
            not,
        } = config;
        let mut tests = Vec::new();
        if let Some(value) = equals {
            tests.push(Test::OneOf(vec![Needle::new(value)]));
        }
        if let Some(values) = one_of {
            tests.push(Test::OneOf(values.iter().map(Needle::new).collect()));
        }
        if let Some(text) = contains {
            tests.push(Test::Contains(Finder::new(text).into_owned()));
        }
        if let Some(text) = matches {
            tests.push(Test::Matches(pattern::compile(text).at("matches")?));
        }
        if let Some(exists) = exists {
            tests.push(Test::Exists(*exists));
        }
        let mut groups = Vec::new();
        if let Some(list) = all {
            groups.push(Condition::All(Self::list(list).at("all")?));
        }
        if let Some(list) = any {
            groups.push(Condition::Any(Self::list(list).at("any")?));
        }
        if let Some(inner) = not {
            groups.push(Condition::Not(Box::new(Self::new(inner).at("not")?)));
        }
        match (field, tests.pop(), groups.pop()) {
            (Some(field), Some(test), None) if tests.is_empty() => {
                Ok(Condition::Field(Field::new(field), test))
            }
            (None, None, Some(group)) if groups.is_empty() => Ok(group),
            (None, Some(_), None) => Err(Error::new(
                "a test needs the `field` that it is about; for lines that are not parsed, write \
                 `field: message`",
            )),
            _ => Err(Error::new(
                "a condition is either `field` with exactly one of `equals`, `oneOf`, `contains`, \
                 `matches`, `exists`, or exactly one of `all`, `any`, `not`",
            )),
        }
    }

    fn list(conditions: &[config::Condition]) -> Result<Vec<Self>> {
        let compile = |(index, condition)| Self::new(condition).at(format!("[{index}]"));
        conditions.iter().enumerate().map(compile).collect()
    }

    pub(crate) fn holds(&self, record: &Record<'_>, scratch: &mut Scratch) -> bool {
        match self {
            Condition::Field(field, Test::Exists(wanted)) => record.has(field, scratch) == *wanted,
            Condition::Field(field, test) => {
                record.text(field, scratch).is_some_and(|text| match test {
                    Test::OneOf(needles) => needles.iter().any(|needle| needle.equals(text)),
                    Test::Contains(finder) => finder.find(text).is_some(),
                    Test::Matches(regex) => regex.is_match(text),
                    Test::Exists(wanted) => *wanted,
                })
            }
            Condition::All(all) => all.iter().all(|one| one.holds(record, scratch)),
            Condition::Any(any) => any.iter().any(|one| one.holds(record, scratch)),
            Condition::Not(not) => !not.holds(record, scratch),
        }
    }
}
