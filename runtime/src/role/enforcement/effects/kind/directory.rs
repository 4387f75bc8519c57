//! Folders: made beside their place with their permissions, then renamed into it; or only given others.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;

use super::{Desk, Kind, clear, not_held, take_place};
use crate::manifest::NodePath;
use crate::role::enforcement::Permissions;
use crate::role::enforcement::effects::error::Error;
use crate::role::enforcement::effects::meta::Meta;
use crate::role::enforcement::effects::place::{Folder, Spot};
use crate::role::enforcement::effects::state::State;

/// Who uses a new folder unless it is said.
pub(super) const NEW_FOLDER: u32 = 0o755;

pub(super) struct MakeDirectory {
    path: NodePath,
    permissions: Permissions,
    found: Option<(Spot, (u32, u32, u32))>,
    staged: bool,
}

impl MakeDirectory {
    pub(super) fn new(path: &NodePath, permissions: Permissions) -> Self {
        Self {
            path: path.clone(),
            permissions,
            found: None,
            staged: false,
        }
    }

    fn found(&self) -> Result<&(Spot, (u32, u32, u32)), Error> {
        self.found.as_ref().ok_or_else(|| Error::Changed {
            path: self.path.to_string(),
        })
    }
}

impl Kind for MakeDirectory {
    fn look(&mut self, desk: &mut Desk<'_>) -> Result<(State, State), Error> {
        let spot = desk.spot(&self.path)?;
        not_held(&spot)?;
        let (before, old) = match &spot.meta {
            None => (State::Absent, None),
            Some(meta) if meta.kind == FileType::Directory => (read(meta), Some(*meta)),
            Some(meta) if meta.kind == FileType::Symlink => {
                (super::symlink::read(&spot, meta)?, None)
            }
            Some(meta) => {
                return Err(Error::WrongKind {
                    path: spot.path.clone(),
                    found: meta.what(),
                    wanted: "a folder",
                });
            }
        };
        let wanted = self.permissions;
        let old_or = |value: fn(&Meta) -> u32, new: u32| old.as_ref().map_or(new, value);
        let mode = (wanted.mode).unwrap_or_else(|| old_or(|it| it.mode, NEW_FOLDER));
        let uid = wanted.uid.unwrap_or_else(|| old_or(|it| it.uid, 0));
        let gid = wanted.gid.unwrap_or_else(|| old_or(|it| it.gid, 0));
        self.found = Some((spot, (mode, uid, gid)));
        Ok((before, State::Directory { mode, uid, gid }))
    }

    fn stage(&mut self) -> Result<(), Error> {
        let (spot, permissions) = self.found()?;
        if is_folder(spot) {
            return Ok(());
        }
        let name = spot.temporary.clone();
        let made = make(&spot.folder, &name, *permissions).map_err(|errno| spot.error(errno));
        self.staged = true;
        made
    }

    fn apply(&mut self, desk: &mut Desk<'_>) -> Result<(), Error> {
        let (spot, permissions) = self.found()?;
        let temporary = spot.temporary.clone();
        let system = |errno| spot.error(errno);
        match &spot.meta {
            Some(meta) if meta.kind == FileType::Directory => {
                let folder = spot.open(OFlags::RDONLY | OFlags::DIRECTORY)?;
                let set = own(&folder, *permissions).and_then(|()| rustix::fs::fsync(&folder));
                set.map_err(system)?;
            }
            None => take_place(spot, &temporary)?,
            // No folder can be renamed over a link, but the two can change places.
            Some(_) => {
                spot.is_as_found()?;
                let folder = &*spot.folder;
                let flags = RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(folder, &temporary, folder, &spot.name, flags)
                    .map_err(system)?;
                rustix::fs::unlinkat(folder, &temporary, AtFlags::empty()).map_err(system)?;
            }
        }
        desk.folders.forget();
        Ok(())
    }

    fn folder(&self) -> Option<Rc<Folder>> {
        let (spot, _) = self.found.as_ref()?;
        (!is_folder(spot)).then(|| spot.folder.clone())
    }

    fn discard(&mut self) {
        if let Some((spot, _)) = self.found.as_ref().filter(|_| self.staged) {
            let _ = clear(&spot.folder, &spot.temporary);
        }
    }
}

fn is_folder(spot: &Spot) -> bool {
    (spot.meta).is_some_and(|meta| meta.kind == FileType::Directory)
}

/// What a folder is.
pub(super) fn read(meta: &Meta) -> State {
    State::Directory {
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
    }
}

fn make(folder: &Folder, name: &str, permissions: (u32, u32, u32)) -> Result<(), Errno> {
    clear(folder, name)?;
    rustix::fs::mkdirat(folder, name, Mode::RWXU)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    own(&made, permissions)
}

fn own(folder: &OwnedFd, (mode, uid, gid): (u32, u32, u32)) -> Result<(), Errno> {
    rustix::fs::fchown(folder, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    rustix::fs::fchmod(folder, Mode::from_raw_mode(mode))
}
