//! Starting without the plugins that keep killing the daemon.
//!
//! After three unclean ends within five minutes, the plugins that were in a call at the most
//! of them are left out, until their manifest changes or the daemon has ended cleanly once.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::state::{Error, Store};

/// Deaths older than this do not count.
const WINDOW: Duration = Duration::from_secs(300);
const RECORD: &str = "deaths";

/// What the store keeps.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    /// Whether the daemon that wrote this has not ended cleanly (yet).
    running: bool,
    deaths: Vec<Death>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Death {
    /// Seconds since 1970.
    time: u64,
    /// Who was in a call.
    plugins: Vec<String>,
}

/// The plugins that are left out.
#[derive(Debug)]
pub(super) struct SafeMode {
    store: Store,
    /// Identity, and the hash of the manifest that is left out once it is known.
    left_out: BTreeMap<String, Option<String>>,
    deaths: usize,
}

impl SafeMode {
    /// Notes this start. `in_call` are the plugins that were in a call when the last daemon ended;
    /// `most` is the number of deaths from which on they are left out, 0 for never.
    pub(super) fn begin(store: Store, in_call: Vec<String>, most: usize) -> Result<Self, Error> {
        let now = seconds(SystemTime::now());
        let mut record: Record = store
            .get_record(RECORD)?
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        if record.running {
            record.deaths.push(Death {
                time: now,
                plugins: in_call,
            });
        } else {
            record.deaths.clear();
        }
        // A clock that was set back makes a death look like one to come: it counts as recent.
        record
            .deaths
            .retain(|death| now.saturating_sub(death.time) <= WINDOW.as_secs());
        let deaths = record.deaths.len();
        let left_out = if most > 0 && deaths >= most {
            suspects(&record.deaths)
        } else {
            BTreeMap::new()
        };
        record.running = true;
        write(&store, &record)?;
        Ok(Self {
            store,
            left_out,
            deaths,
        })
    }

    /// Why a plugin is left out, if it is.
    pub(super) fn reason(&mut self, identity: &str, manifest: &str) -> Option<String> {
        let known = self.left_out.get_mut(identity)?;
        if known.get_or_insert_with(|| manifest.to_owned()) != manifest {
            self.left_out.remove(identity);
            return None;
        }
        Some(format!(
            "the daemon died {} times within five minutes, and this plugin was in a call; it is left out until its manifest changes or the daemon is restarted cleanly",
            self.deaths
        ))
    }

    /// The plugins that are left out.
    pub(super) fn left_out(&self) -> Vec<String> {
        self.left_out.keys().cloned().collect()
    }

    /// The daemon ends cleanly.
    pub(super) fn end(&self) -> Result<(), Error> {
        write(&self.store, &Record::default())
    }
}

/// The plugins that were in a call at the most deaths: a bystander is in a call at some of them.
fn suspects(deaths: &[Death]) -> BTreeMap<String, Option<String>> {
    let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
    for plugin in deaths.iter().flat_map(|death| &death.plugins) {
        *counts.entry(plugin).or_default() += 1;
    }
    let most = counts.values().copied().max();
    counts
        .into_iter()
        .filter(|(_, count)| Some(*count) == most)
        .map(|(plugin, _)| (plugin.clone(), None))
        .collect()
}

fn write(store: &Store, record: &Record) -> Result<(), Error> {
    // A struct of strings and numbers always has a JSON form.
    let bytes = serde_json::to_vec(record).unwrap_or_default();
    store.put_record(RECORD, &bytes)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn start(store: &Store, in_call: &[&str]) -> SafeMode {
        let in_call = in_call.iter().map(|&plugin| plugin.to_owned()).collect();
        SafeMode::begin(store.clone(), in_call, 3).unwrap()
    }

    #[test]
    fn the_third_death_leaves_the_killer_out_until_its_manifest_changes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap().store;
        assert!(start(&store, &[]).left_out().is_empty());
        assert!(
            start(&store, &["local/bystander", "local/killer"])
                .left_out()
                .is_empty()
        );
        assert!(start(&store, &["local/killer"]).left_out().is_empty());
        let mut third = start(&store, &[]);
        assert_eq!(third.left_out(), ["local/killer"]);
        assert!(third.reason("local/other", "a").is_none());
        assert!(third.reason("local/killer", "a").is_some());
        assert!(third.reason("local/killer", "a").is_some());
        assert!(third.reason("local/killer", "b").is_none());
    }

    #[test]
    fn a_clean_end_wipes_the_slate() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap().store;
        for _ in 0..3 {
            start(&store, &["local/killer"]);
        }
        start(&store, &["local/killer"]).end().unwrap();
        assert!(start(&store, &["local/killer"]).left_out().is_empty());
    }
}
