//! Files as they were when somebody said that they are fine.

mod entry;
mod store;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::{BTreeSet, HashSet};

use bulkhead_sdk::scanning::{File, FileKind, Findings, Outline, Rule, ScanKind, Severity};
use bulkhead_sdk::{Error, Result};

use crate::paths;
use entry::Entry;
pub(crate) use entry::hex;
use store::Store;

const CHANGED: &str = "integrity.changed";
const NEW: &str = "integrity.new";
const GONE: &str = "integrity.gone";
const BASELINE: &str = "integrity.baseline";
const BROKEN: &str = "integrity.baseline-broken";
const NO_ROOM: &str = "integrity.no-room";
/// Missing files that are told one by one.
const MAX_GONE: usize = 1000;

/// Tells what changed against a baseline: the files as the first complete pass found them.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Config {
    /// Any text, such as a day. What there is when it changes becomes the baseline: so changes are
    /// accepted.
    #[schemars(length(min = 1, max = 128))]
    baseline: String,
    /// Files and folders that are compared; all that are scanned unless given.
    #[serde(default)]
    paths: Vec<String>,
    /// Files and folders that are not.
    #[serde(default)]
    exclude: Vec<String>,
}

/// The baseline, and what is known of the pass.
#[derive(Debug)]
pub(crate) struct Integrity {
    config: Config,
    store: Store,
    /// Paths of the baseline that this pass has come by; none while it cannot be said that it came by all.
    seen: Option<HashSet<Vec<u8>>>,
    /// What was missing when that was last looked at, without what is back.
    gone: BTreeSet<Vec<u8>>,
    is_back: bool,
}

impl Integrity {
    pub(crate) fn new(config: Config) -> Result<Self> {
        if !(1..=128).contains(&config.baseline.len()) || config.baseline.contains(char::is_control)
        {
            let message = "needs 1 to 128 bytes without control characters, such as a day";
            return Err(Error::new(message).at("integrity.baseline"));
        }
        Ok(Self {
            store: Store::new(&config.baseline),
            config,
            seen: None,
            gone: BTreeSet::new(),
            is_back: false,
        })
    }

    pub(crate) fn outline(&mut self, outline: &mut Outline) -> Result<()> {
        let rules = [
            (
                CHANGED,
                Severity::High,
                "A file is not as in the baseline",
                "Programs and settings change when somebody updates or configures the node; a change that nobody knows of is a trace of somebody else.",
            ),
            (
                NEW,
                Severity::Medium,
                "A file is not in the baseline",
                "A file that nobody installed may be what an intruder left.",
            ),
            (
                GONE,
                Severity::Medium,
                "A file of the baseline is gone",
                "A program or a setting that protects the node may have been removed.",
            ),
            (
                BROKEN,
                Severity::Critical,
                "The baseline is not what was stored",
                "The plugin's state was changed or damaged outside of the plugin. Nothing is compared until it is made anew.",
            ),
            (
                NO_ROOM,
                Severity::High,
                "The baseline has no room",
                "Without it, nothing is compared.",
            ),
        ];
        for (id, severity, title, why) in rules {
            let how = match id {
                BROKEN => {
                    "Find out who could write the daemon's state folder; then change integrity.baseline."
                }
                NO_ROOM => {
                    "Raise grants.state.quota (about 150 bytes a file), or compare fewer files with integrity.paths."
                }
                _ => {
                    "If the change is yours, accept it by another text as integrity.baseline. If not, compare the file with its package."
                }
            };
            let rule = Rule::new(id, title).severity(severity).rationale(why);
            outline.rule(rule.remediation(how));
        }
        outline.rule(
            Rule::new(BASELINE, "The baseline and its digest")
                .severity(Severity::Info)
                .rationale("Whoever can write the daemon's state can replace the baseline with its digest. Keep the digest elsewhere and compare."),
        );
        self.store.load()?;
        self.gone = self.store.gone()?;
        outline.rule_set(format!("{:?} {}", self.config, self.store.generation()));
        Ok(())
    }

