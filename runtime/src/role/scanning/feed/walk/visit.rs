//! Coming to a folder: who is shown it, what is in it, and what of that has been judged.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;

use super::super::cache::{self, Known};
use super::super::counts::Counts;
use super::super::facts::{Facts, Kind};
use super::super::filesystem::Nature;
use super::super::read::{For, Found, Outcome, Reader};
use super::super::root::enter;
use super::super::scope::Trail;
use super::folder::{At, Folder, LONGEST_PATH, push};
use super::queue::Entry;
use super::{Turn, Walk, bits};

/// So many files, or files with so many bytes, are read by one thread in one go.
const FILES: usize = 64;
const BYTES: u64 = 8 << 20;
/// Names of folders in one folder that are kept, in bytes: those found before are walked first.
const NAMES: usize = 256 << 10;
/// But not in folders of folders that have so many, and so on: a thread's stack is not so deep.
const NESTED: usize = 16;
/// What the kernel lists at once.
const LIST: usize = 32 << 10;

/// One thread of a walk.
pub(super) struct Visitor<'w, 'a> {
    walk: &'w Walk<'a>,
    reader: Reader<'a>,
    list: Vec<u8>,
    /// Folders with too many names that it is in.
    nested: usize,
}

/// What of a folder a turn knows.
struct Share<'w> {
    index: usize,
    turn: &'w Turn,
    /// Of the folder, as the cache has it.
    path: u64,
    known: Known,
    /// Whether what was judged counts in this pass.
    counts: bool,
    /// Files that are as they were.
    same: Vec<u32>,
    /// Whether any is not.
    new: bool,
}

/// What listing a folder finds.
#[derive(Default)]
struct Listed {
    folders: Vec<u8>,
    files: Vec<Entry>,
    bytes: u64,
}

impl<'w, 'a> Visitor<'w, 'a> {
    pub(super) fn new(walk: &'w Walk<'a>, reader: Reader<'a>) -> Self {
        Self {
            walk,
            reader,
            list: Vec::new(),
            nested: 0,
        }
    }

    /// Waits for the budget. Whether to go on.
    pub(super) fn wait(&mut self) -> bool {
        self.reader.wait()
    }

    /// The folder `name` in `parent`, if anybody is to be shown it.
    pub(super) fn enter(&self, parent: &Arc<Folder>, name: CString) -> Option<Arc<Folder>> {
        match self.attempt(parent, name) {
            Ok(folder) => folder,
            // It was removed, or is another one by now: whoever did that finds the new one scanned.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
            Err(error) => {
                self.walk.counts().error(error);
                self.walk.incomplete(parent.mask);
                None
            }
        }
    }

