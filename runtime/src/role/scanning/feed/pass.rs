//! One pass: who takes part, the walk, and what is remembered of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use super::Shared;
use super::aside::Aside;
use super::cache::{PassRecord, Seen};
use super::counts::{Counts, Expected, Participant, Started};
use super::lane::Lane;
use super::pressure::Gauge;
use super::read::Tools;
use super::subscription::{Message, PassKind};
use super::sys;
use super::walk::{Tree, Turn, Walk};
use crate::manifest::Budget;

/// One subscriber that takes part.
pub(super) struct Taker {
    pub(super) lane: Arc<Lane>,
    pub(super) kind: PassKind,
    pub(super) budget: Budget,
    pub(super) record: PassRecord,
}

/// A pass under way, for the status.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) participants: Vec<Participant>,
    pub(super) counts: Arc<Counts>,
    pub(super) expected: Expected,
    pub(super) started: Started,
}

/// A pass that is about to run.
pub(super) struct Pass {
    number: u64,
    takers: Vec<Taker>,
    pub(super) running: Running,
}

impl Pass {
    /// Of these; at most as many as a walk takes.
    pub(super) fn new(shared: &Shared, number: u64, takers: Vec<Taker>) -> Self {
        let participants = takers.iter().map(|taker| {
            let resumed = taker.resumes();
            Participant::new(&taker.lane.name, taker.kind, resumed)
        });
        Self {
            number,
            running: Running {
                participants: participants.collect(),
                counts: Arc::default(),
                expected: expected(shared, &takers),
                started: Started::now(),
            },
            takers,
        }
    }

    /// Runs it to its end. What is remembered of each of those that took part.
    pub(super) fn run(mut self, shared: &Arc<Shared>) -> Vec<(Arc<Lane>, PassRecord)> {
        let budgets = || self.takers.iter().map(|taker| &taker.budget);
        let yields = budgets().any(|budget| budget.yield_to_pressure);
        let gauge = yields.then(|| Gauge::new(&shared.pressure));
        shared.pace.set_to_strictest(budgets(), gauge);
        let turns: Vec<Turn> = self.takers.iter_mut().map(|it| it.begin(shared)).collect();
        let failed = turns.iter().map(|turn| turn.lane.account.failed());
        let failed: Vec<u64> = failed.collect();
        let seen = Arc::new(Seen::new());
        let counts = &*self.running.counts;
        let keeping = Mutex::default();
        let tools = Tools {
            root: &shared.root,
            cache: &shared.cache,
            pace: &shared.pace,
            counts,
            keeping: &keeping,
            beat: None,
        };
        let (near, remote) = trees(shared, &turns);
        let remote = remote.into_iter().map(|(mount, trees)| {
            let counts = self.running.counts.clone();
            Remote::begin(shared, mount, trees, &turns, counts, &seen)
        });
        let remote: Vec<Remote> = remote.collect();
        let walk = Walk::new(tools, &turns, near, 0, Some(seen.clone()));
        let whole = std::thread::scope(|scope| {
            let mut workers = Vec::new();
            for _ in 0..threads() {
                let worker = std::thread::Builder::new().name("scan-files".to_owned());
                let work = || {
                    step_back();
                    walk.work();
                };
                match worker.spawn_scoped(scope, work) {
                    Ok(worker) => workers.push(worker),
                    Err(error) => {
                        tracing::warn!(%error, "cannot start a thread to scan files");
                    }
                }
            }
            // All of them, whatever becomes of one: one that is not joined would end this thread as well.
            let panicked = workers.into_iter().map(|worker| worker.join().is_err());
            panicked.filter(|panicked| *panicked).count() == 0
        });
        remote
            .into_iter()
            .for_each(|remote| remote.end(&turns, counts));
        turns.iter().for_each(|turn| turn.lane.flush());
        let stopped = shared.pace.stopped();
        let mut records = Vec::new();
        for ((turn, before), taker) in turns.iter().zip(failed).zip(&mut self.takers) {
            let failed = turn.lane.account.drained() != before;
            let complete = turn.is_complete() && !failed && !stopped && !turn.lane.is_closed();
            // All threads may have failed to start.
            let complete = complete && walk.is_over() && whole;
            taker.end(shared, complete, counts);
            if complete {
                shared.cache.sweep(turn.lane.number, seen.clone());
            }
            records.push((turn.lane.clone(), taker.record));
            turn.lane.say(Message::End {
                number: self.number,
                kind: turn.kind,
                complete,
                errors: counts.errors(),
            });
            turn.lane.rest();
        }
        shared.cache.flush();
        records
    }
}

impl Taker {
    /// Whether it goes on with a pass that was interrupted.
    fn resumes(&self) -> bool {
        self.kind == PassKind::Full && self.record.full_runs
    }

