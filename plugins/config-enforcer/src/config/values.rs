//! Values with a form of their own.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// Permission bits, written as a string of octal digits: `"0644"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Mode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string of octal digits, such as \"0644\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Mode, E> {
                let octal =
                    matches!(text.len(), 3..=5) && text.bytes().all(|it| it.is_ascii_digit());
                match u32::from_str_radix(text, 8) {
                    Ok(mode) if octal && mode <= 0o7777 => Ok(Mode(mode)),
                    _ => Err(E::custom(format_args!(
                        "{text:?} is no mode; write it in octal digits, such as \"0644\""
                    ))),
                }
            }

            // What YAML makes of 0644 without quotes is another number, so it is not guessed at.
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Mode, E> {
                Err(E::custom(format_args!(
                    "a mode is a string of octal digits; write it in quotes, such as \"0644\" (found \
                     the number {number})"
                )))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Mode {
    fn schema_name() -> Cow<'static, str> {
        "Mode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Permission bits in octal digits, in quotes: \"0644\".",
            "type": "string",
            "pattern": "^[0-7]{3,5}$"
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a name or a number")]
pub enum Owner {
    /// By number, whether or not the node has a name for it.
    Number(u32),
    /// By name.
    Name(String),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Number(number) => write!(f, "{number}"),
            Owner::Name(name) => f.write_str(name),
        }
    }
}

/// A string, a number or a boolean.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a string, a number or a boolean")]
pub enum Scalar {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// Text.
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Bool(value) => write!(f, "{value}"),
            Scalar::Integer(value) => write!(f, "{value}"),
            Scalar::Number(value) => write!(f, "{value}"),
            Scalar::Text(value) => f.write_str(value),
        }
    }
}

/// Other values that are as good as the one that is set.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected `atMost`, `atLeast` or a list of values"
)]
pub enum Accept {
    /// Numbers.
    Bound(Bound),
    /// These.
    Values(Vec<Scalar>),
}

/// Numbers that are as good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Bound {
    /// Less, but more than 0, which often stands for no limit at all.
    AtMost,
    /// More.
    AtLeast,
}

impl Accept {
    /// Whether `found` is as good as `wanted`.
    pub fn holds(&self, found: &str, wanted: &str) -> bool {
        let numbers = || Some((found.parse::<f64>().ok()?, wanted.parse::<f64>().ok()?));
        match self {
            Accept::Values(values) => values.iter().any(|it| it.to_string() == found),
            Accept::Bound(Bound::AtMost) => {
                numbers().is_some_and(|(found, wanted)| found > 0.0 && found <= wanted)
            }
            Accept::Bound(Bound::AtLeast) => {
                numbers().is_some_and(|(found, wanted)| found >= wanted)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_is_as_good() {
        let accept = |json: &str| serde_json::from_str::<Accept>(json).unwrap();
        let most = accept(r#""atMost""#);
        assert!(most.holds("3", "4") && most.holds("4", "4"));
        assert!(!most.holds("5", "4") && !most.holds("0", "4") && !most.holds("few", "4"));
        let least = accept(r#""atLeast""#);
        assert!(least.holds("2", "1") && !least.holds("0", "1"));
        let list = accept(r#"["INFO", 3]"#);
        assert!(list.holds("INFO", "x") && list.holds("3", "x") && !list.holds("info", "x"));
        assert!(serde_json::from_str::<Accept>(r#""most""#).is_err());
    }

    #[test]
    fn a_mode_is_a_string_of_octal_digits() {
        let mode = |json: &str| serde_json::from_str::<Mode>(json).map_err(|it| it.to_string());
        assert_eq!(mode(r#""0644""#), Ok(Mode(0o644)));
        assert_eq!(mode(r#""600""#), Ok(Mode(0o600)));
        assert_eq!(mode(r#""04755""#), Ok(Mode(0o4755)));
        for wrong in [
            "\"0888\"",
            "\"u+x\"",
            "\"\"",
            "\"07777777\"",
            "\"+644\"",
            "\"10000\"",
        ] {
            assert!(mode(wrong).unwrap_err().contains("is no mode"), "{wrong}");
        }
        assert!(mode("420").unwrap_err().contains("in quotes"));
    }
}
