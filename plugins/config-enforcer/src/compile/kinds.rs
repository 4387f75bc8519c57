//! The kinds of resources, compiled.

use bulkhead_sdk::enforcement::Outline;
use regex_lite::Regex;

use super::{Subject, Want, paths};
use crate::config::{self, Accept, IfMissing, KernelModule, ModuleState, Owner, Symlink, Unit};
use crate::edit::Edit;
use crate::expression::Template;

/// What a resource says.
#[derive(Debug)]
pub(crate) enum Kind {
    Whole(Whole),
    Edit(EditFile),
    Permissions(PermissionRule),
    Directory(PermissionRule),
    Symlink(Symlink),
    Absent(Absence),
    Sysctl(SysctlRule),
    Module(KernelModule),
    Unit(Unit),
    Lookout(Lookout),
}

/// A whole file.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) path: String,
    pub(crate) content: Content,
    pub(crate) permissions: PermissionRule,
    pub(crate) secret: bool,
    pub(crate) present: bool,
}

#[derive(Debug)]
pub(crate) enum Content {
    Any,
    Text(String),
    Template(Template),
}

/// A part of a file.
#[derive(Debug)]
pub(crate) struct EditFile {
    pub(crate) path: String,
    pub(crate) edit: Edit,
    pub(crate) if_missing: IfMissing,
    pub(crate) secret: bool,
    /// Settings in different formats do not go together.
    pub(crate) format: Option<config::Format>,
}

/// Who may use what is at a path.
#[derive(Debug, Clone)]
pub(crate) struct PermissionRule {
    pub(crate) path: String,
    pub(crate) mode: Option<u32>,
    pub(crate) max_mode: Option<u32>,
    pub(crate) owner: Option<Owner>,
    pub(crate) group: Option<Owner>,
    pub(crate) want: Want,
}

/// What should not be there.
#[derive(Debug)]
pub(crate) struct Absence {
    pub(super) path: String,
    pub(super) recursive: bool,
    pub(crate) wants: [Want; 2],
}

/// A kernel setting.
#[derive(Debug)]
pub(crate) struct SysctlRule {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) accept: Option<Accept>,
    pub(crate) now: bool,
    pub(crate) persist: bool,
    pub(crate) if_missing: IfMissing,
}

/// What lines files must have.
#[derive(Debug)]
pub(crate) struct Lookout {
    pub(super) paths: Vec<String>,
    pub(crate) some_line: Option<Regex>,
    pub(crate) no_line: Option<Regex>,
    pub(crate) except: Option<Regex>,
    pub(crate) if_missing: IfMissing,
    pub(crate) wants: Vec<Want>,
}

impl Kind {
    /// What it is about, given its index among the items.
    pub(super) fn subject(&self, index: usize) -> Subject {
        match (self.path(), self) {
            (Some(path), _) => Subject::Path(path.to_owned()),
            (None, Kind::Sysctl(it)) => Subject::Sysctl(it.name.clone()),
            (None, Kind::Module(it)) => Subject::Module(it.name.replace('-', "_")),
            (None, Kind::Unit(it)) => Subject::Unit(it.name.clone()),
            (None, _) => Subject::Item(index),
        }
    }

    /// The one path that it is about.
    pub(super) fn path(&self) -> Option<&str> {
        match self {
            Kind::Whole(it) => Some(&it.path),
            Kind::Edit(it) => Some(&it.path),
            Kind::Directory(it) => Some(&it.path),
            Kind::Symlink(it) => Some(&it.path),
            Kind::Permissions(it) if !paths::is_glob(&it.path) => Some(&it.path),
            _ => None,
        }
    }

    /// What it says of permissions.
    pub(crate) fn permissions(&self) -> Option<&PermissionRule> {
        match self {
            Kind::Whole(it) => Some(&it.permissions),
            Kind::Permissions(it) | Kind::Directory(it) => Some(it),
            _ => None,
        }
    }

    pub(super) fn title(&self) -> String {
        match self {
            Kind::Whole(it) if it.present => format!("{} is as declared", it.path),
            Kind::Whole(it) => format!("{} is not there", it.path),
            Kind::Edit(it) => format!("{} has what is declared", it.path),
            Kind::Permissions(it) => format!("{} belongs to whom it should", it.path),
            Kind::Directory(it) => format!("{} is a folder", it.path),
            Kind::Symlink(it) => format!("{} points to {}", it.path, it.target),
            Kind::Absent(it) => format!("{} is not there", it.path),
            Kind::Sysctl(it) => format!("{} is {}", it.name, it.value),
            Kind::Module(it) => match it.state {
                ModuleState::Loaded => format!("the kernel module {} is loaded", it.name),
                ModuleState::Blacklisted => {
                    format!("the kernel module {} is never loaded", it.name)
                }
            },
            Kind::Unit(it) => format!("{} is in the state declared", it.name),
            Kind::Lookout(it) => format!("{} has the lines that it should", it.paths.join(", ")),
        }
    }

    /// How much of the node it looks at, at most.
    pub(super) fn wants(&self) -> usize {
        match self {
            Kind::Absent(_) => 2,
            Kind::Lookout(it) => it.paths.len(),
            _ => 1,
        }
    }

    pub(super) fn want(&mut self, outline: &mut Outline) {
        match self {
            Kind::Whole(it) if matches!(it.content, Content::Any) || !it.present => {
                outline.want_entry(&it.path);
            }
            Kind::Whole(Whole { path, .. }) | Kind::Edit(EditFile { path, .. }) => {
                outline.want_file(path);
            }
            Kind::Permissions(it) | Kind::Directory(it) => {
                it.want = Some(outline.want_entry(&it.path));
            }
            Kind::Symlink(it) => {
                outline.want_entry(&it.path);
            }
            Kind::Absent(it) => {
                let below = it
                    .recursive
                    .then(|| outline.want_entry(&format!("{}/**/*", it.path)));
                it.wants = [Some(outline.want_entry(&it.path)), below];
            }
            Kind::Sysctl(it) => outline.want_sysctl(&it.name),
            Kind::Module(it) => outline.want_module(&it.name),
            Kind::Unit(it) => outline.want_unit(&it.name),
            Kind::Lookout(it) => {
                it.wants = it
                    .paths
                    .iter()
                    .map(|path| Some(outline.want_file(path)))
                    .collect();
            }
        }
    }
}
