//! Kills the daemon through a host function that only test builds have.
use bulkhead_sdk::{Batch, Logs, Output, Plugin, Result};

/// The import `bulkhead:test/faults`.
#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code, unreachable_pub, missing_docs, reason = "generated code")]
mod bindings {
    wit_bindgen::generate!({
        inline: "package fixture:killer; world killer { import bulkhead:test/faults@0.1.0; }",
        path: "wit",
        generate_all,
    });
}

/// When it kills.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Killer {
    /// Kill when a line contains this text; at the first batch unless given.
    #[serde(default)]
    marker: String,
}

impl Plugin for Killer {
    type Config = Self;
    fn new(config: Self) -> Result<Self> {
        Ok(config)
    }
}

impl Logs for Killer {
    fn process(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
        let marked = |text: &str| text.contains(&self.marker);
        if batch.lines().any(|line| line.text().is_some_and(marked)) {
            #[cfg(target_arch = "wasm32")]
            bindings::bulkhead::test::faults::kill();
        }
        out.keep_all(batch);
        Ok(())
    }
}

bulkhead_sdk::export!(Killer: Logs);
