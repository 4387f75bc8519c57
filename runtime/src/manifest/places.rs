//! Where a document's fields were written, so that an error can say it.

use std::collections::BTreeMap;
use std::path::Path;

use super::configmap::{KEY, LABEL};
use super::error::{Error, Position, Problem};
use super::yaml::{self, Kind, Node, Style};

/// Where a field stands, or the nearest one around it, in a ConfigMap or in what stands under its key: for
/// what is not remembered of a manifest that was read, such as the fields of a plugin's own configuration.
pub fn locate(text: &str, field: &str) -> Option<Position> {
    let documents = yaml::documents(text).ok()?;
    let root = declared(&documents).or(documents.first())?;
    let Some(node) = root.get("data").and_then(|data| data.get(KEY)) else {
        return Places::that(root, None, |_| true).find(field);
    };
    let inner = node.text()?;
    let mapping = Mapping::of(node, inner, text);
    let documents = yaml::documents(inner).ok()?;
    Places::that(documents.first()?, Some(&mapping), |_| true).find(field)
}

/// What stands under the key of the first ConfigMap of a text that declares a plugin.
pub fn plugin_text(text: &str) -> Option<String> {
    let documents = yaml::documents(text).ok()?;
    let held = declared(&documents)?.get("data")?.get(KEY)?.text()?;
    Some(held.to_owned())
}

/// The first that declares a plugin: by its label, and what it holds.
fn declared(documents: &[Node]) -> Option<&Node> {
    documents.iter().find(|document| {
        let label = || document.get("metadata")?.get("labels")?.get(LABEL)?.text();
        let held = document.get("data").and_then(|data| data.get(KEY));
        held.is_some() && label() == Some("true")
    })
}

/// Where each field of a document was written, in the outer file.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(BTreeMap<String, Position>);

impl Places {
    pub(super) fn of(node: &Node, mapping: Option<&Mapping>) -> Self {
        // What a plugin's own configuration holds is the plugin's affair; its root is enough.
        Self::that(node, mapping, |path| {
            !path.starts_with("config.") && !path.starts_with("config[")
        })
    }

    fn that(node: &Node, mapping: Option<&Mapping>, wanted: impl Fn(&str) -> bool) -> Self {
        let mut places = BTreeMap::new();
        node.walk(&mut String::new(), &mut |path, node| {
            if places.len() < 2048 && wanted(path) {
                let at = mapping.map_or(node.at, |mapping| mapping.outer(node.at));
                places.entry(path.to_owned()).or_insert(at);
            }
        });
        Self(places)
    }

    /// The place of the field, or of the nearest one around it.
    fn find(&self, field: &str) -> Option<Position> {
        let mut field = field;
        loop {
            if let Some(at) = self.0.get(field) {
                return Some(*at);
            }
            if field.is_empty() {
                return None;
            }
            field = &field[..field.rfind(['.', '[']).unwrap_or(0)];
        }
    }

    pub(super) fn error(&self, file: &Path, problem: Problem) -> Error {
        Error {
            file: file.to_owned(),
            position: problem.at.or_else(|| self.find(&problem.field)),
            reason: problem.reason,
            field: problem.field,
            problem: problem.problem,
            remedy: problem.remedy,
        }
    }
}

/// From places inside a text to places in the file that holds it.
pub(super) struct Mapping {
    /// Where the text stands, for texts whose lines are not lines of the file.
    start: Position,
    /// For a block after `|`: the file's line before its first, and how far each line is indented.
    block: Option<(u32, Vec<u32>)>,
}

impl Mapping {
    pub(super) fn of(node: &Node, inner: &str, outer: &str) -> Self {
        let start = node.at;
        let literal = matches!(
            &node.kind,
            Kind::Scalar {
                style: Style::Literal,
                ..
            }
        );
        // The parser may place a block at its bar or at its first line: see which one fits.
        let block = literal
            .then(|| {
                (start.line.saturating_sub(1)..=start.line).find_map(|before| {
                    let lines = outer.lines().skip(before as usize);
                    let indents: Option<Vec<u32>> = inner
                        .lines()
                        .zip(lines)
                        .map(|(inner, outer)| {
                            let indent = outer.strip_suffix(inner)?;
                            let blank = indent.bytes().all(|b| b == b' ');
                            blank.then(|| u32::try_from(indent.len()).unwrap_or(u32::MAX))
                        })
                        .collect();
                    let indents = indents?;
                    (indents.len() == inner.lines().count()).then_some((before, indents))
                })
            })
            .flatten();
        Self { start, block }
    }

    pub(super) fn outer(&self, at: Position) -> Position {
        let Some((before, indents)) = &self.block else {
            return self.start;
        };
        let index = (at.line as usize).saturating_sub(1);
        let indent = indents.get(index).or(indents.last()).copied().unwrap_or(0);
        Position {
            line: before.saturating_add(at.line),
            column: indent.saturating_add(at.column),
        }
    }
}
