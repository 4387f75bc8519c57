//! What is mounted where, as the kernel lists it: nobody is asked who may not answer, such as the server of
//! a remote file system.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::sync::Mutex;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::filesystem::{Nature, nature_of_type};
use super::lock;

const LIST: &str = "/proc/self/mountinfo";

/// What is mounted now.
#[derive(Debug)]
pub(super) struct Mounts {
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    list: File,
    table: Table,
    /// The list is another one than was read.
    stale: bool,
}

/// One list of mounts.
#[derive(Debug, Default)]
struct Table {
    mounts: HashMap<u64, Mount>,
    /// By the mount that they are on.
    on: HashMap<u64, Vec<u64>>,
}

#[derive(Debug)]
struct Mount {
    point: Vec<u8>,
    nature: Nature,
    /// The file system, and what of it is mounted here.
    device: Vec<u8>,
    part: Vec<u8>,
}

/// A place in a file system, wherever that is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inside {
    device: Vec<u8>,
    path: Vec<u8>,
}

impl Inside {
    /// Whether it is `other`, or in it.
    pub(super) fn is_in(&self, other: &Self) -> bool {
        self.device == other.device && is_below(&self.path, &other.path)
    }
}

impl Mounts {
    pub(super) fn open() -> io::Result<Self> {
        let mut current = Current {
            list: File::open(LIST)?,
            table: Table::default(),
            stale: false,
        };
        current.read()?;
        let current = Mutex::new(current);
        Ok(Self { current })
    }

    /// What a mount is; none if there is no such mount any more.
    pub(super) fn nature(&self, mount: u64) -> Option<Nature> {
        self.with(|table| table.mounts.get(&mount).map(|mount| mount.nature))
    }

    /// The mount that a path without links is on, from the mount of the root folder.
    pub(super) fn at(&self, root: u64, path: &[u8]) -> u64 {
        self.with(|table| table.way(root, path).last().unwrap_or(root))
    }

    /// Where in its file system a path without links is, from the mount of the root folder.
    pub(super) fn inside(&self, root: u64, path: &[u8]) -> Option<Inside> {
        self.with(|table| table.inside(root, path))
    }

    /// The first remote mount on the way there.
    pub(super) fn remote_on(&self, root: u64, path: &[u8]) -> Option<u64> {
        self.with(|table| {
            let is_remote = |id: &u64| {
                let mount = table.mounts.get(id);
                mount.is_some_and(|mount| mount.nature == Nature::Remote)
            };
            table.way(root, path).find(is_remote)
        })
    }

    /// Where something is mounted, in no order, each with what it is.
    pub(super) fn points(&self) -> Vec<(Vec<u8>, Nature)> {
        self.with(|table| {
            let mounts = table.mounts.values();
            mounts.map(|it| (it.point.clone(), it.nature)).collect()
        })
    }

    fn with<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        let mut current = lock(&self.current);
        current.stale |= current.has_changed();
        if current.stale {
            match current.read() {
                Ok(()) => current.stale = false,
                Err(error) => {
                    tracing::warn!(%error, "cannot read {LIST}: what was mounted just now is not known");
                }
            }
        }
        look(&current.table)
    }
}

