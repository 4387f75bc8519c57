//! How busy the node is.
use bulkhead_sdk::{Collector, Context, Families, Metrics, NoConfig, Plugin, Result, View};

struct Load;

impl Plugin for Load {
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Load)
    }
}

impl Metrics for Load {
    fn collectors(&mut self) -> Result<Vec<Collector>> {
        Ok(vec![Collector::new("loadavg").content("/proc/loadavg")])
    }

    fn collect(&mut self, _: usize, view: &View, out: &mut Families) -> Result<()> {
        let text = view.text("/proc/loadavg")?;
        let first = text.split(' ').next().unwrap_or_default();
        let load = out.gauge("node_load1", "1m load average.");
        out.add(load, &[], first.parse().context("the first field")?);
        Ok(())
    }
}

bulkhead_sdk::export!(Load: Metrics);
