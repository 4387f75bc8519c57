//! Orders to a running daemon: a socket in its state folder, for root on this node alone. The status
//! endpoint only tells; what changes something comes through here.

mod client;
mod recording;
mod scanning;
mod server;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use client::{ClientError, Records, record, send};
pub use recording::{End, Head, RecordOrder, Recorded};
pub use scanning::{ScanAnswer, ScanOrder, Scanned};
pub use server::{Controls, Error, listen};

/// The socket of a daemon with this state folder.
fn socket(state: &Path) -> PathBuf {
    state.join("control.sock")
}

/// What can be sent.
pub trait Ask: Serialize {
    /// Where to.
    const PATH: &'static str;
    /// What comes back.
    type Answer: DeserializeOwned;
}

impl Ask for Request {
    const PATH: &'static str = "/v1/enforcement";
    type Answer = Answer;
}

/// What is sent to a plugin with the role `enforcement`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// `NAMESPACE/NAME`, or the name alone if there is one of it.
    pub plugin: String,
    /// What to do.
    pub order: Order,
}

/// What a plugin with the role `enforcement` can be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Order {
    /// Look at everything now.
    Check {},
    /// Put changes back, and leave them alone until the manifest changes.
    Revert {
        /// Its number in the history, or its id; all if it is not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        change: Option<String>,
        /// Also what somebody else has changed since.
        #[serde(default)]
        force: bool,
    },
    /// Take up again what was put back.
    Resume {},
    /// Tell what was changed, latest first.
    History {
        /// At most so many.
        limit: u32,
        /// Only before this number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<u64>,
    },
}

/// An answer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Answer {
    /// The plugin as `NAMESPACE/NAME`.
    pub plugin: String,
    /// What was put back or could not be, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// How many of these could not be.
    pub failed: u64,
    /// The role's report after it, as the status endpoint has it.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub report: serde_json::Value,
    /// What was changed, as the status endpoint has it.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub history: serde_json::Value,
}

/// What is answered instead.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Refusal {
    message: String,
}
