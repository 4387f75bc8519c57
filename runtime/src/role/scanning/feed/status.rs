//! What the status says of the feed.

use std::collections::BTreeMap;

use serde::Serialize;

use super::counts::Progress;
use super::watch::Watched;
use super::{Feed, lock};

/// How the feed stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The pass under way.
    pub pass: Option<Progress>,
    /// How changes are seen at once.
    pub watched: Watched,
    /// What went wrong with files to which something happened: how often, by the error's number.
    pub event_errors: BTreeMap<i32, u64>,
    /// Folders of which something is remembered.
    pub cached_folders: u64,
    /// Bytes that this takes on the disk.
    pub cached_bytes: u64,
}

impl Feed {
    /// How it stands.
    pub fn status(&self) -> Status {
        let shared = &self.inner.shared;
        let running = lock(&shared.members).running.clone();
        let pass = running.map(|running| {
            Progress::of(
                &running.participants,
                &running.counts,
                running.expected,
                running.started,
                shared.pace.paused(),
            )
        });
        let (cached_folders, cached_bytes) = shared.cache.size();
        Status {
            pass,
            watched: shared.watch.watched(),
            event_errors: shared.events.errors(),
            cached_folders,
            cached_bytes,
        }
    }
}
