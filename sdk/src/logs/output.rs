//! Collects a plugin's answer about one batch, and makes the cheapest verdict of it: no bytes at all
//! as long as lines are only kept.

use super::batch::{Batch, Line};
use super::edit::{Body, Edit, Payload};
use crate::bindings::logs::exports::bulkhead::plugin::logs as raw;
use crate::error::{Error, Result};

/// For every destination that takes lines without a route.
pub(crate) const NO_ROUTE: u32 = u32::MAX;
pub(crate) const BODY_IN_BATCH: u32 = 1;
pub(crate) const BODY_IS_JSON: u32 = 1 << 1;

/// What becomes of the lines of a batch. A line that it is not told about is filtered out.
///
/// ```
#[doc = include_str!("example.txt")]
/// use bulkhead_sdk::{Batch, Output};
///
/// fn process(batch: &Batch, out: &mut Output) {
///     for line in batch {
///         match line.bytes() {
///             b"" => {}
///             bytes if bytes.starts_with(b"{") => out.keep(line),
///             bytes => {
///                 out.rewrite(line, bytes.trim_ascii()).field("trimmed", true);
///             }
///         }
///     }
/// }
/// # let answer = answer!(lines(["", "{}", " a "]), process);
/// # assert_eq!(answer.kept(), [1, 2]);
/// # assert!(answer.line(1).is_kept());
/// # assert_eq!(answer.line(2).body_text(), "a");
/// # assert_eq!(answer.line(2).fields()["trimmed"], true);
/// ```
#[derive(Debug, Default)]
pub struct Output {
    answer: Answer,
    /// While `answer` is `First`: how many lines, from the first on, are kept.
    first: u32,
    kept: Vec<u32>,
    out_of_order: bool,
    pub(crate) records: Vec<raw::OutputLine>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) routes: Vec<Vec<String>>,
    pub(crate) payloads: Vec<raw::Payload>,
    pub(crate) payload_lines: Vec<u32>,
    verdict: Option<raw::Verdict>,
    /// What the last batches took: the buffers go to the host with the verdict, and their successors
    /// start at this size instead of growing step by step.
    room: Room,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// The first `first` lines are kept, unchanged.
    #[default]
    First,
    /// The lines in `kept` are, unchanged.
    Kept,
    /// The lines in `records`.
    Records,
}

#[derive(Debug, Default)]
struct Room {
    kept: usize,
    records: usize,
    bytes: usize,
}

impl Output {
    /// Every line goes on as it is, whatever was said about any line before.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn process(batch: &Batch, out: &mut Output) {
    ///     out.keep_all(batch);
    /// }
    /// # let answer = answer!(lines(["a", "b"]), process);
    /// # assert_eq!((answer.kept(), answer.verdict()), (vec![0, 1], "keep-all"));
    /// ```
    pub fn keep_all(&mut self, batch: &Batch) {
        self.clear();
        self.first = batch.len() as u32;
    }

    /// `line` goes on as it is.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn process(batch: &Batch, out: &mut Output) {
    ///     batch.lines().filter(|line| line.is_stderr()).for_each(|line| out.keep(line));
    /// }
    /// # let batch = BatchBuilder::new().line("fine").stderr("broken").build();
    /// # assert_eq!(answer!(batch, process).kept(), [1]);
    /// ```
    #[inline]
    pub fn keep(&mut self, line: Line<'_>) {
        match self.answer {
            Answer::First if line.index == self.first => self.first += 1,
            Answer::Kept if self.kept.last().is_none_or(|&last| last < line.index) => {
                self.kept.push(line.index);
            }
            _ => self.keep_otherwise(line),
        }
    }

    /// The lines that are `wanted` go on as they are.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn process(batch: &Batch, out: &mut Output) {
    ///     out.keep_if(batch, |line| line.is_stderr());
    /// }
    /// # let batch = BatchBuilder::new().line("fine").stderr("broken").build();
    /// # assert_eq!(answer!(batch, process).kept(), [1]);
    /// ```
    #[inline]
    pub fn keep_if<'a>(&mut self, batch: &'a Batch, mut wanted: impl FnMut(Line<'a>) -> bool) {
        for line in batch.lines() {
            if wanted(line) {
                self.keep(line);
            }
        }
    }

