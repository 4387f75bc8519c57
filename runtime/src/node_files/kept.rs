//! Files of the kernel's that stay open from one reading to the next: opening such a file and closing it again costs
//! almost as much as reading it.
//!
//! Of `/proc`, those that a want names; of processes only the first one's: what an open file pins of another one,
//! such as its mounts, outlives it. Of `/sys`, those below a folder that was listed: a device may be renamed, and an
//! open file would go on telling of it under the old name. So a file counts only as long as the names on the way to
//! it stand for the same things, which a listing tells.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::rules::Place;
use super::want::Want;

/// Files that are kept open. Each takes a descriptor and, of the kernel's memory, the page or two that it
/// is written into.
const MOST: usize = 192;
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
pub struct Kept(HashMap<String, File>);

#[derive(Debug)]
struct File {
    place: Place,
    way: Way,
    file: Arc<OwnedFd>,
    /// In this pass.
    used: bool,
}

impl Kept {
    /// The file that a want leads to, if it is open.
    pub(super) fn get(&mut self, want: &Want, at: &str, way: Way) -> Option<Arc<OwnedFd>> {
        let kept = self.0.get_mut(at)?;
        let is_it = kept.place == want.place && kept.way == way;
        kept.used |= is_it;
        is_it.then(|| kept.file.clone())
    }

    /// Keeps an open file, if it may be kept and there is room.
    pub(super) fn keep(&mut self, want: &Want, at: &str, way: Way, file: OwnedFd) {
        let (may, magic) = match want.place {
            Place::Proc => {
                let stays = !at.starts_with(|it: char| it.is_ascii_digit()) || at.starts_with("1/");
                (want.is_one_file() && stays, PROCFS)
            }
            Place::Sys => (way.0.is_some(), SYSFS),
            Place::Plain => return,
        };
        let is_there = || rustix::fs::fstatfs(&file).is_ok_and(|it| it.f_type == magic);
        if may && (self.0.len() < MOST || self.0.contains_key(at)) && is_there() {
            let kept = File {
                place: want.place,
                way,
                file: Arc::new(file),
                used: true,
            };
            self.0.insert(at.to_owned(), kept);
        }
    }

    /// Closes a file that cannot be read any more: what it told of went, and may be back.
    pub(super) fn forget(&mut self, at: &str) {
        self.0.remove(at);
    }

    /// A pass is over: closes what it did not use.
    pub(super) fn rest(&mut self) {
        self.0.retain(|_, file| std::mem::take(&mut file.used));
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
        kept.keep(&want, at, Way::default(), open());
        assert!(kept.get(&want, at, Way::default()).is_none());
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
