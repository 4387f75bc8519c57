//! Values of a component as JSON and back, as `tap::value` writes those of the bindings.

use serde_json::{Map, Value};
use wasmtime::component::{Type, Val};

use super::super::tap::{bytes, number};

/// A value as JSON.
pub(super) fn encode(value: &Val) -> Value {
    let held = |value: &Option<Box<Val>>| value.as_deref().map_or(Value::Null, encode);
    match value {
        Val::Bool(it) => Value::from(*it),
        Val::S8(it) => Value::from(*it),
        Val::U8(it) => Value::from(*it),
        Val::S16(it) => Value::from(*it),
        Val::U16(it) => Value::from(*it),
        Val::S32(it) => Value::from(*it),
        Val::U32(it) => Value::from(*it),
        Val::S64(it) => Value::from(*it),
        Val::U64(it) => Value::from(*it),
        Val::Float32(it) => number((*it).into()),
        Val::Float64(it) => number(*it),
        Val::Char(it) => Value::from(it.to_string()),
        Val::String(it) => Value::from(it.as_str()),
        Val::List(items) if matches!(items.first(), Some(Val::U8(_))) => {
            let byte = |item: &Val| match item {
                Val::U8(byte) => *byte,
                _ => 0,
            };
            bytes(&items.iter().map(byte).collect::<Vec<u8>>())
        }
        Val::List(items) | Val::Tuple(items) => items.iter().map(encode).collect(),
        Val::Record(fields) => fields
            .iter()
            .map(|(name, value)| (field(name), encode(value)))
            .collect(),
        Val::Enum(name) | Val::Variant(name, None) => Value::from(case(name)),
        Val::Variant(name, Some(value)) => one(&case(name), encode(value)),
        Val::Option(value) => held(value),
        Val::Result(Ok(value)) => one("Ok", held(value)),
        Val::Result(Err(value)) => one("Err", held(value)),
        // The contract has none of these.
        _ => Value::Null,
    }
}

