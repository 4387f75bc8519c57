//! Which file systems are walked into.

/// What a file system is to a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    /// Files on disks or in memory.
    Plain,
    /// Somebody else answers: a server, or a process of a user. A call may take for ever, so that nobody
    /// gets there unless a manifest names the folder, and then on a thread of its own.
    Remote,
    /// The kernel's own: its files have effects, no end, or other processes' memory.
    Kernel,
}

/// By the name of their type: asking a file system itself for a number may take for ever.
const KERNEL: &[&str] = &[
    "autofs",
    "binder",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "cpuset",
    "debugfs",
    "devmem",
    "devpts",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nfsd",
    "nsfs",
    "pidfs",
    "pipefs",
    "proc",
    "pstore",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "sockfs",
    "sysfs",
    "tracefs",
];

const REMOTE: &[&str] = &[
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "fuse", "fuseblk", "gpfs", "lustre", "nfs",
    "nfs4", "smb3", "smbfs", "virtiofs",
];

/// Of a file system whose type has this name, as in the kernel's list of mounts.
pub(super) fn nature_of_type(name: &[u8]) -> Nature {
    // FUSE has the name of the program behind it after a dot.
    let first = name.split(|byte| *byte == b'.').next().unwrap_or(name);
    let is_in = |names: &[&str]| names.iter().any(|it| it.as_bytes() == first);
    match () {
        () if is_in(KERNEL) => Nature::Kernel,
        () if is_in(REMOTE) => Nature::Remote,
        () => Nature::Plain,
    }
}
