//! How one record becomes bytes: `raw` (the body and a line feed) and `json` (one object a line).
//! Nothing here knows of requests, files or sockets; whatever a destination sends starts here.
//!
//! # `raw`
//! The body as it is, then a line feed. Added fields are not written: they have no place in raw
//! text, choose `json` to keep them. A line feed inside a body (joined multi-line entries) is kept,
//! so such a record is several lines of the output, as it was in the application's own log.
//!
//! # `json`
//! Members in this order:
//! - `time` (or `@timestamp`): RFC 3339, UTC, nine digits of fraction;
//! - `message`: the body as text, bytes that are not UTF-8 replaced by U+FFFD; or, if the body is a
//!   JSON object, its own members at the top level instead of `message`;
//! - `stream`: `"stderr"`, only if it is;
//! - where it came from: the attributes under their OpenTelemetry names (`k8s.pod.name`, ...), flat;
//!   for a source without attributes `file`, the path;
//! - `cut` and `unfinished`: `true`, only if they are;
//! - the fields that the plugin added.
//!
//! For Elasticsearch, dots in the names of labels and annotations become underscores: it takes a dot
//! for an object's member, and `app` cannot be a text and have a member `kubernetes` at once.
//!
//! A name appears once, because some receivers refuse an object with a repeated name. What was
//! decided later wins: a field that the plugin added over a member of the body, a member of the
//! body over the host's own (`time`, `stream`, ...). So a plugin stays in charge: renaming or
//! removing a member brings the host's own value back. Names are compared as written, so an escaped
//! spelling (`"\u0074ime"`) is another name.
//!
//! A body that claims to be a JSON object but has no braces around it is written as `message`. Raw
//! line feeds between its tokens become spaces, so that a record stays one line.

mod members;
mod source;
mod text;
mod time;

use std::borrow::Cow;

use memchr::memmem::Finder;

use crate::manifest::Format;

use super::batch::{LINE_CUT, LINE_STDERR, LINE_UNFINISHED, Source};
use super::output::Record;
use members::{Member, Members};
pub use source::BySource;
use source::{Dots, Fragment};
pub use text::push_string;
pub use time::Clock;

/// The member that holds a record's time, with its quotes.
const TIME: &[u8] = b"\"time\"";
/// The same for receivers that want it under this name.
const TIMESTAMP: &[u8] = b"\"@timestamp\"";

/// Writes records one after the other. Holds what is worth remembering between lines (the last
/// second as text, each source's members), so a lane keeps one for its lifetime.
#[derive(Debug)]
pub struct RecordEncoder {
    format: Format,
    time: Time,
    dots: Dots,
    fragments: BySource<Fragment>,
}

impl RecordEncoder {
    /// An encoder for `format`.
    pub fn new(format: Format) -> Self {
        Self::with(format, TIME, Dots::Kept)
    }

    /// An encoder for `json` as Elasticsearch wants it.
    pub fn for_elasticsearch() -> Self {
        Self::with(Format::Json, TIMESTAMP, Dots::Replaced)
    }

    fn with(format: Format, name: &'static [u8], dots: Dots) -> Self {
        Self {
            format,
            time: Time {
                name,
                finder: Finder::new(name),
                clock: Clock::default(),
            },
            dots,
            fragments: BySource::default(),
        }
    }

    /// Appends `record` and a line feed to `out`.
    pub fn line(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        match self.format {
            Format::Raw => out.extend_from_slice(record.body),
            Format::Json => self.object(record, out),
        }
        out.push(b'\n');
    }

    /// Appends `record` as one JSON object, without a line feed.
    pub fn object(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        let make = |source: &Source| Fragment::new(source, self.dots);
        let fragment = self.fragments.of(record.source, make);
        let members = if record.json {
            members::of_object(record.body)
        } else {
            None
        };
        if collides(record, members, &self.time, fragment) {
            return merge(record, members, &mut self.time, fragment, out);
        }
        out.push(b'{');
        self.time.member(record.time, out);
        match members {
            Some([]) => {}
            Some(members) => {
                out.push(b',');
                push_members(members, out);
            }
            None => {
                out.extend_from_slice(b",\"message\":");
                push_string(record.body, out);
            }
        }
        if record.flags & LINE_STDERR != 0 {
            out.extend_from_slice(b",\"stream\":\"stderr\"");
        }
        out.extend_from_slice(fragment.text());
        if record.flags & LINE_CUT != 0 {
            out.extend_from_slice(b",\"cut\":true");
        }
        if record.flags & LINE_UNFINISHED != 0 {
            out.extend_from_slice(b",\"unfinished\":true");
        }
        if !record.fields.is_empty() {
            out.push(b',');
            push_members(record.fields, out);
        }
        out.push(b'}');
    }
}

