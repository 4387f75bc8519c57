//! Properties of network devices: `/sys/class/net`.

use bulkhead_sdk::metrics::Kind;
use bulkhead_sdk::{Collector, Families, Result, View, bail};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Collect;
use crate::filter::Pattern;
use crate::sysfs::{Folder, folders};

const FOLDER: &str = "/sys/class/net/";

/// Files that hold a number, and what it is told as.
const NUMBERS: [(&str, Kind, &str); 16] = [
    ("addr_assign_type", Kind::Gauge, "address_assign_type"),
    ("carrier", Kind::Gauge, "carrier"),
    ("carrier_changes", Kind::Counter, "carrier_changes_total"),
    (
        "carrier_up_count",
        Kind::Counter,
        "carrier_up_changes_total",
    ),
    (
        "carrier_down_count",
        Kind::Counter,
        "carrier_down_changes_total",
    ),
    ("dev_id", Kind::Gauge, "device_id"),
    ("dormant", Kind::Gauge, "dormant"),
    ("flags", Kind::Gauge, "flags"),
    ("ifindex", Kind::Gauge, "iface_id"),
    ("iflink", Kind::Gauge, "iface_link"),
    ("link_mode", Kind::Gauge, "iface_link_mode"),
    ("mtu", Kind::Gauge, "mtu_bytes"),
    ("name_assign_type", Kind::Gauge, "name_assign_type"),
    ("netdev_group", Kind::Gauge, "net_dev_group"),
    ("tx_queue_len", Kind::Gauge, "transmit_queue_length"),
    ("type", Kind::Gauge, "protocol_type"),
];

/// Files that are labels of `node_network_info`.
const TEXTS: [&str; 5] = ["address", "broadcast", "duplex", "operstate", "ifalias"];

/// The collector `netclass`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Whether it is on; if absent, as all are.
    pub enabled: Option<bool>,
    /// Regular expression of the devices not to tell of.
    pub ignored_devices: String,
    /// Whether to leave out speeds below zero, which stand for an unknown one.
    pub ignore_invalid_speed: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: None,
            ignored_devices: "^$".to_owned(),
            ignore_invalid_speed: false,
        }
    }
}

pub(crate) struct Netclass {
    ignored_devices: Pattern,
    ignore_invalid_speed: bool,
}

impl Netclass {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let field = "collectors.netclass.ignoredDevices";
        Ok(Self {
            ignored_devices: Pattern::new(&options.ignored_devices, field)?,
            ignore_invalid_speed: options.ignore_invalid_speed,
        })
    }

    fn tell(&self, device: &Folder, out: &mut Families) {
        let label = ("device", device.name);
        let texts = TEXTS.map(|file| device.text(file).unwrap_or_default());
        let [address, broadcast, duplex, operstate, ifalias] = &texts;
        let help = "Value is 1 if operstate is 'up', 0 otherwise.";
        let family = out.gauge("node_network_up", help);
        out.add(family, &[label], f64::from(u8::from(operstate == "up")));

        let help = "Non-numeric data from /sys/class/net/<iface>, value is always 1.";
        let family = out.gauge("node_network_info", help);
        let labels = [
            label,
            ("address", address),
            ("broadcast", broadcast),
            ("duplex", duplex),
            ("operstate", operstate),
            ("ifalias", ifalias),
        ];
        out.add(family, &labels, 1.0);

        let mut property = |kind, what: &str, value: i128| {
            let help = format!("Network device property: {what}");
            let family = out.family(kind, &format!("node_network_{what}"), &help);
            out.add(family, &[label], value as f64);
        };
        for (file, kind, what) in NUMBERS {
            if let Some(value) = device.integer(file) {
                property(kind, what, value);
            }
        }
        if let Some(megabits) = device.integer("speed")
            && (megabits >= 0 || !self.ignore_invalid_speed)
        {
            property(Kind::Gauge, "speed_bytes", megabits * 1_000_000 / 8);
        }
    }
}

