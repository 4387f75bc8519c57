//! The roles that a plugin may have; one room each.

pub mod enforcement;
pub mod logs;
pub mod metrics;
pub mod scanning;
