//! Sensors of temperature, voltage, fans and so on, of `/sys/class/hwmon`:
//! <https://docs.kernel.org/hwmon/sysfs-interface.html>.

mod sensor;

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_sdk::{Collector, Families, Result, View};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Collect;
use crate::filter::Filter;
use crate::sysfs::{Folder, folders, line, require_class, text};
use sensor::Sensor;

const CLASS: &str = "/sys/class/hwmon";

/// What a sensor's files begin with, followed by its number.
const NUMBERED: &[&str] = &[
    "in",
    "cpu",
    "fan",
    "pwm",
    "temp",
    "curr",
    "power",
    "energy",
    "humidity",
    "intrusion",
];

/// Files that are of the whole chip.
const OF_CHIP: &[&str] = &["vrm", "beep_enable", "update_interval"];

/// The collector `hwmon`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Whether it is on; if absent, as all are.
    pub enabled: Option<bool>,
    /// Regular expression of chips to tell of, by the label `chip`. If empty, all.
    pub chip_include: String,
    /// Regular expression of chips to leave out. If empty, none.
    pub chip_exclude: String,
}

pub(crate) struct Hwmon {
    chips: Filter,
}

impl Hwmon {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        Ok(Self {
            chips: Filter::new(
                &options.chip_include,
                &options.chip_exclude,
                "collectors.hwmon.chip",
            )?,
        })
    }
}

impl Collect for Hwmon {
    fn wants(&self) -> Collector {
        let mut collector = Collector::new("hwmon")
            .names(CLASS)
            .targets("/sys/class/hwmon/*/device")
            .content("/sys/class/hwmon/*/name");
        // Older drivers have their sensors in the device's folder.
        for folder in ["*", "*/device"] {
            for kind in NUMBERED {
                collector = collector.content(&format!("{CLASS}/{folder}/{kind}[0-9]*"));
            }
            for file in OF_CHIP {
                collector = collector.content(&format!("{CLASS}/{folder}/{file}"));
            }
        }
        collector
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        require_class(view, CLASS)?;
        let mut told = BTreeSet::new();
        for folder in folders(view, "/sys/class/hwmon/") {
            let chip = chip(&folder);
            if self.chips.accepts(&chip) {
                tell(&folder, &chip, &mut told, out);
            }
        }
        Ok(())
    }
}

/// `told` has the pairs of chip and sensor so far: a device may have several folders.
fn tell(folder: &Folder, chip: &str, told: &mut BTreeSet<(String, String)>, out: &mut Families) {
    let mut is_new = |what: &str| told.insert((chip.to_owned(), what.to_owned()));
    if let Some(name) = driver(folder)
        && is_new(&format!("name {name}"))
    {
        let names = out.gauge(
            "node_hwmon_chip_names",
            "Annotation metric for human-readable chip names",
        );
        out.add(names, &[("chip", chip), ("chip_name", &name)], 1.0);
    }
    let mut sensors: BTreeMap<String, Sensor> = BTreeMap::new();
    // Those of the device's folder come last, and count.
    for (path, file) in folder.files() {
        let path = path.strip_prefix("device/").unwrap_or(path);
        if let Some((kind, number, property)) = sensor::split(path)
            && (NUMBERED.contains(&kind) || OF_CHIP.contains(&kind))
            && let Some(value) = line(file)
        {
            sensors
                .entry(format!("{kind}{number}"))
                .or_insert_with(|| Sensor::new(kind))
                .properties
                .insert(property, value);
        }
    }
    for (name, sensor) in sensors.iter().filter(|(name, _)| is_new(name)) {
        sensor.tell(&[("chip", chip), ("sensor", name)], out);
    }
}

/// A name that stays the same when modules are loaded in another order: after the device, the driver,
/// or if there is neither the folder.
fn chip(folder: &Folder) -> String {
    let device = folder.get("device").and_then(text).unwrap_or_default();
    let mut parts = device.rsplit('/').map(clean);
    let (name, bus) = (parts.next().unwrap_or_default(), parts.next());
    match bus {
        Some(bus) if !bus.is_empty() && !name.is_empty() => format!("{bus}_{name}"),
        _ if !name.is_empty() => name,
        _ => driver(folder).unwrap_or_else(|| clean(folder.name)),
    }
}

/// What the driver calls itself.
fn driver(folder: &Folder) -> Option<String> {
    let name = clean(&folder.text("name")?);
    (!name.is_empty()).then_some(name)
}

/// Lower case, with underscores for what a metric's name cannot have, and none around it.
fn clean(name: &str) -> String {
    let lower = name.to_lowercase();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == ':' || c == '_';
    let replaced: String = lower
        .chars()
        .map(|c| if fits(c) { c } else { '_' })
        .collect();
    replaced.trim_matches('_').to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
