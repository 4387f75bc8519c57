//! Handles with which a plugin changes the line or payload that it has just added to its answer.

use std::{fmt, io};

use super::batch::Line;
use super::output::{BODY_IN_BATCH, BODY_IS_JSON, Output};
use crate::bindings::logs::exports::bulkhead::plugin::logs as raw;
use crate::json::{ToJson, member};

/// Changes the line that was just added to an [`Output`]. Each change takes effect at once.
///
/// ```
#[doc = include_str!("example.txt")]
/// # let answer = answer!(lines(["hello"]), |batch, out| {
/// for line in batch {
///     out.edit(line).time(0).field("size", line.bytes().len());
/// }
/// # });
/// assert_eq!(answer.line(0).fields()["size"], 5);
/// ```
#[derive(Debug)]
pub struct Edit<'a> {
    out: &'a mut Output,
    line: Line<'a>,
}

impl<'a> Edit<'a> {
    pub(crate) fn new(out: &'a mut Output, line: Line<'a>) -> Self {
        Self { out, line }
    }

    #[inline]
    fn change(&mut self, change: impl FnOnce(&mut raw::OutputLine)) -> &mut Self {
        if let Some(record) = self.out.records.last_mut() {
            change(record);
        }
        self
    }

    /// The body is a JSON object, not text. It must be one: the host checks, and an answer that
    /// breaks its promise ends the instance.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let answer = answer!(lines(["hello"]), |batch, out| for line in batch {
    /// out.rewrite(line, b"{}").json();
    /// # });
    /// assert!(answer.line(0).record().json);
    /// ```
    #[inline]
    pub fn json(&mut self) -> &mut Self {
        self.change(|record| record.flags |= BODY_IS_JSON)
    }

    /// The body is this part of the line, in bytes from its start; nothing is copied. A range beyond
    /// the line's end is cut there.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let answer = answer!(lines(["GET /index"]), |batch, out| for line in batch {
    /// out.edit(line).part(4..line.bytes().len());
    /// # });
    /// assert_eq!(answer.line(0).body_text(), "/index");
    /// ```
    #[inline]
    pub fn part(&mut self, range: std::ops::Range<usize>) -> &mut Self {
        let (offset, length) = (self.line.record.offset, self.line.record.length);
        let start = range.start.min(length as usize);
        let end = range.end.clamp(start, length as usize);
        self.change(|record| {
            record.body_offset = offset + start as u32;
            record.body_length = (end - start) as u32;
            record.flags |= BODY_IN_BATCH;
        })
    }

    /// The line's time, in nanoseconds since 1970-01-01T00:00:00Z.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let answer = answer!(lines(["hello"]), |batch, out| for line in batch {
    /// out.edit(line).time(1_700_000_000_000_000_000);
    /// # });
    /// assert_eq!(answer.line(0).record().time, 1_700_000_000_000_000_000);
    /// ```
    #[inline]
    pub fn time(&mut self, nanoseconds: i64) -> &mut Self {
        self.change(|record| record.time = nanoseconds)
    }

