//! Files that are written, moved or removed are passed at once. One thread takes what happens out of the
//! kernel's queues, so that they hardly ever overflow; another one looks at the files, but for long ones,
//! which have a third. Whatever is missed on the way is scanned again.

mod fanotify;
mod inotify;
mod later;
mod look;
mod pending;

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::batch::EVENT;
use super::facts::Facts;
use super::filesystem::Nature;
use super::lane::Lane;
use super::read::{Reader, Tools};
use super::walk::{Tree, Turn, Walk};
use super::{Shared, lock};
use fanotify::Fanotify;
use inotify::Inotify;
use later::Later;
pub(super) use later::attend as attend_long;
use pending::{Missed, Pending, Place, Tally};

/// How often it is looked whether other folders are to be watched.
const TICK: Duration = Duration::from_millis(200);
const SHORTLY: Duration = Duration::from_millis(5);
/// How often it is looked whether something was mounted, or a tree made.
const LOOK: Duration = Duration::from_secs(10);
/// How often trees that are not watched as a whole are scanned.
const POLL: Duration = Duration::from_secs(300);
/// So many files are looked at before they are passed on, if there are more at once.
const TOGETHER: usize = 64;

/// Why nothing is heard of a folder there.
const REMOTE: &str =
    "a remote file system tells nobody what happens: it is scanned by passes alone";

/// What both threads share.
#[derive(Debug, Default)]
pub(super) struct Watch {
    pending: Mutex<Pending>,
    /// Of the above.
    more: Condvar,
    later: Later,
    fanotify: Mutex<Option<Fanotify>>,
    watched: Mutex<Watched>,
    /// What was missed is being scanned.
    rescanning: AtomicBool,
    rescans: std::sync::atomic::AtomicU64,
}

/// How changes are seen at once, for the status.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Watched {
    /// File systems of which all changes are seen.
    pub file_systems: usize,
    /// Folders of which changes are seen one by one, since their file system cannot do better.
    pub folders: usize,
    /// Trees on such file systems, each with the reason.
    pub fallbacks: BTreeSet<String>,
    /// There are more folders than can be watched: the rest is scanned every five minutes.
    pub polled: bool,
    /// What the kernel told.
    pub events: u64,
    /// What it told of more files than could be looked at: their folders were scanned instead.
    pub shed: u64,
    /// How often it told more than could be taken: everything was scanned then.
    pub overflows: u64,
    /// How often folders, or everything, were scanned for such a reason.
    pub rescans: u64,
}

impl Watch {
    pub(super) fn watched(&self) -> Watched {
        let Tally {
            events,
            shed,
            overflows,
        } = lock(&self.pending).tally;
        Watched {
            events,
            shed,
            overflows,
            rescans: self.rescans.load(Ordering::Relaxed),
            ..lock(&self.watched).clone()
        }
    }

    /// While this is held, nothing is taken out of the kernel's queues.
    #[cfg(test)]
    pub(super) fn hold(&self) -> std::sync::MutexGuard<'_, impl Sized> {
        lock(&self.fanotify)
    }

    /// Lets both threads see that something has changed.
    pub(super) fn wake(&self) {
        self.more.notify_all();
    }
}

/// Takes what happens out of the kernel's queues until the feed ends.
pub(super) fn listen(shared: &Arc<Shared>) {
    let watch = &shared.watch;
    let mut inotify: Option<Inotify> = None;
    let mut generation = 0;
    let mut places = Vec::new();
    let mut looked = Instant::now();
    let mut polled = Instant::now();
    loop {
        let now = {
            let members = lock(&shared.members);
            if members.is_stopping() {
                return;
            }
            members.generation
        };
        if now != generation || looked.elapsed() >= LOOK {
            generation = now;
            looked = Instant::now();
            let wanted = places_of(shared);
            if wanted != places {
                inotify = arrange(shared, &wanted);
                places = wanted;
            }
        }
        let mut more = false;
        if let Some(fanotify) = &mut *lock(&watch.fanotify) {
            more = fanotify.drain(&mut lock(&watch.pending));
        }
        if let Some(inotify) = &mut inotify {
            inotify.drain(&shared.root, &mut lock(&watch.pending));
            let mut watched = lock(&watch.watched);
            watched.folders = inotify.len();
            watched.polled = inotify.is_incomplete();
            if watched.polled && polled.elapsed() >= POLL {
                polled = Instant::now();
                lock(&shared.members).rescan();
                shared.changed.notify_all();
            }
        }
        watch.more.notify_all();
        if !more {
            wait(watch, inotify.as_ref());
        }
    }
}

