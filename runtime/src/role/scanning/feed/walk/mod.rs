//! A walk over trees of the node's files, for all subscribers whose turn it is: several threads, each
//! folder listed once, each file read once.

mod folder;
mod queue;
mod visit;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::cache::Seen;
use super::counts::Counts;
use super::facts::{Facts, FileKey};
use super::filesystem::Nature;
use super::lane::Lane;
use super::lock;
use super::read::{Reader, Tools};
use super::root::enter;
use super::scope::Trail;
use super::subscription::PassKind;
use folder::{At, Folder, Recent};
use queue::{Job, Queue};
use visit::Visitor;

/// As many turns as a mask has bits.
pub(super) const TURNS: usize = 64;

/// One subscriber in a walk.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) lane: Arc<Lane>,
    pub(super) kind: PassKind,
    /// The number of the full pass: what was judged in it is not passed again.
    pub(super) full: Option<u32>,
    /// Something could not be looked at, or was not passed.
    incomplete: AtomicBool,
}

impl Turn {
    pub(super) fn changed(lane: Arc<Lane>) -> Self {
        Self {
            lane,
            kind: PassKind::Changed,
            full: None,
            incomplete: AtomicBool::new(false),
        }
    }

    pub(super) fn full(lane: Arc<Lane>, number: u32) -> Self {
        Self {
            kind: PassKind::Full,
            full: Some(number),
            ..Self::changed(lane)
        }
    }

    /// The same for another walk of the same pass.
    pub(super) fn again(&self) -> Self {
        Self {
            lane: self.lane.clone(),
            kind: self.kind,
            full: self.full,
            incomplete: AtomicBool::new(false),
        }
    }

    /// Something could not be looked at in another walk.
    pub(super) fn was_incomplete(&self) {
        self.incomplete.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_complete(&self) -> bool {
        !self.incomplete.load(Ordering::Relaxed)
    }
}

/// Where a walk begins: a folder, and for which turns.
#[derive(Debug)]
pub(super) struct Tree {
    path: Vec<u8>,
    mask: u64,
    /// The walk has come here.
    reached: AtomicBool,
}

impl Tree {
    pub(super) fn new(path: Vec<u8>, mask: u64) -> Self {
        Self {
            path,
            mask,
            reached: AtomicBool::new(false),
        }
    }
}

/// A walk.
pub(super) struct Walk<'a> {
    tools: Tools<'a>,
    turns: &'a [Turn],
    trees: Vec<Tree>,
    /// Flags of what is passed.
    flags: u32,
    seen: Option<Arc<Seen>>,
    queue: Queue,
    recent: Recent,
    /// Folders that the walk has come to, and for which turns, if it may come to one twice: through another
    /// mount.
    visited: Option<Mutex<HashMap<FileKey, u64>>>,
}

impl<'a> Walk<'a> {
    /// Over these trees, of which one may be in another: then it is walked once.
    pub(super) fn new(
        tools: Tools<'a>,
        turns: &'a [Turn],
        mut trees: Vec<Tree>,
        flags: u32,
        seen: Option<Arc<Seen>>,
    ) -> Self {
        trees.sort_by_key(|tree| tree.path.len());
        let crosses = turns.iter().any(|turn| !turn.lane.scope.one_file_system);
        Self {
            tools,
            turns,
            visited: (crosses || trees.len() > 1).then(Mutex::default),
            trees,
            flags,
            seen,
            queue: Queue::default(),
            recent: Recent::default(),
        }
    }

    /// One thread's share of it, until it is over. Each thread of a walk calls it.
    pub(super) fn work(&self) {
        let mut visitor = Visitor::new(self, Reader::new(self.tools));
        while let Some((job, busy)) = self.queue.next() {
            if visitor.wait() && !self.is_alone() {
                self.job(&mut visitor, job);
            } else {
                self.stop();
            }
            drop(busy);
        }
    }

    /// Whether it came to its end.
    pub(super) fn is_over(&self) -> bool {
        self.queue.is_over()
    }

    /// Whether nobody is there any more for whom to walk.
    fn is_alone(&self) -> bool {
        self.turns.iter().all(|turn| turn.lane.is_closed())
    }

    /// Everybody is to stop.
    fn stop(&self) {
        let all = self.turns.iter();
        all.for_each(|turn| turn.incomplete.store(true, Ordering::Relaxed));
        self.queue.end();
    }