    fn begin(&mut self, shared: &Shared) -> Turn {
        let resumed = self.resumes();
        self.lane.say(Message::Begin {
            kind: self.kind,
            resumed,
        });
        if self.kind == PassKind::Changed {
            return Turn::changed(self.lane.clone());
        }
        if !resumed {
            // 0 is none.
            self.record.full = self.record.full.wrapping_add(1).max(1);
            self.record.full_runs = true;
            shared.cache.record(self.lane.number, self.record);
            shared.cache.flush();
        }
        Turn::full(self.lane.clone(), self.record.full)
    }

    fn end(&mut self, shared: &Shared, complete: bool, counts: &Counts) {
        if complete {
            self.record.files = Counts::get(&counts.seen);
            self.record.bytes = Counts::get(&counts.seen_bytes);
        }
        let interrupted = shared.pace.stopped() || self.lane.is_closed();
        if self.kind == PassKind::Full && !interrupted {
            self.record.full_runs = false;
            self.record.full_ended = now();
        }
        shared.cache.record(self.lane.number, self.record);
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

/// As many as help a disk, and no more than the node has cores to spare.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4))
}

/// Everybody else's work comes first.
fn step_back() {
    // Of this thread alone. If neither is allowed, the budget still holds.
    let nice = rustix::process::setpriority_process(None, 19);
    if let Err(error) = nice
        .map_err(std::io::Error::from)
        .and(sys::low_io_priority())
    {
        tracing::debug!(%error, "cannot lower the priority of a scan");
    }
}

/// What of a pass is behind one mount of a remote file system: its own walk, which may be stuck.
struct Remote {
    /// The turns that it is for.
    mask: u64,
    /// Those of them that it was not complete for.
    walk: std::io::Result<Aside<u64>>,
}

impl Remote {
    fn begin(
        shared: &Arc<Shared>,
        mount: u64,
        trees: Begins,
        turns: &[Turn],
        counts: Arc<Counts>,
        seen: &Arc<Seen>,
    ) -> Self {
        let mask = trees.iter().fold(0, |all, (_, mask)| all | mask);
        let turns: Vec<Turn> = turns.iter().map(Turn::again).collect();
        let (seen, owned) = (seen.clone(), shared.clone());
        let walk = shared.asides.begin(mount, move |beat| {
            step_back();
            let tools = Tools {
                root: &owned.root,
                cache: &owned.cache,
                pace: &owned.pace,
                counts: &counts,
                keeping: &Mutex::default(),
                beat: Some(beat),
            };
            Walk::new(tools, &turns, begin(trees), 0, Some(seen)).work();
            let incomplete = turns.iter().enumerate();
            let incomplete = incomplete.filter(|(_, turn)| !turn.is_complete());
            incomplete.fold(0, |mask, (index, _)| mask | 1 << index)
        });
        Self { mask, walk }
    }

    /// Waits for it, unless its server does not answer.
    fn end(self, turns: &[Turn], counts: &Counts) {
        let answer = self.walk.map(Aside::wait);
        let incomplete = match answer {
            Ok(Some(incomplete)) => incomplete,
            Ok(None) => {
                counts.error(Errno::TIMEDOUT);
                self.mask
            }
            Err(error) => {
                let errno = Errno::from_io_error(&error);
                counts.error(errno.unwrap_or(Errno::AGAIN));
                self.mask
            }
        };
        for (index, turn) in turns.iter().enumerate() {
            if incomplete & (1 << index) != 0 {
                turn.was_incomplete();
            }
        }
    }
}

/// Paths at which something begins, and for which turns.
type Begins = Vec<(String, u64)>;

fn begin(trees: Begins) -> Vec<Tree> {
    let trees = trees.into_iter();
    trees
        .map(|(path, mask)| Tree::new(path.into_bytes(), mask))
        .collect()
}

/// Where the pass begins: here, and by the mount that it is behind, what is remote.
fn trees(shared: &Shared, turns: &[Turn]) -> (Vec<Tree>, HashMap<u64, Begins>) {
    let mut near: Begins = Vec::new();
    let mut remote: HashMap<u64, Begins> = HashMap::new();
    for (index, turn) in turns.iter().enumerate() {
        for root in &turn.lane.scope.roots {
            let root = root.as_str();
            let trees = match shared.root.remote_on(root.as_bytes()) {
                Some(mount) => remote.entry(mount).or_default(),
                None => &mut near,
            };
            match trees.iter_mut().find(|(path, _)| path == root) {
                Some((_, mask)) => *mask |= 1 << index,
                None => trees.push((root.to_owned(), 1 << index)),
            }
        }
    }
    (begin(near), remote)
}

/// From the last pass; before there was one, what is used of the file system, if all of it is walked.
fn expected(shared: &Shared, takers: &[Taker]) -> Expected {
    let files = takers.iter().map(|taker| taker.record.files).max();
    let bytes = takers.iter().map(|taker| taker.record.bytes).max();
    if files.is_some_and(|files| files > 0) {
        return Expected { files, bytes };
    }
    let whole = takers.iter().any(|taker| {
        let mut roots = taker.lane.scope.roots.iter();
        roots.any(|root| *root == crate::manifest::Tree::Root)
    });
    let used = whole.then(|| shared.root.used()).flatten();
    Expected {
        files: None,
        bytes: used,
    }
}
