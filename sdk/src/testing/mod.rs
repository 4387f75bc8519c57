//! Testing a plugin: make a batch, run the plugin on it, look at what
//! became of each line. Or make a node, have the plugin plan, and apply what it planned; or have it scan
//! the node: see [`Node`].
//!
//! ```
//! use bulkhead_sdk::{Batch, Logs, NoConfig, Output, Plugin, Result, testing};
//!
//! struct Loud;
//! # impl Plugin for Loud {
//! #     type Config = NoConfig;
//! #     fn new(_: NoConfig) -> Result<Self> { Ok(Loud) }
//! # }
//! impl Logs for Loud {
//!     fn process(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
//!         for line in batch.lines().filter(|line| !line.bytes().is_empty()) {
//!             out.rewrite(line, &line.bytes().to_ascii_uppercase());
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let mut plugin = testing::Harness::<Loud>::new("{}")?;
//! let answer = plugin.process(testing::lines(["hello", ""]))?;
//! assert_eq!(answer.line(0).body_text(), "HELLO");
//! assert!(answer.line(1).is_dropped());
//! # bulkhead_sdk::Result::<()>::Ok(())
//! ```
//!
//! `bulkhead plugin test` runs the same tests a second time with the component inside the real sandbox: [`Harness`]
//! then calls it there, and what it imports is answered by the same fakes.
//!
//! The host's side is fake and belongs to the current thread: [`take_log`], [`reset_state`],
//! [`set_facts`]. Not available when compiled for the sandbox.

mod answer;
mod backend;
mod build;
pub(crate) mod fakes;
mod files;
mod found;
mod harness;
mod judged;
mod node;
mod planned;
mod remote;
mod wire;

pub use answer::{Answer, Outcome, Record, SentPayload};
pub use build::{BatchBuilder, lines};
pub use fakes::{
    LogRecord, reset_state, set_clock, set_facts, set_filesystems, set_log_level, set_system_name,
    set_time_zone, take_log,
};
pub use files::Files;
pub use found::Found;
pub use harness::Harness;
pub use judged::{Judged, JudgedFinding};
pub use node::Node;
pub use planned::{Planned, Verdict};
