//! The role `logs`: tail files, ask the plugin, deliver what it keeps, and forget a line only when
//! every destination that it was routed to has acknowledged it.

pub mod batch;
pub mod cri;
mod driver;
mod ledger;
pub mod output;
mod process;
mod report;
pub mod tail;
mod verdict;

pub use driver::{Context, LogsDriver, LogsStatus};
pub use report::LogsReport;
