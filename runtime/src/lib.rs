//! The Bulkhead node daemon, as a library for its binary and its tests.

pub mod failpoint;
pub mod manifest;
pub mod role;
pub mod source;
pub mod state;
