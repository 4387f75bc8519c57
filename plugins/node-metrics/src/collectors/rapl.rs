//! Energy used by the processor's parts, of `/sys/class/powercap`.

use std::collections::HashMap;

use bulkhead_sdk::{Collector, Families, Result, View};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Collect;
use crate::sysfs::{folders, require_class, require_told};

const CLASS: &str = "/sys/class/powercap";

/// The collector `rapl`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Whether it is on; if absent, as all are.
    pub enabled: Option<bool>,
    /// Tells the zone by the label `rapl_zone` of one metric instead of by a metric for each zone.
    pub zone_label: bool,
}

pub(crate) struct Rapl {
    zone_label: bool,
}

impl Rapl {
    pub(crate) fn new(options: &Options) -> Self {
        let zone_label = options.zone_label;
        Self { zone_label }
    }
}

impl Collect for Rapl {
    fn wants(&self) -> Collector {
        Collector::new("rapl")
            .names(CLASS)
            .content("/sys/class/powercap/*/name")
            .content("/sys/class/powercap/*/energy_uj")
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        require_class(view, CLASS)?;
        let zones = folders(view, "/sys/class/powercap/");
        let mut next_index: HashMap<String, u64> = HashMap::new();
        let mut told = 0;
        for zone in &zones {
            let Some(name) = zone.text("name") else {
                continue;
            };
            let (name, index) = match numbered(&name) {
                Some(numbered) => numbered,
                None => (&*name, next_index.get(&*name).copied().unwrap_or_default()),
            };
            next_index.insert(name.to_owned(), index.saturating_add(1));
            let Some(microjoules) = zone.number::<u64>("energy_uj") else {
                continue;
            };
            told += 1;
            let joules = microjoules as f64 / 1e6;
            let (index, path) = (index.to_string(), format!("{CLASS}/{}", zone.name));
            if self.zone_label {
                let family = out.counter("node_rapl_joules_total", "Current RAPL value in joules");
                let labels = [("index", &*index), ("path", &path), ("rapl_zone", name)];
                out.add(family, &labels, joules);
            } else {
                let family = out.counter(
                    &format!("node_rapl_{}_joules_total", in_a_name(name)),
                    &format!("Current RAPL {name} value in joules"),
                );
                out.add(family, &[("index", &index), ("path", &path)], joules);
            }
        }
        require_told(&zones, told)
    }
}

/// A name as `package-1` has its number in it. Others are counted.
fn numbered(name: &str) -> Option<(&str, u64)> {
    let (name, number) = name.split_once('-')?;
    Some((name, number.parse().ok()?))
}

/// The name with an underscore for each run of what a metric's name cannot have.
fn in_a_name(name: &str) -> String {
    let mut clean = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        let (head, tail) = rest.split_at(at);
        clean.push_str(head.trim_end_matches('_'));
        clean.push('_');
        rest = tail.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    }
    clean + rest
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::in_a_name;
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const TREE: &[(&str, &str)] = &[
        ("/sys/class/powercap", ""),
        ("/sys/class/powercap/intel-rapl/enabled", "1\n"),
        (
            "/sys/class/powercap/intel-rapl:0/energy_uj",
            "240422366267\n",
        ),
        ("/sys/class/powercap/intel-rapl:0/name", "package-0\n"),
        (
            "/sys/class/powercap/intel-rapl:0:0/energy_uj",
            "118821284256\n",
        ),
        ("/sys/class/powercap/intel-rapl:0:0/name", "dram\n"),
        ("/sys/class/powercap/intel-rapl:1/energy_uj", "1500000\n"),
        ("/sys/class/powercap/intel-rapl:1/name", "package-1\n"),
        ("/sys/class/powercap/intel-rapl:1:0/energy_uj", "0\n"),
        ("/sys/class/powercap/intel-rapl:1:0/name", "dram\n"),
    ];

    fn collect(config: &str, files: &Files) -> bulkhead_sdk::Result<Vec<String>> {
        let mut plugin = Harness::<NodeMetrics>::new(config)?;
        Ok(plugin.collect("rapl", files)?.lines())
    }

    fn tree() -> Files {
        let add = |files: Files, (path, text): &(&str, &str)| files.file(path, text);
        TREE.iter().fold(Files::new(), add)
    }

    #[test]
    fn tells_joules_of_each_zone() {
        let line = |zone: &str, index: u8, folder: &str, joules: &str| {
            format!(
                "node_rapl_{zone}_joules_total{{index=\"{index}\",\
                 path=\"/sys/class/powercap/{folder}\"}} {joules}"
            )
        };
        assert_eq!(
            collect("{}", &tree()).unwrap(),
            [
                line("dram", 0, "intel-rapl:0:0", "118821.284256"),
                line("dram", 1, "intel-rapl:1:0", "0"),
                line("package", 0, "intel-rapl:0", "240422.366267"),
                line("package", 1, "intel-rapl:1", "1.5"),
            ]
        );
    }

    #[test]
    fn the_zone_may_be_a_label() {
        let config = r#"{"collectors":{"rapl":{"zoneLabel":true}}}"#;
        assert_eq!(
            collect(config, &tree()).unwrap()[0],
            "node_rapl_joules_total{index=\"0\",path=\"/sys/class/powercap/intel-rapl:0\",\
             rapl_zone=\"package\"} 240422.366267"
        );
    }

    #[test]
    fn what_may_not_be_read_is_an_error() {
        assert!(collect("{}", &Files::new()).is_err());
        let class = Files::new().file("/sys/class/powercap", "");
        assert!(collect("{}", &class).unwrap().is_empty());
        let denied = class
            .file("/sys/class/powercap/intel-rapl:0/name", "package-0\n")
            .unreadable("/sys/class/powercap/intel-rapl:0/energy_uj", 13);
        assert!(collect("{}", &denied).is_err());
    }

    #[test]
    fn names_are_made_fit_for_a_metric() {
        assert_eq!(in_a_name("psys"), "psys");
        assert_eq!(in_a_name("a_-_b.:c"), "a_b_c");
        assert_eq!(in_a_name("-"), "_");
    }

    #[test]
    fn survives_nonsense() {
        survives("rapl", "{}", TREE);
        survives(
            "rapl",
            r#"{"collectors":{"rapl":{"zoneLabel":true}}}"#,
            TREE,
        );
    }
}
