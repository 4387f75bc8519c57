//! Caches of block devices, of `/sys/fs/bcache`: <https://docs.kernel.org/admin-guide/bcache.html>.

mod metrics;

use bulkhead_sdk::{Collector, Families, Result, View};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Collect;
use crate::sysfs::{Folder, folders, require_told};
use metrics::{
    Metric, OF_BACKING_DEVICE, OF_CACHE_DEVICE, OF_CACHE_SET, OF_PRIORITY, OF_WRITEBACK,
};

/// The collector `bcache`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Whether it is on; if absent, as all are.
    pub enabled: Option<bool>,
    /// Tells of how the cache is used too, which is expensive to read.
    pub priority_stats: bool,
}

pub(crate) struct Bcache {
    priority_stats: bool,
}

impl Bcache {
    pub(crate) fn new(options: &Options) -> Self {
        let priority_stats = options.priority_stats;
        Self { priority_stats }
    }
}

impl Collect for Bcache {
    fn wants(&self) -> Collector {
        let want = |collector: Collector, folder: &str, metrics: &[Metric]| {
            metrics.iter().fold(collector, |collector, metric| {
                collector.content(&format!("/sys/fs/bcache/*-*/{folder}{}", metric.0))
            })
        };
        let collector = want(Collector::new("bcache"), "", OF_CACHE_SET);
        let collector = want(collector, "bdev[0-9]*/", OF_BACKING_DEVICE)
            .content("/sys/fs/bcache/*-*/bdev[0-9]*/writeback_rate_debug");
        let collector = want(collector, "cache[0-9]*/", OF_CACHE_DEVICE);
        match self.priority_stats {
            true => collector.content("/sys/fs/bcache/*-*/cache[0-9]*/priority_stats"),
            false => collector,
        }
    }

    fn collect(&mut self, view: &View, out: &mut Families) -> Result<()> {
        let sets = folders(view, "/sys/fs/bcache/");
        let mut told = 0;
        for set in &sets {
            let uuid = ("uuid", set.name);
            told += tell(set, OF_CACHE_SET, &[uuid], out);
            for device in set.folders() {
                if device.name.starts_with("bdev") {
                    let labels = [uuid, ("backing_device", device.name)];
                    told += tell(&device, OF_BACKING_DEVICE, &labels, out);
                    tell_lines(&device, "writeback_rate_debug", OF_WRITEBACK, &labels, out);
                } else if device.name.starts_with("cache") {
                    let labels = [uuid, ("cache_device", device.name)];
                    told += tell(&device, OF_CACHE_DEVICE, &labels, out);
                    if self.priority_stats {
                        tell_lines(&device, "priority_stats", OF_PRIORITY, &labels, out);
                    }
                }
            }
        }
        require_told(&sets, told)
    }
}

/// Adds a series for each file: 0 for one that is not there. Says how many are there.
fn tell(folder: &Folder, metrics: &[Metric], labels: &[(&str, &str)], out: &mut Families) -> usize {
    let mut told = 0;
    for (file, kind, name, help, factor) in metrics {
        let value = match folder.get(file) {
            Some(_) => folder
                .text(file)
                .and_then(|text| bytes(&text))
                .filter(|value| *value >= 0.0),
            None => Some(0.0),
        };
        if let Some(value) = value {
            told += usize::from(folder.get(file).is_some());
            let family = out.family(*kind, &format!("node_bcache_{name}"), help);
            out.add(family, labels, value * factor);
        }
    }
    told
}

/// Adds a series for each line of a file that begins with a word and ends in a number.
fn tell_lines(
    folder: &Folder,
    file: &str,
    metrics: &[(&str, &str, &str)],
    labels: &[(&str, &str)],
    out: &mut Families,
) {
    let Some(text) = folder.get(file).and_then(|file| file.text()) else {
        return;
    };
    for (word, name, help) in metrics {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(word)?.split_ascii_whitespace().last())
            .and_then(|value| bytes(value.trim_end_matches("/sec").trim_end_matches('%')));
        if let Some(value) = value {
            let family = out.gauge(&format!("node_bcache_{name}"), help);
            out.add(family, labels, value);
        }
    }
}

/// A number as bcache writes it: `790.0k`. After the dot are 1024ths, of which the kernel drops the last
/// digit or two.
fn bytes(text: &str) -> Option<f64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, text),
    };
    let last = digits.chars().next_back()?;
    let power = match last {
        '0'..='9' => return digits.parse().ok().map(whole).map(|value| value * sign),
        'k' => 1,
        'M' => 2,
        'G' => 3,
        'T' => 4,
        'P' => 5,
        'E' => 6,
        'Z' => 7,
        'Y' => 8,
        _ => return None,
    };
    let digits = digits.strip_suffix(last)?;
    let (units, parts) = digits.split_once('.').unwrap_or((digits, "0"));
    let units: f64 = units.parse().ok()?;
    let parts: f64 = parts.parse().ok()?;
    Some(whole((units + parts / 10.24) * 1024_f64.powi(power)) * sign)
}

