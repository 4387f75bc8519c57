//! The files of one call, as views over the packed batch: nothing is copied.

use crate::bindings::metrics::exports::bulkhead::plugin::metrics as raw;
use crate::error::{Error, Result};

/// What a collector is shown.
///
/// ```
#[doc = include_str!("example.txt")]
/// use bulkhead_sdk::View;
///
/// fn hottest(view: &View) -> Option<f64> {
///     view.files()
///         .filter_map(|file| file.text()?.trim().parse().ok())
///         .max_by(f64::total_cmp)
/// }
/// # let files = Files::new().file("/sys/a/temp", "41000\n").file("/sys/b/temp", "52000\n");
/// # found!(files, |view, _| assert_eq!(hottest(view), Some(52_000.0)));
/// ```
#[derive(Debug)]
pub struct View {
    raw: raw::View,
}

impl View {
    #[doc(hidden)]
    pub fn from_raw(raw: raw::View) -> Self {
        Self { raw }
    }

    /// All files: in the order of the collector's wants, and by path within each.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn paths(view: &View) -> Vec<&str> {
    ///     view.files().map(|file| file.path()).collect()
    /// }
    /// # let files = Files::new().file("/b", "").file("/a", "");
    /// # found!(files, |view, _| assert_eq!(paths(view), ["/a", "/b"]));
    /// ```
    pub fn files(&self) -> impl Iterator<Item = Entry<'_>> {
        self.raw.files.iter().map(|raw| Entry { view: self, raw })
    }

    /// The files for one of the collector's wants, by its index.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn first(view: &View) -> usize {
    ///     view.want(0).count()
    /// }
    /// # let files = Files::new().file("/a", "").file("/b", "").link("/c", "/a");
    /// # found!(files, |view, _| assert_eq!((first(view), view.want(1).count()), (2, 1)));
    /// ```
    pub fn want(&self, index: usize) -> impl Iterator<Item = Entry<'_>> {
        let files = &self.raw.files;
        let from = files.partition_point(|file| (file.want as usize) < index);
        let to = files.partition_point(|file| file.want as usize <= index);
        files
            .get(from..to)
            .unwrap_or_default()
            .iter()
            .map(|raw| Entry { view: self, raw })
    }

    /// The file at `path`, if it is there. Looks at each; for many files iterate instead.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn has_swap(view: &View) -> bool {
    ///     view.get("/proc/swaps").is_some()
    /// }
    /// # found!(Files::new(), |view, _| assert!(!has_swap(view)));
    /// # found!(Files::new().file("/proc/swaps", ""), |view, _| assert!(has_swap(view)));
    /// ```
    pub fn get(&self, path: &str) -> Option<Entry<'_>> {
        self.files().find(|file| file.path() == path)
    }

    /// The text of the file at `path`.
    ///
    /// # Errors
    /// If it is not there, could not be read, was cut, or is not UTF-8.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # use bulkhead_sdk::Result;
    /// fn uptime(view: &View) -> Result<f64> {
    ///     let text = view.text("/proc/uptime")?;
    ///     Ok(text.split(' ').next().unwrap_or_default().parse()?)
    /// }
    /// # let files = Files::new().file("/proc/uptime", "12.5 20.0\n");
    /// # found!(files, |view, _| assert_eq!(uptime(view), Ok(12.5)));
    /// # found!(Files::new(), |view, _| assert!(uptime(view).is_err()));
    /// ```
    pub fn text(&self, path: &str) -> Result<&str> {
        let missing = |what: &str| Error::new(format!("{path}: {what}"));
        let file = self.get(path).ok_or_else(|| missing("not there"))?;
        if let Some(error) = file.error() {
            return Err(missing(&format!("cannot be read (error {error})")));
        }
        if file.is_cut() {
            return Err(missing("longer than what is passed"));
        }
        file.text().ok_or_else(|| missing("not UTF-8"))
    }

    /// How the collectors before this one fared in this collection, in the order of their calls.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn failed(view: &View) -> usize {
    ///     view.outcomes().filter(|outcome| !outcome.ok).count()
    /// }
    /// # plugin!(|view, _| assert_eq!(failed(view), 1));
    /// # let fared = |collector, ok| bulkhead_sdk::metrics::Outcome { collector, ok, seconds: 0.5 };
    /// # let mut plugin = Harness::<MyPlugin>::new("{}")?;
    /// # plugin.collect_after("all", &Files::new(), &[fared(0, true), fared(1, false)])?;
    /// # bulkhead_sdk::Result::<()>::Ok(())
    /// ```
    pub fn outcomes(&self) -> impl Iterator<Item = Outcome> {
        self.raw.outcomes.iter().map(|raw| Outcome {
            collector: raw.collector as usize,
            ok: raw.ok,
            seconds: raw.seconds,
        })
    }

    fn span(&self, offset: u32, length: u32) -> &[u8] {
        let start = offset as usize;
        self.raw
            .bytes
            .get(start..start.saturating_add(length as usize))
            .unwrap_or_default()
    }
}

