//! Temperatures and what cools, of `/sys/class/thermal`.

use bulkhead_sdk::{Collector, Families, Result, View};

use super::Collect;
use crate::sysfs::{Folder, folders, require_told};

/// What a zone answers that has no temperature now.
const ENODATA: u32 = 61;

pub(crate) struct ThermalZone;

impl Collect for ThermalZone {
    fn wants(&self) -> Collector {
        Collector::new("thermal_zone")
            .content("/sys/class/thermal/thermal_zone[0-9]*/type")
            .content("/sys/class/thermal/thermal_zone[0-9]*/temp")
            .content("/sys/class/thermal/cooling_device[0-9]*/type")
            .content("/sys/class/thermal/cooling_device[0-9]*/max_state")
            .content("/sys/class/thermal/cooling_device[0-9]*/cur_state")
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let all = folders(view, "/sys/class/thermal/");
        let mut told = 0;
        for folder in &all {
            let done = match folder.name.strip_prefix("thermal_zone") {
                Some(zone) => zone_temperature(folder, zone, out),
                None => cooling_state(folder, out),
            };
            told += usize::from(done.is_some());
        }
        require_told(&all, told)
    }
}

fn zone_temperature(folder: &Folder, zone: &str, out: &mut Families) -> Option<()> {
    let file = folder.get("temp")?;
    if file.error() == Some(ENODATA) {
        return Some(());
    }
    let temperature: i64 = folder.number("temp")?;
    let kind = folder.text("type")?;
    let family = out.gauge("node_thermal_zone_temp", "Zone temperature in Celsius");
    let labels = [("zone", zone), ("type", &kind)];
    out.add(family, &labels, temperature as f64 / 1000.0);
    Some(())
}

fn cooling_state(folder: &Folder, out: &mut Families) -> Option<()> {
    let name = folder.name.strip_prefix("cooling_device")?;
    let kind = folder.text("type")?;
    let most: i64 = folder.number("max_state")?;
    let now: i64 = folder.number("cur_state")?;
    let labels = [("name", name), ("type", &*kind)];
    let current = out.gauge(
        "node_cooling_device_cur_state",
        "Current throttle state of the cooling device",
    );
    out.add(current, &labels, now as f64);
    let maximum = out.gauge(
        "node_cooling_device_max_state",
        "Maximum throttle state of the cooling device",
    );
    out.add(maximum, &labels, most as f64);
    Some(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const TREE: &[(&str, &str)] = &[
        ("/sys/class/thermal/cooling_device0/cur_state", "-1\n"),
        ("/sys/class/thermal/cooling_device0/max_state", "50\n"),
        (
            "/sys/class/thermal/cooling_device0/type",
            "intel_powerclamp\n",
        ),
        ("/sys/class/thermal/thermal_zone0/temp", "49925\n"),
        ("/sys/class/thermal/thermal_zone0/type", "bcm2835_thermal\n"),
        ("/sys/class/thermal/thermal_zone10/temp", "-44000\n"),
        ("/sys/class/thermal/thermal_zone10/type", "acpitz\n"),
    ];

    fn collect(files: &Files) -> bulkhead_sdk::Result<Vec<String>> {
        let mut plugin = Harness::<NodeMetrics>::new("{}")?;
        Ok(plugin.collect("thermal_zone", files)?.lines())
    }

    fn tree() -> Files {
        let add = |files: Files, (path, text): &(&str, &str)| files.file(path, text);
        TREE.iter().fold(Files::new(), add)
    }

    #[test]
    fn tells_temperatures_and_states() {
        assert_eq!(
            collect(&tree()).unwrap(),
            [
                r#"node_cooling_device_cur_state{name="0",type="intel_powerclamp"} -1"#,
                r#"node_cooling_device_max_state{name="0",type="intel_powerclamp"} 50"#,
                r#"node_thermal_zone_temp{type="acpitz",zone="10"} -44"#,
                r#"node_thermal_zone_temp{type="bcm2835_thermal",zone="0"} 49.925"#,
            ]
        );
    }

    #[test]
    fn a_zone_without_a_temperature_is_left_out() {
        let zone = "/sys/class/thermal/thermal_zone0";
        let with = |errno| {
            Files::new()
                .file(&format!("{zone}/type"), "iwlwifi_1\n")
                .unreadable(&format!("{zone}/temp"), errno)
        };
        assert!(collect(&with(61)).unwrap().is_empty());
        assert!(collect(&with(5)).is_err());
        let one_of_two = tree().unreadable(&format!("{zone}/temp"), 5);
        assert_eq!(collect(&one_of_two).unwrap().len(), 3);
        assert!(collect(&Files::new()).unwrap().is_empty());
    }

    #[test]
    fn survives_nonsense() {
        survives("thermal_zone", "{}", TREE);
    }
}