impl Current {
    /// Whether the kernel's list is another one since this was asked last: proc(5).
    fn has_changed(&self) -> bool {
        let mut list = [PollFd::new(&self.list, PollFlags::PRI)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut list, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    fn read(&mut self) -> io::Result<()> {
        self.list.rewind()?;
        let mut text = Vec::new();
        self.list.read_to_end(&mut text)?;
        self.table = Table::of(&text);
        Ok(())
    }
}

impl Table {
    fn of(text: &[u8]) -> Self {
        let mut table = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            if let Some((id, parent, mount)) = parse(line) {
                table.mounts.insert(id, mount);
                table.on.entry(parent).or_default().push(id);
            }
        }
        table
    }

    fn inside(&self, root: u64, path: &[u8]) -> Option<Inside> {
        let mount = self.mounts.get(&self.way(root, path).last()?)?;
        // The root's own path ends with the separator.
        let point = mount.point.strip_suffix(b"/").unwrap_or(&mount.point);
        let mut inside = mount
            .part
            .strip_suffix(b"/")
            .unwrap_or(&mount.part)
            .to_vec();
        inside.extend_from_slice(path.strip_prefix(point)?);
        if inside.len() > 1 && inside.ends_with(b"/") {
            inside.pop();
        }
        Some(Inside {
            device: mount.device.clone(),
            path: inside,
        })
    }

    /// From mount to mount, each on the one before: what is hidden by another is not come to.
    fn way(&self, root: u64, path: &[u8]) -> impl Iterator<Item = u64> {
        let next = move |mount: &u64| {
            let on = self.on.get(mount).map_or(&[][..], Vec::as_slice);
            let here = on.iter().filter(|id| *id != mount).filter_map(|id| {
                let point = &self.mounts.get(id)?.point;
                is_below(path, point).then_some((point.len(), *id))
            });
            here.min().map(|(_, id)| id)
        };
        // As many steps as there are mounts, however odd the list.
        std::iter::successors(Some(root), next).take(self.mounts.len() + 1)
    }
}

/// Whether `path` is `folder` or below it.
fn is_below(path: &[u8], folder: &[u8]) -> bool {
    let rest = path.strip_prefix(folder);
    folder == b"/" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// The mount's number, that of the mount that it is on, and what it is: proc_pid_mountinfo(5).
fn parse(line: &[u8]) -> Option<(u64, u64, Mount)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (id, parent) = (number()?, number()?);
    let device = fields.next()?.to_vec();
    let part = unescaped(fields.next()?);
    let point = unescaped(fields.next()?);
    // Options, and fields that may be there or not, up to a dash.
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    let nature = nature_of_type(kind);
    let mount = Mount {
        point,
        nature,
        device,
        part,
    };
    Some((id, parent, mount))
}

/// Of blanks and the like, the list has the octal code.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let code = after.first_chunk::<3>().filter(|_| *first == b'\\');
        let code = code.and_then(|code| {
            let code = std::str::from_utf8(code).ok()?;
            u8::from_str_radix(code, 8).ok()
        });
        plain.push(code.unwrap_or(*first));
        rest = match code {
            Some(_) => after.get(3..).unwrap_or_default(),
            None => after,
        };
    }
    plain
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn blanks_in_mount_points_are_read() {
        assert_eq!(unescaped(b"/a\\040b\\134c"), b"/a b\\c");
        assert_eq!(unescaped(b"/plain\\9"), b"/plain\\9");
    }

    #[test]
    fn a_path_is_on_the_mount_that_hides_the_others() {
        let table = Table::of(
            b"1 1 8:1 / / rw - ext4 /dev/sda1 rw
2 1 0:5 / /a/b rw shared:2 master:1 - nfs4 server:/x rw
3 1 0:6 / /a rw - tmpfs tmpfs rw
4 3 0:7 / /a rw - fuse.sshfs x rw
5 1 0:8 / /with\\040blank rw - proc proc rw
nonsense
",
        );
        assert_eq!(table.mounts.len(), 5);
        for (path, mount) in [
            ("/", 1),
            ("/ab/c", 1),
            ("/a", 4),
            // The mount on it is hidden.
            ("/a/b/c", 4),
            ("/with blank/1", 5),
        ] {
            let last = table.way(1, path.as_bytes()).last();
            assert_eq!(last, Some(mount), "{path}");
        }
        let nature = |id: u64| table.mounts.get(&id).unwrap().nature;
        let natures = [1, 2, 3, 4, 5].map(nature);
        use Nature::{Kernel, Plain, Remote};
        assert_eq!(natures, [Plain, Remote, Plain, Remote, Kernel]);
    }

    #[test]
    fn a_place_is_known_wherever_it_is_mounted() {
        let table = Table::of(
            b"1 1 8:1 / / rw - ext4 /dev/sda1 rw
2 1 8:1 /var/lib/own/queue /mnt/q rw - ext4 /dev/sda1 rw
3 1 8:2 /lib/own /elsewhere rw - ext4 /dev/sdb1 rw
",
        );
        let inside = |path: &str| table.inside(1, path.as_bytes()).unwrap();
        let own = inside("/var/lib/own");
        for (path, is_own) in [
            ("/var/lib/own", true),
            ("/var/lib/own/x", true),
            ("/var/lib/owner", false),
            ("/var/lib", false),
            ("/mnt/q", true),
            ("/mnt/q/deep", true),
            ("/mnt", false),
            ("/elsewhere", false),
            ("/", false),
        ] {
            assert_eq!(inside(path).is_in(&own), is_own, "{path}");
        }
    }

    #[test]
    fn the_nodes_own_mounts_are_listed() {
        let mounts = Mounts::open().unwrap();
        let points = mounts.points();
        assert!(points.contains(&(b"/proc".to_vec(), Nature::Kernel)));
    }
}
