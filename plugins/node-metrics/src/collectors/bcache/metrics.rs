//! What files and lines are called.

use bulkhead_sdk::metrics::Kind::{self, Counter, Gauge};

/// A file, its metric's kind, name and help text, and by what it is multiplied.
pub(super) type Metric = (&'static str, Kind, &'static str, &'static str, f64);

pub(super) const OF_CACHE_SET: &[Metric] = &[
    (
        "average_key_size",
        Gauge,
        "average_key_size_sectors",
        "Average data per key in the btree (sectors).",
        1.0,
    ),
    (
        "btree_cache_size",
        Gauge,
        "btree_cache_size_bytes",
        "Amount of memory currently used by the btree cache.",
        1.0,
    ),
    (
        "cache_available_percent",
        Gauge,
        "cache_available_percent",
        "Percentage of cache device without dirty data, usable for writeback (may contain clean cached \
         data).",
        1.0,
    ),
    ("congested", Gauge, "congested", "Congestion.", 1.0),
    (
        "root_usage_percent",
        Gauge,
        "root_usage_percent",
        "Percentage of the root btree node in use (tree depth increases if too high).",
        1.0,
    ),
    (
        "tree_depth",
        Gauge,
        "tree_depth",
        "Depth of the btree.",
        1.0,
    ),
    (
        "internal/active_journal_entries",
        Gauge,
        "active_journal_entries",
        "Number of journal entries that are newer than the index.",
        1.0,
    ),
    (
        "internal/btree_nodes",
        Gauge,
        "btree_nodes",
        "Total nodes in the btree.",
        1.0,
    ),
    (
        "internal/btree_read_average_duration_us",
        Gauge,
        "btree_read_average_duration_seconds",
        "Average btree read duration.",
        // The node exporter takes them for nanoseconds.
        1e-9,
    ),
    (
        "internal/cache_read_races",
        Counter,
        "cache_read_races_total",
        "Counts instances where while data was being read from the cache, the bucket was reused and \
         invalidated - i.e. where the pointer was stale after the read completed.",
        1.0,
    ),
];

pub(super) const OF_BACKING_DEVICE: &[Metric] = &[
    (
        "dirty_data",
        Gauge,
        "dirty_data_bytes",
        "Amount of dirty data for this backing device in the cache.",
        1.0,
    ),
    (
        "stats_total/bypassed",
        Counter,
        "bypassed_bytes_total",
        "Amount of IO (both reads and writes) that has bypassed the cache.",
        1.0,
    ),
    (
        "stats_total/cache_hits",
        Counter,
        "cache_hits_total",
        "Hits counted per individual IO as bcache sees them.",
        1.0,
    ),
    (
        "stats_total/cache_misses",
        Counter,
        "cache_misses_total",
        "Misses counted per individual IO as bcache sees them.",
        1.0,
    ),
    (
        "stats_total/cache_bypass_hits",
        Counter,
        "cache_bypass_hits_total",
        "Hits for IO intended to skip the cache.",
        1.0,
    ),
    (
        "stats_total/cache_bypass_misses",
        Counter,
        "cache_bypass_misses_total",
        "Misses for IO intended to skip the cache.",
        1.0,
    ),
    (
        "stats_total/cache_miss_collisions",
        Counter,
        "cache_miss_collisions_total",
        "Instances where data insertion from cache miss raced with write (data already present).",
        1.0,
    ),
    (
        "stats_total/cache_readaheads",
        Counter,
        "cache_readaheads_total",
        "Count of times readahead occurred.",
        1.0,
    ),
];

pub(super) const OF_CACHE_DEVICE: &[Metric] = &[
    (
        "io_errors",
        Gauge,
        "io_errors",
        "Number of errors that have occurred, decayed by io_error_halflife.",
        1.0,
    ),
    (
        "metadata_written",
        Counter,
        "metadata_written_bytes_total",
        "Sum of all non data writes (btree writes and all other metadata).",
        1.0,
    ),
    (
        "written",
        Counter,
        "written_bytes_total",
        "Sum of all data that has been written to the cache.",
        1.0,
    ),
];

/// Lines of a backing device's `writeback_rate_debug`.
pub(super) const OF_WRITEBACK: &[(&str, &str, &str)] = &[
    (
        "target:",
        "dirty_target_bytes",
        "Current dirty data target threshold for this backing device in bytes.",
    ),
    (
        "rate:",
        "writeback_rate",
        "Current writeback rate for this backing device in bytes.",
    ),
    (
        "proportional:",
        "writeback_rate_proportional_term",
        "Current result of proportional controller, part of writeback rate",
    ),
    (
        "integral:",
        "writeback_rate_integral_term",
        "Current result of integral controller, part of writeback rate",
    ),
    (
        "change:",
        "writeback_change",
        "Last writeback rate change step for this backing device.",
    ),
];

/// Lines of a cache device's `priority_stats`.
pub(super) const OF_PRIORITY: &[(&str, &str, &str)] = &[
    (
        "Unused:",
        "priority_stats_unused_percent",
        "The percentage of the cache that doesn't contain any data.",
    ),
    (
        "Metadata:",
        "priority_stats_metadata_percent",
        "Bcache's metadata overhead.",
    ),
];
