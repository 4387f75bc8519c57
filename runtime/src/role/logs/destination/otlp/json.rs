//! JSON as values of OTLP, and the severity in it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::message::{AnyValue, ArrayValue, KeyValue, KeyValueList, Value};

/// Members that hold a severity, in the order in which they are looked for.
const LEVELS: [&str; 4] = ["level", "severity", "severity_text", "lvl"];

/// The members of a JSON object; none if `text` is no object.
pub(super) fn members(text: &[u8]) -> Option<Vec<KeyValue>> {
    match serde_json::from_slice::<AnyValue>(text).ok()?.value? {
        Value::Members(list) => Some(list.values),
        _ => None,
    }
}

/// Number and text of the severity that one of `members` names.
///
/// <https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber>
pub(super) fn severity(members: &[KeyValue]) -> Option<(i32, String)> {
    LEVELS.into_iter().find_map(|level| {
        let member = members
            .iter()
            .find(|member| member.key.eq_ignore_ascii_case(level))?;
        match member.value.as_ref()?.value.as_ref()? {
            Value::Text(text) => Some((number(text)?, text.clone())),
            _ => None,
        }
    })
}

fn number(text: &str) -> Option<i32> {
    Some(match text.to_ascii_lowercase().as_str() {
        "trace" | "verbose" => 1,
        "debug" => 5,
        "info" | "information" | "informational" => 9,
        "notice" => 10,
        "warn" | "warning" => 13,
        "error" | "err" => 17,
        "critical" | "crit" | "alert" => 18,
        "fatal" | "panic" | "emerg" | "emergency" => 21,
        _ => return None,
    })
}

impl<'de> Deserialize<'de> for AnyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = AnyValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<AnyValue, E> {
        Ok(AnyValue { value: None })
    }

    fn visit_bool<E>(self, value: bool) -> Result<AnyValue, E> {
        Ok(Value::Bool(value).into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<AnyValue, E> {
        Ok(Value::Int(value).into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<AnyValue, E> {
        Ok(match i64::try_from(value) {
            Ok(value) => Value::Int(value),
            Err(_) => Value::Double(value as f64),
        }
        .into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<AnyValue, E> {
        Ok(Value::Double(value).into())
    }

    fn visit_str<E>(self, value: &str) -> Result<AnyValue, E> {
        Ok(Value::Text(value.to_owned()).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<AnyValue, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(ArrayValue { values }).into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<AnyValue, A::Error> {
        let mut values: Vec<KeyValue> = Vec::new();
        while let Some((key, value)) = members.next_entry::<String, AnyValue>()? {
            values.push(KeyValue {
                key,
                value: Some(value),
            });
        }
        Ok(Value::Members(KeyValueList { values }).into())
    }
}
