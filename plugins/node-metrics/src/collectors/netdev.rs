//! What network devices sent and received: `/proc/net/dev`.
//!
//! The node exporter asks by netlink; the kernel prints the same numbers here, added up as the node
//! exporter adds them, but for one, of a file of its own.

use std::collections::BTreeSet;

use bulkhead_sdk::{Collector, Families, Result, View};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Collect;
use crate::filter::Filter;
use crate::sysfs::folders;
use crate::text::{lines, require};

const PATH: &str = "/proc/net/dev";
const DEVICES: &str = "/sys/class/net/";

/// In the order of the columns.
const COLUMNS: [&str; 16] = [
    "receive_bytes",
    "receive_packets",
    "receive_errs",
    "receive_drop",
    "receive_fifo",
    "receive_frame",
    "receive_compressed",
    "receive_multicast",
    "transmit_bytes",
    "transmit_packets",
    "transmit_errs",
    "transmit_drop",
    "transmit_fifo",
    "transmit_colls",
    "transmit_carrier",
    "transmit_compressed",
];

/// The collector `netdev`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Whether it is on; if absent, as all are.
    pub enabled: Option<bool>,
    /// Regular expression of the devices to tell of, unless they are excluded. Empty: all.
    pub device_include: String,
    /// Regular expression of the devices not to tell of. Empty: none.
    pub device_exclude: String,
    /// Whether to tell each kind of error on its own, under names of its own. Reads a file for each.
    pub detailed_metrics: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: None,
            device_include: String::new(),
            device_exclude: "^lo$".to_owned(),
            detailed_metrics: false,
        }
    }
}

pub(crate) struct Netdev {
    devices: Filter,
    detailed: bool,
}

impl Netdev {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let (include, exclude) = (&options.device_include, &options.device_exclude);
        Ok(Self {
            devices: Filter::new(include, exclude, "collectors.netdev.device")?,
            detailed: options.detailed_metrics,
        })
    }

    fn tell_columns(&self, view: &View, out: &mut Families) -> Result<()> {
        let mut known = BTreeSet::new();
        for (device, columns) in lines(view, PATH)?.filter_map(|line| line.rsplit_once(':')) {
            let device = device.trim();
            let mut columns = columns.split_ascii_whitespace();
            let columns = COLUMNS.map(|_| columns.next()?.parse::<u64>().ok());
            if columns[0].is_none() || !known.insert(device) || !self.devices.accepts(device) {
                continue;
            }
            for (name, value) in COLUMNS.iter().zip(columns) {
                if let Some(value) = value {
                    tell(name, device, value, out);
                }
            }
        }
        require(!known.is_empty(), PATH)
    }

    fn tell_files(&self, view: &View, out: &mut Families) {
        for device in folders(view, DEVICES) {
            if !self.devices.accepts(device.name) {
                continue;
            }
            for (path, _) in device.files() {
                let Some(value) = device.number::<u64>(path) else {
                    continue;
                };
                let file = path.strip_prefix("statistics/").unwrap_or(path);
                match (file.strip_prefix("rx_"), file.strip_prefix("tx_")) {
                    (Some(what), _) => {
                        tell(&format!("receive_{what}"), device.name, value, out);
                    }
                    (_, Some(what)) => {
                        tell(&format!("transmit_{what}"), device.name, value, out);
                    }
                    _ => tell(file, device.name, value, out),
                }
            }
        }
    }
}

impl Collect for Netdev {
    fn wants(&self) -> Collector {
        let collector = Collector::new("netdev");
        match self.detailed {
            true => collector.content("/sys/class/net/*/statistics/*"),
            false => collector
                .content(PATH)
                .content("/sys/class/net/*/statistics/rx_nohandler"),
        }
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        self.tell_files(view, out);
        match self.detailed {
            true => require(view.files().next().is_some(), DEVICES),
            false => self.tell_columns(view, out),
        }
    }
}

fn tell(what: &str, device: &str, value: u64, out: &mut Families) {
    let help = format!("Network device statistic {what}.");
    let family = out.counter(&format!("node_network_{what}_total"), &help);
    out.add(family, &[("device", device)], value as f64);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const DEV: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 435303245 1832522    0    0    0     0          0         0 435303245 1832522    0    0    0     0       0          0
  eth0:68210035552 520993275    1    2    3     4          5         6 9315587528 43451486    7    8    9    10      11         12
wlan0:1: 10437182923 13899359    0    0    0     0          0         0 2851649360 11726200
";
    const NOHANDLER: &str = "/sys/class/net/eth0/statistics/rx_nohandler";

    fn collect(config: &str, files: &Files) -> bulkhead_sdk::Result<Vec<String>> {
        let mut plugin = Harness::<NodeMetrics>::new(config)?;
        Ok(plugin.collect("netdev", files)?.lines())
    }

    #[test]
    fn tells_columns() {
        let files = Files::new()
            .file("/proc/net/dev", DEV)
            .file(NOHANDLER, "13\n");
        let lines = collect("{}", &files).unwrap();
        assert_eq!(lines.len(), 17 + 10, "of eth0, and of wlan0:1, torn");
        assert!(!lines.iter().any(|line| line.contains("\"lo\"")));
        for (name, value) in [
            ("receive_bytes", 68_210_035_552_u64),
            ("receive_errs", 1),
            ("receive_drop", 2),
            ("receive_frame", 4),
            ("receive_multicast", 6),
            ("receive_nohandler", 13),
            ("transmit_colls", 10),
            ("transmit_carrier", 11),
            ("transmit_compressed", 12),
        ] {
            let line = format!("node_network_{name}_total{{device=\"eth0\"}} {value}");
            assert!(lines.contains(&line), "{line}");
        }
        let lo = r#"{"collectors":{"netdev":{"deviceInclude":"^l","deviceExclude":""}}}"#;
        assert_eq!(collect(lo, &files).unwrap().len(), 16);
        assert!(collect("{}", &Files::new()).is_err());
    }

    #[test]
    fn tells_each_kind_of_error_if_asked() {
        let detailed = r#"{"collectors":{"netdev":{"detailedMetrics":true}}}"#;
        let folder = "/sys/class/net/eth0/statistics";
        let files = Files::new()
            .file(&format!("{folder}/rx_length_errors"), "1\n")
            .file(&format!("{folder}/tx_window_errors"), "2\n")
            .file(&format!("{folder}/multicast"), "3\n")
            .file("/sys/class/net/lo/statistics/multicast", "4\n");
        assert_eq!(
            collect(detailed, &files).unwrap(),
            [
                r#"node_network_multicast_total{device="eth0"} 3"#,
                r#"node_network_receive_length_errors_total{device="eth0"} 1"#,
                r#"node_network_transmit_window_errors_total{device="eth0"} 2"#,
            ]
        );
        assert!(collect(detailed, &Files::new()).is_err());
    }

    #[test]
    fn survives_nonsense() {
        let odd = [b"eth\xff: 1 2\n".as_slice(), DEV.as_bytes()].concat();
        let files = Files::new().file("/proc/net/dev", odd);
        assert_eq!(collect("{}", &files).unwrap().len(), 26);
        let twice = Files::new().file("/proc/net/dev", DEV.repeat(2));
        assert_eq!(collect("{}", &twice).unwrap().len(), 26);
        survives(
            "netdev",
            "{}",
            &[("/proc/net/dev", DEV), (NOHANDLER, "0\n")],
        );
    }
}
