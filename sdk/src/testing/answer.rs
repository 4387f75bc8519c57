//! A plugin's answer, checked as the host checks it, line by line.

use crate::bindings::logs::exports::bulkhead::plugin::logs as raw;
use crate::error::{Error, Result};
use crate::logs::Batch;

/// What a plugin answered about a batch.
///
/// ```
#[doc = include_str!("../logs/example.txt")]
/// # plugin!(|batch, out| for line in batch.lines().filter(|line| !line.bytes().is_empty()) {
/// #     out.enrich(line, if line.is_stderr() { br#""level":"warn""# } else { br#""level":"info""# });
/// # });
/// let batch = BatchBuilder::new().line("fine").line("").stderr("oops").build();
/// let answer = Harness::<MyPlugin>::new("{}")?.process(batch)?;
/// assert_eq!(answer.kept(), [0, 2]);
/// assert_eq!(answer.line(2).fields()["level"], "warn");
/// # bulkhead_sdk::Result::<()>::Ok(())
/// ```
#[derive(Debug)]
pub struct Answer {
    outcomes: Vec<Outcome>,
    payloads: Vec<SentPayload>,
    verdict: &'static str,
}

/// What became of one line: the records that go on in its place.
///
/// ```
#[doc = include_str!("../logs/example.txt")]
/// # plugin!(|batch, out| batch.lines().for_each(|line| for half in line.bytes().chunks(2) { out.rewrite(line, half); }));
/// let answer = Harness::<MyPlugin>::new("{}")?.process(lines(["four", "one", ""]))?;
/// assert_eq!(answer.line(0).records.len(), 2);
/// assert!(answer.line(2).is_dropped());
/// # assert_eq!(answer.line(1).records[1].body, b"e");
/// # bulkhead_sdk::Result::<()>::Ok(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// None if the line was filtered out.
    pub records: Vec<Record>,
    original: (Vec<u8>, i64),
}

/// One line that goes on.
///
/// ```
#[doc = include_str!("../logs/example.txt")]
/// # plugin!(|batch, out| batch.lines().for_each(|line| _ = out.rewrite(line, line.bytes().trim_ascii())));
/// let answer = Harness::<MyPlugin>::new("{}")?.process(lines([" hello "]))?;
/// assert_eq!(answer.line(0).record().body, b"hello");
/// # bulkhead_sdk::Result::<()>::Ok(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Nanoseconds since 1970.
    pub time: i64,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the body is a JSON object.
    pub json: bool,
    /// The added fields, as an object.
    pub fields: serde_json::Value,
    /// Names of destinations; `None` for those that take lines without a route.
    pub route: Option<Vec<String>>,
}

/// A payload that the plugin encoded itself.
///
/// ```
#[doc = include_str!("../logs/example.txt")]
/// # plugin!(|batch, out| {
/// #     let mut payload = out.payload();
/// #     for line in batch { payload.take(line); payload.body().extend(line.bytes()); }
/// # });
/// let answer = Harness::<MyPlugin>::new("{}")?.process(lines(["a", "b"]))?;
/// assert_eq!(answer.payloads()[0].lines, [0, 1]);
/// # assert_eq!(answer.payloads()[0].bytes, b"ab");
/// # bulkhead_sdk::Result::<()>::Ok(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SentPayload {
    /// The payload.
    pub bytes: Vec<u8>,
    /// The lines that it holds.
    pub lines: Vec<usize>,
    /// Names of destinations; `None` for those that take lines without a route.
    pub route: Option<Vec<String>>,
}

impl Answer {
    pub(crate) fn check(batch: Batch, verdict: raw::Verdict) -> Result<Self> {
        let mut answer = Answer {
            outcomes: batch
                .lines()
                .map(|line| Outcome {
                    records: Vec::new(),
                    original: (line.bytes().to_vec(), line.time()),
                })
                .collect(),
            payloads: Vec::new(),
            verdict: match verdict {
                raw::Verdict::KeepAll => "keep-all",
                raw::Verdict::Keep(_) => "keep",
                raw::Verdict::Rewrite(_) => "rewrite",
                raw::Verdict::Encoded(_) => "encoded",
            },
        };
        match verdict {
            raw::Verdict::KeepAll => answer.outcomes.iter_mut().for_each(Outcome::keep),
            raw::Verdict::Keep(lines) => {
                if !lines.is_sorted_by(|a, b| a < b) {
                    return Err(Error::new("kept lines are not strictly ascending"));
                }
                for line in lines {
                    answer.outcome(line)?.keep();
                }
            }
            raw::Verdict::Rewrite(rewrite) => answer.rewrite(&batch, &rewrite)?,
            raw::Verdict::Encoded(encoded) => answer.encoded(&encoded)?,
        }
        Ok(answer)
    }

