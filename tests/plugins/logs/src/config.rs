//! How the fixture behaves.

use schemars::JsonSchema;
use serde::Deserialize;

/// Keeps every line as it is unless a field says otherwise.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Adds this to each line, as field `version`.
    pub version: Option<String>,
    /// Keeps only lines that contain this text.
    pub contains: String,
    /// Puts this in front of each line's body.
    pub prefix: Option<String>,
    /// Adds the number of lines seen so far as field `count`, and carries it through snapshots
    /// (version 1: eight bytes, little-endian).
    pub count: bool,
    /// Sends each line to these destinations; refuses names that do not exist when it starts.
    pub route: Vec<String>,
    /// Answers with payloads of at most this many lines, each with a line feed.
    pub encode: Option<usize>,
    /// Reads this file when made, and adds its text to each line as field `file`; `error: ...` if it
    /// cannot be read. Also a log record.
    pub read_file: Option<String>,
    /// What it does to its host.
    pub faults: Vec<Fault>,
}

impl Config {
    pub(crate) fn changes_lines(&self) -> bool {
        self.version.is_some()
            || self.prefix.is_some()
            || self.count
            || self.read_file.is_some()
            || !self.route.is_empty()
    }
}

/// A misdeed, and when to do it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Fault {
    /// In which call.
    #[serde(default)]
    pub at: When,
    /// In `process`: only if a line of the batch contains this text.
    #[serde(default)]
    pub marker: String,
    /// In `process`: only after this many batches of this instance.
    #[serde(default)]
    pub after_batches: u64,
    /// What to do.
    #[serde(rename = "do")]
    pub act: Act,
}

/// A call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum When {
    Init,
    Restore,
    Snapshot,
    Start,
    #[default]
    Process,
}

/// A misdeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Act {
    /// Never returns.
    Loop,
    /// Panics with `fixture panic at CALL`.
    Panic,
    /// Recurses until the stack is full.
    OverflowStack,
    /// Allocates until it is not allowed to, and touches it.
    Allocate,
    /// Returns the error (or refusal of field `faults`) `fixture error at CALL`.
    Error,
    /// Sleeps for an hour.
    Sleep,
    /// Ends the process from within, with status 3.
    Exit,
    /// Writes 10,000 records to the daemon's log.
    SpamLog,
    /// Writes 16 MiB to standard error.
    SpamStderr,
    /// Keeps a line that is not in the batch.
    IndexOutOfRange,
    /// Keeps the same line twice.
    NotAscending,
    /// A body beyond the rewritten bytes.
    BodyOutOfBounds,
    /// Fields beyond the rewritten bytes.
    FieldsOutOfBounds,
    /// A route that is not in the answer's table.
    UnknownRoute,
    /// A route to the destination `no-such-destination`.
    UnknownDestination,
    /// Sets flags that the contract reserves.
    ReservedFlags,
    /// Fields that are no JSON members.
    InvalidFields,
    /// A body said to be a JSON object that is none.
    InvalidBody,
    /// A body of 64 MiB.
    HugeOutput,
    /// Each line a million times over.
    HugeTable,
    /// A payload beyond the encoded bytes.
    PayloadOutOfBounds,
    /// A payload that takes a line that is not in the batch.
    PayloadLineOutOfRange,
    /// A payload that takes more lines than the answer lists.
    PayloadTakesTooMany,
}
