//! Tells what it does through the crates `log` and `tracing`, as libraries do.
use bulkhead_sdk::{Batch, Logs, NoConfig, Output, Plugin, Result};

struct Facades;

impl Plugin for Facades {
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Facades)
    }
}

impl Logs for Facades {
    fn process(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
        let lines = batch.lines().len();
        log::info!(lines; "through log");
        log::debug!("nobody wants to know");
        let _batch = tracing::warn_span!("batch", lines).entered();
        tracing::error!(kind = "sad", "through tracing");
        out.keep_all(batch);
        Ok(())
    }
}

bulkhead_sdk::export!(Facades: Logs);
