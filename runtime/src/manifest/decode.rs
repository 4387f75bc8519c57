//! From a tree to types, by serde: collects every unknown and doubled field with its place, and
//! names place and field of the first value that does not fit.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};

use super::error::{Problem, Problems, Reason, closest, quoted};
use super::yaml::{Key, Kind, Node, Style, push_key};

/// Reads `node` as a `T`. Everything that is wrong ends up in `problems`; without a value there is
/// at least one.
pub(super) fn decode<T: de::DeserializeOwned>(node: &Node, problems: &Problems) -> Option<T> {
    doubled_keys(node, problems);
    let path = Path::Root;
    match T::deserialize(Value {
        node,
        path: &path,
        problems,
    }) {
        Ok(value) => Some(value),
        Err(fail) => {
            problems.push(fail.0);
            None
        }
    }
}

/// Notes every key that a mapping has twice.
pub(super) fn doubled_keys(node: &Node, problems: &Problems) {
    node.walk(&mut String::new(), &mut |path, node| {
        let mut seen = std::collections::HashMap::new();
        for (key, _) in node.entries() {
            if let Some(first) = seen.insert(&*key.text, key.at) {
                let mut field = path.to_owned();
                push_key(&mut field, &key.text);
                // Lines of the block are not yet lines of the file; their distance is the same.
                let above = key.at.line.saturating_sub(first.line);
                let problem = format!("is here twice, first {above} line(s) above");
                problems.push(Problem::invalid(field, problem, "keep one of them").at(key.at));
            }
        }
    });
}

/// Where in a document, without allocating on the way down.
enum Path<'p> {
    Root,
    Key(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl Path<'_> {
    fn write(&self, out: &mut String) {
        match self {
            Path::Root => {}
            Path::Key(parent, key) => {
                parent.write(out);
                push_key(out, key);
            }
            Path::Index(parent, index) => {
                parent.write(out);
                out.push_str(&format!("[{index}]"));
            }
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write(&mut out);
        f.write_str(&out)
    }
}

/// An error on its way up; the innermost value that sees it adds its place.
#[derive(Debug)]
struct Fail(Problem);

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.problem)
    }
}

impl std::error::Error for Fail {}

impl de::Error for Fail {
    fn custom<T: fmt::Display>(message: T) -> Self {
        // A message may carry its remedy after a line feed.
        let message = message.to_string();
        let (problem, remedy) = message.split_once('\n').unwrap_or((&message, ""));
        Self(Problem::invalid("", problem, remedy))
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self(Problem::invalid(
            "",
            format!("is {unexpected}"),
            format!("write {expected}"),
        ))
    }

    fn invalid_value(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self(
            Problem::invalid(
                "",
                format!("there is no {}", quoted(variant)),
                choices("values", variant, expected),
            )
            .because(Reason::UnknownField),
        )
    }

    fn missing_field(field: &'static str) -> Self {
        Self(Problem::invalid(
            "",
            format!("has no `{field}`"),
            format!("add `{field}:`"),
        ))
    }
}

/// What could have been written instead of `given`.
pub(super) fn choices(what: &str, given: &str, known: &[&str]) -> String {
    let known_list = known.join(", ");
    match closest(given, known) {
        Some(name) => format!("did you mean `{name}`? known {what}: {known_list}"),
        None => format!("known {what}: {known_list}"),
    }
}

#[derive(Clone, Copy)]
struct Value<'a> {
    node: &'a Node,
    path: &'a Path<'a>,
    problems: &'a Problems,
}

impl Value<'_> {
    /// Adds place and field to an error that has none.
    fn placed<T>(&self, result: Result<T, Fail>) -> Result<T, Fail> {
        result.map_err(|fail| match fail.0.at {
            Some(_) => fail,
            None => Fail(Problem {
                field: self.path.to_string(),
                at: Some(self.node.at),
                ..fail.0
            }),
        })
    }

    fn describe(&self) -> String {
        match &self.node.kind {
            _ if self.node.is_null() => "empty".to_owned(),
            Kind::Scalar { text, .. } => quoted(text),
            Kind::Sequence(_) => "a list".to_owned(),
            Kind::Mapping(_) => "a mapping".to_owned(),
        }
    }

    fn wrong<T>(&self, wanted: &str) -> Result<T, Fail> {
        self.placed(Err(Fail(Problem::invalid(
            "",
            format!("is {}", self.describe()),
            format!("write {wanted}"),
        ))))
    }

    fn number<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fail> {
        match self.node.text().map(|text| (text, number(text))) {
            Some((_, Some(Number::Positive(n)))) => self.placed(visitor.visit_u64(n)),
            Some((_, Some(Number::Negative(n)))) => self.placed(visitor.visit_i64(n)),
            _ => self.wrong("a whole number"),
        }
    }
}

