//! The role `metrics`: files of the node in, metric families out.

mod collector;
mod families;
mod view;

pub use collector::{Collector, Look};
pub use families::{Families, FamilyId, Kind};
pub use view::{Entry, Outcome, View};

use crate::error::Result;
use crate::plugin::Plugin;

/// A plugin that measures.
///
/// ```
/// use bulkhead_sdk::{Collector, Context, Families, Metrics, NoConfig, Plugin, Result, View};
///
/// struct Load;
///
/// impl Plugin for Load {
///     type Config = NoConfig;
///     fn new(_: NoConfig) -> Result<Self> {
///         Ok(Load)
///     }
/// }
///
/// impl Metrics for Load {
///     fn collectors(&mut self) -> Result<Vec<Collector>> {
///         Ok(vec![Collector::new("loadavg").content("/proc/loadavg")])
///     }
///
///     fn collect(&mut self, _: usize, view: &View, out: &mut Families) -> Result<()> {
///         let text = view.text("/proc/loadavg")?;
///         let first = text.split(' ').next().unwrap_or_default();
///         let load = out.gauge("node_load1", "1m load average.");
///         out.add(load, &[], first.parse().context("the first field")?);
///         Ok(())
///     }
/// }
/// bulkhead_sdk::export!(Load: Metrics);
///
/// use bulkhead_sdk::testing::{Files, Harness};
/// let files = Files::new().file("/proc/loadavg", "0.25 0.5 1 1/100 42\n");
/// let found = Harness::<Load>::new("{}")?.collect("loadavg", &files)?;
/// assert_eq!(found.value("node_load1"), Some(0.25));
/// # Result::<()>::Ok(())
/// ```
pub trait Metrics: Plugin {
    /// The parts that succeed, fail and take their time on their own, in the order in which they are
    /// called. Asked once, before the first collection.
    ///
    /// ```
    /// use bulkhead_sdk::{Collector, Metrics, NoConfig, Plugin, Result, testing::Harness};
    /// # use bulkhead_sdk::{Families, View};
    ///
    /// struct Kernel;
    /// # impl Plugin for Kernel {
    /// #     type Config = NoConfig;
    /// #     fn new(_: NoConfig) -> Result<Self> { Ok(Kernel) }
    /// # }
    /// impl Metrics for Kernel {
    ///     fn collectors(&mut self) -> Result<Vec<Collector>> {
    ///         Ok(vec![
    ///             Collector::new("loadavg").content("/proc/loadavg"),
    ///             Collector::new("stat").content("/proc/stat"),
    ///         ])
    ///     }
    /// #   fn collect(&mut self, _: usize, _: &View, _: &mut Families) -> Result<()> { Ok(()) }
    /// }
    ///
    /// assert_eq!(Harness::<Kernel>::new("{}")?.collectors()?, ["loadavg", "stat"]);
    /// # Result::<()>::Ok(())
    /// ```
    fn collectors(&mut self) -> Result<Vec<Collector>>;

    /// Runs one collector, by its index in what [`Self::collectors`] returned.
    ///
    /// An error fails this collector in this collection, and is reported with its message. For a file
    /// that makes no sense, leave its series out; fail if nothing is left.
    ///
    /// ```
    /// use bulkhead_sdk::{Families, Metrics, NoConfig, Plugin, Result, View};
    /// use bulkhead_sdk::testing::{Files, Harness};
    /// # use bulkhead_sdk::Collector;
    ///
    /// struct Uptime;
    /// # impl Plugin for Uptime {
    /// #     type Config = NoConfig;
    /// #     fn new(_: NoConfig) -> Result<Self> { Ok(Uptime) }
    /// # }
    /// impl Metrics for Uptime {
    /// #   fn collectors(&mut self) -> Result<Vec<Collector>> {
    /// #       Ok(vec![Collector::new("uptime").content("/proc/uptime")])
    /// #   }
    ///     fn collect(&mut self, _: usize, view: &View, out: &mut Families) -> Result<()> {
    ///         let text = view.text("/proc/uptime")?;
    ///         let uptime = out.gauge("uptime_seconds", "Time since the node started.");
    ///         out.add(uptime, &[], text.split(' ').next().unwrap_or_default().parse()?);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut plugin = Harness::<Uptime>::new("{}")?;
    /// let found = plugin.collect("uptime", &Files::new().file("/proc/uptime", "12.5 20.0\n"))?;
    /// assert_eq!(found.value("uptime_seconds"), Some(12.5));
    /// assert!(plugin.collect("uptime", &Files::new()).is_err());
    /// # Result::<()>::Ok(())
    /// ```
    fn collect(&mut self, collector: usize, view: &View, out: &mut Families) -> Result<()>;
}
