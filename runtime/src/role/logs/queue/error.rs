//! Why a queue could not be opened, and what to do about a disk.

use std::io;
use std::path::{Path, PathBuf};

use super::frame::FORMAT;

/// Why a queue could not be opened.
#[derive(Debug, thiserror::Error)]
pub(in crate::role::logs) enum Error {
    /// Someone else has it open.
    #[error(
        "the queue {folder} is in use by another daemon or by this plugin's former revision: stop that daemon, or give this one a `queue.path` of its own; a former revision lets go by itself",
        folder = folder.display()
    )]
    InUse {
        /// The queue's folder.
        folder: PathBuf,
    },
    /// It lies on a disk that is not there.
    #[error(
        "the queue lies below {base}, which is not there: mount its disk, or remove {noted} to give up what is in it",
        base = base.display(), noted = noted.display()
    )]
    Away {
        /// The folder that is missing.
        base: PathBuf,
        /// What says that it is there.
        noted: PathBuf,
    },
    /// Another version wrote it.
    #[error(
        "{path} has queue format {found}, and this daemon knows format {known}: let the daemon that wrote it deliver what is in there, or remove its folder and lose that",
        path = path.display(), known = FORMAT
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The format that it says.
        found: u32,
    },
    /// A daemon with another number of lanes wrote it.
    #[error(
        "{path} has {found} lanes, and this daemon has {known}: let the daemon that wrote it deliver what is in there, or remove its folder and lose that",
        path = path.display()
    )]
    Lanes {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u32,
        /// What this daemon has.
        known: u32,
    },
    /// Others than the owner may write to the folder.
    #[error(
        "the folder {folder} has mode {mode:04o}, so that others could change what is delivered: run `chmod 0700 {folder}`",
        folder = folder.display()
    )]
    Exposed {
        /// The folder.
        folder: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The disk is full, gone or failing, or a folder is missing.
    #[error("{doing} {path}: {source}: {remedy}", path = path.display(), remedy = remedy(source))]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }
}

/// What to do about an I/O error.
pub(super) fn remedy(error: &io::Error) -> &'static str {
    use io::ErrorKind::*;
    match error.kind() {
        StorageFull | QuotaExceeded => {
            "free some space on its disk or lower queue.maxSize; nothing is lost meanwhile"
        }
        NotFound => "make the folder, or mount its disk",
        PermissionDenied => "let the daemon write there",
        ReadOnlyFilesystem => "name a queue.path on a writable file system",
        NotADirectory => "a part of the path is not a folder; name another queue.path",
        _ => "it is tried again",
    }
}
