//! Judges the bytes of files by rules.
//!
//! Signatures come first: rules in the language of YARA, in [`yara`], and ClamAV's, in [`clamav`]. The role that feeds them is not
//! part of this crate yet, so it exports nothing; everything here is a plain library.
#![forbid(unsafe_code)]

pub mod archive;
pub mod clamav;
mod plugin;
pub mod yara;

pub use plugin::{Config, SecurityScanner};

bulkhead_sdk::export!(SecurityScanner: Scanning);
