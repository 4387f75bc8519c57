//! Which plugins the daemon has known, and when their state is forgotten.

use std::time::{Duration, SystemTime};

use redb::{ReadableTable, WriteTransaction};

use super::codec::{StoredPlugin, decode, encode};
use super::error::{Error, Fault};
use super::handle::existing;
use super::store::{CHECKPOINTS, PLUGINS, Store, VALUE_BYTES, VALUES};

/// How long a plugin's state outlives its manifest, so that delete and re-create goes on where it was.
pub const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// Since when a plugin is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstSeen {
    /// When it was first loaded: files older than this are subject to `startAt`.
    pub at: SystemTime,
    /// Whether that is now.
    pub new: bool,
}

/// What is known of a plugin, present or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginRecord {
    /// `NAMESPACE/NAME`.
    pub identity: String,
    /// When it was first loaded.
    pub first_seen: SystemTime,
    /// When it was last loaded.
    pub last_seen: SystemTime,
    /// Since when its manifest is gone.
    pub deleted_at: Option<SystemTime>,
}

impl PluginRecord {
    fn decode(identity: &str, bytes: &[u8]) -> Result<Self, Fault> {
        let damaged = || Fault::Damaged(format!("unreadable record of plugin {identity}"));
        let stored: StoredPlugin = decode(bytes).ok_or_else(damaged)?;
        let (first_seen, last_seen, deleted_at) = stored.times().ok_or_else(damaged)?;
        Ok(Self {
            identity: identity.to_owned(),
            first_seen,
            last_seen,
            deleted_at,
        })
    }

    fn encode(&self) -> Vec<u8> {
        encode(&StoredPlugin::new(
            self.first_seen,
            self.last_seen,
            self.deleted_at,
        ))
    }

    fn expired(&self, now: SystemTime) -> bool {
        // A clock that was set back counts as no time at all: state is kept rather than lost.
        self.deleted_at
            .is_some_and(|at| now.duration_since(at).unwrap_or_default() >= RETENTION)
    }
}

impl Store {
    /// Notes that the plugin's manifest is there, and takes back a deletion. State whose retention
    /// had ended is removed first: the plugin is new then.
    pub fn mark_present(&self, identity: &str, now: SystemTime) -> Result<FirstSeen, Error> {
        self.write(|transaction| {
            let mut known = get(transaction, identity)?;
            if known.as_ref().is_some_and(|record| record.expired(now)) {
                purge(transaction, identity)?;
                known = None;
            }
            let first_seen = FirstSeen {
                at: known.as_ref().map_or(now, |record| record.first_seen),
                new: known.is_none(),
            };
            put(
                transaction,
                &PluginRecord {
                    identity: identity.to_owned(),
                    first_seen: first_seen.at,
                    last_seen: now,
                    deleted_at: None,
                },
            )?;
            Ok(first_seen)
        })
    }

    /// Notes that the plugin's manifest is gone; from now its state has [`RETENTION`] left. A plugin
    /// that is already marked keeps its time, one that is not known stays so.
    pub fn mark_deleted(&self, identity: &str, now: SystemTime) -> Result<(), Error> {
        self.write(|transaction| {
            if let Some(mut record) = get(transaction, identity)?
                && record.deleted_at.is_none()
            {
                record.deleted_at = Some(now);
                put(transaction, &record)?;
            }
            Ok(())
        })
    }

    /// Removes all state of plugins whose retention has ended, and says whose.
    pub fn purge_expired(&self, now: SystemTime) -> Result<Vec<String>, Error> {
        let expired: Vec<String> = self
            .known_plugins()?
            .into_iter()
            .filter(|record| record.expired(now))
            .map(|record| record.identity)
            .collect();
        if expired.is_empty() {
            return Ok(expired);
        }
        self.write(|transaction| {
            let mut purged = Vec::new();
            for identity in &expired {
                // It may have come back since it was listed.
                if get(transaction, identity)?.is_some_and(|record| record.expired(now)) {
                    purge(transaction, identity)?;
                    purged.push(identity.clone());
                }
            }
            Ok(purged)
        })
    }

    /// Every plugin that has state here, present or deleted. At start, those without a manifest are
    /// to be marked deleted.
    pub fn known_plugins(&self) -> Result<Vec<PluginRecord>, Error> {
        self.read(|transaction| {
            let Some(table) = existing(transaction.open_table(PLUGINS))? else {
                return Ok(Vec::new());
            };
            table
                .iter()?
                .map(|entry| {
                    let (identity, record) = entry?;
                    PluginRecord::decode(identity.value(), record.value())
                })
                .collect()
        })
    }
}

fn get(transaction: &WriteTransaction, identity: &str) -> Result<Option<PluginRecord>, Fault> {
    let table = transaction.open_table(PLUGINS)?;
    let record = table.get(identity)?;
    record
        .map(|record| PluginRecord::decode(identity, record.value()))
        .transpose()
}

fn put(transaction: &WriteTransaction, record: &PluginRecord) -> Result<(), Fault> {
    transaction
        .open_table(PLUGINS)?
        .insert(record.identity.as_str(), record.encode().as_slice())?;
    Ok(())
}

fn purge(transaction: &WriteTransaction, identity: &str) -> Result<(), Fault> {
    transaction
        .open_table(CHECKPOINTS)?
        .retain_in((identity, 0, 0)..=(identity, u64::MAX, u64::MAX), |_, _| {
            false
        })?;
    let mut values = transaction.open_table(VALUES)?;
    // There is no greatest key, but a least owner after this one: the same with a zero byte.
    let after = format!("{identity}\0");
    values.retain_in((identity, "")..(after.as_str(), ""), |_, _| false)?;
    transaction.open_table(VALUE_BYTES)?.remove(identity)?;
    transaction.open_table(PLUGINS)?.remove(identity)?;
    Ok(())
}
