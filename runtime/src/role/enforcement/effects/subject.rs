//! What a change is made to.

use std::fmt;

use crate::manifest::{ModuleName, NodePath, SysctlName, UnitName};
use crate::role::enforcement::{Action, UnitVerb};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "they are what they are called")]
pub enum Subject {
    Path(NodePath),
    Sysctl(SysctlName),
    KernelModule(ModuleName),
    Unit(UnitName),
}

impl Subject {
    /// Of an action.
    pub fn of(action: &Action) -> Self {
        match action {
            Action::WriteFile { path, .. }
            | Action::MakeDirectory { path, .. }
            | Action::MakeSymlink { path, .. }
            | Action::Remove { path } => Self::Path(path.clone()),
            Action::SetSysctl { name, .. } => Self::Sysctl(name.clone()),
            Action::LoadModule { name }
            | Action::LoadModuleAtStart { name }
            | Action::BlacklistModule { name } => Self::KernelModule(name.clone()),
            Action::ChangeUnit { name, .. } => Self::Unit(name.clone()),
        }
    }

    /// Reads what [`Self::scheme`] and `to_string` gave.
    pub(super) fn read(scheme: &str, text: &str) -> Option<Self> {
        match scheme {
            "path" => NodePath::parse(text).ok().map(Self::Path),
            "sysctl" => SysctlName::parse(text).ok().map(Self::Sysctl),
            "kernel-module" => ModuleName::parse(text).ok().map(Self::KernelModule),
            "unit" => UnitName::parse(text).ok().map(Self::Unit),
            _ => None,
        }
    }

    /// Which of them it is.
    pub(super) fn scheme(&self) -> &'static str {
        match self {
            Self::Path(_) => "path",
            Self::Sysctl(_) => "sysctl",
            Self::KernelModule(_) => "kernel-module",
            Self::Unit(_) => "unit",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{path}"),
            Self::Sysctl(name) => write!(f, "{name}"),
            Self::KernelModule(name) => write!(f, "{name}"),
            Self::Unit(name) => write!(f, "{name}"),
        }
    }
}

/// What is done, in one word.
pub fn verb(action: &Action) -> &'static str {
    match action {
        Action::WriteFile {
            content: Some(_), ..
        } => "write-file",
        Action::WriteFile { content: None, .. } => "set-permissions",
        Action::MakeDirectory { .. } => "make-directory",
        Action::MakeSymlink { .. } => "make-symlink",
        Action::Remove { .. } => "remove",
        Action::SetSysctl { .. } => "set-sysctl",
        Action::LoadModule { .. } => "load-module",
        Action::LoadModuleAtStart { .. } => "load-module-at-start",
        Action::BlacklistModule { .. } => "blacklist-module",
        Action::ChangeUnit { verb, .. } => match verb {
            UnitVerb::Enable => "enable-unit",
            UnitVerb::Disable => "disable-unit",
            UnitVerb::Start => "start-unit",
            UnitVerb::Stop => "stop-unit",
            UnitVerb::Restart => "restart-unit",
            UnitVerb::Reload => "reload-unit",
            UnitVerb::Mask => "mask-unit",
            UnitVerb::Unmask => "unmask-unit",
        },
    }
}
