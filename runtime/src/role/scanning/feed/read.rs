//! Reading one file, once, for all that want it.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use super::aside::Beat;
use super::attributes;
use super::batch::{CHANGED, CUT, EVENT, UNATTRIBUTED};
use super::cache::{self, Mark};
use super::counts::Counts;
use super::digest::{Digests, Hashers, Wanted};
use super::facts::{Facts, FileKey, Kind};
use super::lane::{BATCH_BYTES, Lane, Large, Record};
use super::lock;
use super::pace::{Clock, Pace};
use super::root::{Root, place};
use crate::role::scanning::withheld::is_withheld;

const BATCH: u64 = BATCH_BYTES as u64;
/// So much is read at once.
const CHUNK: usize = 1 << 20;
/// So much of a file is kept in memory until all of it is read, at most: while a file is passed in parts,
/// its subscriber is passed nothing else.
const KEPT: u64 = 64 << 20;
/// Digests of longer files are not computed: at the speed of SHA-1 and MD5, this takes minutes.
const LONGEST: u64 = 64 << 30;
/// Nor of files that are longer than this and nearly all holes: somebody may have terabytes for nothing.
const LONGEST_SPARSE: u64 = 1 << 30;
/// A file that was changed so recently may be changed again without its times moving on.
const SETTLED: i64 = 50_000_000;

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was passed.
    Passed,
    /// It was passed, and it changed meanwhile; or it was not, since it is something else now.
    Changed,
    /// Somebody has a lease on it, which was asked back: it is to be read later, and was not passed.
    Busy,
    /// It was gone, and was not passed.
    Vanished,
    /// Everybody is to stop.
    Stopped,
}

/// For whom a file is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct For<'a> {
    pub(super) lane: &'a Lane,
    /// The full pass.
    pub(super) full: Option<u32>,
}

/// Which file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) folder: BorrowedFd<'a>,
    /// The folder's, or the file's own if it is one.
    pub(super) folder_key: FileKey,
    pub(super) name: &'a CStr,
    pub(super) path: &'a [u8],
    /// As it was found.
    pub(super) facts: Facts,
    /// [`EVENT`], or none.
    pub(super) flags: u32,
}

impl Found<'_> {
    /// The path of the folder with this key.
    fn folder_path(&self) -> &[u8] {
        if self.facts.kind == Kind::Directory {
            return self.path;
        }
        let end = memchr::memrchr(b'/', self.path).unwrap_or(0);
        self.path.get(..end.max(1)).unwrap_or(self.path)
    }
}

/// What all readers share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tools<'a> {
    pub(super) root: &'a Root,
    pub(super) cache: &'a cache::Cache,
    pub(super) pace: &'a Pace,
    pub(super) counts: &'a Counts,
    /// Held by the one of several threads that keeps more of a file than fits into a batch.
    pub(super) keeping: &'a Mutex<()>,
    /// Of a thread that may be stuck.
    pub(super) beat: Option<&'a Beat>,
}

impl Tools<'_> {
    /// The file system has answered.
    pub(super) fn gets_on(&self) {
        if let Some(beat) = self.beat {
            beat.gets_on();
        }
    }

    /// Does what asks no file system, and may take long. None: everybody is to stop.
    fn between<T>(&self, act: impl FnOnce() -> T) -> Option<T> {
        match self.beat {
            Some(beat) => beat.between(act),
            None => Some(act()),
        }
    }
}