    #[cold]
    fn keep_gap(&mut self, line: Line<'_>) {
        self.kept.clear();
        self.kept
            .reserve(self.room.kept.max(self.first as usize + 1));
        self.kept.extend(0..self.first);
        self.kept.push(line.index);
        self.answer = Answer::Kept;
    }

    fn keep_otherwise(&mut self, line: Line<'_>) {
        if self.answer == Answer::First && line.index > self.first {
            self.keep_gap(line);
        } else {
            self.record(line);
        }
    }

    /// `line` goes on, with whatever the returned [`Edit`] changes about it.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn process(batch: &Batch, out: &mut Output) {
    ///     for line in batch {
    ///         out.edit(line).field("node", "node-7").route(&["archive"]);
    ///     }
    /// }
    /// # let answer = answer!(lines(["a"]), process);
    /// # assert_eq!(answer.line(0).body_text(), "a");
    /// # assert_eq!(answer.line(0).fields()["node"], "node-7");
    /// # assert_eq!(answer.line(0).record().route.as_ref().unwrap(), &["archive"]);
    /// ```
    #[inline]
    pub fn edit<'a>(&'a mut self, line: Line<'a>) -> Edit<'a> {
        self.record(line);
        Edit::new(self, line)
    }

    /// `line` goes on with another body, which is text unless [`Edit::json`] says otherwise.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn process(batch: &Batch, out: &mut Output) {
    ///     for line in batch {
    ///         out.rewrite(line, br#"{"seen":1}"#).json();
    ///     }
    /// }
    /// # let answer = answer!(lines(["a"]), process);
    /// # assert_eq!(answer.line(0).body_text(), r#"{"seen":1}"#);
    /// ```
    #[inline]
    pub fn rewrite<'a>(&'a mut self, line: Line<'a>, body: &[u8]) -> Edit<'a> {
        self.rewrite_with(line, |out| out.extend(body))
    }

