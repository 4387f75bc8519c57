//! Batches out of nothing.

use crate::bindings::logs::exports::bulkhead::plugin::logs as raw;
use crate::logs::Batch;

/// A batch of lines of one plain file, `/test.log`.
///
/// ```
/// let batch = bulkhead_sdk::testing::lines(["first", "second"]);
/// assert_eq!(batch.len(), 2);
/// ```
pub fn lines<T: AsRef<[u8]>>(lines: impl IntoIterator<Item = T>) -> Batch {
    lines
        .into_iter()
        .fold(BatchBuilder::new(), |builder, line| builder.line(line))
        .build()
}

/// Builds a batch line by line.
///
/// ```
/// let batch = bulkhead_sdk::testing::BatchBuilder::new()
///     .source("/var/log/pods/a.log", &[("k8s.pod.name", "web-0")])
///     .at(1_700_000_000_000_000_000)
///     .line("to stdout")
///     .stderr("to stderr")
///     .build();
/// assert!(batch.get(1).unwrap().is_stderr());
/// ```
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    raw: raw::Batch,
    time: i64,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// An empty batch; lines come from the plain file `/test.log` until [`Self::source`] is called.
    ///
    /// ```
    /// assert!(bulkhead_sdk::testing::BatchBuilder::new().build().is_empty());
    /// ```
    pub fn new() -> Self {
        let raw = raw::Batch {
            sources: Vec::new(),
            bytes: Vec::new(),
            lines: Vec::new(),
        };
        Self { raw, time: 0 }
    }

    /// The lines that follow come from this file.
    ///
    /// ```
    /// # use bulkhead_sdk::testing::BatchBuilder;
    /// let batch = BatchBuilder::new().source("/var/log/syslog", &[]).line("a").build();
    /// assert_eq!(batch.get(0).unwrap().source().path(), "/var/log/syslog");
    /// ```
    #[must_use]
    pub fn source(mut self, path: &str, attributes: &[(&str, &str)]) -> Self {
        self.raw.sources.push(raw::Source {
            path: path.to_owned(),
            attributes: attributes
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        });
        self
    }

    /// The lines that follow were written at this time, in nanoseconds since 1970.
    ///
    /// ```
    /// # use bulkhead_sdk::testing::BatchBuilder;
    /// assert_eq!(BatchBuilder::new().at(7).line("a").build().get(0).unwrap().time(), 7);
    /// ```
    #[must_use]
    pub fn at(mut self, nanoseconds: i64) -> Self {
        self.time = nanoseconds;
        self
    }

    /// Adds a line.
    ///
    /// ```
    /// # use bulkhead_sdk::testing::BatchBuilder;
    /// assert_eq!(BatchBuilder::new().line("a").line("b").build().len(), 2);
    /// ```
    #[must_use]
    pub fn line(self, line: impl AsRef<[u8]>) -> Self {
        self.add(line.as_ref(), 0)
    }

    /// Adds a line that was written to standard error.
    ///
    /// ```
    /// # use bulkhead_sdk::testing::BatchBuilder;
    /// assert!(BatchBuilder::new().stderr("a").build().get(0).unwrap().is_stderr());
    /// ```
    #[must_use]
    pub fn stderr(self, line: impl AsRef<[u8]>) -> Self {
        self.add(line.as_ref(), 1)
    }

    /// Adds a line that the host cut.
    ///
    /// ```
    /// # use bulkhead_sdk::testing::BatchBuilder;
    /// assert!(BatchBuilder::new().cut("a").build().get(0).unwrap().is_cut());
    /// ```
    #[must_use]
    pub fn cut(self, line: impl AsRef<[u8]>) -> Self {
        self.add(line.as_ref(), 1 << 1)
    }

    /// Adds a line whose line feed is missing.
    ///
    /// ```
    /// # use bulkhead_sdk::testing::BatchBuilder;
    /// assert!(BatchBuilder::new().unfinished("a").build().get(0).unwrap().is_unfinished());
    /// ```
    #[must_use]
    pub fn unfinished(self, line: impl AsRef<[u8]>) -> Self {
        self.add(line.as_ref(), 1 << 2)
    }

    fn add(mut self, line: &[u8], flags: u32) -> Self {
        if self.raw.sources.is_empty() {
            self = self.source("/test.log", &[]);
        }
        self.raw.lines.push(raw::Line {
            time: self.time,
            offset: self.raw.bytes.len() as u32,
            length: line.len() as u32,
            source: self.raw.sources.len() as u32 - 1,
            flags,
        });
        self.raw.bytes.extend_from_slice(line);
        self
    }

    /// The batch.
    ///
    /// ```
    /// assert!(bulkhead_sdk::testing::BatchBuilder::new().build().is_empty());
    /// ```
    pub fn build(self) -> Batch {
        Batch::from_raw(self.raw)
    }
}
