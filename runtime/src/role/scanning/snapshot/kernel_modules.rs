//! The kernel's modules: loaded or built in, and what the kernel holds against them.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::procfs::Procfs;
use super::seen::{KernelModule, Troubles};

/// The most that is read of a list.
const LIST_BYTES: u64 = 4 << 20;

/// Looks at all of them, by name.
pub(super) fn look(procfs: &Procfs, root: &Path, troubles: &mut Troubles) -> Vec<KernelModule> {
    let mut modules = BTreeMap::new();
    let release = procfs.read("sys/kernel/osrelease", 256);
    let built_in = release.and_then(|release| {
        let release = String::from_utf8_lossy(release.trim_ascii()).into_owned();
        match release.is_empty() || release.contains('/') {
            true => Err(Errno::INVAL),
            false => read(root, &format!("lib/modules/{release}/modules.builtin")),
        }
    });
    match built_in {
        Ok(list) => {
            let text = String::from_utf8_lossy(&list);
            for name in text.lines().filter_map(file_name) {
                modules.insert(name.clone(), builtin(name));
            }
        }
        // Nodes of one kernel and no modules, and containers, have no such list.
        Err(Errno::NOENT | Errno::NOTDIR) => {}
        Err(errno) => troubles.note(|| format!("cannot tell which modules are built in: {errno}")),
    }
    match procfs.read("modules", LIST_BYTES) {
        Ok(list) => {
            for line in String::from_utf8_lossy(&list).lines() {
                match loaded(line) {
                    Some(module) => _ = modules.insert(module.name.clone(), module),
                    None => troubles.note(|| "a kernel module that makes no sense".to_owned()),
                }
            }
        }
        // A kernel without modules has no such file.
        Err(Errno::NOENT) => {}
        Err(errno) => troubles.note(|| format!("cannot list kernel modules: {errno}")),
    }
    modules.into_values().collect()
}

fn builtin(name: String) -> KernelModule {
    KernelModule {
        name,
        size: 0,
        built_in: true,
        out_of_tree: false,
        unsigned: false,
    }
}

/// `kernel/net/bridge/br_netfilter.ko`, as modules.builtin has it; the kernel says `_` for `-`.
fn file_name(line: &str) -> Option<String> {
    let (stem, _) = line.rsplit('/').next()?.split_once(".ko")?;
    (!stem.is_empty()).then(|| stem.replace('-', "_"))
}

/// `br_netfilter 36864 0 - Live 0x0000000000000000 (OE)`: the last is there only if the kernel is tainted
/// by it. <https://docs.kernel.org/admin-guide/tainted-kernels.html>
fn loaded(line: &str) -> Option<KernelModule> {
    let mut fields = line.split_ascii_whitespace();
    let name = fields.next()?.to_owned();
    let size = fields.next()?.parse().ok()?;
    let taints = fields.next_back().filter(|it| it.starts_with('('));
    let taints = taints.unwrap_or_default();
    Some(KernelModule {
        name,
        size,
        built_in: false,
        out_of_tree: taints.contains('O'),
        unsigned: taints.contains('E'),
    })
}

/// Reads a list of the node's root, links in its path being the node's.
fn read(root: &Path, path: &str) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve)?;
    let mut bytes = Vec::new();
    let read = std::fs::File::from(file)
        .take(LIST_BYTES)
        .read_to_end(&mut bytes);
    read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_holds_against_them_is_read() {
        let module = loaded("rootkit 16384 1 a,b, Live 0xffffffffc0000000 (OE)").unwrap();
        assert_eq!((module.name.as_str(), module.size), ("rootkit", 16384));
        assert!(module.out_of_tree && module.unsigned);
        let module = loaded("zfs 4000000 6 - Live 0xffffffffc0000000 (PO)").unwrap();
        assert!(module.out_of_tree && !module.unsigned);
        let module = loaded("overlay 155648 1 - Live 0xffffffffc0000000").unwrap();
        assert!(!module.out_of_tree && !module.unsigned);
        for odd in ["", "a", "a b c"] {
            assert!(loaded(odd).is_none(), "{odd}");
        }
        assert_eq!(
            file_name("kernel/crypto/crc-t10dif.ko.zst").unwrap(),
            "crc_t10dif"
        );
        assert_eq!(file_name("kernel/crypto/x"), None);
    }
}
