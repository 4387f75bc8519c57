//! Files of the kernel's that stay open from one reading to the next: opening such a file and closing it again costs
//! almost as much as reading it.
//!
//! Of `/proc`, those that a want names; of processes only the first one's: what an open file pins of another one,
//! such as its mounts, outlives it. Of `/sys`, those below a folder that was listed: a device may be renamed, and an
//! open file would go on telling of it under the old name. So a file counts only as long as the names on the way to
//! it stand for the same things, which a listing tells, and after the last of these comes no link.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::rules::Place;
use super::want::Want;

/// Files that are kept open. Each takes a descriptor and, of the kernel's memory, the page or two that it
/// is written into.
const MOST_OF_PROC: usize = 64;
const MOST_OF_SYS: usize = 128;
/// `PROC_SUPER_MAGIC` and `SYSFS_MAGIC` of `<linux/magic.h>`. What lies there and is none, such as a copy, may be
/// replaced.
const PROCFS: i64 = 0x9fa0;
const SYSFS: i64 = 0x6265_6572;

/// What the names stand for that were found by listing on the way to a file: of their inodes. None if none was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Way(Option<u64>);

impl Way {
    /// One name more, of this inode.
    pub(super) fn through(self, inode: u64) -> Self {
        let before = self.0.unwrap_or_default();
        Self(Some(before.rotate_left(13) ^ inode))
    }
}

/// Open files, by their paths below where they are.
#[derive(Debug, Default)]
pub struct Kept {
    proc: HashMap<String, File>,
    sys: HashMap<String, File>,
}

#[derive(Debug)]
struct File {
    way: Way,
    file: Arc<OwnedFd>,
    /// In this pass.
    used: bool,
}

impl Kept {
    /// The file that a want leads to, if it is open.
    pub(super) fn get(&mut self, want: &Want, at: &str, way: Way) -> Option<Arc<OwnedFd>> {
        let kept = self.of(want.place)?.0.get_mut(at)?;
        let is_it = kept.way == way;
        kept.used |= is_it;
        is_it.then(|| kept.file.clone())
    }

    /// Whether a file may be kept, if it is no link that leads there.
    pub(super) fn may(want: &Want, at: &str, way: Way) -> bool {
        match want.place {
            Place::Proc => {
                let stays = !at.starts_with(|it: char| it.is_ascii_digit()) || at.starts_with("1/");
                want.is_one_file() && stays
            }
            Place::Sys => way.0.is_some(),
            Place::Plain => false,
        }
    }

    /// Keeps an open file that may be kept, if there is room.
    pub(super) fn keep(&mut self, want: &Want, at: &str, way: Way, file: OwnedFd) {
        let Some((files, most, magic)) = self.of(want.place) else {
            return;
        };
        let is_there = || rustix::fs::fstatfs(&file).is_ok_and(|it| it.f_type == magic);
        if (files.len() < most || files.contains_key(at)) && is_there() {
            let kept = File {
                way,
                file: Arc::new(file),
                used: true,
            };
            files.insert(at.to_owned(), kept);
        }
    }

    /// Closes a file that cannot be read any more: what it told of went, and may be back.
    pub(super) fn forget(&mut self, want: &Want, at: &str) {
        if let Some((files, ..)) = self.of(want.place) {
            files.remove(at);
        }
    }

    /// A pass is over: closes what it did not use.
    pub(super) fn rest(&mut self) {
        for files in [&mut self.proc, &mut self.sys] {
            files.retain(|_, file| std::mem::take(&mut file.used));
        }
    }

    /// Those of a place, how many they may be, and what the file system there is.
    fn of(&mut self, place: Place) -> Option<(&mut HashMap<String, File>, usize, i64)> {
        match place {
            Place::Proc => Some((&mut self.proc, MOST_OF_PROC, PROCFS)),
            Place::Sys => Some((&mut self.sys, MOST_OF_SYS, SYSFS)),
            Place::Plain => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::manifest::NodeGlob;
    use crate::node_files::Look;

    #[test]
    fn a_name_that_stands_for_something_else_is_another_file() {
        let granted = [NodeGlob::parse("/sys").unwrap()];
        let glob = "/sys/class/net/*/mtu";
        let want = Want::check(glob, Look::Content, &granted).unwrap();
        let open = || std::fs::File::open("/sys/class/net/lo/mtu").unwrap().into();
        let at = "class/net/lo/mtu";
        let (old, new) = (Way::default().through(7), Way::default().through(8));
        let mut kept = Kept::default();
        // By its name alone nothing is known of it.
        assert!(!Kept::may(&want, at, Way::default()) && Kept::may(&want, at, old));
        kept.keep(&want, at, old, open());
        assert!(kept.get(&want, at, old).is_some());
        assert!(kept.get(&want, at, new).is_none());
        kept.keep(&want, at, new, open());
        assert!(kept.get(&want, at, new).is_some());
        kept.rest();
        assert!(kept.get(&want, at, new).is_some(), "it was used");
        kept.rest();
        kept.rest();
        assert!(kept.get(&want, at, new).is_none(), "nobody used it");
        // What is not the kernel's is not kept.
        let plain = tempfile::tempfile().unwrap();
        kept.keep(&want, at, new, plain.into());
        assert!(kept.get(&want, at, new).is_none());
    }
}
