//! Keys of YAML and JSON files.

use bulkhead_sdk::{Context, Error, Result};
use serde_json::Value;

use super::{Claim, Edited, Subject, changes};
use crate::config::Setting;
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
            keys.push(Key { name, path, change });
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

    pub(super) fn apply(&self, text: &str) -> Result<Option<Edited>> {
        let mut edited: Option<String> = None;
        let mut found = Vec::new();
        for key in &self.keys {
            let text = edited.as_deref().unwrap_or(text);
            let outcome = yaml::edit(text, self.syntax, &key.path, &key.change);
            let Some((after, before)) = outcome.context(format_args!("`{}`", key.name))? else {
                continue;
            };
            found.push(match before {
                None => format!("`{}` is not set", key.name),
                Some(Value::String(text)) => format!("`{}` is `{text}`", key.name),
                Some(value) => format!("`{}` is `{value}`", key.name),
            });
            edited = Some(after);
        }
        let found = found.join("; ");
        Ok(edited.map(|text| Edited { text, found }))
    }
}
