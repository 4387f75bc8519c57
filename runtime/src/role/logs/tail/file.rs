//! One file as the tail knows it: who it is, under which names it can be opened, how far it was
//! read. Identity is device and inode together with the first bytes, because paths are reused by
//! rotation and inodes by the file system.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags};
use xxhash_rust::xxh3::xxh3_64;

use super::super::batch::{FileId, Fingerprint, Footprint, Source};
use super::super::ledger::Amount;
use super::lines::Joins;
use super::meta::Meta;
use super::multiline::Gathering;
use super::pod::OfPod;
use super::select::{Matched, State};
use super::stats::{Stats, shift};
use super::{Known, Nameless};
use crate::kubernetes::Pods;
use crate::manifest::{FileFormat, PodMetadata};

/// How many of a file's first bytes are hashed.
pub(super) const HEAD: usize = 1024;
/// How many bytes before an offset are hashed: more than the lines of a log have in common at their ends.
const FOOT: usize = 1024;
/// How many fingerprints of earlier contents are kept, to recognise copies of them.
const PREVIOUS: usize = 8;

/// A name in a watched folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) folder: usize,
    pub(super) name: OsString,
    /// Whether a pattern matches it; otherwise it is the name of a rotated file or of a link's target.
    pub(super) matched: bool,
}

pub(super) struct File {
    pub(super) id: FileId,
    pub(super) generation: u64,
    pub(super) fingerprint: Fingerprint,
    /// Fingerprints of earlier generations.
    previous: Vec<Fingerprint>,
    pub(super) source: Arc<Source>,
    /// Its pod, if something is to be known of that.
    pod: Option<Box<OfPod>>,
    pub(super) format: FileFormat,
    /// Birth, if the file system tells.
    pub(super) born: Option<SystemTime>,
    pub(super) names: Vec<Name>,
    pub(super) handle: Option<fs::File>,
    /// Where reading goes on.
    pub(super) offset: u64,
    /// Where reading began in this generation.
    start: u64,
    /// Where the next read goes. Past `offset` within a line longer than the buffer: there is no
    /// line feed between the two.
    pub(super) scan: u64,
    /// Size when last looked at.
    pub(super) size: u64,
    /// Time of the last write, when last looked at.
    pub(super) written: Option<SystemTime>,
    /// End of the last span handed on: start of the next.
    pub(super) marked: u64,
    /// What was read from there on by the tail before this one, not settled, and not read again yet.
    pub(super) taken_back: Amount,
    /// Its contents are not those that were delivered, as far as they go: said with the next span.
    pub(super) again: bool,
    /// What has to stand in it before it is read on.
    pub(super) footprints: Vec<Footprint>,
    pub(super) joins: Joins,
    /// Lines that are being joined, if the source says so.
    pub(super) gathering: Option<Box<Gathering>>,
    /// Whether it waits in its lane's queue.
    pub(super) queued: bool,
    /// Its position shall be handed on even without a line.
    pub(super) position_due: bool,
    /// Set once rotated and quiet: the next turn hands on what has no line feed.
    pub(super) finishing: bool,
    /// Rotated and read to its end; opened again only if it grows.
    pub(super) done: bool,
    /// Pending parts waited too long: the next turn hands them on.
    pub(super) flushing: bool,
    /// When no pattern matched any name any more.
    pub(super) away: Option<Instant>,
    /// How long the channel had been full, in total, when the file was found deleted.
    pub(super) deleted: Option<Duration>,
    /// A copy of another file's contents: never read, only remembered.
    pub(super) copy: bool,
    /// Older files of the same name, read first.
    pub(super) after: Vec<FileId>,
    /// When bytes were last seen to come.
    pub(super) active: Instant,
    /// When opening may be tried again.
    pub(super) retry: Option<Instant>,
    /// Index of its span in the batch with this number.
    pub(super) in_batch: Option<(u64, u32, u64)>,
    /// What it adds to the gauge of unread bytes.
    pub(super) gauged: u64,
}

