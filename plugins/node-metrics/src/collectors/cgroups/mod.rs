//! What each container of each pod uses, of the pods' control groups: version 1 and 2, made by the
//! kubelet with either of its drivers.
//!
//! The node exporter has no such collector. Series have the labels `namespace`, `pod` and `container`;
//! what a pod needs for itself (its sandbox, the `pause` container) has no `container`. So the sum over
//! all series is what pods use. Where there are no pods, nothing is told.

mod io;
mod names;
mod table;

use std::collections::BTreeMap;

use bulkhead_sdk::metrics::Entry;
use bulkhead_sdk::{Collector, Families, Result, View, bail};

use super::Collect;
use names::{Names, Owner};

const ROOT: &str = "/sys/fs/cgroup/";

/// The wants after these are files of control groups.
const CONTAINER_LOGS: usize = 0;
const POD_LOGS: usize = 1;
const DISKS: usize = 2;

pub(crate) struct Cgroups;

impl Collect for Cgroups {
    fn wants(&self) -> Collector {
        let mut collector = Collector::new("cgroups")
            .names("/var/log/containers/*.log")
            .names("/var/log/pods/*")
            .content("/proc/diskstats");
        // Pods with guaranteed resources lie beside a folder for each of the other two classes. In names
        // of pods and containers are hexadecimal digits, in those of classes and files hardly any.
        let container = format!("*{}*", "[0-9a-f]".repeat(8));
        let pods = [
            format!("kubepods*/*pod[0-9a-f]*/{container}"),
            format!("kubepods*/*b[eu][rs][st]*/*pod[0-9a-f]*/{container}"),
        ];
        // Globs that match what is needed of each version, and no other file of it.
        for (hierarchy, files) in [
            // cpu.stat, io.stat, memory.stat; not cgroup.stat
            ("", "[cim]*[ouy].stat"),
            ("", "[cim]*[ouy].pressure"),
            // memory.current, memory.events
            ("", "memory.[ce]*[ts]"),
            ("", "memory.max"),
            ("cpu/", "cpu.stat"),
            // cpuacct.stat, cpuacct.usage
            ("cpuacct/", "cpuacct.[su]*[et]"),
            // memory.limit_in_bytes, memory.usage_in_bytes
            ("memory/", "memory.[lu]*_in_bytes"),
            ("memory/", "memory.stat"),
            ("memory/", "memory.oom_control"),
            // io_service_bytes, io_serviced
            ("blkio/", "blkio.throttle.io_service*[ds]"),
        ] {
            for pods in &pods {
                collector = collector.content(&format!("{ROOT}{hierarchy}{pods}/{files}"));
            }
        }
        collector
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let groups = Group::all(view);
        let names = Names::new(view.want(CONTAINER_LOGS), view.want(POD_LOGS));
        let mut by_owner: BTreeMap<Owner, Vec<&Group>> = BTreeMap::new();
        for group in &groups {
            if let Some(owner) = names.owner(&group.pod, group.container) {
                by_owner.entry(owner).or_default().push(group);
            }
        }
        if by_owner.is_empty() && !groups.is_empty() {
            bail!("there are pods, but none is named in /var/log/pods or /var/log/containers");
        }
        let disks = io::disks(view.want(DISKS).next());
        for (owner, groups) in by_owner {
            // Of two without a name, one is a container that just starts.
            let is_clear = owner.container.is_some() || groups.len() == 1;
            if let Some(group) = groups.first().filter(|_| is_clear) {
                table::tell(group, &owner.labels(), &disks, out);
            }
        }
        Ok(())
    }
}

/// The files of one container, of all hierarchies.
#[derive(Debug)]
struct Group<'a> {
    /// The pod's UID.
    pod: String,
    container: &'a str,
    files: Vec<Entry<'a>>,
}

impl<'a> Group<'a> {
    fn all(view: &'a View) -> Vec<Self> {
        let mut groups: BTreeMap<(&str, &str), Vec<Entry>> = BTreeMap::new();
        for file in view.files() {
            if let Some(path) = file.path().strip_prefix(ROOT) {
                let mut components = path.rsplit('/').skip(1);
                if let (Some(container), Some(pod)) = (components.next(), components.next()) {
                    groups.entry((pod, container)).or_default().push(file);
                }
            }
        }
        groups
            .into_iter()
            .filter_map(|((pod, container), files)| {
                Some(Self {
                    pod: names::pod_uid(pod)?,
                    container: names::container_id(container)?,
                    files,
                })
            })
            .collect()
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.files
            .iter()
            .find(|file| file.name() == name)
            .and_then(Entry::text)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
