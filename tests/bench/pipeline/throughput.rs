//! Lines a second, CPU and memory from the files to the destination.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::corpus::Corpus;
use crate::median;
use crate::process::{self, PeakPss};
use crate::receiver::{Receiver, Speaks};
use crate::records::Records;
use crate::rsyslog::{self, To, Work};
use crate::support::{Node, fixture_module};

/// What one run over the corpus took.
pub(crate) struct Run {
    pub(crate) wall: Duration,
    pub(crate) cpu: f64,
    /// KiB.
    pub(crate) peak_rss: u64,
    /// KiB.
    pub(crate) peak_pss: u64,
}

pub(crate) const PARSE: &str = r#"
module: {bundled: log-shipper}
config:
  parse: auto
  filters:
  - drop: {field: level, equals: debug}
  redact:
  - {fields: [user], pattern: "[^@]+@example[.]com", replace: "<address>"}
  rename: {msg: text}
"#;

/// Destinations behind the same parse: their name, what their peer says, and the manifest with
/// `ADDRESS` for the peer's.
const NETWORK: [(&str, Speaks, &str); 8] = [
    (
        "HTTP, NDJSON",
        Speaks::Http("200 OK", ""),
        "http: {url: \"http://ADDRESS/\"}",
    ),
    (
        "queue on the disk → HTTP, NDJSON",
        Speaks::Http("200 OK", ""),
        "http: {url: \"http://ADDRESS/\"}\n    queue: {}",
    ),
    (
        "HTTP, NDJSON, gzip",
        Speaks::Http("200 OK", ""),
        "http: {url: \"http://ADDRESS/\", compression: gzip}",
    ),
    (
        "Elasticsearch",
        Speaks::Http("200 OK", r#"{"errors":false,"items":[]}"#),
        "elasticsearch: {url: \"http://ADDRESS\", index: logs}",
    ),
    (
        "Splunk HEC",
        Speaks::Http("200 OK", r#"{"text":"Success","code":0}"#),
        "splunkHec: {url: \"http://ADDRESS\", token: t}",
    ),
    (
        "OTLP",
        Speaks::Http("200 OK", ""),
        "otlp: {url: \"http://ADDRESS\"}",
    ),
    (
        "Loki",
        Speaks::Http("204 No Content", ""),
        "loki: {url: \"http://ADDRESS\"}",
    ),
    (
        "syslog over TCP",
        Speaks::Lines,
        "syslog: {address: \"ADDRESS\", format: json}",
    ),
];

/// What a row of the table runs.
#[derive(Clone, Copy)]
enum What {
    Discard,
    ParseToFile,
    /// Index into [`NETWORK`].
    ParseTo(usize),
    Rsyslog(Work, To),
}

impl What {
    fn name(self) -> String {
        let to = |to| match to {
            To::File => "omfile",
            To::Tcp => "omfwd",
        };
        match self {
            Self::Discard => "tail → Wasm substring filter → discard".into(),
            Self::ParseToFile => "tail → parse, filter, redact, rename in Wasm → file".into(),
            Self::ParseTo(index) => format!("the same → {}", NETWORK[index].0),
            Self::Rsyslog(Work::Nothing, end) => {
                format!("rsyslog imfile → {}, nothing parsed", to(end))
            }
            Self::Rsyslog(Work::Parse, end) => {
                format!(
                    "rsyslog imfile → parse, filter, redact, rename → {}",
                    to(end)
                )
            }
        }
    }
}

/// A row of the table, and its runs.
struct Row {
    what: What,
    runs: Vec<Run>,
}

impl Row {
    fn median(&self, of: fn(&Run) -> f64) -> f64 {
        median(self.runs.iter().map(of).collect())
    }
}

pub(crate) fn table(corpus: &Corpus, runs: u64) {
    println!(
        "\n## From files to destination\n\n{} lines, {:.0} MB, medians of {runs} runs\n",
        corpus.lines,
        corpus.bytes as f64 / 1e6
    );
    let version = rsyslog::version();
    let mut all = vec![What::Discard, What::ParseToFile];
    all.extend((0..NETWORK.len()).map(What::ParseTo));
    if version.is_some() {
        let ways =
            [To::File, To::Tcp].map(|to| [Work::Nothing, Work::Parse].map(|work| (work, to)));
        let ways = ways.into_iter().flatten();
        all.extend(ways.map(|(work, to)| What::Rsyslog(work, to)));
    }
    let mut rows: Vec<Row> = all
        .into_iter()
        .map(|what| Row {
            what,
            runs: Vec::new(),
        })
        .collect();
    // In turn, so that a machine that grows slower does so for all.
    for _ in 0..runs {
        let (mut ours, mut theirs) = (None, None);
        for row in &mut rows {
            row.runs.push(match row.what {
                What::Discard => discard(corpus),
                What::ParseToFile => parse_to_file(corpus, &mut ours),
                What::ParseTo(index) => parse_to(corpus, index),
                What::Rsyslog(work, to) => rsyslog::run(corpus, work, to, |out| {
                    if work == Work::Parse {
                        theirs = Some(Records::read(out));
                    }
                }),
            });
        }
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            ours.assert_equal_to_rsyslog(corpus, &theirs);
        }
    }
    println!("| what | lines/s | MB/s | CPU s per million lines | peak RSS MiB | peak PSS MiB |");
    println!("|---|---:|---:|---:|---:|---:|");
    for row in &rows {
        let wall = row.median(|run| run.wall.as_secs_f64());
        println!(
            "| {} | {:.0} | {:.0} | {:.2} | {:.1} | {:.1} |",
            row.what.name(),
            corpus.lines as f64 / wall,
            corpus.bytes as f64 / 1e6 / wall,
            row.median(|run| run.cpu) / corpus.lines as f64 * 1e6,
            row.median(|run| run.peak_rss as f64) / 1024.0,
            row.median(|run| run.peak_pss as f64) / 1024.0,
        );
    }
    match version {
        Some(version) => ratios(&version, &rows),
        None => println!("\nrsyslog is not installed, so nothing is compared."),
    }
}

/// CPU of a row of ours over that of each of rsyslog's.
fn ratios(version: &str, rows: &[Row]) {
    println!("\n{version}. CPU against it, in the same run:\n");
    let theirs: Vec<&Row> = rows
        .iter()
        .filter(|row| matches!(row.what, What::Rsyslog(..)))
        .collect();
    let names: Vec<String> = theirs.iter().map(|row| row.what.name()).collect();
    println!("| | {} |", names.join(" | "));
    println!("|---|{}", "---:|".repeat(theirs.len()));
    for row in rows {
        if matches!(row.what, What::Rsyslog(..)) {
            continue;
        }
        let cpu = |row: &Row| row.median(|run| run.cpu);
        let ratios: Vec<String> = theirs
            .iter()
            .map(|their| format!("{:.2}", cpu(row) / cpu(their)))
            .collect();
        println!("| {} | {} |", row.what.name(), ratios.join(" | "));
    }
}

fn discard(corpus: &Corpus) -> Run {
    let (module, sha256) = fixture_module("fixture-minimal");
    let spec = format!(
        "module:\n  file: {{path: {module:?}, sha256: {sha256}}}\nconfig: {{contains: no-such-text}}"
    );
    bulkhead(corpus, &spec, None, |out| assert_eq!(lines(out), 0))
}

fn parse_to_file(corpus: &Corpus, records: &mut Option<Records>) -> Run {
    bulkhead(corpus, PARSE, None, |out| {
        let read = Records::read(out);
        assert_eq!(read.lines, corpus.lines - corpus.debug);
        *records = Some(read);
    })
}

fn parse_to(corpus: &Corpus, index: usize) -> Run {
    let (_, speaks, manifest) = NETWORK[index];
    let receiver = Receiver::start(speaks);
    let manifest = manifest.replace("ADDRESS", &receiver.address.to_string());
    let run = bulkhead(corpus, PARSE, Some(&manifest), |_| ());
    assert!(receiver.bytes() > 0, "it went there");
    run
}

/// One run of the daemon, to `destination` or a file, at which `check` looks.
fn bulkhead(
    corpus: &Corpus,
    spec: &str,
    destination: Option<&str>,
    check: impl FnOnce(&Path),
) -> Run {
    let mut node = Node::new();
    let out = node.path("out");
    let file = format!("file: {{path: {out:?}, maxSize: 4Gi}}");
    node.manifest(
        "bench",
        &format!(
            "{}\nlogs:\n  startAt: beginning\n  sources:\n  - containers: {{root: {:?}}}\n  destinations:\n  - name: out\n    {}",
            spec.trim(),
            corpus.root,
            destination.unwrap_or(&file),
        ),
    );
    let begin = Instant::now();
    node.start();
    let pid = node.pid();
    let peak = PeakPss::watch(pid);
    let report = node.wait_plugin("bench", "every line", |report| {
        let lines = &report["logs"]["lines"];
        let number = |name: &str| lines[name].as_u64().unwrap_or(0);
        let queued = &report["logs"]["destinations"][0]["queue"]["lines"];
        number("acknowledged") + number("filtered") + number("deadLettered") >= corpus.lines
            && queued.as_u64().unwrap_or(0) == 0
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
