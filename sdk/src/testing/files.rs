//! A node's files out of nothing.

use std::collections::BTreeMap;

use globset::GlobBuilder;

use crate::bindings::metrics::exports::bulkhead::plugin::metrics as raw;
use crate::error::{Context, Result};
use crate::metrics::Outcome;

/// The files that a collector may find.
///
/// ```
#[doc = include_str!("../metrics/example.txt")]
/// let files = bulkhead_sdk::testing::Files::new()
///     .file("/sys/class/net/eth0/mtu", "1500\n")
///     .link("/sys/class/net/eth0/device", "/sys/devices/pci0000:00/0000:00:03.0")
///     .unreadable("/sys/class/net/eth0/speed", 22);
/// # found!(files, |view, _| assert_eq!((view.want(0).count(), view.want(1).count()), (2, 1)));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Files(BTreeMap<String, Kind>);

#[derive(Debug, Clone)]
enum Kind {
    Content(Vec<u8>),
    Link(String),
    Unreadable(u32),
}

impl Files {
    /// No file.
    ///
    /// ```
    #[doc = include_str!("../metrics/example.txt")]
    /// # found!(
    /// bulkhead_sdk::testing::Files::new()
    /// # , |view, _| assert_eq!(view.files().count(), 0));
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file.
    ///
    /// ```
    #[doc = include_str!("../metrics/example.txt")]
    /// # found!(
    /// bulkhead_sdk::testing::Files::new().file("/proc/loadavg", "0.25 0.5 1 1/100 42\n")
    /// # , |view, _| assert!(view.text("/proc/loadavg").unwrap().starts_with("0.25")));
    /// ```
    #[must_use]
    pub fn file(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let content = Kind::Content(content.as_ref().to_vec());
        self.0.insert(path.to_owned(), content);
        self
    }

    /// Adds a symbolic link, with the path that it leads to in the end.
    ///
    /// ```
    #[doc = include_str!("../metrics/example.txt")]
    /// # found!(
    /// bulkhead_sdk::testing::Files::new().link("/sys/class/net/eth0", "/sys/devices/virtual/net/eth0")
    /// # , |view, _| assert_eq!(view.want(1).next().unwrap().bytes(), b"/sys/devices/virtual/net/eth0"));
    /// ```
    #[must_use]
    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.0.insert(path.to_owned(), Kind::Link(target.into()));
        self
    }

    /// Adds a file that cannot be read, with the number of the error.
    ///
    /// ```
    #[doc = include_str!("../metrics/example.txt")]
    /// # found!(
    /// bulkhead_sdk::testing::Files::new().unreadable("/sys/class/net/lo/speed", 22)
    /// # , |view, _| assert_eq!(view.files().next().unwrap().error(), Some(22)));
    /// ```
    #[must_use]
    pub fn unreadable(mut self, path: &str, errno: u32) -> Self {
        self.0.insert(path.to_owned(), Kind::Unreadable(errno));
        self
    }

    pub(super) fn view(&self, wants: &[raw::Want], outcomes: &[Outcome]) -> Result<raw::View> {
        let mut view = raw::View {
            bytes: Vec::new(),
            files: Vec::new(),
            outcomes: outcomes
                .iter()
                .map(|outcome| raw::Outcome {
                    collector: outcome.collector as u32,
                    ok: outcome.ok,
                    seconds: outcome.seconds,
                })
                .collect(),
        };
        for (index, want) in wants.iter().enumerate() {
            let glob = GlobBuilder::new(&want.glob)
                .literal_separator(true)
                .build()
                .context(format_args!("the glob {}", want.glob))?
                .compile_matcher();
            let found = self.0.iter().filter(|(path, _)| glob.is_match(path));
            for (path, kind) in found {
                let empty: &[u8] = b"";
                let (data, error) = match (want.look, kind) {
                    (raw::Look::Content, Kind::Content(content)) => (content.as_slice(), 0),
                    (raw::Look::Content, Kind::Unreadable(errno)) => (empty, *errno),
                    (raw::Look::Target, Kind::Link(target)) => (target.as_bytes(), 0),
                    (raw::Look::Name, _) => (empty, 0),
                    _ => continue,
                };
                let path_offset = view.bytes.len() as u32;
                view.bytes.extend_from_slice(path.as_bytes());
                let offset = view.bytes.len() as u32;
                view.bytes.extend_from_slice(data);
                view.files.push(raw::File {
                    want: index as u32,
                    path_offset,
                    path_length: path.len() as u32,
                    offset,
                    length: data.len() as u32,
                    error,
                    flags: 0,
                    modified: 0,
                });
            }
        }
        Ok(view)
    }
}
