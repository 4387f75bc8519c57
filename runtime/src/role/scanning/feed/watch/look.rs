//! What is to be done about something that happened: a look at the file as it is now.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::Watch;
use super::later::is_long;
use super::pending::{Place, Spot, What};
use super::push;
use crate::role::scanning::feed::Shared;
use crate::role::scanning::feed::batch::EVENT;
use crate::role::scanning::feed::digest::Digests;
use crate::role::scanning::feed::facts::{Facts, FileKey, Kind};
use crate::role::scanning::feed::filesystem::Nature;
use crate::role::scanning::feed::lane::{Lane, Record};
use crate::role::scanning::feed::lock;
use crate::role::scanning::feed::read::{For, Found, Outcome, Reader};

/// Looks at a file, unless it is long and that is not for here. Whom it was passed to, who may have more than
/// that waiting.
pub(super) fn look(
    shared: &Shared,
    watch: &Watch,
    reader: &mut Reader<'_>,
    spot: &Spot,
    what: What,
    long: bool,
) -> Vec<Arc<Lane>> {
    let Some(folder_path) = path_of(shared, watch, &spot.folder) else {
        return Vec::new();
    };
    // Something may be mounted there since, and not answer.
    if shared.root.remote_on(&folder_path).is_some() {
        return Vec::new();
    }
    let (Ok(name), Ok(folder)) = (CString::new(&*spot.name), shared.root.place(&folder_path))
    else {
        return Vec::new();
    };
    let mut path = folder_path;
    // It may be about the folder itself.
    if name.as_bytes() != b"." {
        push(&mut path, name.as_bytes());
    }
    let Ok(folder_facts) = Facts::of_open(&folder) else {
        return Vec::new();
    };
    let mut lanes = interested(shared, &path, folder_facts.mount);
    if lanes.is_empty() || shared.root.is_private_path(&path) {
        return Vec::new();
    }
    match Facts::of(&folder, &name) {
        Err(Errno::NOENT) => gone(&lanes, &path, what),
        Err(error) => shared.events.error(error),
        Ok(facts) if facts.kind == Kind::Directory && what.moved_in => {
            lock(&watch.pending).miss(Place::Path(path.into()));
        }
        // It is being written, and will be looked at then.
        Ok(facts) if facts.kind == Kind::File && facts.links == 1 && !what.changed => {}
        Ok(facts) => {
            // A file may be mounted on another one, as of the kernel's own file systems.
            if facts.mount != folder_facts.mount {
                let plain = shared.root.nature(facts.mount) == Nature::Plain;
                lanes.retain(|lane| plain && !lane.scope.one_file_system);
            }
            if !long && facts.kind == Kind::File && is_long(&facts, &lanes) {
                if !watch.later.add(spot, what) {
                    lock(&watch.pending).shed(spot);
                }
                return Vec::new();
            }
            let found = Found {
                folder: folder.as_fd(),
                folder_key: match facts.kind {
                    Kind::Directory => facts.key,
                    _ => folder_facts.key,
                },
                name: name.as_c_str(),
                path: &path,
                facts,
                flags: EVENT,
            };
            let (lanes, outcome) = pass(reader, &found, lanes, what);
            match Facts::of(&folder, &name) {
                _ if outcome == Outcome::Busy => {
                    let now = std::time::Instant::now();
                    lock(&watch.pending).event(now, spot.clone(), what);
                }
                Err(Errno::NOENT) if outcome == Outcome::Changed => gone(&lanes, &path, what),
                // While it was read, another one took its place, and was maybe looked at before.
                Ok(now) if now.key != facts.key => {
                    let now = std::time::Instant::now();
                    lock(&watch.pending).event(now, spot.clone(), what);
                }
                _ => {}
            }
            return lanes;
        }
    }
    lanes
}

fn pass(
    reader: &mut Reader<'_>,
    found: &Found<'_>,
    mut lanes: Vec<Arc<Lane>>,
    what: What,
) -> (Vec<Arc<Lane>>, Outcome) {
    if found.facts.kind != Kind::File {
        lanes.retain(|lane| lane.interest.others);
    }
    if lanes.is_empty() {
        return (lanes, Outcome::Passed);
    }
    let to: Vec<For<'_>> = lanes.iter().map(|lane| For { lane, full: None }).collect();
    let outcome = reader.file(found, &to);
    if outcome == Outcome::Vanished {
        gone(&lanes, found.path, what);
    }
    (lanes, outcome)
}

/// Says that a file is not there any more.
fn gone(lanes: &[Arc<Lane>], path: &[u8], what: What) {
    let facts = Facts {
        key: FileKey {
            device: 0,
            inode: 0,
        },
        kind: match what.is_folder {
            true => Kind::Directory,
            false => Kind::File,
        },
        size: 0,
        allocated: 0,
        modified: 0,
        changed: 0,
        mode: 0,
        uid: 0,
        gid: 0,
        links: 0,
        mount: 0,
    };
    let record = Record {
        facts: &facts,
        path,
        digests: &Digests::default(),
        attributes: &[],
        error: Errno::NOENT.raw_os_error().unsigned_abs(),
        flags: EVENT,
    };
    for lane in lanes {
        lane.add(&record, None, None);
    }
}

/// The path on the node of a folder in which something happened.
pub(super) fn path_of(shared: &Shared, watch: &Watch, folder: &Place) -> Option<Vec<u8>> {
    match folder {
        Place::Path(path) => Some(path.to_vec()),
        Place::Handle {
            file_system,
            kind,
            handle,
        } => {
            let fanotify = lock(&watch.fanotify);
            let fanotify = fanotify.as_ref()?;
            fanotify.path(&shared.root, *file_system, *kind, handle)
        }
    }
}

/// Who wants to know at once what happens to `path`, which is on a mount; in the members' order.
pub(super) fn interested(shared: &Shared, path: &[u8], mount: u64) -> Vec<Arc<Lane>> {
    let members = lock(&shared.members);
    let lanes = members.iter().filter(|member| member.is_real_time());
    let lanes = lanes.map(|member| &member.lane).filter(|lane| {
        let Some(tree) = lane.scope.root_of(path) else {
            return false;
        };
        !lane.scope.one_file_system || shared.root.mount_at(tree.as_str().as_bytes()) == mount
    });
    lanes.cloned().collect()
}