impl Collect for Netclass {
    fn wants(&self) -> Collector {
        let numbers = NUMBERS.iter().map(|(file, _, _)| *file);
        numbers
            .chain(TEXTS)
            .chain(["speed"])
            .fold(Collector::new("netclass"), |collector, file| {
                collector.content(&format!("{FOLDER}*/{file}"))
            })
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let devices = folders(view, FOLDER);
        if devices.is_empty() {
            bail!("{FOLDER} is empty");
        }
        for device in devices {
            if !self.ignored_devices.is_match(device.name) {
                self.tell(&device, out);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const EINVAL: u32 = 22;
    const ETH0: &[(&str, &str)] = &[
        ("/sys/class/net/eth0/addr_assign_type", "3\n"),
        ("/sys/class/net/eth0/address", "01:01:01:01:01:01\n"),
        ("/sys/class/net/eth0/broadcast", "ff:ff:ff:ff:ff:ff\n"),
        ("/sys/class/net/eth0/carrier", "1\n"),
        ("/sys/class/net/eth0/carrier_changes", "2\n"),
        ("/sys/class/net/eth0/carrier_down_count", "1\n"),
        ("/sys/class/net/eth0/carrier_up_count", "1\n"),
        ("/sys/class/net/eth0/dev_id", "0x20\n"),
        ("/sys/class/net/eth0/dormant", "1\n"),
        ("/sys/class/net/eth0/duplex", "full\n"),
        ("/sys/class/net/eth0/flags", "0x1303\n"),
        ("/sys/class/net/eth0/ifalias", "\n"),
        ("/sys/class/net/eth0/ifindex", "2\n"),
        ("/sys/class/net/eth0/iflink", "2\n"),
        ("/sys/class/net/eth0/link_mode", "1\n"),
        ("/sys/class/net/eth0/mtu", "1500\n"),
        ("/sys/class/net/eth0/name_assign_type", "2\n"),
        ("/sys/class/net/eth0/netdev_group", "0\n"),
        ("/sys/class/net/eth0/operstate", "up\n"),
        ("/sys/class/net/eth0/speed", "1000\n"),
        ("/sys/class/net/eth0/tx_queue_len", "1000\n"),
        ("/sys/class/net/eth0/type", "1\n"),
        ("/sys/class/net/bonding_masters", "bond0\n"),
    ];

    fn collect(config: &str, files: &Files) -> bulkhead_sdk::Result<Vec<String>> {
        let mut plugin = Harness::<NodeMetrics>::new(config)?;
        Ok(plugin.collect("netclass", files)?.lines())
    }

    fn eth0() -> Files {
        let add = |files: Files, (path, text): &(&str, &str)| files.file(path, text);
        ETH0.iter().fold(Files::new(), add)
    }

    #[test]
    fn tells_properties() {
        assert_eq!(
            collect("{}", &eth0()).unwrap(),
            [
                r#"node_network_address_assign_type{device="eth0"} 3"#,
                r#"node_network_carrier_changes_total{device="eth0"} 2"#,
                r#"node_network_carrier_down_changes_total{device="eth0"} 1"#,
                r#"node_network_carrier_up_changes_total{device="eth0"} 1"#,
                r#"node_network_carrier{device="eth0"} 1"#,
                r#"node_network_device_id{device="eth0"} 32"#,
                r#"node_network_dormant{device="eth0"} 1"#,
                r#"node_network_flags{device="eth0"} 4867"#,
                r#"node_network_iface_id{device="eth0"} 2"#,
                r#"node_network_iface_link_mode{device="eth0"} 1"#,
                r#"node_network_iface_link{device="eth0"} 2"#,
                concat!(
                    r#"node_network_info{address="01:01:01:01:01:01","#,
                    r#"broadcast="ff:ff:ff:ff:ff:ff",device="eth0",duplex="full",ifalias="","#,
                    r#"operstate="up"} 1"#
                ),
                r#"node_network_mtu_bytes{device="eth0"} 1500"#,
                r#"node_network_name_assign_type{device="eth0"} 2"#,
                r#"node_network_net_dev_group{device="eth0"} 0"#,
                r#"node_network_protocol_type{device="eth0"} 1"#,
                r#"node_network_speed_bytes{device="eth0"} 125000000"#,
                r#"node_network_transmit_queue_length{device="eth0"} 1000"#,
                r#"node_network_up{device="eth0"} 1"#,
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let lo = Files::new()
            .file("/sys/class/net/lo/operstate", "unknown\n")
            .unreadable("/sys/class/net/lo/speed", EINVAL)
            .unreadable("/sys/class/net/lo/carrier", EINVAL);
        let info = concat!(
            r#"node_network_info{address="",broadcast="",device="lo",duplex="",ifalias="","#,
            r#"operstate="unknown"} 1"#
        );
        let up = r#"node_network_up{device="lo"} 0"#;
        assert_eq!(collect("{}", &lo).unwrap(), [info, up]);
        assert!(collect("{}", &Files::new()).is_err());
    }

    #[test]
    fn devices_and_speeds_are_chosen() {
        let files = eth0().file("/sys/class/net/veth1/speed", "-1\n");
        let speed = r#"node_network_speed_bytes{device="veth1"} -125000"#.to_owned();
        assert!(collect("{}", &files).unwrap().contains(&speed));
        let config = r#"{"collectors":{"netclass":{
            "ignoreInvalidSpeed":true,"ignoredDevices":"^eth"}}}"#;
        let lines = collect(config, &files).unwrap();
        assert_eq!(lines.len(), 2, "{lines:?}");
    }

    #[test]
    fn survives_nonsense() {
        survives("netclass", "{}", ETH0);
    }
}
