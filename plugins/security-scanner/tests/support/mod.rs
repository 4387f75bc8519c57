//! Rules made from a seed, and what Debian's `yara` says of files.

#![allow(dead_code, reason = "each program uses a part")]

pub(crate) mod corpus;
pub(crate) mod generate;
pub(crate) mod peer;
