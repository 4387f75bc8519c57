//! IP virtual servers, of `/proc/net/ip_vs` and `/proc/net/ip_vs_stats`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bulkhead_sdk::{Collector, Families, Result, View, bail};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Collect;
use crate::sysfs::whole_at;

const STATS: &str = "/proc/net/ip_vs_stats";
const BACKENDS: &str = "/proc/net/ip_vs";

/// The collector `ipvs`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Whether it is on; if absent, as all are.
    pub enabled: Option<bool>,
    /// Labels of backends. What they do not tell apart is added up.
    pub backend_labels: Vec<BackendLabel>,
}

/// A label of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackendLabel {
    /// The virtual server's address.
    LocalAddress,
    /// The virtual server's port.
    LocalPort,
    /// The backend's address.
    RemoteAddress,
    /// The backend's port.
    RemotePort,
    /// `TCP`, `UDP`, or `FWM` for a firewall mark.
    Proto,
    /// The firewall mark.
    LocalMark,
}

impl BackendLabel {
    const ALL: [Self; 6] = [
        Self::LocalAddress,
        Self::LocalPort,
        Self::RemoteAddress,
        Self::RemotePort,
        Self::Proto,
        Self::LocalMark,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::LocalAddress => "local_address",
            Self::LocalPort => "local_port",
            Self::RemoteAddress => "remote_address",
            Self::RemotePort => "remote_port",
            Self::Proto => "proto",
            Self::LocalMark => "local_mark",
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: None,
            backend_labels: BackendLabel::ALL.to_vec(),
        }
    }
}

pub(crate) struct Ipvs {
    labels: Vec<BackendLabel>,
}

impl Ipvs {
    pub(crate) fn new(options: &Options) -> Self {
        let mut labels = options.backend_labels.clone();
        labels.sort_unstable();
        labels.dedup();
        Self { labels }
    }
}

impl Collect for Ipvs {
    fn wants(&self) -> Collector {
        Collector::new("ipvs").content(STATS).content(BACKENDS)
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let text = whole_at(view, STATS)?;
        let Some(totals) = totals(&text) else {
            bail!("{STATS} has no five numbers in its third line: {text:?}");
        };
        let families = [
            (
                "node_ipvs_connections_total",
                "The total number of connections made.",
            ),
            (
                "node_ipvs_incoming_packets_total",
                "The total number of incoming packets.",
            ),
            (
                "node_ipvs_outgoing_packets_total",
                "The total number of outgoing packets.",
            ),
            (
                "node_ipvs_incoming_bytes_total",
                "The total amount of incoming data.",
            ),
            (
                "node_ipvs_outgoing_bytes_total",
                "The total amount of outgoing data.",
            ),
        ];
        for ((name, help), total) in families.into_iter().zip(totals) {
            let family = out.counter(name, help);
            out.add(family, &[], total as f64);
        }
        let mut sums: BTreeMap<Vec<String>, [u64; 3]> = BTreeMap::new();
        for_each_backend(&whole_at(view, BACKENDS)?, |service, backend| {
            let key = self.labels.iter().map(|label| match label {
                BackendLabel::LocalAddress => service.address.map_or_else(String::new, spell),
                BackendLabel::LocalPort => service.port.to_string(),
                BackendLabel::RemoteAddress => spell(backend.address),
                BackendLabel::RemotePort => backend.port.to_string(),
                BackendLabel::Proto => service.proto.to_owned(),
                BackendLabel::LocalMark => service.mark.to_owned(),
            });
            let sum = sums.entry(key.collect()).or_default();
            for (sum, value) in sum.iter_mut().zip(backend.numbers) {
                *sum = sum.saturating_add(value);
            }
        });
        let families = [
            (
                "node_ipvs_backend_weight",
                "The current backend weight by local and remote address.",
            ),
            (
                "node_ipvs_backend_connections_active",
                "The current active connections by local and remote address.",
            ),
            (
                "node_ipvs_backend_connections_inactive",
                "The current inactive connections by local and remote address.",
            ),
        ];
        for (key, sum) in &sums {
            let names = self.labels.iter().map(|label| label.name());
            let labels: Vec<_> = names.zip(key.iter().map(String::as_str)).collect();
            for ((name, help), value) in families.into_iter().zip(sum) {
                let family = out.gauge(name, help);
                out.add(family, &labels, *value as f64);
            }
        }
        Ok(())
    }
}

/// Connections, packets in and out, bytes in and out: the third line, to the base 16.
fn totals(text: &str) -> Option<[u64; 5]> {
    let mut lines = text.lines();
    let mut fields = lines.nth(2)?.split_ascii_whitespace();
    let mut totals = [0; 5];
    for total in &mut totals {
        *total = u64::from_str_radix(fields.next()?, 16).ok()?;
    }
    // A line after it, or it may be torn.
    (fields.next().is_none() && lines.next().is_some()).then_some(totals)
}

/// A virtual server.
struct Service<'a> {
    proto: &'a str,
    mark: &'a str,
    address: Option<IpAddr>,
    port: u16,
}

struct Backend {
    address: IpAddr,
    port: u16,
    /// The weight, active and inactive connections.
    numbers: [u64; 3],
}

