//! How much memory all guests together may be promised. More plugins than fit are refused at
//! the door, because the kernel's answer to too much memory is to kill the daemon.

use std::fs;

use super::facts::memory_total;
use crate::cgroup;

/// Share of the daemon's memory that guests may be promised, in percent.
const SHARE: u64 = 75;

/// Bytes that guests may be promised: a share of the cgroup's limit, or of the machine's memory
/// where there is no limit.
pub(super) fn memory() -> u64 {
    let limit = cgroup::memory_limit().or_else(|| {
        let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
        memory_total(&meminfo)
    });
    limit.map_or(u64::MAX, |limit| limit / 100 * SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_can_be_promised() {
        assert!(memory() > 0);
    }
}
