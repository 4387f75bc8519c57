//! What of the kernel's own files a plugin may be granted at all. Everything below `/proc` and `/sys`
//! that is not listed here is nobody's, whatever a manifest says.
//!
//! The list is of what measures: counters, sizes, names, settings. Left out is what holds other
//! processes' data or credentials (`environ`, `mem`, `cmdline`, `root`, `fd`, `maps`), the kernel's
//! memory and messages, keys and seeds, and what does something when it is read or is as large as a
//! device's memory. Sources: proc(5), sysfs(5), <https://docs.kernel.org/admin-guide/sysctl/>.

use crate::manifest::{NodeGlob, is_glob};

/// What may be read below `/proc`. `*` is one component, `**` any number of them at the end, `PID` a
/// process id: digits, or `[0-9]*`.
const PROC: &[&str] = &[
    "buddyinfo",
    "cgroups",
    "cpuinfo",
    "devices",
    "diskstats",
    "filesystems",
    "interrupts",
    "loadavg",
    "mdstat",
    "meminfo",
    "mounts",
    "net/**",
    "pagetypeinfo",
    "partitions",
    "pressure/*",
    "schedstat",
    "slabinfo",
    "softirqs",
    "spl/kstat/**",
    "stat",
    "swaps",
    "sys/fs/*",
    "sys/fs/*/*",
    "sys/kernel/*",
    "sys/kernel/random/*",
    "sys/net/core/*",
    "sys/net/ipv4/*",
    "sys/net/ipv4/*/*/*",
    "sys/net/ipv6/*",
    "sys/net/ipv6/*/*/*",
    "sys/net/netfilter/*",
    "sys/vm/*",
    "uptime",
    "version",
    "vmstat",
    "zoneinfo",
    "PID/cgroup",
    "PID/comm",
    "PID/io",
    "PID/limits",
    "PID/mountinfo",
    "PID/mounts",
    "PID/mountstats",
    "PID/oom_score",
    "PID/oom_score_adj",
    "PID/schedstat",
    "PID/stat",
    "PID/statm",
    "PID/status",
];

/// What may be read below `/sys`.
const SYS: &[&str] = &[
    "block/**",
    "bus/**",
    "class/**",
    "devices/**",
    "fs/bcache/**",
    "fs/btrfs/**",
    "fs/cgroup/**",
    "fs/ext4/**",
    "fs/f2fs/**",
    "fs/selinux/enforce",
    "fs/selinux/policyvers",
    "fs/xfs/**",
    "kernel/mm/**",
];

/// Names that are nobody's wherever they are in those: keys and seeds, device memory, and what is slow
/// or has an effect when it is read.
const NOBODYS: &[&str] = &[
    "cells",
    "config",
    "data",
    "dhchap_ctrl_secret",
    "dhchap_secret",
    "edid",
    "eeprom",
    "key",
    "nvmem",
    "of_node",
    "password",
    "password_in",
    "psp",
    "resource0",
    "resource1",
    "resource2",
    "resource3",
    "resource4",
    "resource5",
    "rom",
    "sections",
    "stable_secret",
    "stat_refresh",
    "tcp_fastopen_key",
    "vpd",
    "wake_lock",
];

/// Where a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// Below `/proc`.
    Proc,
    /// Below `/sys`.
    Sys,
    /// Elsewhere.
    Plain,
}

impl Place {
    pub(super) fn of(pattern: &NodeGlob) -> Self {
        match pattern.components().next() {
            Some("proc") => Self::Proc,
            Some("sys") => Self::Sys,
            _ => Self::Plain,
        }
    }
}

/// Whether files that match may be read at all.
pub(super) fn may_be_granted(pattern: &NodeGlob) -> bool {
    let rules = match Place::of(pattern) {
        Place::Proc => PROC,
        Place::Sys => SYS,
        // The first component must tell the place: no glob may stand for `proc`.
        Place::Plain => return pattern.components().next().is_some_and(|it| !is_glob(it)),
    };
    let below: Vec<&str> = pattern.components().skip(1).collect();
    let below = match below.as_slice() {
        // Those of process 1, see `want`.
        ["self", rest @ ..] if Place::of(pattern) == Place::Proc => {
            return rules.iter().any(|rule| {
                let rule = rule.strip_prefix("PID/");
                rule.is_some_and(|rule| rest.len() == 1 && rest.first() == Some(&rule))
            });
        }
        below => below,
    };
    let folders = below.iter().filter(|part| **part == "**").count();
    folders <= 1
        && !below.iter().any(|part| is_nobodys(part))
        && rules.iter().any(|rule| allows(rule, below))
}

