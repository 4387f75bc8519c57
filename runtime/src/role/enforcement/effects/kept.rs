//! The old states: what there was before each change, written and synced before it is made, so that it can
//! be put back; and what became of the change.
//!
//! `STATE/enforcement/NAMESPACE/NAME/NUMBER.kept`: frames one after another. A frame is a line of JSON and,
//! after that of a change, the old content and the difference, as long as the line says. A file holds an
//! eighth of what may be kept; the oldest file is dropped whole. Secrets may be among the old contents: the
//! folder is root's alone.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

use super::error::Error;
use super::state::State;
use crate::manifest::Keep;

/// How many files there are at most, about.
const FILES: u64 = 8;

/// One change, as it is written before it is made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// Given when it is written.
    pub(super) sequence: u64,
    pub(super) time: Timestamp,
    pub(super) revision: String,
    pub(super) change: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<String>,
    pub(super) reason: String,
    /// What is done, in one word.
    pub(super) action: String,
    pub(super) scheme: String,
    pub(super) subject: String,
    pub(super) secret: bool,
    pub(super) before: State,
    pub(super) after: State,
    /// The change that this one undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) undoes: Option<u64>,
}

impl Record {
    pub(super) fn attempt(&self) -> Attempt {
        let mut hash = Xxh3Default::new();
        for text in [&self.change, &self.action, &self.subject] {
            hash.update(&text.len().to_le_bytes());
            hash.update(text.as_bytes());
        }
        hash.update(&self.undoes.unwrap_or(u64::MAX).to_le_bytes());
        Attempt(hash.digest128())
    }
}

/// What became of a change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) sequence: u64,
    pub(super) result: Ended,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// What is there, where that is known only afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<State>,
}

/// How a change ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// It was made.
    Done,
    /// It was not made.
    Failed,
    /// It was begun and not ended: the daemon ended in between, or a step of it failed. What is there is
    /// neither what was nor what was to be, or may not last, or cannot be told.
    Interrupted,
}

impl Ended {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Frame {
    Change {
        content: u64,
        difference: u64,
        record: Box<Record>,
    },
    Outcome(Outcome),
}

/// What makes two attempts attempts of the same: id, action, subject, and what is undone, as a hash. There are thousands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Attempt(u128);

/// Where a change is written.
#[derive(Debug)]
struct Entry {
    attempt: Attempt,
    /// Number of the file.
    file: u64,
    /// Of the line.
    at: u64,
    line: u64,
    content: u64,
    difference: u64,
    ended: Option<Ending>,
}

/// An [`Outcome`] without its number. Most have no more than a result.
#[derive(Debug)]
struct Ending {
    result: Ended,
    more: Option<Box<(Option<String>, Option<State>)>>,
}

impl From<Outcome> for Ending {
    fn from(outcome: Outcome) -> Self {
        let more = (outcome.error, outcome.after);
        Self {
            result: outcome.result,
            more: (more != (None, None)).then(|| more.into()),
        }
    }
}

impl Ending {
    fn outcome(&self, sequence: u64) -> Outcome {
        let (error, after) = self.more.as_deref().cloned().unwrap_or_default();
        Outcome {
            sequence,
            result: self.result,
            error,
            after,
        }
    }
}

#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    changes: u64,
}

/// What is kept for one plugin.
#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
    keep: Keep,
    segments: VecDeque<Segment>,
    /// The newest, to be appended to.
    file: File,
    entries: BTreeMap<u64, Entry>,
    next: u64,
}

