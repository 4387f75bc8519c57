//! YAML as a tree that remembers where everything was written.
//!
//! Nothing is interpreted here: a scalar stays the text that it was, so that `1e3` can be a name
//! where a name is wanted. Hostile input costs bounded time and memory: depth, nodes and the bytes
//! that aliases repeat are limited.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle};

use super::error::Position;

/// Nested deeper than this, a document is refused. A manifest needs about eight.
const MAX_DEPTH: usize = 64;
/// All documents of a file together, aliases expanded.
const MAX_NODES: usize = 100_000;
/// Bytes of text that anchors keep and aliases repeat.
const MAX_ALIASED_BYTES: usize = 4 << 20;

/// One value and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Scalar { text: Box<str>, style: Style },
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

/// How a scalar was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Without quotes: may be a number, a truth value or nothing.
    Plain,
    /// In quotes, or tagged as text.
    Quoted,
    /// After `|`: its lines are lines of the file.
    Literal,
    /// After `>`.
    Folded,
}

#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) at: Position,
    pub(super) text: Box<str>,
}

/// Why a file is no YAML, or more of it than anybody writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) at: Position,
    pub(super) problem: String,
}

impl Node {
    /// The value of a mapping's key.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries()
            .iter()
            .find(|(k, _)| &*k.text == key)
            .map(|(_, node)| node)
    }

    /// A mapping's entries; none if this is something else.
    pub(super) fn entries(&self) -> &[(Key, Node)] {
        match &self.kind {
            Kind::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// A scalar's text, unless it is the absence of one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// Whether this is `null`, `~` or nothing.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, style: Style::Plain }
            if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Calls `see` with the path of every value inside, and of this one.
    pub(super) fn walk(&self, path: &mut String, see: &mut dyn FnMut(&str, &Node)) {
        see(path, self);
        let length = path.len();
        match &self.kind {
            Kind::Scalar { .. } => {}
            Kind::Sequence(items) => {
                for (i, item) in items.iter().enumerate() {
                    path.push_str(&format!("[{i}]"));
                    item.walk(path, see);
                    path.truncate(length);
                }
            }
            Kind::Mapping(entries) => {
                for (key, value) in entries {
                    push_key(path, &key.text);
                    value.walk(path, see);
                    path.truncate(length);
                }
            }
        }
    }

    fn depth(&self) -> usize {
        match &self.kind {
            Kind::Scalar { .. } => 1,
            Kind::Sequence(items) => 1 + items.iter().map(Node::depth).max().unwrap_or(0),
            Kind::Mapping(entries) => 1 + entries.iter().map(|e| e.1.depth()).max().unwrap_or(0),
        }
    }

    /// Nodes and bytes of text.
    fn size(&self) -> (usize, usize) {
        let add = |a: (usize, usize), b: (usize, usize)| (a.0 + b.0, a.1 + b.1);
        match &self.kind {
            Kind::Scalar { text, .. } => (1, text.len()),
            Kind::Sequence(items) => items.iter().map(Node::size).fold((1, 0), add),
            Kind::Mapping(entries) => entries
                .iter()
                .map(|(key, value)| add(value.size(), (0, key.text.len())))
                .fold((1, 0), add),
        }
    }
}

/// Appends a mapping's key to a field path.
pub(super) fn push_key(path: &mut String, key: &str) {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if key.is_empty() || key.len() > 64 || !key.bytes().all(plain) {
        path.push_str(&format!("[{}]", super::error::quoted(key)));
    } else {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
    }
}

/// The documents of a file. One that is broken anywhere is broken.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, Malformed> {
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| Malformed {
            at: position(error.marker()),
            problem: error.info(),
        })?;
        builder.take(event, position(&span.start))?;
    }
    Ok(builder.documents)
}

fn position(marker: &granit_parser::Marker) -> Position {
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Position {
        line: narrow(marker.line()),
        column: narrow(marker.col().saturating_add(1)),
    }
}

/// A sequence or mapping that is not complete.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<Key>,
}

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    aliased_bytes: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Position) -> Result<(), Malformed> {
        let malformed = |problem: &str| Malformed {
            at,
            problem: problem.to_owned(),
        };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let style = match style {
                    ScalarStyle::Plain
                        if tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str")) =>
                    {
                        Style::Quoted
                    }
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
                    ScalarStyle::Literal => Style::Literal,
                    ScalarStyle::Folded => Style::Folded,
                };
                let text = text.into();
                let kind = Kind::Scalar { text, style };
                self.count(1, at)?;
                self.complete(Node { at, kind }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.begin(Kind::Sequence(Vec::new()), anchor, at)
            }
            Event::MappingStart(_, anchor, _) => self.begin(Kind::Mapping(Vec::new()), anchor, at),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.complete(open.node, open.anchor),
                None => Err(malformed("closes what was not opened")),
            },
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(malformed("an alias inside of what it stands for"));
                };
                // Sizes first: cloning is what an attacker wants.
                let (depth, (nodes, bytes)) = (node.depth(), node.size());
                if self.open.len() + depth > MAX_DEPTH {
                    return Err(too_deep(at));
                }
                self.count(nodes, at)?;
                self.count_bytes(bytes, at)?;
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Ok(());
                };
                self.complete(Node { at, ..node }, 0)
            }
            Event::UnresolvedAlias(_) => Err(malformed("an alias of what was never anchored")),
            Event::DocumentEnd => {
                self.anchors.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, kind: Kind, anchor: usize, at: Position) -> Result<(), Malformed> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(at));
        }
        self.count(1, at)?;
        self.open.push(Open {
            node: Node { at, kind },
            anchor,
            key: None,
        });
        Ok(())
    }

    fn complete(&mut self, node: Node, anchor: usize) -> Result<(), Malformed> {
        if anchor != 0 {
            let (nodes, bytes) = node.size();
            self.count(nodes, node.at)?;
            self.count_bytes(bytes, node.at)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(parent) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        match &mut parent.node.kind {
            Kind::Sequence(items) => items.push(node),
            Kind::Mapping(entries) => match parent.key.take() {
                Some(key) => entries.push((key, node)),
                None => match node.kind {
                    Kind::Scalar { text, .. } => parent.key = Some(Key { at: node.at, text }),
                    _ => {
                        return Err(Malformed {
                            at: node.at,
                            problem: "a key that is not text".to_owned(),
                        });
                    }
                },
            },
            // Only collections are ever open.
            Kind::Scalar { .. } => {}
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, at: Position) -> Result<(), Malformed> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(Malformed {
                at,
                problem: format!("more than {MAX_NODES} values, with aliases expanded"),
            });
        }
        Ok(())
    }

    fn count_bytes(&mut self, bytes: usize, at: Position) -> Result<(), Malformed> {
        self.aliased_bytes = self.aliased_bytes.saturating_add(bytes);
        if self.aliased_bytes > MAX_ALIASED_BYTES {
            return Err(Malformed {
                at,
                problem: format!("anchors and aliases repeat more than {MAX_ALIASED_BYTES} bytes"),
            });
        }
        Ok(())
    }
}

fn too_deep(at: Position) -> Malformed {
    Malformed {
        at,
        problem: format!("nested deeper than {MAX_DEPTH} levels"),
    }
}