    pub(crate) fn begin(&mut self, kind: ScanKind) -> Result<()> {
        // A pass that was interrupted goes on without what it has passed, and begins here all the same.
        let fresh = kind == ScanKind::Full && !self.store.is_running()?;
        if kind == ScanKind::Full {
            self.store.set_running(true)?;
        }
        self.seen = fresh.then(HashSet::new);
        Ok(())
    }

    fn is_watched(&self, path: &[u8]) -> bool {
        let included = self.config.paths.is_empty() || paths::holds(&self.config.paths, path);
        included && !paths::holds(&self.config.exclude, path)
    }

    /// Judges a file of which everything is known.
    pub(crate) fn scan(&mut self, file: &File<'_>, out: &mut Findings) -> Result<()> {
        let path = file.path();
        if !self.is_watched(path) {
            return Ok(());
        }
        if let Some(seen) = &mut self.seen {
            seen.insert(path.to_vec());
        }
        self.is_back |= self.gone.remove(path);
        // It comes again, or there is nothing to compare.
        if file.is_changing() || file.error().is_some() || self.store.is_broken() {
            return Ok(());
        }
        let now = Entry::of(file);
        if self.store.is_learning() {
            return self.store.learn(path, now);
        }
        match self.store.get(path) {
            None => {
                let finding = out.file(file, NEW).severity(match file.kind() {
                    FileKind::Directory => Severity::Low,
                    _ => Severity::Medium,
                });
                now.tell(finding.message("it is not in the baseline"), "after");
            }
            Some(before) if *before != now => {
                let what = before.differences(&now).join(", ");
                let finding = out.file(file, CHANGED).severity(Severity::High);
                let finding = finding.message(format!("changed since the baseline: {what}"));
                now.tell(
                    before.tell(finding.evidence("changed", what), "before"),
                    "after",
                );
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Writes down what was learned. Called after each batch.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_back) {
            self.store.set_gone(&self.gone, MAX_GONE)?;
        }
        self.store.flush()
    }

    /// The permission bits that a file has in the baseline, once there is one.
    pub(crate) fn mode(&self, path: &[u8]) -> Option<u32> {
        self.store.get(path).map(|entry| entry.mode)
    }

    /// Whether files are only written down for now.
    pub(crate) fn is_learning(&self) -> bool {
        self.store.is_learning()
    }

    pub(crate) fn end(&mut self, complete: bool, out: &mut Findings) -> Result<()> {
        if complete {
            self.store.set_running(false)?;
            if self.store.is_learning() {
                self.store.seal()?;
                self.gone.clear();
            } else if let Some(seen) = self.seen.take() {
                let missing = self.store.paths().filter(|path| !seen.contains(*path));
                let watched = missing.filter(|path| self.is_watched(path));
                self.gone = watched.cloned().collect();
            }
        }
        self.seen = None;
        self.store.set_gone(&self.gone, MAX_GONE)?;
        self.tell(out);
        Ok(())
    }

    fn tell(&self, out: &mut Findings) {
        let subject = format!("baseline/{}", self.config.baseline);
        if self.store.has_no_room() {
            out.other(subject, NO_ROOM)
                .severity(Severity::High)
                .message("the baseline does not fit into grants.state.quota; nothing is compared");
            return;
        }
        if self.store.is_broken() {
            out.other(subject, BROKEN)
                .severity(Severity::Critical)
                .message("the stored baseline does not have its digest; nothing is compared until integrity.baseline is another text");
            return;
        }
        let Some(seal) = self.store.sealed() else {
            return;
        };
        out.other(subject, BASELINE)
            .severity(Severity::Info)
            .message(format!(
                "{} files, digest {}",
                seal.files,
                hex(&seal.digest)
            ))
            .evidence("digest", hex(&seal.digest))
            .evidence("files", seal.files);
        for path in self.gone.iter().take(MAX_GONE) {
            let Some(before) = self.store.get(path) else {
                continue;
            };
            let text = String::from_utf8_lossy(path);
            let finding = out.path(text, GONE).severity(Severity::Medium);
            before.tell(
                finding.message("it is in the baseline, and no longer there"),
                "before",
            );
        }
    }
}