/// JSON as a value of this type; the error begins with the path to what is wrong.
pub(super) fn decode(json: &Value, ty: &Type) -> Result<Val, String> {
    let wrong = |wanted: &str| Err(format!(": {json} is not {wanted}"));
    let integer = json.as_i64();
    let natural = json.as_u64();
    Ok(match ty {
        Type::Bool => match json.as_bool() {
            Some(it) => Val::Bool(it),
            None => return wrong("true or false"),
        },
        Type::S8 => narrow(integer, json).map(Val::S8)?,
        Type::S16 => narrow(integer, json).map(Val::S16)?,
        Type::S32 => narrow(integer, json).map(Val::S32)?,
        Type::S64 => narrow(integer, json).map(Val::S64)?,
        Type::U8 => narrow(natural, json).map(Val::U8)?,
        Type::U16 => narrow(natural, json).map(Val::U16)?,
        Type::U32 => narrow(natural, json).map(Val::U32)?,
        Type::U64 => narrow(natural, json).map(Val::U64)?,
        Type::Float32 => Val::Float32(float(json)? as f32),
        Type::Float64 => Val::Float64(float(json)?),
        Type::Char => match json.as_str().and_then(|text| text.chars().next()) {
            Some(it) => Val::Char(it),
            None => return wrong("a character"),
        },
        Type::String => match json.as_str() {
            Some(it) => Val::String(it.to_owned()),
            None => return wrong("a text"),
        },
        Type::List(list) if list.ty() == Type::U8 && !json.is_array() => {
            Val::List(read_bytes(json)?.into_iter().map(Val::U8).collect())
        }
        Type::List(list) => {
            let Some(items) = json.as_array() else {
                return wrong("a list");
            };
            let ty = list.ty();
            let items = items.iter().enumerate();
            let items: Result<Vec<Val>, String> = items
                .map(|(index, item)| decode(item, &ty).map_err(|error| format!("[{index}]{error}")))
                .collect();
            Val::List(items?)
        }
        Type::Tuple(tuple) => {
            let items = json
                .as_array()
                .filter(|items| items.len() == tuple.types().len());
            let Some(items) = items else {
                return wrong("a list of as many as the tuple has");
            };
            let items: Result<Vec<Val>, String> = tuple
                .types()
                .zip(items)
                .map(|(ty, item)| decode(item, &ty))
                .collect();
            Val::Tuple(items?)
        }
        Type::Record(record) => {
            let fields: Result<Vec<(String, Val)>, String> = record
                .fields()
                .map(|it| {
                    let name = field(it.name);
                    let value = json.get(&name).unwrap_or(&Value::Null);
                    let value = decode(value, &it.ty).map_err(|error| format!(".{name}{error}"))?;
                    Ok((it.name.to_owned(), value))
                })
                .collect();
            Val::Record(fields?)
        }
        Type::Enum(names) => match names.names().find(|name| json == case(name).as_str()) {
            Some(name) => Val::Enum(name.to_owned()),
            None => return wrong("a case of the enum"),
        },
        Type::Variant(variant) => {
            let (name, held) = variant_of(json);
            let Some(found) = variant
                .cases()
                .find(|it| name == Some(case(it.name).as_str()))
            else {
                return wrong("a case of the variant");
            };
            let held = match &found.ty {
                Some(ty) => Some(Box::new(decode(held, ty)?)),
                None => None,
            };
            Val::Variant(found.name.to_owned(), held)
        }
        Type::Option(_) if json.is_null() => Val::Option(None),
        Type::Option(option) => Val::Option(Some(Box::new(decode(json, &option.ty())?))),
        Type::Result(result) => {
            let (name, held) = variant_of(json);
            let inner = |ty: Option<Type>| -> Result<Option<Box<Val>>, String> {
                ty.map(|ty| decode(held, &ty).map(Box::new)).transpose()
            };
            match name {
                Some("Ok") => Val::Result(Ok(inner(result.ok())?)),
                Some("Err") => Val::Result(Err(inner(result.err())?)),
                _ => return wrong("{\"Ok\": ...} or {\"Err\": ...}"),
            }
        }
        _ => return wrong("of a type that the contract has"),
    })
}

fn narrow<W: Copy, N: TryFrom<W>>(wide: Option<W>, json: &Value) -> Result<N, String> {
    let narrow = wide.and_then(|wide| N::try_from(wide).ok());
    narrow.ok_or_else(|| format!(": {json} is not a whole number of that size"))
}

fn float(json: &Value) -> Result<f64, String> {
    match json.as_str() {
        Some("inf") => Ok(f64::INFINITY),
        Some("-inf") => Ok(f64::NEG_INFINITY),
        Some("nan") => Ok(f64::NAN),
        _ => json
            .as_f64()
            .ok_or_else(|| format!(": {json} is not a number")),
    }
}

fn read_bytes(json: &Value) -> Result<Vec<u8>, String> {
    if let Some(text) = json.as_str() {
        return Ok(text.as_bytes().to_vec());
    }
    let hex = json["hex"].as_str().unwrap_or("?");
    let pairs = hex.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair)
            .ok()
            .filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes: Option<Vec<u8>> = pairs.collect();
    bytes.ok_or_else(|| ": are bytes neither as a text nor as {\"hex\": \"00ff\"}".to_owned())
}

/// The case, and what it holds.
fn variant_of(json: &Value) -> (Option<&str>, &Value) {
    match json {
        Value::String(name) => (Some(name), &Value::Null),
        Value::Object(map) if map.len() == 1 => {
            let found = map.iter().next();
            (
                found.map(|(name, _)| name.as_str()),
                found.map_or(&Value::Null, |(_, held)| held),
            )
        }
        _ => (None, &Value::Null),
    }
}

fn one(key: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(key.to_owned(), value)]))
}

/// `path-offset` as `path_offset`.
fn field(name: &str) -> String {
    name.replace('-', "_")
}

/// `keep-all` as `KeepAll`.
fn case(name: &str) -> String {
    let capital = |part: &str| {
        let mut letters = part.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    name.split('-').map(capital).collect()
}
