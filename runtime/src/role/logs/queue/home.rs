//! Where a plugin's queues lie, and what becomes of those whose destination is gone. Everything here
//! blocks.
//!
//! A queue lies in `STATE/queue/NAMESPACE/NAME/DESTINATION` or, if the manifest names a path, in
//! `PATH/NAMESPACE/NAME/DESTINATION`, so that no two share a folder. The former then says so in its file
//! `elsewhere`: a queue with lines in it stays where it is, whatever the manifest says since, and moves
//! when it is opened empty.
//!
//! The queues of what pushes metrics or findings have folders beside these, with `NAMESPACE.metrics` or
//! `NAMESPACE.findings` for the namespace, which has no dots itself: the roles of a plugin may call
//! destinations the same.
//!
//! The queue of a destination that is gone is kept for a while, as a plugin's state is: the destination
//! may come back, by hand or because an update is rolled back.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::error::Error;
use super::folder::{Folder, Missing, names, open_below};
use super::recover::{self, Opened};

const QUEUES: &str = "queue";
const ELSEWHERE: &str = "elsewhere";
const ABANDONED: &str = "abandoned";
/// What the folder of a namespace ends in that holds the queues of pushed metrics.
const OF_METRICS: &str = ".metrics";
/// The same for findings.
const OF_FINDINGS: &str = ".findings";

/// Where the queues of one plugin lie.
#[derive(Debug, Clone)]
pub struct Home {
    state: PathBuf,
    node_root: PathBuf,
    namespace: String,
    name: String,
}

/// The queue of a destination that the manifest does not have any more.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::role::logs) struct Abandoned {
    pub(in crate::role::logs) destination: String,
    /// Where it lies, or lay.
    pub(in crate::role::logs) path: PathBuf,
    /// Lines in it.
    pub(in crate::role::logs) lines: u64,
    /// When it is removed; none if it just was, with these lines.
    pub(in crate::role::logs) until: Option<SystemTime>,
}

/// A folder by the names that lead there.
struct Place<'a> {
    base: PathBuf,
    names: Vec<&'a str>,
}

impl Place<'_> {
    fn path(&self) -> PathBuf {
        let mut path = self.base.clone();
        path.extend(&self.names);
        path
    }

    fn folder(&self, missing: Missing) -> Result<OwnedFd, Error> {
        open_below(&self.base, &self.names, missing)
    }

    /// Removes it with what is in it.
    fn remove(&self) -> Result<(), Error> {
        let folder = self.folder(Missing::Fail)?;
        let Some((last, above)) = self.names.split_last() else {
            return Ok(());
        };
        let above = open_below(&self.base, above, Missing::Fail)?;
        let remove = || {
            for name in names(&folder)? {
                rustix::fs::unlinkat(&folder, name, AtFlags::empty())?;
            }
            rustix::fs::unlinkat(&above, *last, AtFlags::REMOVEDIR)?;
            Ok(rustix::fs::fsync(&above)?)
        };
        remove().map_err(Error::io("cannot remove", &self.path()))
    }
}

