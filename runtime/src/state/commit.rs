//! One plugin's writes that belong together.

use super::codec::{Checkpoint, FileId};

/// One plugin's writes that reach the disk together or not at all: what it stored while it handled
/// some input, and the checkpoints of that input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub(super) identity: String,
    pub(super) checkpoints: Vec<(FileId, Option<Checkpoint>)>,
    pub(super) values: Vec<(String, Option<Vec<u8>>)>,
}

impl Commit {
    /// Nothing yet, for the plugin `identity` (`NAMESPACE/NAME`).
    pub fn new(identity: impl Into<String>) -> Self {
        Self {
            identity: identity.into(),
            checkpoints: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Records how far `file` was shipped. Of several for one file the last one counts.
    pub fn checkpoint(&mut self, file: FileId, checkpoint: Checkpoint) -> &mut Self {
        self.checkpoints.push((file, Some(checkpoint)));
        self
    }

    /// Forgets `file`.
    pub fn forget(&mut self, file: FileId) -> &mut Self {
        self.checkpoints.push((file, None));
        self
    }

    /// Stores a value. Of several for one key the last one counts.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.values.push((key.into(), Some(value.into())));
        self
    }

    /// Removes a key; nothing happens if there is none.
    pub fn delete(&mut self, key: impl Into<String>) -> &mut Self {
        self.values.push((key.into(), None));
        self
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.checkpoints.is_empty() && self.values.is_empty()
    }

    /// The plugin whose writes these are.
    pub fn identity(&self) -> &str {
        &self.identity
    }
}
