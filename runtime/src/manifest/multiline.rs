//! Which lines of a source make one record, as a manifest says it.

use std::borrow::Cow;
use std::fmt;

use regex::bytes::{Regex, RegexBuilder};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, IntoDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::quantity::Period;

/// A pattern that needs more than this when compiled is a mistake.
const MAX_COMPILED: usize = 1 << 20;
/// How many characters of a pattern a refusal shows.
const LONGEST_SHOWN: usize = 60;

/// How lines are joined to records.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", try_from = "Fields")]
pub struct Multiline {
    /// Which lines belong together.
    #[serde(flatten)]
    pub rule: JoinRule,
    /// A record is handed on when no further line came for so long.
    pub timeout: Period,
    /// A record of so many lines is handed on; the next line begins another one.
    pub max_lines: u32,
}

impl Multiline {
    fn default_timeout() -> Period {
        Period::seconds(2)
    }
    fn default_max_lines() -> u32 {
        // A stack overflow in Java has 1024 frames.
        2000
    }
}

/// Which lines belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum JoinRule {
    /// A line that matches begins a record, every other line continues it.
    Start(LinePattern),
    /// A line that matches continues the record before it, every other line begins one.
    Continuation(LinePattern),
    /// Stack traces as these languages write them; of several, the first whose first line it is.
    #[serde(rename = "preset", serialize_with = "one_or_list")]
    #[schemars(with = "Presets")]
    Presets(Vec<Preset>),
}

/// The language whose stack traces are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Preset {
    /// Exceptions of the Java virtual machine, with their causes.
    Java,
    /// Tracebacks, chained ones and exception groups included.
    Python,
    /// Panics and fatal errors, with all goroutines.
    Go,
}

/// A regular expression that is matched against one line.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct LinePattern(Regex);

impl LinePattern {
    /// The compiled expression.
    pub fn regex(&self) -> &Regex {
        &self.0
    }
}

impl PartialEq for LinePattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for LinePattern {}

impl fmt::Display for LinePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl From<LinePattern> for String {
    fn from(pattern: LinePattern) -> Self {
        pattern.0.as_str().to_owned()
    }
}

// The decoder takes what follows the line feed of a message as the remedy.
impl TryFrom<String> for LinePattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Err(
                "is empty and fits every line\nwrite what tells the lines apart, for example '^\\d{4}-' or '^\\s'"
                    .to_owned(),
            );
        }
        let built = RegexBuilder::new(&text)
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED)
            .build();
        // Without escapes: an escaped backslash would be another expression.
        let mut shown = text.replace(char::is_control, "\u{fffd}");
        if let Some((end, _)) = shown.char_indices().nth(LONGEST_SHOWN) {
            shown.truncate(end);
            shown += "...";
        }
        built.map(Self).map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => format!(
                "`{shown}` needs more than {limit} bytes when compiled\nuse smaller repetitions, or `(?-u)` for classes of ASCII only"
            ),
            error => {
                // Drawn over several lines; the last one says what is wrong.
                let error = error.to_string();
                let why = error.lines().last().unwrap_or_default();
                format!(
                    "`{shown}` is no regular expression: {}\nput a backslash before characters that are meant as such, and the whole between single quotes",
                    why.trim_start_matches("error: ")
                )
            }
        })
    }
}

/// As it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fields {
    /// A line that matches begins a record, every other line continues it.
    #[serde(default)]
    start: Option<LinePattern>,
    /// A line that matches continues the record before it, every other line begins one.
    #[serde(default)]
    continuation: Option<LinePattern>,
    /// Stack traces as these languages write them; of several, the first whose first line it is.
    #[serde(default)]
    preset: Option<Presets>,
    /// A record is handed on when no further line came for so long.
    #[serde(default = "Multiline::default_timeout")]
    timeout: Period,
    /// A record of so many lines is handed on; the next line begins another one.
    #[serde(default = "Multiline::default_max_lines")]
    max_lines: u32,
}

impl TryFrom<Fields> for Multiline {
    type Error = &'static str;

    fn try_from(fields: Fields) -> Result<Self, Self::Error> {
        let rules = [
            fields.start.map(JoinRule::Start),
            fields.continuation.map(JoinRule::Continuation),
            fields.preset.map(|presets| JoinRule::Presets(presets.0)),
        ];
        let mut rules = rules.into_iter().flatten();
        match (rules.next(), rules.next()) {
            (Some(rule), None) => Ok(Self {
                rule,
                timeout: fields.timeout,
                max_lines: fields.max_lines,
            }),
            (None, _) => Err(
                "does not say which lines belong together\nadd exactly one of `start:`, `continuation:` and `preset:`",
            ),
            (Some(_), Some(_)) => Err(
                "says in several ways which lines belong together\nkeep exactly one of `start:`, `continuation:` and `preset:`",
            ),
        }
    }
}

/// One preset or a list of them.
struct Presets(Vec<Preset>);

impl<'de> Deserialize<'de> for Presets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Presets;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("java, python, go or a list of these")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Presets, E> {
                Ok(Presets(vec![Preset::deserialize(
                    text.into_deserializer(),
                )?]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Presets, A::Error> {
                let mut presets = Vec::new();
                while let Some(preset) = items.next_element()? {
                    if presets.contains(&preset) {
                        return Err(de::Error::custom("names a preset twice\nkeep one of them"));
                    }
                    presets.push(preset);
                }
                if presets.is_empty() {
                    return Err(de::Error::custom(
                        "is empty\nwrite java, python, go or a list of these",
                    ));
                }
                Ok(Presets(presets))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Presets {
    fn schema_name() -> Cow<'static, str> {
        "Presets".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let preset = generator.subschema_for::<Preset>();
        json_schema!({"anyOf": [preset, {"type": "array", "items": preset}]})
    }
}

fn one_or_list<S: Serializer>(presets: &[Preset], serializer: S) -> Result<S::Ok, S::Error> {
    match presets {
        [one] => one.serialize(serializer),
        list => list.serialize(serializer),
    }
}
