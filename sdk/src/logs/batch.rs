//! The lines of one call, as views over the packed batch: nothing is copied, nothing allocated.

use crate::bindings::logs::exports::bulkhead::plugin::logs as raw;

/// Lines in order within each source.
///
/// ```
/// # use bulkhead_sdk::{Batch, testing};
/// fn longest(batch: &Batch) -> usize {
///     batch.lines().map(|line| line.bytes().len()).max().unwrap_or(0)
/// }
/// assert_eq!(longest(&testing::lines(["a", "bcd"])), 3);
/// ```
#[derive(Debug, Clone)]
pub struct Batch {
    pub(crate) raw: raw::Batch,
}

impl Batch {
    #[doc(hidden)]
    pub fn from_raw(raw: raw::Batch) -> Self {
        Self { raw }
    }

    /// The lines, in order.
    ///
    /// ```
    /// let batch = bulkhead_sdk::testing::lines(["a", "b"]);
    /// assert!(batch.lines().map(|line| line.bytes()).eq([b"a", b"b"]));
    /// ```
    #[inline]
    pub fn lines(&self) -> Lines<'_> {
        Lines {
            batch: self,
            next: 0,
            end: self.raw.lines.len(),
        }
    }

    /// How many lines there are.
    ///
    /// ```
    /// assert_eq!(bulkhead_sdk::testing::lines(["a", "b"]).len(), 2);
    /// ```
    #[inline]
    pub fn len(&self) -> usize {
        self.raw.lines.len()
    }

    /// Whether there is no line.
    ///
    /// ```
    /// assert!(bulkhead_sdk::testing::lines([""; 0]).is_empty());
    /// ```
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.raw.lines.is_empty()
    }

    /// The line at `index`.
    ///
    /// ```
    /// let batch = bulkhead_sdk::testing::lines(["a", "b"]);
    /// assert_eq!(batch.get(1).map(|line| line.bytes()), Some(b"b".as_slice()));
    /// assert!(batch.get(2).is_none());
    /// ```
    #[inline]
    pub fn get(&self, index: usize) -> Option<Line<'_>> {
        let record = self.raw.lines.get(index)?;
        Some(Line {
            batch: self,
            record,
            index: index as u32,
        })
    }

    /// The sources that [`Line::source_index`] points to: work to be done once for each source and
    /// batch, such as a look-up by namespace, need not be done for each line.
    ///
    /// ```
    /// let batch = bulkhead_sdk::testing::lines(["a"]);
    /// assert_eq!(batch.sources().count(), 1);
    /// ```
    pub fn sources(&self) -> impl ExactSizeIterator<Item = Source<'_>> {
        self.raw.sources.iter().map(|raw| Source { raw })
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = Line<'a>;
    type IntoIter = Lines<'a>;

    #[inline]
    fn into_iter(self) -> Lines<'a> {
        self.lines()
    }
}

/// Iterates over the lines of a [`Batch`].
///
/// ```
/// let batch = bulkhead_sdk::testing::lines(["a", "b"]);
/// assert_eq!(batch.lines().len(), 2);
/// ```
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    batch: &'a Batch,
    next: usize,
    end: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    #[inline]
    fn next(&mut self) -> Option<Line<'a>> {
        if self.next == self.end {
            return None;
        }
        let line = self.batch.get(self.next)?;
        self.next += 1;
        Some(line)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Lines<'_> {}

/// One line: a view that is copied freely.
///
/// ```
/// let batch = bulkhead_sdk::testing::lines(["GET /healthz 200"]);
/// let line = batch.get(0).unwrap();
/// assert!(line.bytes().ends_with(b"200"));
/// ```
#[derive(Clone, Copy)]
pub struct Line<'a> {
    pub(crate) batch: &'a Batch,
    pub(crate) record: &'a raw::Line,
    pub(crate) index: u32,
}

const STDERR: u32 = 1;
const CUT: u32 = 1 << 1;
const UNFINISHED: u32 = 1 << 2;

