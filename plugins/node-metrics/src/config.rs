//! The manifest's `config`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::collectors::options;

/// Which collectors are on, and their options. All that the node exporter has on by default on Linux
/// are on.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Only collectors with `enabled: true` are on.
    pub disable_defaults: bool,
    /// By collector.
    pub collectors: Collectors,
}

/// A collector without options.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Switch {
    /// Whether it is on; if absent, as all are.
    pub enabled: Option<bool>,
}

/// The collectors.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(missing_docs, reason = "named after what they tell of")]
pub struct Collectors {
    pub arp: options::Arp,
    pub bcache: options::Bcache,
    pub bonding: Switch,
    pub btrfs: Switch,
    pub cgroups: Switch,
    pub conntrack: Switch,
    pub cpu: options::Cpu,
    pub cpufreq: Switch,
    pub diskstats: options::Diskstats,
    pub dmi: Switch,
    pub edac: Switch,
    pub entropy: Switch,
    pub fibrechannel: Switch,
    pub filefd: Switch,
    pub filesystem: options::Filesystem,
    pub hwmon: options::Hwmon,
    pub infiniband: Switch,
    pub ipvs: options::Ipvs,
    pub loadavg: Switch,
    pub mdadm: Switch,
    pub meminfo: Switch,
    pub netclass: options::Netclass,
    pub netdev: options::Netdev,
    pub netstat: options::Netstat,
    pub nfs: Switch,
    pub nfsd: Switch,
    pub nvme: Switch,
    pub os: Switch,
    pub powersupplyclass: options::PowerSupplyClass,
    pub pressure: Switch,
    pub rapl: options::Rapl,
    pub schedstat: Switch,
    pub selinux: Switch,
    pub sockstat: Switch,
    pub softnet: Switch,
    pub stat: options::Stat,
    pub tapestats: options::Tapestats,
    pub textfile: options::Textfile,
    pub thermal_zone: Switch,
    pub time: Switch,
    pub timex: Switch,
    pub udp_queues: Switch,
    pub uname: Switch,
    pub vmstat: options::Vmstat,
    pub xfs: Switch,
    pub zfs: Switch,
}
