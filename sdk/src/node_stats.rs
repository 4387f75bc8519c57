//! What the kernel tells only by system calls: sizes of file systems, its clock, its name. Using them
//! makes the component import them, and the manifest must then grant `nodeStats`.

use crate::host;

/// Sizes of a file system (statvfs(3)).
///
/// ```
/// assert_eq!(bulkhead_sdk::node_stats::Filesystem::default().size, 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filesystem {
    /// The whole, in bytes.
    pub size: u64,
    /// What is free, in bytes.
    pub free: u64,
    /// What is free for others than root, in bytes.
    pub available: u64,
    /// Inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

/// The kernel's clock (adjtimex(2)), in the kernel's own units.
///
/// ```
/// assert_eq!(bulkhead_sdk::node_stats::Clock::default().tai, 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the fields of adjtimex(2), under its names")]
pub struct Clock {
    /// What adjtimex returned: 5 (`TIME_ERROR`) if the clock is not synchronised.
    pub state: i32,
    /// The status bits; with bit 13 (`STA_NANO`), `offset`, `jitter` and pulses are in nanoseconds.
    pub status: i32,
    pub offset: i64,
    pub frequency: i64,
    pub max_error: i64,
    pub estimated_error: i64,
    pub constant: i64,
    pub tick: i64,
    pub pps_frequency: i64,
    pub jitter: i64,
    pub shift: i32,
    pub stability: i64,
    pub jitter_count: i64,
    pub calibration_count: i64,
    pub error_count: i64,
    pub stability_count: i64,
    pub tai: i32,
}

/// The system's name (uname(2)).
///
/// ```
/// assert!(bulkhead_sdk::node_stats::SystemName::default().machine.is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the fields of uname(2), under its names")]
pub struct SystemName {
    pub sysname: String,
    pub nodename: String,
    pub release: String,
    pub version: String,
    pub machine: String,
    pub domainname: String,
}

/// The sizes of the file systems at these mount points of the node, in their order; at most 4,096.
/// What is no mount point, or does not answer within two seconds, is an error with its reason.
///
/// ```
/// # use bulkhead_sdk::{node_stats, testing};
/// # let root = node_stats::Filesystem { size: 1024, ..Default::default() };
/// # testing::set_filesystems(&[("/", root)]);
/// let sizes = node_stats::filesystems(&["/", "/nowhere"]);
/// assert_eq!(sizes[0].as_ref().map(|sizes| sizes.size), Ok(1024));
/// assert!(sizes[1].is_err());
/// ```
pub fn filesystems(mount_points: &[&str]) -> Vec<Result<Filesystem, String>> {
    host::filesystems(mount_points)
}

/// The kernel's clock.
///
/// ```
/// # use bulkhead_sdk::{node_stats, testing};
/// # testing::set_clock(node_stats::Clock { tai: 37, ..Default::default() });
/// assert_eq!(node_stats::clock()?.tai, 37);
/// # Ok::<(), String>(())
/// ```
pub fn clock() -> Result<Clock, String> {
    host::clock()
}

/// The system's name.
///
/// ```
/// # use bulkhead_sdk::{node_stats, testing};
/// # testing::set_system_name(node_stats::SystemName { sysname: "Linux".into(), ..Default::default() });
/// assert_eq!(node_stats::system_name().sysname, "Linux");
/// ```
pub fn system_name() -> SystemName {
    host::system_name()
}

/// The node's time zone: its abbreviation now, and seconds east of Greenwich.
///
/// ```
/// # bulkhead_sdk::testing::set_time_zone("CET", 3600);
/// assert_eq!(bulkhead_sdk::node_stats::time_zone(), ("CET".to_owned(), 3600));
/// ```
pub fn time_zone() -> (String, i32) {
    host::time_zone()
}
