//! `security-scanner`: judges files by signatures and against a baseline, packages by advisories, and how
//! the node is set up (see [`Config`]).
//!
//! Each kind of check is a module with a section of the configuration. What is not in the configuration
//! is not looked at, and nothing has to be granted for it.
#![forbid(unsafe_code)]

pub mod archive;
pub mod clamav;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod documented;
mod integrity;
mod packages;
mod paths;
mod permissions;
mod plugin;
mod posture;
mod signatures;
mod size;
mod source;
pub mod yara;

pub use plugin::{Config, SecurityScanner};

bulkhead_sdk::export!(SecurityScanner: Scanning);