    /// As [`Output::rewrite`], with a body that `write` writes straight into the answer.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn process(batch: &Batch, out: &mut Output) {
    ///     for line in batch {
    ///         out.rewrite_with(line, |body| {
    ///             body.extend(line.bytes());
    ///             body.make_ascii_lowercase();
    ///         });
    ///     }
    /// }
    /// # assert_eq!(answer!(lines(["LOUD"]), process).line(0).body_text(), "loud");
    /// ```
    #[inline]
    pub fn rewrite_with<'a>(
        &'a mut self,
        line: Line<'a>,
        write: impl FnOnce(&mut Body<'_>),
    ) -> Edit<'a> {
        self.record(line);
        let offset = self.bytes.len();
        write(&mut Body::new(&mut self.bytes));
        if let Some(record) = self.records.last_mut() {
            record.body_offset = offset as u32;
            record.body_length = (self.bytes.len() - offset) as u32;
            record.flags &= !BODY_IN_BATCH;
        }
        Edit::new(self, line)
    }

    /// `line` goes on with further members of a JSON object, without the braces
    /// (`"level":"warn","n":1`). They must be well-formed; [`Edit::field`] writes them for you.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn process(batch: &Batch, out: &mut Output) {
    ///     for line in batch {
    ///         out.enrich(line, br#""zone":"b","rack":7"#);
    ///     }
    /// }
    /// # assert_eq!(answer!(lines(["a"]), process).line(0).fields()["rack"], 7);
    /// ```
    #[inline]
    pub fn enrich<'a>(&'a mut self, line: Line<'a>, members: &[u8]) -> Edit<'a> {
        let mut edit = self.edit(line);
        edit.members(members);
        edit
    }

    /// Starts a request body or file content that the plugin encodes itself. A batch is answered
    /// with payloads or with lines, not with both.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn process(batch: &Batch, out: &mut Output) {
    ///     let mut payload = out.payload();
    ///     for line in batch {
    ///         payload.take(line);
    ///         payload.body().extend(line.bytes());
    ///         payload.body().push(b'\n');
    ///     }
    /// }
    /// # assert_eq!(answer!(lines(["a", "b"]), process).payloads()[0].bytes, b"a\nb\n");
    /// ```
    pub fn payload(&mut self) -> Payload<'_> {
        self.payloads.push(raw::Payload {
            offset: self.bytes.len() as u32,
            length: 0,
            route: NO_ROUTE,
            line_count: 0,
        });
        Payload::new(self)
    }

    /// Answers with a verdict as it is, for tests of the host.
    #[doc(hidden)]
    pub fn answer_raw(&mut self, verdict: raw::Verdict) {
        self.verdict = Some(verdict);
    }

    /// Adds a record that keeps `line` as it is.
    #[inline]
    fn record(&mut self, line: Line<'_>) {
        if self.answer != Answer::Records {
            self.turn_into_records(line.batch);
        }
        if let Some(last) = self.records.last()
            && last.line > line.index
        {
            self.out_of_order = true;
        }
        self.records.push(unchanged(line));
    }

    #[cold]
    fn turn_into_records(&mut self, batch: &Batch) {
        let first = 0..self.first;
        let kept = match self.answer {
            Answer::Kept => std::mem::take(&mut self.kept),
            _ => Vec::new(),
        };
        let first = if self.answer == Answer::First {
            first
        } else {
            0..0
        };
        self.records.reserve(self.room.records.max(16));
        self.bytes.reserve(self.room.bytes);
        for index in first.chain(kept) {
            if let Some(line) = batch.get(index as usize) {
                self.records.push(unchanged(line));
            }
        }
        self.answer = Answer::Records;
    }

    /// The index of a route, adding it if it is new.
    pub(crate) fn route(&mut self, names: &[impl AsRef<str>]) -> u32 {
        let known = |route: &Vec<String>| {
            route.len() == names.len() && route.iter().zip(names).all(|(a, b)| a == b.as_ref())
        };
        let index = self.routes.iter().position(known).unwrap_or_else(|| {
            let names = names.iter().map(|name| name.as_ref().to_owned());
            self.routes.push(names.collect());
            self.routes.len() - 1
        });
        index as u32
    }

    /// Forgets what was said about the batch before this one, if its call failed.
    pub(crate) fn clear(&mut self) {
        self.answer = Answer::First;
        self.first = 0;
        self.out_of_order = false;
        self.kept.clear();
        self.records.clear();
        self.bytes.clear();
        self.routes.clear();
        self.payloads.clear();
        self.payload_lines.clear();
        self.verdict = None;
    }

    /// The verdict about a batch of `lines` lines; nothing of it stays behind.
    pub(crate) fn finish(&mut self, lines: usize) -> Result<raw::Verdict> {
        if let Some(verdict) = self.verdict.take() {
            self.clear();
            return Ok(verdict);
        }
        let verdict = if self.payloads.is_empty() {
            self.finish_lines(lines)
        } else if self.answer == Answer::First && self.first == 0 {
            raw::Verdict::Encoded(raw::Encoded {
                bytes: std::mem::take(&mut self.bytes),
                payloads: std::mem::take(&mut self.payloads),
                lines: std::mem::take(&mut self.payload_lines),
                routes: std::mem::take(&mut self.routes),
            })
        } else {
            self.clear();
            return Err(Error::new(
                "the plugin answered one batch with both lines and payloads",
            ));
        };
        self.clear();
        Ok(verdict)
    }

    fn finish_lines(&mut self, lines: usize) -> raw::Verdict {
        match self.answer {
            Answer::First if self.first as usize == lines => raw::Verdict::KeepAll,
            Answer::First => raw::Verdict::Keep((0..self.first).collect()),
            Answer::Kept => {
                self.room.kept = self.kept.len().max(self.room.kept);
                raw::Verdict::Keep(std::mem::take(&mut self.kept))
            }
            Answer::Records => {
                if self.out_of_order {
                    // Stable, so that several lines made of one stay in the order they were made.
                    self.records.sort_by_key(|record| record.line);
                }
                self.room.records = self.records.len().max(self.room.records);
                self.room.bytes = self.bytes.len().max(self.room.bytes);
                raw::Verdict::Rewrite(raw::Rewrite {
                    bytes: std::mem::take(&mut self.bytes),
                    lines: std::mem::take(&mut self.records),
                    routes: std::mem::take(&mut self.routes),
                })
            }
        }
    }
}

#[inline]
fn unchanged(line: Line<'_>) -> raw::OutputLine {
    raw::OutputLine {
        time: line.record.time,
        line: line.index,
        route: NO_ROUTE,
        body_offset: line.record.offset,
        body_length: line.record.length,
        fields_offset: 0,
        fields_length: 0,
        flags: BODY_IN_BATCH,
    }
}
