//! Memory, of `/proc/meminfo`.

use std::collections::BTreeMap;

use bulkhead_sdk::{Collector, Families, Result, View};

use super::Collect;
use crate::sysfs::whole_at;
use crate::text::{is_name_part, require};

const PATH: &str = "/proc/meminfo";

pub(crate) struct Meminfo;

impl Collect for Meminfo {
    fn wants(&self) -> Collector {
        Collector::new("meminfo").content(PATH)
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let text = whole_at(view, PATH)?;
        let fields: BTreeMap<String, f64> = text.lines().filter_map(field).collect();
        for (field, value) in &fields {
            let name = format!("node_memory_{field}");
            let help = format!("Memory information field {field}.");
            let family = match field.ends_with("_total") {
                true => out.counter(&name, &help),
                false => out.gauge(&name, &help),
            };
            out.add(family, &[], *value);
        }
        require(!fields.is_empty(), PATH)
    }
}

/// `Active(anon):   1234 kB` is 1263616 bytes of `Active_anon_bytes`.
fn field(line: &str) -> Option<(String, f64)> {
    let (key, rest) = line.split_once(':')?;
    let mut words = rest.split_ascii_whitespace();
    let value: f64 = words.next()?.parse().ok()?;
    let (unit, factor) = match (words.next(), words.next()) {
        (None, _) => ("", 1.0),
        (Some(_), None) => ("_bytes", 1024.0),
        _ => return None,
    };
    let mut name = key.trim().replace('(', "_").replace(')', "");
    name.push_str(unit);
    is_name_part(&name).then_some((name, value * factor))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const MEMINFO: &str = "\
MemTotal:       15666184 kB

Active(anon):    2068484 kB
HugePages_Total:       0
DirectMap2M:           2 MB too
Torn:
VmallocTotal:   34359738367 kB
";

    fn collect(text: &str) -> bulkhead_sdk::Result<Vec<String>> {
        let mut plugin = Harness::<NodeMetrics>::new("{}")?;
        let files = Files::new().file("/proc/meminfo", text);
        Ok(plugin.collect("meminfo", &files)?.lines())
    }

    #[test]
    fn tells_fields_in_bytes() {
        assert_eq!(
            collect(MEMINFO).unwrap(),
            [
                "node_memory_Active_anon_bytes 2118127616",
                "node_memory_HugePages_Total 0",
                "node_memory_MemTotal_bytes 16042172416",
                "node_memory_VmallocTotal_bytes 35184372087808",
            ]
        );
    }

    #[test]
    fn survives_nonsense() {
        assert!(collect("").is_err());
        assert!(collect("MemTotal kB\n").is_err());
        survives("meminfo", "{}", &[("/proc/meminfo", MEMINFO)]);
    }
}
