//! Runs a plugin the way the host does.

use super::answer::Answer;
use crate::error::{Error, Result};
use crate::export::Instance;
use crate::logs::{Batch, Logs};
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
