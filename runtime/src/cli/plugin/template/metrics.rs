//! @NAME@: the load of the node.

use bulkhead_sdk::{Collector, Context, Families, Metrics, NoConfig, Plugin, Result, View};

struct @TYPE@;

impl Plugin for @TYPE@ {
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Metrics for @TYPE@ {
    fn collectors(&mut self) -> Result<Vec<Collector>> {
        Ok(vec![Collector::new("load").content("/proc/loadavg")])
    }

    fn collect(&mut self, _: usize, view: &View, out: &mut Families) -> Result<()> {
        let text = view.text("/proc/loadavg")?;
        let load = text.split(' ').next().context("is empty")?.parse()?;
        let family = out.gauge("@SNAKE@_load", "The load of the last minute.");
        out.add(family, &[], load);
        Ok(())
    }
}

bulkhead_sdk::export!(@TYPE@: Metrics);

#[cfg(test)]
mod tests {
    use bulkhead_sdk::testing::{Files, Harness};

    #[test]
    fn measures_the_load() -> bulkhead_sdk::Result<()> {
        let files = Files::new().file("/proc/loadavg", "0.25 0.5 1 1/100 42\n");
        let found = Harness::<super::@TYPE@>::new("{}")?.collect("load", &files)?;
        assert_eq!(found.value("@SNAKE@_load"), Some(0.25));
        Ok(())
    }
}
