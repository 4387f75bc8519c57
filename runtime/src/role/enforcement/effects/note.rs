//! What is noted on the node for its next start: for each plugin one file of settings, one of kernel modules
//! to load, one of those never to load.

use std::collections::BTreeMap;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::error::Error;
use super::kind::{clear, temporary_name};
use super::place::{Bound, Folder, Folders};
use crate::failpoint;
use crate::manifest::{Identity, ModuleName, SysctlName};

/// The longest file of notes that is read.
const MAX_NOTES: usize = 4 << 20;

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Note {
    /// sysctl.d(5).
    Sysctl,
    /// modules-load.d(5).
    LoadAtStart,
    /// modprobe.d(5).
    NeverLoad,
}

type Entries = BTreeMap<String, String>;

impl Note {
    fn folder(self) -> &'static str {
        match self {
            Self::Sysctl => "etc/sysctl.d",
            Self::LoadAtStart => "etc/modules-load.d",
            Self::NeverLoad => "etc/modprobe.d",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            // Before what an administrator adds by hand, which is often `99-`.
            Self::Sysctl => "60-bulkhead-",
            _ => "bulkhead-",
        }
    }

    fn line(self, key: &str, value: &str) -> String {
        match self {
            Self::Sysctl => format!("{key} = {value}\n"),
            Self::LoadAtStart => format!("{key}\n"),
            // A blacklist alone does not keep it from being loaded by its name, or for another module.
            Self::NeverLoad => format!("blacklist {key}\ninstall {key} /bin/false\n"),
        }
    }

    fn entry(self, line: &str) -> Option<(String, String)> {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            return None;
        }
        let (name, value) = match self {
            Self::Sysctl => {
                let (name, value) = line.split_once('=')?;
                let name = SysctlName::parse(name.trim()).ok()?.to_string();
                (name, value.trim())
            }
            Self::LoadAtStart => (ModuleName::parse(line).ok()?.as_str().to_owned(), ""),
            Self::NeverLoad => {
                let name = line.strip_prefix("blacklist ")?.trim();
                (ModuleName::parse(name).ok()?.as_str().to_owned(), "")
            }
        };
        Some((name, value.to_owned()))
    }
}

/// The notes on behalf of one plugin, read once for a look or a batch of changes.
pub(super) struct Notes {
    plugin: Identity,
    read: BTreeMap<Note, (Entries, bool)>,
}

impl Notes {
    pub(super) fn new(plugin: &Identity) -> Self {
        Self {
            plugin: plugin.clone(),
            read: BTreeMap::new(),
        }
    }

    /// What is noted of this.
    pub(super) fn get(
        &mut self,
        folders: &mut Folders<'_>,
        note: Note,
        key: &str,
    ) -> Result<Option<String>, Error> {
        Ok(self.entries(folders, note)?.0.get(key).cloned())
    }

    /// Notes this, or takes it back; [`Self::write`] must follow.
    pub(super) fn set(
        &mut self,
        folders: &mut Folders<'_>,
        note: Note,
        key: &str,
        value: Option<&str>,
    ) -> Result<(), Error> {
        let (entries, altered) = self.entries(folders, note)?;
        let old = match value {
            Some(value) => entries.insert(key.to_owned(), value.to_owned()),
            None => entries.remove(key),
        };
        *altered |= old.as_deref() != value;
        Ok(())
    }

    /// Puts all that was set on the disk.
    pub(super) fn write(&mut self, folders: &mut Folders<'_>) -> Result<(), Error> {
        let name = |note: Note| file_name(note, &self.plugin);
        for (note, (entries, altered)) in &mut self.read {
            if !*altered {
                continue;
            }
            let path = format!("/{}/{}", note.folder(), name(*note));
            let folder = open(folders, *note, true)?;
            let Some(folder) = folder else {
                return Err(Error::of(&path, Errno::NOENT));
            };
            let mut text = format!(
                "# Kept by bulkhead on behalf of the plugin {}; a change here is undone.\n",
                self.plugin
            );
            for (key, value) in entries.iter() {
                text.push_str(&note.line(key, value));
            }
            let text = (!entries.is_empty()).then_some(text);
            replace(&folder, &name(*note), text.as_deref())
                .map_err(|errno| Error::of(&path, errno))?;
            *altered = false;
        }
        Ok(())
    }

