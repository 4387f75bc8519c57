//! Numbers of bytes as manifests write them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A number of bytes: `16777216`, `16Mi`, `500k`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// What a unit stands for.
const UNITS: [(&str, u64); 7] = [
    ("", 1),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
];

impl Size {
    fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let number: u64 = number.parse().ok()?;
        number.checked_mul(*factor).map(Self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;

        impl Visitor<'_> for Reads {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 1048576, 64Mi or 1Gi")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Size, E> {
                Ok(Size(number))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Size, E> {
                let size = u64::try_from(number).map(Size);
                size.map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                let size = Size::parse(text);
                size.ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Reads)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of bytes: 1048576, 64Mi or 1Gi.",
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": "^[0-9]+([kMG]|[KMG]i)?$"}
            ]
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_numbers_and_as_texts() {
        for (text, size) in [
            ("16777216", 16 << 20),
            ("\"16Mi\"", 16 << 20),
            ("\"1Gi\"", 1 << 30),
            ("\"3Ki\"", 3072),
            ("\"500k\"", 500_000),
            ("\"7\"", 7),
            ("0", 0),
        ] {
            assert_eq!(
                serde_json::from_str::<Size>(text).unwrap(),
                Size(size),
                "{text}"
            );
        }
        for text in [
            "-1",
            "1.5",
            "\"\"",
            "\"Mi\"",
            "\"1mi\"",
            "\"1 Mi\"",
            "\"99999999999Gi\"",
            "true",
        ] {
            let error = serde_json::from_str::<Size>(text).unwrap_err().to_string();
            assert!(error.contains("a size such as"), "{text}: {error}");
        }
    }
}
