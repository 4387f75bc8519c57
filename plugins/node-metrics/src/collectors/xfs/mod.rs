//! Counters of XFS file systems, of `/sys/fs/xfs`: <https://xfs.org/index.php/Runtime_Stats>.

mod lines;

use bulkhead_sdk::{Collector, Families, Result, View};

use super::Collect;
use crate::sysfs::{folders, require_told, whole};
use lines::{LINES, Line};

pub(crate) struct Xfs;

impl Collect for Xfs {
    fn wants(&self) -> Collector {
        Collector::new("xfs").content("/sys/fs/xfs/*/stats/stats")
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let file_systems = folders(view, "/sys/fs/xfs/");
        let mut told = 0;
        for file_system in &file_systems {
            if let Some(file) = file_system.get("stats/stats")
                && let Some(text) = whole(file)
                && !text.is_empty()
            {
                for line in LINES {
                    line.tell(&text, file_system.name, out);
                }
                told += 1;
            }
        }
        require_told(&file_systems, told)
    }
}

impl Line {
    /// Adds its counters: 0 if the line is not there, and nothing if it makes no sense.
    fn tell(&self, text: &str, device: &str, out: &mut Families) {
        let rest = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .find_map(|(word, rest)| (word == self.word).then_some(rest));
        let numbers: Option<Vec<u64>> = rest
            .unwrap_or_default()
            .split_ascii_whitespace()
            .map(|number| number.parse().ok())
            .collect();
        let Some(numbers) = numbers else {
            return;
        };
        if rest.is_some() && numbers.len() < self.counters.len() {
            return;
        }
        for (index, (name, help)) in self.counters.iter().enumerate() {
            let count = numbers.get(index).copied().unwrap_or_default();
            let family = out.counter(name, help);
            out.add(family, &[("device", device)], count as f64);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Found, Harness};

    const STATS: &str = "\
extent_alloc 1 2 3 4
abt 0 0 0 0
blk_map 61 29 1 7 8 91 9
bmbt 0 0 0 0
dir 3 2 1 52
trans 4 40 0
ig 5 1 0 4 0 0 6
log 8 21 0 5821 4
push_ail 44684 0 1320 1317 0 0 0 2 0 77
xstrat 1 0
rw 28 17
vnodes 4 0 0 0 1 1 1 0
xpc 399724544 92823103 86219234
debug 0
";

    fn collect(files: &Files) -> bulkhead_sdk::Result<Found> {
        Harness::<NodeMetrics>::new("{}")?.collect("xfs", files)
    }

    fn path(device: &str) -> String {
        format!("/sys/fs/xfs/{device}/stats/stats")
    }

    #[test]
    fn tells_of_each_file_system() {
        let files = Files::new()
            .file("/sys/fs/xfs/stats/stats", STATS)
            .file(&path("sda1"), STATS)
            .file(&path("dm-0"), "rw 1 2\nig torn\n");
        let found = collect(&files).unwrap();
        for (series, value) in [
            (
                r#"node_xfs_extent_allocation_extents_allocated_total{device="sda1"}"#,
                1.0,
            ),
            (
                r#"node_xfs_block_mapping_extent_list_compares_total{device="sda1"}"#,
                9.0,
            ),
            (
                r#"node_xfs_directory_operation_getdents_total{device="sda1"}"#,
                52.0,
            ),
            (
                r#"node_xfs_inode_operation_attribute_changes_total{device="sda1"}"#,
                6.0,
            ),
            (r#"node_xfs_read_calls_total{device="sda1"}"#, 17.0),
            (r#"node_xfs_write_calls_total{device="sda1"}"#, 28.0),
            (r#"node_xfs_vnode_remove_total{device="sda1"}"#, 1.0),
            (r#"node_xfs_read_calls_total{device="dm-0"}"#, 2.0),
            (r#"node_xfs_vnode_remove_total{device="dm-0"}"#, 0.0),
        ] {
            assert_eq!(found.value(series), Some(value), "{series}");
        }
        assert_eq!(found.lines().len(), 39 + 39 - 7);
    }

    #[test]
    fn no_file_system_is_no_error_but_an_empty_file_is() {
        assert!(collect(&Files::new()).unwrap().lines().is_empty());
        assert!(collect(&Files::new().file(&path("sda1"), "")).is_err());
    }

    #[test]
    fn survives_nonsense() {
        survives("xfs", "{}", &[(&path("sda1"), STATS)]);
    }
}
