//! Quantities as manifests write them: `64Mi`, `30s`, `500m`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::spec::StartAt;

/// A number of bytes: `1048576`, `64Mi`, `1Gi`, `500k`, as Kubernetes quantities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// `n` KiB.
    pub const fn kibibytes(n: u64) -> Self {
        Self(n << 10)
    }
    /// `n` MiB.
    pub const fn mebibytes(n: u64) -> Self {
        Self(n << 20)
    }
}

/// A duration: `200ms`, `30s`, `24h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl Period {
    /// `n` milliseconds.
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }
    /// `n` seconds.
    pub const fn seconds(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }
}

/// A share of one core in thousandths: `0.5` or `500m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuShare {
    /// Thousandths of a core.
    pub millis: u32,
}

impl CpuShare {
    /// `n` whole cores.
    pub const fn cores(n: u32) -> Self {
        Self { millis: n * 1000 }
    }
}

/// Why a quantity could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not {expected}")]
pub struct QuantityError {
    given: String,
    expected: &'static str,
}

impl std::str::FromStr for ByteSize {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let error = || QuantityError {
            given: text.to_owned(),
            expected: "a size such as 1048576, 64Mi or 1Gi",
        };
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor: u64 = match unit {
            "" => 1,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            _ => return Err(error()),
        };
        let number: u64 = number.parse().map_err(|_| error())?;
        number.checked_mul(factor).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (factor, unit) in [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")] {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl std::str::FromStr for Period {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|_| QuantityError {
                given: text.to_owned(),
                expected: "a duration such as 200ms, 30s or 24h",
            })
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

impl std::str::FromStr for CpuShare {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let error = || QuantityError {
            given: text.to_owned(),
            expected: "a share of one core such as 0.5 or 500m",
        };
        let millis = match text.strip_suffix('m') {
            Some(millis) => millis.parse::<u32>().map_err(|_| error())?,
            None => {
                let cores: f64 = text.parse().map_err(|_| error())?;
                if !(0.0..=1024.0).contains(&cores) {
                    return Err(error());
                }
                (cores * 1000.0).round() as u32
            }
        };
        if millis == 0 {
            return Err(error());
        }
        Ok(Self { millis })
    }
}

impl fmt::Display for CpuShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}m", self.millis)
    }
}

impl std::str::FromStr for StartAt {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        match text {
            "end" => Ok(Self::End),
            "beginning" => Ok(Self::Beginning),
            _ => text.parse().map(Self::Last).map_err(|_| QuantityError {
                given: text.to_owned(),
                expected: "end, beginning or a duration such as 1h",
            }),
        }
    }
}

impl fmt::Display for StartAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("end"),
            Self::Beginning => f.write_str("beginning"),
            Self::Last(period) => period.fmt(f),
        }
    }
}

/// Reads a quantity from a YAML or JSON string or number and writes it as its string.
macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("a ", stringify!($name)))
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }
                    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }
                    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": ["string", "number"]})
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

as_text!(ByteSize, Period, CpuShare, StartAt);
