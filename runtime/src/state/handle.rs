//! One open database file: opened anew after an I/O error, read and written in transactions.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::error::{Error, Fault};
use super::file::{self, Migration, SetAside};

/// A database file of this process. Every call may block on the disk.
pub(crate) struct Handle {
    path: PathBuf,
    format: u64,
    migrations: &'static [Migration],
    /// Nothing after an I/O error: redb refuses to go on with the handle, so it is opened again at
    /// the next call. Never held across anything but calls to the database.
    database: RwLock<Option<Database>>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Handle").field(&self.path).finish()
    }
}

impl Handle {
    /// Opens the file, made if it is missing. A damaged one is put aside and a new one begun; an
    /// unreadable, newer or busy one is an error and stays as it is.
    pub(crate) fn open(
        path: PathBuf,
        format: u64,
        migrations: &'static [Migration],
    ) -> Result<(Self, Option<SetAside>), Error> {
        let (database, set_aside) = match file::open(&path, format, migrations) {
            Ok(database) => (database, None),
            Err(Error::Damaged { detail, .. }) => {
                let set_aside = file::set_aside(&path, detail)?;
                (file::open(&path, format, migrations)?, Some(set_aside))
            }
            Err(error) => return Err(error),
        };
        let handle = Self {
            path,
            format,
            migrations,
            database: RwLock::new(Some(database)),
        };
        Ok((handle, set_aside))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn read<T>(
        &self,
        work: impl Fn(&ReadTransaction) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        self.with("cannot read", |database| work(&database.begin_read()?))
    }

    /// On the disk when it returns; after an error, nothing was written.
    pub(crate) fn write<T>(
        &self,
        work: impl Fn(&WriteTransaction) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        self.with("cannot write", |database| {
            // Durability::Immediate is the default: committed means synced. An error drops the
            // transaction, which undoes it.
            let transaction = database.begin_write()?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })
    }

    /// Runs `work`, opening the file before if an earlier error closed it, and closing it if this
    /// one fails: redb goes on with a handle neither after an I/O error nor after damage.
    fn with<T>(
        &self,
        doing: &'static str,
        work: impl Fn(&Database) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        let path = &self.path;
        // A panic leaves either a usable handle or none: there is nothing to be poisoned.
        let shared_slot = || self.database.read().unwrap_or_else(PoisonError::into_inner);
        let exclusive_slot = || {
            self.database
                .write()
                .unwrap_or_else(PoisonError::into_inner)
        };
        loop {
            let shared = shared_slot();
            let Some(database) = &*shared else {
                drop(shared);
                let mut exclusive = exclusive_slot();
                if exclusive.is_none() {
                    *exclusive = Some(file::open(path, self.format, self.migrations)?);
                }
                continue;
            };
            let fault = match work(database) {
                Ok(result) => return Ok(result),
                Err(fault) => fault,
            };
            drop(shared);
            // Another thread may have opened it anew in between: closing it once more does no harm.
            *exclusive_slot() = None;
            return Err(match fault {
                Fault::Io(source) => Error::Io {
                    doing,
                    path: path.clone(),
                    source,
                },
                Fault::Damaged(detail) => Error::Damaged {
                    path: path.clone(),
                    detail,
                },
                Fault::InUse => Error::InUse {
                    folder: path.parent().unwrap_or(path).to_owned(),
                    pid: "?".to_owned(),
                },
            });
        }
    }
}

/// A table that nothing was written to yet reads as none.
pub(crate) fn existing<T>(table: Result<T, redb::TableError>) -> Result<Option<T>, Fault> {
    match table {
        Ok(table) => Ok(Some(table)),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