impl<'a> Line<'a> {
    /// The line without its line feed; not necessarily UTF-8.
    ///
    /// ```
    /// let batch = bulkhead_sdk::testing::lines([b"caf\xe9".as_slice()]);
    /// assert_eq!(batch.get(0).unwrap().bytes(), b"caf\xe9");
    /// ```
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        &self.batch.raw.bytes[self.record.offset as usize..][..self.record.length as usize]
    }

    /// The line as text, if it is UTF-8.
    ///
    /// ```
    /// let batch = bulkhead_sdk::testing::lines(["plain".as_bytes(), b"caf\xe9"]);
    /// assert_eq!(batch.get(0).unwrap().text(), Some("plain"));
    /// assert_eq!(batch.get(1).unwrap().text(), None);
    /// ```
    #[inline]
    pub fn text(self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()).ok()
    }

    /// When it was written, in nanoseconds since 1970-01-01T00:00:00Z; when the host read it if the
    /// file does not say.
    ///
    /// ```
    /// let batch = bulkhead_sdk::testing::BatchBuilder::new().at(1_700_000_000_000_000_000).line("a").build();
    /// assert_eq!(batch.get(0).unwrap().time(), 1_700_000_000_000_000_000);
    /// ```
    #[inline]
    pub fn time(self) -> i64 {
        self.record.time
    }

    /// Its place in the batch, from 0.
    ///
    /// ```
    /// let batch = bulkhead_sdk::testing::lines(["a", "b"]);
    /// assert_eq!(batch.lines().last().unwrap().index(), 1);
    /// ```
    #[inline]
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// Whether it was written to standard error; false if that is not known.
    ///
    /// ```
    /// let batch = bulkhead_sdk::testing::BatchBuilder::new().stderr("oops").build();
    /// assert!(batch.get(0).unwrap().is_stderr());
    /// ```
    #[inline]
    pub fn is_stderr(self) -> bool {
        self.record.flags & STDERR != 0
    }

    /// Whether the host cut it, because it was longer than the limit.
    ///
    /// ```
    /// let batch = bulkhead_sdk::testing::BatchBuilder::new().cut("{\"a\":").build();
    /// assert!(batch.get(0).unwrap().is_cut());
    /// ```
    #[inline]
    pub fn is_cut(self) -> bool {
        self.record.flags & CUT != 0
    }

    /// Whether its line feed is missing: the file ended there, or was rotated away.
    ///
    /// ```
    /// let batch = bulkhead_sdk::testing::BatchBuilder::new().unfinished("half a").build();
    /// assert!(batch.get(0).unwrap().is_unfinished());
    /// ```
    #[inline]
    pub fn is_unfinished(self) -> bool {
        self.record.flags & UNFINISHED != 0
    }

    /// Where it comes from.
    ///
    /// ```
    /// let batch = bulkhead_sdk::testing::BatchBuilder::new()
    ///     .source("/var/log/a.log", &[("k8s.pod.name", "web-0")])
    ///     .line("hello")
    ///     .build();
    /// let source = batch.get(0).unwrap().source();
    /// assert_eq!(source.path(), "/var/log/a.log");
    /// assert_eq!(source.attribute("k8s.pod.name"), Some("web-0"));
    /// ```
    #[inline]
    pub fn source(self) -> Source<'a> {
        Source {
            raw: &self.batch.raw.sources[self.source_index()],
        }
    }

    /// Index of [`Line::source`] in [`Batch::sources`].
    ///
    /// ```
    /// assert_eq!(bulkhead_sdk::testing::lines(["a"]).get(0).unwrap().source_index(), 0);
    /// ```
    #[inline]
    pub fn source_index(self) -> usize {
        self.record.source as usize
    }
}

impl std::fmt::Debug for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line")
            .field("index", &self.index)
            .field("text", &String::from_utf8_lossy(self.bytes()))
            .finish_non_exhaustive()
    }
}

/// Where lines come from.
///
/// ```
/// let batch = bulkhead_sdk::testing::lines(["a", "b"]);
/// for source in batch.sources() {
///     assert_eq!(source.path(), "/test.log");
///     assert_eq!(source.attribute("k8s.namespace.name"), None);
/// }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    raw: &'a raw::Source,
}

impl<'a> Source<'a> {
    /// Absolute path of the file on the node.
    ///
    /// ```
    /// assert_eq!(bulkhead_sdk::testing::lines(["a"]).get(0).unwrap().source().path(), "/test.log");
    /// ```
    pub fn path(self) -> &'a str {
        &self.raw.path
    }

    /// What is known of the source, by the names of the OpenTelemetry semantic conventions
    /// (`k8s.namespace.name`, `k8s.pod.name`, `k8s.pod.uid`, `k8s.container.name`,
    /// `k8s.container.restart_count`). None for a plain file.
    ///
    /// ```
    /// assert_eq!(bulkhead_sdk::testing::lines(["a"]).get(0).unwrap().source().attributes().count(), 0);
    /// ```
    pub fn attributes(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.raw
            .attributes
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// One attribute.
    ///
    /// ```
    /// let batch = bulkhead_sdk::testing::lines(["a"]);
    /// assert_eq!(batch.get(0).unwrap().source().attribute("k8s.pod.name"), None);
    /// ```
    pub fn attribute(self, name: &str) -> Option<&'a str> {
        self.attributes()
            .find_map(|(known, value)| (known == name).then_some(value))
    }
}