enum Number {
    Positive(u64),
    Negative(i64),
    Real(f64),
}

/// A plain scalar as a number, by YAML 1.2's core schema. What begins with a zero that other
/// versions of YAML take for octal is no number, so that nothing changes silently.
fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().map(Number::Positive);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return u64::from_str_radix(octal, 8).ok().map(Number::Positive);
    }
    let first = digits.bytes().find(|b| *b != b'.')?;
    if !first.is_ascii_digit() {
        return None;
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        if digits.len() > 1 && digits.starts_with('0') {
            return None;
        }
        if let Ok(n) = text.trim_start_matches('+').parse::<u64>() {
            return Some(Number::Positive(n));
        }
        if let Ok(n) = text.parse::<i64>() {
            return Some(Number::Negative(n));
        }
    }
    let real = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    if !text.bytes().all(real) {
        return None;
    }
    text.parse()
        .ok()
        .filter(|n: &f64| n.is_finite())
        .map(Number::Real)
}

impl<'de> Deserializer<'de> for Value<'_> {
    type Error = Fail;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        match &self.node.kind {
            Kind::Sequence(items) => self.placed(visitor.visit_seq(Items {
                value: self,
                items: items.iter().enumerate(),
            })),
            Kind::Mapping(entries) => self.placed(visitor.visit_map(Fields {
                value: self,
                known: None,
                entries: entries.iter(),
                next: None,
                taken: 0,
            })),
            Kind::Scalar { text, style } => {
                let plain = *style == Style::Plain;
                self.placed(match &**text {
                    _ if self.node.is_null() => visitor.visit_unit(),
                    "true" | "True" | "TRUE" if plain => visitor.visit_bool(true),
                    "false" | "False" | "FALSE" if plain => visitor.visit_bool(false),
                    text if plain => match number(text) {
                        Some(Number::Positive(n)) => visitor.visit_u64(n),
                        Some(Number::Negative(n)) => visitor.visit_i64(n),
                        Some(Number::Real(n)) => visitor.visit_f64(n),
                        None => visitor.visit_str(text),
                    },
                    text => visitor.visit_str(text),
                })
            }
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        match &self.node.kind {
            Kind::Scalar { text, .. } if &**text == "true" => visitor.visit_bool(true),
            Kind::Scalar { text, .. } if &**text == "false" => visitor.visit_bool(false),
            _ => self.wrong("true or false"),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        self.number(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        self.number(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        match self.node.text() {
            Some(text) => self.placed(visitor.visit_str(text)),
            None => self.wrong("text"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        if self.node.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        match self.node.kind {
            Kind::Sequence(_) => self.deserialize_any(visitor),
            _ => self.wrong("a list, one `- ` an item"),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        match self.node.kind {
            Kind::Mapping(_) => self.deserialize_any(visitor),
            _ => self.wrong("a mapping of names to values"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fail> {
        match &self.node.kind {
            Kind::Mapping(entries) => self.placed(visitor.visit_map(Fields {
                value: self,
                known: Some(known),
                entries: entries.iter(),
                next: None,
                taken: 0,
            })),
            _ => self.wrong(&format!("a mapping with the fields {}", known.join(", "))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fail> {
        let (variant, content) = match &self.node.kind {
            Kind::Scalar { .. } => match self.node.text() {
                Some(text) => (text, None),
                None => return self.wrong(&format!("one of {}", variants.join(", "))),
            },
            Kind::Sequence(_) => return self.wrong(&format!("one of {}", variants.join(", "))),
            Kind::Mapping(entries) => match entries.as_slice() {
                [(key, value)] => (&*key.text, Some(value)),
                entries => {
                    return self.placed(Err(one_of(
                        entries.iter().map(|(key, _)| &*key.text),
                        variants,
                    )));
                }
            },
        };
        self.placed(visitor.visit_enum(Variant {
            value: self,
            variant,
            content,
        }))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fail> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct tuple
        tuple_struct ignored_any
    }
}

/// Neither none nor several of `variants`.
fn one_of<'a>(given: impl Iterator<Item = &'a str>, variants: &[&str]) -> Fail {
    let given: Vec<String> = given.take(8).map(|name| format!("`{name}`")).collect();
    let all = variants.join(", ");
    Fail(match given.as_slice() {
        [] => Problem::invalid("", "is empty", format!("write one of {all}")),
        given => Problem::invalid(
            "",
            format!("has {} at once", given.join(" and ")),
            format!("keep exactly one of {all}"),
        ),
    })
}

struct Items<'a> {
    value: Value<'a>,
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Fail;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fail> {
        let Some((index, node)) = self.items.next() else {
            return Ok(None);
        };
        let path = Path::Index(self.value.path, index);
        let item = Value {
            node,
            path: &path,
            problems: self.value.problems,
        };
        item.placed(seed.deserialize(item)).map(Some)
    }
}

struct Fields<'a> {
    value: Value<'a>,
    /// A structure's fields; a map takes any.
    known: Option<&'static [&'static str]>,
    entries: std::slice::Iter<'a, (Key, Node)>,
    next: Option<&'a (Key, Node)>,
    /// Which of `known` were there, a bit each.
    taken: u64,
}

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = Fail;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fail> {
        for entry in self.entries.by_ref() {
            let (key, node) = entry;
            if let Some(known) = self.known {
                if !known.contains(&&*key.text) {
                    let path = Path::Key(self.value.path, &key.text);
                    self.value.problems.push(
                        Problem::invalid(
                            path.to_string(),
                            "unknown field",
                            choices("fields", &key.text, known),
                        )
                        .because(Reason::UnknownField)
                        .at(key.at),
                    );
                    continue;
                }
                // Doubled fields are reported already; the first one is taken.
                let bit = known.iter().position(|name| **name == *key.text);
                let bit = 1u64 << bit.unwrap_or(0).min(63);
                if self.taken & bit != 0 {
                    continue;
                }
                self.taken |= bit;
                // A field without a value is a field that was left out.
                if node.is_null() {
                    continue;
                }
            }
            self.next = Some(entry);
            return seed.deserialize((&*key.text).into_deserializer()).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fail> {
        let Some((key, node)) = self.next.take() else {
            return Err(de::Error::custom("a value without its key"));
        };
        let path = Path::Key(self.value.path, &key.text);
        let value = Value {
            node,
            path: &path,
            problems: self.value.problems,
        };
        value.placed(seed.deserialize(value))
    }
}

struct Variant<'a> {
    value: Value<'a>,
    variant: &'a str,
    content: Option<&'a Node>,
}

impl<'de, 'a> de::EnumAccess<'de> for Variant<'a> {
    type Error = Fail;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fail> {
        let variant = seed.deserialize(self.variant.into_deserializer())?;
        Ok((variant, self))
    }
}

impl Variant<'_> {
    /// Hands the variant's content to `read`, with its place.
    fn inside<T>(&self, read: impl FnOnce(Value<'_>) -> Result<T, Fail>) -> Result<T, Fail> {
        let path = Path::Key(self.value.path, self.variant);
        match self.content {
            Some(node) => {
                let value = Value {
                    node,
                    path: &path,
                    problems: self.value.problems,
                };
                value.placed(read(value))
            }
            None => Err(Fail(Problem::invalid(
                "",
                format!("`{}` has no content", self.variant),
                format!("write `{}:` and its fields below", self.variant),
            ))),
        }
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_> {
    type Error = Fail;

    fn unit_variant(self) -> Result<(), Fail> {
        match self.content {
            None => Ok(()),
            Some(_) => Err(Fail(Problem::invalid(
                "",
                format!("`{}` takes nothing below it", self.variant),
                format!("write just {}", self.variant),
            ))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fail> {
        self.inside(|value| seed.deserialize(value))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fail> {
        self.inside(|value| value.deserialize_seq(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fail> {
        self.inside(|value| value.deserialize_struct("", fields, visitor))
    }
}
