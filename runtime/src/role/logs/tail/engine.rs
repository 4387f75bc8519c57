//! The tail's thread: takes events, does what is due, reads, hands on, and waits for whatever comes
//! first.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::ReadFlags;
use tokio::sync::mpsc;

use super::super::batch::{Batch, FileId};
use super::super::ledger::Amount;
use super::file::{self, File, Folder};
use super::outlet::{Bell, Closed, Outlet};
use super::read::{Outcome, Reader};
use super::select::Selector;
use super::stats::Stats;
use super::suspects::Suspect;
use super::watch::{Events, Watch};
use super::{Config, Item, Known, Left, Nameless, Owed};

/// How often rotated files, pending parts and failed opens are looked after, while there are any.
pub(super) const TEND: Duration = Duration::from_millis(100);

pub(super) struct Engine {
    pub(super) config: Config,
    pub(super) selector: Selector,
    pub(super) stats: Arc<Stats>,
    pub(super) bell: Arc<Bell>,
    pub(super) outlet: Outlet,
    pub(super) reader: Reader,
    pub(super) watch: Option<Watch>,
    pub(super) folders: Vec<Option<Folder>>,
    pub(super) by_path: HashMap<PathBuf, usize>,
    pub(super) by_wd: HashMap<i32, Vec<usize>>,
    pub(super) files: HashMap<FileId, File>,
    /// Files by the path that names their log: those of one log follow each other by rotation.
    pub(super) by_base: HashMap<PathBuf, Vec<FileId>>,
    pub(super) known: HashMap<FileId, Known>,
    /// Left by the tail before this one, until the first full scan.
    pub(super) nameless: Vec<Nameless>,
    /// Full scans after which a known file may be missing before it counts as gone.
    pub(super) patience: u32,
    pub(super) lanes: Vec<VecDeque<FileId>>,
    next_lane: usize,
    /// Files that are out of their lanes for a while, because their pods are not known yet.
    pub(super) parked: Vec<FileId>,
    /// Files that need looking after: rotated, with pending parts, failed to open.
    pub(super) tended: HashSet<FileId>,
    pub(super) suspects: Vec<Suspect>,
    pub(super) ignored: HashSet<(FileId, Option<SystemTime>)>,
    /// Open files in order of opening.
    pub(super) opened: VecDeque<FileId>,
    blocked_since: Option<Instant>,
    blocked_before: Duration,
    pub(super) rescan_at: Instant,
    poll_at: Instant,
    tend_at: Instant,
}

impl Engine {
    pub(super) fn new(
        config: Config,
        known: Vec<Known>,
        out: mpsc::Sender<Item>,
        stats: Arc<Stats>,
        bell: Arc<Bell>,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let watch = if config.polling_only {
            None
        } else {
            Watch::new()
                .map_err(|error| {
                    stats.error(format!(
                        "inotify is not available, folders are polled ({error}): raise \
                         fs.inotify.max_user_instances"
                    ));
                })
                .ok()
        };
        Ok(Self {
            selector: Selector::new(&config.sources)?,
            outlet: Outlet::new(out, bell.clone()),
            reader: Reader::new(config.limits()),
            lanes: vec![VecDeque::new(); config.lanes.max(1)],
            known: known.into_iter().map(|known| (known.file, known)).collect(),
            nameless: Vec::new(),
            config,
            stats,
            bell,
            watch,
            folders: Vec::new(),
            by_path: HashMap::new(),
            by_wd: HashMap::new(),
            files: HashMap::new(),
            by_base: HashMap::new(),
            patience: 2,
            next_lane: 0,
            parked: Vec::new(),
            tended: HashSet::new(),
            suspects: Vec::new(),
            ignored: HashSet::new(),
            opened: VecDeque::new(),
            blocked_since: None,
            blocked_before: Duration::ZERO,
            rescan_at: now,
            poll_at: now,
            tend_at: now,
        })
    }

