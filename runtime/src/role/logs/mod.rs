//! The role `logs`: tail files, ask the plugin, deliver what it keeps, and forget a line only when
//! every destination that it was routed to has acknowledged it.

pub mod batch;
pub mod dead_letter;
pub mod delivery;
pub mod destination;
pub mod encode;
pub mod output;
#[cfg(test)]
mod testing;
