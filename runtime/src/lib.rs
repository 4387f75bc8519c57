//! The Bulkhead node daemon, as a library for its binary and its tests.

mod allocator;
mod cgroup;
mod child;
pub mod cli;
pub mod control;
pub mod daemon;
pub mod failpoint;
mod handover;
pub mod kubernetes;
mod lock;
pub mod manifest;
pub mod module;
pub mod node_files;
pub mod plugin;
pub mod role;
pub mod sandbox;
pub mod source;
pub mod state;
pub mod status;
