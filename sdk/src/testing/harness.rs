//! Runs a plugin the way the host does.

use super::answer::Answer;
use super::files::Files;
use super::found::Found;
use super::node::Node;
use super::planned::Planned;
use crate::enforcement::Enforcement;
use crate::error::{Error, Result};
use crate::export::Instance;
use crate::logs::{Batch, Logs};
use crate::metrics::{Metrics, Outcome};
use crate::plugin::{Plugin, Snapshot, config_schema};

/// A plugin, made as the host makes it.
///
/// ```
/// # use bulkhead_sdk::{Batch, Logs, NoConfig, Output, Plugin, Result, testing};
/// # struct KeepAll;
/// # impl Plugin for KeepAll {
/// #     type Config = NoConfig;
/// #     fn new(_: NoConfig) -> Result<Self> { Ok(KeepAll) }
/// # }
/// let refused = testing::Harness::<KeepAll>::new(r#"{"rate": 3}"#).err().unwrap();
/// assert_eq!(refused.field(), "rate");
/// ```
#[derive(Debug)]
pub struct Harness<P> {
    instance: Instance<P>,
}

impl<P: Plugin> Harness<P> {
    /// Makes the plugin from its configuration as JSON text.
    ///
    /// ```no_run
    /// # use bulkhead_sdk::{Plugin, Result, testing::Harness};
    /// # fn test<MyPlugin: Plugin>() -> Result<()> {
    /// let plugin = Harness::<MyPlugin>::new(r#"{"filters": []}"#)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(config: &str) -> Result<Self> {
        let mut instance = Instance::default();
        instance
            .init(config)
            .map_err(|refusal| Error::new(refusal.message).at(refusal.field))?;
        Ok(Self { instance })
    }

    /// The JSON Schema of the plugin's configuration.
    ///
    /// ```
    /// # use bulkhead_sdk::{NoConfig, Plugin, Result, testing::Harness};
    /// # struct KeepAll;
    /// # impl Plugin for KeepAll {
    /// #     type Config = NoConfig;
    /// #     fn new(_: NoConfig) -> Result<Self> { Ok(KeepAll) }
    /// # }
    /// assert!(Harness::<KeepAll>::config_schema().contains("NoConfig"));
    /// ```
    pub fn config_schema() -> String {
        config_schema::<P>()
    }

    /// What the plugin hands to a successor.
    ///
    /// ```no_run
    /// # use bulkhead_sdk::{Plugin, Result, testing::Harness};
    /// # fn test<MyPlugin: Plugin>() -> Result<()> {
    /// let snapshot = Harness::<MyPlugin>::new("{}")?.snapshot();
    /// # Ok(())
    /// # }
    /// ```
    pub fn snapshot(&mut self) -> Option<Snapshot> {
        let raw = self.instance.snapshot()?;
        Some(Snapshot {
            version: raw.version,
            data: raw.data,
        })
    }

    /// Hands a predecessor's state to the plugin.
    ///
    /// ```no_run
    /// # use bulkhead_sdk::{Plugin, Result, testing::Harness};
    /// # fn test<MyPlugin: Plugin>() -> Result<()> {
    /// let mut old = Harness::<MyPlugin>::new("{}")?;
    /// let mut new = Harness::<MyPlugin>::new("{}")?;
    /// new.restore(old.snapshot().unwrap())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn restore(&mut self, snapshot: Snapshot) -> Result<()> {
        let Snapshot { version, data } = snapshot;
        self.instance
            .restore(crate::__private::lifecycle::SnapshotData { version, data })
            .map_err(|refusal| Error::new(refusal.message).at(refusal.field))
    }
}

