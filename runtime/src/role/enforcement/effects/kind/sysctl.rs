//! Kernel settings: now, and at the node's next start.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Desk, Kind};
use crate::failpoint;
use crate::manifest::SysctlName;
use crate::role::enforcement::effects::error::Error;
use crate::role::enforcement::effects::note::Note;
use crate::role::enforcement::effects::state::State;

/// The longest value that is read.
const MAX_VALUE: usize = 64 << 10;

/// The kernel's settings, by the daemon's own `/proc`: those of its network namespace, which is the node's.
#[derive(Debug)]
pub(in super::super) struct Sysctls(OwnedFd);

impl Sysctls {
    pub(in super::super) fn open(procfs: &Path) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(procfs.join("sys"), flags, Mode::empty()).map(Self)
    }

    fn setting(&self, name: &SysctlName, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.0, name.path(), flags, Mode::empty(), resolve)
    }

    /// A setting's value without the last line feed.
    pub(in super::super) fn get(&self, name: &SysctlName) -> Result<String, Errno> {
        let file = self.setting(name, OFlags::RDONLY)?;
        let mut bytes = Vec::with_capacity(4096);
        while bytes.len() < MAX_VALUE {
            match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)) {
                Ok(0) => break,
                Ok(_) => bytes.reserve(4096),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }

    /// Sets one, and sees that it is so.
    fn set(&self, name: &SysctlName, value: &str) -> Result<(), Error> {
        let line = format!("{value}\n");
        let written = self
            .setting(name, OFlags::WRONLY)
            // In one piece: the kernel takes each write for a whole value.
            .and_then(|file| rustix::io::write(&file, line.as_bytes()));
        match written {
            Ok(count) if count == line.len() => {}
            Ok(_) => return Err(refused(name, value, "it is too long")),
            Err(errno) => return Err(explain(name, value, errno)),
        }
        let found = self
            .get(name)
            .map_err(|errno| explain(name, value, errno))?;
        match words(&found).eq(words(value)) {
            true => Ok(()),
            false => Err(Error::Unheeded {
                name: name.to_string(),
                value: value.to_owned(),
                found,
            }),
        }
    }

    fn look(&self, name: &SysctlName) -> Result<Option<String>, Error> {
        match self.get(name) {
            Ok(value) => Ok(Some(value)),
            Err(Errno::NOENT | Errno::NOTDIR) => {
                let name = name.to_string();
                Err(Error::NoSetting { name })
            }
            // Some can only be written.
            Err(_) => Ok(None),
        }
    }
}

fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split_ascii_whitespace()
}

fn refused(name: &SysctlName, value: &str, problem: &str) -> Error {
    Error::Setting {
        name: name.to_string(),
        value: value.to_owned(),
        problem: problem.to_owned(),
    }
}

fn explain(name: &SysctlName, value: &str, errno: Errno) -> Error {
    match errno {
        Errno::INVAL | Errno::RANGE => refused(name, value, "it is no value that it may have"),
        Errno::ROFS => refused(
            name,
            value,
            "/proc/sys is mounted read-only here; the daemon's container must be privileged",
        ),
        Errno::ACCESS | Errno::PERM => refused(
            name,
            value,
            "it can only be read, or the daemon lacks the privilege",
        ),
        Errno::NOENT => Error::NoSetting {
            name: name.to_string(),
        },
        errno => refused(name, value, &errno.to_string()),
    }
}

pub(super) struct SetSysctl {
    name: SysctlName,
    value: String,
    now: bool,
    persist: bool,
}

impl SetSysctl {
    pub(super) fn new(name: &SysctlName, value: &str, now: bool, persist: bool) -> Self {
        Self {
            name: name.clone(),
            value: value.to_owned(),
            now,
            persist,
        }
    }
}

impl Kind for SetSysctl {
    fn look(&mut self, desk: &mut Desk<'_>) -> Result<(State, State), Error> {
        let value = self.value.as_str();
        if value.contains(['\n', '\0']) {
            return Err(refused(&self.name, value, "it must be one line"));
        }
        let before = look(&self.name, desk, self.now)?;
        let State::Sysctl {
            value: old,
            persisted,
        } = &before
        else {
            return Ok((before.clone(), before));
        };
        let now = match self.now {
            true => Some(value.to_owned()),
            false => old.clone(),
        };
        let persisted = match self.persist {
            true => Some(value.to_owned()),
            false => persisted.clone(),
        };
        let after = State::Sysctl {
            value: now,
            persisted,
        };
        Ok((before, after))
    }

    fn apply(&mut self, desk: &mut Desk<'_>) -> Result<(), Error> {
        if self.now {
            desk.sysctls.set(&self.name, &self.value)?;
            failpoint::hit("effect-set");
        }
        if self.persist {
            let key = self.name.to_string();
            let value = Some(self.value.as_str());
            desk.notes
                .set(&mut desk.folders, Note::Sysctl, &key, value)?;
        }
        Ok(())
    }

    fn notes(&self) -> bool {
        self.persist
    }
}

/// What a setting is. `must_be`: an error if there is none.
pub(super) fn look(name: &SysctlName, desk: &mut Desk<'_>, must_be: bool) -> Result<State, Error> {
    if !desk.grants.sysctl(name) {
        return Err(Error::NotGranted {
            field: "sysctls",
            subject: name.to_string(),
        });
    }
    let value = match desk.sysctls.look(name) {
        Err(Error::NoSetting { .. }) if !must_be => None,
        value => value?,
    };
    let key = name.to_string();
    let persisted = desk.notes.get(&mut desk.folders, Note::Sysctl, &key)?;
    Ok(State::Sysctl { value, persisted })
}

/// A setting as it was.
pub(super) struct PutBack {
    name: SysctlName,
    value: Option<String>,
    persisted: Option<String>,
}

impl PutBack {
    pub(super) fn new(name: &SysctlName, value: Option<String>, persisted: Option<String>) -> Self {
        Self {
            name: name.clone(),
            value,
            persisted,
        }
    }
}

impl Kind for PutBack {
    fn look(&mut self, desk: &mut Desk<'_>) -> Result<(State, State), Error> {
        let before = look(&self.name, desk, false)?;
        let after = State::Sysctl {
            value: self.value.clone(),
            persisted: self.persisted.clone(),
        };
        Ok((before, after))
    }

    fn apply(&mut self, desk: &mut Desk<'_>) -> Result<(), Error> {
        if let Some(value) = &self.value
            && desk.sysctls.look(&self.name)?.as_ref() != Some(value)
        {
            desk.sysctls.set(&self.name, value)?;
        }
        let (key, value) = (self.name.to_string(), self.persisted.as_deref());
        desk.notes.set(&mut desk.folders, Note::Sysctl, &key, value)
    }

    fn notes(&self) -> bool {
        true
    }
}
