//! Whether a manifest's `config` is as the plugin's own schema wants it.
//!
//! The schema comes from the guest, and what reads it keeps half a MiB of schemas of schemas for ever: so the daemon has
//! it done by a [child](crate::child), and not again for what was found right last.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use crate::child::{Ended, Refusal, Work};

/// The command of the child.
pub(crate) const COMMAND: &str = "check-config";
const WORK: Work = Work {
    command: COMMAND,
    worker: "the check of the configuration",
    input: "the module's schema or the configuration",
    least_memory: 4 << 20,
    deadline: Duration::from_secs(20),
};
/// The largest schema, in bytes.
const SCHEMA_BYTES: usize = 256 << 10;
/// The most that is said of one configuration.
const PROBLEMS: usize = 10;

/// What was found right last, of one plugin: a fresh instance of the revision at work is not checked again. Clones are
/// of the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Checked(Arc<Mutex<Option<u128>>>);

impl Checked {
    /// As [`check_config`], in a child. Waits for it, so not for async code.
    pub(super) fn check(&self, schema: &str, config: &str) -> Result<(), Ended> {
        if schema.is_empty() {
            return Ok(());
        }
        bounded(schema).map_err(Ended::Invalid)?;
        let input = serde_json::to_vec(&(schema, config))
            .map_err(|error| Ended::Failed(error.to_string()))?;
        let digest = xxh3_128(&input);
        let last = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *last() != Some(digest) {
            WORK.ask(&input)?;
            *last() = Some(digest);
        }
        Ok(())
    }
}

/// The child: two texts in, the schema and the configuration; nothing out if all is well.
pub(crate) fn child() -> ExitCode {
    WORK.serve(|input| {
        let broken = |error: serde_json::Error| Refusal::Broken(error.to_string());
        let (schema, config): (String, String) = serde_json::from_slice(input).map_err(broken)?;
        let config = serde_json::from_str(&config).map_err(broken)?;
        check_config(&schema, &config).map_err(Refusal::Invalid)?;
        Ok(Vec::new())
    })
}

fn bounded(schema: &str) -> Result<(), String> {
    if schema.len() > SCHEMA_BYTES {
        return Err(format!(
            "module: the configuration schema is larger than {} KiB",
            SCHEMA_BYTES >> 10
        ));
    }
    Ok(())
}

/// Checks a manifest's `config` against the schema that the plugin gave.
///
/// The schema comes from the guest: it is bounded, references leave it never, and its patterns
/// run on an engine without backtracking.
///
/// # Errors
/// What is wrong and where, for people.
pub fn check_config(schema: &str, config: &Value) -> Result<(), String> {
    if schema.is_empty() {
        return Ok(());
    }
    bounded(schema)?;
    let schema: Value = serde_json::from_str(schema)
        .map_err(|error| format!("module: the configuration schema is not JSON: {error}"))?;
    let validator = jsonschema::draft202012::options()
        .with_pattern_options(jsonschema::PatternOptions::regex())
        .build(&schema)
        .map_err(|error| format!("module: the configuration schema is invalid: {error}"))?;
    let mut problems = Vec::new();
    for error in validator.iter_errors(config) {
        tell(&error, &schema, &mut problems);
        if problems.len() >= PROBLEMS {
            break;
        }
    }
    problems.truncate(PROBLEMS);
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.join("\n")),
    }
}

/// Says where something is wrong.
pub(super) fn in_config(field: &str, message: &str) -> String {
    match field.chars().next() {
        None => format!("config: {message}"),
        Some('[') => format!("config{field}: {message}"),
        Some(_) => format!("config.{field}: {message}"),
    }
}

/// Says what is wrong, a line each. Of an optional value that is there it says what is wrong with that, and
/// not that it is neither right nor missing.
fn tell(error: &ValidationError<'_>, schema: &Value, problems: &mut Vec<String>) {
    let path = error.instance_path().as_str();
    let remedy = match error.kind() {
        ValidationErrorKind::AnyOf { context } => {
            let of_another_type = |it: &ValidationError<'_>| {
                let is_type = matches!(it.kind(), ValidationErrorKind::Type { .. });
                is_type && it.instance_path().as_str() == path
            };
            let mut meant = context.iter().filter(|it| !it.iter().any(of_another_type));
            if let (Some(meant), None) = (meant.next(), meant.next()) {
                for error in meant {
                    tell(error, schema, problems);
                }
                return;
            }
            String::new()
        }
        ValidationErrorKind::AdditionalProperties { .. } => {
            allowed(schema, error.schema_path().as_str())
        }
        _ => String::new(),
    };
    problems.push(in_config(&dotted(path), &format!("{error}{remedy}")));
}