/// Calls `each` for the lines `-> ...` with the line of the service above them.
fn for_each_backend(text: &str, mut each: impl FnMut(&Service, Backend)) {
    let mut service = None;
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        match (fields.next(), fields.next()) {
            (Some("->"), Some(address)) => {
                if let (Some(service), Some(backend)) = (&service, backend(address, fields)) {
                    each(service, backend);
                }
            }
            (Some("FWM"), Some(mark)) => {
                service = Some(Service {
                    proto: "FWM",
                    mark,
                    address: None,
                    port: 0,
                });
            }
            (Some(proto @ ("TCP" | "UDP" | "SCTP")), Some(address)) => {
                service = endpoint(address).map(|(address, port)| Service {
                    proto,
                    mark: "",
                    address: Some(address),
                    port,
                });
            }
            _ => {}
        }
    }
}

/// What follows the arrow: the address, how it is reached, and three numbers.
fn backend<'a>(address: &str, mut fields: impl Iterator<Item = &'a str>) -> Option<Backend> {
    let (address, port) = endpoint(address)?;
    let _how = fields.next()?;
    let mut numbers = [0; 3];
    for number in &mut numbers {
        *number = fields.next()?.parse().ok()?;
    }
    Some(Backend {
        address,
        port,
        numbers,
    })
}

/// `C0A80016:0CEA`, or `[fd00:0000:...:0001]:0050` with all zeros.
fn endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address = match address.strip_prefix('[') {
        Some(rest) => IpAddr::V6(rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?),
        None if address.len() == 8 => {
            IpAddr::V4(Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?))
        }
        None => return None,
    };
    Some((address, port))
}

/// As Go spells it: an IPv4 address in IPv6 is one of IPv4.
fn spell(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::endpoint;
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const STATS: &str = "   Total Incoming Outgoing         Incoming         Outgoing
   Conns  Packets  Packets            Bytes            Bytes
 16AA370 E33656E5        0     51D8C8883AB3                0

 Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s
       4    1FB3C        0          1282A8F                0
";

    const BACKENDS: &str = "IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C0A80016:0CEA wlc
  -> C0A85216:0CEA      Tunnel  100    248        2
  -> C0A85318:0CEA      Tunnel  50     1          0
UDP  [fd00:0000:0000:0000:0000:0000:0000:000a]:0035 rr
  -> [fd00:0000:0000:0000:0000:0000:0000:000b]:0035      Masq    1      0          7
FWM  10001000 wlc
  -> C0A8321A:0CEA      Route   20     64         1
";

    fn collect(config: &str, stats: &str, backends: &str) -> bulkhead_sdk::Result<Vec<String>> {
        let files = Files::new()
            .file("/proc/net/ip_vs_stats", stats)
            .file("/proc/net/ip_vs", backends);
        let mut plugin = Harness::<NodeMetrics>::new(config)?;
        Ok(plugin.collect("ipvs", &files)?.lines())
    }

    #[test]
    fn tells_totals_and_backends() {
        let lines = collect("{}", STATS, BACKENDS).unwrap();
        for line in [
            "node_ipvs_connections_total 23765872",
            "node_ipvs_incoming_packets_total 3811989221",
            "node_ipvs_outgoing_packets_total 0",
            "node_ipvs_incoming_bytes_total 89991519156915",
            "node_ipvs_backend_connections_active{local_address=\"192.168.0.22\",local_mark=\"\",\
             local_port=\"3306\",proto=\"TCP\",remote_address=\"192.168.82.22\",\
             remote_port=\"3306\"} 248",
            "node_ipvs_backend_connections_inactive{local_address=\"fd00::a\",local_mark=\"\",\
             local_port=\"53\",proto=\"UDP\",remote_address=\"fd00::b\",remote_port=\"53\"} 7",
            "node_ipvs_backend_weight{local_address=\"\",local_mark=\"10001000\",local_port=\"0\",\
             proto=\"FWM\",remote_address=\"192.168.50.26\",remote_port=\"3306\"} 20",
        ] {
            assert!(lines.contains(&line.to_owned()), "{line} in {lines:?}");
        }
        assert_eq!(lines.len(), 5 + 3 * 4);
    }

    #[test]
    fn what_the_labels_do_not_tell_apart_is_added_up() {
        let config = r#"{"collectors":{"ipvs":{"backendLabels":["proto","local_port"]}}}"#;
        let lines = collect(config, STATS, BACKENDS).unwrap();
        let line = r#"node_ipvs_backend_weight{local_port="3306",proto="TCP"} 150"#;
        assert!(lines.contains(&line.to_owned()), "{lines:?}");
        let wrong = r#"{"collectors":{"ipvs":{"backendLabels":["remote"]}}}"#;
        assert!(collect(wrong, STATS, BACKENDS).is_err());
    }

    #[test]
    fn torn_totals_are_an_error() {
        for torn in [
            "",
            "a\nb\n1 2 3 4 5",
            "a\nb\n1 2 3 4\n\n",
            "a\nb\nx y z v w\n\n",
        ] {
            assert!(collect("{}", torn, BACKENDS).is_err(), "{torn:?}");
        }
        let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
        assert!(plugin.collect("ipvs", &Files::new()).is_err());
    }

    #[test]
    fn addresses_are_understood() {
        assert!(endpoint("C0A80016:0CEA").is_some());
        for wrong in ["", ":", "C0A800:0CEA", "C0A80016:xCEA", "[::1:0050", "ä:1"] {
            assert!(endpoint(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn survives_nonsense() {
        let tree = [
            ("/proc/net/ip_vs_stats", STATS),
            ("/proc/net/ip_vs", BACKENDS),
        ];
        survives("ipvs", "{}", &tree);
    }
}
