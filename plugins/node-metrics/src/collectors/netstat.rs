//! Counters of network protocols: `/proc/net/netstat`, `/proc/net/snmp`, `/proc/net/snmp6`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bulkhead_sdk::{Collector, Families, Result, View};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Collect;
use crate::filter::Pattern;
use crate::sysfs::whole_at;
use crate::text::{is_name_part, pairs, require};

const NETSTAT: &str = "/proc/net/netstat";
const SNMP: &str = "/proc/net/snmp";
/// Not there where IPv6 is off.
const SNMP6: &str = "/proc/net/snmp6";

/// The collector `netstat`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Whether it is on; if absent, as all are.
    pub enabled: Option<bool>,
    /// Regular expression of the fields to tell, such as `Tcp_ActiveOpens`.
    pub fields: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: None,
            fields: "^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|\
                     Icmp6?_(InMsgs|OutMsgs)|\
                     TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts)|\
                     Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)|\
                     Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$"
                .to_owned(),
        }
    }
}

pub(crate) struct Netstat {
    fields: Pattern,
}

impl Netstat {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        Ok(Self {
            fields: Pattern::new(&options.fields, "collectors.netstat.fields")?,
        })
    }
}

/// The fields to tell, by protocol and name.
struct Found<'a> {
    chosen: &'a Pattern,
    fields: BTreeMap<(&'a str, &'a str), f64>,
    /// Whether there were any.
    any: bool,
    /// The field that is looked at, as it is chosen by: `Tcp_ActiveOpens`.
    field: String,
}

impl Collect for Netstat {
    fn wants(&self) -> Collector {
        let collector = Collector::new("netstat").content(NETSTAT).content(SNMP);
        collector.content(SNMP6)
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let (netstat, snmp) = (whole_at(view, NETSTAT)?, whole_at(view, SNMP)?);
        let snmp6 = match view.get(SNMP6) {
            Some(_) => whole_at(view, SNMP6)?,
            None => Cow::default(),
        };
        let mut found = Found {
            chosen: &self.fields,
            fields: BTreeMap::new(),
            any: false,
            field: String::new(),
        };
        found.parse_table(&netstat);
        found.parse_table(&snmp);
        found.parse_pairs(&snmp6);
        for ((protocol, name), value) in &found.fields {
            let help = format!("Statistic {protocol}{name}.");
            let family = out.untyped(&format!("node_netstat_{protocol}_{name}"), &help);
            out.add(family, &[], *value);
        }
        require(found.any, NETSTAT)
    }
}

impl<'a> Found<'a> {
    /// Pairs of lines: `Tcp: ActiveOpens PassiveOpens`, `Tcp: 3556 230`.
    fn parse_table(&mut self, text: &'a str) {
        let mut lines = text.lines().map(|line| line.split_once(':'));
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            let (Some((protocol, names)), Some((same, values))) = (names, values) else {
                continue;
            };
            let names = names.split_ascii_whitespace();
            let values = values.split_ascii_whitespace();
            if protocol != same || names.clone().count() != values.clone().count() {
                continue;
            }
            for (name, value) in names.zip(values) {
                self.add(protocol, name, value);
            }
        }
    }

    /// Lines `Ip6InReceives 12`: the protocol ends in its 6.
    fn parse_pairs(&mut self, text: &'a str) {
        for (field, value) in pairs(text) {
            let after = field.find('6').map_or(0, |at| at + 1);
            if let (1.., Some((protocol, name))) = (after, field.split_at_checked(after)) {
                self.add(protocol, name, value);
            }
        }
    }

    fn add(&mut self, protocol: &'a str, name: &'a str, value: &str) {
        // Two that would be spelled the same are told once.
        if protocol.contains('_') {
            return;
        }
        self.field.clear();
        self.field.push_str(protocol);
        self.field.push('_');
        self.field.push_str(name);
        let is_chosen = self.chosen.is_match(&self.field);
        // One that makes sense is enough to say that the files do.
        if (is_chosen || !self.any)
            && let Ok(value) = value.parse()
        {
            self.any = true;
            if is_chosen && is_name_part(&self.field) {
                self.fields.insert((protocol, name), value);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const NETSTAT: &str = "\
TcpExt: SyncookiesSent ListenOverflows TW TCPTimeouts
TcpExt: 3 4 388812 115
IpExt: InNoRoutes InOctets OutOctets
IpExt: 0 6286396970 2786264347
";
    const SNMP: &str = "\
Ip: Forwarding DefaultTTL
Ip: 1 64
Tcp: MaxConn ActiveOpens CurrEstab
Tcp: -1 3556 0
Udp: InDatagrams NoPorts InErrors
Udp: 88542 120
";
    const SNMP6: &str = "\
Ip6InReceives                   \t7
Ip6InOctets                     \t460
Icmp6InMsgs                     \t9
Udp6InErrors                    \t0
";
    const TREE: &[(&str, &str)] = &[
        ("/proc/net/netstat", NETSTAT),
        ("/proc/net/snmp", SNMP),
        ("/proc/net/snmp6", SNMP6),
    ];

    fn collect(config: &str, tree: &[(&str, &str)]) -> bulkhead_sdk::Result<Vec<String>> {
        let add = |files: Files, (path, text): &(&str, &str)| files.file(path, text);
        let files = tree.iter().fold(Files::new(), add);
        let mut plugin = Harness::<NodeMetrics>::new(config)?;
        let found = plugin.collect("netstat", &files)?;
        assert_eq!(found.kind("node_netstat_Ip_Forwarding"), Some("untyped"));
        Ok(found.lines())
    }

    #[test]
    fn tells_the_chosen_fields() {
        assert_eq!(
            collect("{}", TREE).unwrap(),
            [
                "node_netstat_Icmp6_InMsgs 9",
                "node_netstat_Ip6_InOctets 460",
                "node_netstat_IpExt_InOctets 6286396970",
                "node_netstat_IpExt_OutOctets 2786264347",
                "node_netstat_Ip_Forwarding 1",
                "node_netstat_TcpExt_ListenOverflows 4",
                "node_netstat_TcpExt_SyncookiesSent 3",
                "node_netstat_TcpExt_TCPTimeouts 115",
                "node_netstat_Tcp_ActiveOpens 3556",
                "node_netstat_Tcp_CurrEstab 0",
                "node_netstat_Udp6_InErrors 0",
            ]
        );
        let few = r#"{"collectors":{"netstat":{"fields":"Tcp_M|Ip_F"}}}"#;
        let lines = collect(few, TREE).unwrap();
        assert_eq!(
            lines,
            [
                "node_netstat_Ip_Forwarding 1",
                "node_netstat_Tcp_MaxConn -1"
            ]
        );
    }

    #[test]
    fn only_version_six_may_be_missing() {
        assert_eq!(collect("{}", &TREE[..2]).unwrap().len(), 8);
        assert!(collect("{}", &TREE[..1]).is_err());
        assert!(collect("{}", &TREE[1..]).is_err());
    }

    #[test]
    fn survives_nonsense() {
        survives(
            "netstat",
            r#"{"collectors":{"netstat":{"fields":""}}}"#,
            TREE,
        );
    }
}
