//! What is installed by rpm, from its database: the file of SQLite that Fedora, Red Hat and those after them
//! have, or the one of its own (`ndb`) that SUSE has. All of it is hostile: every length is bounded.

mod header;
mod ndb;
mod sqlite;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod version;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::SystemTime;

use super::installed::Package;

pub(super) use version::compare;

/// More are not read.
const MAX_PACKAGES: usize = 50_000;
/// A header's table, and its texts up to the last one that is needed, are never so long.
const MAX_HEADER: usize = 16 << 20;
/// Bytes of names and versions that are kept of one database. Those of its packages may all be the same ones.
const MAX_TEXTS: usize = 16 << 20;
/// Bytes of one database that are read in all.
const MAX_READ: u64 = 256 << 20;
/// Bytes of a header that are read at first: nearly all need no more.
const FIRST: usize = 64 << 10;

/// What can be read from anywhere.
pub(super) trait Bytes {
    /// How many there are.
    fn length(&self) -> u64;
    /// Some of them, all or none.
    fn read(&mut self, at: u64, length: usize) -> Option<Vec<u8>>;
}

/// A list of packages, and what of it could not be read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Installed {
    pub(super) packages: Vec<Package>,
    pub(super) troubles: Vec<String>,
    /// Headers that were looked at.
    headers: usize,
    /// Bytes of the packages' texts.
    texts: usize,
}

/// What tells one state of a file from the next.
type Stamp = Vec<Option<(u64, Option<SystemTime>)>>;

/// A folder with a database, read again only once it has changed.
#[derive(Debug)]
pub(super) struct Rpm {
    folder: String,
    known: Option<(Stamp, Installed)>,
}

const SQLITE: &str = "rpmdb.sqlite";
const LOG: &str = "rpmdb.sqlite-wal";
const NDB: &str = "Packages.db";
const BERKELEY: &str = "Packages";

impl Rpm {
    pub(super) fn new(folder: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            known: None,
        }
    }

    pub(super) fn folder(&self) -> &str {
        &self.folder
    }

    /// What is installed now.
    pub(super) fn installed(&mut self) -> &Installed {
        let folder = Path::new(&self.folder);
        let stamp: Stamp = [SQLITE, LOG, NDB]
            .iter()
            .map(|name| {
                let file = std::fs::metadata(folder.join(name)).ok()?;
                Some((file.len(), file.modified().ok()))
            })
            .collect();
        if self.known.as_ref().is_none_or(|(known, _)| *known != stamp) {
            self.known = Some((stamp, read(folder)));
        }
        let known = self.known.get_or_insert_with(Default::default);
        &known.1
    }
}

fn read(folder: &Path) -> Installed {
    let mut installed = Installed::default();
    let is_file = |name: &str| {
        let found = std::fs::symlink_metadata(folder.join(name));
        found.ok().filter(std::fs::Metadata::is_file)
    };
    let mut take = |name: &str, blobs: fn(&mut dyn Bytes, &mut dyn Take) -> Result<(), String>| {
        let read = open(&folder.join(name)).and_then(|mut file| blobs(&mut file, &mut installed));
        if let Err(why) = read {
            installed.troubles.push(format!("{name}: {why}"));
        }
    };
    if is_file(SQLITE).is_some() {
        take(SQLITE, sqlite::blobs);
        if is_file(LOG).is_some_and(|log| log.len() > 0) {
            let why = "it has changes that are not in the database yet; they are judged once rpm has moved them there";
            installed.troubles.push(format!("{LOG}: {why}"));
        }
    } else if is_file(NDB).is_some() {
        take(NDB, ndb::blobs);
    } else if is_file(BERKELEY).is_some() {
        let why = "a database of Berkeley DB, which is not read; `rpmdb --rebuilddb` of rpm 4.16 or later makes one that is";
        installed.troubles.push(format!("{BERKELEY}: {why}"));
    } else {
        let why = format!("there is none of {SQLITE}, {NDB} and {BERKELEY}");
        installed.troubles.push(why);
    }
    installed
}

/// Takes headers. Whoever has one reads only as much of it as is asked for.
pub(super) trait Take {
    /// `read` answers the first bytes of a header, at most so many; whether to go on.
    fn header(&mut self, read: &mut dyn FnMut(usize) -> Option<Vec<u8>>) -> bool;
}

impl Take for Installed {
    fn header(&mut self, read: &mut dyn FnMut(usize) -> Option<Vec<u8>>) -> bool {
        self.headers += 1;
        if self.headers > MAX_PACKAGES {
            let why = format!("more than {MAX_PACKAGES} packages: the rest is not judged");
            self.troubles.push(why);
            return false;
        }
        let mut wanted = FIRST;
        let package = loop {
            let Some(bytes) = read(wanted) else {
                break None;
            };
            match header::package(&bytes) {
                header::Read::Package(package) => break Some(package),
                // A signature that rpm keeps, and no package.
                header::Read::Other => return true,
                header::Read::More(more) if more > wanted && more <= MAX_HEADER => wanted = more,
                header::Read::More(_) | header::Read::Damaged => break None,
            }
        };
        match package {
            Some(package) => {
                self.texts += package.size();
                if self.texts > MAX_TEXTS {
                    let why = format!(
                        "names and versions of more than {} MiB: the rest is not judged",
                        MAX_TEXTS >> 20
                    );
                    self.troubles.push(why);
                    return false;
                }
                self.packages.push(package);
            }
            None if self.troubles.len() < 8 => {
                self.troubles.push("a package that cannot be read".into());
            }
            None => {}
        }
        true
    }
}

/// A file that is read where it is needed.
struct Opened {
    file: File,
    length: u64,
    /// Bytes that may still be read.
    left: u64,
}

fn open(path: &Path) -> Result<Opened, String> {
    let opened = File::open(path).and_then(|file| {
        let length = file.metadata()?.len();
        let left = MAX_READ;
        Ok(Opened { file, length, left })
    });
    opened.map_err(|error| error.to_string())
}

impl Bytes for Opened {
    fn length(&self) -> u64 {
        self.length
    }

    fn read(&mut self, at: u64, length: usize) -> Option<Vec<u8>> {
        // Not more than there is, whatever somebody says.
        let end = at.checked_add(length as u64)?;
        if end > self.length {
            return None;
        }
        self.left = self.left.checked_sub(length as u64)?;
        let mut bytes = vec![0; length];
        self.file.seek(SeekFrom::Start(at)).ok()?;
        self.file.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }
}

/// A number of `N` bytes somewhere.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
