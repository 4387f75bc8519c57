//! The role `logs`: tail files, ask the plugin, deliver what it keeps, and forget a line only when
//! every destination that it was routed to has acknowledged it.

pub(in crate::role) mod abandoned;
mod at_rest;
pub mod batch;
mod catch_up;
pub mod cri;
pub mod dead_letter;
pub mod delivery;
pub mod destination;
mod driver;
pub mod encode;
mod hand_out;
mod ledger;
pub mod output;
mod pipeline;
mod process;
mod queue;
pub mod record_id;
mod report;
pub mod tail;
#[cfg(test)]
mod testing;
mod verdict;

pub use abandoned::purge as purge_queues;
pub use driver::{Context, LogsDriver, LogsStatus};
pub use queue::Home as Queues;
pub use report::LogsReport;
