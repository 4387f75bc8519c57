//! The audit log of the node: what was going to be changed, written and synced before it is, and what
//! became of it. `STATE/audit/audit.jsonl`, one JSON object a line, never the content of a file.
//!
//! Each line holds the SHA-256 of the line before it, so that one that is edited, taken out or put in shows
//! ([`super::verify()`]). What a chain alone cannot show is that its end was cut off: for that, compare
//! [`Audit::head`] with what was noted elsewhere. A full file becomes `audit.jsonl.1`, and so on to the
//! last, which is dropped: ten files of 8 MiB. The chain goes on across them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::state::hex_digest;
use crate::failpoint;

/// The most bytes of one file.
const FILE_BYTES: u64 = 8 << 20;
/// The most files beside the one that is written.
pub(super) const OLD_FILES: u32 = 9;
/// No line is longer: what is from others in it is cut before.
const LINE_BYTES: usize = 32 << 10;
/// What the first line of all holds in place of a hash.
pub(super) const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What is said of one change.
#[derive(Debug, Serialize)]
pub(super) struct Entry<'a> {
    /// `intent` before it, `outcome` after it, `note` for what concerns the log itself.
    pub(super) stage: &'static str,
    pub(super) plugin: &'a str,
    pub(super) revision: &'a str,
    pub(super) change: &'a str,
    /// The number by which its old state is kept.
    pub(super) kept: u64,
    pub(super) action: &'a str,
    pub(super) subject: &'a str,
    /// Digest of what was there.
    pub(super) before: &'a str,
    /// Digest of what is to be there, or is.
    pub(super) after: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<&'a str>,
}

#[derive(Serialize)]
struct Line<'a, T> {
    sequence: u64,
    time: Timestamp,
    previous: &'a str,
    #[serde(flatten)]
    entry: T,
}

#[derive(Serialize)]
struct Note<'a> {
    stage: &'static str,
    note: &'a str,
}

/// What of a line the chain needs.
#[derive(Deserialize)]
pub(super) struct Link {
    pub(super) sequence: u64,
    pub(super) previous: String,
}

/// The log. One per daemon: all plugins' changes are in it.
#[derive(Debug)]
pub struct Audit(Mutex<Log>);

#[derive(Debug)]
struct Log {
    folder: PathBuf,
    file: File,
    bytes: u64,
    /// Of the last line.
    sequence: u64,
    hash: String,
    /// When the file is full.
    most: u64,
    /// Whether the file may be longer than `bytes`, after a failure.
    untrimmed: bool,
}

