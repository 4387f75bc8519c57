#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cache;
mod events;
mod hostile;
mod passes;
mod support;
mod there;
mod walk;
