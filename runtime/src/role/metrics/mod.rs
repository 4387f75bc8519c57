//! The role `metrics`: read what a plugin's collectors want, ask them one after the other, check what
//! they found, and serve it in the formats of Prometheus or push it.

mod collect;
mod collection;
mod driver;
mod exposition;
mod found;
mod plan;
mod remote_write;
mod report;
mod scrape;

pub use driver::{Context, MetricsDriver, MetricsStatus, prepare};
pub use exposition::Format;
pub use remote_write::{Context as RemoteWriteContext, RemoteWriteStatus};
pub use report::{CollectorReport, MetricsReport};
pub use scrape::{Asked, Scraped, Target, scrape};
