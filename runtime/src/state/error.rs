//! Why the store could not do what it was asked.

use std::io;
use std::path::PathBuf;

/// Why the store could not do what it was asked. [`Error::is_retryable`] says whether the same call
/// may succeed later.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another daemon holds the folder. Give up, or wait for it to end.
    #[error(
        "state folder {folder} is in use by another daemon (process {pid}): stop that one, or give this one its own folder with --state",
        folder = folder.display()
    )]
    InUse {
        /// The state folder.
        folder: PathBuf,
        /// Its process id as it wrote it down, or `?`.
        pid: String,
    },
    /// A newer daemon wrote the file. Give up.
    #[error(
        "{path} has state format {found}, and this daemon knows formats up to {known}: run the newer daemon again, or start with another state folder",
        path = path.display()
    )]
    Newer {
        /// The store's file.
        path: PathBuf,
        /// The format it says it has.
        found: u64,
        /// The newest that this daemon reads.
        known: u64,
    },
    /// Others than the owner may write to the folder. Give up.
    #[error(
        "state folder {folder} has mode {mode:04o}, so that others could change what the daemon trusts: run `chmod 0700 {folder}`",
        folder = folder.display()
    )]
    Exposed {
        /// The state folder.
        folder: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The folder is missing and cannot be made, or is no folder. Give up.
    #[error(
        "state folder {}: {source}: make it a folder of this user's, or name another one with --state",
        folder.display()
    )]
    Folder {
        /// The state folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk is full, gone or failing. Nothing of the call was written, unless `doing` says that a
    /// commit's end is not known; the same call may be made again, also then.
    #[error("{doing} {path}: {source}{remedy}", path = path.display(), remedy = remedy(source))]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file's contents contradict themselves while the daemon runs. The next start keeps the file
    /// aside and begins a new one.
    #[error(
        "{path} is damaged ({detail}): restart the daemon, it keeps the file aside and begins a new one",
        path = path.display()
    )]
    Damaged {
        /// The store's file.
        path: PathBuf,
        /// What does not fit.
        detail: String,
    },
}

/// What to do about an I/O error, where that is known.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ": free space on its disk",
        _ => "",
    }
}

impl Error {
    /// Whether the same call may succeed later without anybody's help beyond, say, freeing space.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Io { .. })
    }
}

/// An error of the database, before it is known which file and which call it belongs to.
///
/// redb has one error type an operation; only the storage part of each can happen to correct code.
#[derive(Debug)]
pub(crate) enum Fault {
    Io(io::Error),
    Damaged(String),
    InUse,
}

impl From<redb::StorageError> for Fault {
    fn from(error: redb::StorageError) -> Self {
        use redb::StorageError as E;
        match error {
            // redb reports "this is not a database" as this kind of I/O error.
            E::Io(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Self::Damaged(error.to_string())
            }
            E::Io(error) => Self::Io(error),
            E::Corrupted(detail) => Self::Damaged(detail),
            other => Self::Io(io::Error::other(other)),
        }
    }
}

impl From<redb::TableError> for Fault {
    fn from(error: redb::TableError) -> Self {
        match error {
            redb::TableError::Storage(error) => error.into(),
            // A table of another type or shape: the file is not what this module writes.
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<redb::TransactionError> for Fault {
    fn from(error: redb::TransactionError) -> Self {
        match error {
            redb::TransactionError::Storage(error) => error.into(),
            other => Self::Io(io::Error::other(other)),
        }
    }
}

impl From<redb::CommitError> for Fault {
    fn from(error: redb::CommitError) -> Self {
        match error {
            redb::CommitError::Storage(error) => error.into(),
            other => Self::Io(io::Error::other(other)),
        }
    }
}

impl From<redb::DatabaseError> for Fault {
    fn from(error: redb::DatabaseError) -> Self {
        match error {
            redb::DatabaseError::Storage(error) => error.into(),
            redb::DatabaseError::DatabaseAlreadyOpen
            | redb::DatabaseError::LockProtocolMismatch => Self::InUse,
            other => Self::Damaged(other.to_string()),
        }
    }
}
