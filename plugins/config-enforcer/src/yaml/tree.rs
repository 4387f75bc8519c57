//! A document as a tree with places.

use std::ops::Range;

use bulkhead_sdk::{Error, Result, bail};
use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};
use serde_json::{Map, Number, Value};

/// A value, and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Bytes of the text. A block mapping or sequence begins with its first key or dash, and ends with
    /// its last value; an empty value is empty.
    pub(crate) span: Range<usize>,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Scalar {
        value: Value,
        style: ScalarStyle,
    },
    Sequence {
        items: Vec<Node>,
        flow: bool,
    },
    Mapping {
        entries: Vec<(Node, Node)>,
        flow: bool,
    },
}

/// A text with one document.
#[derive(Debug)]
pub(crate) struct Document {
    /// None if there is nothing but comments.
    pub(crate) root: Option<Node>,
    pub(crate) comments: Vec<Range<usize>>,
}

impl Node {
    /// The value of a mapping's key, and the key.
    pub(crate) fn get(&self, key: &str) -> Option<&(Node, Node)> {
        let Kind::Mapping { entries, .. } = &self.kind else {
            return None;
        };
        entries.iter().find(|(known, _)| known.is_key(key))
    }

    /// Keys are compared as they are written, so that `1` is found as well as `"1"`.
    fn is_key(&self, key: &str) -> bool {
        match &self.kind {
            Kind::Scalar { value, .. } => match value {
                Value::String(text) => text == key,
                other => format!("{other}") == key,
            },
            _ => false,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(
            &self.kind,
            Kind::Scalar {
                value: Value::Null,
                ..
            }
        )
    }

    /// The value alone.
    pub(crate) fn value(&self) -> Result<Value> {
        match &self.kind {
            Kind::Scalar { value, .. } => Ok(value.clone()),
            Kind::Sequence { items, .. } => items.iter().map(Node::value).collect(),
            Kind::Mapping { entries, .. } => {
                let mut map = Map::new();
                for (key, value) in entries {
                    let key = match &key.kind {
                        Kind::Scalar {
                            value: Value::String(text),
                            ..
                        } => text.clone(),
                        Kind::Scalar { value, .. } => value.to_string(),
                        _ => bail!("a key that is not a name"),
                    };
                    if map.contains_key(&key) {
                        bail!("the key `{key}` stands there twice");
                    }
                    map.insert(key, value.value()?);
                }
                Ok(Value::Object(map))
            }
        }
    }
}

/// Parses a text with at most one document, and without anchors, aliases and tags, which no edit could
/// respect.
pub(crate) fn parse(text: &str) -> Result<Document> {
    let mut builder = Builder {
        text,
        open: Vec::new(),
        root: None,
        documents: 0,
        comments: Vec::new(),
    };
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|error| Error::new(format!("cannot be parsed: {error}")))?;
        builder.take(event, span)?;
    }
    let Builder { root, comments, .. } = builder;
    Ok(Document { root, comments })
}

struct Builder<'a> {
    text: &'a str,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    comments: Vec<Range<usize>>,
}

/// A sequence or mapping that has not ended.
struct Open {
    start: usize,
    flow: bool,
    mapping: bool,
    /// Keys and values in turn, if it is a mapping.
    nodes: Vec<Node>,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<()> {
        let place = span.byte_range().unwrap_or_default();
        match event {
            Event::DocumentStart(_, version) => {
                self.documents += 1;
                if self.documents > 1 {
                    bail!("there is more than one document");
                }
                if version.is_some() {
                    bail!("there is a directive (`%YAML`)");
                }
            }
            Event::Alias(_) => bail!("there is an alias (`*`)"),
            Event::Comment(..) => self.comments.push(place),
            Event::Scalar(text, style, anchor, tag) => {
                refuse(anchor, tag.is_some())?;
                let value = match style {
                    ScalarStyle::Plain => resolve(&text),
                    _ => Value::String(text.into_owned()),
                };
                let kind = Kind::Scalar { value, style };
                self.add(Node { span: place, kind })?;
            }
            Event::SequenceStart(style, anchor, tag) => {
                refuse(anchor, tag.is_some())?;
                self.enter(place.start, style, false);
            }
            Event::MappingStart(style, anchor, tag) => {
                refuse(anchor, tag.is_some())?;
                self.enter(place.start, style, true);
            }
            Event::SequenceEnd | Event::MappingEnd => self.leave(place.end)?,
            _ => {}
        }
        Ok(())
    }

    fn enter(&mut self, start: usize, style: StructureStyle, mapping: bool) {
        self.open.push(Open {
            start,
            flow: style == StructureStyle::Flow,
            mapping,
            nodes: Vec::new(),
        });
    }

