//! The baseline in the plugin's state: records in segments, and a head that says which.
//!
//! A baseline that is being learned grows by segments, so that a pass that is interrupted goes on where it
//! was. Sealed, it has a digest over all entries by path, and is not written again.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_sdk::{Context, Result, state};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::entry::{Entry, hex};

const HEAD: &str = "integrity/head";
const LABEL: &str = "integrity/label";
const RUNNING: &str = "integrity/running";
const MISSING: &str = "integrity/gone";
/// A segment that is longer is not added to.
const SEGMENT: usize = 32 << 10;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    label: String,
    /// Another one each time a baseline is begun: with it all files are passed again.
    generation: u64,
    segments: u32,
    seal: Option<Seal>,
}

/// What a baseline is known by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal {
    pub(super) files: u64,
    pub(super) digest: [u8; 32],
}

#[derive(Debug)]
pub(super) struct Store {
    head: Head,
    entries: BTreeMap<Vec<u8>, Entry>,
    /// The last segment, while it grows.
    tail: Vec<u8>,
    grown: bool,
    loaded: bool,
    broken: bool,
    no_room: bool,
}

impl Store {
    pub(super) fn new(label: &str) -> Self {
        Self {
            head: Head {
                label: label.to_owned(),
                generation: 0,
                segments: 0,
                seal: None,
            },
            entries: BTreeMap::new(),
            tail: Vec::new(),
            grown: false,
            loaded: false,
            broken: false,
            no_room: false,
        }
    }

    /// Reads what there is, and writes nothing: the instance may be one that is only tried.
    pub(super) fn load(&mut self) -> Result<()> {
        if self.loaded {
            return Ok(());
        }
        self.loaded = true;
        let head = state::get(HEAD).context("the baseline cannot be read")?;
        let known = head.and_then(|head| serde_json::from_slice::<Head>(&head).ok());
        let Some(known) = known else {
            self.head.generation = generation();
            // What is left of a baseline whose head is gone or damaged is no reason to make another one.
            let label = state::get(LABEL).context("the baseline cannot be read")?;
            self.broken = label.is_some_and(|label| label == self.head.label.as_bytes());
            return Ok(());
        };
        if known.label != self.head.label {
            self.head.generation = generation();
            return Ok(());
        }
        self.head = known;
        for number in 0..self.head.segments {
            let segment = state::get(&key(number)).context("the baseline cannot be read")?;
            self.tail = segment.unwrap_or_default();
            let mut rest = self.tail.as_slice();
            while let Some((path, entry, after)) = Entry::read(rest) {
                self.entries.insert(path.to_vec(), entry);
                rest = after;
            }
            self.broken |= !rest.is_empty();
        }
        if let Some(seal) = &self.head.seal {
            let found = self.digest();
            self.broken |= *seal != found;
        }
        Ok(())
    }

    pub(super) fn generation(&self) -> u64 {
        self.head.generation
    }