/// Until something happens, or for a tick.
fn wait(watch: &Watch, inotify: Option<&Inotify>) {
    // A descriptor of its own, so that whoever resolves a handle need not wait for events.
    let fanotify = lock(&watch.fanotify)
        .as_ref()
        .and_then(|it| it.queue().try_clone_to_owned().ok());
    let mut queues = Vec::new();
    queues.extend(fanotify.as_ref().map(|it| PollFd::new(it, PollFlags::IN)));
    let inotify = inotify.map(Inotify::queue);
    queues.extend(inotify.as_ref().map(|it| PollFd::new(it, PollFlags::IN)));
    let tick = Timespec::try_from(TICK).ok();
    // Interrupted, or in vain: then it is looked again.
    let _ = poll(&mut queues, tick.as_ref());
}

/// Where somebody wants to know what happens: paths, each with the mount that it is on.
fn places_of(shared: &Shared) -> Vec<(Vec<u8>, u64)> {
    let mut paths: Vec<Vec<u8>> = Vec::new();
    let mut trees: Vec<(String, bool)> = Vec::new();
    {
        let members = lock(&shared.members);
        members.set_event_pace(&shared.event_pace);
        for lane in members.real_time() {
            let crosses = !lane.scope.one_file_system;
            let roots = lane.scope.roots.iter();
            trees.extend(roots.map(|root| (root.as_str().to_owned(), crosses)));
        }
    }
    for (tree, crosses) in trees {
        if crosses {
            paths.extend(shared.root.mounts_below(tree.as_bytes()));
        }
        paths.push(tree.into_bytes());
    }
    paths.sort();
    paths.dedup();
    let places = paths.into_iter().filter_map(|mut path| {
        loop {
            let root = &shared.root;
            // Of who may not answer it is not asked whether it is there.
            if root.remote_on(&path).is_some() || root.place(&path).is_ok() {
                let mount = root.mount_at(&path);
                return Some((path, mount));
            }
            // It is not there. When it is made, something happens in the folder that it is in.
            let parent = memchr::memrchr(b'/', &path)?;
            if path.len() == 1 {
                return None;
            }
            path.truncate(parent.max(1));
        }
    });
    let mut places: Vec<_> = places.collect();
    places.dedup();
    places
}

/// Watches what is to be watched now, and nothing else. The queue for what is watched folder by folder.
fn arrange(shared: &Shared, places: &[(Vec<u8>, u64)]) -> Option<Inotify> {
    let paths: Vec<&Vec<u8>> = places.iter().map(|(path, _)| path).collect();
    let mut watched = Watched::default();
    let mut inotify = None;
    {
        let mut fanotify = lock(&shared.watch.fanotify);
        if fanotify.is_none() && !paths.is_empty() {
            match Fanotify::new() {
                Ok(new) => *fanotify = Some(new),
                Err(error) => {
                    tracing::warn!(%error, "cannot watch whole file systems");
                }
            }
        }
        if let Some(fanotify) = &mut *fanotify {
            fanotify.retain(&paths);
        }
        for path in paths {
            if shared.root.remote_on(path).is_some() {
                let text = String::from_utf8_lossy(path);
                watched.fallbacks.insert(format!("{text}: {REMOTE}"));
                continue;
            }
            if let Err(error) = mark(shared, fanotify.as_mut(), path) {
                let text = String::from_utf8_lossy(path);
                tracing::info!(
                    folder = %text, %error,
                    "its file system does not tell what happens: its folders are watched one by one",
                );
                watched.fallbacks.insert(format!("{text}: {error}"));
                if inotify.is_none() {
                    inotify = Inotify::new().ok();
                }
                match &mut inotify {
                    Some(inotify) => inotify.add(&shared.root, path),
                    None => watched.polled = true,
                }
            }
        }
        watched.file_systems = fanotify.as_ref().map_or(0, Fanotify::len);
    }
    watched.folders = inotify.as_ref().map_or(0, Inotify::len);
    *lock(&shared.watch.watched) = watched;
    inotify
}

