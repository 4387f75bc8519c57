//! How the other collectors fared, as the node exporter tells it of its own.

use bulkhead_sdk::{Collector, Families, Result, View};

use super::Collect;

pub(crate) struct Scrape {
    names: Vec<String>,
}

impl Scrape {
    /// `names` are those of the collectors before this one, in order.
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self { names }
    }
}

impl Collect for Scrape {
    fn wants(&self) -> Collector {
        Collector::new("scrape")
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let duration = out.gauge(
            "node_scrape_collector_duration_seconds",
            "node_exporter: Duration of a collector scrape.",
        );
        let success = out.gauge(
            "node_scrape_collector_success",
            "node_exporter: Whether a collector succeeded.",
        );
        for outcome in view.outcomes() {
            if let Some(name) = self.names.get(outcome.collector) {
                let labels = [("collector", name.as_str())];
                out.add(duration, &labels, outcome.seconds);
                out.add(success, &labels, f64::from(u8::from(outcome.ok)));
            }
        }
        Ok(())
    }
}
