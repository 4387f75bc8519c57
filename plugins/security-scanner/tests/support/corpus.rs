//! Real files.

use std::path::{Path, PathBuf};

/// Files below a folder, spread over all of it, until they have `bytes` in all; in the same order on
/// the same machine.
pub(crate) fn files(root: &Path, bytes: u64, largest: u64) -> Vec<(PathBuf, u64)> {
    let mut all = Vec::new();
    walk(root, largest, &mut all);
    all.sort();
    // Neighbours are alike: a shuffle takes some of everything.
    fastrand::Rng::with_seed(7).shuffle(&mut all);
    let mut total = 0;
    all.into_iter()
        .take_while(|(_, size)| {
            total += size;
            total <= bytes
        })
        .collect()
}

fn walk(folder: &Path, largest: u64, all: &mut Vec<(PathBuf, u64)>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            walk(&entry.path(), largest, all);
        } else if kind.is_file() {
            let size = entry.metadata().map_or(0, |metadata| metadata.len());
            let path = entry.path();
            let plain = path
                .to_str()
                .is_some_and(|path| !path.contains(['\n', '\r']));
            if (1..=largest).contains(&size) && plain && std::fs::File::open(&path).is_ok() {
                all.push((path, size));
            }
        }
    }
}
