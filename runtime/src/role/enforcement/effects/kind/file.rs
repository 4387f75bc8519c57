//! Files: written whole beside their place, then renamed into it; or only given other permissions.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use rustix::fs::{Advice, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::{Desk, Kind, MAX_KEPT_FILE, clear, not_held, take_place};
use crate::failpoint;
use crate::manifest::NodePath;
use crate::role::enforcement::Permissions;
use crate::role::enforcement::effects::error::Error;
use crate::role::enforcement::effects::meta::Meta;
use crate::role::enforcement::effects::note::write_all;
use crate::role::enforcement::effects::place::{Folder, Spot};
use crate::role::enforcement::effects::state::State;

/// Who uses a new file unless it is said.
pub(super) const NEW_FILE: u32 = 0o644;
/// The most that attributes of one file may take.
const ATTRIBUTES: usize = 64 << 10;

type Attributes = Vec<(String, Vec<u8>)>;

pub(super) struct WriteFile {
    path: NodePath,
    content: Option<Arc<[u8]>>,
    permissions: Permissions,
    /// Those of the old file unless given.
    attributes: Option<Attributes>,
    found: Option<Found>,
    staged: Option<OwnedFd>,
}

/// What was looked up.
struct Found {
    spot: Spot,
    /// Whether the content differs, so that the file is written.
    rewrite: bool,
    mode: u32,
    uid: u32,
    gid: u32,
    attributes: Attributes,
}

impl WriteFile {
    pub(super) fn new(path: &NodePath, content: Option<&[u8]>, permissions: Permissions) -> Self {
        Self {
            path: path.clone(),
            content: content.map(Arc::from),
            permissions,
            attributes: None,
            found: None,
            staged: None,
        }
    }

    pub(super) fn with_attributes(mut self, attributes: Attributes) -> Self {
        self.attributes = Some(attributes);
        self
    }

    fn found(&self) -> Result<&Found, Error> {
        self.found.as_ref().ok_or_else(|| Error::Changed {
            path: self.path.to_string(),
        })
    }
}

impl Kind for WriteFile {
    fn look(&mut self, desk: &mut Desk<'_>) -> Result<(State, State), Error> {
        let spot = desk.spot(&self.path)?;
        not_held(&spot)?;
        let (before, old) = match &spot.meta {
            None if self.content.is_none() => return Err(Error::Absent { path: spot.path }),
            None => (State::Absent, None),
            Some(meta) if meta.kind == FileType::RegularFile => {
                let with_content = self.content.is_some();
                (read(&spot, meta, with_content, desk.most)?, Some(*meta))
            }
            Some(meta) if meta.kind == FileType::Symlink && self.content.is_some() => {
                (super::symlink::read(&spot, meta)?, None)
            }
            Some(meta) => return Err(wrong_kind(&spot, meta)),
        };
        let wanted = self.permissions;
        let old_or = |value: fn(&Meta) -> u32, new: u32| old.as_ref().map_or(new, value);
        let mode = wanted
            .mode
            .unwrap_or_else(|| old_or(|it| it.mode, NEW_FILE));
        let uid = wanted.uid.unwrap_or_else(|| old_or(|it| it.uid, 0));
        let gid = wanted.gid.unwrap_or_else(|| old_or(|it| it.gid, 0));
        let after = State::file(mode, uid, gid, self.content.clone());
        let attributes = match (&self.attributes, &before) {
            (Some(given), _) => given.clone(),
            (None, State::File { attributes, .. }) => attributes.clone(),
            (None, _) => Vec::new(),
        };
        let links = old.map_or(0, |old| old.links);
        let same = before.content().map(Arc::as_ref) == self.content.as_deref();
        // Permissions are a file's, whatever its names: one linked here from elsewhere is written anew.
        let rewrite = self.content.is_some() && (old.is_none() || !same || links > 1);
        if !rewrite && links > 1 {
            let path = spot.path;
            return Err(Error::Linked { path, links });
        }
        self.found = Some(Found {
            spot,
            rewrite,
            mode,
            uid,
            gid,
            attributes,
        });
        Ok((before, after))
    }

    fn stage(&mut self) -> Result<(), Error> {
        let found = self.found()?;
        let Some(content) = self.content.as_ref().filter(|_| found.rewrite) else {
            return Ok(());
        };
        let spot = &found.spot;
        let file = stage(found, content).map_err(|errno| {
            let _ = clear(&spot.folder, &spot.temporary);
            spot.error(errno)
        })?;
        self.staged = Some(file);
        failpoint::hit("effect-staged");
        Ok(())
    }