/// Whether what a link of `/sys` led to may be read: `below` is its real path there. The links of devices
/// lead to drivers, modules and the firmware's tables as well.
pub(super) fn may_be_reached(below: &str) -> bool {
    let mut parts = below.split('/');
    match parts.next() {
        Some("block" | "bus" | "class" | "devices") => !below.split('/').any(is_nobodys),
        Some("fs" | "kernel") => {
            let parts: Vec<&str> = below.split('/').collect();
            // A folder on the way to what may be read is no secret.
            SYS.iter().any(|rule| {
                let fixed = rule.trim_end_matches("/**");
                allows(rule, &parts) || fixed == below || fixed.starts_with(&format!("{below}/"))
            })
        }
        _ => false,
    }
}

/// Files of `/sys` that only root may read, and that are no secrets: serial numbers, and counters of
/// energy from which somebody else's process could guess what another one computes.
pub(super) fn is_known_of_root(below: &str) -> bool {
    below.contains("/dmi/id/") || below.ends_with("/energy_uj")
}

/// Whether a file or folder of this name is nobody's, wherever it is below `/proc` and `/sys`.
pub(crate) fn is_nobodys(name: &str) -> bool {
    NOBODYS.contains(&name)
}

fn allows(rule: &str, below: &[&str]) -> bool {
    let mut wanted = below.iter();
    for part in rule.split('/') {
        match (part, wanted.next()) {
            // At least one name: the folder itself is no file.
            ("**", Some(_)) => return true,
            (_, None) => return false,
            ("*", Some(name)) if *name != "**" => {}
            ("PID", Some(name)) if is_process(name) => {}
            (part, Some(name)) if part == *name => {}
            _ => return false,
        }
    }
    wanted.next().is_none()
}

fn is_process(name: &str) -> bool {
    name == "[0-9]*" || (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn granted(text: &str) -> bool {
        may_be_granted(&NodeGlob::parse(text).unwrap())
    }

    #[test]
    fn what_measures_may_be_granted() {
        for path in [
            "/proc/stat",
            "/proc/net/dev",
            "/proc/net/rpc/nfsd",
            "/proc/1/mountinfo",
            "/proc/self/mountinfo",
            "/proc/[0-9]*/stat",
            "/proc/pressure/*",
            "/proc/sys/fs/file-nr",
            "/proc/sys/kernel/random/entropy_avail",
            "/sys/class/net/*/mtu",
            "/sys/fs/cgroup/kubepods*/**/cpu.stat",
            "/etc/os-release",
        ] {
            assert!(granted(path), "{path}");
        }
    }

    #[test]
    fn what_is_nobodys_may_not() {
        for path in [
            "/proc/1/environ",
            "/proc/self/environ",
            "/proc/self/mem",
            "/proc/[0-9]*/environ",
            "/proc/[0-9]*/*",
            "/proc/*/environ",
            "/proc/*/stat",
            "/proc/**",
            "/proc/1/**",
            "/proc/1/mem",
            "/proc/1/maps",
            "/proc/1/cmdline",
            "/proc/1/root/etc/shadow",
            "/proc/1/cwd/secret",
            "/proc/1/fd/3",
            "/proc/1/task/1/environ",
            "/proc/1/net/dev",
            "/proc/thread-self/environ",
            "/proc/kcore",
            "/proc/kmsg",
            "/proc/kallsyms",
            "/proc/keys",
            "/proc/key-users",
            "/proc/config.gz",
            "/proc/sysrq-trigger",
            "/proc/s[y]srq-trigger",
            "/proc/sys/net/ipv4/tcp_fastopen_key",
            "/proc/sys/net/ipv6/conf/all/stable_secret",
            "/proc",
            "/p*/1/environ",
            "/[p]roc/1/environ",
            "/**",
            "/*/1/environ",
            "/sys/kernel/debug/**",
            "/sys/kernel/tracing/trace",
            "/sys/firmware/efi/efivars/*",
            "/sys/bus/pci/devices/*/rom",
            "/sys/devices/**/config",
            "/sys/class/**/x/**/y",
            "/sys/class/iscsi_session/*/password",
            "/sys/class/nvme/*/dhchap_secret",
            "/sys/devices/**/of_node/*",
            "/proc/sys/vm/stat_refresh",
            "/sys",
            "/sys/**",
        ] {
            assert!(!granted(path), "{path}");
        }
    }

    #[test]
    fn links_lead_to_devices_and_nowhere_else() {
        for path in [
            "devices/virtual/net/lo/mtu",
            "class/net",
            "fs",
            "fs/cgroup/cpu.stat",
            "fs/xfs/sda1/stats/stats",
            "kernel/mm",
        ] {
            assert!(may_be_reached(path), "{path}");
        }
        for path in [
            "module/kernel/sections/.text",
            "firmware/devicetree/base/serial",
            "kernel/debug/x",
            "kernel/tracing/trace",
            "fs/bpf/x",
            "devices/pci0000:00/nvmem/cells/mac",
            "",
        ] {
            assert!(!may_be_reached(path), "{path}");
        }
    }
}
