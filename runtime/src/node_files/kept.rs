//! Files of `/proc` that stay open from one reading to the next: opening such a file and closing it again costs
//! almost as much as reading it.
//!
//! None of `/sys`: a device may be renamed, and an open file would go on telling of it under the old name. And of
//! processes only the first one's: what an open file pins of another one, such as its mounts, outlives it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::rules::Place;
use super::want::Want;

/// Files that are kept open. Each takes a descriptor and, of the kernel's memory, the page or two that it
/// is written into.
const MOST: usize = 64;
/// `PROC_SUPER_MAGIC` of `<linux/magic.h>`. What lies at `/proc` and is none, such as a copy, may be replaced.
const PROCFS: i64 = 0x9fa0;

/// Open files, by their paths below `/proc`.
#[derive(Debug, Default)]
pub struct Kept(HashMap<String, Arc<OwnedFd>>);

impl Kept {
    /// The file that a want names, if it is open.
    pub(super) fn get(&self, want: &Want, at: &str) -> Option<Arc<OwnedFd>> {
        match want.place {
            Place::Proc => self.0.get(at).cloned(),
            Place::Sys | Place::Plain => None,
        }
    }

    /// Keeps an open file, if it may be kept and there is room. Files that were found by a glob come and go
    /// with what they tell of.
    pub(super) fn keep(&mut self, want: &Want, at: &str, file: OwnedFd) {
        let is_procfs = || rustix::fs::fstatfs(&file).is_ok_and(|it| it.f_type == PROCFS);
        let stays = !at.starts_with(|it: char| it.is_ascii_digit()) || at.starts_with("1/");
        let may = want.place == Place::Proc && want.is_one_file() && stays;
        if may && self.0.len() < MOST && is_procfs() {
            self.0.insert(at.to_owned(), Arc::new(file));
        }
    }

    /// Closes a file that cannot be read any more: what it told of went, and may be back.
    pub(super) fn forget(&mut self, at: &str) {
        self.0.remove(at);
    }
}