/// One thread's reader, with its buffers.
pub(super) struct Reader<'a> {
    tools: Tools<'a>,
    clock: Clock,
    content: Vec<u8>,
    chunk: Vec<u8>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(tools: Tools<'a>) -> Self {
        Self {
            tools,
            clock: Clock::start(),
            content: Vec::new(),
            chunk: Vec::new(),
        }
    }

    /// Waits for the budget. Whether to go on.
    pub(super) fn wait(&mut self) -> bool {
        let Self { tools, clock, .. } = self;
        tools.between(|| tools.pace.read(0, clock)) == Some(true)
    }

    /// Gives buffers back: nothing is to be read for now.
    pub(super) fn rest(&mut self) {
        self.content = Vec::new();
        self.chunk = Vec::new();
    }

    /// Reads a file and passes it to those that want it, in the order of their numbers. May block.
    pub(super) fn file(&mut self, found: &Found<'_>, to: &[For<'_>]) -> Outcome {
        let outcome = match self.attempt(found, to) {
            Ok(outcome) => outcome,
            Err(Errno::NOENT | Errno::STALE) => Outcome::Vanished,
            Err(error) => {
                self.tools.counts.error(error);
                let digests = Digests::default();
                let record = Record {
                    facts: &found.facts,
                    path: found.path,
                    digests: &digests,
                    attributes: &[],
                    error: number(error),
                    flags: found.flags,
                };
                let pass = || to.iter().for_each(|to| to.lane.add(&record, None, None));
                match self.tools.between(pass) {
                    Some(()) => Outcome::Passed,
                    None => Outcome::Stopped,
                }
            }
        };
        let counts = self.tools.counts;
        Counts::add(
            match outcome {
                Outcome::Passed => &counts.passed,
                Outcome::Changed => &counts.changed,
                Outcome::Vanished => &counts.vanished,
                Outcome::Busy | Outcome::Stopped => return outcome,
            },
            1,
        );
        outcome
    }

    /// An error: it could not be read at all, and nobody was passed anything.
    fn attempt(&mut self, found: &Found<'_>, to: &[For<'_>]) -> Result<Outcome, Errno> {
        // Before anything is looked at: reading may take longer than the times take to move on.
        let begun = SystemTime::now();
        let mut content = 0;
        let mut digests = Wanted::default();
        let mut wants_attributes = false;
        for to in to {
            content = content.max(to.lane.interest.content);
            digests = digests.or(to.lane.interest.digests);
            wants_attributes |= to.lane.interest.attributes;
        }
        let wants_bytes = found.facts.kind == Kind::File && (content > 0 || digests.any());
        let withheld = wants_bytes && is_withheld(found.path);
        let reads = wants_bytes && !withheld;
        let is_link = found.facts.kind == Kind::Symlink;
        let place = match reads || wants_attributes || is_link {
            true => Some(place(found.folder, found.name)?),
            false => None,
        };
        let facts = match &place {
            Some(place) => Facts::of_open(place)?,
            None => found.facts,
        };
        if facts.kind != found.facts.kind {
            return Ok(Outcome::Changed);
        }
        let mut flags = found.flags;
        let attributes = match &place {
            Some(place) if is_link => attributes::target(place)?,
            // Whoever made the file made these, and must not keep its bytes from anybody.
            Some(place) if wants_attributes => attributes::of(place).unwrap_or_else(|error| {
                self.tools.counts.error(error);
                flags |= UNATTRIBUTED;
                Vec::new()
            }),
            _ => Vec::new(),
        };
        let record = Record {
            facts: &facts,
            path: found.path,
            digests: &Digests::default(),
            attributes: &attributes,
            error: 0,
            flags: flags | if withheld { CUT } else { 0 },
        };
        let file = match &place {
            Some(place) if reads => match self.tools.root.read(place) {
                Err(Errno::AGAIN) => return Ok(Outcome::Busy),
                opened => opened?,
            },
            _ => {
                let settled = is_settled(&facts, begun);
                let passed = self.tools.between(|| {
                    for to in to {
                        let mark = self.mark(settled, to, found, &facts);
                        to.lane.add(&record, None, mark);
                    }
                });
                return Ok(passed.map_or(Outcome::Stopped, |()| Outcome::Passed));
            }
        };
        let undigested = digests.any() && !is_digestible(&facts);
        let job = Job {
            begun,
            found,
            to,
            content,
            digests: if undigested {
                Wanted::default()
            } else {
                digests
            },
            undigested,
        };
        match content.min(facts.size) {
            ..=BATCH => self.kept(&file, &record, &job),
            length if length <= KEPT || self.tools.beat.is_some() => {
                let keeping = self.tools.keeping;
                let Some(alone) = self.tools.between(|| lock(keeping)) else {
                    return Ok(Outcome::Stopped);
                };
                let outcome = self.kept(&file, &record, &job);
                self.content = Vec::new();
                drop(alone);
                outcome
            }
            _ => Ok(self.long(&file, &record, &job)),
        }
    }

    /// What is passed of it is in memory before any of it is.
    fn kept(
        &mut self,
        file: &OwnedFd,
        record: &Record<'_>,
        job: &Job<'_>,
    ) -> Result<Outcome, Errno> {
        let size = record.facts.size;
        let mut hashers = Hashers::of(job.digests);
        let whole = job.content.min(size);
        let wanted = whole.min(KEPT) as usize;
        let Some(length) = self.head(file, wanted, job.found.flags, &mut hashers)? else {
            return Ok(Outcome::Stopped);
        };
        let rest = match job.digests.any() && length == wanted {
            true => size - length as u64,
            false => 0,
        };
        let read = self.chunks(file, rest, job.found.flags, |chunk| hashers.update(chunk));
        let read = match read {
            Ok(Some(read)) => Ok(length as u64 + read),
            Ok(None) => return Ok(Outcome::Stopped),
            // What was read is passed all the same.
            Err(error) => Err(error),
        };
        let ended = self.ended(file, record, job, wanted as u64 + rest, read);
        let digests = match ended.error {
            0 => hashers.finish(),
            _ => Digests::default(),
        };
        let mut record = ended.tell(record, &digests);
        if whole > KEPT {
            record.flags |= CUT;
        }
        let content = self.content.get(..length);
        let passed = self.tools.between(|| {
            for to in job.to {
                let mark = self.mark(ended.settled, to, job.found, record.facts);
                to.lane.add(&record, content, mark);
            }
        });
        Ok(passed.map_or(Outcome::Stopped, |()| ended.outcome()))
    }

    /// What is passed of it is too long for memory: it is passed while it is read.
    fn long(&mut self, file: &OwnedFd, record: &Record<'_>, job: &Job<'_>) -> Outcome {
        let size = record.facts.size;
        let mut hashers = Hashers::of(job.digests);
        // Nothing else is passed until this is: what it takes is owed afterwards.
        if !self.wait() {
            return Outcome::Stopped;
        }
        // It matters little if the kernel does not take it.
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Sequential);
        let mut large: Vec<Large<'_>> = job.to.iter().map(|to| to.lane.large()).collect();
        let wanted = match job.digests.any() {
            true => size,
            false => size.min(job.content),
        };
        let read = self.chunks(file, wanted, EVENT, |chunk| {
            hashers.update(chunk);
            for large in &mut large {
                large.content(record, chunk);
            }
        });
        let stopped = matches!(read, Ok(None));
        let read = read.and_then(|read| read.ok_or(Errno::CANCELED));
        let ended = self.ended(file, record, job, wanted, read);
        let digests = match ended.error {
            0 => hashers.finish(),
            _ => Digests::default(),
        };
        let record = ended.tell(record, &digests);
        for (large, to) in large.into_iter().zip(job.to) {
            let mark = self.mark(ended.settled, to, job.found, record.facts);
            large.end(&record, mark);
        }
        match stopped {
            true => Outcome::Stopped,
            false => ended.outcome(),
        }
    }

    /// Reads what is passed of a file into one buffer. How much there was; none if everybody is to stop.
    fn head(
        &mut self,
        file: &OwnedFd,
        wanted: usize,
        flags: u32,
        hashers: &mut Hashers,
    ) -> Result<Option<usize>, Errno> {
        if self.content.len() < wanted {
            self.content.resize(wanted, 0);
        }
        let mut content = std::mem::take(&mut self.content);
        let mut length = 0;
        let read = loop {
            let end = wanted.min(length + CHUNK);
            let Some(room) = content.get_mut(length..end).filter(|it| !it.is_empty()) else {
                break Ok(Some(length));
            };
            match self.fill(file, room, flags) {
                Ok(Some(0)) => break Ok(Some(length)),
                Ok(Some(read)) => {
                    hashers.update(room.get(..read).unwrap_or_default());
                    length += read;
                }
                Ok(None) => break Ok(None),
                Err(error) => break Err(error),
            }
        };
        self.content = content;
        read
    }

    /// Reads up to `wanted` further bytes in chunks. How many there were; none if everybody is to stop.
    fn chunks(
        &mut self,
        file: &OwnedFd,
        wanted: u64,
        flags: u32,
        mut take: impl FnMut(&[u8]),
    ) -> Result<Option<u64>, Errno> {
        if wanted > 0 {
            self.chunk.resize(CHUNK, 0);
        }
        let mut chunk = std::mem::take(&mut self.chunk);
        let mut total = 0;
        let read = loop {
            let left = usize::try_from(wanted - total).unwrap_or(usize::MAX);
            let Some(room) = chunk.get_mut(..CHUNK.min(left)).filter(|it| !it.is_empty()) else {
                break Ok(Some(total));
            };
            match self.fill(file, room, flags) {
                Ok(Some(0)) => break Ok(Some(total)),
                Ok(Some(read)) => {
                    take(room.get(..read).unwrap_or_default());
                    total += read as u64;
                }
                Ok(None) => break Ok(None),
                Err(error) => break Err(error),
            }
        };
        self.chunk = chunk;
        read
    }

    /// Reads once. How much there was; none if everybody is to stop.
    fn fill(
        &mut self,
        file: &OwnedFd,
        room: &mut [u8],
        flags: u32,
    ) -> Result<Option<usize>, Errno> {
        let Self { tools, clock, .. } = self;
        let go_on = tools.between(|| match flags & EVENT {
            0 => tools.pace.read(room.len(), clock),
            _ => tools.pace.read_now(room.len(), clock),
        });
        if go_on != Some(true) {
            return Ok(None);
        }
        let read = rustix::io::retry_on_intr(|| rustix::io::read(file, &mut *room))?;
        Counts::add(&self.tools.counts.read, read as u64);
        Ok(Some(read))
    }

    /// How reading a file ended, of which there should have been `wanted` bytes.
    fn ended(
        &self,
        file: &OwnedFd,
        record: &Record<'_>,
        job: &Job<'_>,
        wanted: u64,
        read: Result<u64, Errno>,
    ) -> Ended {
        let now = Facts::of_open(file);
        let same = now.is_ok_and(|now| now.same_state(record.facts));
        let error = match read {
            Ok(_) if job.undigested => Some(Errno::FBIG),
            Ok(_) => None,
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            self.tools.counts.error(error);
        }
        let changed = !same || read.is_ok_and(|read| read < wanted);
        Ended {
            error: error.map_or(0, number),
            changed,
            settled: read.is_ok() && !changed && is_settled(record.facts, job.begun),
        }
    }

    fn mark(&self, settled: bool, to: &For<'_>, found: &Found<'_>, facts: &Facts) -> Option<Mark> {
        settled.then(|| Mark {
            subscriber: to.lane.number,
            folder: found.folder_key,
            path: self.tools.cache.path(found.folder_path()),
            id: cache::id(facts.key),
            stamp: self.tools.cache.stamp(facts, to.lane.rules),
            full: to.full,
        })
    }
}

