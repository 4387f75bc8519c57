//! Facts about the node, for plugins with the grant `nodeFacts`: names as documented in
//! `sdk/wit`, `bulkhead:plugin/node`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::module::Digest;
use crate::sandbox::Facts;

/// Reads them once, at start, on the node called `node`, whose root folder is `root`. What cannot be
/// read is left out.
pub(super) fn read(root: &Path, node: &str) -> Facts {
    let mut facts = Facts::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            facts.push((name.to_owned(), value));
        }
    };
    let system = rustix::system::uname();
    add("node.name", Some(node.to_owned()));
    let release = fs::read_to_string(root.join("etc/os-release")).unwrap_or_default();
    add("os.id", setting(&release, "ID"));
    add("os.version", setting(&release, "VERSION_ID"));
    add(
        "kernel.release",
        Some(system.release().to_string_lossy().into_owned()),
    );
    add("arch", Some(std::env::consts::ARCH.to_owned()));
    let cpus = std::thread::available_parallelism();
    add("cpus", cpus.ok().map(|count| count.to_string()));
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    add(
        "memory.bytes",
        memory_total(&memory).map(|bytes| bytes.to_string()),
    );
    // The id itself is confidential (machine-id(5)).
    let machine = fs::read_to_string(root.join("etc/machine-id")).unwrap_or_default();
    let machine = machine.trim();
    add(
        "machine.id.hash",
        (!machine.is_empty())
            .then(|| Digest::of(format!("bulkhead:{machine}").as_bytes()).to_string()),
    );
    facts
}

/// The labels of a node without a cluster: those that the kubelet gives every node, and `more`.
pub(super) fn labels(node: &str, more: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let own = [("hostname", node), ("os", "linux"), ("arch", arch)];
    let own = own.map(|(key, value)| (format!("kubernetes.io/{key}"), value.to_owned()));
    own.into_iter().chain(more).collect()
}

/// What the node calls itself.
pub(super) fn host_name() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}

/// A value of os-release(5), without quotes.
fn setting(text: &str, name: &str) -> Option<String> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(line.trim_matches(|c| c == '"' || c == '\'').to_owned())
}

/// `MemTotal` in bytes.
pub(super) fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_os_release_and_meminfo() {
        let text = "NAME=x\nID=debian\nVERSION_ID=\"12\"\n";
        assert_eq!(setting(text, "ID").unwrap(), "debian");
        assert_eq!(setting(text, "VERSION_ID").unwrap(), "12");
        assert_eq!(memory_total("MemTotal:   16 kB\n"), Some(16384));
        assert_eq!(memory_total(""), None);
    }
}
