//! How processors ran processes: `/proc/schedstat`.
//!
//! <https://docs.kernel.org/scheduler/sched-stats.html>

use std::collections::BTreeSet;

use bulkhead_sdk::{Collector, Families, Result, View};

use super::Collect;
use crate::sysfs::whole_at;

const PATH: &str = "/proc/schedstat";
const NANOSECONDS: f64 = 1e9;

/// The last three of the columns after `cpuN`, of which there are nine since Linux 2.6.23.
const COLUMNS: [(f64, &str, &str); 3] = [
    (
        NANOSECONDS,
        "node_schedstat_running_seconds_total",
        "Number of seconds CPU spent running a process.",
    ),
    (
        NANOSECONDS,
        "node_schedstat_waiting_seconds_total",
        "Number of seconds spent by processing waiting for this CPU.",
    ),
    (
        1.0,
        "node_schedstat_timeslices_total",
        "Number of timeslices executed by CPU.",
    ),
];
const BEFORE: usize = 6;

pub(crate) struct Schedstat;

impl Collect for Schedstat {
    fn wants(&self) -> Collector {
        Collector::new("schedstat").content(PATH)
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let text = whole_at(view, PATH)?;
        let mut known = BTreeSet::new();
        for line in text.lines() {
            let Some((cpu, columns)) = processor(line) else {
                continue;
            };
            if !known.insert(cpu) {
                continue;
            }
            for ((unit, name, help), value) in COLUMNS.iter().zip(columns) {
                let family = out.counter(name, help);
                out.add(family, &[("cpu", cpu)], value as f64 / unit);
            }
        }
        Ok(())
    }
}

fn processor(line: &str) -> Option<(&str, [u64; 3])> {
    let (cpu, columns) = line.strip_prefix("cpu")?.split_once(' ')?;
    let is_number = !cpu.is_empty() && cpu.bytes().all(|byte| byte.is_ascii_digit());
    let mut columns = columns.split_ascii_whitespace().skip(BEFORE);
    let mut next = || columns.next()?.parse().ok();
    let columns = [next()?, next()?, next()?];
    is_number.then_some((cpu, columns))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const SCHEDSTAT: &str = "\
version 15
timestamp 15819019232
cpu0 498494191 0 3533438552 2553969831 3853684107 2465731542 2045936778163039 343796328169361 4767485306
domain0 00000000,00000003 212499247 210112015 1861015 1860405436 536440 369895 32599 210079416
cpu1 518377256 0 4155211005 2778589869 10466382 2867629021 1904686152592476 364107263788241 5145567945
cpu2 518377256 0 4155211005
";

    #[test]
    fn tells_seconds_and_slices() {
        let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
        let files = Files::new().file("/proc/schedstat", SCHEDSTAT);
        assert_eq!(
            plugin.collect("schedstat", &files).unwrap().lines(),
            [
                r#"node_schedstat_running_seconds_total{cpu="0"} 2045936.778163039"#,
                r#"node_schedstat_running_seconds_total{cpu="1"} 1904686.152592476"#,
                r#"node_schedstat_timeslices_total{cpu="0"} 4767485306"#,
                r#"node_schedstat_timeslices_total{cpu="1"} 5145567945"#,
                r#"node_schedstat_waiting_seconds_total{cpu="0"} 343796.328169361"#,
                r#"node_schedstat_waiting_seconds_total{cpu="1"} 364107.263788241"#,
            ]
        );
        assert!(plugin.collect("schedstat", &Files::new()).is_err());
        let twice = Files::new().file("/proc/schedstat", SCHEDSTAT.repeat(2));
        let found = plugin.collect("schedstat", &twice).unwrap();
        assert_eq!(found.lines().len(), 6);
    }

    #[test]
    fn survives_nonsense() {
        survives("schedstat", "{}", &[("/proc/schedstat", SCHEDSTAT)]);
    }
}
