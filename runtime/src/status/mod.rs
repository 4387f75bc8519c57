//! The status endpoint: how the node's plugins are, over HTTP, on loopback. It reads and never
//! changes anything, and never waits for a guest.

mod metrics;
mod openapi;
mod page;
mod report;
mod server;

pub use report::{LatencyReport, NodeReport, PluginReport, PodsReport, Reporter};
pub use server::{Error, Server};