/// Of the members of `record` that are called one of `names`, whatever their case, the one whose name
/// stands first in `names`: its value as JSON. What the plugin
/// added wins.
pub fn member_of<'a>(record: &Record<'a>, names: &[&str]) -> Option<&'a [u8]> {
    let body = match record.json {
        true => members::of_object(record.body).unwrap_or_default(),
        false => &[],
    };
    let find = |text: &'a [u8]| -> Option<&'a [u8]> {
        let mut best: Option<(usize, Member<'a>)> = None;
        for member in Members::new(text) {
            let name = member.name.get(1..member.name.len().saturating_sub(1));
            let name = name.unwrap_or_default();
            let same = |other: &&str| name.eq_ignore_ascii_case(other.as_bytes());
            if let Some(rank) = names.iter().position(same)
                && best.is_none_or(|(other, _)| rank < other)
            {
                best = Some((rank, member));
            }
        }
        let (_, member) = best?;
        let value = member.text.get(member.name.len()..)?.trim_ascii_start();
        Some(value.strip_prefix(b":")?.trim_ascii())
    };
    find(record.fields).or_else(|| find(body))
}

/// How a record's time is written.
#[derive(Debug)]
struct Time {
    /// With its quotes.
    name: &'static [u8],
    /// Of the name.
    finder: Finder<'static>,
    clock: Clock,
}

impl Time {
    fn member(&mut self, time: i64, out: &mut Vec<u8>) {
        out.extend_from_slice(self.name);
        out.extend_from_slice(b":\"");
        self.clock.push(time, out);
        out.push(b'"');
    }
}

/// Members as the plugin wrote them, made safe for one line: UTF-8, and no raw line feeds, which in
/// well-formed JSON stand only between tokens.
fn push_members(members: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    match String::from_utf8_lossy(members) {
        Cow::Borrowed(_) => out.extend_from_slice(members),
        Cow::Owned(text) => out.extend_from_slice(text.as_bytes()),
    }
    if memchr::memchr2(b'\n', b'\r', members).is_some() {
        for byte in &mut out[start..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
}

/// Whether a name could appear twice. May say yes wrongly (the name stands inside a value), never
/// no; a few vector scans, because it runs for every line.
fn collides(record: &Record<'_>, members: Option<&[u8]>, time: &Time, fragment: &Fragment) -> bool {
    if let Some(body) = members {
        let contains = |name: &[u8]| memchr::memmem::find(body, name).is_some();
        if time.finder.find(body).is_some()
            || fragment.probe().find(body).is_some()
            || (record.flags & LINE_STDERR != 0 && contains(b"\"stream\""))
            || (record.flags & LINE_CUT != 0 && contains(b"\"cut\""))
            || (record.flags & LINE_UNFINISHED != 0 && contains(b"\"unfinished\""))
        {
            return true;
        }
    }
    if record.fields.is_empty() {
        return false;
    }
    Members::new(record.fields).any(|member| {
        matches!(
            member.name,
            b"\"message\"" | b"\"stream\"" | b"\"cut\"" | b"\"unfinished\""
        ) || member.name == time.name
            || fragment.has(member.name)
            || members.is_some_and(|body| memchr::memmem::find(body, member.name).is_some())
    })
}

/// The careful way: member by member, leaving out what a later part names again.
#[cold]
fn merge(
    record: &Record<'_>,
    members: Option<&[u8]>,
    time: &mut Time,
    fragment: &Fragment,
    out: &mut Vec<u8>,
) {
    let mut host = Vec::with_capacity(128);
    time.member(record.time, &mut host);
    let mut after = Vec::with_capacity(128);
    if record.flags & LINE_STDERR != 0 {
        after.extend_from_slice(b",\"stream\":\"stderr\"");
    }
    after.extend_from_slice(fragment.text());
    if record.flags & LINE_CUT != 0 {
        after.extend_from_slice(b",\"cut\":true");
    }
    if record.flags & LINE_UNFINISHED != 0 {
        after.extend_from_slice(b",\"unfinished\":true");
    }
    let mut message = Vec::new();
    if members.is_none() {
        message.extend_from_slice(b"\"message\":");
        push_string(record.body, &mut message);
    }
    let body = members.unwrap_or_default();
    let in_fields = |name: &[u8]| Members::new(record.fields).any(|other| other.name == name);
    let in_body = |name: &[u8]| Members::new(body).any(|other| other.name == name);

    out.push(b'{');
    let start = out.len();
    let separate = |out: &mut Vec<u8>| {
        if out.len() > start {
            out.push(b',');
        }
    };
    // The host's own text is UTF-8 and one line already, the rest is made so.
    for (part, own) in [(&host[..], true), (&message, true), (body, false)] {
        for member in Members::new(part) {
            if in_fields(member.name) || (own && in_body(member.name)) {
                continue;
            }
            separate(out);
            push_members(member.text, out);
        }
    }
    for member in Members::new(after.get(1..).unwrap_or_default()) {
        if !in_fields(member.name) && !in_body(member.name) {
            separate(out);
            out.extend_from_slice(member.text);
        }
    }
    if !record.fields.is_empty() {
        separate(out);
        push_members(record.fields, out);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests;
