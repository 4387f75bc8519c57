//! The plugin's own configuration: for the daemon a text that it passes on, and nothing that it looks into.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A plugin's own configuration, as JSON.
///
/// Kept as text for as long as the plugin is declared: as a tree, the hundreds of resources of an enforcement take
/// several times the memory.
///
/// ```
/// use bulkhead::manifest::PluginConfig;
///
/// let config = PluginConfig::from(serde_json::json!({"parse": "json"}));
/// assert_eq!(config.json(), r#"{"parse":"json"}"#);
/// assert_eq!(config.value()["parse"], "json");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PluginConfig(Box<str>);

impl PluginConfig {
    /// The text, in one line.
    pub fn json(&self) -> &str {
        &self.0
    }

    /// What it says.
    pub fn value(&self) -> Value {
        let value = serde_json::from_str(self.json());
        debug_assert!(value.is_ok(), "it was made from a value");
        value.unwrap_or_default()
    }
}

impl From<Value> for PluginConfig {
    fn from(value: Value) -> Self {
        Self(value.to_string().into())
    }
}

impl Default for PluginConfig {
    fn default() -> Self {
        Value::Null.into()
    }
}

impl fmt::Debug for PluginConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.json())
    }
}

impl<'de> Deserialize<'de> for PluginConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::from)
    }
}

impl Serialize for PluginConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

impl JsonSchema for PluginConfig {
    fn schema_name() -> Cow<'static, str> {
        "PluginConfig".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!(true)
    }
}
