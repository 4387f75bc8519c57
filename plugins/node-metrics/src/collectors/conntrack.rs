//! Connection tracking of the packet filter. Its files are there when its module is loaded.

use bulkhead_sdk::{Collector, Families, Result, View};

use super::Collect;
use crate::sysfs::whole_at;
use crate::text::{hex, integer_at};

const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
const LIMIT: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
const STAT: &str = "/proc/net/stat/nf_conntrack";

/// Columns, of which a line has so many, and what they are told as.
const COLUMNS: [(usize, &str, &str); 8] = [
    (
        2,
        "node_nf_conntrack_stat_found",
        "Number of searched entries which were successful.",
    ),
    (
        4,
        "node_nf_conntrack_stat_invalid",
        "Number of packets seen which can not be tracked.",
    ),
    (
        5,
        "node_nf_conntrack_stat_ignore",
        "Number of packets seen which are already connected to a conntrack entry.",
    ),
    (
        8,
        "node_nf_conntrack_stat_insert",
        "Number of entries inserted into the list.",
    ),
    (
        9,
        "node_nf_conntrack_stat_insert_failed",
        "Number of entries for which list insertion was attempted but failed.",
    ),
    (
        10,
        "node_nf_conntrack_stat_drop",
        "Number of packets dropped due to conntrack failure.",
    ),
    (
        11,
        "node_nf_conntrack_stat_early_drop",
        "Number of dropped conntrack entries to make room for new ones, if maximum table size was \
         reached.",
    ),
    (
        16,
        "node_nf_conntrack_stat_search_restart",
        "Number of conntrack table lookups which had to be restarted due to hashtable resizes.",
    ),
];
const WIDTH: usize = 17;

pub(crate) struct Conntrack;

impl Collect for Conntrack {
    fn wants(&self) -> Collector {
        let collector = Collector::new("conntrack").content(COUNT);
        collector.content(LIMIT).content(STAT)
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let (count, limit) = (integer_at(view, COUNT)?, integer_at(view, LIMIT)?);
        let stat = whole_at(view, STAT)?;

        let help = "Number of currently allocated flow entries for connection tracking.";
        let family = out.gauge("node_nf_conntrack_entries", help);
        out.add(family, &[], count as f64);
        let help = "Maximum size of connection tracking table.";
        let family = out.gauge("node_nf_conntrack_entries_limit", help);
        out.add(family, &[], limit as f64);

        // A line of names, and one for each processor.
        let lines = stat.lines().skip(1);
        let lines = lines.filter(|line| line.split_ascii_whitespace().count() == WIDTH);
        for (column, name, help) in COLUMNS {
            let numbers = lines.clone().map(|line| {
                let word = line.split_ascii_whitespace().nth(column);
                word.and_then(hex).unwrap_or_default()
            });
            let family = out.gauge(name, help);
            out.add(family, &[], numbers.fold(0, u64::wrapping_add) as f64);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::{COUNT, LIMIT, STAT};
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Harness};

    const TABLE: &str = "\
entries  searched found new invalid ignore delete delete_list insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart
00000021  00000001 00000002 00000003 00000004 0000000a 00000006 00000007 00000008  00000009 0000000a 0000000b 0000000c  0000000d 0000000e 0000000f 00000010
00000021  00000000 00000001 00000000 00000003 00001234 00000000 00000000 00000000  00000000 00000000 00000000 00000000  00000000 00000000 00000000 00000001
00000021  00000000 00000001
";
    const TREE: &[(&str, &str)] = &[(COUNT, "123\n"), (LIMIT, "65536\n"), (STAT, TABLE)];

    fn collect(tree: &[(&str, &str)]) -> bulkhead_sdk::Result<Vec<String>> {
        let add = |files: Files, (path, text): &(&str, &str)| files.file(path, text);
        let files = tree.iter().fold(Files::new(), add);
        let mut plugin = Harness::<NodeMetrics>::new("{}")?;
        Ok(plugin.collect("conntrack", &files)?.lines())
    }

    #[test]
    fn adds_up_what_processors_counted() {
        assert_eq!(
            collect(TREE).unwrap(),
            [
                "node_nf_conntrack_entries 123",
                "node_nf_conntrack_entries_limit 65536",
                "node_nf_conntrack_stat_drop 10",
                "node_nf_conntrack_stat_early_drop 11",
                "node_nf_conntrack_stat_found 3",
                "node_nf_conntrack_stat_ignore 4670",
                "node_nf_conntrack_stat_insert 8",
                "node_nf_conntrack_stat_insert_failed 9",
                "node_nf_conntrack_stat_invalid 7",
                "node_nf_conntrack_stat_search_restart 17",
            ]
        );
        assert!(collect(&TREE[..2]).is_err());
        assert!(collect(&TREE[1..]).is_err());
    }

    #[test]
    fn survives_nonsense() {
        survives("conntrack", "{}", TREE);
    }
}
