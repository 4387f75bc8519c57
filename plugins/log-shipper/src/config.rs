//! The configuration: types and their descriptions, which become the schema. What the fields mean
//! for a line is compiled in the modules named after them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// What happens to a line, in this order: `parse`, `time`, `filters`, `sample`, `routes`, then the
/// changes `redact`, `remove`, `rename`, `add`. Conditions therefore see the line as it was written.
///
/// Fields are named by dotted paths (`http.status`); a key that itself contains the dots is found too.
/// Names that start with `@source.` are about where the line comes from: `@source.path`,
/// `@source.stream` (`stdout` or `stderr`) and attributes such as `@source.k8s.namespace.name`. A line
/// that is not parsed has the one field `message`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// How a line becomes fields.
    pub parse: Parse,
    /// What happens to a line that cannot be parsed. It is never changed, only treated as text.
    pub unparsed: Unparsed,
    /// Takes the line's time from a field.
    pub time: Option<Time>,
    /// A line goes on if every filter lets it pass.
    pub filters: Vec<Filter>,
    /// Lets only some of the lines pass. The first rule whose `when` holds decides.
    pub sample: Vec<Sample>,
    /// Sends lines to destinations by name. The first rule whose `when` holds decides; a line that
    /// none concerns goes to every destination that takes lines without a route.
    pub routes: Vec<Route>,
    /// Replaces what matches a pattern.
    pub redact: Vec<Redact>,
    /// Fields to remove.
    pub remove: Vec<String>,
    /// New names of fields, by their path; the field stays in the object where it is.
    pub rename: BTreeMap<String, String>,
    /// Fields to add. They take the place of fields of the same name.
    pub add: BTreeMap<String, Scalar>,
}

/// How a line becomes fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Parse {
    /// JSON if the line starts with `{`, otherwise text.
    #[default]
    Auto,
    /// A JSON object.
    Json,
    /// `level=info msg="a b"`; values become strings.
    Logfmt,
    /// Not at all.
    Text,
    /// A regular expression with named groups, for example `^(?<level>\w+) (?<message>.*)$`; groups
    /// become string fields.
    Regex(String),
}

/// What happens to a line that cannot be parsed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Unparsed {
    /// It goes on as text, with the field `parseError` that names the format.
    #[default]
    Flag,
    /// It goes on as text.
    Keep,
    /// It is filtered out.
    Drop,
}

/// Takes the line's time from a field. A line without it, or with a value that is no time, keeps the
/// time it has.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Time {
    /// The field.
    pub field: String,
    /// How it is written.
    #[serde(default)]
    pub format: TimeFormat,
}

/// How a time is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TimeFormat {
    /// RFC 3339, or a number since 1970 whose unit follows from its size.
    #[default]
    Auto,
    /// For example `2026-11-24T10:00:00.25Z`.
    Rfc3339,
    /// Seconds since 1970, with decimals if there are any.
    EpochSeconds,
    /// Milliseconds since 1970.
    EpochMillis,
    /// Microseconds since 1970.
    EpochMicros,
    /// Nanoseconds since 1970.
    EpochNanos,
}

/// Lets lines pass or not.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Filter {
    /// Lines that it does not hold for are filtered out.
    Keep(Condition),
    /// Lines that it holds for are filtered out.
    Drop(Condition),
}

/// A test of a line. Exactly one of `equals`, `oneOf`, `contains`, `matches`, `exists` with the
/// `field` that it is about, or one of `all`, `any`, `not` without.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Condition {
    /// The field to test.
    pub field: Option<String>,
    /// Its text is this; numbers are compared by value.
    pub equals: Option<Scalar>,
    /// It equals one of these.
    pub one_of: Option<Vec<Scalar>>,
    /// Its text contains this.
    pub contains: Option<String>,
    /// Its text matches this regular expression somewhere.
    pub matches: Option<String>,
    /// It is there (`true`), whatever its value, or it is not (`false`).
    pub exists: Option<bool>,
    /// All of these hold.
    pub all: Option<Vec<Condition>>,
    /// At least one of these holds.
    pub any: Option<Vec<Condition>>,
    /// This does not hold.
    pub not: Option<Box<Condition>>,
}

/// Lets one line in `rate` pass.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sample {
    /// One line in this many passes: the first, then every `rate`-th.
    #[schemars(range(min = 1))]
    pub rate: u64,
    /// Decides by the value of this field instead, so that lines with the same value (a request's
    /// id) stay together, on every node. Lines without it are counted.
    #[serde(default)]
    pub key: Option<String>,
    /// Which lines the rule is about; all unless given.
    #[serde(default)]
    pub when: Option<Condition>,
}

/// Replaces what matches a pattern.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Redact {
    /// A regular expression. In a parsed line it is matched against one value at a time, never
    /// against keys.
    pub pattern: String,
    /// What to write instead; `$1` and `${name}` stand for groups of the pattern, `$$` for a dollar.
    #[serde(default = "Redact::default_replacement")]
    pub replace: String,
    /// Only in these fields; everywhere in the line unless given.
    #[serde(default)]
    pub fields: Vec<String>,
}

impl Redact {
    fn default_replacement() -> String {
        "[redacted]".to_owned()
    }
}

/// Sends lines to destinations by name.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// Which lines.
    pub when: Condition,
    /// Names of destinations of the manifest.
    #[schemars(length(min = 1))]
    pub to: Vec<String>,
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

impl Scalar {
    /// As it would stand in a line of text.
    pub fn text(&self) -> String {
        match self {
            Scalar::Bool(value) => value.to_string(),
            Scalar::Integer(value) => value.to_string(),
            Scalar::Number(value) => value.to_string(),
            Scalar::Text(value) => value.clone(),
        }
    }
}
