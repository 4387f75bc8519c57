//! Batteries and mains, of `/sys/class/power_supply`.

use bulkhead_sdk::{Collector, Families, Result, View};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Collect;
use crate::filter::Pattern;
use crate::sysfs::{Folder, folders, require_class};

const CLASS: &str = "/sys/class/power_supply";

/// Files with a number, what its metric is called, and by what it is divided.
const NUMBERS: &[(&str, &str, f64)] = &[
    ("authentic", "authentic", 1.0),
    ("calibrate", "calibrate", 1.0),
    ("capacity", "capacity", 1.0),
    ("capacity_alert_max", "capacity_alert_max", 1.0),
    ("capacity_alert_min", "capacity_alert_min", 1.0),
    ("cycle_count", "cyclecount", 1.0),
    ("online", "online", 1.0),
    ("present", "present", 1.0),
    ("time_to_empty_now", "time_to_empty_seconds", 1.0),
    ("time_to_full_now", "time_to_full_seconds", 1.0),
    ("current_boot", "current_boot", 1e6),
    ("current_max", "current_max", 1e6),
    ("current_now", "current_ampere", 1e6),
    ("energy_empty", "energy_empty", 1e6),
    ("energy_empty_design", "energy_empty_design", 1e6),
    ("energy_full", "energy_full", 1e6),
    ("energy_full_design", "energy_full_design", 1e6),
    ("energy_now", "energy_watthour", 1e6),
    ("voltage_boot", "voltage_boot", 1e6),
    ("voltage_max", "voltage_max", 1e6),
    ("voltage_max_design", "voltage_max_design", 1e6),
    ("voltage_min", "voltage_min", 1e6),
    ("voltage_min_design", "voltage_min_design", 1e6),
    ("voltage_now", "voltage_volt", 1e6),
    ("voltage_ocv", "voltage_ocv", 1e6),
    ("charge_control_limit", "charge_control_limit", 1e6),
    ("charge_control_limit_max", "charge_control_limit_max", 1e6),
    ("charge_counter", "charge_counter", 1e6),
    ("charge_empty", "charge_empty", 1e6),
    ("charge_empty_design", "charge_empty_design", 1e6),
    ("charge_full", "charge_full", 1e6),
    ("charge_full_design", "charge_full_design", 1e6),
    ("charge_now", "charge_ampere", 1e6),
    ("charge_term_current", "charge_term_current", 1e6),
    ("constant_charge_current", "constant_charge_current", 1e6),
    (
        "constant_charge_current_max",
        "constant_charge_current_max",
        1e6,
    ),
    ("constant_charge_voltage", "constant_charge_voltage", 1e6),
    (
        "constant_charge_voltage_max",
        "constant_charge_voltage_max",
        1e6,
    ),
    ("precharge_current", "precharge_current", 1e6),
    ("input_current_limit", "input_current_limit", 1e6),
    ("power_now", "power_watt", 1e6),
    ("temp", "temp_celsius", 10.0),
    ("temp_alert_max", "temp_alert_max_celsius", 10.0),
    ("temp_alert_min", "temp_alert_min_celsius", 10.0),
    ("temp_ambient", "temp_ambient_celsius", 10.0),
    ("temp_ambient_max", "temp_ambient_max_celsius", 10.0),
    ("temp_ambient_min", "temp_ambient_min_celsius", 10.0),
    ("temp_max", "temp_max_celsius", 10.0),
    ("temp_min", "temp_min_celsius", 10.0),
];

/// Files with text, each a label of the same name.
const TEXTS: &[&str] = &[
    "capacity_level",
    "charge_type",
    "health",
    "manufacturer",
    "model_name",
    "scope",
    "serial_number",
    "status",
    "technology",
    "type",
    "usb_type",
];

/// The collector `powersupplyclass`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Whether it is on; if absent, as all are.
    pub enabled: Option<bool>,
    /// Regular expression of power supplies to leave out.
    pub ignored_supplies: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: None,
            ignored_supplies: "^$".to_owned(),
        }
    }
}

pub(crate) struct PowerSupplyClass {
    ignored: Pattern,
}

impl PowerSupplyClass {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let field = "collectors.powersupplyclass.ignoredSupplies";
        Ok(Self {
            ignored: Pattern::new(&options.ignored_supplies, field)?,
        })
    }
}

impl Collect for PowerSupplyClass {
    fn wants(&self) -> Collector {
        // A few globs for many names, which pass over `device`, `power`, `subsystem` and `uevent`.
        [
            "[acimtv]*",
            "energy_*",
            "health",
            "online",
            "p*_*",
            "present",
            "s[cet]*",
            "usb_type",
        ]
        .iter()
        .fold(
            Collector::new("powersupplyclass").names(CLASS),
            |collector, files| collector.content(&format!("{CLASS}/*/{files}")),
        )
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        require_class(view, CLASS)?;
        for supply in folders(view, "/sys/class/power_supply/") {
            if !self.ignored.is_match(supply.name) {
                tell(&supply, out);
            }
        }
        Ok(())
    }
}

