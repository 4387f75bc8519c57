//! What a crash test wrote, and what may come twice to a destination: lines that had arrived there
//! and that no commit covered when the daemon died.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use bulkhead::state::{Checkpoint, Store};
use serde_json::Value;

use super::Node;

/// A line is its number with this many digits, [`KEPT`] or [`FILTERED`], and a line feed.
const DIGITS: usize = 8;
const LINE: u64 = DIGITS as u64 + 2;

/// What a plugin keeps that keeps only lines with this text.
pub const KEPT: char = '+';
const FILTERED: char = '-';

/// The contents of a file, from its making or a truncation on.
struct Content {
    inode: u64,
    /// In nanoseconds: an inode is given to other files, too.
    birth: u64,
    /// As the daemon numbers them: the birth, and one more for each truncation.
    generation: u64,
    /// The numbers of its lines, ascending; a file need not hold a whole stretch.
    lines: Vec<u64>,
    /// It was truncated.
    over: bool,
}

/// See the module.
pub struct History {
    contents: Vec<Content>,
    written: u64,
    /// Lines that a power cut took out of their log. They may have arrived before.
    lost: HashSet<u64>,
    /// Lines that the plugin shall drop.
    filtered: fn(u64) -> bool,
    /// By destination, how often a line may come again.
    again: HashMap<String, HashMap<u64, usize>>,
}

impl Default for History {
    fn default() -> Self {
        Self::with_filtered(|_| false)
    }
}

impl History {
    /// A history whose plugin is told to keep lines with [`KEPT`].
    pub fn with_filtered(filtered: fn(u64) -> bool) -> Self {
        Self {
            contents: Vec::new(),
            written: 0,
            lost: HashSet::new(),
            filtered,
            again: HashMap::new(),
        }
    }

    /// The content that the log has now, if something was written to it.
    fn content(&mut self, log: &File) -> (u64, u64, Option<&mut Content>) {
        let (inode, birth) = known_by(log);
        let mut contents = self.contents.iter_mut().rev();
        let known = contents.find(|one| one.inode == inode && one.birth == birth);
        (inode, birth, known)
    }

    /// The next `count` lines, which the caller appends to `log`.
    pub fn next(&mut self, log: &File, count: u64) -> String {
        let numbers = self.written..self.written + count;
        let filtered = self.filtered;
        self.written = numbers.end;
        let (inode, birth, known) = self.content(log);
        match known {
            Some(content) if !content.over => content.lines.extend(numbers.clone()),
            known => {
                let generation = known.map_or(birth, |before| before.generation + 1);
                self.contents.push(Content {
                    inode,
                    birth,
                    generation,
                    lines: numbers.clone().collect(),
                    over: false,
                });
            }
        }
        let line = |number| {
            let mark = if filtered(number) { FILTERED } else { KEPT };
            format!("{number:0DIGITS$}{mark}\n")
        };
        numbers.map(line).collect()
    }

    /// The log was truncated; what is written next is other content.
    pub fn truncated(&mut self, log: &File) {
        if let (_, _, Some(content)) = self.content(log) {
            content.over = true;
        }
    }

    /// Whether every line that the log has now is committed.
    pub fn is_committed_in(&self, node: &Node, log: &File) -> bool {
        let (inode, birth) = known_by(log);
        let mut contents = self.contents.iter().rev();
        let content = contents.find(|one| one.inode == inode && one.birth == birth);
        let (Some(content), Some(known)) = (content, checkpoints(node)) else {
            return false;
        };
        let end = content.lines.len() as u64 * LINE;
        known.get(&inode).is_some_and(|checkpoint| {
            let mut marks = checkpoint.marks.iter();
            checkpoint.generation == content.generation && marks.all(|(_, mark)| *mark >= end)
        })
    }

    /// The power was cut, and the log is as short as it is now; returns how many lines it lost.
    pub fn cut(&mut self, log: &File) -> usize {
        let length = (log.metadata().unwrap().len() / LINE) as usize;
        let (_, _, content) = self.content(log);
        let lost = content.unwrap().lines.split_off(length);
        self.lost.extend(&lost);
        lost.len()
    }

    /// What is left of the log comes again, once more, to these destinations.
    pub fn comes_again(&mut self, log: &File, destinations: &[&str]) {
        let (_, _, content) = self.content(log);
        let lines = content.unwrap().lines.clone();
        for destination in destinations {
            let again = self.again.entry((*destination).to_owned()).or_default();
            for line in &lines {
                *again.entry(*line).or_default() += 1;
            }
        }
    }

    pub fn written(&self) -> u64 {
        self.written
    }

    pub fn is_lost(&self, line: u64) -> bool {
        self.lost.contains(&line)
    }

    /// The lines that must come out.
    pub fn kept(&self) -> impl Iterator<Item = u64> {
        let wanted = |line: &u64| !(self.filtered)(*line) && !self.is_lost(*line);
        (0..self.written).filter(wanted)
    }

