//! Keys of YAML and JSON files.

use bulkhead_sdk::{Context, Error, Result};
use serde_json::Value;

use super::{Claim, Edited, Subject, changes};
use crate::config::{Accept, Setting};
use crate::yaml::{self, Change, Path, Syntax};

/// A compiled [`Setting`] of such a file.
#[derive(Debug)]
pub(crate) struct Document {
    syntax: Syntax,
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    name: String,
    path: Path,
    change: Change,
    accept: Option<Accept>,
}

impl Key {
    /// Whether what was found is as good.
    fn accepts(&self, found: Option<&Value>) -> bool {
        let (Some(accept), Change::Set(wanted), Some(found)) = (&self.accept, &self.change, found)
        else {
            return false;
        };
        accept.holds(&text(found), &text(wanted))
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Document {
    pub(super) fn new(config: &Setting, syntax: Syntax) -> Result<Self> {
        let mut keys: Vec<Key> = Vec::new();
        for (name, change) in changes(config)? {
            let path = Path::new(&name).at(name.as_str()).at("set")?;
            if let Some(other) = keys.iter().find(|known| known.path.overlaps(&path)) {
                let message = format!("`{}` leads through the same key", other.name);
                return Err(Error::new(message).at(name.as_str()).at("set"));
            }
            let accept = config.accept.get(&name).cloned();
            keys.push(Key {
                name,
                path,
                change,
                accept,
            });
        }
        Ok(Self { syntax, keys })
    }

    pub(super) fn claims(&self) -> Vec<Claim> {
        let claim = |key: &Key| Claim {
            subject: Subject::Path(key.path.clone()),
            wanted: match &key.change {
                Change::Set(value) => Some(value.to_string()),
                Change::Unset => None,
            },
        };
        self.keys.iter().map(claim).collect()
    }

    pub(super) fn apply(&self, original: &str) -> Result<Option<Edited>> {
        let mut edited: Option<String> = None;
        let mut found = Vec::new();
        for key in &self.keys {
            let now = edited.as_deref().unwrap_or(original);
            let outcome = yaml::edit(now, self.syntax, &key.path, &key.change);
            let Some((after, before)) = outcome.context(format_args!("`{}`", key.name))? else {
                continue;
            };
            if key.accepts(before.as_ref()) {
                continue;
            }
            found.push(match before {
                None => format!("`{}` is not set", key.name),
                Some(value) => format!("`{}` is `{}`", key.name, text(&value)),
            });
            edited = Some(after);
        }
        let found = found.join("; ");
        Ok(edited.map(|text| Edited { text, found }))
    }
}