    fn job(&self, visitor: &mut Visitor<'_, 'a>, job: Job) {
        match job {
            Job::Enter(parent, name) => {
                if let Some(folder) = visitor.enter(&parent, name) {
                    visitor.visit(&folder);
                }
            }
            Job::Read(folder, files) => visitor.read(&folder, files),
            Job::Again(folder, entry) => visitor.read_again(&folder, entry),
            Job::Next => match self.next_tree() {
                Some(Ok(folder)) => visitor.visit(&folder),
                Some(Err((tree, error))) => {
                    // A tree that is not there has no files.
                    if error != Errno::NOENT {
                        self.tools.counts.error(error);
                        self.incomplete(tree.mask);
                    }
                }
                None => self.queue.end(),
            },
        }
    }

    fn incomplete(&self, mask: u64) {
        for (_, turn) in bits(mask, self.turns) {
            turn.incomplete.store(true, Ordering::Relaxed);
        }
    }

    /// The next tree that the walk has not come to.
    fn next_tree(&self) -> Option<Result<Arc<Folder>, (&Tree, Errno)>> {
        let mut trees = self.trees.iter();
        let tree = trees.find(|tree| !tree.reached.swap(true, Ordering::Relaxed))?;
        Some(self.begin(tree).map_err(|error| (tree, error)))
    }

    fn begin(&self, tree: &Tree) -> Result<Arc<Folder>, Errno> {
        let root = self.tools.root;
        let place = root.place(&tree.path)?;
        let mount = Facts::known_of_open(&place)?.mount;
        if root.nature(mount) == Nature::Kernel {
            return Err(Errno::NOTSUP);
        }
        let opened = enter(place, c".")?;
        let facts = Facts::of_open(&opened)?;
        let (mask, trails) = self.trails_at(&tree.path, tree.mask);
        if mask == 0 || root.is_private(facts.key) || root.is_private_path(&tree.path) {
            return Err(Errno::NOENT);
        }
        let mask = self.first_time(facts.key, mask);
        if mask == 0 {
            return Err(Errno::NOENT);
        }
        let at = At::Path(tree.path.clone());
        let folder = Arc::new(Folder::new(at, facts, mask, trails, opened));
        self.recent.opened(&folder);
        Ok(folder)
    }

    /// Which of the turns do not leave out `path`, and how far their globs are there.
    fn trails_at(&self, path: &[u8], mask: u64) -> (u64, Box<[Trail]>) {
        let mut left = 0;
        let mut trails = vec![Trail::default(); self.turns.len()];
        for (index, turn) in bits(mask, self.turns) {
            if let Some(trail) = turn.lane.scope.at(path) {
                left |= 1 << index;
                trails[index] = trail;
            }
        }
        (left, trails.into())
    }

    /// Those of the turns in `mask` for which the walk has not come to this folder before.
    fn first_time(&self, folder: FileKey, mask: u64) -> u64 {
        let Some(visited) = &self.visited else {
            return mask;
        };
        let mut visited = lock(visited);
        let before = visited.entry(folder).or_default();
        let first = mask & !*before;
        *before |= mask;
        first
    }

    /// The turns whose trees begin at `path`.
    fn trees_at(&self, length: usize, path: impl FnOnce() -> Vec<u8>) -> u64 {
        let mut candidates = self.trees.iter().filter(|tree| tree.path.len() == length);
        let Some(first) = candidates.next() else {
            return 0;
        };
        let path = path();
        let mut mask = 0;
        for tree in std::iter::once(first).chain(candidates) {
            if tree.path == path {
                mask |= tree.mask;
            }
        }
        mask
    }

    /// The walk has come to where trees begin.
    fn reached(&self, path: &[u8]) {
        for tree in self.trees.iter().filter(|tree| tree.path == path) {
            tree.reached.store(true, Ordering::Relaxed);
        }
    }

    fn counts(&self) -> &'a Counts {
        self.tools.counts
    }
}

/// The turns of a mask, with their numbers.
fn bits(mask: u64, turns: &[Turn]) -> impl Iterator<Item = (usize, &Turn)> {
    let turns = turns.iter().enumerate();
    turns.filter(move |(index, _)| mask & (1 << index) != 0)
}