/// What is to be read of a file, and for whom.
struct Job<'a> {
    /// When.
    begun: SystemTime,
    found: &'a Found<'a>,
    to: &'a [For<'a>],
    content: u64,
    digests: Wanted,
    /// Somebody wants digests, and the file is too long.
    undigested: bool,
}

/// How reading ended.
struct Ended {
    error: u32,
    changed: bool,
    /// Whether it counts as judged once it is.
    settled: bool,
}

impl Ended {
    fn tell<'a>(&self, record: &Record<'a>, digests: &'a Digests) -> Record<'a> {
        Record {
            digests,
            error: self.error,
            flags: record.flags | if self.changed { CHANGED } else { 0 },
            ..*record
        }
    }

    fn outcome(&self) -> Outcome {
        match self.changed {
            true => Outcome::Changed,
            false => Outcome::Passed,
        }
    }
}

fn number(error: Errno) -> u32 {
    error.raw_os_error().unsigned_abs()
}

fn is_digestible(facts: &Facts) -> bool {
    let sparse = facts.allocated < facts.size / 8;
    facts.size <= if sparse { LONGEST_SPARSE } else { LONGEST }
}

/// Whether a change after `begun` would be seen from its times.
fn is_settled(facts: &Facts, begun: SystemTime) -> bool {
    let begun = begun.duration_since(UNIX_EPOCH);
    let begun = begun.map_or(0, |it| i64::try_from(it.as_nanos()).unwrap_or(i64::MAX));
    // From the future: the clock was put back, and its times tell nothing.
    facts.changed.saturating_add(SETTLED) < begun
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_of_holes_are_not_digested() {
        let of = |size, allocated| Facts {
            key: FileKey {
                device: 1,
                inode: 1,
            },
            kind: Kind::File,
            size,
            allocated,
            modified: 0,
            changed: 0,
            mode: 0,
            uid: 0,
            gid: 0,
            links: 1,
            mount: 0,
        };
        assert!(is_digestible(&of(1 << 30, 0)));
        assert!(!is_digestible(&of(1 << 40, 4096)));
        assert!(is_digestible(&of(8 << 30, 2 << 30)));
        assert!(!is_digestible(&of(65 << 30, 65 << 30)));
    }
}
