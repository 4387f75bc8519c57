//! The time of day, and what the kernel takes it from.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use bulkhead_sdk::{Collector, Families, Result, View, node_stats};

use super::Collect;
use crate::sysfs::folders;

const FOLDER: &str = "/sys/devices/system/clocksource/";

pub(crate) struct Time;

impl Collect for Time {
    fn wants(&self) -> Collector {
        Collector::new("time")
            .content(&format!("{FOLDER}clocksource[0-9]*/available_clocksource"))
            .content(&format!("{FOLDER}clocksource[0-9]*/current_clocksource"))
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let help = "System time in seconds since epoch (1970).";
        let family = out.gauge("node_time_seconds", help);
        out.add(family, &[], now.as_secs_f64());

        let (zone, offset) = node_stats::time_zone();
        let help = "System time zone offset in seconds.";
        let family = out.gauge("node_time_zone_offset_seconds", help);
        out.add(family, &[("time_zone", &zone)], f64::from(offset));

        for (index, source) in folders(view, FOLDER).iter().enumerate() {
            let device = index.to_string();
            let available = source.text("available_clocksource").unwrap_or_default();
            for name in available.split_whitespace().collect::<BTreeSet<_>>() {
                let family = out.gauge(
                    "node_time_clocksource_available_info",
                    "Available clocksources read from '/sys/devices/system/clocksource'.",
                );
                out.add(family, &[("device", &device), ("clocksource", name)], 1.0);
            }
            if let Some(name) = source.text("current_clocksource") {
                let family = out.gauge(
                    "node_time_clocksource_current_info",
                    "Current clocksource read from '/sys/devices/system/clocksource'.",
                );
                out.add(family, &[("device", &device), ("clocksource", &name)], 1.0);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness, set_time_zone};

    const AVAILABLE: &str = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
    const CURRENT: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

    #[test]
    fn tells_the_time() {
        set_time_zone("CEST", 7200);
        let mut plugin = Harness::<NodeMetrics>::new("{}").unwrap();
        let files = Files::new()
            .file(AVAILABLE, "tsc hpet acpi_pm \n")
            .file(CURRENT, "tsc\n");
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let before = now().as_secs_f64();
        let found = plugin.collect("time", &files).unwrap();
        let told = found.value("node_time_seconds").unwrap();
        assert!(before <= told && told <= now().as_secs_f64());
        assert_eq!(
            found.lines()[..5],
            [
                r#"node_time_clocksource_available_info{clocksource="acpi_pm",device="0"} 1"#,
                r#"node_time_clocksource_available_info{clocksource="hpet",device="0"} 1"#,
                r#"node_time_clocksource_available_info{clocksource="tsc",device="0"} 1"#,
                r#"node_time_clocksource_current_info{clocksource="tsc",device="0"} 1"#,
                &format!("node_time_seconds {told}"),
            ]
        );
        assert_eq!(
            found.value(r#"node_time_zone_offset_seconds{time_zone="CEST"}"#),
            Some(7200.0)
        );
    }

    #[test]
    fn survives_nonsense() {
        survives(
            "time",
            "{}",
            &[(AVAILABLE, "tsc tsc hpet\n"), (CURRENT, "tsc\n")],
        );
    }
}
