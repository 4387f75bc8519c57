//! What a crash test wrote, and what may come twice: lines that were shipped and that no commit
//! covered when the daemon died.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use bulkhead::state::{Checkpoint, Store};
use serde_json::Value;

use super::Node;

/// A line is its number with this many digits, and a line feed.
const DIGITS: usize = 9;
const LINE: u64 = DIGITS as u64 + 1;

/// The contents of a file, from its making or a truncation on.
struct Content {
    inode: u64,
    /// As the daemon numbers them: the birth, and one more for each truncation.
    generation: u64,
    /// The numbers of its lines, ascending; a file need not hold a whole stretch.
    lines: Vec<u64>,
}

/// See the module.
#[derive(Default)]
pub struct History {
    contents: Vec<Content>,
    written: u64,
    truncated: bool,
    /// How often a line may come again.
    again: HashMap<u64, usize>,
}

impl History {
    /// The next `count` lines, which the caller appends to `log`.
    pub fn next(&mut self, log: &File, count: u64) -> String {
        let meta = log.metadata().unwrap();
        let known = self.contents.iter().rposition(|c| c.inode == meta.ino());
        let at = match known {
            Some(at) if !std::mem::take(&mut self.truncated) => at,
            _ => {
                let born = meta.created().unwrap().duration_since(UNIX_EPOCH).unwrap();
                let first = born.as_nanos() as u64;
                self.contents.push(Content {
                    inode: meta.ino(),
                    generation: known.map_or(first, |at| self.contents[at].generation + 1),
                    lines: Vec::new(),
                });
                self.contents.len() - 1
            }
        };
        let numbers = self.written..self.written + count;
        self.written = numbers.end;
        self.contents[at].lines.extend(numbers.clone());
        numbers.map(|n| format!("{n:0DIGITS$}\n")).collect()
    }

    /// The log was truncated; what is written next is other content.
    pub fn truncated(&mut self) {
        self.truncated = true;
    }

    pub fn written(&self) -> u64 {
        self.written
    }

    /// The lines that came out, in order; the output may have been rotated.
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
            shipped.extend(records(&text).map(|record| number(&record)));
        }
        shipped
    }

    /// The lines that did not come.
    pub fn missing(&self, shipped: &[u64]) -> Vec<u64> {
        let mut came = vec![false; self.written as usize];
        shipped.iter().for_each(|n| came[*n as usize] = true);
        let missing = (0..self.written).filter(|n| !came[*n as usize]);
        missing.collect()
    }

    /// The daemon has died: what it had shipped and not committed may come again, once more.
    pub fn crashed(&mut self, node: &Node) {
        let checkpoints = checkpoints(node);
        let mut shipped = self.shipped(node);
        shipped.sort_unstable();
        shipped.dedup();
        for content in &self.contents {
            let committed = match checkpoints.get(&content.inode) {
                Some(checkpoint) if checkpoint.generation > content.generation => u64::MAX,
                Some(checkpoint) if checkpoint.generation == content.generation => {
                    checkpoint.marks[0].1 / LINE
                }
                _ => 0,
            };
            let uncommitted = content.lines.iter().skip(committed as usize);
            for line in uncommitted.filter(|line| shipped.binary_search(line).is_ok()) {
                *self.again.entry(*line).or_default() += 1;
            }
        }
    }

    /// Every line came, first in the order of its file, and no more often than the crashes allow.
    pub fn judge(&self, shipped: &[u64]) {
        let missing = self.missing(shipped);
        assert!(missing.is_empty(), "lost {missing:?} of {}", self.written);
        let mut first = BTreeMap::new();
        let mut times: HashMap<u64, usize> = HashMap::new();
        for (place, line) in shipped.iter().enumerate() {
            first.entry(*line).or_insert(place);
            *times.entry(*line).or_default() += 1;
        }
        for content in &self.contents {
            let places: Vec<usize> = content.lines.iter().map(|line| first[line]).collect();
            let swapped = places.windows(2).position(|pair| pair[0] > pair[1]);
            let swapped = swapped.map(|at| &content.lines[at..at + 2]);
            assert_eq!(swapped, None, "out of order");
        }
        for (line, times) in times {
            let allowed = 1 + self.again.get(&line).copied().unwrap_or(0);
            assert!(
                times <= allowed,
                "{line} came {times} times, {allowed} are allowed"
            );
        }
    }
}

fn records(text: &str) -> impl Iterator<Item = Value> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
}

fn number(record: &Value) -> u64 {
    record["message"].as_str().unwrap().parse().unwrap()
}

/// What the dead daemon had committed, by inode. From a copy: the daemon shall find the store as it
/// left it.
fn checkpoints(node: &Node) -> HashMap<u64, Checkpoint> {
    let copy = tempfile::tempdir().unwrap();
    let store = node.state.join("bulkhead.redb");
    if fs::copy(store, copy.path().join("bulkhead.redb")).is_err() {
        return HashMap::new();
    }
    let opened = Store::open(copy.path()).unwrap();
    assert!(opened.set_aside.is_none(), "the store was damaged");
    let checkpoints = opened.store.load_checkpoints("local/app").unwrap();
    let by_inode = checkpoints
        .into_iter()
        .map(|(file, checkpoint)| (file.inode, checkpoint));
    by_inode.collect()
}
