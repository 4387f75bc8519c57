//! A plugin's bytes: where they come from, whether they are what the manifest says, and their
//! compiled form. Nothing here instantiates anything.

mod bundled;
mod cache;
mod compile;
mod fetch;
mod parts;

pub use bundled::{Bundled, bundled};
pub(crate) use cache::SUFFIX as COMPILED;
pub use cache::{Cache, CacheError};
pub(crate) use compile::{COMMAND as COMPILE_COMMAND, child as compile_child};
pub use compile::{CompileError, Compiler};
pub(crate) use fetch::named;
pub use fetch::{Digest, FetchError, Module, assemble, fetch};
pub use parts::{PartError, Parts, gather};