    fn attempt(&self, parent: &Arc<Folder>, name: CString) -> Result<Option<Arc<Folder>>, Errno> {
        let walk = self.walk;
        let length = parent.length_below(&name);
        if length > LONGEST_PATH {
            return Err(Errno::NAMETOOLONG);
        }
        let descriptor = parent.descriptor(walk.tools.root)?;
        // Not opened before it is known what it is: opening may mount something.
        let facts = Facts::of(&descriptor, &name)?;
        if facts.kind != Kind::Directory {
            return Ok(None);
        }
        let crosses =
            facts.mount != parent.facts.mount || facts.key.device != parent.facts.key.device;
        let path = || {
            let mut path = parent.path();
            push(&mut path, name.to_bytes());
            path
        };
        let begins = walk.trees_at(length, path);
        let mut within = bits(parent.mask, walk.turns);
        let stays = within.all(|(_, turn)| turn.lane.scope.one_file_system);
        if crosses && stays && begins == 0 {
            return Ok(None);
        }
        // Before its file system is asked anything: its server may be gone.
        let nature = match crosses {
            true => walk.tools.root.nature(facts.mount),
            false => Nature::Plain,
        };
        if nature == Nature::Kernel || (crosses && walk.tools.root.is_private_path(&path())) {
            return Ok(None);
        }
        let mut mask = 0;
        let mut trails = vec![Trail::default(); walk.turns.len()];
        for (index, turn) in bits(parent.mask, walk.turns) {
            let scope = &turn.lane.scope;
            if crosses && (scope.one_file_system || nature == Nature::Remote) {
                continue;
            }
            let stepped = parent
                .trail(index)
                .map(|trail| scope.step(trail, name.to_bytes()));
            if let Some(trail) = stepped.unwrap_or_else(|| Some(Trail::default())) {
                mask |= 1 << index;
                trails[index] = trail;
            }
        }
        if begins != 0 {
            walk.reached(&path());
        }
        let begin = begins & !mask;
        if begin != 0 {
            let (begin, theirs) = walk.trails_at(&path(), begin);
            mask |= begin;
            for (index, trail) in theirs.into_iter().enumerate() {
                if begin & (1 << index) != 0 {
                    trails[index] = trail;
                }
            }
        }
        if mask == 0 || walk.tools.root.is_private(facts.key) {
            return Ok(None);
        }
        let opened = enter(&descriptor, &name)?;
        let facts = Facts::of_open(&opened)?;
        let mask = walk.first_time(facts.key, mask);
        if mask == 0 {
            return Ok(None);
        }
        let trails = match trails.iter().all(Trail::is_empty) {
            true => Box::default(),
            false => trails.into(),
        };
        let at = At::In(parent.clone(), name);
        let folder = Arc::new(Folder::new(at, facts, mask, trails, opened));
        walk.recent.opened(&folder);
        Ok(Some(folder))
    }

    /// Lists a folder. Reads its files, or leaves them and its folders to whoever is free.
    pub(super) fn visit(&mut self, folder: &Arc<Folder>) {
        let walk = self.walk;
        let path = walk.tools.cache.path(&folder.path());
        let mut shares: Vec<Share<'w>> = bits(folder.mask, walk.turns)
            .map(|(index, turn)| Share::of(walk, folder, path, index, turn))
            .collect();
        let mut listed = Listed::default();
        let opened = folder.descriptor(walk.tools.root);
        let ended = opened.and_then(|opened| {
            self.itself(folder, &opened, &mut shares);
            self.list(folder, opened.as_fd(), &mut shares, &mut listed)
        });
        walk.queue
            .folders(folder, std::mem::take(&mut listed.folders));
        self.hand_over(folder, &mut listed);
        match ended {
            Ok(()) => shares.into_iter().for_each(|share| share.end(walk, folder)),
            Err(error) => {
                walk.counts().error(error);
                walk.incomplete(folder.mask);
            }
        }
    }

