//! Block devices: `/proc/diskstats`, and what udev found out about them.
//!
//! <https://docs.kernel.org/admin-guide/iostats.html>

mod udev;

use std::collections::BTreeSet;

use bulkhead_sdk::metrics::Kind;
use bulkhead_sdk::{Collector, Families, Result, View};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Collect;
use crate::filter::Filter;
use crate::sysfs::whole_at;
use crate::text::require;
use udev::Properties;

const PATH: &str = "/proc/diskstats";
const UDEV: &str = "/run/udev/data/b*:*";

/// The size of what the kernel counts as a sector, whatever the device's is.
const SECTOR: f64 = 512.0;
const MILLISECOND: f64 = 1.0 / 1000.0;

/// In the order of the fields after the device's name, with their unit.
const FIELDS: [(Kind, f64, &str, &str); 17] = [
    (
        Kind::Counter,
        1.0,
        "node_disk_reads_completed_total",
        "The total number of reads completed successfully.",
    ),
    (
        Kind::Counter,
        1.0,
        "node_disk_reads_merged_total",
        "The total number of reads merged.",
    ),
    (
        Kind::Counter,
        SECTOR,
        "node_disk_read_bytes_total",
        "The total number of bytes read successfully.",
    ),
    (
        Kind::Counter,
        MILLISECOND,
        "node_disk_read_time_seconds_total",
        "The total number of seconds spent by all reads.",
    ),
    (
        Kind::Counter,
        1.0,
        "node_disk_writes_completed_total",
        "The total number of writes completed successfully.",
    ),
    (
        Kind::Counter,
        1.0,
        "node_disk_writes_merged_total",
        "The number of writes merged.",
    ),
    (
        Kind::Counter,
        SECTOR,
        "node_disk_written_bytes_total",
        "The total number of bytes written successfully.",
    ),
    (
        Kind::Counter,
        MILLISECOND,
        "node_disk_write_time_seconds_total",
        "This is the total number of seconds spent by all writes.",
    ),
    (
        Kind::Gauge,
        1.0,
        "node_disk_io_now",
        "The number of I/Os currently in progress.",
    ),
    (
        Kind::Counter,
        MILLISECOND,
        "node_disk_io_time_seconds_total",
        "Total seconds spent doing I/Os.",
    ),
    (
        Kind::Counter,
        MILLISECOND,
        "node_disk_io_time_weighted_seconds_total",
        "The weighted # of seconds spent doing I/Os.",
    ),
    (
        Kind::Counter,
        1.0,
        "node_disk_discards_completed_total",
        "The total number of discards completed successfully.",
    ),
    (
        Kind::Counter,
        1.0,
        "node_disk_discards_merged_total",
        "The total number of discards merged.",
    ),
    (
        Kind::Counter,
        1.0,
        "node_disk_discarded_sectors_total",
        "The total number of sectors discarded successfully.",
    ),
    (
        Kind::Counter,
        MILLISECOND,
        "node_disk_discard_time_seconds_total",
        "This is the total number of seconds spent by all discards.",
    ),
    (
        Kind::Counter,
        1.0,
        "node_disk_flush_requests_total",
        "The total number of flush requests completed successfully",
    ),
    (
        Kind::Counter,
        MILLISECOND,
        "node_disk_flush_requests_time_seconds_total",
        "This is the total number of seconds spent by all flush requests.",
    ),
];

/// A line with fewer is not of a whole device (before Linux 2.6.25, of a partition).
const FEWEST: usize = 11;

/// The collector `diskstats`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Whether it is on; if absent, as all are.
    pub enabled: Option<bool>,
    /// Regular expression of the devices to tell of, unless they are excluded. Empty: all.
    pub device_include: String,
    /// Regular expression of the devices not to tell of. Empty: none.
    pub device_exclude: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: None,
            device_include: String::new(),
            device_exclude: r"^(ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$".to_owned(),
        }
    }
}

pub(crate) struct Diskstats {
    devices: Filter,
}

impl Diskstats {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let (include, exclude) = (&options.device_include, &options.device_exclude);
        Ok(Self {
            devices: Filter::new(include, exclude, "collectors.diskstats.device")?,
        })
    }
}

impl Collect for Diskstats {
    fn wants(&self) -> Collector {
        Collector::new("diskstats").content(PATH).content(UDEV)
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let text = whole_at(view, PATH)?;
        let mut known = BTreeSet::new();
        for disk in text.lines().filter_map(Disk::parse) {
            if known.insert(disk.name) && self.devices.accepts(disk.name) {
                disk.tell(&Properties::find(view, disk.major, disk.minor), out);
            }
        }
        require(!known.is_empty() || text.trim().is_empty(), PATH)
    }
}

struct Disk<'a> {
    major: u32,
    minor: u32,
    name: &'a str,
    fields: [Option<f64>; FIELDS.len()],
}

impl<'a> Disk<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (major, minor) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let name = words.next()?;
        let mut next = |_| Some(words.next()?.parse::<u64>().ok()? as f64);
        let fields = std::array::from_fn(&mut next);
        let is_whole = fields.iter().take(FEWEST).all(Option::is_some);
        is_whole.then_some(Self {
            major,
            minor,
            name,
            fields,
        })
    }

    fn tell(&self, properties: &Properties, out: &mut Families) {
        let device = ("device", self.name);
        let family = out.gauge("node_disk_info", "Info of /sys/block/<block_device>.");
        let labels = [
            device,
            ("major", &self.major.to_string()),
            ("minor", &self.minor.to_string()),
            ("path", properties.get("ID_PATH")),
            ("wwn", properties.get("ID_WWN")),
            ("model", properties.get("ID_MODEL")),
            ("serial", properties.get("ID_SERIAL_SHORT")),
            ("revision", properties.get("ID_REVISION")),
        ];
        out.add(family, &labels, 1.0);
        for ((kind, unit, name, help), value) in FIELDS.iter().zip(self.fields) {
            if let Some(value) = value {
                let family = out.family(*kind, name, help);
                out.add(family, &[device], value * unit);
            }
        }
        properties.tell(device, out);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
