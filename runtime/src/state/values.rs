//! A plugin's key-value store as its guest sees it: writes are visible at once and reach the disk
//! with the next commit of its checkpoints, so that state never lags behind the input.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Commit, Error, Store};
use crate::sandbox::{KeyValue, KeyValueError};

/// See the module. `None` as a value is a deletion.
pub struct Values {
    store: Store,
    identity: String,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    /// Bytes of all keys and values, those that are not on the disk yet included.
    size: u64,
    /// Written since the latest commit began.
    fresh: BTreeMap<String, Option<Vec<u8>>>,
    /// In a commit that has not ended yet.
    committing: BTreeMap<String, Option<Vec<u8>>>,
}

impl Values {
    /// The values of a plugin.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn open(store: Store, identity: &str) -> Result<Self, Error> {
        let size = store.kv_size(identity)?;
        Ok(Self {
            store,
            identity: identity.to_owned(),
            pending: Mutex::new(Pending {
                size,
                ..Pending::default()
            }),
        })
    }

    /// Bytes in use.
    pub fn size(&self) -> u64 {
        self.pending().size
    }

    /// Moves what was written since the last commit into `commit`, which must be ended by
    /// [`Self::committed`].
    pub fn collect(&self, commit: &mut Commit) {
        let mut pending = self.pending();
        let pending = &mut *pending;
        for (key, value) in std::mem::take(&mut pending.fresh) {
            match &value {
                Some(value) => commit.set(key.clone(), value.clone()),
                None => commit.delete(key.clone()),
            };
            pending.committing.insert(key, value);
        }
    }

    /// The commit ended. What was in a failed one goes into the next.
    pub fn committed(&self, success: bool) {
        let mut pending = self.pending();
        let committing = std::mem::take(&mut pending.committing);
        if !success {
            for (key, value) in committing {
                pending.fresh.entry(key).or_insert(value);
            }
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_up(&self, pending: &Pending, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        let written = pending
            .fresh
            .get(key)
            .or_else(|| pending.committing.get(key));
        match written {
            Some(value) => Ok(value.clone()),
            None => self.store.kv_get(&self.identity, key).map_err(unavailable),
        }
    }
}

fn unavailable(error: Error) -> KeyValueError {
    KeyValueError::Unavailable(error.to_string())
}

impl KeyValue for Values {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        let pending = self.pending();
        self.look_up(&pending, key)
    }

    fn put(&self, key: String, value: Option<Vec<u8>>, quota: u64) -> Result<(), KeyValueError> {
        let mut pending = self.pending();
        let old = self.look_up(&pending, &key)?;
        let bytes = |value: &Option<Vec<u8>>| {
            value
                .as_ref()
                .map_or(0, |value| (key.len() + value.len()) as u64)
        };
        let size = pending.size.saturating_sub(bytes(&old)) + bytes(&value);
        if size > quota && bytes(&value) > bytes(&old) {
            return Err(KeyValueError::OverQuota(quota));
        }
        pending.size = size;
        pending.fresh.insert(key, value);
        Ok(())
    }

    fn list(&self, prefix: &str, limit: usize) -> Result<Vec<String>, KeyValueError> {
        let pending = self.pending();
        // Keys that are deleted but still on the disk take places: ask for as many more.
        let deleted = pending.fresh.len() + pending.committing.len();
        let mut keys: BTreeMap<String, bool> = self
            .store
            .kv_list(&self.identity, prefix, limit + deleted)
            .map_err(unavailable)?
            .into_iter()
            .map(|key| (key, true))
            .collect();
        for written in [&pending.committing, &pending.fresh] {
            for (key, value) in written.range(prefix.to_owned()..) {
                if !key.starts_with(prefix) {
                    break;
                }
                keys.insert(key.clone(), value.is_some());
            }
        }
        let present = keys.into_iter().filter(|(_, present)| *present);
        Ok(present.map(|(key, _)| key).take(limit).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const QUOTA: u64 = 20;

    fn values(folder: &std::path::Path) -> (Store, Values) {
        let store = Store::open(folder).unwrap().store;
        let values = Values::open(store.clone(), "local/x").unwrap();
        (store, values)
    }

    #[test]
    fn writes_are_seen_at_once_and_reach_the_disk_with_a_commit() {
        let folder = tempfile::tempdir().unwrap();
        let (store, values) = values(folder.path());
        values.put("a1".into(), Some(b"1".to_vec()), QUOTA).unwrap();
        values.put("a2".into(), Some(b"2".to_vec()), QUOTA).unwrap();
        assert_eq!(values.get("a1").unwrap(), Some(b"1".to_vec()));
        assert_eq!(store.kv_get("local/x", "a1").unwrap(), None);
        let mut commit = Commit::new("local/x");
        values.collect(&mut commit);
        values.put("a1".into(), None, QUOTA).unwrap();
        store.commit(&commit).unwrap();
        values.committed(true);
        assert_eq!(values.get("a1").unwrap(), None);
        assert_eq!(values.list("a", 9).unwrap(), ["a2"]);
        assert_eq!(store.kv_get("local/x", "a2").unwrap(), Some(b"2".to_vec()));
    }

    #[test]
    fn a_failed_commit_is_made_again_without_undoing_later_writes() {
        let folder = tempfile::tempdir().unwrap();
        let (_, values) = values(folder.path());
        values
            .put("a".into(), Some(b"old".to_vec()), QUOTA)
            .unwrap();
        values.put("b".into(), Some(b"b".to_vec()), QUOTA).unwrap();
        values.collect(&mut Commit::new("local/x"));
        values
            .put("a".into(), Some(b"new".to_vec()), QUOTA)
            .unwrap();
        values.committed(false);
        assert_eq!(values.get("a").unwrap(), Some(b"new".to_vec()));
        let mut commit = Commit::new("local/x");
        values.collect(&mut commit);
        assert!(!commit.is_empty());
        assert_eq!(values.get("b").unwrap(), Some(b"b".to_vec()));
    }

    #[test]
    fn the_quota_holds_and_shrinking_is_always_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let (_, values) = values(folder.path());
        values.put("key".into(), Some(vec![0; 17]), QUOTA).unwrap();
        assert!(matches!(
            values.put("k".into(), Some(vec![]), QUOTA),
            Err(KeyValueError::OverQuota(QUOTA))
        ));
        assert_eq!(values.size(), 20);
        values.put("key".into(), Some(vec![0; 10]), 5).unwrap();
        values.put("key".into(), None, 5).unwrap();
        assert_eq!(values.size(), 0);
    }
}