impl Home {
    /// Of the plugin `NAMESPACE/NAME`, by the daemon's state folder and the node's root. Returns none if
    /// those are no names of folders.
    pub fn new(state: &Path, node_root: &Path, namespace: &str, name: &str) -> Option<Self> {
        let plain = |part: &str| !part.is_empty() && !part.contains('/') && !part.starts_with('.');
        (plain(namespace) && plain(name)).then(|| Self {
            state: state.to_owned(),
            node_root: node_root.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Those for what the plugin measures, if this is for its logs.
    pub fn for_metrics(mut self) -> Self {
        self.namespace.push_str(OF_METRICS);
        self
    }

    /// Those for what the plugin finds, if this is for its logs.
    pub fn for_findings(mut self) -> Self {
        self.namespace.push_str(OF_FINDINGS);
        self
    }

    /// Whether they are for its logs.
    pub(in crate::role::logs) fn is_for_logs(&self) -> bool {
        !self.namespace.contains('.')
    }

    /// Of all plugins that have, or had, a queue.
    pub(in crate::role::logs) fn all(state: &Path, node_root: &Path) -> Result<Vec<Self>, Error> {
        let below = |above: &[&str]| match open_below(state, above, Missing::Fail) {
            Ok(folder) => names(&folder).map_err(Error::io("cannot read", state)),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        };
        let mut all = Vec::new();
        for namespace in below(&[QUEUES])? {
            for name in below(&[QUEUES, &namespace])? {
                all.extend(Self::new(state, node_root, &namespace, &name));
            }
        }
        Ok(all)
    }

    /// The plugin, `NAMESPACE/NAME`.
    pub(in crate::role::logs) fn plugin(&self) -> String {
        let namespace = self.namespace.split_once('.');
        let namespace = namespace.map_or(&*self.namespace, |(namespace, _)| namespace);
        format!("{namespace}/{}", self.name)
    }

    fn place<'a>(&'a self, destination: &'a str, path: Option<&Path>) -> Place<'a> {
        let names = [&*self.namespace, &*self.name, destination];
        match path {
            Some(path) => Place {
                base: self.node_root.join(path.strip_prefix("/").unwrap_or(path)),
                names: names.to_vec(),
            },
            None => Place {
                base: self.state.clone(),
                names: [&[QUEUES], &names[..]].concat(),
            },
        }
    }

    /// The folder that queues with this `queue.path` lie in, all plugins' if there is none.
    pub(in crate::role::logs) fn folder(&self, path: Option<&Path>) -> PathBuf {
        match path {
            Some(path) => {
                let base = self.node_root.join(path.strip_prefix("/").unwrap_or(path));
                base.join(&self.namespace).join(&self.name)
            }
            None => self.state.join(QUEUES),
        }
    }

    /// Opens the queue of a destination, at `wanted` unless it is still somewhere else.
    pub(super) fn open(
        &self,
        destination: &str,
        wanted: Option<&Path>,
        lanes: usize,
    ) -> Result<Opened, Error> {
        let first = self.place(destination, None);
        let folder = first.folder(Missing::Make)?;
        remove_file(&folder, ABANDONED).map_err(Error::io("cannot write in", &first.path()))?;
        let present = elsewhere(&folder, &first)?;
        if present.as_deref() == wanted {
            return self.open_at(destination, wanted, lanes);
        }
        let opened = self.open_at(destination, present.as_deref(), lanes)?;
        let place = self.place(destination, present.as_deref());
        if opened.recovered.lines > 0 {
            tracing::warn!(queue = %place.path().display(), lines = opened.recovered.lines,
                "queue.path takes effect when the queue is opened empty; its lines are delivered first");
            return Ok(opened);
        }
        // First, so that a path that is not there is not noted.
        self.place(destination, wanted).folder(Missing::Make)?;
        drop(opened);
        place.remove()?;
        if let Some(path) = wanted {
            let folder = first.folder(Missing::Make)?;
            write_file(&folder, ELSEWHERE, path.as_os_str().as_bytes())
                .map_err(Error::io("cannot write in", &first.path()))?;
        }
        self.open_at(destination, wanted, lanes)
    }

    /// Whether a destination has a queue, or had one that was not removed.
    pub(in crate::role::logs) fn has(&self, destination: &str) -> Result<bool, Error> {
        match self.place(destination, None).folder(Missing::Fail) {
            Ok(_) => Ok(true),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The path below which the queue of a destination lies; none if it is the state folder's.
    pub(in crate::role::logs) fn path(&self, destination: &str) -> Result<Option<PathBuf>, Error> {
        let first = self.place(destination, None);
        elsewhere(&first.folder(Missing::Fail)?, &first)
    }

    /// Removes the queue of a destination, with what is in it.
    pub(in crate::role::logs) fn remove(&self, destination: &str) -> Result<(), Error> {
        let first = self.place(destination, None);
        let path = self.path(destination)?;
        if path.is_some() {
            self.place(destination, path.as_deref()).remove()?;
        }
        first.remove()
    }

    fn open_at(
        &self,
        destination: &str,
        path: Option<&Path>,
        lanes: usize,
    ) -> Result<Opened, Error> {
        let place = self.place(destination, path);
        match Folder::open(&place.base, &place.names, Missing::Make) {
            Err(Error::Io { source, .. })
                if path.is_some() && source.kind() == io::ErrorKind::NotFound =>
            {
                Err(Error::Away {
                    base: place.base,
                    noted: self.place(destination, None).path(),
                })
            }
            folder => recover::open(folder?, lanes),
        }
    }

    /// The queues of destinations that are not among `present`. Removes those that hold nothing or
    /// that have been there for `retention`, which begins when this was called for the first time.
    pub(in crate::role::logs) fn abandoned(
        &self,
        present: &[&str],
        lanes: usize,
        now: SystemTime,
        retention: Duration,
    ) -> Vec<Result<Abandoned, Error>> {
        let below = [QUEUES, &self.namespace, &self.name];
        let all = match open_below(&self.state, &below, Missing::Fail) {
            Ok(folder) => names(&folder).map_err(Error::io("cannot read", &self.state)),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Vec::new();
            }
            Err(error) => Err(error),
        };
        let all = match all {
            Ok(all) => all,
            Err(error) => return vec![Err(error)],
        };
        let gone = all.into_iter().filter(|name| !present.contains(&&**name));
        gone.map(|name| self.abandon(name, lanes, now, retention))
            .collect()
    }

    fn abandon(
        &self,
        destination: String,
        lanes: usize,
        now: SystemTime,
        retention: Duration,
    ) -> Result<Abandoned, Error> {
        let first = self.place(&destination, None);
        let folder = first.folder(Missing::Fail)?;
        let failed = |error| Error::io("cannot write in", &first.path())(error);
        let seconds = |text: Vec<u8>| String::from_utf8(text).ok()?.parse().ok();
        let since = read_file(&folder, ABANDONED).map_err(failed)?;
        let since = match since.and_then(seconds) {
            Some(since) => Duration::from_secs(since),
            None => {
                let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
                let text = since.as_secs().to_string();
                write_file(&folder, ABANDONED, text.as_bytes()).map_err(failed)?;
                since
            }
        };
        let path = elsewhere(&folder, &first)?;
        let place = self.place(&destination, path.as_deref());
        let opened = self.open_at(&destination, path.as_deref(), lanes)?;
        let lines = opened.recovered.lines;
        drop(opened);
        // A clock that was set back counts as no time at all.
        let age = now.duration_since(UNIX_EPOCH + since).unwrap_or_default();
        let kept = lines > 0 && age < retention;
        let at = place.path();
        if !kept {
            self.remove(&destination)?;
        }
        Ok(Abandoned {
            path: at,
            lines,
            until: kept.then(|| UNIX_EPOCH + since + retention),
            destination,
        })
    }
}

/// The path that a queue lies below, if it is not in the state folder.
fn elsewhere(folder: &OwnedFd, place: &Place<'_>) -> Result<Option<PathBuf>, Error> {
    let path = read_file(folder, ELSEWHERE).map_err(Error::io("cannot read", &place.path()))?;
    Ok(path.map(|path| OsString::from_vec(path).into()))
}

fn read_file(folder: &OwnedFd, name: &str) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut bytes = Vec::new();
    match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(file) => File::from(file).read_to_end(&mut bytes)?,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(Some(bytes))
}

/// Whole and durable, or not at all.
fn write_file(folder: &OwnedFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = format!("{name}.new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = rustix::fs::openat(folder, &new, flags | OFlags::NOFOLLOW, mode)?;
    let mut file = File::from(file);
    file.write_all(bytes)?;
    file.sync_data()?;
    rustix::fs::renameat(folder, &new, folder, name)?;
    Ok(rustix::fs::fsync(folder)?)
}

fn remove_file(folder: &OwnedFd, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
