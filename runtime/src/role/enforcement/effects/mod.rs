//! Looks at the node for a plugin, and changes it. All of it blocks: for threads of their own.
//!
//! A change goes through the same steps whatever its kind: what is there is looked at, and must be what the
//! plan was made of; it is kept, so that it can be put back; what is going to be done goes to the audit log;
//! both are on the disk before anything is done; then what became of it is noted. Changes that do not depend
//! on each other take each step together, so that they wait for the disk together.

mod audit;
mod bus;
mod diff;
mod error;
mod history;
mod kept;
mod kind;
mod meta;
mod modprobe;
mod note;
mod perform;
mod place;
mod preview;
mod recover;
mod state;
mod subject;
mod verify;
mod view;
mod walk;
mod want;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use audit::Audit;
pub use error::Error;
pub use history::Past;
pub use kept::Ended;
pub use kind::TEMPORARY;
pub(crate) use modprobe::{COMMAND as MODPROBE_COMMAND, child as modprobe_child};
pub use perform::{Made, Plan};
pub use preview::Preview;
pub use state::State;
pub use subject::{Subject, verb};
pub use verify::{Broken, Verified, verify};
pub use view::{Seen, TooMuch, Watched};
pub use want::{Unseen, Wants};

use self::bus::Bus;
use self::kept::Kept;
use self::kind::{Desk, Modules, Sysctls};
use self::modprobe::Modprobe;
use self::note::Notes;
use self::place::{Folders, Tree};
use self::view::Window;
use crate::manifest::{Grants, Identity, Keep};
use crate::node_files::Reader;
use crate::sandbox::NodeFolders;

/// The folder of the state folder that holds, by namespace and name, what is kept for plugins.
pub(super) const KEPT: &str = "enforcement";

/// What looking and changing takes.
#[derive(Debug, Clone)]
pub struct Setup<'a> {
    /// The node's root, and what no plugin may see.
    pub folders: &'a NodeFolders,
    /// The daemon's own `/proc`: kernel settings are those of its namespaces.
    pub procfs: &'a Path,
    /// The daemon's state folder.
    pub state: &'a Path,
    /// For whom.
    pub plugin: &'a Identity,
    /// What it may see and change.
    pub grants: &'a Grants,
    /// How much of what was there before is kept.
    pub keep: &'a Keep,
    /// The node's audit log.
    pub audit: Arc<Audit>,
    /// The sockets of the system's D-Bus, in the order in which they are tried.
    pub buses: Vec<PathBuf>,
    /// What runs modprobe: the `bulkhead` executable.
    pub executable: PathBuf,
}

impl<'a> Setup<'a> {
    /// As the daemon has it.
    pub fn of(
        folders: &'a NodeFolders,
        state: &'a Path,
        plugin: &'a Identity,
        grants: &'a Grants,
        keep: &'a Keep,
        audit: Arc<Audit>,
    ) -> Self {
        const SOCKET: &str = "run/dbus/system_bus_socket";
        Self {
            folders,
            procfs: Path::new("/proc"),
            state,
            plugin,
            grants,
            keep,
            audit,
            // In a pod the second is what is mounted there by itself.
            buses: vec![folders.root.join(SOCKET), Path::new("/").join(SOCKET)],
            executable: "/proc/self/exe".into(),
        }
    }
}

/// Looks at the node, and changes it, for one plugin.
pub struct Effects {
    tree: Tree,
    reader: Reader,
    sysctls: Sysctls,
    modules: Modules,
    modprobe: Modprobe,
    buses: Vec<PathBuf>,
    plugin: Identity,
    grants: Grants,
    audit: Arc<Audit>,
    kept: Mutex<Kept>,
    /// Whether nothing more is begun.
    stopped: AtomicBool,
}

impl Effects {
    /// Opens what is kept for a plugin. What was under way when the daemon ended is told from what is there.
    ///
    /// # Errors
    /// If the node's root, or what is kept, cannot be opened.
    pub fn open(setup: Setup<'_>) -> io::Result<Self> {
        let plugin = setup.plugin;
        let folder = Self::folder(setup.state, plugin);
        let effects = Self {
            tree: Tree::open(setup.folders)?,
            reader: Reader::of(setup.folders),
            sysctls: Sysctls::open(setup.procfs)?,
            modules: Modules::new(setup.procfs),
            modprobe: Modprobe::new(setup.executable),
            buses: setup.buses,
            plugin: plugin.clone(),
            grants: setup.grants.clone(),
            audit: setup.audit,
            kept: Mutex::new(Kept::open(&folder, setup.keep.clone())?),
            stopped: AtomicBool::new(false),
        };
        effects.recover();
        Ok(effects)
    }

    /// Where what is kept for a plugin lies.
    pub fn folder(state: &Path, plugin: &Identity) -> PathBuf {
        let folder = state.join(KEPT).join(plugin.namespace());
        folder.join(plugin.name())
    }

    /// Begins no more changes. What has begun ends.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Looks at all that is wanted.
    ///
    /// # Errors
    /// If that is more than anybody gets.
    pub fn look(&self, wants: &Wants) -> Result<Seen, TooMuch> {
        let window = Window {
            tree: &self.tree,
            reader: &self.reader,
            sysctls: &self.sysctls,
            modules: &self.modules,
            sockets: &self.buses,
            plugin: &self.plugin,
        };
        window.look(wants)
    }

    fn desk<'a>(&'a self, seen: Option<&'a Seen>, most: u64) -> Desk<'a> {
        Desk {
            folders: Folders::new(&self.tree, &self.plugin),
            grants: &self.grants.changes,
            seen,
            most,
            sysctls: &self.sysctls,
            modules: &self.modules,
            modprobe: &self.modprobe,
            notes: Notes::new(&self.plugin),
            bus: Bus::new(&self.buses),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