impl Kept {
    /// Opens what is kept in this folder, which is made. What a crash has torn is cut off.
    pub(super) fn open(folder: &Path, keep: Keep) -> io::Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let mut numbers = Vec::new();
        for found in std::fs::read_dir(folder)? {
            let name = found?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".kept"));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        let newest = numbers.last().copied();
        let mut kept = Self {
            folder: folder.to_owned(),
            keep,
            segments: VecDeque::new(),
            file: open(folder, newest.unwrap_or(1))?,
            entries: BTreeMap::new(),
            next: newest.unwrap_or(1),
        };
        for number in numbers {
            kept.read(number)?;
        }
        if kept.segments.is_empty() {
            kept.segments.push_back(Segment {
                number: kept.next,
                bytes: 0,
                changes: 0,
            });
            File::open(folder)?.sync_all()?;
        }
        Ok(kept)
    }

    /// Reads one file.
    fn read(&mut self, number: u64) -> io::Result<()> {
        let file = open(&self.folder, number)?;
        let length = file.metadata()?.len();
        let mut reader = BufReader::new(&file);
        let mut segment = Segment {
            number,
            bytes: 0,
            changes: 0,
        };
        let mut line = Vec::new();
        loop {
            line.clear();
            reader.read_until(b'\n', &mut line)?;
            let (at, size) = (segment.bytes, line.len() as u64);
            let Ok(frame) = serde_json::from_slice::<Frame>(&line) else {
                break;
            };
            match frame {
                Frame::Change {
                    content,
                    difference,
                    record,
                } => {
                    let end = at + size + content + difference;
                    if end > length {
                        break;
                    }
                    reader.seek_relative((content + difference) as i64)?;
                    let entry = Entry {
                        attempt: record.attempt(),
                        file: number,
                        at,
                        line: size,
                        content,
                        difference,
                        ended: None,
                    };
                    self.next = self.next.max(record.sequence + 1);
                    self.entries.insert(record.sequence, entry);
                    segment.bytes = end;
                    segment.changes += 1;
                }
                Frame::Outcome(outcome) => {
                    segment.bytes = at + size;
                    // It may be of one that was taken back: no number is given twice.
                    self.next = self.next.max(outcome.sequence + 1);
                    if let Some(entry) = self.entries.get_mut(&outcome.sequence) {
                        entry.ended = Some(outcome.into());
                    }
                }
            }
        }
        if segment.bytes < length {
            file.set_len(segment.bytes)?;
        }
        self.segments.push_back(segment);
        Ok(())
    }

    /// How many changes may be begun together: so few that they do not drive each other out.
    pub(super) fn together(&self) -> (usize, u64) {
        let changes = (self.keep.changes / 4).max(1);
        (changes as usize, self.keep.max_size.0 / 4)
    }

    /// The longest content that can be kept.
    pub(super) fn most(&self) -> u64 {
        self.keep.max_size.0
    }

    /// Writes these, with their differences; all of it is on the disk when it returns. Gives each its number.
    pub(super) fn begin(&mut self, records: &mut [(Record, String)]) -> Result<(), Error> {
        let not_kept = |error: io::Error| Error::NotKept(error.to_string());
        let mut text = Vec::new();
        let mut entries = Vec::new();
        for (record, difference) in records.iter_mut() {
            record.sequence = self.next + entries.len() as u64;
            let content = record.before.content().cloned().unwrap_or_default();
            let from = text.len();
            let frame = Frame::Change {
                content: content.len() as u64,
                difference: difference.len() as u64,
                record: Box::new(record.clone()),
            };
            serde_json::to_writer(&mut text, &frame).map_err(|error| not_kept(error.into()))?;
            text.push(b'\n');
            entries.push((
                record.sequence,
                record.attempt(),
                from,
                text.len(),
                content.len(),
                difference.len(),
            ));
            text.extend_from_slice(&content);
            text.extend_from_slice(difference.as_bytes());
        }
        let (bytes, changes) = (text.len() as u64, records.len() as u64);
        self.make_room(bytes, changes).map_err(not_kept)?;
        let Some(segment) = self.segments.back_mut() else {
            return Err(Error::NotKept("no file is open".to_owned()));
        };
        // Where the last write failed in between, it is written over.
        let written = self
            .file
            .write_all_at(&text, segment.bytes)
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            let _ = self.file.set_len(segment.bytes);
            return Err(not_kept(error));
        }
        for (sequence, attempt, from, to, content, difference) in entries {
            let entry = Entry {
                attempt,
                file: segment.number,
                at: segment.bytes + from as u64,
                line: (to - from) as u64,
                content: content as u64,
                difference: difference as u64,
                ended: None,
            };
            self.entries.insert(sequence, entry);
        }
        segment.bytes += bytes;
        segment.changes += changes;
        self.next += changes;
        Ok(())
    }

    /// Notes what became of changes. Not synced: what is lost is told again from what is there.
    ///
    /// What has failed before, fails again and changed nothing is taken back if nothing follows it: attempts
    /// without end would drive out what can be put back. So such changes are to be begun by themselves.
    pub(super) fn end(&mut self, mut outcomes: Vec<Outcome>) {
        let failing = self.failing();
        let taken_back = self.take_back(&outcomes, &failing);
        outcomes.retain(|outcome| self.entries.contains_key(&outcome.sequence));
        let mut text = Vec::new();
        for outcome in outcomes {
            push_outcome(&mut text, &outcome);
            if let Some(entry) = self.entries.get_mut(&outcome.sequence) {
                entry.ended = Some(outcome.into());
            }
        }
        let Some(segment) = self.segments.back_mut() else {
            return;
        };
        if self.file.write_all_at(&text, segment.bytes).is_ok() {
            segment.bytes += text.len() as u64;
        }
        if let Some(last) = taken_back {
            // So that the next start knows the number. What follows is written over it.
            let mut mark = Vec::new();
            push_outcome(&mut mark, &last);
            let _ = self.file.write_all_at(&mark, segment.bytes);
        }
    }

    /// What has failed the last time, and changed nothing.
    pub(super) fn failing(&self) -> HashSet<Attempt> {
        let mut failing = HashSet::new();
        for entry in self.entries.values() {
            match entry.ended.as_ref().map(|ending| ending.result) {
                Some(Ended::Failed) => failing.insert(entry.attempt),
                Some(_) => failing.remove(&entry.attempt),
                None => false,
            };
        }
        failing
    }

    /// Removes the last of those that have just ended, as far as all of them were `failing`, and failed. The
    /// outcome of the very last, if it is gone, without words.
    fn take_back(&mut self, outcomes: &[Outcome], failing: &HashSet<Attempt>) -> Option<Outcome> {
        let segment = self.segments.back_mut()?;
        let failed = |sequence: u64| {
            let mut outcomes = outcomes.iter();
            outcomes.any(|it| it.sequence == sequence && it.result == Ended::Failed)
        };
        let again = self.entries.iter().rev().take_while(|(sequence, entry)| {
            entry.file == segment.number && failing.contains(&entry.attempt) && failed(**sequence)
        });
        let again: Vec<(u64, u64)> = again
            .map(|(sequence, entry)| (*sequence, entry.at))
            .collect();
        let (last, _) = *again.first()?;
        let (first, end) = *again.last()?;
        self.file.set_len(end).ok()?;
        segment.bytes = end;
        segment.changes -= again.len() as u64;
        self.entries.split_off(&first);
        Some(Outcome {
            sequence: last,
            result: Ended::Failed,
            error: None,
            after: None,
        })
    }

    /// Begins a new file if the newest is full, and drops the oldest as far as it must.
    fn make_room(&mut self, bytes: u64, changes: u64) -> io::Result<()> {
        let (most, most_changes) = (self.keep.max_size.0, u64::from(self.keep.changes));
        if let Some(newest) = self.segments.back()
            && newest.changes > 0
            && (newest.bytes + bytes > (most / FILES).max(1)
                || newest.changes + changes > (most_changes / FILES).max(1))
        {
            let number = self.next;
            self.file = open(&self.folder, number)?;
            File::open(&self.folder)?.sync_all()?;
            self.segments.push_back(Segment {
                number,
                bytes: 0,
                changes: 0,
            });
        }
        loop {
            let all: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
            let count: u64 = self.segments.iter().map(|segment| segment.changes).sum();
            let over = all + bytes > most || count + changes > most_changes;
            if !over || self.segments.len() < 2 {
                return Ok(());
            }
            let Some(oldest) = self.segments.front() else {
                return Ok(());
            };
            std::fs::remove_file(path(&self.folder, oldest.number))?;
            let number = oldest.number;
            self.entries.retain(|_, entry| entry.file != number);
            self.segments.pop_front();
        }
    }

    /// Those that were begun, and of which nothing else is known.
    pub(super) fn unended(&self) -> Vec<u64> {
        let unended = self.entries.iter();
        let unended = unended.filter(|(_, entry)| entry.ended.is_none());
        unended.map(|(sequence, _)| *sequence).collect()
    }

    /// The numbers of those before this one, newest first.
    pub(super) fn before(&self, sequence: Option<u64>) -> impl Iterator<Item = u64> + '_ {
        let end = sequence.unwrap_or(u64::MAX);
        self.entries
            .range(..end)
            .rev()
            .map(|(sequence, _)| *sequence)
    }

    /// What is kept of one, and the difference. `content`: with the old content.
    pub(super) fn get(
        &self,
        sequence: u64,
        content: bool,
    ) -> Result<(Record, Option<Outcome>, String), Error> {
        let entry = self
            .entries
            .get(&sequence)
            .ok_or(Error::Unknown(sequence))?;
        let read = || -> io::Result<(Record, String)> {
            let file = File::open(path(&self.folder, entry.file))?;
            let take = |at: u64, length: u64| {
                let mut bytes = vec![0; length as usize];
                file.read_exact_at(&mut bytes, at).map(|()| bytes)
            };
            let line = take(entry.at, entry.line)?;
            let at = entry.at + entry.line;
            let difference = take(at + entry.content, entry.difference)?;
            let Frame::Change { mut record, .. } = serde_json::from_slice(&line)? else {
                return Err(io::Error::other("it is no change"));
            };
            if content {
                record.before = record.before.with_content(take(at, entry.content)?);
            }
            let difference = String::from_utf8_lossy(&difference).into_owned();
            Ok((*record, difference))
        };
        let (record, difference) = read().map_err(|error| {
            Error::Irrevocable(format!("what is kept of it cannot be read: {error}"))
        })?;
        let ending = entry.ended.as_ref();
        Ok((record, ending.map(|it| it.outcome(sequence)), difference))
    }
}

fn push_outcome(text: &mut Vec<u8>, outcome: &Outcome) {
    let begin = text.len();
    match serde_json::to_writer(&mut *text, &Frame::Outcome(outcome.clone())) {
        Ok(()) => text.push(b'\n'),
        Err(_) => text.truncate(begin),
    }
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:012}.kept"))
}

fn open(folder: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path(folder, number))
}
