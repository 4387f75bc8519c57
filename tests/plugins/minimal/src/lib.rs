//! Keeps the lines that contain a text: the smallest useful plugin.
use bulkhead_sdk::{Batch, Logs, Output, Plugin, Result};

/// Keeps the lines that contain a text.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Grep {
    /// The text.
    contains: String,
}

impl Plugin for Grep {
    type Config = Self;
    fn new(config: Self) -> Result<Self> {
        Ok(config)
    }
}

impl Logs for Grep {
    fn process(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
        let wanted = |text: &str| text.contains(&self.contains);
        out.keep_if(batch, |line| line.text().is_some_and(wanted));
        Ok(())
    }
}

bulkhead_sdk::export!(Grep: Logs);
