//! The role `scanning`: files and facts of the node in, findings out.

pub mod feed;
pub mod findings;
pub mod snapshot;
