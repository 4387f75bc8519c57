//! What a subscriber asks for, and what it is told.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use super::batch::Batch;
use super::digest::Wanted;
use crate::manifest::{Budget, NodeGlob, Schedule, Tree};

/// What of a file is passed; the contract's `file-interest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interest {
    /// The most bytes of each file; none if 0.
    pub content: u64,
    /// Digests of the whole file.
    pub digests: Wanted,
    /// Extended attributes.
    pub attributes: bool,
    /// Also folders, links and special files.
    pub others: bool,
}

/// What one plugin is to be shown.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Its identity. What was judged is kept under this name.
    pub name: String,
    /// Folders with all below them.
    pub roots: Vec<Tree>,
    /// What of them is left out, with all below.
    pub exclude: Vec<NodeGlob>,
    /// Whether file systems mounted below a root are left out.
    pub one_file_system: bool,
    /// What of each file.
    pub interest: Interest,
    /// A digest of all that decides about a file: with another one, everything is passed again.
    pub rule_set: Vec<u8>,
    /// When.
    pub schedule: Schedule,
    /// How fast. Of those that share a pass, the strictest holds.
    pub budget: Budget,
}

/// Why files are passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassKind {
    /// What has not changed since it was judged is left out.
    Changed,
    /// Everything is passed, since times can be forged.
    Full,
}

/// What a subscriber is told, in this order: batches of a pass are between its begin and its end; those
/// of events may come at any time, also within a pass.
#[derive(Debug)]
pub enum Message {
    /// A pass begins.
    Begin {
        /// Which.
        kind: PassKind,
        /// It was interrupted, and goes on: what was judged before is not passed again, unless it has
        /// changed since.
        resumed: bool,
    },
    /// Files. To be answered by [`Batch::judged`] or [`Batch::failed`].
    Batch(Batch),
    /// A pass is over, and all of its batches have been answered.
    End {
        /// How many passes have begun until this one, see [`Feed::request`](super::Feed::request).
        number: u64,
        /// Which.
        kind: PassKind,
        /// Whether every file was passed and judged, or has not changed; what could not be read was
        /// passed with its error.
        complete: bool,
        /// How often what went wrong in it, by the error's number, whosever files it was with.
        errors: BTreeMap<i32, u64>,
    },
}

/// The subscriber's end. Dropped, nothing more is read for it.
#[derive(Debug)]
pub struct Subscriber {
    pub(super) messages: mpsc::Receiver<Message>,
}

impl Subscriber {
    /// The next message; none if the feed is gone.
    pub async fn next(&mut self) -> Option<Message> {
        self.messages.recv().await
    }

    /// The same for a thread of its own.
    pub fn blocking_next(&mut self) -> Option<Message> {
        self.messages.blocking_recv()
    }
}
