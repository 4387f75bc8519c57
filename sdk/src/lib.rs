//! Write plugins for the Bulkhead node daemon.
//!
//! A plugin decides, the daemon acts: it is called with what there is on the node and returns what it
//! wants, so it needs no privileges and can be tested as a function. This is a whole one, a filter:
//!
//! ```
//! use bulkhead_sdk::{Batch, Logs, Output, Plugin, Result};
//!
//! /// Keeps the lines that contain a text.
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Grep {
//!     /// The text.
//!     contains: String,
//! }
//!
//! impl Plugin for Grep {
//!     type Config = Self;
//!     fn new(config: Self) -> Result<Self> {
//!         Ok(config)
//!     }
//! }
//!
//! impl Logs for Grep {
//!     fn process(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
//!         let wanted = |text: &str| text.contains(&self.contains);
//!         out.keep_if(batch, |line| line.text().is_some_and(wanted));
//!         Ok(())
//!     }
//! }
//!
//! bulkhead_sdk::export!(Grep: Logs);
//! # let mut grep = bulkhead_sdk::testing::Harness::<Grep>::new(r#"{"contains":"b"}"#)?;
//! # assert_eq!(grep.process(bulkhead_sdk::testing::lines(["a", "b"]))?.kept(), [1]);
//! # Ok::<(), bulkhead_sdk::Error>(())
//! ```
//!
//! `bulkhead plugin new NAME --role logs` makes a crate like this; there, `bulkhead plugin run` shows what it does
//! each time that a file is saved, `bulkhead plugin test` runs its tests natively and inside the sandbox, and
//! `bulkhead plugin build` makes the module that a manifest names. By hand: `crate-type = ["cdylib", "rlib"]` (the
//! second one for tests), the dependencies `bulkhead-sdk`, `serde` with `derive`, and `schemars` 1, and
//! `cargo build --release --target wasm32-wasip2`.
//!
//! The features `log` and `tracing` lead records of the crates of these names to the daemon's log: see [`mod@log`].
//!
//! What else there is:
//! - [`Output`]: rewrite, enrich, route, or encode lines, beside keeping and dropping them;
//! - [`info!`], [`warn!`] and so on: records in the daemon's log;
//! - [`Metrics`]: a plugin that measures: files of the node in, metric families out;
//! - [`Enforcement`]: a plugin that keeps the node as it should be: how it is in, changes out;
//! - [`Scanning`]: a plugin that judges files and the node as it is: what there is in, findings out;
//! - [`state`]: a durable store of the plugin's own; [`node`] and [`node_stats`]: facts about the
//!   node, and what only system calls tell. Each needs a grant;
//! - `std::fs`, below the folders that the manifest grants; `std::time`;
//! - [`testing`]: unit tests, which run natively and inside the sandbox.
//!
//! A panic ends the instance, not the daemon: its message is in the plugin's status, and a fresh
//! instance gets the same batch again.
#![deny(unsafe_code)]

extern crate self as bulkhead_sdk;

#[doc(hidden)]
pub mod bindings;
pub mod enforcement;
mod error;
mod export;
mod host;
mod json;
pub mod log;
pub mod logs;
pub mod metrics;
pub mod node;
pub mod node_stats;
mod plugin;
pub mod scanning;
pub mod state;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use enforcement::{Enforcement, Outline, Plan};
pub use error::{Context, Error, Result};
pub use json::ToJson;
pub use logs::{Batch, Line, Logs, Output};
pub use metrics::{Collector, Families, Metrics, View};
pub use plugin::{Configuration, NoConfig, Plugin, Snapshot};
pub use scanning::{Findings, Scanning};

/// What [`export!`] expands to needs; no part of the API.
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings;
    pub use crate::bindings::enforcement::exports::bulkhead::plugin::enforcement;
    pub use crate::bindings::lifecycle::exports::bulkhead::plugin::lifecycle;
    pub use crate::bindings::logs::exports::bulkhead::plugin::logs;
    pub use crate::bindings::metrics::exports::bulkhead::plugin::metrics;
    pub use crate::bindings::scanning::exports::bulkhead::plugin::scanning;
    pub use crate::export::{Instance, describe, is_enforcement, is_logs, is_metrics, is_scanning};
    pub use wit_bindgen;
}
