//! Files of which something was found, and which nobody is shown any more: since they are left out, or since
//! nothing is there.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::facts::{Facts, Kind};
use super::filesystem::Nature;
use super::lane::Lane;
use super::{Feed, Shared, lock};
use crate::manifest::Tree;

/// Of some paths, those that are passed to a subscriber no more.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Absent {
    /// It is not shown these any more.
    pub left_out: Vec<Vec<u8>>,
    /// Nothing is there.
    pub gone: Vec<Vec<u8>>,
}

impl Feed {
    /// Which of these paths are passed no more to the subscriber of this name, as far as its subscription
    /// tells. They are passed again once it is another. Blocks.
    pub fn left_out(&self, name: &str, mut paths: Vec<Vec<u8>>) -> Absent {
        let shared = &self.inner.shared;
        let Some(lane) = shared.lane(name) else {
            return Absent::default();
        };
        paths.retain(|path| lane.scope.root_of(path).is_none());
        if !paths.is_empty() {
            // What was judged just now is to be forgotten as well, and before anybody may ask for it.
            shared.cache.flush();
            for path in &paths {
                shared.forget_folder_of(&lane, path);
            }
            shared.cache.flush();
        }
        Absent {
            left_out: paths,
            gone: Vec::new(),
        }
    }

    /// Which of these paths are passed no more to the subscriber of this name, after a complete pass: it has
    /// forgotten what it did not come to. Blocks.
    pub fn absent(&self, name: &str, mut paths: Vec<Vec<u8>>) -> Absent {
        let shared = &self.inner.shared;
        let Some(lane) = shared.lane(name) else {
            return Absent::default();
        };
        let mut absent = Absent::default();
        let mut remote: HashMap<u64, Vec<Vec<u8>>> = HashMap::new();
        paths.sort_unstable();
        let mut folder = Folder::default();
        for path in paths {
            if folder.has(shared, &lane, &path) {
                continue;
            }
            if !shared.shows(&lane, &path) {
                absent.left_out.push(path);
            } else if let Some(mount) = shared.root.remote_on(&path) {
                remote.entry(mount).or_default().push(path);
            } else if shared.is_gone(&lane, &path) {
                absent.gone.push(path);
            }
        }
        // Nothing is kept open while a server is waited for.
        drop(folder);
        for (mount, paths) in remote {
            absent.gone.extend(gone_there(shared, &lane, mount, paths));
        }
        absent
    }
}

/// Of paths behind a mount whose server may not answer. Then nothing is known, and nothing is gone.
fn gone_there(
    shared: &Arc<Shared>,
    lane: &Arc<Lane>,
    mount: u64,
    paths: Vec<Vec<u8>>,
) -> Vec<Vec<u8>> {
    let (owned, lane) = (shared.clone(), lane.clone());
    let looking = shared.asides.begin(mount, move |beat| {
        let mut gone = paths;
        gone.retain(|path| {
            beat.gets_on();
            owned.is_gone(&lane, path)
        });
        gone
    });
    let gone = looking.ok().and_then(super::aside::Aside::wait);
    gone.unwrap_or_default()
}

/// The folder of the path before, which most have in common with the next one.
#[derive(Default)]
struct Folder {
    path: Vec<u8>,
    /// The tree of the subscriber's that it is in, by its length: each is a part of the path.
    tree: usize,
    /// Its place and its mount, if what is in it is shown.
    place: Option<(OwnedFd, u64)>,
}

impl Folder {
    /// Whether a file is there for certain, and shown. Most are, and to see it takes one question to the kernel.
    fn has(&mut self, shared: &Shared, lane: &Lane, path: &[u8]) -> bool {
        let Some(tree) = lane.scope.root_of(path) else {
            return false;
        };
        let end = memchr::memrchr(b'/', path).unwrap_or(0);
        let Some((folder, [_, name @ ..])) = path.split_at_checked(end) else {
            return false;
        };
        // The root itself, and a tree that is a file, are looked at in the other way.
        let length = tree.as_str().len();
        if folder.is_empty() || folder.len() < length {
            return false;
        }
        if self.path != folder || self.tree != length {
            self.path = folder.to_vec();
            self.tree = length;
            self.place = shared.shown_place(lane, tree, folder);
        }
        let (Some((place, mount)), Ok(name)) = (&self.place, CString::new(name)) else {
            return false;
        };
        // What is of the same mount as its folder is as much of the kernel, of another machine or of the daemon's
        // own as that one.
        Facts::of(place, &name).is_ok_and(|facts| facts.kind == Kind::File && facts.mount == *mount)
    }
}

impl Shared {
    /// A folder and its mount, if what is in it is shown, and no other machine has to be asked.
    fn shown_place(&self, lane: &Lane, tree: &Tree, folder: &[u8]) -> Option<(OwnedFd, u64)> {
        if !self.walks(lane, tree, folder) || self.root.remote_on(folder).is_some() {
            return None;
        }
        Some((self.root.place(folder).ok()?, self.root.mount_at(folder)))
    }

    fn lane(&self, name: &str) -> Option<Arc<Lane>> {
        let members = lock(&self.members);
        let mut lanes = members.iter().map(|member| &member.lane);
        let lane = lanes.find(|lane| lane.name == name && !lane.is_closed());
        lane.cloned()
    }

    /// Whether a subscriber is shown what is at a path, if anything is.
    fn shows(&self, lane: &Lane, path: &[u8]) -> bool {
        let tree = lane.scope.root_of(path);
        tree.is_some_and(|tree| self.walks(lane, tree, path))
    }

    /// The same of a path in this tree of the subscriber's that is not left out.
    fn walks(&self, lane: &Lane, tree: &Tree, path: &[u8]) -> bool {
        let (root, scope, tree) = (&self.root, &lane.scope, tree.as_str().as_bytes());
        let mount = root.mount_at(path);
        // What is mounted there since may be of the kernel or of another machine, and is walked for nobody.
        let walked =
            root.nature(mount) != Nature::Kernel && root.remote_on(path) == root.remote_on(tree);
        let same = || root.mount_at(tree) == mount;
        walked && !root.is_private_path(path) && (!scope.one_file_system || same())
    }

    /// Whether a subscriber is shown nothing at a path any more, since nothing is there, or what is no file.
    fn is_gone(&self, lane: &Lane, path: &[u8]) -> bool {
        match self.root.place(path).and_then(Facts::of_open) {
            Ok(facts) => facts.kind != Kind::File && !lane.interest.others,
            Err(error) => matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP),
        }
    }

    /// What was judged in the folder that a path is in is passed again.
    fn forget_folder_of(&self, lane: &Lane, path: &[u8]) {
        let end = memchr::memrchr(b'/', path).unwrap_or(0).max(1);
        let folder = path.get(..end).unwrap_or(path);
        if self.root.remote_on(folder).is_none()
            && let Ok(facts) = self.root.place(folder).and_then(Facts::of_open)
        {
            let at = self.cache.path(folder);
            self.cache.keep(lane.number, facts.key, at, Vec::new());
        }
    }
}
