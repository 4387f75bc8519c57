//! The tail as its caller sees it, on real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;
mod multiline;
mod pods;
mod rotation;
mod starting;
mod streams;