/// How a collector fared.
///
/// ```
/// let outcome = bulkhead_sdk::metrics::Outcome { collector: 0, ok: true, seconds: 0.001 };
/// assert!(outcome.ok);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Index into what [`Metrics::collectors`](super::Metrics::collectors) returned.
    pub collector: usize,
    /// Whether it was called and succeeded.
    pub ok: bool,
    /// Reading its files and its call together.
    pub seconds: f64,
}

/// One file.
///
/// ```
#[doc = include_str!("example.txt")]
/// fn number(file: Entry) -> Option<u64> {
///     file.text()?.trim().parse().ok()
/// }
/// # let files = Files::new().file("/sys/class/net/eth0/mtu", "1500\n");
/// # found!(files, |view, _| assert_eq!(number(view.files().next().unwrap()), Some(1500)));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    view: &'a View,
    raw: &'a raw::File,
}

impl<'a> Entry<'a> {
    /// Its path, as the want spells it. Empty if it is not UTF-8.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn interface<'a>(file: Entry<'a>) -> Option<&'a str> {
    ///     file.path().strip_prefix("/sys/class/net/")?.split('/').next()
    /// }
    /// # let files = Files::new().file("/sys/class/net/eth0/mtu", "1500\n");
    /// # found!(files, |view, _| assert_eq!(interface(view.files().next().unwrap()), Some("eth0")));
    /// ```
    pub fn path(&self) -> &'a str {
        let span = self.view.span(self.raw.path_offset, self.raw.path_length);
        std::str::from_utf8(span).unwrap_or_default()
    }

    /// The last component of its path.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn is_temperature(file: Entry) -> bool {
    ///     file.name() == "temp"
    /// }
    /// # let files = Files::new().file("/sys/class/thermal/thermal_zone0/temp", "41000\n");
    /// # found!(files, |view, _| assert!(is_temperature(view.files().next().unwrap())));
    /// ```
    pub fn name(&self) -> &'a str {
        self.path().rsplit('/').next().unwrap_or_default()
    }

    /// Its content, or the path that a link leads to. Empty if it could not be read.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn lines(file: Entry) -> usize {
    ///     file.bytes().split(|&byte| byte == b'\n').count()
    /// }
    /// # let files = Files::new().file("/a", "one\ntwo");
    /// # found!(files, |view, _| assert_eq!(lines(view.files().next().unwrap()), 2));
    /// ```
    pub fn bytes(&self) -> &'a [u8] {
        self.view.span(self.raw.offset, self.raw.length)
    }

    /// The same as text, if it is UTF-8 and could be read.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn up(file: Entry) -> bool {
    ///     file.text().is_some_and(|text| text.trim() == "up")
    /// }
    /// # let files = Files::new().file("/sys/class/net/eth0/operstate", "up\n").unreadable("/sys/b", 5);
    /// # found!(files, |view, _| assert_eq!(view.files().filter(|file| up(*file)).count(), 1));
    /// ```
    pub fn text(&self) -> Option<&'a str> {
        match self.error() {
            Some(_) => None,
            None => std::str::from_utf8(self.bytes()).ok(),
        }
    }

    /// The number of the error (`errno`) for which it could not be read.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// const EINVAL: u32 = 22;
    /// fn has_no_speed(file: Entry) -> bool {
    ///     file.error() == Some(EINVAL)
    /// }
    /// # let files = Files::new().unreadable("/sys/class/net/lo/speed", 22);
    /// # found!(files, |view, _| assert!(has_no_speed(view.files().next().unwrap())));
    /// ```
    pub fn error(&self) -> Option<u32> {
        (self.raw.error != 0).then_some(self.raw.error)
    }

    /// Whether the file is longer than what is passed.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn whole(file: Entry) -> bool {
    ///     !file.is_cut()
    /// }
    /// # found!(Files::new().file("/a", ""), |view, _| assert!(whole(view.files().next().unwrap())));
    /// ```
    pub fn is_cut(&self) -> bool {
        self.raw.flags & 1 != 0
    }

    /// When its content was last changed, in nanoseconds since 1970; 0 below `/proc` and `/sys`.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// fn modified_seconds(file: Entry) -> f64 {
    ///     file.modified() as f64 / 1e9
    /// }
    /// # let files = Files::new().file("/proc/stat", "");
    /// # found!(files, |view, _| assert_eq!(modified_seconds(view.files().next().unwrap()), 0.0));
    /// ```
    pub fn modified(&self) -> i64 {
        self.raw.modified
    }
}
