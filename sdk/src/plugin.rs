//! What every plugin is, whatever its roles: a configuration, a constructor, and state that its
//! successor may take over.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};

/// A plugin: made from its configuration, asked by the traits of its roles.
///
/// ```
/// use bulkhead_sdk::{NoConfig, Plugin, Result, Snapshot};
///
/// struct Counter(u64);
///
/// impl Plugin for Counter {
///     type Config = NoConfig;
///
///     fn new(_: NoConfig) -> Result<Self> {
///         Ok(Counter(0))
///     }
///
///     fn snapshot(&mut self) -> Option<Snapshot> {
///         Some(Snapshot { version: 1, data: self.0.to_le_bytes().to_vec() })
///     }
///
///     fn restore(&mut self, snapshot: Snapshot) -> Result<()> {
///         if snapshot.version != 1 {
///             bulkhead_sdk::bail!("cannot read snapshot version {}", snapshot.version);
///         }
///         self.0 = u64::from_le_bytes(snapshot.data.as_slice().try_into()?);
///         Ok(())
///     }
/// }
/// # let mut counter = bulkhead_sdk::testing::Harness::<Counter>::new("{}")?;
/// # let mut snapshot = Snapshot { version: 1, data: 7_u64.to_le_bytes().to_vec() };
/// # counter.restore(snapshot.clone())?;
/// # assert_eq!(counter.snapshot(), Some(snapshot.clone()));
/// # snapshot.version = 2;
/// # assert!(counter.restore(snapshot).is_err());
/// # Result::<()>::Ok(())
/// ```
pub trait Plugin: Sized + 'static {
    /// The manifest's `config`. Its JSON Schema becomes part of the component, so that a wrong
    /// configuration is refused before the plugin is loaded; give fields doc comments and set
    /// `#[serde(deny_unknown_fields)]`. [`NoConfig`] if there is nothing to configure.
    type Config: Configuration;

    /// Makes the plugin. An error refuses the configuration, and an earlier revision keeps running;
    /// say which field is wrong with [`Error::at`].
    ///
    /// ```
    /// use bulkhead_sdk::{Error, Plugin, Result, testing::Harness};
    ///
    /// #[derive(serde::Deserialize, schemars::JsonSchema)]
    /// struct Sample {
    ///     rate: u32,
    /// }
    ///
    /// impl Plugin for Sample {
    ///     type Config = Self;
    ///     fn new(config: Self) -> Result<Self> {
    ///         match config.rate {
    ///             0 => Err(Error::new("keeps nothing; write 1 to keep every line").at("rate")),
    ///             _ => Ok(config),
    ///         }
    ///     }
    /// }
    ///
    /// let refused = Harness::<Sample>::new(r#"{"rate": 0}"#).err().unwrap();
    /// assert_eq!(refused.field(), "rate");
    /// ```
    fn new(config: Self::Config) -> Result<Self>;

    /// State that a successor should go on with. Called when the plugin is updated or restarted.
    ///
    /// ```
    /// use bulkhead_sdk::{NoConfig, Plugin, Result, Snapshot, testing::Harness};
    ///
    /// struct Counter(u64);
    /// impl Plugin for Counter {
    /// #   type Config = NoConfig;
    /// #   fn new(_: NoConfig) -> Result<Self> { Ok(Counter(7)) }
    ///     fn snapshot(&mut self) -> Option<Snapshot> {
    ///         Some(Snapshot { version: 1, data: self.0.to_string().into() })
    ///     }
    /// }
    ///
    /// let snapshot = Harness::<Counter>::new("{}")?.snapshot();
    /// assert_eq!(snapshot.map(|it| it.data), Some(b"7".to_vec()));
    /// # Result::<()>::Ok(())
    /// ```
    fn snapshot(&mut self) -> Option<Snapshot> {
        None
    }

    /// Takes over a predecessor's state, before the first call of a role. An error refuses the
    /// update. Unless implemented, the state is let go.
    ///
    /// ```
    /// use bulkhead_sdk::{NoConfig, Plugin, Result, Snapshot, testing::Harness};
    ///
    /// struct Counter(u64);
    /// impl Plugin for Counter {
    /// #   type Config = NoConfig;
    /// #   fn new(_: NoConfig) -> Result<Self> { Ok(Counter(0)) }
    /// #   fn snapshot(&mut self) -> Option<Snapshot> {
    /// #       Some(Snapshot { version: 1, data: self.0.to_string().into() })
    /// #   }
    ///     fn restore(&mut self, snapshot: Snapshot) -> Result<()> {
    ///         self.0 = String::from_utf8(snapshot.data)?.parse()?;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut plugin = Harness::<Counter>::new("{}")?;
    /// plugin.restore(Snapshot { version: 1, data: b"8".to_vec() })?;
    /// # assert_eq!(plugin.snapshot().unwrap().data, b"8");
    /// assert!(plugin.restore(Snapshot { version: 1, data: b"?".to_vec() }).is_err());
    /// # Result::<()>::Ok(())
    /// ```
    fn restore(&mut self, _snapshot: Snapshot) -> Result<()> {
        Ok(())
    }
}

/// State handed from a plugin's old revision to the new one.
///
/// ```
/// let snapshot = bulkhead_sdk::Snapshot { version: 2, data: b"{}".to_vec() };
/// assert_eq!(snapshot.version, 2);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The layout of `data`, chosen by the plugin.
    pub version: u32,
    /// The state.
    pub data: Vec<u8>,
}