impl<P: Logs> Harness<P> {
    /// Tells the plugin the names of the destinations.
    ///
    /// ```no_run
    /// # use bulkhead_sdk::{Logs, Result, testing::Harness};
    /// # fn test<MyPlugin: Logs>() -> Result<()> {
    /// Harness::<MyPlugin>::new("{}")?.start(&["archive", "errors"])?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn start(&mut self, destinations: &[&str]) -> Result<()> {
        let destinations: Vec<String> = destinations.iter().map(|&name| name.into()).collect();
        self.instance.start(&destinations).map_err(Error::new)
    }

    /// Asks the plugin about a batch, and checks its answer as the host would.
    ///
    /// ```no_run
    /// # use bulkhead_sdk::{Logs, Result, testing};
    /// # fn test<MyPlugin: Logs>() -> Result<()> {
    /// let mut plugin = testing::Harness::<MyPlugin>::new("{}")?;
    /// let answer = plugin.process(testing::lines(["a", "b"]))?;
    /// assert!(answer.line(0).is_kept());
    /// # Ok(())
    /// # }
    /// ```
    pub fn process(&mut self, batch: Batch) -> Result<Answer> {
        let verdict = self
            .instance
            .process(batch.raw.clone())
            .map_err(Error::new)?;
        Answer::check(batch, verdict)
    }
}

impl<P: Metrics> Harness<P> {
    /// The names of the plugin's collectors, in order.
    ///
    /// ```no_run
    /// # use bulkhead_sdk::{Metrics, Result, testing::Harness};
    /// # fn test<MyPlugin: Metrics>() -> Result<()> {
    /// assert_eq!(Harness::<MyPlugin>::new("{}")?.collectors()?, ["loadavg", "stat"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn collectors(&mut self) -> Result<Vec<String>> {
        let collectors = self.instance.collectors().map_err(Error::new)?;
        Ok(collectors.into_iter().map(|each| each.name).collect())
    }

    /// Runs one collector on those of `files` that it wants, and checks its answer as the host would.
    ///
    /// ```no_run
    /// # use bulkhead_sdk::{Metrics, Result, testing::{Files, Harness}};
    /// # fn test<MyPlugin: Metrics>() -> Result<()> {
    /// let files = Files::new().file("/proc/loadavg", "0.25 0.5 1 1/100 42\n");
    /// let found = Harness::<MyPlugin>::new("{}")?.collect("loadavg", &files)?;
    /// assert_eq!(found.value("node_load1"), Some(0.25));
    /// # Ok(())
    /// # }
    /// ```
    pub fn collect(&mut self, collector: &str, files: &Files) -> Result<Found> {
        self.collect_after(collector, files, &[])
    }

    /// The same, in a collection in which other collectors came before.
    ///
    /// ```no_run
    /// # use bulkhead_sdk::{Metrics, Result, metrics::Outcome, testing::{Files, Harness}};
    /// # fn test<MyPlugin: Metrics>() -> Result<()> {
    /// let before = [Outcome { collector: 0, ok: false, seconds: 0.5 }];
    /// Harness::<MyPlugin>::new("{}")?.collect_after("scrape", &Files::new(), &before)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn collect_after(
        &mut self,
        collector: &str,
        files: &Files,
        outcomes: &[Outcome],
    ) -> Result<Found> {
        let collectors = self.instance.collectors().map_err(Error::new)?;
        let index = collectors
            .iter()
            .position(|each| each.name == collector)
            .ok_or_else(|| Error::new(format!("the plugin has no collector {collector:?}")))?;
        let view = files.view(&collectors[index].wants, outcomes)?;
        let families = self
            .instance
            .collect(index as u32, view)
            .map_err(Error::new)?;
        Found::check(&families)
    }
}

impl<P: Enforcement> Harness<P> {
    /// Shows the plugin as much of `node` as it wants to see, and checks its answer as the host would.
    ///
    /// ```no_run
    /// # use bulkhead_sdk::{Enforcement, Result, testing::{Harness, Node}};
    /// # fn test<MyPlugin: Enforcement>() -> Result<()> {
    /// let mut node = Node::new().file("/etc/motd", "Hello\n");
    /// let mut plugin = Harness::<MyPlugin>::new("{}")?;
    /// let planned = plugin.plan(&node)?;
    /// node.apply(&planned)?;
    /// assert!(plugin.plan(&node)?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn plan(&mut self, node: &Node) -> Result<Planned> {
        let outline = self.instance.outline().map_err(Error::new)?;
        let view = node.view(&outline.wants)?;
        let plan = self.instance.plan(view).map_err(Error::new)?;
        Planned::check(outline, plan)
    }
}
