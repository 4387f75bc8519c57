//! What a plugin said lately: its log records and what it wrote to stdout and stderr.
//!
//! Only what the manifest's `logLevel` asks for, and bounded in entries, bytes and rate; a plugin that talks too much loses its own words, and the
//! count of them is kept. Nothing here reaches a disk; the daemon's own log gets a copy.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::manifest::LogLevel;

/// The most entries kept.
const ENTRIES: usize = 256;
/// A longer message is cut.
const MESSAGE_BYTES: usize = 4 << 10;
/// Records a second in the long run, and at once.
const RATE: f64 = 50.0;
const BURST: f64 = 500.0;

/// One record of a plugin.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When the host received it (UTC).
    pub time: Timestamp,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: &'static str,
    /// The record's target, or `stdout`, `stderr`.
    pub target: String,
    /// What it says.
    pub message: String,
    /// Members of a JSON object without the braces, as the plugin gave them; may be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fields: String,
}

/// The latest records of one plugin; clones share them.
#[derive(Debug, Clone)]
pub struct Journal {
    plugin: Arc<str>,
    least: LogLevel,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    entries: VecDeque<Entry>,
    credit: f64,
    refilled: Instant,
    dropped: u64,
}

impl Journal {
    /// An empty journal of the plugin with this identity.
    pub fn new(plugin: &str) -> Self {
        Self {
            plugin: plugin.into(),
            least: LogLevel::default(),
            inner: Arc::new(Mutex::new(Inner {
                entries: VecDeque::new(),
                credit: BURST,
                refilled: Instant::now(),
                dropped: 0,
            })),
        }
    }

    /// The same, of which what is written from here on is kept from this level up.
    pub fn from_level(&self, least: LogLevel) -> Self {
        Self {
            least,
            ..self.clone()
        }
    }

    pub(super) fn least(&self) -> LogLevel {
        self.least
    }

    /// The latest entries, oldest first, and how many were dropped because they came too fast.
    pub fn read(&self) -> (Vec<Entry>, u64) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        (inner.entries.iter().cloned().collect(), inner.dropped)
    }

    pub(super) fn write(
        &self,
        level: LogLevel,
        target: &str,
        mut message: String,
        mut fields: String,
    ) {
        if level < self.least {
            return;
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let refill = now.duration_since(inner.refilled).as_secs_f64() * RATE;
        inner.credit = (inner.credit + refill).min(BURST);
        inner.refilled = now;
        if inner.credit < 1.0 {
            inner.dropped += 1;
            return;
        }
        inner.credit -= 1.0;
        cut(&mut message);
        cut(&mut fields);
        let mut target = target.to_owned();
        cut(&mut target);
        let plugin = &*self.plugin;
        // The level must be known where tracing's macro stands, hence one line for each.
        match level {
            LogLevel::Error => {
                tracing::error!(target: "plugin", plugin, from = target, fields, "{message}");
            }
            LogLevel::Warn => {
                tracing::warn!(target: "plugin", plugin, from = target, fields, "{message}");
            }
            LogLevel::Info => {
                tracing::info!(target: "plugin", plugin, from = target, fields, "{message}");
            }
            LogLevel::Debug => {
                tracing::debug!(target: "plugin", plugin, from = target, fields, "{message}");
            }
            LogLevel::Trace => {
                tracing::trace!(target: "plugin", plugin, from = target, fields, "{message}");
            }
        }
        if inner.entries.len() == ENTRIES {
            inner.entries.pop_front();
        }
        inner.entries.push_back(Entry {
            time: Timestamp::now(),
            level: level.name(),
            target,
            message,
            fields,
        });
    }
}

/// Cuts `text` to the limit at a character's boundary.
fn cut(text: &mut String) {
    if text.len() > MESSAGE_BYTES {
        let end = (0..=MESSAGE_BYTES)
            .rev()
            .find(|&end| text.is_char_boundary(end))
            .unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_latest_and_counts_what_came_too_fast() {
        let journal = Journal::new("local/x");
        for n in 0..600 {
            journal.write(LogLevel::Info, "t", n.to_string(), String::new());
        }
        let (entries, dropped) = journal.read();
        assert_eq!(entries.len(), ENTRIES);
        assert!(dropped >= 90, "{dropped}");
        assert!(entries[0].message.parse::<u32>().is_ok_and(|n| n >= 200));
    }

    #[test]
    fn keeps_what_is_asked_for() {
        let journal = Journal::new("local/x");
        let kept = |least| {
            let before = journal.read().0.len();
            let journal = journal.from_level(least);
            for level in [LogLevel::Debug, LogLevel::Info, LogLevel::Error] {
                journal.write(level, "t", "a".to_owned(), String::new());
            }
            journal.read().0.len() - before
        };
        assert_eq!(kept(LogLevel::Trace), 3);
        assert_eq!(kept(LogLevel::default()), 2);
        assert_eq!(kept(LogLevel::Warn), 1);
    }

    #[test]
    fn cuts_at_a_character() {
        let journal = Journal::new("local/x");
        journal.write(LogLevel::Info, "t", "é".repeat(9000), String::new());
        let (entries, _) = journal.read();
        assert!(entries[0].message.len() <= MESSAGE_BYTES + 4);
    }
}
