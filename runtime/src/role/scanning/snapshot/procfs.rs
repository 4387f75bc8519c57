//! The node's `/proc`, through one open folder: with the processes and the network of its process 1.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::seen::Troubles;
use crate::manifest::SysctlName;
use crate::node_files::is_nobodys;

/// The most processes that are shown.
const PROCESSES: usize = 1 << 16;
/// The most that is read of a kernel setting.
const SETTING_BYTES: u64 = 64 << 10;

/// An open `/proc`, or none.
#[derive(Debug)]
pub(super) struct Procfs {
    folder: Result<OwnedFd, Errno>,
}

impl Procfs {
    pub(super) fn open(root: &Path) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(root.join("proc"), flags, Mode::empty());
        Self { folder }
    }

    /// Opens a file below it. Nothing that is asked for here is a link.
    pub(super) fn file(&self, path: &str) -> Result<File, Errno> {
        let folder = self.folder.as_ref().map_err(|errno| *errno)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve).map(File::from)
    }

    /// Reads a file, at most so much of it.
    pub(super) fn read(&self, path: &str, most: u64) -> Result<Vec<u8>, Errno> {
        let mut bytes = Vec::new();
        let read = self.file(path)?.take(most).read_to_end(&mut bytes);
        read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(bytes)
    }

    /// Where a link of the kernel's points to, as the kernel spells it. It is not followed.
    pub(super) fn link(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let folder = self.folder.as_ref().map_err(|errno| *errno)?;
        rustix::fs::readlinkat(folder, path, Vec::new()).map(|target| target.into_bytes())
    }

    /// The names in a folder that are numbers, in order.
    pub(super) fn numbers(&self, path: &str) -> Result<Vec<u32>, Errno> {
        let folder = self.folder.as_ref().map_err(|errno| *errno)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(folder, path, flags, Mode::empty())?;
        let mut numbers = Vec::new();
        for entry in Dir::read_from(opened)? {
            let entry = entry?;
            if let Some(number) = entry
                .file_name()
                .to_str()
                .ok()
                .and_then(|it| it.parse().ok())
            {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The processes that there are, at most as many as are shown.
    pub(super) fn pids(&self, troubles: &mut Troubles) -> Vec<u32> {
        let mut pids = match self.numbers(".") {
            Ok(pids) => pids,
            Err(errno) => {
                troubles.note(|| format!("cannot list /proc: {errno}"));
                return Vec::new();
            }
        };
        if pids.len() > PROCESSES {
            let count = pids.len();
            troubles.note(|| format!("{PROCESSES} of {count} processes are shown"));
            pids.truncate(PROCESSES);
        }
        pids
    }

    /// The value of a kernel setting; none if there is no such setting, or nobody may see it.
    pub(super) fn setting(&self, name: &SysctlName, troubles: &mut Troubles) -> Option<String> {
        let path = name.path();
        let last = path.rsplit('/').next().unwrap_or_default();
        if is_nobodys(last) {
            troubles.note(|| format!("the setting {name} is a secret"));
            return None;
        }
        match self.read(&format!("sys/{path}"), SETTING_BYTES) {
            Ok(bytes) => Some(String::from_utf8_lossy(bytes.trim_ascii_end()).into_owned()),
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Err(errno) => {
                troubles.note(|| format!("cannot read the setting {name}: {errno}"));
                None
            }
        }
    }
}
