//! Tape drives, of `/sys/class/scsi_tape`: <https://docs.kernel.org/scsi/st.html>.

use bulkhead_sdk::{Collector, Families, Result, View};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Collect;
use crate::filter::Pattern;
use crate::sysfs::{Folder, folders, require_class, require_told};

const CLASS: &str = "/sys/class/scsi_tape";

/// The collector `tapestats`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Whether it is on; if absent, as all are.
    pub enabled: Option<bool>,
    /// Regular expression of devices to leave out.
    pub ignored_devices: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: None,
            ignored_devices: "^$".to_owned(),
        }
    }
}

pub(crate) struct Tapestats {
    ignored: Pattern,
}

impl Tapestats {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let field = "collectors.tapestats.ignoredDevices";
        Ok(Self {
            ignored: Pattern::new(&options.ignored_devices, field)?,
        })
    }
}

impl Collect for Tapestats {
    fn wants(&self) -> Collector {
        // `st0a`, `st0l` and `st0m` are the same drive in other modes.
        Collector::new("tapestats")
            .names(CLASS)
            .content("/sys/class/scsi_tape/st*[0-9]/stats/*")
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        require_class(view, CLASS)?;
        let is_drive = |folder: &Folder| {
            folder
                .name
                .strip_prefix("st")
                .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let drives: Vec<_> = folders(view, "/sys/class/scsi_tape/")
            .into_iter()
            .filter(|folder| is_drive(folder) && !self.ignored.is_match(folder.name))
            .collect();
        let told = drives.iter().map(|drive| tell(drive, out)).sum();
        require_told(&drives, told)
    }
}

#[derive(Clone, Copy)]
enum Unit {
    Now,
    Count,
    Nanoseconds,
}

/// Files, the metrics' names and help texts.
const STATS: &[(&str, Unit, &str, &str)] = &[
    (
        "in_flight",
        Unit::Now,
        "node_tape_io_now",
        "The number of I/Os currently outstanding to this device.",
    ),
    (
        "io_ns",
        Unit::Nanoseconds,
        "node_tape_io_time_seconds_total",
        "The amount of time spent waiting for all I/O to complete (including read and write). This \
         includes tape movement commands such as seeking between file or set marks and implicit tape \
         movement such as when rewind on close tape devices are used.",
    ),
    (
        "other_cnt",
        Unit::Count,
        "node_tape_io_others_total",
        "The number of I/Os issued to the tape drive other than read or write commands. The time taken \
         to complete these commands uses the following calculation \
         io_time_seconds_total-read_time_seconds_total-write_time_seconds_total",
    ),
    (
        "read_byte_cnt",
        Unit::Count,
        "node_tape_read_bytes_total",
        "The number of bytes read from the tape drive.",
    ),
    (
        "read_cnt",
        Unit::Count,
        "node_tape_reads_completed_total",
        "The number of read requests issued to the tape drive.",
    ),
    (
        "read_ns",
        Unit::Nanoseconds,
        "node_tape_read_time_seconds_total",
        "The amount of time spent waiting for read requests to complete.",
    ),
    (
        "resid_cnt",
        Unit::Count,
        "node_tape_residual_total",
        "The number of times during a read or write we found the residual amount to be non-zero. This \
         should mean that a program is issuing a read larger thean the block size on tape. For write \
         not all data made it to tape.",
    ),
    (
        "write_byte_cnt",
        Unit::Count,
        "node_tape_written_bytes_total",
        "The number of bytes written to the tape drive.",
    ),
    (
        "write_cnt",
        Unit::Count,
        "node_tape_writes_completed_total",
        "The number of write requests issued to the tape drive.",
    ),
    (
        "write_ns",
        Unit::Nanoseconds,
        "node_tape_write_time_seconds_total",
        "The amount of time spent waiting for write requests to complete.",
    ),
];

fn tell(drive: &Folder, out: &mut Families) -> usize {
    let stats = drive.folder("stats");
    let mut told = 0;
    for (file, unit, name, help) in STATS {
        let Some(value) = stats.integer(file).filter(|value| *value >= 0) else {
            continue;
        };
        let (family, value) = match unit {
            Unit::Now => (out.gauge(name, help), value as f64),
            Unit::Count => (out.counter(name, help), value as f64),
            Unit::Nanoseconds => (out.counter(name, help), value as f64 * 1e-9),
        };
        out.add(family, &[("device", drive.name)], value);
        told += 1;
    }
    told
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const TREE: &[(&str, &str)] = &[
        ("/sys/class/scsi_tape", ""),
        ("/sys/class/scsi_tape/nst0/stats/read_cnt", "1\n"),
        ("/sys/class/scsi_tape/st0/stats/in_flight", "1\n"),
        ("/sys/class/scsi_tape/st0/stats/io_ns", "9247011087720\n"),
        ("/sys/class/scsi_tape/st0/stats/other_cnt", "1409\n"),
        (
            "/sys/class/scsi_tape/st0/stats/read_byte_cnt",
            "979383912\n",
        ),
        ("/sys/class/scsi_tape/st0/stats/read_cnt", "3741\n"),
        ("/sys/class/scsi_tape/st0/stats/read_ns", "33788355744\n"),
        ("/sys/class/scsi_tape/st0/stats/resid_cnt", "19\n"),
        (
            "/sys/class/scsi_tape/st0/stats/write_byte_cnt",
            "1496246784000\n",
        ),
        ("/sys/class/scsi_tape/st0/stats/write_cnt", "53772916\n"),
        ("/sys/class/scsi_tape/st0/stats/write_ns", "5233597394395\n"),
        ("/sys/class/scsi_tape/st0a/stats/read_cnt", "1\n"),
        ("/sys/class/scsi_tape/st12/stats/read_cnt", "7\n"),
    ];

    fn collect(config: &str, files: &Files) -> bulkhead_sdk::Result<Vec<String>> {
        let mut plugin = Harness::<NodeMetrics>::new(config)?;
        Ok(plugin.collect("tapestats", files)?.lines())
    }

    fn tree() -> Files {
        let add = |files: Files, (path, text): &(&str, &str)| files.file(path, text);
        TREE.iter().fold(Files::new(), add)
    }

    #[test]
    fn tells_of_each_drive() {
        assert_eq!(
            collect("{}", &tree()).unwrap(),
            [
                r#"node_tape_io_now{device="st0"} 1"#,
                r#"node_tape_io_others_total{device="st0"} 1409"#,
                r#"node_tape_io_time_seconds_total{device="st0"} 9247.01108772"#,
                r#"node_tape_read_bytes_total{device="st0"} 979383912"#,
                r#"node_tape_read_time_seconds_total{device="st0"} 33.788355744"#,
                r#"node_tape_reads_completed_total{device="st0"} 3741"#,
                r#"node_tape_reads_completed_total{device="st12"} 7"#,
                r#"node_tape_residual_total{device="st0"} 19"#,
                r#"node_tape_write_time_seconds_total{device="st0"} 5233.597394395"#,
                r#"node_tape_writes_completed_total{device="st0"} 53772916"#,
                r#"node_tape_written_bytes_total{device="st0"} 1496246784000"#,
            ]
        );
    }

    #[test]
    fn drives_may_be_ignored() {
        let config = r#"{"collectors":{"tapestats":{"ignoredDevices":"^st0$"}}}"#;
        assert_eq!(collect(config, &tree()).unwrap().len(), 1);
    }

    #[test]
    fn without_the_class_is_an_error_and_a_drive_that_cannot_be_read_too() {
        assert!(collect("{}", &Files::new()).is_err());
        let class = Files::new().file("/sys/class/scsi_tape", "");
        assert!(collect("{}", &class).unwrap().is_empty());
        let broken = class.unreadable("/sys/class/scsi_tape/st0/stats/read_cnt", 5);
        assert!(collect("{}", &broken).is_err());
    }

    #[test]
    fn survives_nonsense() {
        survives("tapestats", "{}", TREE);
    }
}
