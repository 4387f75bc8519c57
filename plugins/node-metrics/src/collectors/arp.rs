//! Neighbours known by their addresses: `/proc/net/arp`.

use std::collections::BTreeMap;

use bulkhead_sdk::{Collector, Families, Result, View};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Collect;
use crate::filter::Filter;
use crate::text::lines;

const PATH: &str = "/proc/net/arp";

/// The collector `arp`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Whether it is on; if absent, as all are.
    pub enabled: Option<bool>,
    /// Regular expression of the devices to tell of, unless they are excluded. Empty: all.
    pub device_include: String,
    /// Regular expression of the devices not to tell of. Empty: none.
    pub device_exclude: String,
}

pub(crate) struct Arp {
    devices: Filter,
}

impl Arp {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let (include, exclude) = (&options.device_include, &options.device_exclude);
        Ok(Self {
            devices: Filter::new(include, exclude, "collectors.arp.device")?,
        })
    }
}

impl Collect for Arp {
    fn wants(&self) -> Collector {
        Collector::new("arp").content(PATH)
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let mut entries: BTreeMap<&str, u32> = BTreeMap::new();
        // A line of names comes first.
        for line in lines(view, PATH)?.skip(1) {
            // Five columns, and the device.
            if let Some(device) = line.split_ascii_whitespace().nth(5) {
                *entries.entry(device).or_default() += 1;
            }
        }
        for (device, count) in entries {
            if self.devices.accepts(device) {
                let family = out.gauge("node_arp_entries", "ARP entries by device");
                out.add(family, &[("device", device)], f64::from(count));
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

    const ARP: &str = "\
IP address       HW type     Flags       HW address            Mask     Device
192.168.1.1      0x1         0x2         cc:aa:dd:ee:aa:bb     *        eth0
192.168.1.2      0x1         0x0         00:00:00:00:00:00     *        eth0
10.42.0.9        0x1         0x2         de:ad:be:ef:00:00     *        cni0
10.42.0.10       0x1         0x2
";

    fn collect(config: &str, text: &str) -> Vec<String> {
        let mut plugin = Harness::<NodeMetrics>::new(config).unwrap();
        let files = Files::new().file("/proc/net/arp", text);
        plugin.collect("arp", &files).unwrap().lines()
    }

    #[test]
    fn counts_by_device() {
        let cni0 = r#"node_arp_entries{device="cni0"} 1"#;
        let eth0 = r#"node_arp_entries{device="eth0"} 2"#;
        assert_eq!(collect("{}", ARP), [cni0, eth0]);
        let without = r#"{"collectors":{"arp":{"deviceExclude":"^cni"}}}"#;
        assert_eq!(collect(without, ARP), [eth0]);
        let only = r#"{"collectors":{"arp":{"deviceInclude":"^cni"}}}"#;
        assert_eq!(collect(only, ARP), [cni0]);
        let head = ARP.lines().next().unwrap();
        assert!(collect("{}", head).is_empty(), "a node without neighbours");
    }

    #[test]
    fn survives_nonsense() {
        let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
        assert!(plugin.collect("arp", &Files::new()).is_err());
        survives("arp", "{}", &[("/proc/net/arp", ARP)]);
    }
}
