//! What the daemon costs as a whole: the real binary over two million container lines, an update
//! under load, a start, standing idle, and memory over faults; beside it rsyslog on the same lines,
//! if it is installed. Run by `make bench`; prints the tables of `docs/benchmarks.md`, and fails if a line is missing.
//!
//! `BULKHEAD_BENCH_LINES` and `BULKHEAD_BENCH_RUNS` make it shorter. The figures are medians.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod corpus;
mod daemon;
mod faults;
mod process;
mod receiver;
mod records;
mod rsyslog;
#[path = "../../support/mod.rs"]
mod support;
mod throughput;

use corpus::Corpus;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The figure that 99 of 100 do not pass.
pub(crate) fn p99(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[(figures.len() * 99).div_ceil(100) - 1]
}

fn main() {
    let only = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| only.as_ref().is_none_or(|only| name.contains(only));
    let runs = setting("BULKHEAD_BENCH_RUNS", 3);
    if wanted("throughput") {
        let corpus = Corpus::new(setting("BULKHEAD_BENCH_LINES", 2_000_000)).expect("a corpus");
        throughput::table(&corpus, runs);
    }
    if wanted("update") {
        daemon::updates();
    }
    if wanted("start") {
        daemon::starts();
    }
    if wanted("idle") {
        daemon::idle();
    }
    if wanted("faults") {
        faults::table();
    }
}
