//! Symbolic links: made beside their place, then renamed into it.

use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Gid, Uid};
use rustix::io::Errno;

use super::{Desk, Kind, clear, not_held, take_place};
use crate::manifest::NodePath;
use crate::role::enforcement::effects::error::Error;
use crate::role::enforcement::effects::meta::Meta;
use crate::role::enforcement::effects::place::{Folder, Spot};
use crate::role::enforcement::effects::state::State;

pub(super) struct MakeSymlink {
    path: NodePath,
    target: String,
    owner: (u32, u32),
    spot: Option<Spot>,
    staged: bool,
}

impl MakeSymlink {
    pub(super) fn new(path: &NodePath, target: &str, owner: (u32, u32)) -> Self {
        Self {
            path: path.clone(),
            target: target.to_owned(),
            owner,
            spot: None,
            staged: false,
        }
    }

    fn spot(&self) -> Result<&Spot, Error> {
        self.spot.as_ref().ok_or_else(|| Error::Changed {
            path: self.path.to_string(),
        })
    }

    fn make(&self, spot: &Spot) -> Result<(), Errno> {
        let name = spot.temporary.clone();
        clear(&spot.folder, &name)?;
        rustix::fs::symlinkat(&self.target, &*spot.folder, &name)?;
        let (uid, gid) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&*spot.folder, &name, Some(uid), Some(gid), flags)
    }
}

impl Kind for MakeSymlink {
    fn look(&mut self, desk: &mut Desk<'_>) -> Result<(State, State), Error> {
        let spot = desk.spot(&self.path)?;
        not_held(&spot)?;
        let before = match &spot.meta {
            None => State::Absent,
            Some(meta) if meta.kind == FileType::Symlink => read(&spot, meta)?,
            Some(meta) if meta.kind == FileType::RegularFile => {
                super::file::read(&spot, meta, true, desk.most)?
            }
            Some(meta) => {
                return Err(Error::WrongKind {
                    path: spot.path.clone(),
                    found: meta.what(),
                    wanted: "a symbolic link or a file",
                });
            }
        };
        let after = State::Symlink {
            target: self.target.clone(),
            uid: self.owner.0,
            gid: self.owner.1,
        };
        self.spot = Some(spot);
        Ok((before, after))
    }

    fn stage(&mut self) -> Result<(), Error> {
        let spot = self.spot()?;
        let made = self.make(spot).map_err(|errno| spot.error(errno));
        self.staged = true;
        made
    }

    fn apply(&mut self, desk: &mut Desk<'_>) -> Result<(), Error> {
        let spot = self.spot()?;
        take_place(spot, &spot.temporary)?;
        desk.folders.forget();
        Ok(())
    }

    fn folder(&self) -> Option<Rc<Folder>> {
        self.spot.as_ref().map(|spot| spot.folder.clone())
    }

    fn discard(&mut self) {
        if let Some(spot) = self.spot.as_ref().filter(|_| self.staged) {
            let _ = clear(&spot.folder, &spot.temporary);
        }
    }
}

/// What a link is.
pub(super) fn read(spot: &Spot, meta: &Meta) -> Result<State, Error> {
    let target = rustix::fs::readlinkat(&*spot.folder, &spot.name, Vec::new())
        .map_err(|errno| spot.error(errno))?;
    let target = target.into_string().map_err(|_| {
        let path = spot.path.clone();
        let problem = "the link that is there is no UTF-8 and could not be put back".to_owned();
        Error::Io { path, problem }
    })?;
    Ok(State::Symlink {
        target,
        uid: meta.uid,
        gid: meta.gid,
    })
}
