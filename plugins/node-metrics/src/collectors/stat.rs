//! Totals since boot, of `/proc/stat`.

use bulkhead_sdk::metrics::Kind;
use bulkhead_sdk::{Collector, Families, Result, View};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Collect;
use crate::sysfs::whole_at;
use crate::text::{pairs, require};

const PATH: &str = "/proc/stat";

/// What lines begin with, and what their first number is.
const TOTALS: [(&str, Kind, &str, &str); 6] = [
    (
        "intr",
        Kind::Counter,
        "node_intr_total",
        "Total number of interrupts serviced.",
    ),
    (
        "ctxt",
        Kind::Counter,
        "node_context_switches_total",
        "Total number of context switches.",
    ),
    (
        "processes",
        Kind::Counter,
        "node_forks_total",
        "Total number of forks.",
    ),
    (
        "btime",
        Kind::Gauge,
        "node_boot_time_seconds",
        "Node boot time, in unixtime.",
    ),
    (
        "procs_running",
        Kind::Gauge,
        "node_procs_running",
        "Number of processes in runnable state.",
    ),
    (
        "procs_blocked",
        Kind::Gauge,
        "node_procs_blocked",
        "Number of processes blocked waiting for I/O to complete.",
    ),
];

/// In the order of the line `softirq`, after the total.
const VECTORS: [&str; 10] = [
    "hi",
    "timer",
    "net_tx",
    "net_rx",
    "block",
    "block_iopoll",
    "tasklet",
    "sched",
    "hrtimer",
    "rcu",
];

/// The collector `stat`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Whether it is on; if absent, as all are.
    pub enabled: Option<bool>,
    /// Whether to tell the numbers of soft interrupts, by kind.
    pub softirq: bool,
}

pub(crate) struct Stat {
    softirq: bool,
}

impl Stat {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            softirq: options.softirq,
        }
    }
}

impl Collect for Stat {
    fn wants(&self) -> Collector {
        Collector::new("stat").content(PATH)
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let text = &whole_at(view, PATH)?;
        let mut told = false;
        for (key, kind, name, help) in TOTALS {
            if let Some(Ok(total)) = numbers(text, key).next() {
                let family = out.family(kind, name, help);
                out.add(family, &[], total as f64);
                told = true;
            }
        }
        if self.softirq {
            for (vector, number) in VECTORS.iter().zip(numbers(text, "softirq").skip(1)) {
                if let Ok(number) = number {
                    let help = "Number of softirq calls.";
                    let family = out.counter("node_softirqs_total", help);
                    out.add(family, &[("vector", vector)], number as f64);
                }
            }
        }
        require(told, PATH)
    }
}

/// The numbers after `key`.
fn numbers<'a>(
    text: &'a str,
    key: &str,
) -> impl Iterator<Item = Result<u64, std::num::ParseIntError>> + use<'a> {
    pairs(text)
        .find_map(|(known, numbers)| (known == key).then_some(numbers))
        .unwrap_or_default()
        .split_ascii_whitespace()
        .map(str::parse)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const STAT: &str = "\
cpu  120 4 60 9000 30 0 5 0 0 0
cpu0 60 2 30 4500 15 0 2 0 0 0
cpu1 60 2 30 4500 15 0 3 0 0 0
intr 8885917 17 0 0 0 23
ctxt 38014093
btime 1418183276
processes 26442
procs_running 2
procs_blocked 1
softirq 5057579 250191 1481983 1647 211099 186066 0 1783454 622196 12499 508444
";
    const WITH_SOFTIRQ: &str = r#"{"collectors":{"stat":{"softirq":true}}}"#;

    fn collect(config: &str, text: &str) -> bulkhead_sdk::Result<Vec<String>> {
        let mut plugin = Harness::<NodeMetrics>::new(config)?;
        let files = Files::new().file("/proc/stat", text);
        let found = plugin.collect("stat", &files)?;
        assert_ne!(found.kind("node_intr_total"), Some("gauge"));
        assert_ne!(found.kind("node_boot_time_seconds"), Some("counter"));
        Ok(found.lines())
    }

    #[test]
    fn tells_totals() {
        assert_eq!(
            collect("{}", STAT).unwrap(),
            [
                "node_boot_time_seconds 1418183276",
                "node_context_switches_total 38014093",
                "node_forks_total 26442",
                "node_intr_total 8885917",
                "node_procs_blocked 1",
                "node_procs_running 2",
            ]
        );
    }

    #[test]
    fn tells_soft_interrupts_if_asked() {
        let found = collect(WITH_SOFTIRQ, STAT).unwrap();
        assert_eq!(found.len(), 16);
        for line in [
            r#"node_softirqs_total{vector="hi"} 250191"#,
            r#"node_softirqs_total{vector="block_iopoll"} 0"#,
            r#"node_softirqs_total{vector="rcu"} 508444"#,
        ] {
            assert!(found.contains(&line.to_owned()), "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let found = collect("{}", "ctxt -4\nbtime 12\nprocesses\n").unwrap();
        assert_eq!(found, ["node_boot_time_seconds 12"]);
        assert!(collect("{}", "cpu 1 2 3\n").is_err());
        survives("stat", WITH_SOFTIRQ, &[("/proc/stat", STAT)]);
    }
}
