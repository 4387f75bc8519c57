//! What a collector found, checked as the host checks it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::bail;
use crate::bindings::metrics::exports::bulkhead::plugin::metrics as raw;
use crate::error::Result;

/// The series of one call.
///
/// ```
#[doc = include_str!("../metrics/example.txt")]
/// # plugin!(Collector::new("netdev").content("/sys/class/net/*/operstate"), |view, out| {
/// #     let up = out.gauge("node_network_up", "");
/// #     for file in view.files() {
/// #         let device = file.path().split('/').nth(4).unwrap();
/// #         out.add(up, &[("device", device)], f64::from(u8::from(file.text() == Some("up\n"))));
/// #     }
/// # });
/// let files = Files::new().file("/sys/class/net/eth0/operstate", "up\n");
/// let found = Harness::<MyPlugin>::new("{}")?.collect("netdev", &files)?;
/// assert_eq!(found.value(r#"node_network_up{device="eth0"}"#), Some(1.0));
/// # bulkhead_sdk::Result::<()>::Ok(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    series: Vec<(String, f64)>,
    types: Vec<(String, &'static str)>,
}

impl Found {
    pub(super) fn check(families: &raw::Families) -> Result<Self> {
        let text = |offset: u32, length: u32| -> Result<&str> {
            let start = offset as usize;
            let Some(bytes) = families.bytes.get(start..start + length as usize) else {
                bail!("a span leads out of the bytes");
            };
            Ok(std::str::from_utf8(bytes)?)
        };
        let mut names = Vec::new();
        let mut types = Vec::new();
        for family in &families.families {
            let name = text(family.name_offset, family.name_length)?;
            if !is_name(name, true) {
                bail!("{name:?} is no name of a metric");
            }
            let unit = text(family.unit_offset, family.unit_length)?;
            let base = name.strip_suffix("_total").unwrap_or(name);
            if !unit.is_empty() && !base.ends_with(&format!("_{unit}")) {
                bail!("{name} does not end in its unit {unit}");
            }
            names.push(name);
            types.push((name.to_owned(), type_name(family.kind)));
        }
        let (mut labels, mut points) = (families.labels.iter(), families.points.iter());
        let mut known = BTreeSet::new();
        let mut found = Vec::new();
        for series in &families.series {
            let Some(name) = names.get(series.family as usize) else {
                bail!("a series of family {}, which is not there", series.family);
            };
            let mut pairs = Vec::new();
            for label in labels.by_ref().take(series.labels as usize) {
                let label_name = text(label.name_offset, label.name_length)?;
                if !is_name(label_name, false) || label_name.starts_with("__") {
                    bail!("{name}: {label_name:?} is no name of a label");
                }
                pairs.push((label_name, text(label.value_offset, label.value_length)?));
            }
            pairs.sort_unstable();
            if pairs.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                bail!("{name} has a label twice");
            }
            let spelled = spell(name, &pairs, None);
            if !known.insert(spelled.clone()) {
                bail!("{spelled} comes twice");
            }
            let kind = families.families[series.family as usize].kind;
            let (suffix, bound) = match kind {
                raw::Kind::Histogram => ("_bucket", "le"),
                raw::Kind::Summary => ("", "quantile"),
                _ => {
                    found.push((spelled, series.value));
                    continue;
                }
            };
            for point in points.by_ref().take(series.points as usize) {
                let at = if point.at == f64::INFINITY {
                    "+Inf".to_owned()
                } else {
                    point.at.to_string()
                };
                let name = format!("{name}{suffix}");
                found.push((spell(&name, &pairs, Some((bound, &at))), point.value));
            }
            found.push((spell(&format!("{name}_sum"), &pairs, None), series.value));
            found.push((spell(&format!("{name}_count"), &pairs, None), series.count));
        }
        Ok(Self {
            series: found,
            types,
        })
    }

    /// The value of a series, spelled as in the text format with labels in alphabetical order.
    ///
    /// ```
    #[doc = include_str!("../metrics/example.txt")]
    /// # let found = found!(Files::new(), |_, out| {
    /// #     let cpu = out.counter("node_cpu_seconds_total", "");
    /// #     out.add(cpu, &[("mode", "idle"), ("cpu", "0")], 1.5);
    /// # });
    /// assert_eq!(found.value(r#"node_cpu_seconds_total{cpu="0",mode="idle"}"#), Some(1.5));
    /// assert_eq!(found.value("node_cpu_seconds_total"), None);
    /// ```
    pub fn value(&self, series: &str) -> Option<f64> {
        self.series
            .iter()
            .find_map(|(known, value)| (known == series).then_some(*value))
    }

    /// The type of a family, by name: `counter`, `gauge`, `untyped` and so on.
    ///
    /// ```
    #[doc = include_str!("../metrics/example.txt")]
    /// # let found = found!(Files::new(), |_, out| _ = out.gauge("node_load1", ""));
    /// assert_eq!(found.kind("node_load1"), Some("gauge"));
    /// ```
    pub fn kind(&self, family: &str) -> Option<&'static str> {
        self.types
            .iter()
            .find_map(|(known, kind)| (known == family).then_some(*kind))
    }

    /// All series, one a line with its value, in alphabetical order.
    ///
    /// ```
    #[doc = include_str!("../metrics/example.txt")]
    /// # let found = found!(Files::new(), |_, out| {
    /// #     for (name, load) in [("node_load5", 0.5), ("node_load1", 0.25)] {
    /// #         let family = out.gauge(name, "");
    /// #         out.add(family, &[], load);
    /// #     }
    /// # });
    /// assert_eq!(found.lines(), ["node_load1 0.25", "node_load5 0.5"]);
    /// ```
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .series
            .iter()
            .map(|(series, value)| format!("{series} {value}"))
            .collect();
        lines.sort();
        lines
    }
}

fn type_name(kind: raw::Kind) -> &'static str {
    match kind {
        raw::Kind::Counter => "counter",
        raw::Kind::Gauge => "gauge",
        raw::Kind::Histogram => "histogram",
        raw::Kind::Summary => "summary",
        raw::Kind::Info => "info",
        raw::Kind::Untyped => "untyped",
    }
}

/// <https://prometheus.io/docs/concepts/data_model/>
fn is_name(name: &str, of_metric: bool) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || (of_metric && c == ':');
    name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit())
}

fn spell(name: &str, labels: &[(&str, &str)], more: Option<(&str, &str)>) -> String {
    let mut spelled = name.to_owned();
    let mut before = '{';
    for (name, value) in labels.iter().copied().chain(more) {
        let _ = write!(spelled, "{before}{name}={value:?}");
        before = ',';
    }
    if before == ',' {
        spelled.push('}');
    }
    spelled
}
