//! One sensor: a number of files, whose names tell what they measure and in which unit.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bulkhead_sdk::Families;

/// A file's name as its kind, its number (0 if there is none), and the property, which may be empty:
/// `temp1_crit` is `temp`, 1 and `crit`.
pub(super) fn split(file: &str) -> Option<(&str, u32, &str)> {
    let digits_at = file
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(file.len());
    let (kind, rest) = file.split_at_checked(digits_at)?;
    let digits_end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, property) = rest.split_at_checked(digits_end)?;
    let number = match digits {
        "" => 0,
        digits => digits.parse().ok()?,
    };
    match property {
        "" if !kind.is_empty() => Some((kind, number, "")),
        _ if kind.is_empty() => None,
        _ => Some((kind, number, property.strip_prefix('_')?)),
    }
}

/// What the files of a sensor say, by property.
#[derive(Debug)]
pub(super) struct Sensor<'a> {
    kind: &'a str,
    pub(super) properties: BTreeMap<&'a str, Cow<'a, str>>,
}

type Labels<'a> = [(&'a str, &'a str); 2];

impl<'a> Sensor<'a> {
    pub(super) fn new(kind: &'a str) -> Self {
        let properties = BTreeMap::new();
        Self { kind, properties }
    }

    /// Adds its series.
    pub(super) fn tell(&self, labels: &Labels, out: &mut Families) {
        if let Some(label) = self.properties.get("label") {
            let family = out.gauge("node_hwmon_sensor_label", "Label for given chip and sensor");
            let [chip, sensor] = *labels;
            out.add(family, &[chip, sensor, ("label", label)], 1.0);
        }
        let own = self.properties.get("");
        let own_number = own.and_then(|text| number(text));
        match self.kind {
            "beep_enable" => {
                let is_on = own.is_some_and(|text| text == "1");
                let family = out.gauge("node_hwmon_beep_enabled", "Hardware beep enabled");
                out.add(family, labels, f64::from(u8::from(is_on)));
            }
            "vrm" => {
                if let Some(value) = own_number {
                    let family = out.gauge(
                        "node_hwmon_voltage_regulator_version",
                        "Hardware voltage regulator",
                    );
                    out.add(family, labels, value);
                }
            }
            "update_interval" => {
                if let Some(value) = own_number {
                    let family = out.gauge(
                        "node_hwmon_update_interval_seconds",
                        "Hardware monitor update interval",
                    );
                    out.add(family, labels, value * 0.001);
                }
            }
            _ => self.tell_properties(labels, out),
        }
    }

    fn tell_properties(&self, labels: &Labels, out: &mut Families) {
        for (&property, text) in &self.properties {
            let Some(value) = number(text) else {
                continue;
            };
            // The input is what is measured, but for files without a property.
            let suffix = match property {
                "input" if self.properties.contains_key("") => "_input".to_owned(),
                "label" => continue,
                "" | "input" => String::new(),
                other => format!("_{}", super::clean(other)),
            };
            let Measure { unit, help, factor } = self.measure(property);
            let name = format!("node_hwmon_{}{suffix}{unit}", self.kind);
            let family = match unit {
                "_joule_total" => out.counter(&name, &help),
                _ => out.gauge(&name, &help),
            };
            out.add(family, labels, factor.of(value));
        }
    }

    fn measure(&self, property: &str) -> Measure {
        let kind = self.kind;
        let (unit, help, factor) = match (kind, property) {
            (_, "fault" | "alarm") => (
                "",
                format!("Hardware sensor {property} status ({kind})"),
                Factor::One,
            ),
            (_, "beep") => (
                "_enabled",
                "Hardware monitor sensor has beeping enabled".to_owned(),
                Factor::One,
            ),
            ("in" | "cpu", _) => (
                "_volts",
                format!("Hardware monitor for voltage ({property})"),
                Factor::Milli,
            ),
            ("temp", property) if property != "type" => {
                let property = if property.is_empty() {
                    "input"
                } else {
                    property
                };
                (
                    "_celsius",
                    format!("Hardware monitor for temperature ({property})"),
                    Factor::Milli,
                )
            }
            ("curr", _) => (
                "_amps",
                format!("Hardware monitor for current ({property})"),
                Factor::Milli,
            ),
            ("energy", _) => (
                "_joule_total",
                format!("Hardware monitor for joules used so far ({property})"),
                Factor::Micro,
            ),
            ("power", "accuracy") => (
                "",
                "Hardware monitor power meter accuracy, as a ratio".to_owned(),
                Factor::Micro,
            ),
            ("power", "average_interval" | "average_interval_min" | "average_interval_max") => (
                "_seconds",
                format!("Hardware monitor power usage update interval ({property})"),
                Factor::Milli,
            ),
            ("power", _) => (
                "_watt",
                format!("Hardware monitor for power usage in watts ({property})"),
                Factor::Micro,
            ),
            ("humidity", _) => (
                "",
                format!(
                    "Hardware monitor for humidity, as a ratio (multiply with 100.0 to get the \
                     humidity as a percentage) ({property})"
                ),
                Factor::Micro,
            ),
            ("fan", "input" | "min" | "max" | "target") => (
                "_rpm",
                format!("Hardware monitor for fan revolutions per minute ({property})"),
                Factor::One,
            ),
            _ => (
                "",
                format!("Hardware monitor {kind} element {property}"),
                Factor::One,
            ),
        };
        Measure { unit, help, factor }
    }
}

struct Measure {
    unit: &'static str,
    help: String,
    factor: Factor,
}

/// What the kernel's unit is of the metric's.
enum Factor {
    One,
    Milli,
    Micro,
}

impl Factor {
    /// Computed as the node exporter does, so that values are the same to the last bit.
    fn of(&self, value: f64) -> f64 {
        match self {
            Self::One => value,
            Self::Milli => value * 0.001,
            Self::Micro => value / 1e6,
        }
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}