    /// Works until stopped or nobody listens.
    pub(super) fn run(mut self, nameless: Vec<Nameless>) -> Left {
        self.nameless = nameless;
        if let Err(Closed) = self.work() {
            tracing::debug!("the receiver of lines is gone");
        }
        let followed = self.files.values().map(|file| Owed {
            file: file.id,
            generation: file.generation,
            amount: file.taken_back,
        });
        let unfound = self.known.values().map(|known| Owed {
            file: known.file,
            generation: known.generation,
            amount: known.taken_back,
        });
        let owed = followed.chain(unfound);
        let owed = owed.filter(|owed| owed.amount != Amount::default());
        let owed = owed.collect();
        let files = self.files.into_values().filter(|file| !file.copy);
        let (mut named, nameless): (Vec<_>, Vec<_>) =
            files.partition(|file| !file.names.is_empty());
        // The next tail opens files of its own before it takes these.
        named.sort_by_key(|file| std::cmp::Reverse(file.unread()));
        named.truncate(self.config.max_open / 4);
        let files = nameless.into_iter().chain(named);
        let files = files.filter_map(File::into_nameless).chain(self.nameless);
        Left {
            files: files.collect(),
            items: self.outlet.into_items(),
            owed,
        }
    }

    fn work(&mut self) -> Result<(), Closed> {
        let mut events = Events::default();
        while !self.bell.stopped() {
            self.take_events(&mut events);
            self.do_due();
            let free = self.outlet.flush()?;
            self.note_blocked(!free);
            if free && let Some(batch) = self.read_some() {
                self.outlet.push(Item::Batch(batch));
                let free = self.outlet.flush()?;
                self.note_blocked(!free);
                continue;
            }
            let busy = self.lanes.iter().any(|lane| !lane.is_empty());
            if free && busy {
                continue;
            }
            let woken = self.wait(Some(self.until_due()), true);
            if woken && free && !self.config.linger.is_zero() {
                self.wait(Some(self.config.linger), false);
            }
        }
        Ok(())
    }