fn tell(supply: &Folder, out: &mut Families) {
    for (file, name, divisor) in NUMBERS {
        if let Some(value) = supply.integer(file) {
            let family = out.gauge(
                &format!("node_power_supply_{name}"),
                &format!("{name} value of /sys/class/power_supply/<power_supply>."),
            );
            out.add(
                family,
                &[("power_supply", supply.name)],
                value as f64 / divisor,
            );
        }
    }
    let texts: Vec<_> = TEXTS
        .iter()
        .filter_map(|file| Some((*file, supply.text(file)?)))
        .filter(|(_, text)| !text.is_empty())
        .collect();
    let mut labels = vec![("power_supply", supply.name)];
    labels.extend(texts.iter().map(|(file, text)| (*file, &**text)));
    let info = out.gauge(
        "node_power_supply_info",
        "info of /sys/class/power_supply/<power_supply>.",
    );
    out.add(info, &labels, 1.0);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const TREE: &[(&str, &str)] = &[
        ("/sys/class/power_supply", ""),
        ("/sys/class/power_supply/AC/online", "0\n"),
        ("/sys/class/power_supply/AC/type", "Mains\n"),
        (
            "/sys/class/power_supply/AC/uevent",
            "POWER_SUPPLY_ONLINE=0\n",
        ),
        ("/sys/class/power_supply/BAT0/alarm", "0\n"),
        ("/sys/class/power_supply/BAT0/capacity", "81\n"),
        ("/sys/class/power_supply/BAT0/capacity_level", "Normal\n"),
        ("/sys/class/power_supply/BAT0/cycle_count", "0\n"),
        ("/sys/class/power_supply/BAT0/energy_now", "36580000\n"),
        ("/sys/class/power_supply/BAT0/manufacturer", "\n"),
        ("/sys/class/power_supply/BAT0/power_now", "5002000\n"),
        (
            "/sys/class/power_supply/BAT0/precharge_current",
            "-1500000\n",
        ),
        ("/sys/class/power_supply/BAT0/present", "1\n"),
        ("/sys/class/power_supply/BAT0/serial_number", " 38109\n"),
        ("/sys/class/power_supply/BAT0/status", "Discharging\n"),
        ("/sys/class/power_supply/BAT0/temp", "295\n"),
        ("/sys/class/power_supply/BAT0/type", "Battery\n"),
        ("/sys/class/power_supply/BAT0/voltage_now", "11660000\n"),
    ];

    fn collect(config: &str, files: &Files) -> bulkhead_sdk::Result<Vec<String>> {
        let mut plugin = Harness::<NodeMetrics>::new(config)?;
        Ok(plugin.collect("powersupplyclass", files)?.lines())
    }

    fn tree() -> Files {
        let add = |files: Files, (path, text): &(&str, &str)| files.file(path, text);
        TREE.iter().fold(Files::new(), add)
    }

    #[test]
    fn tells_numbers_and_texts() {
        assert_eq!(
            collect("{}", &tree()).unwrap(),
            [
                r#"node_power_supply_capacity{power_supply="BAT0"} 81"#,
                r#"node_power_supply_cyclecount{power_supply="BAT0"} 0"#,
                r#"node_power_supply_energy_watthour{power_supply="BAT0"} 36.58"#,
                "node_power_supply_info{capacity_level=\"Normal\",power_supply=\"BAT0\",\
                 serial_number=\"38109\",status=\"Discharging\",type=\"Battery\"} 1",
                r#"node_power_supply_info{power_supply="AC",type="Mains"} 1"#,
                r#"node_power_supply_online{power_supply="AC"} 0"#,
                r#"node_power_supply_power_watt{power_supply="BAT0"} 5.002"#,
                r#"node_power_supply_precharge_current{power_supply="BAT0"} -1.5"#,
                r#"node_power_supply_present{power_supply="BAT0"} 1"#,
                r#"node_power_supply_temp_celsius{power_supply="BAT0"} 29.5"#,
                r#"node_power_supply_voltage_volt{power_supply="BAT0"} 11.66"#,
            ]
        );
    }

    #[test]
    fn all_files_are_wanted() {
        let path = |file: &str| format!("/sys/class/power_supply/X/{file}");
        let numbers = super::NUMBERS.iter().map(|(file, _, _)| *file);
        let files = Files::new().file("/sys/class/power_supply", "");
        let files = numbers.fold(files, |files, file| files.file(&path(file), "1"));
        let texts = super::TEXTS.iter();
        let files = texts.fold(files, |files, file| files.file(&path(file), "x"));
        let lines = collect("{}", &files).unwrap();
        assert_eq!(lines.len(), super::NUMBERS.len() + 1);
        let labels = lines.iter().find(|line| line.contains("_info")).unwrap();
        assert_eq!(labels.matches("=\"x\"").count(), super::TEXTS.len());
    }

    #[test]
    fn supplies_may_be_ignored() {
        let config = r#"{"collectors":{"powersupplyclass":{"ignoredSupplies":"^BAT"}}}"#;
        assert_eq!(collect(config, &tree()).unwrap().len(), 2);
    }

    #[test]
    fn without_the_class_is_an_error_and_without_supplies_is_not() {
        assert!(collect("{}", &Files::new()).is_err());
        let class = Files::new().file("/sys/class/power_supply", "");
        assert!(collect("{}", &class).unwrap().is_empty());
    }

    #[test]
    fn survives_nonsense() {
        survives("powersupplyclass", "{}", TREE);
    }
}
