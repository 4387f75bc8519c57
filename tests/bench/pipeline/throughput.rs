//! Lines a second, CPU and memory from the files to the destination.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::corpus::Corpus;
use crate::process::{self, PeakPss};
use crate::support::{Node, fixture_module};
use crate::{median, rsyslog};

/// What one run over the corpus took.
pub(crate) struct Run {
    pub(crate) wall: Duration,
    pub(crate) cpu: f64,
    /// KiB.
    pub(crate) peak_rss: u64,
    /// KiB.
    pub(crate) peak_pss: u64,
}

const PARSE: &str = r#"
module: {bundled: log-shipper}
config:
  parse: auto
  filters:
  - drop: {field: level, equals: debug}
  redact:
  - {fields: [user], pattern: "[^@]+@example[.]com", replace: "<address>"}
  rename: {msg: text}
"#;

pub(crate) fn table(corpus: &Corpus, runs: u64) {
    println!(
        "\n## From files to destination\n\n{} lines, {:.0} MB, medians of {runs} runs\n",
        corpus.lines,
        corpus.bytes as f64 / 1e6
    );
    println!("| what | lines/s | MB/s | CPU s per million lines | peak RSS MiB | peak PSS MiB |");
    println!("|---|---:|---:|---:|---:|---:|");
    let (module, sha256) = fixture_module("fixture-minimal");
    let discard = format!(
        "module:\n  file: {{path: {module:?}, sha256: {sha256}}}\nconfig: {{contains: no-such-text}}\n"
    );
    let mut rows = vec![
        ("tail → Wasm substring filter → discard", Vec::new()),
        (
            "tail → parse, filter, redact, rename in Wasm → file",
            Vec::new(),
        ),
    ];
    let rsyslog = rsyslog::version();
    if rsyslog.is_some() {
        rows.push(("rsyslog imfile → omfile, nothing parsed", Vec::new()));
    }
    // In turn, so that a machine that grows slower does so for all.
    for _ in 0..runs {
        for (index, (_, results)) in rows.iter_mut().enumerate() {
            results.push(match index {
                0 => bulkhead(corpus, &discard, |out| assert_eq!(lines(out), 0)),
                1 => bulkhead(corpus, PARSE, |out| check_parsed(corpus, out)),
                _ => rsyslog::run(corpus),
            });
        }
    }
    let figure = |results: &[Run], of: fn(&Run) -> f64| median(results.iter().map(of).collect());
    let mut cpu = Vec::new();
    for (name, results) in &rows {
        let wall = figure(results, |run| run.wall.as_secs_f64());
        cpu.push(figure(results, |run| run.cpu));
        println!(
            "| {name} | {:.0} | {:.0} | {:.2} | {:.1} | {:.1} |",
            corpus.lines as f64 / wall,
            corpus.bytes as f64 / 1e6 / wall,
            cpu[cpu.len() - 1] / corpus.lines as f64 * 1e6,
            figure(results, |run| run.peak_rss as f64) / 1024.0,
            figure(results, |run| run.peak_pss as f64) / 1024.0,
        );
    }
    match (rsyslog, &cpu[..]) {
        (Some(version), [discard, parse, rsyslog]) => println!(
            "\n{version}. CPU against it: discard {:.2}, parse and filter {:.2}.",
            discard / rsyslog,
            parse / rsyslog
        ),
        _ => println!("\nrsyslog is not installed, so nothing is compared."),
    }
}

/// One run of the daemon; `check` looks at the output file.
fn bulkhead(corpus: &Corpus, spec: &str, check: impl Fn(&Path)) -> Run {
    let mut node = Node::new();
    let out = node.path("out");
    node.manifest(
        "bench",
        &format!(
            "{}\nlogs:\n  startAt: beginning\n  sources:\n  - containers: {{root: {:?}}}\n  destinations:\n  - name: out\n    file: {{path: {out:?}, maxSize: 4Gi}}",
            spec.trim(),
            corpus.root,
        ),
    );
    let begin = Instant::now();
    node.start();
    let pid = node.pid();
    let peak = PeakPss::watch(pid);
    let report = node.wait_plugin("bench", "every line", |report| {
        let lines = &report["logs"]["lines"];
        let number = |name: &str| lines[name].as_u64().unwrap_or(0);
        number("acknowledged") + number("filtered") + number("deadLettered") >= corpus.lines
    });
    let run = Run {
        wall: begin.elapsed(),
        cpu: process::cpu_seconds(pid),
        peak_rss: process::peak_rss(pid),
        peak_pss: peak.stop(),
    };
    assert_eq!(report["logs"]["lines"]["read"], corpus.lines);
    assert_eq!(report["logs"]["lines"]["deadLettered"], 0);
    assert!(node.stop().success());
    check(&out);
    run
}

fn lines(path: &Path) -> u64 {
    File::open(path).map_or(0, |file| BufReader::new(file).lines().count() as u64)
}

/// The parse was real: nothing of level debug, no address, the member renamed.
fn check_parsed(corpus: &Corpus, path: &Path) {
    let mut count = 0;
    for line in BufReader::new(File::open(path).unwrap()).lines() {
        let line = line.unwrap();
        count += 1;
        assert!(!line.contains("@example.com"), "{line}");
        assert!(!line.contains(r#""level":"debug""#), "{line}");
        assert!(!line.contains(r#""msg":"#), "{line}");
    }
    assert_eq!(count, corpus.lines - corpus.debug);
}
