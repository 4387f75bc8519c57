//! Load averages, of `/proc/loadavg`: <https://docs.kernel.org/filesystems/proc.html>.

use bulkhead_sdk::{Collector, Families, Result, View, bail};

use super::Collect;

const PATH: &str = "/proc/loadavg";

pub(crate) struct Loadavg;

impl Collect for Loadavg {
    fn wants(&self) -> Collector {
        Collector::new("loadavg").content(PATH)
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let text = view.text(PATH)?;
        let mut fields = text.split_ascii_whitespace();
        let averages = [
            ("node_load1", "1m load average."),
            ("node_load5", "5m load average."),
            ("node_load15", "15m load average."),
        ];
        for (name, help) in averages {
            let Some(load) = fields.next().and_then(|field| field.parse().ok()) else {
                bail!("{PATH} does not begin with three numbers: {text:?}");
            };
            let family = out.gauge(name, help);
            out.add(family, &[], load);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use bulkhead_sdk::testing::{Files, Harness};

    fn collect(text: &str) -> bulkhead_sdk::Result<Vec<String>> {
        let mut plugin = Harness::<NodeMetrics>::new("{}")?;
        let files = Files::new().file("/proc/loadavg", text);
        Ok(plugin.collect("loadavg", &files)?.lines())
    }

    #[test]
    fn tells_the_three_averages() {
        assert_eq!(
            collect("0.21 0.37 0.39 1/719 19737\n").unwrap(),
            ["node_load1 0.21", "node_load15 0.39", "node_load5 0.37"]
        );
    }

    #[test]
    fn a_torn_file_is_an_error() {
        for torn in ["", "0.21 0.3", "\0\u{1}\u{2}", "a b c 1/2 3"] {
            assert!(collect(torn).is_err(), "{torn:?}");
        }
    }
}
