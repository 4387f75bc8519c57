//! Setting and removing one value of a document. Each edit is checked by parsing what comes out: either
//! it holds what it held before, and the change, or nothing is changed.

use std::ops::Range;

use bulkhead_sdk::{Context, Error, Result, bail};
use granit_parser::ScalarStyle;
use serde_json::{Map, Value};

use super::Syntax;
use super::tree::{Document, Kind, Node, parse};
use super::write::{inline, key};

/// Names of keys, from the outermost.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Path(Vec<String>);

impl Path {
    /// Of `a.b.c`, or of a JSON pointer such as `/a/b.c`.
    pub(crate) fn new(text: &str) -> Result<Self> {
        let keys: Vec<String> = match text.strip_prefix('/') {
            Some(pointer) => {
                let unescape = |key: &str| key.replace("~1", "/").replace("~0", "~");
                pointer.split('/').map(unescape).collect()
            }
            None => text.split('.').map(str::to_owned).collect(),
        };
        if keys.iter().any(String::is_empty) {
            bail!(
                "{text:?} has an empty name in it; write it like `a.b`, or `/a/b.c` if a name has dots"
            );
        }
        Ok(Self(keys))
    }

    /// Whether one of the two leads through the other.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.0
            .iter()
            .zip(&other.0)
            .all(|(one, another)| one == another)
    }
}

/// What should become of a key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    Set(Value),
    Unset,
}

/// What the change makes of the text, and what stood there before; none if it is so already.
pub(crate) fn edit(
    text: &str,
    syntax: Syntax,
    path: &Path,
    change: &Change,
) -> Result<Option<(String, Option<Value>)>> {
    if syntax == Syntax::Json && !text.trim().is_empty() {
        serde_json::from_str::<serde::de::IgnoredAny>(text)
            .map_err(|error| Error::new(format!("is no JSON: {error}")))?;
    }
    let document = parse(text)?;
    let before = document.root.as_ref().map(Node::value).transpose()?;
    let before = match before {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(map @ Value::Object(_)) => map,
        Some(_) => bail!("is not a mapping"),
    };
    let found = path
        .0
        .iter()
        .try_fold(&before, |value, key| value.get(key))
        .cloned();
    let done = match (change, &found) {
        (Change::Set(wanted), Some(found)) => same(wanted, found),
        (Change::Set(_), None) => false,
        (Change::Unset, found) => found.is_none(),
    };
    if done {
        return Ok(None);
    }
    let mut expected = before;
    apply(&mut expected, &path.0, change)?;
    let editor = Editor {
        text,
        syntax,
        document: &document,
    };
    let edited = match change {
        Change::Set(value) => editor.set(&path.0, value)?,
        Change::Unset => editor.unset(&path.0)?,
    };
    // The proof of the edit.
    let after = parse(&edited)
        .ok()
        .and_then(|document| document.root?.value().ok())
        .unwrap_or(Value::Object(Map::new()));
    let is_json =
        syntax == Syntax::Yaml || serde_json::from_str::<serde::de::IgnoredAny>(&edited).is_ok();
    if !same(&after, &expected) || !is_json {
        bail!("is written in a way that cannot be edited safely there");
    }
    Ok(Some((edited, found)))
}

/// Numbers are the same by value.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || (one.as_f64() == other.as_f64() && (one.is_f64() || other.is_f64()))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, value)| other.get(key).is_some_and(|other| same(value, other)))
        }
        _ => one == other,
    }
}

fn apply(document: &mut Value, path: &[String], change: &Change) -> Result<()> {
    let Some((last, above)) = path.split_last() else {
        return Ok(());
    };
    let mut inside = document;
    for (depth, key) in above.iter().enumerate() {
        let not_a_mapping = || {
            let path = path[..=depth].join(".");
            Error::new(format!("`{path}` is not a mapping"))
        };
        let map = inside.as_object_mut().ok_or_else(not_a_mapping)?;
        let value = map.entry(key.clone()).or_insert(Value::Null);
        if value.is_null() {
            *value = Value::Object(Map::new());
        }
        if !value.is_object() {
            return Err(not_a_mapping());
        }
        inside = value;
    }
    let map = inside.as_object_mut().context("is not a mapping")?;
    match change {
        Change::Set(value) => {
            map.insert(last.clone(), value.clone());
        }
        Change::Unset => {
            map.remove(last);
        }
    }
    Ok(())
}

struct Editor<'a> {
    text: &'a str,
    syntax: Syntax,
    document: &'a Document,
}