impl Audit {
    /// Opens the log below the daemon's state folder. What a crash has torn at its end is cut off, and
    /// noted.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn open(state: &Path) -> io::Result<Self> {
        let folder = state.join("audit");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let mut file = open(&folder)?;
        File::open(&folder)?.sync_all()?;
        let length = file.seek(SeekFrom::End(0))?;
        let (last, bytes) = last_line(&mut file, length)?;
        let last = match last {
            Some(last) => Some(last),
            // It was begun just now.
            None => last_of_old(&folder)?,
        };
        let (sequence, hash) = last.unwrap_or_else(|| (0, NOTHING.to_owned()));
        let mut log = Log {
            folder,
            file,
            bytes,
            sequence,
            hash,
            most: FILE_BYTES,
            untrimmed: length > bytes,
        };
        if length > bytes {
            let note = format!(
                "cut {} bytes off that a crash had left torn",
                length - bytes
            );
            log.append(&[Note {
                stage: "note",
                note: &note,
            }])?;
        }
        Ok(Self(Mutex::new(log)))
    }

    /// Appends these; they are on the disk when it returns.
    pub(super) fn append(&self, entries: &[Entry<'_>]) -> io::Result<()> {
        self.log(|log| log.append(entries))
    }

    /// Number and hash of the last line.
    pub fn head(&self) -> (u64, String) {
        self.log(|log| (log.sequence, log.hash.clone()))
    }

    fn log<T>(&self, work: impl FnOnce(&mut Log) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Log {
    fn append<T: Serialize>(&mut self, entries: &[T]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        if self.untrimmed {
            self.file.set_len(self.bytes)?;
            self.untrimmed = false;
        }
        if self.bytes >= self.most {
            self.rotate()?;
        }
        let (mut sequence, mut hash) = (self.sequence, self.hash.clone());
        let mut text = Vec::new();
        let time = Timestamp::now();
        for entry in entries {
            sequence += 1;
            let from = text.len();
            let line = Line {
                sequence,
                time,
                previous: &hash,
                entry,
            };
            serde_json::to_writer(&mut text, &line)?;
            hash = hex_digest(&text[from..]);
            text.push(b'\n');
        }
        let written = self.file.write_all(&text).and_then(|()| {
            failpoint::hit("audit-written");
            self.file.sync_data()
        });
        if let Err(error) = written {
            // What was written of it is no part of the chain.
            self.untrimmed = self.file.set_len(self.bytes).is_err();
            return Err(error);
        }
        self.bytes += text.len() as u64;
        (self.sequence, self.hash) = (sequence, hash);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..OLD_FILES).rev() {
            match std::fs::rename(old(&self.folder, number), old(&self.folder, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match std::fs::rename(current(&self.folder), old(&self.folder, 1)) {
            // Nothing is there if the last try came this far.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        failpoint::hit("audit-rotated");
        self.file = open(&self.folder)?;
        self.bytes = 0;
        File::open(&self.folder)?.sync_all()
    }
}

pub(super) fn current(folder: &Path) -> PathBuf {
    folder.join("audit.jsonl")
}

pub(super) fn old(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("audit.jsonl.{number}"))
}

fn open(folder: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(current(folder))
}

/// Number and hash of the last line of the newest file that was put aside.
fn last_of_old(folder: &Path) -> io::Result<Option<(u64, String)>> {
    for number in 1..=OLD_FILES {
        let mut file = match File::open(old(folder, number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        let length = file.seek(SeekFrom::End(0))?;
        return Ok(last_line(&mut file, length)?.0);
    }
    Ok(None)
}

/// Number and hash of the last whole line of a file, and where it ends.
fn last_line(file: &mut File, length: u64) -> io::Result<(Option<(u64, String)>, u64)> {
    // A torn end may be several lines long: those of one batch that was not synced.
    let mut reach = 4 * LINE_BYTES as u64;
    loop {
        let from = length.saturating_sub(reach);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        Read::by_ref(file)
            .take(length - from)
            .read_to_end(&mut bytes)?;
        let mut end = bytes.len();
        while let Some(feed) = bytes[..end].iter().rposition(|byte| *byte == b'\n') {
            let begin = bytes[..feed].iter().rposition(|byte| *byte == b'\n');
            let whole = begin.is_some() || from == 0;
            let line = &bytes[begin.map_or(0, |begin| begin + 1)..feed];
            match serde_json::from_slice::<Link>(line) {
                Ok(link) if whole => {
                    let ends = from + feed as u64 + 1;
                    return Ok((Some((link.sequence, hex_digest(line))), ends));
                }
                _ => end = feed,
            }
        }
        if from == 0 {
            return Ok((None, 0));
        }
        reach *= 16;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::verify::verify;
    use super::*;

    fn entry(change: &str) -> Entry<'_> {
        Entry {
            stage: "intent",
            plugin: "local/x",
            revision: "1",
            change,
            kept: 1,
            action: "remove",
            subject: "/etc/motd",
            before: "b",
            after: "a",
            result: None,
            error: None,
        }
    }

    fn log(folder: &Path) -> PathBuf {
        current(&folder.join("audit"))
    }

    #[test]
    fn what_is_edited_taken_out_or_put_in_shows() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        for change in ["one", "two", "three", "four"] {
            audit.append(&[entry(change)]).unwrap();
        }
        let (sequence, hash) = audit.head();
        let found = verify(folder.path()).unwrap();
        assert_eq!((found.lines, &found.hash), (Some((1, 4)), &hash));
        assert_eq!(sequence, 4);
        let whole = std::fs::read_to_string(log(folder.path())).unwrap();
        let lines: Vec<&str> = whole.lines().collect();
        let cases = [
            whole.replace("\"two\"", "\"TWO\""),
            [lines[0], lines[2], lines[3]].join("\n") + "\n",
            [lines[1], lines[2], lines[3]].join("\n") + "\n" + lines[0] + "\n",
            [lines[0], lines[0], lines[1]].join("\n") + "\n",
            whole.replace("three\"", "three\" "),
            whole.trim_end().to_owned(),
        ];
        for text in cases {
            std::fs::write(log(folder.path()), &text).unwrap();
            assert!(verify(folder.path()).is_err(), "{text}");
        }
        std::fs::write(log(folder.path()), &whole).unwrap();
        assert_eq!(verify(folder.path()).unwrap(), found);
    }

    #[test]
    fn a_torn_end_is_cut_off_and_noted_and_the_chain_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        audit.append(&[entry("one"), entry("two")]).unwrap();
        drop(audit);
        let whole = std::fs::read(log(folder.path())).unwrap();
        let second = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let mut zeros = whole[..second].to_vec();
        zeros.extend([0; 5000]);
        for torn in [&whole[..whole.len() - 1], &whole[..second + 1], &zeros] {
            std::fs::write(log(folder.path()), torn).unwrap();
            let audit = Audit::open(folder.path()).unwrap();
            audit.append(&[entry("three")]).unwrap();
            assert_eq!(verify(folder.path()).unwrap().lines, Some((1, 3)));
            let text = std::fs::read_to_string(log(folder.path())).unwrap();
            assert!(text.contains("a crash had left torn"), "{text}");
            assert!(!text.contains("\"two\""), "{text}");
        }
    }

    #[test]
    fn full_files_are_put_aside_within_bounds_and_the_chain_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        audit.log(|log| log.most = 8 << 10);
        for _ in 0..300 {
            audit.append(&[entry("one"), entry("two")]).unwrap();
        }
        drop(audit);
        let found = verify(folder.path()).unwrap();
        let (first, last) = found.lines.unwrap();
        assert_eq!(last, 600);
        assert!(first > 1, "nothing was dropped");
        let names = std::fs::read_dir(folder.path().join("audit")).unwrap();
        assert_eq!(names.count(), OLD_FILES as usize + 1);
    }

    #[test]
    fn a_log_that_lacks_its_newest_file_goes_on_from_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        audit.append(&[entry("one")]).unwrap();
        drop(audit);
        std::fs::rename(log(folder.path()), old(&folder.path().join("audit"), 1)).unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        audit.append(&[entry("two")]).unwrap();
        assert_eq!(verify(folder.path()).unwrap().lines, Some((1, 2)));
    }
}