    /// Waits for the bell or, if `events`, the kernel's events. Whether events came.
    fn wait(&self, timeout: Option<Duration>, events: bool) -> bool {
        let timeout = timeout.and_then(|wait| Timespec::try_from(wait).ok());
        let bell = PollFd::from_borrowed_fd(self.bell.as_fd(), PollFlags::IN);
        let woken = match &self.watch {
            Some(watch) if events => {
                let watch = PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN);
                let mut fds = [bell, watch];
                // A signal ends the wait early, which does no harm.
                let _ = poll(&mut fds, timeout.as_ref());
                !fds[1].revents().is_empty()
            }
            _ => {
                let _ = poll(&mut [bell], timeout.as_ref());
                false
            }
        };
        self.bell.silence();
        woken
    }

    fn until_due(&self) -> Duration {
        let mut due = self.rescan_at;
        let tending = !self.tended.is_empty() || !self.suspects.is_empty();
        if tending || !self.parked.is_empty() || self.blocked_since.is_some() {
            due = due.min(self.tend_at);
        }
        if self.stats.folders_polled.load(Relaxed) > 0 {
            due = due.min(self.poll_at);
        }
        due.saturating_duration_since(Instant::now())
    }

    fn do_due(&mut self) {
        let now = Instant::now();
        if now >= self.rescan_at {
            self.rescan();
            self.rescan_at = Instant::now() + self.config.rescan;
        }
        if now >= self.poll_at {
            if self.stats.folders_polled.load(Relaxed) > 0 {
                self.poll_folders();
            }
            self.poll_at = Instant::now() + self.config.poll;
        }
        if now >= self.tend_at {
            for id in std::mem::take(&mut self.parked) {
                let lane = id.lane(self.lanes.len());
                self.lanes[lane].push_back(id);
            }
            self.tend();
            self.tend_at = Instant::now() + TEND;
        }
    }

    fn note_blocked(&mut self, blocked: bool) {
        if blocked == self.blocked_since.is_some() {
            return;
        }
        self.stats.blocked.store(blocked, Relaxed);
        self.blocked_before = self.blocked();
        self.blocked_since = blocked.then(Instant::now);
    }

    /// For how long the channel was full, in total.
    pub(super) fn blocked(&self) -> Duration {
        self.blocked_before
            + self
                .blocked_since
                .map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn take_events(&mut self, events: &mut Events) {
        let mut overflow = false;
        // A bound, so that a flood of events does not keep us from reading.
        for _ in 0..64 {
            let Some(watch) = &mut self.watch else { break };
            match watch.read(events) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.stats
                        .error(format!("could not read inotify events: {error}"));
                    overflow = true;
                    break;
                }
            }
            overflow |= self.apply(events);
        }
        if overflow {
            self.stats.overflows.fetch_add(1, Relaxed);
            self.rescan();
        }
    }

    /// Does what the events hint at; whether some were lost.
    fn apply(&mut self, events: &Events) -> bool {
        let gone = ReadFlags::IGNORED | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF;
        let mut overflow = false;
        let mut moved: Option<(u32, PathBuf)> = None;
        for event in &events.list {
            if event.flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                overflow = true;
                continue;
            }
            if event.flags.intersects(gone) {
                self.lose_watch(event.wd, event.flags);
                continue;
            }
            let name = events.name(event);
            let mut index = 0;
            // Several folders by one number: the same folder under several paths.
            while let Some(&at) = self.by_wd.get(&event.wd).and_then(|list| list.get(index)) {
                index += 1;
                if event
                    .flags
                    .intersects(ReadFlags::MODIFY | ReadFlags::CLOSE_WRITE)
                {
                    let entry = self.folders[at].as_ref();
                    if let Some(&id) = entry.and_then(|folder| folder.entries.get(name)) {
                        self.enqueue(id);
                        if self.blocked_since.is_some() {
                            self.measure(id);
                        }
                    }
                    continue;
                }
                let mut base = None;
                if event.flags.contains(ReadFlags::MOVED_FROM) {
                    if let Some(from) = self.base_of(at, name) {
                        moved = Some((event.cookie, from));
                    }
                } else if event.flags.contains(ReadFlags::MOVED_TO)
                    && let Some((cookie, from)) = &moved
                    && *cookie == event.cookie
                {
                    base = Some(from.clone());
                }
                let created = event.flags.contains(ReadFlags::CREATE);
                self.refresh(at, name, created, base);
            }
        }
        overflow
    }

    /// Notes an open file's size. Reading does so anyhow; while it waits, how far we are behind, and
    /// what a truncation took, would not be known.
    fn measure(&mut self, id: FileId) {
        let handle = self.files.get(&id).and_then(|file| file.handle.as_ref());
        if let Some(Ok(meta)) = handle.map(std::fs::File::metadata) {
            self.note(id, &meta);
        }
    }

    /// Puts a file into its lane's queue.
    pub(super) fn enqueue(&mut self, id: FileId) {
        let Some(file) = self.files.get_mut(&id) else {
            return;
        };
        if file.queued || file.retry.is_some() {
            return;
        }
        if file.done {
            // It grew after we had taken it as finished.
            file.done = false;
            file.finishing = false;
            file.away = Some(Instant::now());
            self.tended.insert(id);
        }
        file.queued = true;
        let lane = id.lane(self.lanes.len());
        self.lanes[lane].push_back(id);
    }

    /// Makes one batch of the next lane that has something.
    fn read_some(&mut self) -> Option<Batch> {
        for _ in 0..self.lanes.len() {
            let lane = self.next_lane;
            self.next_lane = (lane + 1) % self.lanes.len();
            if self.lanes[lane].is_empty() {
                continue;
            }
            if let Some(batch) = self.read_lane(lane) {
                return Some(batch);
            }
        }
        None
    }

    fn read_lane(&mut self, lane: usize) -> Option<Batch> {
        let mut building = self.reader.begin(lane);
        let mut waiting = Vec::new();
        while let Some(id) = self.lanes[lane].pop_front() {
            let behind = self.must_wait(id);
            if self.is_parked(id, behind) {
                self.parked.push(id);
                continue;
            }
            if behind {
                waiting.push(id);
                continue;
            }
            let opened = self.ensure_open(id);
            let Some(file) = self.files.get_mut(&id) else {
                continue;
            };
            let outcome = opened.and_then(|()| self.reader.turn(file, &mut building, &self.stats));
            file.gauge(&self.stats);
            match outcome {
                Ok(Outcome::Idle) => {
                    file.queued = false;
                    file.after.clear();
                    if file.away.is_some() || file.held().is_some() {
                        self.tended.insert(id);
                    }
                }
                Ok(Outcome::More) => self.lanes[lane].push_back(id),
                Ok(Outcome::Full) => {
                    self.lanes[lane].push_front(id);
                    break;
                }
                Err(error) => {
                    file.queued = false;
                    file.retry = Some(Instant::now() + 2 * TEND);
                    self.tended.insert(id);
                    if error.kind() != io::ErrorKind::NotFound {
                        self.stats.failed("read", &file.source.path, &error);
                    }
                }
            }
            if self.reader.is_full(&building) {
                break;
            }
        }
        for id in waiting.into_iter().rev() {
            self.lanes[lane].push_front(id);
        }
        self.reader.end(building)
    }

    /// Whether an older file of the same log must be read first.
    fn must_wait(&self, id: FileId) -> bool {
        self.files.get(&id).is_some_and(|file| {
            file.after
                .iter()
                .any(|older| self.files.get(older).is_some_and(|older| older.queued))
        })
    }

    /// Whether its pod must be known first or, if it is `behind`, that of an older file of the log.
    fn is_parked(&mut self, id: FileId, behind: bool) -> bool {
        let Some(file) = self.files.get_mut(&id) else {
            return false;
        };
        if behind {
            return file.after.iter().any(|older| self.parked.contains(older));
        }
        let pods = self.config.pods.as_ref();
        pods.is_some_and(|asked| !file.know_pod(asked.pods(), &self.stats))
    }

    /// Opens the file by one of its names, if it is not open.
    fn ensure_open(&mut self, id: FileId) -> io::Result<()> {
        let Some(file) = self.files.get(&id) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if file.handle.is_some() {
            return Ok(());
        }
        let paths: Vec<PathBuf> = file
            .names
            .iter()
            .filter_map(|name| Some(self.folders[name.folder].as_ref()?.path.join(&name.name)))
            .collect();
        self.make_room(id);
        let mut result = Err(io::ErrorKind::NotFound.into());
        for path in paths {
            match file::open(&path) {
                Ok((handle, meta)) if self.files.get(&id).is_some_and(|file| file.is(&meta)) => {
                    if let Some(file) = self.files.get_mut(&id) {
                        file.handle = Some(handle);
                        self.note_opened(id);
                    }
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) => result = Err(error),
            }
        }
        result
    }

    pub(super) fn note_opened(&mut self, id: FileId) {
        self.opened.push_back(id);
        self.stats.files_open.fetch_add(1, Relaxed);
    }

    /// Closes idle files if too many are open. `keep` stays open.
    pub(super) fn make_room(&mut self, keep: FileId) {
        // First those at rest; then any that can be opened again by a name.
        for resting in [true, false] {
            for _ in 0..self.opened.len() {
                if (self.stats.files_open.load(Relaxed) as usize) < self.config.max_open {
                    return;
                }
                let Some(id) = self.opened.pop_front() else {
                    return;
                };
                let Some(file) = self.files.get_mut(&id).filter(|f| f.handle.is_some()) else {
                    continue;
                };
                let again = file.matched() && file.away.is_none() && id != keep;
                let busy = file.queued || file.held().is_some();
                if again && !(resting && busy) {
                    file.handle = None;
                    self.stats.files_open.fetch_sub(1, Relaxed);
                } else {
                    self.opened.push_back(id);
                }
            }
        }
    }

    pub(super) fn close(&mut self, id: FileId) {
        if let Some(file) = self.files.get_mut(&id)
            && file.handle.take().is_some()
        {
            self.stats.files_open.fetch_sub(1, Relaxed);
            self.opened.retain(|&opened| opened != id);
        }
    }
}
