//! How fast processors run: `/sys/devices/system/cpu/cpu*/cpufreq`.

use bulkhead_sdk::{Collector, Families, Result, View};

use super::Collect;
use crate::sysfs::folders;

const FOLDER: &str = "/sys/devices/system/cpu/";

/// Files, which hold kilohertz, and what they are told as.
const FREQUENCIES: [(&str, &str, &str); 6] = [
    (
        "cpufreq/cpuinfo_cur_freq",
        "node_cpu_frequency_hertz",
        "Current cpu thread frequency in hertz.",
    ),
    (
        "cpufreq/cpuinfo_min_freq",
        "node_cpu_frequency_min_hertz",
        "Minimum cpu thread frequency in hertz.",
    ),
    (
        "cpufreq/cpuinfo_max_freq",
        "node_cpu_frequency_max_hertz",
        "Maximum cpu thread frequency in hertz.",
    ),
    (
        "cpufreq/scaling_cur_freq",
        "node_cpu_scaling_frequency_hertz",
        "Current scaled CPU thread frequency in hertz.",
    ),
    (
        "cpufreq/scaling_min_freq",
        "node_cpu_scaling_frequency_min_hertz",
        "Minimum scaled CPU thread frequency in hertz.",
    ),
    (
        "cpufreq/scaling_max_freq",
        "node_cpu_scaling_frequency_max_hertz",
        "Maximum scaled CPU thread frequency in hertz.",
    ),
];

pub(crate) struct Cpufreq;

impl Collect for Cpufreq {
    fn wants(&self) -> Collector {
        FREQUENCIES
            .iter()
            .fold(Collector::new("cpufreq"), |collector, (file, _, _)| {
                collector.content(&format!("{FOLDER}cpu[0-9]*/{file}"))
            })
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        for folder in folders(view, FOLDER) {
            let Some(cpu) = folder.name.strip_prefix("cpu") else {
                continue;
            };
            for (file, name, help) in FREQUENCIES {
                if let Some(kilohertz) = folder.number::<u64>(file) {
                    let family = out.gauge(name, help);
                    out.add(family, &[("cpu", cpu)], kilohertz as f64 * 1000.0);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const CURRENT: &str = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq";
    const MOST: &str = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq";
    const HARDWARE: &str = "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_cur_freq";
    const OF_ANOTHER: &str = "/sys/devices/system/cpu/cpu10/cpufreq/cpuinfo_min_freq";

    #[test]
    fn tells_hertz() {
        const EACCES: u32 = 13;
        let files = Files::new()
            .file(CURRENT, "1219917\n")
            .file(MOST, "3700000\n")
            .file(OF_ANOTHER, "800000\n")
            .unreadable(HARDWARE, EACCES);
        let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
        assert_eq!(
            plugin.collect("cpufreq", &files).unwrap().lines(),
            [
                r#"node_cpu_frequency_min_hertz{cpu="10"} 800000000"#,
                r#"node_cpu_scaling_frequency_hertz{cpu="0"} 1219917000"#,
                r#"node_cpu_scaling_frequency_max_hertz{cpu="0"} 3700000000"#,
            ]
        );
        let none = plugin.collect("cpufreq", &Files::new()).unwrap();
        assert!(none.lines().is_empty(), "a virtual machine");
    }

    #[test]
    fn survives_nonsense() {
        let tree = [
            (CURRENT, "1219917\n"),
            (HARDWARE, "1\n"),
            (OF_ANOTHER, "2\n"),
        ];
        survives("cpufreq", "{}", &tree);
    }
}