/// Without what is behind the point, as the node exporter has it.
fn whole(value: f64) -> f64 {
    value.trunc()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::bytes;
    use crate::NodeMetrics;
    use crate::hostile::survives;
    use bulkhead_sdk::testing::{Files, Found, Harness};

    const TREE: &[(&str, &str)] = &[
        ("/sys/fs/bcache/de-ad/average_key_size", "0\n"),
        ("/sys/fs/bcache/de-ad/bdev0/dirty_data", "20.4G\n"),
        (
            "/sys/fs/bcache/de-ad/bdev0/stats_total/cache_hit_ratio",
            "100\n",
        ),
        ("/sys/fs/bcache/de-ad/bdev0/stats_total/cache_hits", "546\n"),
        (
            "/sys/fs/bcache/de-ad/bdev0/writeback_rate_debug",
            "rate:\t\t1.1M/sec\ndirty:\t\t20.4G\ntarget:\t\t20.4G\nproportional:\t-427.5k\n\
             integral:\t790.0k\nchange:\t\t321.5k/sec\nnext io:\t17ms\n",
        ),
        ("/sys/fs/bcache/de-ad/btree_cache_size", "512.0k\n"),
        ("/sys/fs/bcache/de-ad/cache0/io_errors", "0\n"),
        (
            "/sys/fs/bcache/de-ad/cache0/priority_stats",
            "Unused:\t\t99%\nMetadata:\t2%\nAverage:\t10473\n",
        ),
        (
            "/sys/fs/bcache/de-ad/internal/btree_read_average_duration_us",
            "1305\n",
        ),
        ("/sys/fs/bcache/de-ad/internal/cache_read_races", "7\n"),
        ("/sys/fs/bcache/register", ""),
    ];

    fn collect(config: &str, files: &Files) -> bulkhead_sdk::Result<Found> {
        Harness::<NodeMetrics>::new(config)?.collect("bcache", files)
    }

    fn tree() -> Files {
        let add = |files: Files, (path, text): &(&str, &str)| files.file(path, text);
        TREE.iter().fold(Files::new(), add)
    }

    #[test]
    fn tells_of_sets_backing_and_cache_devices() {
        let found = collect("{}", &tree()).unwrap();
        for (series, value) in [
            (
                r#"node_bcache_btree_cache_size_bytes{uuid="de-ad"}"#,
                524288.0,
            ),
            (
                r#"node_bcache_btree_read_average_duration_seconds{uuid="de-ad"}"#,
                1.305e-6,
            ),
            (r#"node_bcache_cache_read_races_total{uuid="de-ad"}"#, 7.0),
            (r#"node_bcache_tree_depth{uuid="de-ad"}"#, 0.0),
            (
                r#"node_bcache_cache_hits_total{backing_device="bdev0",uuid="de-ad"}"#,
                546.0,
            ),
            (
                r#"node_bcache_cache_readaheads_total{backing_device="bdev0",uuid="de-ad"}"#,
                0.0,
            ),
            (
                r#"node_bcache_dirty_target_bytes{backing_device="bdev0",uuid="de-ad"}"#,
                21894266880.0,
            ),
            (
                r#"node_bcache_writeback_rate{backing_device="bdev0",uuid="de-ad"}"#,
                1150976.0,
            ),
            (
                r#"node_bcache_writeback_rate_proportional_term{backing_device="bdev0",uuid="de-ad"}"#,
                -437748.0,
            ),
            (
                r#"node_bcache_written_bytes_total{cache_device="cache0",uuid="de-ad"}"#,
                0.0,
            ),
        ] {
            assert_eq!(found.value(series), Some(value), "{series}");
        }
        assert_eq!(found.lines().len(), 10 + 8 + 5 + 3);
    }

    #[test]
    fn priority_stats_are_told_if_asked_for() {
        let config = r#"{"collectors":{"bcache":{"priorityStats":true}}}"#;
        let found = collect(config, &tree()).unwrap();
        let value = |name: &str| {
            let labels = r#"{cache_device="cache0",uuid="de-ad"}"#;
            found.value(&format!(
                "node_bcache_priority_stats_{name}_percent{labels}"
            ))
        };
        assert_eq!(
            (value("unused"), value("metadata")),
            (Some(99.0), Some(2.0))
        );
    }

    #[test]
    fn no_cache_is_no_error_but_one_that_cannot_be_read_is() {
        assert!(collect("{}", &Files::new()).unwrap().lines().is_empty());
        let broken = Files::new().unreadable("/sys/fs/bcache/de-ad/tree_depth", 5);
        assert!(collect("{}", &broken).is_err());
    }

    #[test]
    fn numbers_are_understood() {
        for (text, value) in [
            ("0", Some(0.0)),
            ("1.9", Some(1.0)),
            ("-1.0k", Some(-1024.0)),
            ("1.10k", Some(2024.0)),
            ("3M", Some(3145728.0)),
            ("", None),
            ("-", None),
            ("k", None),
            ("1.x", None),
            ("1B", None),
        ] {
            assert_eq!(bytes(text), value, "{text:?}");
        }
    }

    #[test]
    fn survives_nonsense() {
        survives("bcache", "{}", TREE);
        survives(
            "bcache",
            r#"{"collectors":{"bcache":{"priorityStats":true}}}"#,
            TREE,
        );
    }
}
