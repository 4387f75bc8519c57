//! A change as the host understands it: what a plugin returned, once it has been checked. Nothing here
//! looks at the node.

use std::sync::Arc;

use super::effects::Subject;
use crate::manifest::{ModuleName, NodePath, SysctlName, UnitName};

/// One change of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Unique in the plan, stable.
    pub id: Arc<str>,
    /// The rule that is broken without it: an index.
    pub rule: Option<u32>,
    /// For people.
    pub reason: String,
    /// What is done.
    pub action: Action,
    /// Whether nobody may be shown the content.
    pub secret: bool,
}

/// A change that is made once, after all others, if one of some was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// What is done.
    pub change: Change,
    /// The ids of those.
    pub when_changed: Vec<Arc<str>>,
}

/// What is done to the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Writes a file, or changes only its permissions.
    WriteFile {
        /// Which; a symbolic link there is replaced.
        path: NodePath,
        /// All of it; none leaves the content as it is.
        content: Option<Vec<u8>>,
        /// Who may use it.
        permissions: Permissions,
    },
    /// Makes a folder, or changes its permissions.
    MakeDirectory {
        /// Which.
        path: NodePath,
        /// Who may use it.
        permissions: Permissions,
    },
    /// Makes a symbolic link.
    MakeSymlink {
        /// Where.
        path: NodePath,
        /// Where it points to.
        target: String,
    },
    /// Removes a file, a link or an empty folder.
    Remove {
        /// Which.
        path: NodePath,
    },
    /// Sets a kernel setting.
    SetSysctl {
        /// Which.
        name: SysctlName,
        /// To what.
        value: String,
        /// Set it now.
        now: bool,
        /// Have it set at the node's next start.
        persist: bool,
    },
    /// Loads a kernel module.
    LoadModule {
        /// Which.
        name: ModuleName,
    },
    /// Has a kernel module loaded at the node's start.
    LoadModuleAtStart {
        /// Which.
        name: ModuleName,
    },
    /// Has a kernel module never loaded.
    BlacklistModule {
        /// Which.
        name: ModuleName,
    },
    /// Changes a systemd unit.
    ChangeUnit {
        /// Which.
        name: UnitName,
        /// How.
        verb: UnitVerb,
    },
}

/// Who a file belongs to and who may use it; what is not given stays, or is root's for a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Permissions {
    /// At most `0o7777`.
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
}

/// What is done to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "as systemctl(1) has them")]
pub enum UnitVerb {
    Enable,
    Disable,
    Start,
    Stop,
    Restart,
    Reload,
    Mask,
    Unmask,
}

impl Action {
    /// What only one change of a plan may touch.
    pub(super) fn place(&self) -> String {
        let subject = Subject::of(self);
        match self {
            Self::WriteFile { .. }
            | Self::MakeDirectory { .. }
            | Self::MakeSymlink { .. }
            | Self::Remove { .. } => subject.to_string(),
            Self::SetSysctl { .. } => format!("sysctl {subject}"),
            Self::LoadModule { .. } => format!("module {subject} now"),
            Self::LoadModuleAtStart { .. } | Self::BlacklistModule { .. } => {
                format!("module {subject} at start")
            }
            Self::ChangeUnit { verb, .. } => match verb {
                UnitVerb::Enable | UnitVerb::Disable => format!("unit {subject} at start"),
                UnitVerb::Mask | UnitVerb::Unmask => format!("unit {subject} mask"),
                UnitVerb::Start | UnitVerb::Stop | UnitVerb::Restart | UnitVerb::Reload => {
                    format!("unit {subject} now")
                }
            },
        }
    }
}
