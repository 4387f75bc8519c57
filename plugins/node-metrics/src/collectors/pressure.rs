//! How long processes waited for what they lacked: `/proc/pressure`.
//!
//! <https://docs.kernel.org/accounting/psi.html>

use bulkhead_sdk::{Collector, Families, Result, View};

use super::Collect;
use crate::sysfs::whole_at;
use crate::text::require;

const FOLDER: &str = "/proc/pressure/";

/// The file, the line (some waited, or all), and what it is told as.
const TOTALS: [(&str, &str, &str, &str); 5] = [
    (
        "cpu",
        "some",
        "node_pressure_cpu_waiting_seconds_total",
        "Total time in seconds that processes have waited for CPU time",
    ),
    (
        "io",
        "some",
        "node_pressure_io_waiting_seconds_total",
        "Total time in seconds that processes have waited due to IO congestion",
    ),
    (
        "io",
        "full",
        "node_pressure_io_stalled_seconds_total",
        "Total time in seconds no process could make progress due to IO congestion",
    ),
    (
        "memory",
        "some",
        "node_pressure_memory_waiting_seconds_total",
        "Total time in seconds that processes have waited for memory",
    ),
    (
        "memory",
        "full",
        "node_pressure_memory_stalled_seconds_total",
        "Total time in seconds no process could make progress due to memory congestion",
    ),
];

pub(crate) struct Pressure;

impl Collect for Pressure {
    fn wants(&self) -> Collector {
        ["cpu", "io", "memory"]
            .iter()
            .fold(Collector::new("pressure"), |collector, file| {
                collector.content(&format!("{FOLDER}{file}"))
            })
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let mut told = false;
        for (file, line, name, help) in TOTALS {
            let text = whole_at(view, &format!("{FOLDER}{file}"))?;
            if let Some(microseconds) = total(&text, line) {
                let family = out.counter(name, help);
                // In two steps, as the node exporter does: the last digit shows it.
                out.add(family, &[], microseconds as f64 / 1000.0 / 1000.0);
                told = true;
            }
        }
        require(told, FOLDER)
    }
}

/// Of the line `some avg10=0.00 avg60=0.00 avg300=0.00 total=8537362`.
fn total(text: &str, line: &str) -> Option<u64> {
    let mut words = text.lines().map(|each| each.split_ascii_whitespace());
    let mut found = words.find_map(|mut words| (words.next() == Some(line)).then_some(words))?;
    found
        .find_map(|word| word.strip_prefix("total="))?
        .parse()
        .ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const TREE: &[(&str, &str)] = &[
        (
            "/proc/pressure/cpu",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=14036781\n\
             full avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
        ),
        (
            "/proc/pressure/io",
            "some avg10=0.18 avg60=0.34 avg300=0.10 total=159886802\n\
             full avg10=0.18 avg60=0.34 avg300=0.10 total=159229614\n",
        ),
        (
            "/proc/pressure/memory",
            "some avg10=0.00 avg60=0.00 total=0\nfull avg10=0.00\n",
        ),
    ];

    fn collect(files: &Files) -> bulkhead_sdk::Result<Vec<String>> {
        let mut plugin = Harness::<NodeMetrics>::new("{}")?;
        Ok(plugin.collect("pressure", files)?.lines())
    }

    #[test]
    fn tells_seconds() {
        let add = |files: Files, (path, text): &(&str, &str)| files.file(path, text);
        let files = TREE.iter().fold(Files::new(), add);
        assert_eq!(
            collect(&files).unwrap(),
            [
                "node_pressure_cpu_waiting_seconds_total 14.036781000000001",
                "node_pressure_io_stalled_seconds_total 159.229614",
                "node_pressure_io_waiting_seconds_total 159.886802",
                "node_pressure_memory_waiting_seconds_total 0",
            ]
        );
        // What a kernel answers that was told not to count.
        const EOPNOTSUPP: u32 = 95;
        assert!(collect(&files.unreadable("/proc/pressure/io", EOPNOTSUPP)).is_err());
        assert!(collect(&Files::new()).is_err());
    }

    #[test]
    fn survives_nonsense() {
        survives("pressure", "{}", TREE);
    }
}
