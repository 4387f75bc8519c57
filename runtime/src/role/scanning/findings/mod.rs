//! What plugins found: checked against the contract, each kept once with when it was first and last seen,
//! resolved when it is gone, and told to whoever listens.
//!
//! One file, `STATE/findings.redb`, written by one thread, which takes all that waits for it into one
//! transaction. Of a finding, only counts are in memory, and of a file that has some, a hash: a file
//! without findings, as nearly all are, costs no more than a look into a set.

mod asked;
mod change;
mod check;
mod finding;
mod query;
mod record;
mod report;
mod rules;
mod store;
mod suppress;
mod tally;
mod tend;
mod writer;

pub use asked::{Asked, FindingList, MOST};
pub use change::{Change, Changes, Heard};
pub use check::{Broken, Judged, check_files, check_whole};
pub use finding::{Found, Severity, Subject};
pub use query::{Cursor, Page, Query, States};
pub use report::{FindingReport, FindingState, SubjectReport};
pub use rules::{Rule, Rules};
pub use store::{Failed, Findings, Limits, Opened};
pub use tally::{RuleCount, SeverityCounts, Tally};
pub use writer::Whole;

#[cfg(test)]
mod tests;
