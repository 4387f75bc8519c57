//! Values of the contract as JSON that people can read: bytes as the text that they mostly are, numbers that JSON
//! has not (infinity) as strings. The names are those of the Rust bindings on both sides.

use serde::ser::{
    Impossible, Serialize, SerializeSeq, SerializeStruct, SerializeTuple, Serializer,
};
use serde_json::{Error, Map, Value};

/// A value as JSON; null for what has no form in it, which nothing of the contract is.
pub(crate) fn encode(value: &(impl Serialize + ?Sized)) -> Value {
    value
        .serialize(Encoder)
        .map(Value::from)
        .unwrap_or_default()
}

/// Bytes as text if they are, else as `{"hex": "00ff"}`. None at all are an empty list, as of anything.
pub(crate) fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        _ if bytes.is_empty() => Value::Array(Vec::new()),
        Ok(text) => Value::from(text),
        Err(_) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            one("hex", Value::from(hex))
        }
    }
}

/// A number that may be infinite.
pub(crate) fn number(value: f64) -> Value {
    if value.is_finite() {
        Value::from(value)
    } else if value.is_nan() {
        Value::from("nan")
    } else {
        Value::from(if value > 0.0 { "inf" } else { "-inf" })
    }
}

fn one(key: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(key.to_owned(), value)]))
}

struct Encoder;

/// A value. A byte is kept apart, because a list of them is not taken for a list of numbers.
enum Out {
    Byte(u8),
    Value(Value),
}

impl From<Out> for Value {
    fn from(out: Out) -> Self {
        match out {
            Out::Byte(byte) => Value::from(byte),
            Out::Value(value) => value,
        }
    }
}

/// A list under way.
enum List {
    Values(Vec<Value>),
    Bytes(Vec<u8>),
}

/// A record under way.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Serializer for Encoder {
    type Ok = Out;
    type Error = Error;
    type SerializeSeq = List;
    type SerializeTuple = List;
    type SerializeTupleStruct = Impossible<Out, Error>;
    type SerializeTupleVariant = Impossible<Out, Error>;
    type SerializeMap = Impossible<Out, Error>;
    type SerializeStruct = Fields;
    type SerializeStructVariant = Impossible<Out, Error>;

    fn serialize_bool(self, value: bool) -> Result<Out, Error> {
        Ok(Out::Value(Value::from(value)))
    }
    fn serialize_i8(self, value: i8) -> Result<Out, Error> {
        Ok(Out::Value(Value::from(value)))
    }
    fn serialize_i16(self, value: i16) -> Result<Out, Error> {
        Ok(Out::Value(Value::from(value)))
    }
    fn serialize_i32(self, value: i32) -> Result<Out, Error> {
        Ok(Out::Value(Value::from(value)))
    }
    fn serialize_i64(self, value: i64) -> Result<Out, Error> {
        Ok(Out::Value(Value::from(value)))
    }
    fn serialize_u8(self, value: u8) -> Result<Out, Error> {
        Ok(Out::Byte(value))
    }
    fn serialize_u16(self, value: u16) -> Result<Out, Error> {
        Ok(Out::Value(Value::from(value)))
    }
    fn serialize_u32(self, value: u32) -> Result<Out, Error> {
        Ok(Out::Value(Value::from(value)))
    }
    fn serialize_u64(self, value: u64) -> Result<Out, Error> {
        Ok(Out::Value(Value::from(value)))
    }
    fn serialize_f32(self, value: f32) -> Result<Out, Error> {
        Ok(Out::Value(number(value.into())))
    }
    fn serialize_f64(self, value: f64) -> Result<Out, Error> {
        Ok(Out::Value(number(value)))
    }
    fn serialize_char(self, value: char) -> Result<Out, Error> {
        Ok(Out::Value(Value::from(value.to_string())))
    }
    fn serialize_str(self, value: &str) -> Result<Out, Error> {
        Ok(Out::Value(Value::from(value)))
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<Out, Error> {
        Ok(Out::Value(bytes(value)))
    }
    fn serialize_none(self) -> Result<Out, Error> {
        Ok(Out::Value(Value::Null))
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Out, Error> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<Out, Error> {
        Ok(Out::Value(Value::Null))
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<Out, Error> {
        Ok(Out::Value(Value::Null))
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Out, Error> {
        Ok(Out::Value(Value::from(variant)))
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Out, Error> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Out, Error> {
        Ok(Out::Value(one(variant, value.serialize(self)?.into())))
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<List, Error> {
        Ok(list())
    }
    fn serialize_tuple(self, _: usize) -> Result<List, Error> {
        Ok(list())
    }
    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Error> {
        Err(foreign(name))
    }
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        Err(foreign(name))
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Error> {
        Err(foreign("a map"))
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields, Error> {
        Ok(Fields::default())
    }
    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        Err(foreign(name))
    }
}

/// What WIT has not.
fn foreign(name: &str) -> Error {
    serde::ser::Error::custom(format!("the contract has no {name}"))
}

fn list() -> List {
    List::Values(Vec::new())
}

impl List {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        match (value.serialize(Encoder)?, &mut *self) {
            (Out::Byte(byte), List::Bytes(bytes)) => bytes.push(byte),
            (Out::Byte(byte), List::Values(values)) if values.is_empty() => {
                *self = List::Bytes(vec![byte]);
            }
            (out, List::Values(values)) => values.push(out.into()),
            // Of a tuple that begins with a byte, which the contract has not.
            (Out::Value(_), List::Bytes(_)) => {
                return Err(serde::ser::Error::custom("bytes and others in one list"));
            }
        }
        Ok(())
    }

    fn list(self) -> Out {
        Out::Value(match self {
            List::Values(values) => Value::Array(values),
            List::Bytes(held) => bytes(&held),
        })
    }
}

impl SerializeSeq for List {
    type Ok = Out;
    type Error = Error;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.push(value)
    }
    fn end(self) -> Result<Out, Error> {
        Ok(self.list())
    }
}

impl SerializeTuple for List {
    type Ok = Out;
    type Error = Error;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.push(value)
    }
    fn end(self) -> Result<Out, Error> {
        Ok(self.list())
    }
}

impl SerializeStruct for Fields {
    type Ok = Out;
    type Error = Error;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let value = value.serialize(Encoder)?.into();
        self.0.insert(key.to_owned(), value);
        Ok(())
    }
    fn end(self) -> Result<Out, Error> {
        Ok(Out::Value(Value::Object(self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(serde::Serialize)]
    struct Record<'a> {
        text: &'a [u8],
        binary: Vec<u8>,
        none: &'a [u8],
        numbers: Vec<u32>,
        bound: f64,
        kind: Kind,
        either: Result<(), String>,
    }

    #[derive(serde::Serialize)]
    enum Kind {
        KeepAll,
        Keep(Vec<u32>),
    }

    #[test]
    fn people_can_read_it() {
        let record = Record {
            text: b"a b",
            binary: vec![0xff, 0],
            none: b"",
            numbers: vec![1, 2],
            bound: f64::INFINITY,
            kind: Kind::Keep(vec![7]),
            either: Err("no".to_owned()),
        };
        assert_eq!(
            encode(&(record, Kind::KeepAll)),
            json!([{
                "text": "a b", "binary": {"hex": "ff00"}, "none": [], "numbers": [1, 2], "bound": "inf",
                "kind": {"Keep": [7]}, "either": {"Err": "no"},
            }, "KeepAll"])
        );
    }
}
