//! The node as it is, for plugins that assess it: processes, sockets, users, the kernel's modules and
//! settings, and files, each only if it is wanted and granted. Facts and never secrets: no environment and
//! no memory of a process, arguments only of programs that the grant names, of a password only whether
//! there is one.
//!
//! All of it is hostile input: processes vanish while they are looked at, names hold anything. What cannot
//! be read is counted, and the rest is shown. Everything here blocks: async callers go through
//! `spawn_blocking`.

mod kernel_modules;
mod processes;
mod procfs;
mod seen;
mod sockets;
mod users;
mod want;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::node_files::{Reader, TooMuch};
use crate::sandbox::NodeFolders;
use procfs::Procfs;
pub use seen::{Seen, Troubles};
pub use want::{Unseen, Wants};

/// The longest that one look takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks at one node; clones are cheap.
#[derive(Debug, Clone)]
pub struct Looker {
    /// Where the node's root folder is.
    root: Arc<Path>,
    reader: Reader,
}

impl Looker {
    /// Of the node with these folders.
    pub fn of(folders: &NodeFolders) -> Self {
        Self {
            root: Arc::clone(&folders.root),
            reader: Reader::of(folders),
        }
    }

    /// Looks at all that is wanted. Blocks.
    ///
    /// # Errors
    /// If the files are too much. All else that goes wrong is counted.
    pub fn look(&self, wants: &Wants) -> Result<Seen, TooMuch> {
        let until = Instant::now() + PATIENCE;
        let mut seen = Seen::default();
        let procfs = Procfs::open(&self.root);
        if wants.processes || wants.sockets {
            let pids = procfs.pids(&mut seen.troubles);
            if wants.processes {
                seen.processes =
                    processes::look(&procfs, &pids, &wants.arguments_of, &mut seen.troubles);
            }
            if wants.sockets {
                seen.sockets = sockets::look(&procfs, &pids, until, &mut seen.troubles);
            }
        }
        if wants.users {
            seen.users = users::look(&self.root, &mut seen.troubles);
        }
        if wants.kernel_modules {
            seen.kernel_modules = kernel_modules::look(&procfs, &self.root, &mut seen.troubles);
        }
        for (spelled, name) in &wants.sysctls {
            let value = procfs.setting(name, &mut seen.troubles);
            seen.sysctls.push((spelled.clone(), value));
        }
        seen.look_at_files(&self.reader, &wants.files, until)?;
        Ok(seen)
    }
}

#[cfg(test)]
mod tests;