/// What a manifest's `config` is read into: whatever serde reads and schemars describes, or [`NoConfig`].
///
/// ```
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Limits {
///     rate: u32,
/// }
/// fn is_configuration<C: bulkhead_sdk::Configuration>() {}
/// is_configuration::<Limits>();
/// ```
pub trait Configuration: Sized {
    /// Its JSON Schema.
    ///
    /// ```
    /// use bulkhead_sdk::{Configuration, NoConfig};
    /// assert!(NoConfig::schema().contains("additionalProperties"));
    /// ```
    fn schema() -> String;

    /// Reads it from the JSON that the host passes to `init`.
    ///
    /// ```
    /// use bulkhead_sdk::{Configuration, NoConfig};
    /// assert_eq!(NoConfig::read(r#"{"a": 1}"#).unwrap_err().field(), "a");
    /// ```
    fn read(json: &str) -> Result<Self>;
}

impl<C: DeserializeOwned + JsonSchema> Configuration for C {
    fn schema() -> String {
        schema::<C>()
    }

    fn read(json: &str) -> Result<Self> {
        parse(json)
    }
}

/// The configuration of a plugin that has none: absent or `{}`. It takes no parser into the component, which is
/// then half as large.
///
/// ```
/// use bulkhead_sdk::{Configuration, NoConfig};
/// assert!(NoConfig::read("{}").is_ok());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoConfig {}

impl Configuration for NoConfig {
    fn schema() -> String {
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","title":"NoConfig","type":["object","null"],"additionalProperties":false}"#.to_owned()
    }

    fn read(json: &str) -> Result<Self> {
        let blank = |it: &char| it.is_ascii_whitespace();
        let is = |word: &str| json.chars().filter(|it| !blank(it)).eq(word.chars());
        if is("null") || is("{}") {
            return Ok(Self {});
        }
        match json.split('"').nth(1) {
            Some(field) => Err(Error::new("there is nothing to configure").at(field)),
            None => Err(Error::new("there is nothing to configure")),
        }
    }
}

/// The JSON Schema of `P`'s configuration.
pub(crate) fn config_schema<P: Plugin>() -> String {
    P::Config::schema()
}

/// A configuration of which every field is optional may be absent altogether, which reaches the
/// plugin as `null`; the derived schema would refuse that, so it is widened here.
fn schema<C: DeserializeOwned + JsonSchema>() -> String {
    let mut schema = schemars::schema_for!(C);
    if schema.get("type").and_then(|kind| kind.as_str()) == Some("object")
        && C::deserialize(Value::Object(serde_json::Map::new())).is_ok()
    {
        let kinds = ["object", "null"].map(Value::from);
        schema.insert("type".to_owned(), Value::Array(kinds.into()));
    }
    schema.as_value().to_string()
}

/// Makes a plugin from the JSON that the host passes to `init`.
pub(crate) fn configure<P: Plugin>(json: &str) -> Result<P> {
    P::new(P::Config::read(json)?)
}

fn parse<C: DeserializeOwned>(json: &str) -> Result<C> {
    // Through a document, which costs a few microseconds once: the derived code is then compiled for
    // one input type only, and errors carry no line and column of a text that nobody can look at.
    let document: Value = serde_json::from_str(json)?;
    if document.is_null()
        && let Ok(config) = C::deserialize(Value::Null)
    {
        // Right for `()` and `Option`; a struct of optional fields takes an empty object.
        return Ok(config);
    }
    let document = match document {
        Value::Null => Value::Object(serde_json::Map::new()),
        other => other,
    };
    serde_path_to_error::deserialize(document).map_err(|error| {
        let path = error.path().to_string();
        // The root's path is written as a single dot.
        let path = if path == "." { String::new() } else { path };
        Error::new(error.inner().to_string()).at(path)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Rule {
        #[allow(dead_code)]
        rate: u32,
    }

    #[derive(Debug, serde::Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[serde(default)]
        rules: Vec<Rule>,
    }

    struct Listed(Config);
    impl Plugin for Listed {
        type Config = Config;
        fn new(config: Config) -> Result<Self> {
            Ok(Self(config))
        }
    }

    fn refusal(json: &str) -> (String, String) {
        configure::<Listed>(json).err().unwrap().into_parts()
    }

    #[test]
    fn names_the_field() {
        let (field, message) = refusal(r#"{"rules":[{"rate":1},{"rate":"x"}]}"#);
        assert_eq!(field, "rules[1].rate");
        assert_eq!(message, "invalid type: string \"x\", expected u32");
        let (field, message) = refusal(r#"{"rules":[{}]}"#);
        assert_eq!(
            (field.as_str(), message.as_str()),
            ("rules[0]", "missing field `rate`")
        );
        let (field, message) = refusal(r#"{"rule":[]}"#);
        assert_eq!(field, "rule");
        assert_eq!(message, "unknown field `rule`, expected `rules`");
    }

    #[test]
    fn absent_configuration_is_empty_if_that_suffices() {
        assert!(configure::<Listed>("null").unwrap().0.rules.is_empty());
        let schema: serde_json::Value = serde_json::from_str(&config_schema::<Listed>()).unwrap();
        assert_eq!(schema["type"], serde_json::json!(["object", "null"]));
        assert_eq!(schema["additionalProperties"], false);
    }
}
