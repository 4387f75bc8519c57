//! How values are written.

use granit_parser::ScalarStyle;
use serde_json::Value;

use super::Syntax;
use super::tree::resolve;

/// A value on one line. `like` is the style of what it takes the place of.
pub(super) fn inline(value: &Value, syntax: Syntax, like: Option<ScalarStyle>) -> String {
    if syntax == Syntax::Json {
        return value.to_string();
    }
    match value {
        Value::String(text) => string(text, like),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|it| inline(it, syntax, None)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| {
                format!(
                    "{}: {}",
                    self::key(key, syntax),
                    inline(value, syntax, None)
                )
            });
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A mapping's key.
pub(super) fn key(key: &str, syntax: Syntax) -> String {
    match syntax {
        Syntax::Json => Value::from(key).to_string(),
        Syntax::Yaml => string(key, None),
    }
}

fn string(text: &str, like: Option<ScalarStyle>) -> String {
    match like {
        Some(ScalarStyle::SingleQuoted) if !text.contains(['\'', '\n', '\r', '\t']) => {
            format!("'{text}'")
        }
        Some(ScalarStyle::DoubleQuoted | ScalarStyle::SingleQuoted) => {
            Value::from(text).to_string()
        }
        _ if is_plain(text) => text.to_owned(),
        _ => Value::from(text).to_string(),
    }
}

/// Whether it is a string without quotes to every parser: also to those of YAML 1.1, to which `yes` is
/// a boolean, and `1_000` a number.
fn is_plain(text: &str) -> bool {
    let word = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '.' | '/' | '-');
    let boolean = ["y", "n", "yes", "no", "on", "off"];
    text.starts_with(|it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '/'))
        && text.chars().all(word)
        && matches!(resolve(text), Value::String(_))
        && !boolean.contains(&text.to_ascii_lowercase().as_str())
        && !(text.starts_with(|it: char| it.is_ascii_digit())
            && text
                .chars()
                .all(|it| !it.is_ascii_alphabetic() || it == 'e'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quotes_what_another_parser_would_take_for_something_else() {
        let written = |text: &str| inline(&json!(text), Syntax::Yaml, None);
        for plain in ["Webhook", "/etc/x.conf", "4h0m0s", "10m", "a-b_c.d"] {
            assert_eq!(written(plain), plain);
        }
        for quoted in [
            "yes",
            "No",
            "",
            "1",
            "1_000",
            "2024-01-01",
            "~",
            "a: b",
            "- a",
            "#",
            "1e3",
            "ä",
        ] {
            assert_eq!(written(quoted), format!("\"{quoted}\""));
        }
        assert_eq!(inline(&json!(["a", 1]), Syntax::Yaml, None), "[a, 1]");
        assert_eq!(
            inline(&json!("a"), Syntax::Yaml, Some(ScalarStyle::SingleQuoted)),
            "'a'"
        );
        assert_eq!(inline(&json!("a"), Syntax::Json, None), "\"a\"");
    }
}
