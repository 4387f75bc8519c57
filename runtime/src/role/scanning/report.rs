//! The role's figures, as the status endpoint shows them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::feed::{PassKind, Progress, Watched};
use super::findings::SeverityCounts;
use super::publish::PublishStatus;

/// What a plugin with the role `scanning` was shown, and how many findings there are.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScanningReport {
    /// Open findings.
    pub findings: SeverityCounts,
    /// Findings that the manifest accepts.
    pub suppressed: u64,
    /// Files that were passed to the plugin since the daemon started.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Of these files, the ones that were passed because something happened to them.
    pub events: u64,
    /// Files by which the plugin fails: they are not judged until they change.
    pub unjudged: u64,
    /// Some of these, with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unjudged_files: Vec<String>,
    /// Passes over all files that have ended.
    pub passes: u64,
    /// The latest of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_pass: Option<PassReport>,
    /// The pass under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<Progress>,
    /// How changes of files are seen at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watched: Option<Watched>,
    /// How often the node as it is was judged.
    pub assessments: u64,
    /// When that was last (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_assessment: Option<Timestamp>,
    /// What could not be seen then, and the first of it.
    pub troubles: u64,
    /// See there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_trouble: Option<String>,
    /// Where changes of findings go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<PublishStatus>,
    /// What is wrong with the role itself and what to do, if anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl ScanningReport {
    /// A pass has ended just now.
    pub(super) fn passed(&mut self, pass: PassReport) {
        self.passes += 1;
        self.last_pass = Some(pass);
    }
}

/// A pass that has ended.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PassReport {
    /// How many passes for any plugin have begun until this one, since the daemon started.
    pub number: u64,
    /// `changed` or `full`.
    pub kind: &'static str,
    /// When it ended (UTC).
    pub ended: Timestamp,
    /// How long it took.
    pub seconds: f64,
    /// Whether every file was judged, or has not changed since it was.
    pub complete: bool,
    /// How often what went wrong, by the error's number, also with files of other plugins that took part.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub errors: BTreeMap<i32, u64>,
}

impl PassReport {
    /// One that has ended just now.
    pub(super) fn of(
        number: u64,
        kind: PassKind,
        complete: bool,
        took: Duration,
        errors: BTreeMap<i32, u64>,
    ) -> Self {
        Self {
            number,
            kind: match kind {
                PassKind::Changed => "changed",
                PassKind::Full => "full",
            },
            ended: Timestamp::now(),
            seconds: took.as_secs_f64(),
            complete,
            errors,
        }
    }
}