/// The fields that the object has whose `additionalProperties` at `pointer` refused one.
fn allowed(schema: &Value, pointer: &str) -> String {
    let object = pointer.strip_suffix("/additionalProperties");
    let fields = object.and_then(|object| schema.pointer(object)?.get("properties")?.as_object());
    match fields {
        Some(fields) if !fields.is_empty() => {
            let names: Vec<&str> = fields.keys().map(String::as_str).take(32).collect();
            format!("; the fields here are: {}", names.join(", "))
        }
        _ => String::new(),
    }
}

/// `/filters/2/pattern` as `filters[2].pattern`.
fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty() {
            path.push_str(&format!("[{part}]"));
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&part);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn names_the_field() {
        let schema = json!({
            "type": "object",
            "properties": {"filters": {"type": "array", "items": {
                "type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": false
            }}},
            "additionalProperties": false
        })
        .to_string();
        assert_eq!(
            check_config(&schema, &json!({"filters": [{"n": 1}]})),
            Ok(())
        );
        let error = check_config(&schema, &json!({"filters": [{"n": "x"}]})).unwrap_err();
        assert!(error.starts_with("config.filters[0].n: "), "{error}");
        let error = check_config(&schema, &json!({"filter": []})).unwrap_err();
        assert!(error.contains("'filter'"), "{error}");
        assert!(error.ends_with("; the fields here are: filters"), "{error}");
        let schema = json!({
            "properties": {"a": {"$ref": "#/$defs/A"}},
            "$defs": {"A": {"properties": {"x": {}, "y": {}}, "additionalProperties": false}}
        })
        .to_string();
        let error = check_config(&schema, &json!({"a": {"z": 1}})).unwrap_err();
        assert!(error.ends_with("; the fields here are: x, y"), "{error}");
    }

    #[test]
    fn says_what_is_wrong_with_an_optional_value() {
        let schema = json!({
            "properties": {"file": {"anyOf": [{"$ref": "#/$defs/File"}, {"type": "null"}]}},
            "$defs": {"File": {
                "type": "object",
                "properties": {"mode": {"anyOf": [{"type": "string", "pattern": "^[0-7]{3,4}$"}, {"type": "null"}]}},
                "additionalProperties": false
            }}
        })
        .to_string();
        let error = check_config(&schema, &json!({"file": {"mode": "0899"}})).unwrap_err();
        assert!(
            error.starts_with("config.file.mode: \"0899\" does not match"),
            "{error}"
        );
        let error = check_config(&schema, &json!({"file": {"modes": "0644"}})).unwrap_err();
        assert!(error.starts_with("config.file: "), "{error}");
        assert!(error.ends_with("; the fields here are: mode"), "{error}");
        let error = check_config(&schema, &json!({"file": 7})).unwrap_err();
        assert!(error.starts_with("config.file: 7 is not valid"), "{error}");
    }

    #[test]
    fn survives_hostile_schemas() {
        let looped = r##"{"$ref":"#"}"##;
        let _ = check_config(looped, &json!({}));
        let looped =
            r##"{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}"##;
        let _ = check_config(looped, &json!({"x": 1}));
        let looped = r##"{"allOf":[{"$ref":"#"}],"anyOf":[{"$ref":"#"}]}"##;
        let _ = check_config(looped, &json!({"x": 1}));
        let remote = r#"{"$ref":"http://127.0.0.1:1/schema.json"}"#;
        assert!(check_config(remote, &json!({})).is_err());
        let pattern = r#"{"type":"string","pattern":"^(a+)+$"}"#;
        assert!(check_config(pattern, &json!("a".repeat(4000) + "b")).is_err());
        let deep = "[".repeat(100_000);
        assert!(check_config(&deep, &json!({})).is_err());
    }
}
