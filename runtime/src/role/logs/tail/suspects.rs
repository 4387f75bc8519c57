//! Files that look like rotated ones (`app.log.1`) and that we have not seen before. Either such a
//! file was created and renamed away between two looks, and must be read; or it is the copy that
//! copy-and-truncate makes of a log that we read ourselves, and must not be.
//!
//! The two are told apart by their first bytes: a copy begins as the log does or did, and is born
//! after it. A copy that is still being written may be too short to tell, so it is looked at again
//! for a while.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::super::batch::Fingerprint;
use super::discover::Found;
use super::engine::Engine;
use super::file::{self, file_id};
use super::meta::Meta;

/// A name to be judged later.
#[derive(Debug)]
pub(super) struct Suspect {
    folder: usize,
    name: OsString,
    /// The log that it was until it was renamed, if we saw that: then it is no copy.
    moved_from: Option<PathBuf>,
    created: bool,
    since: Instant,
}

impl Suspect {
    pub(super) fn new(found: &Found<'_>, moved_from: Option<PathBuf>) -> Self {
        Self {
            folder: found.folder,
            name: found.name.to_owned(),
            moved_from,
            created: found.created,
            since: Instant::now(),
        }
    }
}

/// What comparing the first bytes said.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Copy,
    Other,
    TooShort,
}

impl Engine {
    pub(super) fn suspect(&mut self, suspect: Suspect) {
        let known = self
            .suspects
            .iter()
            .any(|other| other.folder == suspect.folder && other.name == suspect.name);
        if !known {
            self.suspects.push(suspect);
        }
    }

    /// Judges the suspects for whom that is possible by now.
    pub(super) fn settle_suspects(&mut self) {
        for suspect in std::mem::take(&mut self.suspects) {
            if !self.settle(&suspect) {
                self.suspects.push(suspect);
            }
        }
    }

    /// Whether the suspect is settled.
    fn settle(&mut self, suspect: &Suspect) -> bool {
        let Some(folder) = self.folders[suspect.folder].as_ref() else {
            return true;
        };
        let name: &OsStr = &suspect.name;
        let path = folder.path.join(name);
        // A link (to a matched file) is followed; what is not matched is none.
        let Ok(meta) = Meta::of(&path) else {
            return true;
        };
        let id = file_id(&meta);
        let birth = (id, meta.born());
        if !meta.is_file() || self.files.contains_key(&id) || self.ignored.contains(&birth) {
            return true;
        }
        let rotated_from = self
            .selector
            .rotated_from(&folder.states, name)
            .map(|base| folder.path.join(base));
        let matched = self.judge(suspect.folder, name, &path, None);
        let moved = suspect.moved_from.is_some();
        let base = suspect.moved_from.clone().or(rotated_from);
        let young = suspect.created || moved || self.is_young(&meta);
        let active = matched.is_some();
        if !active && !young {
            self.ignored.insert(birth);
            return true;
        }
        let verdict = match &base {
            Some(base) if !moved && young => self.compare(base, &path, &meta),
            _ => Verdict::Other,
        };
        if verdict == Verdict::TooShort && suspect.since.elapsed() < self.config.grace {
            return false;
        }
        let base_matched = base.as_ref().and_then(|base| {
            let name = base.file_name()?;
            self.judge(suspect.folder, name, base, None)
                .or_else(|| self.selector.find(base))
        });
        let (log, matched) = match (matched, base, base_matched) {
            (Some(matched), _, _) => (path.clone(), matched),
            (None, Some(base), Some(matched)) => (base, matched),
            _ => return true,
        };
        let found = Found {
            folder: suspect.folder,
            name,
            path,
            target: None,
            meta,
            created: suspect.created,
            moved_from: suspect.moved_from.clone(),
        };
        let adopted = self.adopt(&found, log, matched, active);
        if verdict == Verdict::Copy
            && let Some(file) = adopted.and_then(|id| self.files.get_mut(&id))
        {
            // Its position is recorded, so that it is known as read after a restart, too.
            file.copy = true;
            file.seek(file.size);
            file.position_due = true;
            self.enqueue(id);
        }
        true
    }

    /// Compares a file with the logs of the path `base`, as they are and were.
    fn compare(&self, base: &Path, path: &Path, meta: &Meta) -> Verdict {
        let Ok((handle, _)) = file::open(path) else {
            return Verdict::Other;
        };
        let mut verdict = Verdict::Other;
        let logs = self.by_base.get(base).into_iter().flatten();
        for log in logs.filter_map(|id| self.files.get(id)) {
            let older = match (log.born, meta.born()) {
                (Some(log), Some(copy)) => log <= copy,
                _ => true,
            };
            // What was renamed is not what is being copied, unless it was truncated before.
            if !older || log.away.is_some() && !log.was_truncated() {
                continue;
            }
            for print in log.fingerprints() {
                if meta.len() < u64::from(print.length) {
                    verdict = Verdict::TooShort;
                } else if begins_as(&handle, print) {
                    return Verdict::Copy;
                }
            }
        }
        verdict
    }
}

fn begins_as(handle: &fs::File, print: Fingerprint) -> bool {
    matches!(file::head(handle, print), Ok(Some(_)))
}
