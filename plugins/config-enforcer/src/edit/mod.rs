//! Edits of text files: each takes the text, and gives the text that it should be.

mod document;
mod keys;
mod line;
mod lines;
mod sshd;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;

use bulkhead_sdk::{Context, Result, bail};
use serde_json::Value;

use crate::config::{Accept, Format, Line, Setting};
use crate::yaml::{Change, Path, Syntax};
use document::Document;
use keys::{Keys, Style};
use line::LineEdit;
use sshd::Keywords;

/// An edit of the configuration, compiled.
#[derive(Debug)]
pub(crate) enum Edit {
    Line(LineEdit),
    Keys(Keys),
    Sshd(Keywords),
    Document(Document),
}

/// What an edit changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Edited {
    pub(crate) text: String,
    /// What was found instead, for people.
    pub(crate) found: String,
}

/// What an edit is about, to tell when two want different things of the same.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Claim {
    pub(crate) subject: Subject,
    /// None if it should not be there.
    pub(crate) wanted: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Subject {
    Line(String),
    Pattern(String),
    /// In a section.
    Key(String, String),
    Path(Path),
}

impl Subject {
    /// Whether both cannot be had, unless the same is wanted of them.
    pub(crate) fn collides(&self, other: &Self) -> bool {
        match (self, other) {
            (Subject::Path(one), Subject::Path(other)) => one.overlaps(other),
            _ => self == other,
        }
    }
}

/// The longest text that is edited, and what the host passes of a file.
const LONGEST: usize = 4 << 20;

impl Edit {
    pub(crate) fn line(config: &Line) -> Result<Self> {
        LineEdit::new(config).map(Edit::Line)
    }

    pub(crate) fn setting(config: &Setting) -> Result<Self> {
        if config.set.is_empty() && config.unset.is_empty() {
            bail!("neither `set` nor `unset` names a key");
        }
        if config.section.is_some() && config.format != Format::Ini {
            return Err(bulkhead_sdk::Error::new("only `format: ini` has sections").at("section"));
        }
        match config.format {
            Format::Ini => Keys::new(config, Style::Ini).map(Edit::Keys),
            Format::KeyValue => Keys::new(config, Style::KeyValue).map(Edit::Keys),
            Format::Words => Keys::new(config, Style::Words).map(Edit::Keys),
            Format::Sshd => Keywords::new(config).map(Edit::Sshd),
            Format::Yaml => Document::new(config, Syntax::Yaml).map(Edit::Document),
            Format::Json => Document::new(config, Syntax::Json).map(Edit::Document),
        }
    }

    pub(crate) fn claims(&self) -> Vec<Claim> {
        match self {
            Edit::Line(it) => it.claims(),
            Edit::Keys(it) => it.claims(),
            Edit::Sshd(it) => it.claims(),
            Edit::Document(it) => it.claims(),
        }
    }

    /// What should be instead of the text; none if it is so already.
    pub(crate) fn apply(&self, text: &str) -> Result<Option<Edited>> {
        if text.contains('\0') {
            bail!("is no text: there is a zero byte in it");
        }
        let (mark, rest) = match text.strip_prefix('\u{feff}') {
            Some(rest) => ("\u{feff}", rest),
            None => ("", text),
        };
        let edited = match self {
            Edit::Line(it) => it.apply(rest),
            Edit::Keys(it) => it.apply(rest)?,
            Edit::Sshd(it) => it.apply(rest),
            Edit::Document(it) => it.apply(rest)?,
        };
        let Some(mut edited) = edited else {
            return Ok(None);
        };
        edited.text.insert_str(0, mark);
        if edited.text.len() > LONGEST {
            bail!("would become longer than 4 MiB");
        }
        Ok(Some(edited))
    }
}

/// The value that is wanted, and others that are as good.
#[derive(Debug)]
struct Wanted {
    value: String,
    accept: Option<Accept>,
}

impl Wanted {
    fn new(config: &Setting, key: &str, value: String) -> Self {
        let accept = config.accept.get(key).cloned();
        Self { value, accept }
    }

    fn is(&self, found: &str) -> bool {
        let as_good = |accept: &Accept| accept.holds(found, &self.value);
        found == self.value || self.accept.as_ref().is_some_and(as_good)
    }
}

/// Keys of a setting with what should become of them, in the order of the configuration.
fn changes(config: &Setting) -> Result<Vec<(String, Change)>> {
    let mut changes = Vec::new();
    for (key, value) in &config.set {
        check(value).at(key.as_str()).at("set")?;
        changes.push((key.clone(), Change::Set(value.clone())));
    }
    for (index, key) in config.unset.iter().enumerate() {
        if config.set.contains_key(key) {
            return Err(bulkhead_sdk::Error::new(format!("`{key}` is in `set` too"))
                .at(format!("unset[{index}]")));
        }
        changes.push((key.clone(), Change::Unset));
    }
    if let Some(key) = config
        .accept
        .keys()
        .find(|key| !config.set.contains_key(*key))
    {
        let message = "says what is as good as a value that `set` does not have";
        return Err(bulkhead_sdk::Error::new(message)
            .at(key.as_str())
            .at("accept"));
    }
    Ok(changes)
}

fn check(value: &Value) -> Result<()> {
    match value {
        Value::Object(_) => bail!("is a mapping; set its keys one by one"),
        Value::Null => bail!("is null; to remove the key, list it in `unset`"),
        Value::Array(items)
            if items
                .iter()
                .any(|it| it.is_array() || it.is_object() || it.is_null()) =>
        {
            bail!("is a list of something else than strings, numbers and booleans")
        }
        _ => Ok(()),
    }
}

/// The value as it stands in a file of lines.
fn on_a_line(value: &Value) -> Result<String> {
    let text = match value {
        Value::Array(_) => bail!("is a list, which only `yaml` and `json` have"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    one_line(&text)?;
    if text.trim() != text {
        bail!("begins or ends with a space, which the format does not keep");
    }
    Ok(text)
}

/// Texts that become a part of a line.
fn one_line(text: &str) -> Result<()> {
    match text.contains(['\n', '\r', '\0']) {
        true => bail!("is not one line"),
        false => Ok(()),
    }
}
