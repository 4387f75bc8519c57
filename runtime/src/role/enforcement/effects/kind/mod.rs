//! The kinds of change, one a file. A further kind is a further file and an arm here.

mod directory;
mod file;
mod kernel_module;
mod remove;
mod symlink;
mod sysctl;
mod unit;

use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::Arc;

pub(super) use kernel_module::Modules;
use rustix::fs::{AtFlags, FileType, RenameFlags};
use rustix::io::Errno;
pub(super) use sysctl::Sysctls;
pub(super) use unit::{UnitState, unit_states};

use super::bus::Bus;
use super::error::Error;
use super::meta::{Meta, Stamp};
use super::modprobe::Modprobe;
use super::note::Notes;
use super::place::{Bound, Folder, Folders, Spot};
use super::state::State;
use super::subject::Subject;
use super::view::Seen;
use crate::manifest::{ChangeGrants, NodePath};
use crate::role::enforcement::{Action, Permissions};

/// The longest old content that is read to be kept: it is held in memory meanwhile.
pub(super) const MAX_KEPT_FILE: u64 = 32 << 20;

/// What changes are made with.
pub(super) struct Desk<'a> {
    pub(super) folders: Folders<'a>,
    pub(super) grants: &'a ChangeGrants,
    /// What the plan was made of; none if it was not made of a look.
    pub(super) seen: Option<&'a Seen>,
    /// The longest old content that is kept.
    pub(super) most: u64,
    pub(super) sysctls: &'a Sysctls,
    pub(super) modules: &'a Modules,
    pub(super) modprobe: &'a Modprobe,
    pub(super) notes: Notes,
    pub(super) bus: Bus<'a>,
}

