//! The status endpoint: how the node's plugins are, over HTTP, and what they measure. It reads and never
//! changes anything, and waits for guests only where they are scraped. On loopback it is plain and open;
//! elsewhere it has TLS, and the cluster tells who may read.

mod auth;
mod cache;
mod changes;
mod connections;
mod findings;
mod metrics;
mod openapi;
mod page;
mod refusal;
mod report;
mod scrape;
mod server;
mod tls;

pub use report::{LatencyReport, NodeReport, PluginReport, PodsReport, Reporter};
pub use server::{Auth, Error, Options, Server};