    fn leave(&mut self, end: usize) -> Result<()> {
        let Some(open) = self.open.pop() else {
            bail!("something ends that did not begin");
        };
        let Open {
            start,
            flow,
            mapping,
            nodes,
        } = open;
        // The event of a block's end stands where the next token begins.
        let end = match nodes.last() {
            Some(last) if !flow => last.span.end.max(start),
            _ => end,
        };
        // A sequence below a key that is not indented is told of from behind its first dash on.
        let before = self.text[..start].trim_end_matches([' ', '\t']);
        let at_dash = self.text[start..].starts_with("- ") || self.text[start..].starts_with("-\n");
        let start = match before.ends_with('-') && !mapping && !flow && !at_dash {
            true => before.len() - 1,
            false => start,
        };
        let kind = if mapping {
            let mut entries = Vec::with_capacity(nodes.len() / 2);
            let mut nodes = nodes.into_iter();
            while let Some(key) = nodes.next() {
                let Some(mut value) = nodes.next() else {
                    bail!("a key without a value");
                };
                // An empty value may be told of as standing where the next token is.
                if value.span.is_empty() {
                    value.span = key.span.end..key.span.end;
                }
                entries.push((key, value));
            }
            Kind::Mapping { entries, flow }
        } else {
            Kind::Sequence { items: nodes, flow }
        };
        let end = match (&kind, flow) {
            (Kind::Mapping { entries, .. }, false) => {
                entries.last().map_or(end, |(_, value)| value.span.end)
            }
            _ => end,
        };
        self.add(Node {
            span: start..end,
            kind,
        })
    }

    fn add(&mut self, node: Node) -> Result<()> {
        match self.open.last_mut() {
            Some(open) => open.nodes.push(node),
            None if self.root.is_none() => self.root = Some(node),
            None => bail!("there is more than one document"),
        }
        Ok(())
    }
}

fn refuse(anchor: usize, tagged: bool) -> Result<()> {
    if anchor != 0 {
        bail!("there is an anchor (`&`)");
    }
    if tagged {
        bail!("there is a tag (`!`)");
    }
    Ok(())
}

/// What a plain scalar is, after the core schema of YAML 1.2.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let radix = |prefix: &str, radix| {
        let digits = digits.strip_prefix(prefix)?;
        (!digits.starts_with(['+', '-'])).then(|| i64::from_str_radix(digits, radix).ok())?
    };
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Value::from(number);
    }
    if !digits.starts_with(|it: char| it.is_ascii_digit() || it == '.') {
        return Value::String(text.to_owned());
    }
    let number = text.strip_prefix('+').unwrap_or(text);
    if let Ok(whole) = number.parse::<i64>() {
        return Value::from(whole);
    }
    match number.parse::<f64>().ok().and_then(Number::from_f64) {
        Some(number) => Value::Number(number),
        None => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spans(text: &str) -> Vec<(String, String)> {
        fn walk(text: &str, path: String, node: &Node, found: &mut Vec<(String, String)>) {
            found.push((path.clone(), text[node.span.clone()].to_owned()));
            if let Kind::Mapping { entries, .. } = &node.kind {
                for (key, value) in entries {
                    let key = &text[key.span.clone()];
                    walk(text, format!("{path}.{key}"), value, found);
                }
            }
        }
        let mut found = Vec::new();
        walk(
            text,
            String::new(),
            &parse(text).unwrap().root.unwrap(),
            &mut found,
        );
        found
    }

    #[test]
    fn tells_where_values_stand() {
        let text = "# top\na: 1 # one\nb:\n  c: 'x y'\n  d:\n\n  e: [1, 2]\n# end\n";
        let found = spans(text);
        let of = |path: &str| {
            let known = found.iter().find(|(known, _)| known == path);
            known.map(|(_, text)| text.as_str()).unwrap_or("?")
        };
        assert_eq!(of(".a"), "1");
        assert_eq!(of(".b"), "c: 'x y'\n  d:\n\n  e: [1, 2]");
        assert_eq!(of(".b.c"), "'x y'");
        assert_eq!(of(".b.d"), "");
        assert_eq!(of(".b.e"), "[1, 2]");
        for text in ["t:\n- a\n- b\n", "t:\n  - a\n  - b\n"] {
            let found = spans(text);
            assert!(found[1].1.starts_with("- a"), "{found:?}");
            assert!(found[1].1.ends_with("- b"), "{found:?}");
        }
        let json = "{\n\t\"a\": {\"b\": \"ä\"},\n\t\"c\": []\n}\n";
        let found = spans(json);
        assert!(
            found.contains(&(".\"a\".\"b\"".into(), "\"ä\"".into())),
            "{found:?}"
        );
        assert!(found.contains(&(".\"c\"".into(), "[]".into())), "{found:?}");
    }

    #[test]
    fn resolves_plain_scalars() {
        let value = parse("[a, 1, -2.5, 0x1f, true, yes, ~, '1', 4h0m0s, 1.2.3, 1e3, +3]")
            .unwrap()
            .root
            .unwrap()
            .value()
            .unwrap();
        let expected = json!([
            "a", 1, -2.5, 31, true, "yes", null, "1", "4h0m0s", "1.2.3", 1000.0, 3
        ]);
        assert_eq!(value, expected);
    }

    #[test]
    fn refuses_what_no_edit_could_respect() {
        let refused = |text: &str| parse(text).err().unwrap().to_string();
        assert_eq!(refused("a: &x 1\nb: *x\n"), "there is an anchor (`&`)");
        assert_eq!(refused("a: !!str 1\n"), "there is a tag (`!`)");
        assert_eq!(
            refused("a: 1\n---\nb: 1\n"),
            "there is more than one document"
        );
        assert!(refused("a: [1\n").starts_with("cannot be parsed"));
    }
}
