//! The store itself: opening, reading and writing.

use std::path::Path;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::codec::{Checkpoint, FileId};
use super::commit::Commit;
use super::error::{Error, Fault};
use super::file::{self, FORMAT, MIGRATIONS, SetAside};
use super::handle::{Handle, existing};
use crate::lock::Lock;

/// (identity, device, inode) to an encoded [`Checkpoint`].
pub(super) const CHECKPOINTS: TableDefinition<'_, (&str, u64, u64), &[u8]> =
    TableDefinition::new("checkpoints");
/// (identity, key) to value.
pub(super) const VALUES: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("values");
/// Identity to the bytes that its keys and values take, so that a quota needs no scan.
pub(super) const VALUE_BYTES: TableDefinition<'_, &str, u64> = TableDefinition::new("value-bytes");
/// Identity to an encoded plugin record.
pub(super) const PLUGINS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("plugins");
/// Name to the daemon's own records.
const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");

/// The daemon's durable state. Clones share one open file.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

/// A store that was opened, and what had to be put away for it.
pub struct Opened {
    /// The store.
    pub store: Store,
    /// The damaged file that was found instead, if one was. Its checkpoints are lost: say so.
    pub set_aside: Option<SetAside>,
}

struct Shared {
    handle: Handle,
    /// Keeps other daemons out for as long as this store lives.
    _lock: Lock,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store")
            .field(&self.shared.handle.path())
            .finish()
    }
}

impl Store {
    /// Opens the store in `folder`, made if it is missing. A damaged file is put aside and a new one
    /// begun; an unreadable, newer or busy one is an error and stays as it is.
    pub fn open(folder: &Path) -> Result<Opened, Error> {
        file::prepare_folder(folder)?;
        let lock = file::lock(folder)?;
        let path = folder.join("bulkhead.redb");
        let (handle, set_aside) = Handle::open(path, FORMAT, MIGRATIONS)?;
        let store = Self {
            shared: Arc::new(Shared {
                handle,
                _lock: lock,
            }),
        };
        Ok(Opened { store, set_aside })
    }

    /// Every checkpoint of a plugin, in the order of [`FileId`].
    pub fn load_checkpoints(&self, identity: &str) -> Result<Vec<(FileId, Checkpoint)>, Error> {
        self.read(|transaction| {
            let Some(table) = existing(transaction.open_table(CHECKPOINTS))? else {
                return Ok(Vec::new());
            };
            table
                .range((identity, 0, 0)..=(identity, u64::MAX, u64::MAX))?
                .map(|entry| {
                    let (key, value) = entry?;
                    let (_, device, inode) = key.value();
                    let checkpoint = Checkpoint::decode(value.value()).ok_or_else(|| {
                        Fault::Damaged(format!(
                            "unreadable checkpoint of {identity} for {device}:{inode}"
                        ))
                    })?;
                    Ok((FileId { device, inode }, checkpoint))
                })
                .collect()
        })
    }

    /// Writes all of `commit` or nothing of it. On the disk when it returns. After an error it is
    /// safe to make the same commit again.
    pub fn commit(&self, commit: &Commit) -> Result<(), Error> {
        if commit.is_empty() {
            return Ok(());
        }
        let identity = commit.identity.as_str();
        self.write(|transaction| {
            if !commit.checkpoints.is_empty() {
                let mut table = transaction.open_table(CHECKPOINTS)?;
                for (file, checkpoint) in &commit.checkpoints {
                    let key = (identity, file.device, file.inode);
                    match checkpoint {
                        Some(checkpoint) => table.insert(key, checkpoint.encode().as_slice())?,
                        None => table.remove(key)?,
                    };
                }
            }
            if !commit.values.is_empty() {
                let mut table = transaction.open_table(VALUES)?;
                let mut sizes = transaction.open_table(VALUE_BYTES)?;
                let mut bytes = sizes.get(identity)?.map_or(0, |size| size.value());
                for (key, value) in &commit.values {
                    let size = |value: &[u8]| (key.len() + value.len()) as u64;
                    let before = match value {
                        Some(value) => {
                            bytes += size(value);
                            table.insert((identity, key.as_str()), value.as_slice())?
                        }
                        None => table.remove((identity, key.as_str()))?,
                    };
                    if let Some(before) = before {
                        bytes = bytes.saturating_sub(size(before.value()));
                    }
                }
                sizes.insert(identity, bytes)?;
            }
            crate::failpoint::hit("state.before-commit");
            Ok(())
        })?;
        crate::failpoint::hit("state.after-commit");
        Ok(())
    }

    /// A plugin's value.
    pub fn kv_get(&self, identity: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.read(|transaction| {
            let Some(table) = existing(transaction.open_table(VALUES))? else {
                return Ok(None);
            };
            Ok(table
                .get((identity, key))?
                .map(|value| value.value().to_vec()))
        })
    }

    /// A plugin's keys that start with `prefix`, in order, at most `limit`.
    pub fn kv_list(
        &self,
        identity: &str,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<String>, Error> {
        self.read(|transaction| {
            let Some(table) = existing(transaction.open_table(VALUES))? else {
                return Ok(Vec::new());
            };
            let mut keys = Vec::new();
            for entry in table.range((identity, prefix)..)?.take(limit) {
                let (key, _) = entry?;
                let (owner, key) = key.value();
                if owner != identity || !key.starts_with(prefix) {
                    break;
                }
                keys.push(key.to_owned());
            }
            Ok(keys)
        })
    }

    /// The bytes of a plugin's keys and values together: what a quota bounds.
    pub fn kv_size(&self, identity: &str) -> Result<u64, Error> {
        self.read(|transaction| {
            let Some(table) = existing(transaction.open_table(VALUE_BYTES))? else {
                return Ok(0);
            };
            Ok(table.get(identity)?.map_or(0, |size| size.value()))
        })
    }

    /// One of the daemon's own records.
    pub fn get_record(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.read(|transaction| {
            let Some(table) = existing(transaction.open_table(RECORDS))? else {
                return Ok(None);
            };
            Ok(table.get(name)?.map(|value| value.value().to_vec()))
        })
    }

    /// Replaces one of the daemon's own records. On the disk when it returns.
    pub fn put_record(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.write(|transaction| {
            transaction.open_table(RECORDS)?.insert(name, bytes)?;
            Ok(())
        })
    }

    pub(super) fn read<T>(
        &self,
        work: impl Fn(&ReadTransaction) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        self.shared.handle.read(work)
    }

    pub(super) fn write<T>(
        &self,
        work: impl Fn(&WriteTransaction) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        self.shared.handle.write(work)
    }
}
