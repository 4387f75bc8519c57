//! `node-metrics`: measures the node as the Prometheus node exporter does, under its names, labels and
//! units, so that dashboards and alerts made for it work unchanged.
//!
//! A collector is a file in `collectors`: what it wants to read, and what it makes of it. Nothing is
//! read here; the host reads. A file that makes no sense (torn, empty, binary) leaves its series out,
//! and never ends the plugin.

mod collectors;
mod config;
mod filter;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod hostile;
mod sysfs;
mod text;

use bulkhead_sdk::{Collector, Families, Metrics, Plugin, Result, View};
use collectors::{Collect, Scrape};

pub use config::Config;

/// The plugin.
pub struct NodeMetrics {
    collectors: Vec<Box<dyn Collect>>,
}

impl Plugin for NodeMetrics {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let mut collectors = collectors::enabled(&config)?;
        let names = collectors
            .iter()
            .map(|each| each.wants().name().to_owned())
            .collect();
        // Last, because it tells of the others.
        collectors.push(Box::new(Scrape::new(names)));
        Ok(Self { collectors })
    }
}

impl Metrics for NodeMetrics {
    fn collectors(&mut self) -> Result<Vec<Collector>> {
        Ok(self.collectors.iter().map(|each| each.wants()).collect())
    }

    fn collect(&mut self, collector: usize, view: &View, out: &mut Families) -> Result<()> {
        match self.collectors.get_mut(collector) {
            Some(known) => known.collect(view, out),
            None => bulkhead_sdk::bail!("there is no collector {collector}"),
        }
    }
}

bulkhead_sdk::export!(NodeMetrics: Metrics);
