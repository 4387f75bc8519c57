//! Opening a folder that a manifest grants.
//!
//! What a manifest's path says was checked when it was read; where the path leads is known only
//! here, and may change. So the folder is opened first and then checked through its descriptor, and
//! it is that descriptor that the guest gets.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// statfs(2).
const PROCFS: u64 = 0x9fa0;
const SYSFS: u64 = 0x6265_6572;

/// The node's folders, of which there may be grants.
#[derive(Debug, Clone)]
pub struct NodeFolders {
    /// Where the node's root folder is: `/` on a bare host, `/host` in a pod.
    pub root: Arc<Path>,
    /// Folders that no grant may reach, as the daemon sees them.
    pub private: Arc<[PathBuf]>,
}

impl NodeFolders {
    /// Of a bare host.
    pub fn bare(private: Vec<PathBuf>) -> Self {
        Self {
            root: Path::new("/").into(),
            private: private.into(),
        }
    }

    /// Opens a path of the node. Links in it, absolute ones too, are the node's.
    fn open(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if *self.root == *Path::new("/") {
            return Ok(rustix::fs::open(path, flags, Mode::empty())?);
        }
        let root = rustix::fs::open(&*self.root, flags, Mode::empty())?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(
            root,
            path,
            flags,
            Mode::empty(),
            resolve,
        )?)
    }
}

/// A granted folder, held open.
pub(super) struct Folder(OwnedFd);

/// Why a folder is not granted.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be opened.
    #[error(
        "cannot open {}: {source}; create the folder, correct the path or remove the grant",
        path.display()
    )]
    Unusable {
        /// As the manifest says.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No plugin may see what is there.
    #[error(
        "{} {reaches}, which no plugin may see; grant the folders that the plugin needs, each by its path",
        path.display()
    )]
    OffLimits {
        /// As the manifest says.
        path: PathBuf,
        /// Where it leads and why that is refused.
        reaches: String,
    },
}

impl Folder {
    /// Opens `path`, unless it leads to `/`, procfs or sysfs, or shares anything with a private
    /// folder. Blocks.
    pub(super) fn open(path: &Path, folders: &NodeFolders) -> Result<Self, FolderError> {
        let unusable = |source: io::Error| FolderError::Unusable {
            path: path.to_owned(),
            source,
        };
        let folder = Self(folders.open(path).map_err(unusable)?);
        let real = std::fs::read_link(folder.path()).map_err(unusable)?;
        let statistics = rustix::fs::fstatfs(&folder.0).map_err(|errno| unusable(errno.into()))?;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").map_err(unusable)?;
        let reaches = if real == Path::new("/") || real == *folders.root {
            Some("leads to /, the whole node".to_owned())
        } else if let PROCFS | SYSFS = statistics.f_type as u64 {
            Some(format!(
                "leads to {}, a file system of the kernel's",
                real.display()
            ))
        } else if let Some(mount) = kernel_mount_below(&real, &mounts) {
            Some(format!("holds {mount}, a file system of the kernel's"))
        } else {
            let private = folders.private.iter().find(|private| {
                let private = private.canonicalize();
                private.is_ok_and(|private| private.starts_with(&real) || real.starts_with(private))
            });
            private.map(|private| {
                let private = private.display();
                format!("leads to {private}, where the daemon keeps its own state")
            })
        };
        match reaches {
            None => Ok(folder),
            Some(reaches) => Err(FolderError::OffLimits {
                path: path.to_owned(),
                reaches,
            }),
        }
    }

    /// A path that is this folder whatever happens to the one that it was opened by.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// A mount of procfs or sysfs below `folder`, from mountinfo (proc_pid_mountinfo(5)).
fn kernel_mount_below<'a>(folder: &Path, mounts: &'a str) -> Option<&'a str> {
    let mut prefix = String::new();
    for character in folder.to_string_lossy().chars() {
        match character {
            ' ' | '\t' | '\n' | '\\' => {
                prefix.push_str(&format!("\\{:03o}", u32::from(character)));
            }
            other => prefix.push(other),
        }
    }
    prefix.push('/');
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        let point = before.split(' ').nth(4)?;
        (matches!(kind, "proc" | "sysfs") && point.starts_with(&prefix)).then_some(point)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn where_a_path_leads_counts_and_not_what_it_says() {
        let temporary = tempfile::tempdir().unwrap();
        let inside = |name: &str| temporary.path().join(name);
        fs::create_dir(inside("state")).unwrap();
        fs::create_dir(inside("plain")).unwrap();
        let state = inside("state");
        let folders = NodeFolders::bare(vec![state.clone()]);
        assert!(Folder::open(&inside("plain"), &folders).is_ok());
        for (name, target) in [
            ("root", Path::new("/")),
            ("proc", Path::new("/proc/self")),
            ("sys", Path::new("/sys")),
            ("state-link", &state),
            ("above", temporary.path()),
        ] {
            symlink(target, inside(name)).unwrap();
            let opened = Folder::open(&inside(name), &folders);
            assert!(
                matches!(opened, Err(FolderError::OffLimits { .. })),
                "{name}"
            );
        }
        for name in ["missing", "file"] {
            if name == "file" {
                fs::write(inside(name), "").unwrap();
            }
            let opened = Folder::open(&inside(name), &folders);
            assert!(
                matches!(opened, Err(FolderError::Unusable { .. })),
                "{name}"
            );
        }
    }

    #[test]
    fn in_a_pod_links_lead_where_they_lead_on_the_node() {
        let node = tempfile::tempdir().unwrap();
        let inside = |name: &str| node.path().join(name);
        fs::create_dir_all(inside("srv/real")).unwrap();
        fs::create_dir_all(inside("var/lib/bulkhead")).unwrap();
        symlink("/srv/real", inside("srv/link")).unwrap();
        symlink("/", inside("srv/root")).unwrap();
        symlink("/var/lib", inside("srv/state")).unwrap();
        let folders = NodeFolders {
            root: node.path().canonicalize().unwrap().into(),
            private: [inside("var/lib/bulkhead")].into(),
        };
        let open = |path: &str| Folder::open(Path::new(path), &folders);
        let linked = open("/srv/link").unwrap();
        let real = fs::read_link(linked.path()).unwrap();
        assert_eq!(real, inside("srv/real").canonicalize().unwrap());
        for path in ["/srv/root", "/srv/state", "/var", "/srv/../.."] {
            let opened = open(path);
            assert!(
                matches!(opened, Err(FolderError::OffLimits { .. })),
                "{path}"
            );
        }
        assert!(open("/etc/passwd").is_err());
    }

    #[test]
    fn a_mount_of_the_kernel_below_is_seen() {
        let mounts = "22 1 0:21 / /host/a\\040b/proc rw - proc proc rw\n23 1 0:5 / /host/c rw - tmpfs x rw\n";
        let found = |folder: &str| kernel_mount_below(Path::new(folder), mounts);
        assert!(found("/host").is_some());
        assert!(found("/host/a b").is_some());
        assert!(found("/host/a").is_none());
        assert!(found("/host/c").is_none());
    }
}