impl File {
    /// A file of the log at `base`.
    pub(super) fn new(meta: &Meta, base: &Path, matched: Matched) -> Self {
        let mut file = Self {
            id: file_id(meta),
            generation: first_generation(meta),
            fingerprint: Fingerprint::default(),
            previous: Vec::new(),
            source: Arc::new(Source {
                path: base.into(),
                attributes: Vec::new(),
            }),
            pod: None,
            format: matched.format,
            born: meta.born(),
            names: Vec::new(),
            handle: None,
            offset: 0,
            start: 0,
            scan: 0,
            size: meta.len(),
            written: meta.modified().ok(),
            marked: 0,
            taken_back: Amount::default(),
            again: false,
            footprints: Vec::new(),
            joins: Joins::default(),
            gathering: matched
                .multiline
                .map(|rules| Box::new(Gathering::new(rules))),
            queued: false,
            position_due: false,
            finishing: false,
            done: false,
            flushing: false,
            away: None,
            deleted: None,
            copy: false,
            after: Vec::new(),
            active: Instant::now(),
            retry: None,
            in_batch: None,
            gauged: 0,
        };
        file.lies_at(base, matched.attributes, matched.metadata);
        file
    }

    /// Takes its source from the path `base` of its log.
    pub(super) fn lies_at(
        &mut self,
        base: &Path,
        attributes: Vec<(String, String)>,
        metadata: Option<Arc<PodMetadata>>,
    ) {
        self.source = Arc::new(Source {
            path: base.into(),
            attributes,
        });
        let of_pod = |metadata| Box::new(OfPod::new(metadata, self.source.clone()));
        self.pod = metadata.map(of_pod);
    }

    /// How many attributes of its source the path gives.
    pub(super) fn attributes_of_path(&self) -> usize {
        match &self.pod {
            Some(pod) => pod.of_place(),
            None => self.source.attributes.len(),
        }
    }

    /// Brings what is known of its pod up to date. Whether it can be read now.
    pub(super) fn know_pod(&mut self, pods: &Pods, stats: &Stats) -> bool {
        match &mut self.pod {
            Some(pod) => pod.look_up(pods, &mut self.source, stats),
            None => true,
        }
    }

    /// Starts reading at `offset`.
    pub(super) fn seek(&mut self, offset: u64) {
        self.offset = offset;
        self.start = offset;
        self.scan = offset;
        self.marked = offset;
    }

    /// What another tail needs to go on with an open file that has no name.
    pub(super) fn into_nameless(self) -> Option<Nameless> {
        let known = Known {
            file: self.id,
            generation: self.generation,
            fingerprint: self.fingerprint,
            offset: self.start,
            taken_back: Amount::default(),
            footprints: Vec::new(),
            path: self.source.path.to_path_buf(),
        };
        Some(Nameless {
            handle: self.handle?,
            known,
            format: self.format,
            multiline: self.gathering.map(|gathering| gathering.rules().clone()),
        })
    }

    /// The offset of the first byte that was read and not handed on: of a line whose rest has not
    /// come, or of lines to which further ones may.
    pub(super) fn held(&self) -> Option<u64> {
        let gathered = self.gathering.as_ref().and_then(|open| open.start());
        [self.joins.start(), gathered].into_iter().flatten().min()
    }

    /// The streams whose joined lines have waited long enough for further ones.
    pub(super) fn due(&self, now: Instant) -> Option<[bool; 2]> {
        let gathering = self.gathering.as_ref()?;
        gathering.due(now, self.joins.pending())
    }

    /// Where reading must go on after a restart so that nothing is lost.
    pub(super) fn low_water(&self) -> u64 {
        self.held().unwrap_or(self.offset)
    }

    /// Bytes seen but not read.
    pub(super) fn unread(&self) -> u64 {
        self.size.saturating_sub(self.scan)
    }

    /// Brings the gauge of unread bytes up to date.
    pub(super) fn gauge(&mut self, stats: &Stats) {
        let unread = self.unread();
        shift(&stats.unread_bytes, &mut self.gauged, unread);
    }

    /// Whether a pattern matches one of its names.
    pub(super) fn matched(&self) -> bool {
        self.names.iter().any(|name| name.matched)
    }

    /// Whether `meta` is of this file and not of a later one with the same inode.
    pub(super) fn is(&self, meta: &Meta) -> bool {
        file_id(meta) == self.id
            && match (self.born, meta.born()) {
                // An open handle keeps the inode from being reused.
                (Some(ours), Some(theirs)) => ours == theirs || self.handle.is_some(),
                _ => true,
            }
    }

