//! IP virtual servers, of `/proc/net/ip_vs` and `/proc/net/ip_vs_stats`.

mod parse;

use std::collections::BTreeMap;
use std::net::IpAddr;

use bulkhead_sdk::{Collector, Families, Result, View, bail};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Collect;
use crate::sysfs::whole_at;
use parse::{for_each_backend, totals};

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

/// As Go spells it: an IPv4 address in IPv6 is one of IPv4.
fn spell(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