impl Editor<'_> {
    fn set(&self, path: &[String], value: &Value) -> Result<String> {
        let Some(root) = &self.document.root else {
            let mut text = self.text.to_owned();
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            match self.syntax {
                Syntax::Yaml => text += &(block(path, value, 0) + "\n"),
                Syntax::Json => text = format!("{{\n  {}\n}}\n", self.flow(path, value)),
            }
            return Ok(text);
        };
        let mut node = root;
        for (depth, name) in path.iter().enumerate() {
            let Some((key, inner)) = node.get(name) else {
                return self.insert(node, &path[depth..], value);
            };
            if depth + 1 == path.len() {
                return self.replace(key, inner, value);
            }
            if inner.is_null() {
                return self.fill(key, inner, &path[depth + 1..], value);
            }
            node = inner;
        }
        bail!("is not a mapping")
    }

    fn splice(&self, place: Range<usize>, with: &str) -> String {
        let (before, after) = (&self.text[..place.start], &self.text[place.end..]);
        // Lines end as the others do. Values have their line feeds escaped.
        match self.text.contains("\r\n") {
            true => format!("{before}{}{after}", with.replace('\n', "\r\n")),
            false => format!("{before}{with}{after}"),
        }
    }

    /// Puts another value in the place of one.
    fn replace(&self, key: &Node, old: &Node, value: &Value) -> Result<String> {
        match &old.kind {
            Kind::Scalar { style, .. } if old.span.is_empty() => {
                let colon = self.colon(key)?;
                Ok(self.splice(
                    colon..colon,
                    &format!(" {}", inline(value, self.syntax, Some(*style))),
                ))
            }
            Kind::Scalar {
                style: ScalarStyle::Literal | ScalarStyle::Folded,
                ..
            } => {
                bail!("holds a text of several lines there, which is not edited")
            }
            Kind::Scalar { style, .. } => {
                Ok(self.splice(old.span.clone(), &inline(value, self.syntax, Some(*style))))
            }
            Kind::Sequence { flow: true, .. } | Kind::Mapping { flow: true, .. } => {
                Ok(self.splice(old.span.clone(), &inline(value, self.syntax, None)))
            }
            Kind::Sequence { .. } => {
                let Value::Array(wanted) = value else {
                    bail!("holds a list there, which is not replaced by something else");
                };
                let place = old.span.clone();
                if self
                    .document
                    .comments
                    .iter()
                    .any(|it| place.contains(&it.start))
                {
                    bail!("has comments in the list there, which would be lost");
                }
                let indent = " ".repeat(self.column(place.start));
                let items: Vec<String> = wanted
                    .iter()
                    .map(|item| format!("- {}", inline(item, self.syntax, None)))
                    .collect();
                match items.is_empty() {
                    true => bail!("holds a list of several lines there, which is not emptied"),
                    false => Ok(self.splice(place, &items.join(&format!("\n{indent}")))),
                }
            }
            Kind::Mapping { .. } => bail!("holds a mapping there, which is not replaced"),
        }
    }

    /// Adds keys below one that has no value yet.
    fn fill(&self, key: &Node, empty: &Node, path: &[String], value: &Value) -> Result<String> {
        if !empty.span.is_empty() || self.syntax == Syntax::Json {
            // A null in so many words.
            return Ok(self.splice(
                empty.span.clone(),
                &format!("{{{}}}", self.flow(path, value)),
            ));
        }
        let end = self.line_end(self.colon(key)?);
        let below = block(path, value, self.column(key.span.start) + 2);
        Ok(self.splice(end..end, &format!("\n{below}")))
    }

    /// Adds a key to a mapping.
    fn insert(&self, map: &Node, path: &[String], value: &Value) -> Result<String> {
        let Kind::Mapping { entries, flow } = &map.kind else {
            if map.is_null() && map.span.is_empty() {
                // A document of nothing but `---`.
                bail!("is written in a way that cannot be edited safely there");
            }
            bail!("is not a mapping");
        };
        let Some(((first, _), (last_key, last))) = entries.first().zip(entries.last()) else {
            // `{}`
            let inside = map.span.start + 1..map.span.end.saturating_sub(1);
            let indent = self.indent(map.span.start);
            let entry = self.flow(path, value);
            return Ok(match self.syntax {
                Syntax::Yaml => self.splice(inside, &entry),
                Syntax::Json => self.splice(inside, &format!("\n{indent}  {entry}\n{indent}")),
            });
        };
        if *flow {
            let entry = self.flow(path, value);
            let before = &self.text[self.line_start(first.span.start)..first.span.start];
            let on_its_line =
                before.trim().is_empty() && self.text[..first.span.start].contains('\n');
            let entry = match on_its_line {
                true => format!(",\n{before}{entry}"),
                false => format!(", {entry}"),
            };
            return Ok(self.splice(last.span.end..last.span.end, &entry));
        }
        let column = self.column(first.span.start);
        let below = block(path, value, column);
        let end = match last.span.is_empty() {
            true => self.colon(last_key)?,
            false => last.span.end,
        };
        // What ends with a block of text ends at the start of a line.
        if self.text[..end].ends_with('\n') {
            return Ok(self.splice(end..end, &format!("{below}\n")));
        }
        let end = self.line_end(end);
        Ok(self.splice(end..end, &format!("\n{below}")))
    }

    fn unset(&self, path: &[String]) -> Result<String> {
        let mut node = self.document.root.as_ref().context("is not a mapping")?;
        let (last, above) = path.split_last().context("is not a mapping")?;
        for name in above {
            let (_, inner) = node.get(name).context("is not a mapping")?;
            node = inner;
        }
        let Kind::Mapping { entries, flow } = &node.kind else {
            bail!("is not a mapping");
        };
        let same_key =
            |(key, _): &(Node, Node)| node.get(last).is_some_and(|(it, _)| it.span == key.span);
        let index = entries.iter().position(same_key).context("is not there")?;
        let (key, value) = &entries[index];
        let value_end = match value.span.is_empty() {
            true => self.colon(key)?,
            false => value.span.end,
        };
        if *flow {
            let place = match (index, entries.get(index + 1)) {
                (0, Some((next, _))) => key.span.start..next.span.start,
                (0, None) => key.span.start..value_end,
                (_, _) => {
                    let (_, before) = &entries[index - 1];
                    before.span.end..value_end
                }
            };
            return Ok(self.splice(place, ""));
        }
        if entries.len() == 1 && !above.is_empty() {
            bail!("has no other key beside `{last}`; unset the mapping that it is in");
        }
        let start = self.line_start(key.span.start);
        if !self.text[start..key.span.start].trim().is_empty() {
            bail!("is written in a way that cannot be edited safely there");
        }
        let end = match self.text[..value_end].ends_with('\n') {
            true => value_end,
            false => (self.line_end(value_end) + 1).min(self.text.len()),
        };
        Ok(self.splice(start..end, ""))
    }

    /// `key: {inner: value}`.
    fn flow(&self, path: &[String], value: &Value) -> String {
        let Some((first, rest)) = path.split_first() else {
            return String::new();
        };
        let value = rest.iter().rev().fold(value.clone(), |value, name| {
            Value::Object(Map::from_iter([(name.clone(), value)]))
        });
        format!(
            "{}: {}",
            key(first, self.syntax),
            inline(&value, self.syntax, None)
        )
    }

    /// Behind the colon of a key.
    fn colon(&self, key: &Node) -> Result<usize> {
        let behind = &self.text[key.span.end..];
        let gap = behind.len() - behind.trim_start_matches([' ', '\t']).len();
        match behind[gap..].starts_with(':') {
            true => Ok(key.span.end + gap + 1),
            false => Err(Error::new(
                "is written in a way that cannot be edited safely there",
            )),
        }
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |it| it + 1)
    }

    /// Before the line feed, and a carriage return before that.
    fn line_end(&self, at: usize) -> usize {
        let end = self.text[at..]
            .find('\n')
            .map_or(self.text.len(), |it| at + it);
        match self.text[at..end].ends_with('\r') {
            true => end - 1,
            false => end,
        }
    }

    fn column(&self, at: usize) -> usize {
        self.text[self.line_start(at)..at].chars().count()
    }

    /// What the line begins with.
    fn indent(&self, at: usize) -> &str {
        let line = &self.text[self.line_start(at)..];
        &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
    }
}

/// Keys below each other, without the last line's end.
fn block(path: &[String], value: &Value, column: usize) -> String {
    let mut text = String::new();
    for (depth, name) in path.iter().enumerate() {
        if depth > 0 {
            text.push('\n');
        }
        text.extend(std::iter::repeat_n(' ', column + 2 * depth));
        text += &key(name, Syntax::Yaml);
        text.push(':');
    }
    text.push(' ');
    text + &inline(value, Syntax::Yaml, None)
}