    fn rewrite(&mut self, batch: &Batch, rewrite: &raw::Rewrite) -> Result<()> {
        if !rewrite.lines.is_sorted_by_key(|line| line.line) {
            return Err(Error::new("rewritten lines are not in order"));
        }
        for line in &rewrite.lines {
            if line.flags & !3 != 0 {
                return Err(Error::new(format!("unknown flags {:#b}", line.flags)));
            }
            let holder = match line.flags & 1 {
                1 => &batch.raw.bytes,
                _ => &rewrite.bytes,
            };
            let body = span(holder, line.body_offset, line.body_length)?.to_vec();
            let json = line.flags & 2 != 0;
            if json {
                serde_json::from_slice::<serde_json::Map<_, _>>(&body)
                    .map_err(|error| Error::from(error).context("the body is no JSON object"))?;
            }
            let fields = span(&rewrite.bytes, line.fields_offset, line.fields_length)?;
            let fields = serde_json::from_slice(&[b"{", fields, b"}"].concat())
                .map_err(|error| Error::from(error).context("the fields are no JSON members"))?;
            let record = Record {
                time: line.time,
                body,
                json,
                fields,
                route: route(&rewrite.routes, line.route)?,
            };
            self.outcome(line.line)?.records.push(record);
        }
        Ok(())
    }

    fn encoded(&mut self, encoded: &raw::Encoded) -> Result<()> {
        let mut lines = encoded.lines.iter().map(|&line| line as usize);
        for payload in &encoded.payloads {
            let taken: Vec<usize> = lines.by_ref().take(payload.line_count as usize).collect();
            if taken.len() < payload.line_count as usize
                || taken.iter().any(|&line| line >= self.outcomes.len())
            {
                return Err(Error::new("a payload takes lines that do not exist"));
            }
            self.payloads.push(SentPayload {
                bytes: span(&encoded.bytes, payload.offset, payload.length)?.to_vec(),
                lines: taken,
                route: route(&encoded.routes, payload.route)?,
            });
        }
        match lines.next() {
            None => Ok(()),
            Some(line) => Err(Error::new(format!("line {line} is in no payload"))),
        }
    }

    fn outcome(&mut self, line: u32) -> Result<&mut Outcome> {
        let lines = self.outcomes.len();
        self.outcomes.get_mut(line as usize).ok_or_else(|| {
            Error::new(format!(
                "line {line} is answered in a batch of {lines} lines"
            ))
        })
    }

    /// What became of line `index`.
    ///
    /// ```
    #[doc = include_str!("../logs/example.txt")]
    /// # plugin!(|batch, out| out.keep_all(batch));
    /// let answer = Harness::<MyPlugin>::new("{}")?.process(lines(["a"]))?;
    /// assert!(answer.line(0).is_kept());
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    ///
    /// # Panics
    /// If the batch has no such line.
    pub fn line(&self, index: usize) -> &Outcome {
        &self.outcomes[index]
    }

    /// What became of each line, in order.
    ///
    /// ```
    #[doc = include_str!("../logs/example.txt")]
    /// # plugin!(|batch, out| out.keep_all(batch));
    /// let answer = Harness::<MyPlugin>::new("{}")?.process(lines(["a", "b"]))?;
    /// assert!(answer.lines().iter().all(|line| !line.is_dropped()));
    /// # assert_eq!(answer.lines().len(), 2);
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn lines(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// Indices of the lines that go on, changed or not.
    ///
    /// ```
    #[doc = include_str!("../logs/example.txt")]
    /// # plugin!(|batch, out| out.keep_if(batch, |line| line.text() != Some("noise")));
    /// let answer = Harness::<MyPlugin>::new("{}")?.process(lines(["noise", "a", "noise", "b"]))?;
    /// assert_eq!(answer.kept(), [1, 3]);
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn kept(&self) -> Vec<usize> {
        (0..self.outcomes.len())
            .filter(|&index| !self.outcomes[index].is_dropped())
            .collect()
    }

    /// The payloads, if the plugin answered with such.
    ///
    /// ```
    #[doc = include_str!("../logs/example.txt")]
    /// # plugin!(|batch, out| out.keep_all(batch));
    /// let answer = Harness::<MyPlugin>::new("{}")?.process(lines(["a"]))?;
    /// assert!(answer.payloads().is_empty());
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn payloads(&self) -> &[SentPayload] {
        &self.payloads
    }

    /// Which kind of answer it was: `keep-all`, `keep`, `rewrite` or `encoded`, from cheap to dear.
    ///
    /// ```
    #[doc = include_str!("../logs/example.txt")]
    /// # plugin!(|batch, out| out.keep_all(batch));
    /// let answer = Harness::<MyPlugin>::new("{}")?.process(lines(["a"]))?;
    /// assert_eq!(answer.verdict(), "keep-all");
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn verdict(&self) -> &'static str {
        self.verdict
    }
}

