//! What a collector is called, and what it wants to see.

use crate::bindings::metrics::exports::bulkhead::plugin::metrics as raw;

/// What of a file is passed.
///
/// ```
/// assert_ne!(bulkhead_sdk::metrics::Look::Content, bulkhead_sdk::metrics::Look::Name);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Its bytes, at most 4 MiB.
    Content,
    /// Only that it is there.
    Name,
    /// Where a symbolic link leads to, as an absolute path without links.
    Target,
}

/// A part of a plugin, with the files that it wants.
///
/// Files are named by globs: absolute paths of the node whose components may hold `*`, `?` and
/// `[...]`; a component `**` stands for any number of folders. `/proc/net`, `/proc/mounts` and
/// `/proc/self` are those of the node's process 1. The manifest must grant them (`nodeFiles`), and some
/// are nobody's: other processes' memory and environment, keys, the kernel's memory.
///
/// ```
/// use bulkhead_sdk::Collector;
///
/// let collector = Collector::new("thermal_zone")
///     .content("/sys/class/thermal/thermal_zone*/temp")
///     .content("/sys/class/thermal/thermal_zone*/type");
/// assert_eq!(collector.name(), "thermal_zone");
/// ```
#[derive(Debug, Clone)]
pub struct Collector {
    raw: raw::Collector,
}

impl Collector {
    /// A collector that wants nothing yet. Its name is of letters, digits and underscores.
    ///
    /// ```
    /// assert_eq!(bulkhead_sdk::Collector::new("time").name(), "time");
    /// ```
    pub fn new(name: &str) -> Self {
        let name = name.to_owned();
        let wants = Vec::new();
        Self {
            raw: raw::Collector { name, wants },
        }
    }

    /// Wants the content of these files.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # found!(Files::new().file("/proc/stat", ""),
    /// Collector::new("stat").content("/proc/stat")
    /// # , |view, _| assert!(view.get("/proc/stat").is_some()));
    /// ```
    #[must_use]
    pub fn content(self, glob: &str) -> Self {
        self.want(Look::Content, glob)
    }

    /// Wants to know which of these files or folders there are.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # found!(Files::new().file("/var/log/containers/a.log", ""),
    /// Collector::new("pods").names("/var/log/containers/*.log")
    /// # , |view, _| assert_eq!(view.files().next().unwrap().name(), "a.log"));
    /// ```
    #[must_use]
    pub fn names(self, glob: &str) -> Self {
        self.want(Look::Name, glob)
    }

    /// Wants to know where these symbolic links lead to.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # found!(Files::new().link("/sys/class/hwmon/hwmon0/device", "/sys/devices/a"),
    /// Collector::new("hwmon").targets("/sys/class/hwmon/hwmon*/device")
    /// # , |view, _| assert_eq!(view.files().next().unwrap().bytes(), b"/sys/devices/a"));
    /// ```
    #[must_use]
    pub fn targets(self, glob: &str) -> Self {
        self.want(Look::Target, glob)
    }

    /// Wants these files.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// # found!(Files::new().file("/etc/os-release", "ID=debian\n"),
    /// Collector::new("os").want(Look::Content, "/etc/os-release")
    /// # , |view, _| assert_eq!(view.text("/etc/os-release").unwrap(), "ID=debian\n"));
    /// ```
    #[must_use]
    pub fn want(mut self, look: Look, glob: &str) -> Self {
        self.raw.wants.push(raw::Want {
            glob: glob.to_owned(),
            look: match look {
                Look::Content => raw::Look::Content,
                Look::Name => raw::Look::Name,
                Look::Target => raw::Look::Target,
            },
        });
        self
    }

    /// Its name.
    ///
    /// ```
    /// assert_eq!(bulkhead_sdk::Collector::new("cpu").name(), "cpu");
    /// ```
    pub fn name(&self) -> &str {
        &self.raw.name
    }

    #[doc(hidden)]
    pub fn into_raw(self) -> raw::Collector {
        self.raw
    }
}
