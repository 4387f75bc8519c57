//! How often processors were slowed down for their heat. What threads of a core and cores of a package
//! share is told once.

use std::collections::BTreeMap;

use bulkhead_sdk::{Collector, Families, View};

use crate::sysfs::folders;

const FOLDER: &str = "/sys/devices/system/cpu/";

pub(super) fn wants(mut collector: Collector) -> Collector {
    for file in [
        "topology/physical_package_id",
        "topology/core_id",
        "thermal_throttle/core_throttle_count",
        "thermal_throttle/package_throttle_count",
    ] {
        collector = collector.content(&format!("{FOLDER}cpu[0-9]*/{file}"));
    }
    collector
}

pub(super) fn tell(view: &View, out: &mut Families) {
    let mut of_cores = BTreeMap::new();
    let mut of_packages = BTreeMap::new();
    for cpu in folders(view, FOLDER) {
        let Some(package) = cpu.number::<u64>("topology/physical_package_id") else {
            continue;
        };
        let Some(core) = cpu.number::<u64>("topology/core_id") else {
            continue;
        };
        if let Some(count) = cpu.number::<u64>("thermal_throttle/core_throttle_count") {
            of_cores.entry((package, core)).or_insert(count);
        }
        if let Some(count) = cpu.number::<u64>("thermal_throttle/package_throttle_count") {
            of_packages.entry(package).or_insert(count);
        }
    }
    for ((package, core), count) in of_cores {
        let family = out.counter(
            "node_cpu_core_throttles_total",
            "Number of times this CPU core has been throttled.",
        );
        let (package, core) = (package.to_string(), core.to_string());
        let labels = [("package", package.as_str()), ("core", core.as_str())];
        out.add(family, &labels, count as f64);
    }
    for (package, count) in of_packages {
        let family = out.counter(
            "node_cpu_package_throttles_total",
            "Number of times this CPU package has been throttled.",
        );
        out.add(family, &[("package", &package.to_string())], count as f64);
    }
}
