//! `log-shipper`: parses, filters, samples, routes, redacts and reshapes log lines, all by
//! configuration (see [`Config`]).
//!
//! Nothing is allocated for a line, and no document is built of it: a line that nothing changes goes
//! on as it came, and one that something changes is put together from spans of what was written.

mod condition;
mod config;
mod edit;
mod json;
mod logfmt;
mod parse;
mod pattern;
mod record;
mod redact;
mod sample;
mod shipper;
mod time;

pub use config::Config;
pub use shipper::Shipper;

bulkhead_sdk::export!(Shipper: Logs);
