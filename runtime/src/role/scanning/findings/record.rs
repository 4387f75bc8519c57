//! How findings lie in the store: one byte that names the layout, then postcard.

use redb::TableDefinition;
use serde::{Deserialize, Serialize};

use super::finding::Found;
use crate::state::Fault;

/// The format of the file.
pub(super) const FORMAT: u64 = 1;

/// Number to an encoded [`Record`]. Numbers grow: the order of what was found first.
pub(super) const FINDINGS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("findings");
/// (plugin, scope, key of the subject, key of rule and fingerprint) to number.
pub(super) const INDEX: TableDefinition<'_, (&str, u8, u128, u128), u64> =
    TableDefinition::new("index");
/// (milliseconds since 1970, number) of what is resolved, so that the oldest go first.
pub(super) const RESOLVED: TableDefinition<'_, (i64, u64), ()> = TableDefinition::new("resolved");

/// The first byte of each value.
const LAYOUT: u8 = 1;

/// What replaces a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Scope {
    /// The next judgement of its file.
    File,
    /// The next end of a pass.
    Pass,
    /// The next assessment of the node.
    Node,
}

impl Scope {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::File => 0,
            Self::Pass => 1,
            Self::Node => 2,
        }
    }
}

/// How a finding is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum State {
    Open,
    /// Accepted for this reason.
    Suppressed(String),
    /// Gone.
    Resolved,
    /// Not looked at any more, so that it is not known whether it is so.
    LeftOut,
}

/// A finding as it is kept. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// `NAMESPACE/NAME`.
    pub(super) plugin: String,
    pub(super) scope: Scope,
    pub(super) found: Found,
    pub(super) title: String,
    pub(super) state: State,
    pub(super) first_seen: i64,
    pub(super) last_seen: i64,
    /// When its state was last another.
    pub(super) changed: i64,
}

impl Record {
    pub(super) fn is_resolved(&self) -> bool {
        matches!(self.state, State::Resolved | State::LeftOut)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        #[expect(
            clippy::expect_used,
            reason = "writing to a growing vector cannot fail, and this is plain data of known lengths"
        )]
        postcard::to_extend(self, vec![LAYOUT]).expect("plain data serializes")
    }

    pub(super) fn decode(number: u64, bytes: &[u8]) -> Result<Self, Fault> {
        let body = match bytes.split_first() {
            Some((&LAYOUT, body)) => postcard::take_from_bytes(body).ok(),
            _ => None,
        };
        match body {
            Some((record, [])) => Ok(record),
            _ => Err(Fault::Damaged(format!("unreadable finding {number}"))),
        }
    }
}