    /// The lines in the output file, in order; it may have been rotated.
    pub fn shipped(&self, node: &Node) -> Vec<u64> {
        let mut outputs: Vec<(u64, PathBuf)> = fs::read_dir(&node.outputs)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name()?.to_str()?.strip_prefix("out-app")?;
                let number = name.strip_prefix('.').unwrap_or("0").parse().ok()?;
                Some((number, path))
            })
            .collect();
        outputs.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        let mut shipped = Vec::new();
        for (_, path) in outputs {
            // A rotation may take it away meanwhile; whoever waits looks again.
            let text = fs::read_to_string(path).unwrap_or_default();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            shipped.extend(whole.lines().map(|line| match line.starts_with('{') {
                true => number_in(line),
                false => number(line),
            }));
        }
        shipped
    }

    /// The lines that did not come.
    pub fn missing(&self, arrived: &[u64]) -> Vec<u64> {
        let arrived: HashSet<u64> = arrived.iter().copied().collect();
        self.kept().filter(|line| !arrived.contains(line)).collect()
    }

    /// The daemon has died: what had arrived at each destination and was not committed may come
    /// again, once more.
    pub fn crashed(&mut self, node: &Node, arrived: &[(&str, Vec<u64>)]) {
        let checkpoints = left(node);
        for (destination, lines) in arrived {
            let lines: HashSet<u64> = lines.iter().copied().collect();
            let again = self.again.entry((*destination).to_owned()).or_default();
            for content in &self.contents {
                let committed = match checkpoints.get(&content.inode) {
                    Some(checkpoint) if checkpoint.generation > content.generation => u64::MAX,
                    Some(checkpoint) if checkpoint.generation == content.generation => {
                        let mut marks = checkpoint.marks.iter();
                        let mark = marks.find(|(name, _)| name == destination);
                        mark.map_or(0, |(_, mark)| mark / LINE)
                    }
                    _ => 0,
                };
                let uncommitted = content.lines.iter().skip(committed as usize);
                for line in uncommitted.filter(|line| lines.contains(line)) {
                    *again.entry(*line).or_default() += 1;
                }
            }
        }
    }

    /// The daemon has died, and a destination has a queue: what came through it since the daemon was
    /// started may do so again, and what stood in contents that no checkpoint knows is read again, also
    /// if the queue has it.
    pub fn crashed_with_queue(&mut self, node: &Node, destination: &str, came: &[u64]) {
        let again = self.again.entry(destination.to_owned()).or_default();
        for line in came {
            *again.entry(*line).or_default() += 1;
        }
        let checkpoints = left(node);
        for content in &self.contents {
            let known = checkpoints.get(&content.inode);
            if known.is_none_or(|known| known.generation < content.generation) {
                for line in &content.lines {
                    *again.entry(*line).or_default() += 1;
                }
            }
        }
    }

    /// Every line came to the destination, first in the order of its file, and no more often than
    /// the crashes allow. Returns how many came again.
    pub fn judge(&self, destination: &str, arrived: &[u64]) -> usize {
        let missing = self.missing(arrived);
        let written = self.written;
        assert!(
            missing.is_empty(),
            "{destination}: lost {missing:?} of {written}"
        );
        let mut first = BTreeMap::new();
        let mut times: HashMap<u64, usize> = HashMap::new();
        for (place, line) in arrived.iter().enumerate() {
            assert!(!(self.filtered)(*line), "{destination}: {line} is filtered");
            first.entry(*line).or_insert(place);
            *times.entry(*line).or_default() += 1;
        }
        for content in &self.contents {
            let lines = content.lines.iter();
            let came: Vec<u64> = lines.copied().filter(|n| first.contains_key(n)).collect();
            let swapped = came.windows(2).find(|two| first[&two[0]] > first[&two[1]]);
            assert_eq!(swapped, None, "{destination}: out of order");
        }
        let allowed = self.again.get(destination);
        for (line, times) in &times {
            let again = allowed.and_then(|again| again.get(line)).copied();
            let allowed = 1 + again.unwrap_or(0);
            assert!(
                *times <= allowed,
                "{destination}: {line} came {times} times, {allowed} are allowed"
            );
        }
        arrived.len() - times.len()
    }
}

/// The number of a line as the test wrote it.
pub fn number(line: &str) -> u64 {
    let number = line.strip_suffix([KEPT, FILTERED]);
    let number = number.filter(|number| number.len() == DIGITS);
    let number = number.and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("a torn line: {line}"))
}

/// The number of a line in a JSON record.
pub fn number_in(record: &str) -> u64 {
    let record: Value = serde_json::from_str(record).unwrap_or_else(|_| panic!("{record}"));
    number(record["message"].as_str().unwrap())
}

/// A file's inode and birth.
fn known_by(log: &File) -> (u64, u64) {
    let meta = log.metadata().unwrap();
    let born = meta.created().unwrap().duration_since(UNIX_EPOCH).unwrap();
    (meta.ino(), born.as_nanos() as u64)
}

/// What the dead daemon had committed, by inode.
fn left(node: &Node) -> HashMap<u64, Checkpoint> {
    checkpoints(node).expect("the store was damaged")
}

/// What is committed, by inode. From a copy: the daemon shall find the store as it left it. Nothing
/// if it is damaged, as a copy that was taken from a living daemon may be.
fn checkpoints(node: &Node) -> Option<HashMap<u64, Checkpoint>> {
    let copy = tempfile::tempdir().unwrap();
    let store = node.state.join("bulkhead.redb");
    if fs::copy(store, copy.path().join("bulkhead.redb")).is_err() {
        return Some(HashMap::new());
    }
    let opened = Store::open(copy.path()).unwrap();
    if opened.set_aside.is_some() {
        return None;
    }
    let checkpoints = opened.store.load_checkpoints("local/app").unwrap();
    let by_inode = checkpoints
        .into_iter()
        .map(|(file, checkpoint)| (file.inode, checkpoint));
    Some(by_inode.collect())
}