/// One change under way. The calls come in this order; each is made for all changes of a batch before the
/// next, so that what must wait for the disk waits together.
pub(super) trait Kind {
    /// What is there, and what will be.
    fn look(&mut self, desk: &mut Desk<'_>) -> Result<(State, State), Error>;

    /// Writes what nobody sees yet.
    fn stage(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// What of it must be on the disk before the change is made.
    fn staged(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Makes the change.
    fn apply(&mut self, desk: &mut Desk<'_>) -> Result<(), Error>;

    /// Whether it is made even if nothing is going to be otherwise afterwards.
    fn always(&self) -> bool {
        false
    }

    /// Whether it may change what the look of another change of the batch tells.
    fn reaches_further(&self) -> bool {
        false
    }

    /// What is there afterwards, where that is not known before.
    fn outcome(&mut self, _: &mut Desk<'_>) -> Option<State> {
        None
    }

    /// Whether [`Notes::write`] must follow.
    fn notes(&self) -> bool {
        false
    }

    /// The folder that must reach the disk then.
    fn folder(&self) -> Option<Rc<Folder>> {
        None
    }

    /// Removes what was staged, if it was not used.
    fn discard(&mut self) {}
}

/// How a change of this kind is made.
pub(super) fn of(action: &Action) -> Box<dyn Kind> {
    match action {
        Action::WriteFile {
            path,
            content,
            permissions,
        } => Box::new(file::WriteFile::new(path, content.as_deref(), *permissions)),
        Action::MakeDirectory { path, permissions } => {
            Box::new(directory::MakeDirectory::new(path, *permissions))
        }
        Action::MakeSymlink { path, target } => {
            Box::new(symlink::MakeSymlink::new(path, target, (0, 0)))
        }
        Action::Remove { path } => Box::new(remove::Remove::new(path)),
        Action::SetSysctl {
            name,
            value,
            now,
            persist,
        } => Box::new(sysctl::SetSysctl::new(name, value, *now, *persist)),
        Action::LoadModule { name } => Box::new(kernel_module::ChangeModule::load(name)),
        Action::LoadModuleAtStart { name } => {
            Box::new(kernel_module::ChangeModule::load_at_start(name))
        }
        Action::BlacklistModule { name } => Box::new(kernel_module::ChangeModule::blacklist(name)),
        Action::ChangeUnit { name, verb } => Box::new(unit::ChangeUnit::new(name, *verb)),
    }
}

/// How what an action has changed is put back.
pub(super) fn undoing(subject: &Subject, before: State) -> Result<Box<dyn Kind>, Error> {
    let all = |mode: Option<u32>, uid, gid| Permissions {
        mode,
        uid: Some(uid),
        gid: Some(gid),
    };
    Ok(match (subject, before) {
        (Subject::Path(path), State::Absent) => Box::new(remove::Remove::new(path)),
        (
            Subject::Path(path),
            State::File {
                mode,
                uid,
                gid,
                content,
                attributes,
                ..
            },
        ) => {
            let permissions = all(Some(mode), uid, gid);
            let file = file::WriteFile::new(path, content.as_deref(), permissions);
            Box::new(file.with_attributes(attributes))
        }
        (Subject::Path(path), State::Directory { mode, uid, gid }) => Box::new(
            directory::MakeDirectory::new(path, all(Some(mode), uid, gid)),
        ),
        (Subject::Path(path), State::Symlink { target, uid, gid }) => {
            Box::new(symlink::MakeSymlink::new(path, &target, (uid, gid)))
        }
        (Subject::Sysctl(name), State::Sysctl { value, persisted }) => {
            Box::new(sysctl::PutBack::new(name, value, persisted))
        }
        (Subject::KernelModule(name), state @ State::KernelModule { .. }) => {
            Box::new(kernel_module::ChangeModule::put_back(name, state))
        }
        (Subject::Unit(name), State::Unit { active, file }) => {
            Box::new(unit::PutBack::new(name, active, file))
        }
        (subject, _) => {
            let what = format!("what was kept of {subject} is of another kind");
            return Err(Error::Irrevocable(what));
        }
    })
}

/// What is there now, as far as it can be compared with what was to be there.
pub(super) fn now(subject: &Subject, like: &State, desk: &mut Desk<'_>) -> Result<State, Error> {
    match subject {
        Subject::Path(path) => {
            let spot = match desk.spot(path) {
                Err(Error::NoFolder { .. }) => return Ok(State::Absent),
                spot => spot?,
            };
            let Some(meta) = &spot.meta else {
                return Ok(State::Absent);
            };
            let content = !matches!(like, State::File { digest: None, .. });
            match meta.kind {
                FileType::RegularFile => file::read(&spot, meta, content, desk.most),
                FileType::Directory => Ok(directory::read(meta)),
                FileType::Symlink => symlink::read(&spot, meta),
                _ => Err(Error::WrongKind {
                    path: spot.path.clone(),
                    found: meta.what(),
                    wanted: "a file, a folder or a link",
                }),
            }
        }
        Subject::Sysctl(name) => sysctl::look(name, desk, false),
        Subject::KernelModule(name) => kernel_module::look(name, desk).map(|(state, _)| state),
        Subject::Unit(name) => unit::look(name, desk),
    }
}

/// What an action makes where nothing was.
pub(super) fn of_nothing(action: &Action) -> State {
    match action {
        Action::WriteFile {
            content,
            permissions,
            ..
        } => {
            let mode = permissions.mode.unwrap_or(file::NEW_FILE);
            let (uid, gid) = (permissions.uid, permissions.gid);
            let content = content.as_deref().map(Arc::from);
            State::file(mode, uid.unwrap_or(0), gid.unwrap_or(0), content)
        }
        Action::MakeDirectory { permissions, .. } => State::Directory {
            mode: permissions.mode.unwrap_or(directory::NEW_FOLDER),
            uid: permissions.uid.unwrap_or(0),
            gid: permissions.gid.unwrap_or(0),
        },
        Action::MakeSymlink { target, .. } => State::Symlink {
            target: target.clone(),
            uid: 0,
            gid: 0,
        },
        _ => State::Absent,
    }
}

impl Desk<'_> {
    /// Where a path is that may be changed, and what is there: still what the plan was made of.
    fn spot(&mut self, path: &NodePath) -> Result<Spot, Error> {
        let granted = self.grants.file(path).ok_or_else(|| Error::NotGranted {
            field: "files",
            subject: path.to_string(),
        })?;
        let spot = self.folders.spot(path, Bound::of(granted, path))?;
        let planned: Option<Option<Stamp>> = self.seen.and_then(|seen| seen.stamp(path.as_str()));
        match planned {
            Some(planned) if planned != spot.meta.map(|meta| meta.stamp) => Err(spot.changed()),
            _ => Ok(spot),
        }
    }
}

/// What the names of things begin with before they take their places.
pub const TEMPORARY: &str = ".bulkhead-";

/// The name under which `owner` makes something before it takes its place.
pub(super) fn temporary_name(owner: &str, name: &str) -> String {
    let both = format!("{owner}/{name}");
    format!(
        "{TEMPORARY}{:016x}",
        xxhash_rust::xxh3::xxh3_64(both.as_bytes())
    )
}

/// Removes what has this name, unless it is a folder with something in it.
pub(super) fn clear(folder: &Folder, name: &str) -> Result<(), Errno> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR),
        Err(errno) => Err(errno),
    }
}

/// Gives what was made its name: it appears whole, or what was there stays.
fn take_place(spot: &Spot, temporary: &str) -> Result<(), Error> {
    spot.is_as_found()?;
    let folder = &*spot.folder;
    if spot.meta.is_none() {
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(folder, temporary, folder, &spot.name, flags) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => return Err(spot.changed()),
            // Not every file system knows it.
            Err(Errno::INVAL | Errno::NOSYS) => {}
            Err(errno) => return Err(spot.error(errno)),
        }
    }
    rustix::fs::renameat(folder, temporary, folder, &spot.name).map_err(|errno| spot.error(errno))
}

/// Refuses what may not be replaced or changed where it is.
fn not_held(spot: &Spot) -> Result<(), Error> {
    match &spot.meta {
        Some(Meta { held: true, .. }) => Err(Error::Immutable {
            path: spot.path.clone(),
        }),
        _ => Ok(()),
    }
}
