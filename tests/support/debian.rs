//! Copies of a Debian root file system, as nodes for tests to change. `debian/build.sh` makes it once.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Copies it to a folder that is not there yet.
pub fn copy(to: &Path) {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/support/debian/build.sh"
    );
    let built = Command::new(script).output().unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    let root = String::from_utf8(built.stdout).unwrap();
    run("cp", &["-a", root.trim(), to.to_str().unwrap()]);
}

/// Lays a folder's files over a tree.
pub fn lay(over: &Path, files: &str) {
    let from = format!("{files}/.");
    run("cp", &["-r", &from, over.to_str().unwrap()]);
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

/// What matters of one file, folder or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    kind: u32,
    /// None of a link, which has none that matters.
    mode: Option<u32>,
    owner: (u32, u32),
    content: Vec<u8>,
    /// Which inode it is, and when that changed.
    touched: (u64, i64, i64),
}

impl Entry {
    fn of(path: &Path, metadata: &Metadata) -> Self {
        let content = if metadata.is_symlink() {
            let target = fs::read_link(path).unwrap();
            target.into_os_string().into_encoded_bytes()
        } else if metadata.is_file() {
            fs::read(path).unwrap()
        } else {
            Vec::new()
        };
        Self {
            kind: metadata.mode() & 0o170_000,
            mode: (!metadata.is_symlink()).then(|| metadata.mode() & 0o7777),
            owner: (metadata.uid(), metadata.gid()),
            content,
            touched: (metadata.ino(), metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Content, mode and owner.
    pub fn is_like(&self, other: &Self) -> bool {
        let touched = other.touched;
        Self {
            touched,
            ..self.clone()
        } == *other
    }
}

/// All that is in a tree, by its path there.
pub fn read_tree(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut entries = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let below = path.strip_prefix(root).unwrap().to_owned();
            entries.insert(below, Entry::of(&path, &metadata));
            if metadata.is_dir() {
                folders.push(path);
            }
        }
    }
    entries
}

/// Where two trees are not alike, for people.
pub fn differences(
    one: &BTreeMap<PathBuf, Entry>,
    other: &BTreeMap<PathBuf, Entry>,
) -> Vec<String> {
    let mut paths: Vec<&PathBuf> = one.keys().chain(other.keys()).collect();
    paths.sort();
    paths.dedup();
    let show = |entry: Option<&Entry>| {
        entry.map_or("nothing".to_owned(), |it| {
            let text = String::from_utf8_lossy(&it.content);
            format!("{:o} {:?} {:?} {text:?}", it.kind, it.mode, it.owner)
        })
    };
    let differing = paths.into_iter().filter_map(|path| {
        let (one, other) = (one.get(path), other.get(path));
        let alike = one
            .zip(other)
            .is_some_and(|(one, other)| one.is_like(other));
        (!alike).then(|| format!("{}:\n  {}\n  {}", path.display(), show(one), show(other)))
    });
    differing.collect()
}