impl Outcome {
    fn keep(&mut self) {
        let (body, time) = self.original.clone();
        self.records.push(Record {
            time,
            body,
            json: false,
            fields: serde_json::json!({}),
            route: None,
        });
    }

    /// Whether the line was filtered out.
    ///
    /// ```
    #[doc = include_str!("../logs/example.txt")]
    /// # plugin!(|batch, out| out.keep_if(batch, |line| line.text() != Some("noise")));
    /// let answer = Harness::<MyPlugin>::new("{}")?.process(lines(["noise", "a"]))?;
    /// assert!(answer.line(0).is_dropped());
    /// # assert!(!answer.line(1).is_dropped());
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn is_dropped(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether the line goes on exactly as it came.
    ///
    /// ```
    #[doc = include_str!("../logs/example.txt")]
    /// # plugin!(|batch, out| for line in batch { match line.text() {
    /// #     Some("noise") => _ = out.edit(line).field("noise", true),
    /// #     _ => out.keep(line),
    /// # } });
    /// let answer = Harness::<MyPlugin>::new("{}")?.process(lines(["a", "noise"]))?;
    /// assert!(answer.line(0).is_kept());
    /// # assert!(!answer.line(1).is_kept());
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn is_kept(&self) -> bool {
        let mut as_it_came = Outcome {
            records: Vec::new(),
            original: self.original.clone(),
        };
        as_it_came.keep();
        self.records == as_it_came.records
    }

    /// The one record that goes on in the line's place.
    ///
    /// ```
    #[doc = include_str!("../logs/example.txt")]
    /// # plugin!(|batch, out| for line in batch { out.edit(line).route(&["archive"]); });
    /// let answer = Harness::<MyPlugin>::new("{}")?.process(lines(["a"]))?;
    /// assert_eq!(answer.line(0).record().route, Some(vec!["archive".to_owned()]));
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    ///
    /// # Panics
    /// If there is none, or more than one.
    pub fn record(&self) -> &Record {
        let (original, records) = (String::from_utf8_lossy(&self.original.0), &self.records);
        assert!(
            records.len() == 1,
            "{original:?} became {records:?}, not one record"
        );
        &records[0]
    }

    /// The body of [`Self::record`] as text, lossily.
    ///
    /// ```
    #[doc = include_str!("../logs/example.txt")]
    /// # plugin!(|batch, out| for line in batch { out.rewrite(line, line.bytes().trim_ascii()); });
    /// let answer = Harness::<MyPlugin>::new("{}")?.process(lines([" hello "]))?;
    /// assert_eq!(answer.line(0).body_text(), "hello");
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    ///
    /// # Panics
    /// As [`Self::record`].
    pub fn body_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.record().body)
    }

    /// The fields that were added to [`Self::record`], as an object.
    ///
    /// ```
    #[doc = include_str!("../logs/example.txt")]
    /// # plugin!(|batch, out| for line in batch { out.edit(line).field("zone", "b"); });
    /// let answer = Harness::<MyPlugin>::new("{}")?.process(lines(["a"]))?;
    /// assert_eq!(answer.line(0).fields()["zone"], "b");
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    ///
    /// # Panics
    /// As [`Self::record`].
    pub fn fields(&self) -> &serde_json::Value {
        &self.record().fields
    }
}

fn span(bytes: &[u8], offset: u32, length: u32) -> Result<&[u8]> {
    bytes
        .get(offset as usize..)
        .and_then(|rest| rest.get(..length as usize))
        .ok_or_else(|| {
            Error::new(format!(
                "the span {offset}+{length} passes the end of {} bytes",
                bytes.len()
            ))
        })
}

fn route(routes: &[Vec<String>], index: u32) -> Result<Option<Vec<String>>> {
    match routes.get(index as usize) {
        _ if index == u32::MAX => Ok(None),
        Some(route) => Ok(Some(route.clone())),
        None => Err(Error::new(format!("route {index} does not exist"))),
    }
}
