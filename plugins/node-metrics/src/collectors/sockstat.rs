//! Sockets by protocol: `/proc/net/sockstat` and `/proc/net/sockstat6`.

use std::collections::BTreeSet;

use bulkhead_sdk::{Collector, Families, Result, View, node_stats};

use super::Collect;
use crate::sysfs::whole_at;
use crate::text::{integer_at, is_name_part};

const V4: &str = "/proc/net/sockstat";
const V6: &str = "/proc/net/sockstat6";

/// A page table's worth of memory, which tells the size of a page where machines differ in it.
const HUGE_PAGE: &str = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size";

const STATES: [&str; 6] = ["inuse", "orphan", "tw", "alloc", "mem", "memory"];

pub(crate) struct Sockstat {
    machine: String,
}

impl Sockstat {
    pub(crate) fn new() -> Self {
        let machine = node_stats::system_name().machine;
        Self { machine }
    }

    fn page_size(&self, view: &View) -> Option<u64> {
        match self.machine.as_str() {
            "x86_64" | "riscv64" | "s390x" => Some(4096),
            // A page table is a page of entries of eight bytes, one for each page.
            "aarch64" => [4096, 16_384, 65_536]
                .into_iter()
                .find(|size| integer_at(view, HUGE_PAGE).ok() == Some(size * size / 8)),
            _ => None,
        }
    }
}

impl Collect for Sockstat {
    fn wants(&self) -> Collector {
        let collector = Collector::new("sockstat").content(V4).content(V6);
        match self.machine.as_str() {
            "aarch64" => collector.content(HUGE_PAGE),
            _ => collector,
        }
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let page_size = self.page_size(view);
        let mut known = BTreeSet::new();
        // A node may have one of them, or none.
        let there = [V4, V6].into_iter().filter(|path| view.get(path).is_some());
        let texts: Vec<_> = there
            .map(|path| whole_at(view, path))
            .collect::<Result<_>>()?;
        for text in &texts {
            for line in text.lines() {
                let Some((protocol, fields)) = line.split_once(':') else {
                    continue;
                };
                if !is_name_part(protocol) || !known.insert(protocol) {
                    continue;
                }
                if protocol != "sockets" {
                    tell_protocol(protocol, fields, page_size, out);
                } else if let Some(used) = field(fields, "used") {
                    let help = "Number of IPv4 sockets in use.";
                    let family = out.gauge("node_sockstat_sockets_used", help);
                    out.add(family, &[], used as f64);
                }
            }
        }
        Ok(())
    }
}

fn tell_protocol(protocol: &str, fields: &str, page_size: Option<u64>, out: &mut Families) {
    let mut tell = |state: &str, value: f64| {
        let help = format!("Number of {protocol} sockets in state {state}.");
        let family = out.gauge(&format!("node_sockstat_{protocol}_{state}"), &help);
        out.add(family, &[], value);
    };
    for state in STATES {
        if let Some(value) = field(fields, state) {
            tell(state, value as f64);
        }
    }
    if let (Some(pages), Some(size)) = (field(fields, "mem"), page_size) {
        tell("mem_bytes", pages as f64 * size as f64);
    }
}

/// The number after `key` in `inuse 4 orphan 0`.
fn field(fields: &str, key: &str) -> Option<i64> {
    let mut words = fields.split_ascii_whitespace();
    while let Some(word) = words.next() {
        let value = words.next()?;
        if word == key {
            return value.parse().ok();
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::node_stats::SystemName;
    use bulkhead_sdk::testing::{Files, Harness, set_system_name};

    const V4: &str = "\
sockets: used 1602
TCP: inuse 35 orphan 1 tw 4 alloc 59 mem 22
UDP: inuse 12 mem 62
RAW: inuse 0
FRAG: inuse 0 memory 7
";
    const V6: &str = "TCP6: inuse 17\nUDP6: inuse\n";

    fn collect(machine: &str, files: &Files) -> bulkhead_sdk::Result<Vec<String>> {
        set_system_name(SystemName {
            machine: machine.to_owned(),
            ..SystemName::default()
        });
        let mut plugin = Harness::<NodeMetrics>::new("{}")?;
        Ok(plugin.collect("sockstat", files)?.lines())
    }

    #[test]
    fn tells_sockets_by_protocol() {
        let files = Files::new()
            .file("/proc/net/sockstat", V4)
            .file("/proc/net/sockstat6", V6);
        assert_eq!(
            collect("x86_64", &files).unwrap(),
            [
                "node_sockstat_FRAG_inuse 0",
                "node_sockstat_FRAG_memory 7",
                "node_sockstat_RAW_inuse 0",
                "node_sockstat_TCP6_inuse 17",
                "node_sockstat_TCP_alloc 59",
                "node_sockstat_TCP_inuse 35",
                "node_sockstat_TCP_mem 22",
                "node_sockstat_TCP_mem_bytes 90112",
                "node_sockstat_TCP_orphan 1",
                "node_sockstat_TCP_tw 4",
                "node_sockstat_UDP_inuse 12",
                "node_sockstat_UDP_mem 62",
                "node_sockstat_UDP_mem_bytes 253952",
                "node_sockstat_sockets_used 1602",
            ]
        );
        assert!(collect("x86_64", &Files::new()).unwrap().is_empty());
        let cannot = files.unreadable("/proc/net/sockstat", 13);
        assert!(collect("x86_64", &cannot).is_err());
    }

    #[test]
    fn pages_are_of_the_machines_size() {
        let bytes = |machine: &str, huge: &str| {
            let files = Files::new()
                .file("/proc/net/sockstat", V4)
                .file("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", huge);
            let lines = collect(machine, &files).unwrap();
            let is_wanted = |line: &String| line.starts_with("node_sockstat_UDP_mem_bytes");
            lines.into_iter().find(is_wanted)
        };
        let of = |size: u64| Some(format!("node_sockstat_UDP_mem_bytes {}", 62 * size));
        assert_eq!(bytes("aarch64", "2097152\n"), of(4096));
        assert_eq!(bytes("aarch64", "33554432\n"), of(16_384));
        assert_eq!(bytes("aarch64", "536870912\n"), of(65_536));
        assert_eq!(bytes("aarch64", "7\n"), None);
        assert_eq!(bytes("ppc64le", "2097152\n"), None);
    }

    #[test]
    fn survives_nonsense() {
        let twice = Files::new().file("/proc/net/sockstat", V4.repeat(2));
        assert_eq!(collect("x86_64", &twice).unwrap().len(), 13);
        let tree = [("/proc/net/sockstat", V4), ("/proc/net/sockstat6", V6)];
        survives("sockstat", "{}", &tree);
    }
}
