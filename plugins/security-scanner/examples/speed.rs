//! How fast the engine is beside Debian's `yara` in one run:
//! `cargo run --release -p security-scanner --example speed [MEGABYTES] [FOLDER]`
//!
//! The same 200 generated rules on the same files of FOLDER (`/usr` if none is given), in one thread
//! each, the page cache warm. It fails if rules match in one that do not in the other. CPU seconds are
//! the kernel's, of all that a scan is: reading files, and compiling rules.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use security_scanner::yara::{Limits, Rules, Scanner};
use support::{corpus, generate, peer};

/// What one program needed.
struct Row {
    name: &'static str,
    /// By file and rule.
    matches: BTreeSet<(usize, String)>,
    cpu: f64,
    loading: f64,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let megabytes: u64 = arguments
        .next()
        .map_or(300, |text| text.parse().expect("MEGABYTES"));
    let root = PathBuf::from(arguments.next().unwrap_or_else(|| "/usr".into()));
    let files = corpus::files(&root, megabytes * 1_000_000, 32 << 20);
    let bytes: u64 = files.iter().map(|(_, size)| size).sum();
    let files: Vec<PathBuf> = files.into_iter().map(|(path, _)| path).collect();
    // Reads all of them, so that they are in the page cache.
    let contents: Vec<Vec<u8>> = files.iter().map(|path| read(path)).collect();
    let samples: Vec<Vec<u8>> = contents
        .into_iter()
        .step_by((files.len() / 200).max(1))
        .collect();
    let rules = generate::rules(1, 200, &samples);
    drop(samples);
    println!("{} files, {} MB, 200 rules", files.len(), bytes / 1_000_000);

    let mut rows = Vec::new();
    for _ in 0..3 {
        rows.push(yara(&rules, &files));
        rows.push(native(&rules, &files));
    }
    let expected = rows[0].matches.clone();
    for row in &rows {
        let differing: Vec<_> = row
            .matches
            .symmetric_difference(&expected)
            .take(5)
            .collect();
        assert!(
            differing.is_empty(),
            "{} differs from yara: {differing:?}",
            row.name
        );
    }
    let matching: BTreeSet<&String> = expected.iter().map(|(_, rule)| rule).collect();
    println!(
        "{} matches of {} rules, the same in all",
        expected.len(),
        matching.len()
    );
    let median = |name: &str, of: fn(&Row) -> f64| {
        let mut all: Vec<f64> = rows.iter().filter(|row| row.name == name).map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let theirs = median("yara", |row| row.cpu);
    println!(
        "\n| medians of 3 runs | MB per CPU second | to yara | rules loaded in ms of CPU |\n|---|---:|---:|---:|"
    );
    for name in ["yara", "native"] {
        let cpu = median(name, |row| row.cpu);
        let speed = bytes as f64 / 1e6 / cpu;
        let loading = median(name, |row| row.loading * 1e3);
        println!(
            "| {name} | {speed:.0} | {:.2} | {loading:.0} |",
            theirs / cpu
        );
    }
}

fn yara(rules: &str, files: &[PathBuf]) -> Row {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "").expect("a file");
    let run = |files: &[PathBuf]| {
        let before = cpu();
        let output = peer::command(folder.path(), rules, files).output();
        let output = output.unwrap_or_else(|why| panic!("{} ({why})", peer::MISSING));
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            cpu() - before,
        )
    };
    let (_, loading) = run(&[empty]);
    let (output, cpu) = run(files);
    let index = |path: &str| files.iter().position(|file| file == Path::new(path));
    let matches = output.lines().map(|line| {
        let (rule, path) = line.split_once(' ').expect("a rule and a path");
        (index(path).expect("a file of the list"), rule.to_owned())
    });
    Row {
        name: "yara",
        matches: matches.collect(),
        cpu,
        loading,
    }
}

fn native(text: &str, files: &[PathBuf]) -> Row {
    let before = cpu();
    let rules = Rules::compile([("default", text)]).unwrap_or_else(|(_, why)| panic!("{why}"));
    let mut scanner = Scanner::new(&rules, Limits::default());
    let loading = cpu() - before;
    let mut matches = BTreeSet::new();
    for (index, path) in files.iter().enumerate() {
        let hits = scanner.scan(read(path).as_slice()).hits;
        matches.extend(hits.into_iter().map(|hit| (index, hit.rule.name.clone())));
    }
    Row {
        name: "native",
        matches,
        cpu: cpu() - before,
        loading,
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// CPU seconds of this process and of the children that it waited for.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc");
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = after_name.split_whitespace().skip(11).take(4);
    fields
        .map(|ticks| ticks.parse::<f64>().expect("ticks"))
        .sum::<f64>()
        / 100.0
}
