//! The role `logs`: batches of lines in, decisions out.

mod batch;
mod edit;
mod output;

pub use batch::{Batch, Line, Lines, Source};
pub use edit::{Body, Edit, Payload};
pub use output::Output;

use crate::error::Result;
use crate::plugin::Plugin;

/// A plugin that decides about log lines.
///
/// ```
/// use bulkhead_sdk::{Batch, Logs, NoConfig, Output, Plugin, Result};
///
/// struct NotEmpty;
///
/// impl Plugin for NotEmpty {
///     type Config = NoConfig;
///     fn new(_: NoConfig) -> Result<Self> {
///         Ok(NotEmpty)
///     }
/// }
///
/// impl Logs for NotEmpty {
///     fn process(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
///         for line in batch.lines().filter(|line| !line.bytes().is_empty()) {
///             out.keep(line);
///         }
///         Ok(())
///     }
/// }
/// bulkhead_sdk::export!(NotEmpty: Logs);
///
/// use bulkhead_sdk::testing::{Harness, lines};
/// let answer = Harness::<NotEmpty>::new("{}")?.process(lines(["a", "", "b"]))?;
/// assert_eq!(answer.kept(), [0, 2]);
/// # Result::<()>::Ok(())
/// ```
pub trait Logs: Plugin {
    /// Called once before the first batch, with the names of the manifest's destinations, so that a
    /// plugin that routes can refuse a name that does not exist.
    ///
    /// ```
    /// use bulkhead_sdk::{Batch, Logs, NoConfig, Output, Plugin, Result, testing::Harness};
    ///
    /// struct Errors;
    /// # impl Plugin for Errors {
    /// #     type Config = NoConfig;
    /// #     fn new(_: NoConfig) -> Result<Self> { Ok(Errors) }
    /// # }
    /// impl Logs for Errors {
    ///     fn start(&mut self, destinations: &[String]) -> Result<()> {
    ///         if !destinations.iter().any(|name| name == "errors") {
    ///             bulkhead_sdk::bail!("the plugin routes to `errors`; name one of the destinations so");
    ///         }
    ///         Ok(())
    ///     }
    /// #   fn process(&mut self, _: &Batch, _: &mut Output) -> Result<()> { Ok(()) }
    /// }
    ///
    /// let mut plugin = Harness::<Errors>::new("{}")?;
    /// assert!(plugin.start(&["archive"]).is_err());
    /// assert!(plugin.start(&["archive", "errors"]).is_ok());
    /// # Result::<()>::Ok(())
    /// ```
    fn start(&mut self, _destinations: &[String]) -> Result<()> {
        Ok(())
    }

    /// Decides about a batch. A line that `out` is not told about is filtered out, and counted.
    ///
    /// An error is a failed call: the host keeps the batch and tries again on a fresh instance. For
    /// a line that the plugin cannot make sense of, keep it or drop it; do not fail.
    ///
    /// ```
    /// use bulkhead_sdk::{Batch, Logs, NoConfig, Output, Plugin, Result, testing};
    ///
    /// struct Stderr;
    /// # impl Plugin for Stderr {
    /// #     type Config = NoConfig;
    /// #     fn new(_: NoConfig) -> Result<Self> { Ok(Stderr) }
    /// # }
    /// impl Logs for Stderr {
    ///     fn process(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
    ///         out.keep_if(batch, |line| line.is_stderr());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let batch = testing::BatchBuilder::new().line("fine").stderr("broken").build();
    /// let answer = testing::Harness::<Stderr>::new("{}")?.process(batch)?;
    /// assert_eq!(answer.kept(), [1]);
    /// # Result::<()>::Ok(())
    /// ```
    fn process(&mut self, batch: &Batch, out: &mut Output) -> Result<()>;
}
