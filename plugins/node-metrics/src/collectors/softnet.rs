//! How processors took packets from network devices: `/proc/net/softnet_stat`.

use bulkhead_sdk::{Collector, Families, Result, View};

use super::Collect;
use crate::sysfs::whole_at;
use crate::text::{hex, require};

const PATH: &str = "/proc/net/softnet_stat";

/// The first columns; the kernel has had nine and more since it has the file.
const COLUMNS: [(&str, &str); 3] = [
    (
        "node_softnet_processed_total",
        "Number of processed packets",
    ),
    ("node_softnet_dropped_total", "Number of dropped packets"),
    (
        "node_softnet_times_squeezed_total",
        "Number of times processing packets ran out of quota",
    ),
];
const FEWEST: usize = 9;

pub(crate) struct Softnet;

impl Collect for Softnet {
    fn wants(&self) -> Collector {
        Collector::new("softnet").content(PATH)
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let text = whole_at(view, PATH)?;
        let mut told = false;
        for (cpu, line) in text.lines().enumerate() {
            let columns = line.split_ascii_whitespace().map(hex);
            if columns.clone().count() < FEWEST {
                continue;
            }
            for ((name, help), value) in COLUMNS.iter().zip(columns) {
                if let Some(value) = value {
                    let family = out.counter(name, help);
                    out.add(family, &[("cpu", &cpu.to_string())], value as f64);
                    told = true;
                }
            }
        }
        require(told, PATH)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const SOFTNET: &str = "\
00015c73 00020e76 f0000769 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000
01663fb2 zz 0000002a 00000000 00000000 00000000 00000000 00000000 00000000
00000001 00000002
";

    #[test]
    fn tells_what_each_processor_did() {
        let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
        let files = Files::new().file("/proc/net/softnet_stat", SOFTNET);
        assert_eq!(
            plugin.collect("softnet", &files).unwrap().lines(),
            [
                r#"node_softnet_dropped_total{cpu="0"} 134774"#,
                r#"node_softnet_processed_total{cpu="0"} 89203"#,
                r#"node_softnet_processed_total{cpu="1"} 23478194"#,
                r#"node_softnet_times_squeezed_total{cpu="0"} 4026533737"#,
                r#"node_softnet_times_squeezed_total{cpu="1"} 42"#,
            ]
        );
    }

    #[test]
    fn survives_nonsense() {
        let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
        assert!(plugin.collect("softnet", &Files::new()).is_err());
        survives("softnet", "{}", &[("/proc/net/softnet_stat", SOFTNET)]);
    }
}