    fn entries(
        &mut self,
        folders: &mut Folders<'_>,
        note: Note,
    ) -> Result<&mut (Entries, bool), Error> {
        if !self.read.contains_key(&note) {
            let name = file_name(note, &self.plugin);
            let entries = match open(folders, note, false)? {
                None => Entries::new(),
                Some(folder) => read(&folder, &name, note)
                    .map_err(|errno| Error::of(&format!("/{}/{name}", note.folder()), errno))?,
            };
            self.read.insert(note, (entries, false));
        }
        Ok(self.read.entry(note).or_default())
    }
}

/// A namespace has no dots, so that no two plugins have one file.
fn file_name(note: Note, plugin: &Identity) -> String {
    let (namespace, name) = (plugin.namespace(), plugin.name());
    match format!("{}{namespace}.{name}.conf", note.prefix()) {
        fits if fits.len() < 200 => fits,
        long => {
            let hash = xxhash_rust::xxh3::xxh3_64(long.as_bytes());
            format!("{}{namespace}.{hash:016x}.conf", note.prefix())
        }
    }
}

fn open(
    folders: &mut Folders<'_>,
    note: Note,
    make: bool,
) -> Result<Option<std::rc::Rc<Folder>>, Error> {
    use super::place::Unopened;
    let path = note.folder();
    let system = |errno| Error::of(&format!("/{path}"), errno);
    match folders.folder(path, Bound::Anywhere) {
        Ok(folder) => Ok(Some(folder)),
        Err(Unopened::Missing) if make => {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let parent = folders.folder(parent, Bound::Anywhere).map_err(|_| {
                let folder = format!("/{parent}");
                Error::NoFolder { folder }
            })?;
            match rustix::fs::mkdirat(&*parent, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(system(errno)),
            }
            rustix::fs::fsync(&*parent).map_err(system)?;
            folders.forget();
            open(folders, note, false)
        }
        Err(Unopened::Missing) => Ok(None),
        Err(Unopened::System(errno)) => Err(system(errno)),
        Err(Unopened::Forbidden(error)) => Err(error),
    }
}

fn read(folder: &Folder, name: &str, note: Note) -> Result<Entries, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(file) => file,
        // A link in its place is replaced.
        Err(Errno::NOENT | Errno::LOOP) => return Ok(Entries::new()),
        Err(errno) => return Err(errno),
    };
    let mut bytes = Vec::with_capacity(4096);
    while bytes.len() < MAX_NOTES {
        match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => break,
            Ok(_) => bytes.reserve(4096),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().filter_map(|line| note.entry(line)).collect())
}

/// Replaces a file whole, or removes it.
fn replace(folder: &Folder, name: &str, text: Option<&str>) -> Result<(), Errno> {
    let Some(text) = text else {
        clear(folder, name)?;
        return rustix::fs::fsync(folder);
    };
    let temporary = temporary_name("", name);
    clear(folder, &temporary)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, &temporary, flags, Mode::from_raw_mode(0o644))?;
    let written = write_all(&file, text.as_bytes()).and_then(|()| {
        // Whatever the daemon's umask is.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
        rustix::fs::fsync(&file)?;
        failpoint::hit("effect-noted");
        rustix::fs::renameat(folder, &temporary, folder, name)?;
        rustix::fs::fsync(folder)
    });
    if written.is_err() {
        let _ = clear(folder, &temporary);
    }
    written
}

/// Writes all of it.
pub(super) fn write_all(file: impl std::os::fd::AsFd, bytes: &[u8]) -> Result<(), Errno> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(&file, rest) {
            Err(Errno::INTR) => {}
            written => rest = rest.get(written?..).unwrap_or_default(),
        }
    }
    Ok(())
}
