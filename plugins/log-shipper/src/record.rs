//! A line seen as fields, and looking up a field in it.

use bulkhead_sdk::Line;

use crate::json::{self, Member};

/// What a line turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Text, whole; `bytes` are the line's.
    Text,
    /// A JSON object, as written; `bytes` are the line's.
    Json,
    /// A JSON object that was made of the line.
    Made,
}

/// A line and its fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub line: Line<'a>,
    pub shape: Shape,
    /// What `members` point into.
    pub bytes: &'a [u8],
    /// Of the outermost object; none for text.
    pub members: &'a [Member],
}

/// Buffers that look-ups need now and then; kept, so that nothing is allocated for each line.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub members: Vec<Member>,
    pub text: Vec<u8>,
}

/// A field's name, as the configuration writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field {
    /// `@source.path`.
    SourcePath,
    /// `@source.stream`.
    Stream,
    /// `@source.` and the name of an attribute.
    Attribute(String),
    /// A dotted path.
    Path(Vec<u8>),
}

/// The one field of text.
pub(crate) const MESSAGE: &[u8] = b"message";

impl Field {
    pub(crate) fn new(name: &str) -> Self {
        match name.strip_prefix("@source.") {
            Some("path") => Field::SourcePath,
            Some("stream") => Field::Stream,
            Some(attribute) => Field::Attribute(attribute.to_owned()),
            None => Field::Path(name.as_bytes().to_vec()),
        }
    }
}

impl Record<'_> {
    /// The field's text, if the line has the field: what a string means, or another value as written.
    #[inline]
    pub(crate) fn text<'s>(&'s self, field: &Field, scratch: &'s mut Scratch) -> Option<&'s [u8]> {
        match field {
            Field::Path(path) if self.shape == Shape::Text => {
                (path == MESSAGE).then_some(self.bytes)
            }
            Field::Path(path) => {
                let found = self.find(path, scratch)?;
                Some(value_text(self.bytes, found, &mut scratch.text))
            }
            Field::SourcePath => Some(self.line.source().path().as_bytes()),
            Field::Stream if self.line.is_stderr() => Some(b"stderr"),
            Field::Stream => Some(b"stdout"),
            Field::Attribute(name) => self.line.source().attribute(name).map(str::as_bytes),
        }
    }

    /// Whether the line has the field.
    pub(crate) fn has(&self, field: &Field, scratch: &mut Scratch) -> bool {
        match field {
            Field::Path(path) if self.shape != Shape::Text => self.find(path, scratch).is_some(),
            _ => self.text(field, scratch).is_some(),
        }
    }

    #[inline]
    fn find(&self, path: &[u8], scratch: &mut Scratch) -> Option<Member> {
        let Scratch { members, text } = scratch;
        let mut step = step(self.bytes, self.members, path, text);
        loop {
            match step {
                Step::Found(member) => return Some(member),
                Step::Nowhere => return None,
                Step::Into(object, taken) => {
                    members.clear();
                    json::members(self.bytes, object.value, members);
                    step = self::step(self.bytes, members, &path[taken..], text).after(taken);
                }
            }
        }
    }
}

enum Step {
    Found(Member),
    /// The rest of the path, from this offset on, is in this object.
    Into(Member, usize),
    Nowhere,
}

impl Step {
    fn after(self, before: usize) -> Self {
        match self {
            Step::Into(member, taken) => Step::Into(member, before + taken),
            other => other,
        }
    }
}

#[inline]
fn step(bytes: &[u8], members: &[Member], path: &[u8], text: &mut Vec<u8>) -> Step {
    let mut into = Step::Nowhere;
    for member in members {
        match match_key(key(bytes, member, text), path) {
            Match::Whole => return Step::Found(*member),
            Match::Start(taken) if is_object(bytes, member) => into = Step::Into(*member, taken),
            _ => {}
        }
    }
    into
}

/// How a key compares with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// They are the same.
    Whole,
    /// The key is the path's beginning; what is left starts at this offset.
    Start(usize),
    /// They have nothing to do with each other.
    None,
}

#[inline]
pub(crate) fn match_key(key: &[u8], path: &[u8]) -> Match {
    match path.strip_prefix(key) {
        Some([]) => Match::Whole,
        Some([b'.', ..]) => Match::Start(key.len() + 1),
        _ => Match::None,
    }
}

/// What the member's key means.
#[inline]
pub(crate) fn key<'a>(bytes: &'a [u8], member: &Member, text: &'a mut Vec<u8>) -> &'a [u8] {
    let raw = &bytes[member.key.0 as usize..member.key.1 as usize];
    if member.key_escaped {
        json::unescape(raw, text);
        return text;
    }
    raw
}

/// Whether the member's value is an object.
#[inline]
pub(crate) fn is_object(bytes: &[u8], member: &Member) -> bool {
    bytes[member.value.0 as usize] == b'{'
}

/// What the member's value means if it is a string, otherwise as it is written.
#[inline]
pub(crate) fn value_text<'a>(bytes: &'a [u8], member: Member, text: &'a mut Vec<u8>) -> &'a [u8] {
    let raw = &bytes[member.value.0 as usize..member.value.1 as usize];
    match raw {
        [b'"', inside @ .., b'"'] if member.value_escaped => {
            json::unescape(inside, text);
            text
        }
        [b'"', inside @ .., b'"'] => inside,
        other => other,
    }
}
