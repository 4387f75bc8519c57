//! The queue on the disk in front of a destination, as a manifest says it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::ByteSize;

/// A queue on the disk in front of a destination: what that does not take is kept here, so that reading
/// goes on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Queue {
    /// An existing folder of the node below which it lies; the daemon's state folder unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The most bytes that it takes on the disk.
    pub max_size: ByteSize,
    /// What happens when it has as many.
    pub when_full: WhenFull,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            path: None,
            max_size: ByteSize::mebibytes(1024),
            when_full: WhenFull::Block,
        }
    }
}

/// What happens when a queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WhenFull {
    /// Nothing more is read for its destination; nothing is lost.
    #[default]
    Block,
    /// The oldest lines are dropped, and counted.
    DropOldest,
}