    /// The folder as a file of its own.
    fn itself(&mut self, folder: &Arc<Folder>, opened: &OwnedFd, shares: &mut [Share<'_>]) {
        let mask = self.wanted(u64::MAX, &folder.facts, shares);
        if mask != 0 {
            let entry = Entry {
                name: c".".to_owned(),
                facts: folder.facts,
                mask,
            };
            let path = folder.path();
            self.pass(folder, opened.as_fd(), &path, &entry);
        }
    }

    fn list(
        &mut self,
        folder: &Arc<Folder>,
        opened: BorrowedFd<'_>,
        shares: &mut [Share<'_>],
        listed: &mut Listed,
    ) -> Result<(), Errno> {
        let walk = self.walk;
        let wants_others = shares.iter().any(|share| share.turn.lane.interest.others);
        let mut list = std::mem::take(&mut self.list);
        list.clear();
        list.reserve(LIST);
        let mut names = RawDir::new(opened, list.spare_capacity_mut());
        let mut ended = Ok(());
        while let Some(entry) = names.next() {
            walk.tools.gets_on();
            let entry = match entry {
                Ok(entry) => entry,
                // It was removed meanwhile.
                Err(Errno::NOENT) => break,
                Err(error) => {
                    ended = Err(error);
                    break;
                }
            };
            let name = entry.file_name();
            match entry.file_type() {
                _ if matches!(name.to_bytes(), b"." | b"..") => continue,
                FileType::Directory => {
                    listed.folders.extend_from_slice(name.to_bytes_with_nul());
                    if listed.folders.len() >= NAMES {
                        self.walk_first(folder, &mut listed.folders);
                    }
                    continue;
                }
                FileType::RegularFile | FileType::Unknown => {}
                _ if wants_others => {}
                _ => continue,
            }
            let facts = match Facts::of(opened, name) {
                Ok(facts) => facts,
                Err(Errno::NOENT) => continue,
                Err(error) => {
                    walk.counts().error(error);
                    walk.incomplete(folder.mask);
                    continue;
                }
            };
            if facts.kind == Kind::Directory {
                listed.folders.extend_from_slice(name.to_bytes_with_nul());
                continue;
            }
            let mask = self.shown(folder, name, &facts, shares);
            if mask == 0 {
                continue;
            }
            Counts::add(&walk.counts().seen, 1);
            if facts.kind == Kind::File {
                Counts::add(&walk.counts().seen_bytes, facts.size);
            }
            let mask = self.wanted(mask, &facts, shares);
            if mask != 0 {
                listed.bytes += facts.size;
                listed.files.push(Entry {
                    name: name.to_owned(),
                    facts,
                    mask,
                });
            }
            if listed.files.len() >= FILES || listed.bytes >= BYTES {
                self.hand_over(folder, listed);
            }
        }
        self.list = list;
        ended
    }

    /// Walks these folders before more of the one that they are in is listed.
    fn walk_first(&mut self, folder: &Arc<Folder>, names: &mut Vec<u8>) {
        if self.nested >= NESTED {
            return;
        }
        self.nested += 1;
        let names = std::mem::take(names);
        for name in names.split_inclusive(|byte| *byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else {
                continue;
            };
            if !self.wait() {
                self.walk.stop();
                break;
            }
            if let Some(below) = self.enter(folder, name.to_owned()) {
                self.visit(&below);
            }
        }
        self.nested -= 1;
    }

    /// The turns that are to be shown `name`.
    fn shown(&self, folder: &Folder, name: &CStr, facts: &Facts, shares: &[Share<'_>]) -> u64 {
        let mut mask = 0;
        // A file may be mounted on another one, as of the kernel's own file systems.
        let crosses = facts.mount != folder.facts.mount;
        let root = self.walk.tools.root;
        let hidden = || {
            let mut path = folder.path();
            push(&mut path, name.to_bytes());
            root.nature(facts.mount) != Nature::Plain || root.is_private_path(&path)
        };
        if crosses && hidden() {
            return 0;
        }
        for share in shares {
            let lane = &share.turn.lane;
            if (facts.kind != Kind::File && !lane.interest.others)
                || (crosses && lane.scope.one_file_system)
            {
                continue;
            }
            let trail = folder.trail(share.index);
            let left_out = trail.is_some_and(|trail| {
                let stepped = lane.scope.step(trail, name.to_bytes());
                stepped.is_none()
            });
            if !left_out {
                mask |= 1 << share.index;
            }
        }
        mask
    }

    /// Those of the turns in `shown` for which a file is not as it was judged.
    fn wanted(&self, shown: u64, facts: &Facts, shares: &mut [Share<'_>]) -> u64 {
        let mut mask = 0;
        let id = cache::id(facts.key);
        for share in shares {
            let lane = &share.turn.lane;
            let is_wanted = facts.kind == Kind::File || lane.interest.others;
            if shown & (1 << share.index) == 0 || !is_wanted {
                continue;
            }
            let stamp = self.walk.tools.cache.stamp(facts, lane.rules);
            if share.counts && share.known.has(id, stamp) {
                share.same.push(id);
            } else {
                share.new = true;
                mask |= 1 << share.index;
            }
        }
        mask
    }

    /// Leaves files to whoever is free, or reads them.
    fn hand_over(&mut self, folder: &Arc<Folder>, listed: &mut Listed) {
        listed.bytes = 0;
        let files = std::mem::take(&mut listed.files);
        if !files.is_empty()
            && let Some(files) = self.walk.queue.files(folder, files)
        {
            self.read(folder, files);
        }
    }

    /// Reads files of a folder.
    pub(super) fn read(&mut self, folder: &Arc<Folder>, files: Vec<Entry>) {
        let Some(opened) = self.opened(folder) else {
            return;
        };
        let folder_path = folder.path();
        let mut path = Vec::new();
        for entry in files {
            path.clone_from(&folder_path);
            push(&mut path, entry.name.to_bytes());
            match self.pass(folder, opened.as_fd(), &path, &entry) {
                Outcome::Passed | Outcome::Vanished => {}
                Outcome::Changed | Outcome::Busy => {
                    let mask = entry.mask;
                    if !self.walk.queue.again(folder, entry) {
                        self.walk.incomplete(mask);
                    }
                }
                Outcome::Stopped => return self.walk.stop(),
            }
        }
    }

    /// Reads a file again that changed. If it does again, that is how it is.
    pub(super) fn read_again(&mut self, folder: &Arc<Folder>, mut entry: Entry) {
        let Some(opened) = self.opened(folder) else {
            return;
        };
        let Ok(facts) = Facts::of(&opened, &entry.name) else {
            return Counts::add(&self.walk.counts().vanished, 1);
        };
        if facts.kind == Kind::Directory {
            return;
        }
        entry.facts = facts;
        let mut path = folder.path();
        push(&mut path, entry.name.to_bytes());
        match self.pass(folder, opened.as_fd(), &path, &entry) {
            Outcome::Stopped => self.walk.stop(),
            // The next pass has it.
            Outcome::Busy => {
                self.walk.counts().error(Errno::AGAIN);
                self.walk.incomplete(entry.mask);
            }
            Outcome::Passed | Outcome::Changed | Outcome::Vanished => {}
        }
    }

    fn opened(&self, folder: &Folder) -> Option<Arc<OwnedFd>> {
        match folder.descriptor(self.walk.tools.root) {
            Ok(opened) => Some(opened),
            Err(Errno::NOENT | Errno::STALE | Errno::NOTDIR) => None,
            Err(error) => {
                self.walk.counts().error(error);
                self.walk.incomplete(folder.mask);
                None
            }
        }
    }

    fn pass(
        &mut self,
        folder: &Folder,
        opened: BorrowedFd<'_>,
        path: &[u8],
        entry: &Entry,
    ) -> Outcome {
        let found = Found {
            folder: opened,
            folder_key: folder.key(),
            name: &entry.name,
            path,
            facts: entry.facts,
            flags: self.walk.flags,
        };
        let to: Vec<For<'_>> = bits(entry.mask, self.walk.turns)
            .map(|(_, turn)| For {
                lane: &turn.lane,
                full: turn.full,
            })
            .collect();
        self.reader.file(&found, &to)
    }
}

impl<'w> Share<'w> {
    fn of(walk: &Walk<'_>, folder: &Folder, path: u64, index: usize, turn: &'w Turn) -> Self {
        let known = walk.tools.cache.known(turn.lane.number, folder.key(), path);
        Self {
            index,
            turn,
            path,
            counts: turn.full.is_none_or(|full| known.full == full),
            known,
            same: Vec::new(),
            new: false,
        }
    }

    /// All of the folder was listed.
    fn end(mut self, walk: &Walk<'_>, folder: &Folder) {
        if self.known.len() == 0 && !self.new {
            return;
        }
        let number = self.turn.lane.number;
        if let Some(seen) = &walk.seen {
            seen.add(number, folder.key());
        }
        self.same.sort_unstable();
        self.same.dedup();
        // In a full pass that has not come here before, the first file that is judged replaces all.
        let outdated = match self.counts {
            true => self.known.len() > self.same.len(),
            false => !self.new,
        };
        if outdated {
            let cache = walk.tools.cache;
            cache.keep(number, folder.key(), self.path, self.same);
        }
    }
}