fn mark(shared: &Shared, fanotify: Option<&mut Fanotify>, path: &[u8]) -> io::Result<()> {
    let folder = shared.root.folder(path)?;
    let mount = Facts::of_open(&folder)?.mount;
    if shared.root.nature(mount) == Nature::Kernel {
        // Nothing of it is scanned either.
        return Ok(());
    }
    match fanotify {
        Some(fanotify) => fanotify.add(folder, path),
        None => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

/// Looks at files to which something happened until the feed ends.
pub(super) fn attend(shared: &Arc<Shared>) {
    let watch = &shared.watch;
    let keeping = Mutex::default();
    let mut reader = Reader::new(tools(shared, &keeping));
    let mut waiting: Vec<Arc<Lane>> = Vec::new();
    let mut looked = 0;
    loop {
        if lock(&shared.members).is_stopping() {
            return;
        }
        let next = {
            let mut pending = lock(&watch.pending);
            let now = Instant::now();
            let next = pending.take(now);
            if next.is_none() && waiting.is_empty() {
                // What was missed may be due, and have to wait.
                let idle = pending.idle(now).unwrap_or(TICK).clamp(SHORTLY, TICK);
                let woken = watch.more.wait_timeout(pending, idle);
                drop(woken.unwrap_or_else(PoisonError::into_inner).0);
                None
            } else {
                next
            }
        };
        match next {
            Some((spot, what)) => {
                for lane in look::look(shared, watch, &mut reader, &spot, what, false) {
                    if !waiting.iter().any(|known| Arc::ptr_eq(known, &lane)) {
                        waiting.push(lane);
                    }
                }
                looked += 1;
            }
            None => looked = TOGETHER,
        }
        if looked >= TOGETHER {
            waiting.drain(..).for_each(|lane| lane.flush());
            reader.rest();
            looked = 0;
            rescan(shared);
        }
    }
}

fn tools<'a>(shared: &'a Shared, keeping: &'a Mutex<()>) -> Tools<'a> {
    Tools {
        root: &shared.root,
        cache: &shared.cache,
        pace: &shared.event_pace,
        counts: &shared.events,
        keeping,
        beat: None,
    }
}

/// Scans what was missed, if it is time to: everything in a pass, folders by a thread of their own.
fn rescan(shared: &Arc<Shared>) {
    let watch = &shared.watch;
    if watch.rescanning.load(Ordering::Acquire) {
        return;
    }
    let missed = lock(&watch.pending).take_missed(Instant::now());
    match missed {
        None => {}
        Some(Missed::Everything) => {
            watch.rescans.fetch_add(1, Ordering::Relaxed);
            lock(&shared.members).rescan();
            shared.changed.notify_all();
        }
        Some(Missed::Folders(folders)) => {
            watch.rescans.fetch_add(1, Ordering::Relaxed);
            watch.rescanning.store(true, Ordering::Release);
            let rescan = Rescan(shared.clone());
            let thread = std::thread::Builder::new().name("scan-missed".to_owned());
            let spawned = thread.spawn(move || {
                walk(&rescan.0, folders);
                drop(rescan);
            });
            if let Err(error) = spawned {
                tracing::warn!(%error, "cannot start a thread to scan what was missed");
                lock(&watch.pending).overflow();
            }
        }
    }
}

/// What was missed is being scanned until it is dropped, however that ends.
struct Rescan(Arc<Shared>);

impl Drop for Rescan {
    fn drop(&mut self) {
        let watch = &self.0.watch;
        if std::thread::panicking() {
            lock(&watch.pending).overflow();
        }
        watch.rescanning.store(false, Ordering::Release);
        watch.wake();
    }
}

fn walk(shared: &Shared, folders: Vec<Place>) {
    let lanes = lock(&shared.members).real_time();
    let mut trees = Vec::new();
    for folder in folders {
        let path = look::path_of(shared, &shared.watch, &folder);
        let path = path.filter(|path| shared.root.remote_on(path).is_none());
        if let Some(path) = path {
            let mount = shared.root.mount_at(&path);
            let interested = look::interested(shared, &path, mount);
            let is_interested = |lane| interested.iter().any(|it| Arc::ptr_eq(it, lane));
            let lanes = lanes.iter().enumerate();
            let mask = lanes.filter(|(_, lane)| is_interested(lane));
            let mask = mask.fold(0, |mask, (index, _)| mask | 1 << index);
            trees.push(Tree::new(path, mask));
        }
    }
    let turns: Vec<Turn> = lanes.into_iter().map(Turn::changed).collect();
    let keeping = Mutex::default();
    Walk::new(tools(shared, &keeping), &turns, trees, EVENT, None).work();
    turns.iter().for_each(|turn| turn.lane.flush());
}

/// Appends a name to a path.
fn push(path: &mut Vec<u8>, name: &[u8]) {
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}
