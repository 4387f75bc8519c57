//! Files, links and empty folders that are to be gone.

use std::rc::Rc;

use rustix::fs::{AtFlags, FileType};

use super::{Desk, Kind, not_held};
use crate::manifest::NodePath;
use crate::role::enforcement::effects::error::Error;
use crate::role::enforcement::effects::place::{Folder, Spot};
use crate::role::enforcement::effects::state::State;

pub(super) struct Remove {
    path: NodePath,
    spot: Option<Spot>,
}

impl Remove {
    pub(super) fn new(path: &NodePath) -> Self {
        Self {
            path: path.clone(),
            spot: None,
        }
    }
}

impl Kind for Remove {
    fn look(&mut self, desk: &mut Desk<'_>) -> Result<(State, State), Error> {
        let spot = match desk.spot(&self.path) {
            // Then it is gone, too.
            Err(Error::NoFolder { .. }) => return Ok((State::Absent, State::Absent)),
            spot => spot?,
        };
        not_held(&spot)?;
        let before = match &spot.meta {
            None => State::Absent,
            Some(meta) => match meta.kind {
                FileType::RegularFile => super::file::read(&spot, meta, true, desk.most)?,
                FileType::Symlink => super::symlink::read(&spot, meta)?,
                FileType::Directory => super::directory::read(meta),
                _ => {
                    return Err(Error::WrongKind {
                        path: spot.path.clone(),
                        found: meta.what(),
                        wanted: "a file, a link or an empty folder",
                    });
                }
            },
        };
        self.spot = Some(spot);
        Ok((before, State::Absent))
    }

    fn apply(&mut self, desk: &mut Desk<'_>) -> Result<(), Error> {
        let Some(spot) = &self.spot else {
            return Ok(());
        };
        spot.is_as_found()?;
        let is_folder = (spot.meta).is_some_and(|meta| meta.kind == FileType::Directory);
        let flags = match is_folder {
            true => AtFlags::REMOVEDIR,
            false => AtFlags::empty(),
        };
        rustix::fs::unlinkat(&*spot.folder, &spot.name, flags)
            .map_err(|errno| spot.error(errno))?;
        desk.folders.forget();
        Ok(())
    }

    fn folder(&self) -> Option<Rc<Folder>> {
        self.spot.as_ref().map(|spot| spot.folder.clone())
    }
}
