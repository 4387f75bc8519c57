//! The memory of the cgroup that this process is in, version 2 or 1. Inside a container its own cgroup is what
//! the mount shows at the top.

use std::fs;
use std::path::{Path, PathBuf};

/// One way to ask. Version 2: <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
struct Memory {
    folder: PathBuf,
    limit: &'static str,
    used: &'static str,
    /// In `memory.stat`: of what is used, what the kernel takes back before it ends anybody.
    cached: [&'static str; 2],
}

impl Memory {
    fn second(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            limit: "memory.max",
            used: "memory.current",
            cached: ["inactive_file", "active_file"],
        }
    }

    fn first(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            limit: "memory.limit_in_bytes",
            used: "memory.usage_in_bytes",
            cached: ["total_inactive_file", "total_active_file"],
        }
    }

    fn limit(&self) -> Option<u64> {
        parse(&self.read(self.limit)?)
    }

    fn free(&self) -> Option<u64> {
        let limit = self.limit()?;
        let used = parse(&self.read(self.used)?)?;
        let stat = self.read("memory.stat").unwrap_or_default();
        let cached = stat.lines().filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            self.cached.contains(&name).then(|| parse(value)).flatten()
        });
        let cached = cached.fold(0, u64::saturating_add);
        Some(limit.saturating_sub(used.saturating_sub(cached)))
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(name)).ok()
    }
}

/// Its limit in bytes, if it has one.
pub(crate) fn memory_limit() -> Option<u64> {
    all().iter().filter_map(Memory::limit).min()
}

/// Bytes below the limit that nobody uses, or only caches what is on a disk, if there is a limit.
pub(crate) fn memory_free() -> Option<u64> {
    all().iter().filter_map(Memory::free).min()
}

fn all() -> Vec<Memory> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let root = Path::new("/sys/fs/cgroup");
    let mut all = vec![Memory::second(root), Memory::first(root.join("memory"))];
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let below = path.trim_start_matches('/');
        if controllers.is_empty() {
            all.push(Memory::second(root.join(below)));
        } else if controllers.split(',').any(|name| name == "memory") {
            all.push(Memory::first(root.join("memory").join(below)));
        }
    }
    all
}

/// Version 1 says "no limit" with a number near 2^63.
fn parse(text: &str) -> Option<u64> {
    let bytes: u64 = text.trim().parse().ok()?;
    (bytes < 1 << 60).then_some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_limit_is_no_number() {
        assert_eq!(parse("max\n"), None);
        assert_eq!(parse("9223372036854771712\n"), None);
        assert_eq!(parse("1048576\n"), Some(1 << 20));
    }

    #[test]
    fn what_the_kernel_takes_back_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("memory.max", "1000\n");
        write("memory.current", "900\n");
        let memory = Memory::second(folder.path());
        assert_eq!(memory.free(), Some(100));
        write(
            "memory.stat",
            "anon 500\ninactive_file 300\nactive_file 100\n",
        );
        assert_eq!(memory.free(), Some(500));
        write("memory.max", "max\n");
        assert_eq!(memory.free(), None);
    }
}
