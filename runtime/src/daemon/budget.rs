//! How much memory all guests together may be promised. More plugins than fit are refused at
//! the door, because the kernel's answer to too much memory is to kill the daemon.

use std::fs;

use super::facts::memory_total;

/// Share of the daemon's memory that guests may be promised, in percent.
const SHARE: u64 = 75;

/// Bytes that guests may be promised: a share of the cgroup's limit, or of the machine's memory
/// where there is no limit.
pub(super) fn memory() -> u64 {
    let limit = cgroup_limit().or_else(|| {
        let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
        memory_total(&meminfo)
    });
    limit.map_or(u64::MAX, |limit| limit / 100 * SHARE)
}

/// The limit of this process's own cgroup, version 2 or 1. Inside a container its own cgroup is
/// what the mount shows at the top.
fn cgroup_limit() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut candidates = vec![
        "/sys/fs/cgroup/memory.max".to_owned(),
        "/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned(),
    ];
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if controllers.is_empty() {
            candidates.push(format!("/sys/fs/cgroup{path}/memory.max"));
        } else if controllers.split(',').any(|name| name == "memory") {
            candidates.push(format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"));
        }
    }
    candidates
        .iter()
        .filter_map(|path| parse(&fs::read_to_string(path).ok()?))
        .min()
}

/// Version 1 says "no limit" with a number near 2^63.
fn parse(text: &str) -> Option<u64> {
    let limit: u64 = text.trim().parse().ok()?;
    (limit < 1 << 60).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_no_number() {
        assert_eq!(parse("max\n"), None);
        assert_eq!(parse("9223372036854771712\n"), None);
        assert_eq!(parse("1048576\n"), Some(1 << 20));
        assert!(memory() > 0);
    }
}
