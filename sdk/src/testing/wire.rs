//! Values of the contract as the host writes them: JSON in which bytes are texts, or `{"hex"}`, and numbers that
//! JSON has not are `"inf"`, `"-inf"` and `"nan"`.

use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};

/// Such a value.
pub(super) struct Wire(pub(super) Value);

/// Reads one.
pub(super) fn read<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(Wire(value))
}

impl IntoDeserializer<'_, Error> for Wire {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Wire {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(it) => visitor.visit_bool(it),
            Value::String(it) => visitor.visit_string(it),
            Value::Number(it) => it.deserialize_any(visitor),
            Value::Array(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Wire)))
            }
            Value::Object(map) => {
                let members = map.into_iter().map(|(name, value)| (name, Wire(value)));
                visitor.visit_map(MapDeserializer::new(members))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.as_str() {
            Some("inf") => visitor.visit_f64(f64::INFINITY),
            Some("-inf") => visitor.visit_f64(f64::NEG_INFINITY),
            Some("nan") => visitor.visit_f64(f64::NAN),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let bytes = match &self.0 {
            Value::String(text) => text.as_bytes().to_vec(),
            Value::Object(_) => {
                let hex = self.0["hex"].as_str();
                hex.and_then(unhex)
                    .ok_or_else(|| Error::custom("bytes are neither a text nor hexadecimal"))?
            }
            _ => return self.deserialize_any(visitor),
        };
        visitor.visit_seq(SeqDeserializer::new(bytes.into_iter()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::String(case) => visitor.visit_enum(case.into_deserializer()),
            Value::Object(map) => {
                let members = map.into_iter().map(|(name, value)| (name, Wire(value)));
                visitor.visit_enum(MapAccessDeserializer::new(MapDeserializer::new(members)))
            }
            _ => Err(Error::custom("a case is a text, or an object of one")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 char str string bytes byte_buf unit
        unit_struct newtype_struct tuple tuple_struct map struct identifier ignored_any
    }
}

fn unhex(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair)
            .ok()
            .filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    pairs.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::bindings::lifecycle::bulkhead::plugin::state;
    use crate::bindings::logs::exports::bulkhead::plugin::logs;
    use crate::bindings::metrics::exports::bulkhead::plugin::metrics;
    use serde_json::json;

    #[test]
    fn what_the_host_writes_is_read() {
        let verdict: Result<logs::Verdict, String> = read(json!({"Ok": {"Keep": [0, 2]}})).unwrap();
        assert!(matches!(verdict, Ok(logs::Verdict::Keep(lines)) if lines == [0, 2]));
        let verdict: Result<logs::Verdict, String> = read(json!({"Ok": "KeepAll"})).unwrap();
        assert!(matches!(verdict, Ok(logs::Verdict::KeepAll)));
        let point: metrics::Point = read(json!({"at": "inf", "value": 3.0})).unwrap();
        assert_eq!(point.at, f64::INFINITY);
        let value: Result<Option<Vec<u8>>, state::Error> = read(json!({"Ok": "text"})).unwrap();
        assert_eq!(value.unwrap().unwrap(), b"text");
        let value: Option<Vec<u8>> = read(json!({"hex": "00ff"})).unwrap();
        assert_eq!(value.unwrap(), [0, 255]);
        let done: Result<(), state::Error> = read(json!({"Err": {"OverQuota": 4}})).unwrap();
        assert!(matches!(done, Err(state::Error::OverQuota(4))));
        let facts: Vec<(String, String)> = read(json!([["a", "b"]])).unwrap();
        assert_eq!(facts, [("a".to_owned(), "b".to_owned())]);
    }
}