    /// Looks at the first bytes, and takes further ones into the fingerprint. `false` if they are
    /// not those that we knew.
    pub(super) fn check_head(&mut self) -> io::Result<bool> {
        let Some(handle) = &self.handle else {
            return Ok(true);
        };
        match head(handle, self.fingerprint)? {
            Some(now) => {
                self.fingerprint = now;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Whether what was read of it before still stands in it, as far as that is known.
    pub(super) fn check_footprints(&mut self) -> io::Result<bool> {
        let Some(handle) = &self.handle else {
            return Ok(true);
        };
        for expected in &self.footprints {
            if footprint(handle, expected.offset)?.as_ref() != Some(expected) {
                return Ok(false);
            }
        }
        self.footprints = Vec::new();
        Ok(true)
    }

    /// Begins a new generation: the contents are not those that we knew.
    pub(super) fn renew(&mut self) {
        self.remember(self.fingerprint);
        self.generation += 1;
        self.fingerprint = Fingerprint::default();
        self.footprints = Vec::new();
        self.again = false;
        self.seek(0);
        self.position_due = false;
    }

    /// Reads the contents that we knew from their start, because not all that was read stands in them.
    pub(super) fn begin_again(&mut self) {
        self.footprints = Vec::new();
        self.again = true;
        self.seek(0);
    }

    /// Keeps a fingerprint of earlier contents.
    pub(super) fn remember(&mut self, fingerprint: Fingerprint) {
        if fingerprint.length == 0 {
            return;
        }
        if self.previous.len() == PREVIOUS {
            self.previous.remove(0);
        }
        self.previous.push(fingerprint);
    }

    /// Whether it had other contents before, as far as we know.
    pub(super) fn was_truncated(&self) -> bool {
        !self.previous.is_empty()
    }

    /// Fingerprints of the contents that it has and had.
    pub(super) fn fingerprints(&self) -> impl Iterator<Item = Fingerprint> {
        self.previous
            .iter()
            .copied()
            .chain([self.fingerprint])
            .filter(|print| print.length > 0)
    }
}

/// The file's identity.
pub(super) fn file_id(meta: &Metadata) -> FileId {
    FileId {
        device: meta.dev(),
        inode: meta.ino(),
    }
}

/// The generation of a file that we have no checkpoint of. File systems give a deleted file's inode
/// to the next one at once, so counting from zero would give two files the same record ids.
fn first_generation(meta: &Meta) -> u64 {
    let since = meta
        .born()
        .unwrap_or_else(SystemTime::now)
        .duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

/// Opens a regular file for reading without ever waiting (a FIFO would).
pub(super) fn open(path: &Path) -> io::Result<(fs::File, Meta)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let meta = Meta::of_file(&file)?;
    if !meta.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    Ok((file, meta))
}

/// The fingerprint of what `file` holds now, if it begins with what `known` was made from.
pub(super) fn head(file: &fs::File, known: Fingerprint) -> io::Result<Option<Fingerprint>> {
    let mut buffer = [0; HEAD];
    let mut length = 0;
    while length < HEAD {
        match file.read_at(&mut buffer[length..], length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let before = known.length as usize;
    if length < before || before > 0 && xxh3_64(&buffer[..before]) != known.hash {
        return Ok(None);
    }
    if length == before {
        return Ok(Some(known));
    }
    Ok(Some(Fingerprint {
        length: length as u32,
        hash: xxh3_64(&buffer[..length]),
    }))
}

/// What stands before `offset` in `file`: nothing if the file is shorter, or at its start.
pub(super) fn footprint(file: &fs::File, offset: u64) -> io::Result<Option<Footprint>> {
    let mut buffer = [0; FOOT];
    let length = offset.min(FOOT as u64);
    let bytes = &mut buffer[..length as usize];
    if length == 0 {
        return Ok(None);
    }
    match file.read_exact_at(bytes, offset - length) {
        Ok(()) => Ok(Some(Footprint {
            offset,
            length: length as u32,
            hash: xxh3_64(bytes),
        })),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// A folder being followed.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    /// What it stands for in the patterns; empty for the folder of a link's target.
    pub(super) states: Vec<State>,
    /// Names that lead to files that we follow.
    pub(super) entries: HashMap<OsString, FileId>,
    /// Names here to which links in other folders lead: the links' folders and names.
    pub(super) links: HashMap<OsString, Vec<(usize, OsString)>>,
    /// The kernel's number for its watch; `None` if it is polled.
    pub(super) wd: Option<i32>,
}
