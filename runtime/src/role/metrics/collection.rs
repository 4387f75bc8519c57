//! One collection of one plugin.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::found::{Found, LeftOut};

/// What one collection came to.
#[derive(Debug)]
pub(super) struct Collection {
    /// The collectors, in the order of their calls.
    pub(super) collectors: Vec<CollectorOutcome>,
    /// Why it ended before its time, if it did.
    pub(super) failure: Option<String>,
    /// When it was over.
    pub(super) ended: Instant,
    /// How long it took, waiting for the plugin included.
    pub(super) took: Duration,
}

/// What one collector came to.
#[derive(Debug)]
pub(super) struct CollectorOutcome {
    /// Its name.
    pub(super) name: Arc<str>,
    /// Reading its files and its call.
    pub(super) took: Duration,
    /// Why it failed, if it did.
    pub(super) error: Option<String>,
    pub(super) found: Found,
    pub(super) left_out: LeftOut,
}

impl CollectorOutcome {
    pub(super) fn failed(name: Arc<str>, took: Duration, error: String) -> Self {
        Self {
            name,
            took,
            error: Some(error),
            found: Found::default(),
            left_out: LeftOut::default(),
        }
    }

    /// How many series it found.
    pub(super) fn series(&self) -> usize {
        self.found.series()
    }

    /// Bytes that they take here.
    pub(super) fn bytes(&self) -> usize {
        self.found.size()
    }
}

impl Collection {
    /// One that came to nothing.
    pub(super) fn failed(why: String, took: Duration) -> Self {
        Self {
            collectors: Vec::new(),
            failure: Some(why),
            ended: Instant::now(),
            took,
        }
    }

    /// How many series were found.
    pub(super) fn series(&self) -> usize {
        self.collectors.iter().map(CollectorOutcome::series).sum()
    }
}