    pub(super) fn is_learning(&self) -> bool {
        self.head.seal.is_none() && !self.broken
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(super) fn has_no_room(&self) -> bool {
        self.no_room
    }

    pub(super) fn sealed(&self) -> Option<&Seal> {
        self.head.seal.as_ref().filter(|_| !self.broken)
    }

    pub(super) fn get(&self, path: &[u8]) -> Option<&Entry> {
        self.sealed().and_then(|_| self.entries.get(path))
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.entries.keys()
    }

    pub(super) fn learn(&mut self, path: &[u8], entry: Entry) -> Result<()> {
        if self.no_room || self.entries.get(path) == Some(&entry) {
            return Ok(());
        }
        if self.head.segments == 0 || self.tail.len() >= SEGMENT {
            // The one before is written first.
            self.flush()?;
            self.head.segments += 1;
            self.tail.clear();
        }
        entry.write(path, &mut self.tail);
        self.grown = true;
        self.entries.insert(path.to_vec(), entry);
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        if !self.grown || self.no_room {
            return Ok(());
        }
        self.grown = false;
        // The first head that is written is the end of another baseline.
        let written = self.write_head();
        let last = key(self.head.segments.saturating_sub(1));
        let written = written.and_then(|()| state::set(&last, &self.tail));
        match written {
            Err(state::Error::OverQuota(_)) => self.give_up(),
            other => other.context("the baseline cannot be written"),
        }
    }

    /// A part of a baseline must not become one: another instance begins anew, with another generation, so
    /// that all files are passed to it.
    fn give_up(&mut self) -> Result<()> {
        self.no_room = true;
        self.entries.clear();
        self.tail = Vec::new();
        state::delete(HEAD)?;
        state::delete(LABEL)?;
        for key in state::keys("integrity/segment/")? {
            state::delete(&key)?;
        }
        Ok(())
    }

    fn write_head(&self) -> std::result::Result<(), state::Error> {
        state::set(LABEL, self.head.label.as_bytes())?;
        let head = serde_json::to_vec(&self.head);
        state::set(HEAD, &head.unwrap_or_default())
    }

    /// What was learned becomes the baseline.
    pub(super) fn seal(&mut self) -> Result<()> {
        self.flush()?;
        if self.no_room {
            return Ok(());
        }
        let seal = self.digest();
        bulkhead_sdk::info!(
            "the baseline {} has {} files and the digest {}",
            self.head.label,
            seal.files,
            hex(&seal.digest)
        );
        self.head.seal = Some(seal);
        self.write_head()
            .context("the baseline cannot be written")?;
        // Of a baseline before it that was longer.
        for key in state::keys("integrity/segment/")? {
            if key.as_str() >= self::key(self.head.segments).as_str() {
                state::delete(&key)?;
            }
        }
        Ok(())
    }

    /// Over label and entries by path.
    fn digest(&self) -> Seal {
        let mut digest = Sha256::new();
        digest.update(&self.head.label);
        let mut record = Vec::new();
        for (path, entry) in &self.entries {
            record.clear();
            entry.write(path, &mut record);
            digest.update(&record);
        }
        Seal {
            files: self.entries.len() as u64,
            digest: digest.finalize().into(),
        }
    }

    /// Whether a full pass was begun and has not ended.
    pub(super) fn is_running(&self) -> Result<bool> {
        Ok(state::get(RUNNING)?.is_some())
    }

    pub(super) fn set_running(&self, running: bool) -> Result<()> {
        match running {
            true => if_there_is_room(state::set(RUNNING, b"")),
            false => Ok(state::delete(RUNNING)?),
        }
    }

    /// Files that were missing when that was last looked at.
    pub(super) fn gone(&self) -> Result<BTreeSet<Vec<u8>>> {
        let stored = state::get(MISSING)?.unwrap_or_default();
        let paths = stored.split(|byte| *byte == 0);
        Ok(paths
            .filter(|path| !path.is_empty())
            .map(<[u8]>::to_vec)
            .collect())
    }

    pub(super) fn set_gone(&self, gone: &BTreeSet<Vec<u8>>, most: usize) -> Result<()> {
        if gone.is_empty() {
            return Ok(state::delete(MISSING)?);
        }
        let paths: Vec<&[u8]> = gone.iter().take(most).map(Vec::as_slice).collect();
        if_there_is_room(state::set(MISSING, &paths.join(&0)))
    }
}

/// What is only good to know is left out of a state that is full.
fn if_there_is_room(written: std::result::Result<(), state::Error>) -> Result<()> {
    match written {
        Err(state::Error::OverQuota(_)) => Ok(()),
        other => Ok(other?),
    }
}

fn key(segment: u32) -> String {
    format!("integrity/segment/{segment:06}")
}

/// Nanoseconds since 1970: later ones are others.
fn generation() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |since| since.as_nanos() as u64)
}
