//! A scrape of `node-metrics` beside a scrape of Debian's node exporter, in turns, with the same
//! collectors: latency, CPU time, memory.
//!
//! `BULKHEAD_BENCH_SCRAPES` makes it shorter or longer. It fails if a scrape does, never for being slow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "pipeline/process.rs"]
#[allow(dead_code, reason = "a module of several benchmarks")]
mod process;
#[path = "../support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use process::{cpu_seconds, pss};
use support::sink::own_address;
use support::{Node, RESTS, wait_for};

struct Exporter(Child);

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One scrape; its series.
fn scrape(address: SocketAddr, path: &str) -> Option<usize> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let body = answer.split_once("\r\n\r\n")?.1;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    Some(
        body.lines()
            .filter(|line| line.starts_with("node_"))
            .count(),
    )
}

/// Times and what they cost.
#[derive(Default)]
struct Side {
    millis: Vec<f64>,
    series: usize,
    cpu: f64,
}

impl Side {
    fn scrape(&mut self, address: SocketAddr, path: &str) {
        let begin = Instant::now();
        self.series = scrape(address, path).unwrap();
        self.millis.push(begin.elapsed().as_secs_f64() * 1000.0);
    }

    fn quantile(&self, of: f64) -> f64 {
        let mut sorted = self.millis.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[((sorted.len() - 1) as f64 * of) as usize]
    }
}

fn main() {
    let count = std::env::var("BULKHEAD_BENCH_SCRAPES").map_or(200, |it| it.parse().unwrap());
    let address = own_address();
    let child = Command::new("prometheus-node-exporter")
        .arg(format!("--web.listen-address={address}"))
        .args(["--no-collector.systemd", "--web.disable-exporter-metrics"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("apt-get install prometheus-node-exporter");
    let exporter = Exporter(child);
    wait_for("the exporter", || scrape(address, "/metrics"));
    let their_start = pss(exporter.0.id()).unwrap();

    let mut node = Node::new();
    node.start_with(&[], &RESTS);
    node.rest(|| ());
    let idle = pss(node.pid()).unwrap();
    let grants = "nodeStats: true, nodeFiles: [/proc, /sys, /etc/os-release, /usr/lib/os-release, /etc/selinux/config, /run/udev/data, /var/lib/prometheus/node-exporter, /var/log/containers, /var/log/pods]";
    // The collector that the exporter has not.
    let config = "{collectors: {cgroups: {enabled: false}}}";
    node.manifest(
        "node-metrics",
        &format!("module: {{bundled: node-metrics}}\ngrants: {{{grants}}}\nconfig: {config}"),
    );
    node.wait_running("node-metrics");
    let path = "/metrics/plugins";
    // What loading it took is given back once it is at work.
    node.rest(|| {
        scrape(address, "/metrics").unwrap();
        scrape(node.address(), path).unwrap();
    });
    let (mut theirs, mut ours) = (Side::default(), Side::default());
    let before = [cpu_seconds(exporter.0.id()), cpu_seconds(node.pid())];
    for _ in 0..count {
        theirs.scrape(address, "/metrics");
        ours.scrape(node.address(), path);
    }
    theirs.cpu = (cpu_seconds(exporter.0.id()) - before[0]) / count as f64 * 1000.0;
    ours.cpu = (cpu_seconds(node.pid()) - before[1]) / count as f64 * 1000.0;
    let memory = [pss(exporter.0.id()).unwrap(), pss(node.pid()).unwrap()];

    println!("scrapes: {count} of each, in turns");
    println!("| | node exporter | node-metrics | ratio |\n|---|---|---|---|");
    let row = |what: &str, theirs: f64, ours: f64| {
        println!(
            "| {what} | {theirs:.2} | {ours:.2} | {:.2} |",
            ours / theirs
        );
    };
    row("series", theirs.series as f64, ours.series as f64);
    row("latency p50, ms", theirs.quantile(0.5), ours.quantile(0.5));
    row(
        "latency p99, ms",
        theirs.quantile(0.99),
        ours.quantile(0.99),
    );
    row("CPU a scrape, ms", theirs.cpu, ours.cpu);
    let mib = |kib: u64| kib as f64 / 1024.0;
    println!(
        "memory, PSS in MiB: exporter {:.1} at the start, {:.1} after; daemon {:.1} idle, {:.1} after: {:+.1}",
        mib(their_start),
        mib(memory[0]),
        mib(idle),
        mib(memory[1]),
        mib(memory[1]) - mib(idle),
    );
}
