//! What the daemon remembers across its own death: how far each file was shipped, plugins' key-value
//! pairs, when a plugin was first seen, and small records of the daemon's own.
//!
//! One file, `STATE/bulkhead.redb`, one transaction a commit. A commit is on the disk when it
//! returns, whole or not at all. Nothing here knows what a checkpoint means, enforces a quota or
//! decides when to write. Every call may block on the disk: async callers go through
//! `spawn_blocking`.

mod codec;
mod commit;
mod error;
mod file;
mod handle;
mod plugins;
mod store;
mod values;

pub use codec::{Checkpoint, FileId, Fingerprint, Footprint};
pub use commit::Commit;
pub use error::Error;
pub(crate) use error::Fault;
pub use file::SetAside;
pub(crate) use handle::{Handle, existing};
pub use plugins::{FirstSeen, PluginRecord, RETENTION};
pub use store::{Opened, Store};
pub use values::Values;

#[cfg(test)]
mod tests;
