//! Which file systems are walked into.

use std::os::fd::AsFd;

use rustix::io::Errno;

/// What a file system is to a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    /// Files on disks or in memory.
    Plain,
    /// Somebody else answers: a server, or a process of a user. A read may take for ever, so that nobody
    /// gets there unless a manifest names the folder.
    Remote,
    /// The kernel's own: its files have effects, no end, or other processes' memory.
    Kernel,
}

/// From `linux/magic.h`: proc, sysfs, cgroup, cgroup2, devpts, tracefs, debugfs, bpf, securityfs, configfs,
/// selinuxfs, pstore, efivarfs, mqueue, hugetlbfs, binfmt_misc, autofs, nsfs, rpc_pipefs, smackfs, nfsd,
/// pidfs, binderfs, fusectl, resctrl, anonymous inodes, sockets, pipes, devmem.
const KERNEL: &[u32] = &[
    0x9fa0,
    0x6265_6572,
    0x27_e0eb,
    0x6367_7270,
    0x1cd1,
    0x7472_6163,
    0x6462_6720,
    0xcafe_4a11,
    0x7363_6673,
    0x6265_6570,
    0xf97c_ff8c,
    0x6165_676c,
    0xde5e_81e4,
    0x1980_0202,
    0x9584_58f6,
    0x4249_4e4d,
    0x0187,
    0x6e73_6673,
    0x6759_6969,
    0x4341_5d53,
    0x6e66_7364,
    0x5049_4446,
    0x6c6f_6f70,
    0x6573_5543,
    0x0765_5821,
    0x0904_1934,
    0x534f_434b,
    0x5049_5045,
    0x454d_444d,
];

/// From `linux/magic.h`: nfs, cifs, smb, smb2, fuse, 9p, ceph, afs, coda.
const REMOTE: &[u32] = &[
    0x6969,
    0xff53_4d42,
    0x517b,
    0xfe53_4d42,
    0x6573_5546,
    0x0102_1997,
    0x00c3_6400,
    0x5346_414f,
    0x7375_7245,
];

/// Of the file system in which `file` is; an `O_PATH` descriptor does.
pub(super) fn nature(file: impl AsFd) -> Result<Nature, Errno> {
    // The kernel has 32 bits for it, whatever the type here.
    let magic = rustix::fs::fstatfs(file)?.f_type as u32;
    Ok(match magic {
        _ if KERNEL.contains(&magic) => Nature::Kernel,
        _ if REMOTE.contains(&magic) => Nature::Remote,
        _ => Nature::Plain,
    })
}