    /// The line goes to these destinations of the manifest, and to no other. A name that does not
    /// exist ends the instance: check them in [`Logs::start`](crate::Logs::start).
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let answer = answer!(lines(["hello"]), |batch, out| for line in batch {
    /// out.edit(line).route(&["errors", "archive"]);
    /// # });
    /// assert_eq!(answer.line(0).record().route, Some(vec!["errors".to_owned(), "archive".to_owned()]));
    /// ```
    #[inline]
    pub fn route(&mut self, destinations: &[impl AsRef<str>]) -> &mut Self {
        let route = self.out.route(destinations);
        self.change(|record| record.route = route)
    }

    /// Adds a field to the line.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let answer = answer!(lines(["hello"]), |batch, out| for line in batch {
    /// out.edit(line).field("zone", "b").field("rack", 7).field("spare", None::<&str>);
    /// # });
    /// let fields = answer.line(0).fields();
    /// assert_eq!(fields["zone"], "b");
    /// assert!(fields["spare"].is_null());
    /// ```
    #[inline]
    pub fn field(&mut self, name: &str, value: impl ToJson) -> &mut Self {
        self.fields_with(|first, out| member(name, &value, first, out))
    }

    /// Adds members of a JSON object, without the braces; see [`Output::enrich`].
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let answer = answer!(lines(["hello"]), |batch, out| for line in batch {
    /// out.edit(line).members(br#""zone":"b""#);
    /// # });
    /// assert_eq!(answer.line(0).fields()["zone"], "b");
    /// ```
    #[inline]
    pub fn members(&mut self, members: &[u8]) -> &mut Self {
        if members.is_empty() || self.share_members(members) {
            return self;
        }
        self.fields_with(|first, out| {
            if !first {
                out.push(b',');
            }
            out.extend_from_slice(members);
        })
    }

    /// Points to the fields of the line before if they are the same, as constant ones are: then they
    /// cross to the host once for a batch.
    #[inline]
    fn share_members(&mut self, members: &[u8]) -> bool {
        let Output { records, bytes, .. } = &mut *self.out;
        let [.., before, record] = records.as_mut_slice() else {
            return false;
        };
        let span = before.fields_offset as usize..;
        let same = record.fields_length == 0
            && before.fields_length as usize == members.len()
            && bytes
                .get(span)
                .is_some_and(|bytes| bytes.starts_with(members));
        if same {
            record.fields_offset = before.fields_offset;
            record.fields_length = before.fields_length;
        }
        same
    }

    #[inline]
    fn fields_with(&mut self, write: impl FnOnce(bool, &mut Vec<u8>)) -> &mut Self {
        let Output { records, bytes, .. } = &mut *self.out;
        if let Some(record) = records.last_mut() {
            let first = record.fields_length == 0;
            let offset = record.fields_offset as usize;
            let fields = offset..offset + record.fields_length as usize;
            if first {
                record.fields_offset = bytes.len() as u32;
            } else if fields.end != bytes.len() {
                // Shared with an earlier line: what is added must follow a copy.
                record.fields_offset = bytes.len() as u32;
                bytes.extend_from_within(fields);
            }
            write(first, bytes);
            record.fields_length = bytes.len() as u32 - record.fields_offset;
        }
        self
    }
}

/// Where a plugin writes a body: appends, and can change what it has written itself.
///
/// ```
/// use std::fmt::Write;
#[doc = include_str!("example.txt")]
/// # let answer = answer!(lines(["hello"]), |batch, out| for line in batch {
/// out.rewrite_with(line, |body| {
///     body.extend(b"{\"length\":");
///     let _ = write!(body, "{}", line.bytes().len());
///     body.push(b'}');
/// })
/// .json();
/// # });
/// assert_eq!(answer.line(0).body_text(), r#"{"length":5}"#);
/// ```
#[derive(Debug)]
pub struct Body<'a> {
    bytes: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Body<'a> {
    pub(crate) fn new(bytes: &'a mut Vec<u8>) -> Self {
        let start = bytes.len();
        Self { bytes, start }
    }

    /// Appends bytes.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let answer = answer!(lines([""]), |batch, out| for line in batch { out.rewrite_with(line, |body| {
    /// body.extend(b"status=200");
    /// # }); });
    /// assert_eq!(answer.line(0).body_text(), "status=200");
    /// ```
    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends one byte.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let answer = answer!(lines([""]), |batch, out| for line in batch { out.rewrite_with(line, |body| {
    /// body.push(b' ');
    /// # }); });
    /// assert_eq!(answer.line(0).body_text(), " ");
    /// ```
    #[inline]
    pub fn push(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Appends a value as JSON.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let answer = answer!(lines([""]), |batch, out| for line in batch { out.rewrite_with(line, |body| {
    /// body.json("a \"quoted\" word");
    /// # }); });
    /// assert_eq!(answer.line(0).body_text(), r#""a \"quoted\" word""#);
    /// ```
    #[inline]
    pub fn json(&mut self, value: impl ToJson) {
        value.write_json(self.bytes);
    }

    /// Cuts what was written to `length` bytes; nothing happens if it is shorter.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let answer = answer!(lines([""]), |batch, out| for line in batch { out.rewrite_with(line, |body| {
    /// body.extend(b"surely");
    /// let mark = body.len();
    /// body.extend(b", perhaps");
    /// body.truncate(mark);
    /// # }); });
    /// assert_eq!(answer.line(0).body_text(), "surely");
    /// ```
    #[inline]
    pub fn truncate(&mut self, length: usize) {
        self.bytes.truncate(self.start + length);
    }
}

impl std::ops::Deref for Body<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl std::ops::DerefMut for Body<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

impl fmt::Write for Body<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.extend(text.as_bytes());
        Ok(())
    }
}

impl io::Write for Body<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A request body or file content that the plugin encodes itself; see [`Output::payload`]. It is
/// complete when dropped.
///
/// ```
#[doc = include_str!("example.txt")]
/// # let answer = answer!(lines(["a", "b"]), |batch, out| {
/// let mut payload = out.payload();
/// for line in batch {
///     payload.take(line);
///     payload.body().extend(line.bytes());
/// }
/// payload.route(&["archive"]);
/// # });
/// assert_eq!(answer.payloads()[0].bytes, b"ab");
/// ```
#[derive(Debug)]
pub struct Payload<'a> {
    out: &'a mut Output,
    start: usize,
}

impl<'a> Payload<'a> {
    pub(crate) fn new(out: &'a mut Output) -> Self {
        let start = out.bytes.len();
        Self { out, start }
    }

    /// Says that the payload holds `line`, which counts as acknowledged when the payload is. A line
    /// that no payload takes is filtered out.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let answer = answer!(lines(["a", "b"]), |batch, out| {
    /// let mut payload = out.payload();
    /// batch.lines().for_each(|line| payload.take(line));
    /// # });
    /// assert_eq!(answer.payloads()[0].lines, [0, 1]);
    /// ```
    #[inline]
    pub fn take(&mut self, line: Line<'_>) {
        self.out.payload_lines.push(line.index);
        if let Some(payload) = self.out.payloads.last_mut() {
            payload.line_count += 1;
        }
    }

    /// The bytes.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let answer = answer!(lines(["a"]), |_, out| {
    /// out.payload().body().extend(b"PUT log 1\n");
    /// # });
    /// assert_eq!(answer.payloads()[0].bytes, b"PUT log 1\n");
    /// ```
    #[inline]
    pub fn body(&mut self) -> Body<'_> {
        Body {
            bytes: &mut self.out.bytes,
            start: self.start,
        }
    }

    /// The payload goes to these destinations of the manifest, and to no other.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # let answer = answer!(lines(["a"]), |_, out| {
    /// out.payload().route(&["archive"]);
    /// # });
    /// assert_eq!(answer.payloads()[0].route, Some(vec!["archive".to_owned()]));
    /// ```
    pub fn route(&mut self, destinations: &[impl AsRef<str>]) -> &mut Self {
        let route = self.out.route(destinations);
        if let Some(payload) = self.out.payloads.last_mut() {
            payload.route = route;
        }
        self
    }
}

impl Drop for Payload<'_> {
    fn drop(&mut self) {
        if let Some(payload) = self.out.payloads.last_mut() {
            payload.length = (self.out.bytes.len() - self.start) as u32;
        }
    }
}
