//! What files say, and what it is called.

use bulkhead_sdk::Families;
use bulkhead_sdk::metrics::{FamilyId, Kind};

use super::Group;
use super::io::{self, Disks};
use crate::text::pairs;

/// A number in a file: which file, which word stands before it (none if it is alone), and how many of
/// its units are one of the metric's.
type Source = (&'static str, &'static str, f64);

struct Metric {
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    /// The first that is there counts: that of version 2, or of version 1.
    sources: &'static [Source],
}

const COUNTERS: &[Metric] = &[
    Metric {
        name: "node_cgroup_cpu_usage_seconds_total",
        unit: "seconds",
        help: "CPU time that the container used.",
        sources: &[("cpu.stat", "usage_usec", 1e6), ("cpuacct.usage", "", 1e9)],
    },
    Metric {
        name: "node_cgroup_cpu_user_seconds_total",
        unit: "seconds",
        help: "CPU time that the container used in its own code.",
        // In ticks, which on all of Linux's architectures that run containers are hundredths.
        sources: &[
            ("cpu.stat", "user_usec", 1e6),
            ("cpuacct.stat", "user", 100.0),
        ],
    },
    Metric {
        name: "node_cgroup_cpu_system_seconds_total",
        unit: "seconds",
        help: "CPU time that the container used in the kernel.",
        sources: &[
            ("cpu.stat", "system_usec", 1e6),
            ("cpuacct.stat", "system", 100.0),
        ],
    },
    Metric {
        name: "node_cgroup_cpu_periods_total",
        unit: "",
        help: "Periods in which the container ran and could have been throttled.",
        sources: &[("cpu.stat", "nr_periods", 1.0)],
    },
    Metric {
        name: "node_cgroup_cpu_throttled_periods_total",
        unit: "",
        help: "Periods in which the container was throttled, since it had used up its CPU limit.",
        sources: &[("cpu.stat", "nr_throttled", 1.0)],
    },
    Metric {
        name: "node_cgroup_cpu_throttled_seconds_total",
        unit: "seconds",
        help: "Time for which the container was throttled, added up over CPUs.",
        sources: &[
            ("cpu.stat", "throttled_usec", 1e6),
            ("cpu.stat", "throttled_time", 1e9),
        ],
    },
    Metric {
        name: "node_cgroup_memory_oom_kills_total",
        unit: "",
        help: "Processes of the container that were killed for want of memory.",
        sources: &[
            ("memory.events", "oom_kill", 1.0),
            ("memory.oom_control", "oom_kill", 1.0),
        ],
    },
];

const CURRENT: &[Source] = &[
    ("memory.current", "", 1.0),
    ("memory.usage_in_bytes", "", 1.0),
];

const INACTIVE: &[Source] = &[
    ("memory.stat", "total_inactive_file", 1.0),
    ("memory.stat", "inactive_file", 1.0),
];

const LIMIT: &[Source] = &[("memory.max", "", 1.0), ("memory.limit_in_bytes", "", 1.0)];

/// Version 1 has a number near the largest for no limit.
const NO_LIMIT: f64 = 4_611_686_018_427_387_904.0;

const GAUGES: &[Metric] = &[
    Metric {
        name: "node_cgroup_memory_current_bytes",
        unit: "bytes",
        help: "Memory that the container holds, files' pages included.",
        sources: CURRENT,
    },
    Metric {
        name: "node_cgroup_memory_rss_bytes",
        unit: "bytes",
        help: "Memory of the container that no file backs.",
        sources: &[
            ("memory.stat", "anon", 1.0),
            ("memory.stat", "total_rss", 1.0),
        ],
    },
    Metric {
        name: "node_cgroup_memory_cache_bytes",
        unit: "bytes",
        help: "Memory of the container that holds files' pages.",
        sources: &[
            ("memory.stat", "file", 1.0),
            ("memory.stat", "total_cache", 1.0),
        ],
    },
];

/// Adds the series of one container.
pub(super) fn tell(group: &Group, labels: &[(&str, &str)], disks: &Disks, out: &mut Families) {
    for (kind, metrics) in [(Kind::Counter, COUNTERS), (Kind::Gauge, GAUGES)] {
        for metric in metrics {
            if let Some(value) = first(group, metric.sources) {
                let family = family(kind, metric.name, metric.unit, metric.help, out);
                out.add(family, labels, value);
            }
        }
    }
    if let (Some(current), Some(inactive)) = (first(group, CURRENT), first(group, INACTIVE)) {
        let family = family(
            Kind::Gauge,
            "node_cgroup_memory_working_set_bytes",
            "bytes",
            "Memory that the container holds, without files' pages that it did not use of late. What \
             the kubelet evicts by.",
            out,
        );
        out.add(family, labels, (current - inactive).max(0.0));
    }
    if let Some(limit) = first(group, LIMIT).filter(|limit| *limit < NO_LIMIT) {
        let family = family(
            Kind::Gauge,
            "node_cgroup_memory_limit_bytes",
            "bytes",
            "Memory that the container may hold. Absent if it has no limit.",
            out,
        );
        out.add(family, labels, limit);
    }
    io::tell(group, labels, disks, out);
    for resource in ["cpu", "memory", "io"] {
        tell_pressure(group, resource, labels, out);
    }
}

pub(super) fn family(
    kind: Kind,
    name: &str,
    unit: &str,
    help: &str,
    out: &mut Families,
) -> FamilyId {
    let family = out.family(kind, name, help);
    if !unit.is_empty() {
        out.unit(family, unit);
    }
    family
}

fn first(group: &Group, sources: &[Source]) -> Option<f64> {
    sources.iter().find_map(|(file, word, units)| {
        let text = group.text(file)?;
        let number = match *word {
            "" => text.trim(),
            word => pairs(text).find_map(|(known, number)| (known == word).then_some(number))?,
        };
        Some(number.parse::<u64>().ok()? as f64 / units)
    })
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=7`, and the same for `full`.
fn tell_pressure(group: &Group, resource: &str, labels: &[(&str, &str)], out: &mut Families) {
    let Some(text) = group.text(&format!("{resource}.pressure")) else {
        return;
    };
    let mut labels = labels.to_vec();
    labels.push(("resource", resource));
    for (word, name, help) in [
        (
            "some",
            "node_cgroup_pressure_waiting_seconds_total",
            "Time for which some of the container's tasks waited for the resource.",
        ),
        (
            "full",
            "node_cgroup_pressure_stalled_seconds_total",
            "Time for which all of the container's tasks waited for the resource.",
        ),
    ] {
        let microseconds = pairs(text)
            .find_map(|(known, rest)| (known == word).then_some(rest))
            .and_then(|rest| rest.split_ascii_whitespace().last())
            .and_then(|last| last.strip_prefix("total=")?.parse::<u64>().ok());
        if let Some(microseconds) = microseconds {
            let family = family(Kind::Counter, name, "seconds", help, out);
            out.add(family, &labels, microseconds as f64 / 1e6);
        }
    }
}
