//! The role's figures, as the status endpoint shows them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use schemars::JsonSchema;
use serde::Serialize;

use super::delivery::DestinationStatus;
use super::ledger::Ledger;
use super::tail;

/// What a plugin with the role `logs` has read and delivered since the daemon started.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogsReport {
    /// What became of each line.
    pub lines: Lines,
    /// Bytes of lines.
    pub bytes: Bytes,
    /// How far the plugin is behind.
    pub lag: Lag,
    /// Files.
    pub files: Files,
    /// `inotify`, or `polling` where folders cannot be watched.
    pub watch: &'static str,
    /// Lines that were joined onto others (`multiline`): lines written = `lines.read` +
    /// `lines.givenUp` + these.
    pub joined_lines: u64,
    /// Lines longer than `logs.maxLine`.
    pub cut_lines: u64,
    /// Lines of container logs that are not in CRI format; passed on as they are.
    pub malformed_lines: u64,
    /// Where lines go.
    pub destinations: Vec<DestinationStatus>,
    /// What is wrong and what to do, if anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// `read` = `acknowledged` + `filtered` + `deadLettered` + `inFlight`; `givenUp` was never read.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lines {
    /// Read from files.
    pub read: u64,
    /// Every destination that they were routed to has acknowledged them or has them in its queue.
    pub acknowledged: u64,
    /// Dropped by the plugin.
    pub filtered: u64,
    /// Written to the dead-letter file.
    pub dead_lettered: u64,
    /// Under way.
    pub in_flight: u64,
    /// Lost before they could be read, by reason.
    pub given_up: BTreeMap<&'static str, u64>,
}

/// Bytes of lines.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bytes {
    /// Read from files, before any parsing, with line feeds.
    pub read: u64,
    /// Of lines that are settled, without line feeds.
    pub settled: u64,
    /// Lost before they could be read, by reason.
    pub given_up: BTreeMap<&'static str, u64>,
}

/// How far the plugin is behind what is written.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lag {
    /// Bytes not read yet, and under way; not those in queues.
    pub bytes: u64,
    /// Age of the oldest line under way or taken from a queue.
    pub seconds: f64,
}

/// Files that are followed.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Files {
    /// Followed.
    pub watched: u64,
    /// Of these, open.
    pub open: u64,
    /// Containers' logs that were read although nothing was known of their pods (`metadata.wait`).
    pub without_metadata: u64,
}

/// Counts of tails that have ended.
#[derive(Debug, Default)]
pub(super) struct Totals {
    bytes_read: u64,
    truncated: (u64, u64),
    deleted: (u64, u64),
    joined: u64,
    cut: u64,
    malformed: u64,
    without_metadata: u64,
}

impl Totals {
    pub(super) fn add(&mut self, stats: &tail::Stats) {
        self.bytes_read += get(&stats.bytes_read);
        self.truncated.0 += get(&stats.truncated.lines);
        self.truncated.1 += get(&stats.truncated.bytes);
        self.deleted.0 += get(&stats.deleted.lines);
        self.deleted.1 += get(&stats.deleted.bytes);
        self.joined += get(&stats.joined_given_up);
        self.cut += get(&stats.lines_cut);
        self.malformed += get(&stats.malformed);
        self.without_metadata += get(&stats.without_metadata);
    }
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl LogsReport {
    pub(super) fn new(
        ledger: &Ledger,
        ended: &Totals,
        tail: Option<&tail::Stats>,
        destinations: Vec<DestinationStatus>,
        oldest_queued: Option<i64>,
        problem: Option<String>,
    ) -> Self {
        let mut totals = Totals {
            ..Totals::default()
        };
        let idle = tail::Stats::default();
        let tail = tail.unwrap_or(&idle);
        totals.add(tail);
        let tally = ledger.tally();
        let settled = &tally.settled;
        let oldest = ledger.oldest_in_flight().into_iter().chain(oldest_queued);
        let now = jiff::Timestamp::now().as_nanosecond();
        let age = oldest
            .min()
            .map_or(0.0, |time| (now - i128::from(time)) as f64 / 1e9);
        let given_up = |truncated: u64, deleted: u64| {
            BTreeMap::from([("truncated", truncated), ("deleted", deleted)])
        };
        Self {
            lines: Lines {
                read: tally.read(),
                acknowledged: settled.acknowledged,
                filtered: settled.filtered,
                dead_lettered: settled.dead_lettered,
                in_flight: tally.in_flight,
                given_up: given_up(
                    tally.truncated.lines + ended.truncated.0 + totals.truncated.0,
                    tally.deleted.lines + ended.deleted.0 + totals.deleted.0,
                ),
            },
            bytes: Bytes {
                read: ended.bytes_read + totals.bytes_read,
                settled: settled.bytes,
                given_up: given_up(
                    tally.truncated.bytes + ended.truncated.1 + totals.truncated.1,
                    tally.deleted.bytes + ended.deleted.1 + totals.deleted.1,
                ),
            },
            lag: Lag {
                bytes: get(&tail.unread_bytes) + tally.in_flight_bytes,
                seconds: age.max(0.0),
            },
            files: Files {
                watched: get(&tail.files_watched),
                open: get(&tail.files_open),
                without_metadata: ended.without_metadata + totals.without_metadata,
            },
            watch: tail.watch_mode(),
            joined_lines: tally.joined + ended.joined + totals.joined,
            cut_lines: ended.cut + totals.cut,
            malformed_lines: ended.malformed + totals.malformed,
            destinations,
            problem: problem.or_else(|| tail.problem()),
        }
    }
}
