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
/// ```
pub trait Logs: Plugin {
    /// Called once before the first batch, with the names of the manifest's destinations, so that a
    /// plugin that routes can refuse a name that does not exist.
    fn start(&mut self, _destinations: &[String]) -> Result<()> {
        Ok(())
    }

    /// Decides about a batch. A line that `out` is not told about is filtered out, and counted.
    ///
    /// An error is a failed call: the host keeps the batch and tries again on a fresh instance. For
    /// a line that the plugin cannot make sense of, keep it or drop it; do not fail.
    fn process(&mut self, batch: &Batch, out: &mut Output) -> Result<()>;
}