    fn staged(&self) -> Option<BorrowedFd<'_>> {
        self.staged.as_ref().map(OwnedFd::as_fd)
    }

    fn apply(&mut self, _: &mut Desk<'_>) -> Result<(), Error> {
        let found = self.found()?;
        let spot = &found.spot;
        if found.rewrite {
            take_place(spot, &spot.temporary)?;
            failpoint::hit("effect-renamed");
            return Ok(());
        }
        let file = spot.open(OFlags::RDONLY)?;
        let set = own(&file, found).and_then(|()| rustix::fs::fsync(&file));
        set.map_err(|errno| spot.error(errno))
    }

    fn folder(&self) -> Option<Rc<Folder>> {
        let found = self.found.as_ref()?;
        found.rewrite.then(|| found.spot.folder.clone())
    }

    fn discard(&mut self) {
        self.staged = None;
        if let Some(found) = self.found.as_ref().filter(|found| found.rewrite) {
            let _ = clear(&found.spot.folder, &found.spot.temporary);
        }
    }
}

fn wrong_kind(spot: &Spot, meta: &Meta) -> Error {
    Error::WrongKind {
        path: spot.path.clone(),
        found: meta.what(),
        wanted: "a file",
    }
}

/// Writes the new file, under another name and readable by nobody else.
fn stage(found: &Found, content: &[u8]) -> Result<OwnedFd, Errno> {
    let folder = &*found.spot.folder;
    let name = found.spot.temporary.clone();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let create = || rustix::fs::openat(folder, &name, flags, mode);
    let file = match create() {
        // Left by a crash.
        Err(Errno::EXIST) => clear(folder, &name).and_then(|()| create())?,
        created => created?,
    };
    write_all(&file, content)?;
    for (name, value) in &found.attributes {
        rustix::fs::fsetxattr(&file, name.as_str(), value, XattrFlags::empty())?;
    }
    own(&file, found)?;
    // Begins to write it to the disk, so that waiting for many files is waiting once.
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
    Ok(file)
}

/// Gives an open file its owner and mode, in this order: a new owner takes set-user-id away.
fn own(file: &OwnedFd, found: &Found) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(found.uid), Gid::from_raw(found.gid));
    rustix::fs::fchown(file, Some(uid), Some(gid))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(found.mode))
}

/// What a file is, with its content if that is going to change.
pub(super) fn read(spot: &Spot, meta: &Meta, content: bool, most: u64) -> Result<State, Error> {
    if !content {
        return Ok(State::file(meta.mode, meta.uid, meta.gid, None));
    }
    let limit = most.min(MAX_KEPT_FILE);
    let too_large = |size| Error::TooLarge {
        path: spot.path.clone(),
        size,
        limit,
    };
    if meta.size > limit {
        return Err(too_large(meta.size));
    }
    let file = spot.open(OFlags::RDONLY)?;
    let system = |errno| spot.error(errno);
    let mut bytes = Vec::with_capacity(meta.size as usize + 1);
    loop {
        match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => break,
            Ok(_) if bytes.len() as u64 > limit => return Err(too_large(bytes.len() as u64)),
            Ok(_) => bytes.reserve(1),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(system(errno)),
        }
    }
    let mut state = State::file(meta.mode, meta.uid, meta.gid, Some(bytes.into()));
    if let State::File { attributes, .. } = &mut state {
        *attributes = self::attributes(&file).map_err(system)?;
    }
    Ok(state)
}

/// The attributes that a new file has as the old one had: labels, access lists, and users' own. Not
/// capabilities, which are of a program and not of its name, and not signatures of the content.
fn attributes(file: &OwnedFd) -> Result<Attributes, Errno> {
    let mut names = Vec::with_capacity(1024);
    match rustix::fs::flistxattr(file, rustix::buffer::spare_capacity(&mut names)) {
        Ok(_) => {}
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(Errno::RANGE) => {
            names.reserve(ATTRIBUTES);
            rustix::fs::flistxattr(file, rustix::buffer::spare_capacity(&mut names))?;
        }
        Err(errno) => return Err(errno),
    }
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0) {
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        let kept = name.starts_with("user.")
            || name.starts_with("security.SMACK64")
            || matches!(name, "security.selinux" | "system.posix_acl_access");
        if !kept {
            continue;
        }
        let mut value = Vec::with_capacity(ATTRIBUTES);
        match rustix::fs::fgetxattr(file, name, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => found.push((name.to_owned(), value)),
            // It was taken off just now.
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(found)
}
