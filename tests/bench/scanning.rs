//! The bundled `security-scanner` beside Debian's `yara`, `clamscan` and `aide` in one run: the same rules,
//! signatures and attributes on the same files, with what they find compared; then how soon a finding is
//! published, and what an idle scanner costs.
//!
//! `BULKHEAD_BENCH_MEGABYTES`, `BULKHEAD_BENCH_FILES`, `BULKHEAD_BENCH_TREE` (`/usr`) and `BULKHEAD_BENCH_RUNS`
//! make it shorter or longer. It fails if the verdicts differ, never for being slow. The page cache is warm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "pipeline/process.rs"]
#[allow(dead_code, reason = "a module of several benchmarks")]
mod process;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use process::{cpu_seconds, pss};
use serde_json::Value;
use support::originals::{
    Aide, assert_same, by_rule, clamscan, corpus, findings, generate, open_paths, read_clamscan,
    read_integrity, read_yara, run, signatures, spec, wait_passes, yara,
};
use support::{Node, RESTS, wait_for};

/// Files that are written one after the other.
const WRITES: usize = 200;
/// How long an idle daemon is looked at.
const IDLE: Duration = Duration::from_secs(20);
/// Longer files are left out, so that everybody looks at whole files.
const LARGEST: u64 = 8 << 20;
const LARGE: u64 = 128 << 10;
const PASSES: &str = "schedule: {realTime: false}";

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |it| it.parse().unwrap())
}

/// What one look at everything took.
#[derive(Debug, Clone, Copy)]
struct Cost {
    cpu: f64,
    seconds: f64,
}

fn quantile(values: impl Iterator<Item = f64>, of: f64) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * of).round() as usize]
}

/// The medians of both.
fn median(costs: &[Cost]) -> Cost {
    Cost {
        cpu: quantile(costs.iter().map(|it| it.cpu), 0.5),
        seconds: quantile(costs.iter().map(|it| it.seconds), 0.5),
    }
}

/// Hard copies of files of `/usr`, so many large and small ones that both sums come out.
fn copy(tree: &Path, count: usize, bytes: u64) -> (Vec<PathBuf>, u64) {
    let all = corpus::files(Path::new("/usr"), u64::MAX, LARGEST);
    // `clamscan` leaves out files of up to 5 bytes.
    let all = all.into_iter().filter(|(_, size)| *size > 5);
    let (large, small): (Vec<_>, Vec<_>) = all.partition(|(_, size)| *size >= LARGE);
    let mean = |of: &[(PathBuf, u64)]| {
        let sum: u64 = of.iter().map(|(_, size)| size).sum();
        sum as f64 / of.len() as f64
    };
    let missing = bytes as f64 - count as f64 * mean(&small);
    let larges = (missing / (mean(&large) - mean(&small))).clamp(0.0, large.len() as f64) as usize;
    let chosen = large
        .iter()
        .take(larges)
        .chain(small.iter().take(count - larges));
    let mut copies = Vec::new();
    let mut total = 0;
    for (number, (from, size)) in chosen.enumerate() {
        let folder = tree.join((number / 100).to_string());
        fs::create_dir_all(&folder).unwrap();
        let name = from.file_name().unwrap().to_str().unwrap();
        let to = folder.join(format!("{number}-{name}"));
        fs::copy(from, &to).unwrap();
        copies.push(to);
        total += size;
    }
    (copies, total)
}

/// CPU seconds of the children that were waited for: proc_pid_stat(5), fields 16 and 17.
fn children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks = fields.skip(13).take(2).map(|it| it.parse::<f64>().unwrap());
    ticks.sum::<f64>() / 100.0
}

fn original(command: &mut Command, codes: &[i32]) -> (Output, Cost) {
    let (before, begin) = (children(), Instant::now());
    let output = run(command, codes);
    let cost = Cost {
        cpu: children() - before,
        seconds: begin.elapsed().as_secs_f64(),
    };
    (output, cost)
}

/// A daemon that runs one plugin at a time.
struct Daemon {
    node: Node,
    passes: u64,
}

impl Daemon {
    /// From the manifest in its place, without anything remembered, to the end of the first pass: rules are
    /// read, every file is judged and what is found is kept.
    fn first(&mut self, spec: &str) -> Cost {
        let pid = self.node.pid();
        let before = cpu_seconds(pid);
        self.node.manifest("scan", spec);
        let report = wait_passes(&self.node, "scan", 1);
        self.passes = 1;
        Cost {
            cpu: cpu_seconds(pid) - before,
            seconds: report["lastPass"]["seconds"].as_f64().unwrap(),
        }
    }

    /// One more pass: a full one with `--full`.
    fn again(&mut self, options: &[&str]) -> Cost {
        let before = cpu_seconds(self.node.pid());
        let output = Command::new(support::binary())
            .args(["scanning", "scan", "scan"])
            .args(options)
            .arg("--state")
            .arg(&self.node.state)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        self.passes += 1;
        let report = wait_passes(&self.node, "scan", self.passes);
        Cost {
            cpu: cpu_seconds(self.node.pid()) - before,
            seconds: report["lastPass"]["seconds"].as_f64().unwrap(),
        }
    }

    /// Everything that it knew is forgotten.
    fn remove(&self) {
        self.node.remove_manifest("scan");
        wait_for("the plugin to be gone", || {
            let all = findings(&self.node, "scan");
            (self.node.plugin("scan").is_none() && all.is_empty()).then_some(())
        });
    }
}

fn yara_spec(tree: &Path, rules: &str, scanning: &str) -> String {
    let text = serde_json::to_string(rules).unwrap();
    let config = format!(
        "{{signatures: {{yara: [{{name: test, text: {text}}}], archives: {{enabled: false}}}}}}"
    );
    spec(tree, &config, scanning)
}

fn contents(
    daemon: &mut Daemon,
    tree: &Path,
    bytes: u64,
    rules: &str,
    samples: &[Vec<u8>],
    runs: usize,
) {
    let folder = daemon.node.folder.path().to_owned();
    let all = signatures(2, 1000, samples);
    let (by_yara, by_clamscan) = (
        yara_spec(tree, rules, PASSES),
        spec(tree, &all.config(false), PASSES),
    );
    let mut costs: [Vec<Cost>; 5] = std::array::from_fn(|_| Vec::new());
    let (mut rules_found, mut found) = (0, [0, 0]);
    for _ in 0..runs {
        let (output, cost) = original(&mut yara(&folder, rules, tree), &[0]);
        costs[0].push(cost);
        costs[1].push(daemon.first(&by_yara));
        let ours = by_rule(&findings(&daemon.node, "scan"));
        assert_same(&ours, &read_yara(&output), "yara");
        let mut names: Vec<&String> = ours.iter().map(|(_, rule)| rule).collect();
        found[0] = names.len();
        names.sort();
        names.dedup();
        rules_found = names.len();
        costs[2].push(daemon.again(&[]));
        daemon.remove();

        let (output, cost) = original(&mut clamscan(&folder, &all, tree, false), &[1]);
        costs[3].push(cost);
        costs[4].push(daemon.first(&by_clamscan));
        let ours = open_paths(&findings(&daemon.node, "scan"));
        assert_same(&ours, &read_clamscan(&output), "clamscan");
        found[1] = ours.len();
        daemon.remove();
    }
    let [yara, first, second, clamscan, signed] = costs.map(|all| median(&all));
    let speed = |cost: Cost| bytes as f64 / 1e6 / cost.cpu;
    println!(
        "verdicts are the same: {} matches of {rules_found} rules; {} files by signatures",
        found[0], found[1]
    );
    println!(
        "| medians of {runs} runs | the original | security-scanner | ratio | bar |\n|---|---:|---:|---:|---:|"
    );
    println!(
        "| 200 YARA rules beside yara, MB per CPU second | {:.0} | {:.0} | {:.2} | 1 |",
        speed(yara),
        speed(first),
        yara.cpu / first.cpu
    );
    println!(
        "| 1,000 signatures beside clamscan, MB per CPU second | {:.0} | {:.0} | {:.2} | 3 |",
        speed(clamscan),
        speed(signed),
        clamscan.cpu / signed.cpu
    );
    println!(
        "| seconds from start to end: yara, clamscan | {:.1}, {:.1} | {:.1}, {:.1} | {:.2}, {:.2} | |",
        yara.seconds,
        clamscan.seconds,
        first.seconds,
        signed.seconds,
        yara.seconds / first.seconds,
        clamscan.seconds / signed.seconds
    );
    println!(
        "| a second pass with nothing changed, ms | {:.0} | {:.0} | {:.0} | 50 |",
        first.seconds * 1e3,
        second.seconds * 1e3,
        first.seconds / second.seconds
    );
}

/// Both write a baseline and compare with it, once each.
fn integrity(daemon: &mut Daemon, tree: &Path) {
    let aide = Aide::new(daemon.node.folder.path(), &[tree]);
    let spec = spec(tree, "{integrity: {baseline: first}}", PASSES);
    // So that both find everything in the page cache.
    daemon.first(&spec);
    daemon.remove();
    let (_, their_first) = original(&mut aide.command("--init"), &[0]);
    aide.accept();
    let first = daemon.first(&spec);
    let (_, their_check) = original(&mut aide.command("--check"), &[0]);
    let check = daemon.again(&["--full"]);
    let all = findings(&daemon.node, "scan");
    assert!(read_integrity(&all).is_empty(), "{all:#?}");
    let report = daemon.node.plugin("scan").unwrap();
    println!("{}: {}", tree.display(), all[0]["message"]);
    println!(
        "{} bytes read in passes: {}",
        tree.display(),
        report["scanning"]["bytes"]
    );
    for (what, theirs, ours) in [
        ("baseline", their_first, first),
        ("check", their_check, check),
    ] {
        println!(
            "| {what} beside aide, CPU seconds | {:.1} | {:.1} | {:.2} | 3 |",
            theirs.cpu,
            ours.cpu,
            theirs.cpu / ours.cpu
        );
        println!(
            "| the same, seconds | {:.1} | {:.1} | {:.2} | 3 |",
            theirs.seconds,
            ours.seconds,
            theirs.seconds / ours.seconds
        );
    }
    daemon.remove();
}

/// Milliseconds from the end of a write until the finding is in the API, and in the file of a destination.
fn latency(daemon: &mut Daemon, rules: &str) -> [Vec<f64>; 2] {
    let watched = daemon.node.path("watched");
    fs::create_dir(&watched).unwrap();
    let out = daemon.node.path("out.jsonl");
    let rules =
        format!("{rules}\nrule written {{ strings: $a = \"written-just-now\" condition: $a }}\n");
    let scanning = format!("destinations: [{{name: out, file: {{path: {out:?}}}}}]");
    daemon.first(&yara_spec(&watched, &rules, &scanning));
    let (mut listed, mut sent) = (Vec::new(), Vec::new());
    for number in 0..WRITES {
        let path = watched.join(format!("file-{number}"));
        let end = format!("\"{}\"", path.display());
        fs::write(&path, format!("{}written-just-now", "x".repeat(4000))).unwrap();
        let begin = Instant::now();
        let (mut in_api, mut in_file) = (None, None);
        while in_api.is_none() || in_file.is_none() {
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "{}",
                daemon.node.daemon_log()
            );
            std::thread::sleep(Duration::from_millis(1));
            if in_api.is_none() {
                let query = format!("/v1/findings?subject={}&limit=1", path.display());
                let (_, body) = daemon.node.get(&query).unwrap();
                let page: Value = serde_json::from_str(&body).unwrap();
                let told = page["items"].as_array().is_some_and(|it| !it.is_empty());
                in_api = told.then(|| begin.elapsed());
            }
            if in_file.is_none() {
                let told = fs::read_to_string(&out).is_ok_and(|it| it.contains(&end));
                in_file = told.then(|| begin.elapsed());
            }
        }
        listed.push(in_api.unwrap().as_secs_f64() * 1e3);
        sent.push(in_file.unwrap().as_secs_f64() * 1e3);
    }
    [listed, sent]
}

/// The share of a core that is used with nothing to do, in percent.
fn idle(node: &Node) -> f64 {
    let before = cpu_seconds(node.pid());
    std::thread::sleep(IDLE);
    (cpu_seconds(node.pid()) - before) / IDLE.as_secs_f64() * 100.0
}

/// PSS once what was needed before is given back.
fn at_rest(node: &Node) -> u64 {
    node.rest(|| ());
    pss(node.pid()).unwrap()
}

fn main() {
    let count = number("BULKHEAD_BENCH_FILES", 20_000);
    let megabytes = number("BULKHEAD_BENCH_MEGABYTES", 1000) as u64;
    let runs = number("BULKHEAD_BENCH_RUNS", 3);
    let usr = std::env::var_os("BULKHEAD_BENCH_TREE").map_or("/usr".into(), PathBuf::from);
    let node = Node::new();
    let tree = node.path("tree");
    let (files, bytes) = copy(&tree, count, megabytes * 1_000_000);
    let samples = files.iter().step_by((files.len() / 200).max(1));
    let samples: Vec<Vec<u8>> = samples.map(|path| fs::read(path).unwrap()).collect();
    let rules = generate::rules(1, 200, &samples);
    println!(
        "{} files, {} MB; 200 rules, 1,000 signatures",
        files.len(),
        bytes / 1_000_000
    );

    let mut daemon = Daemon { node, passes: 0 };
    daemon.node.start();
    // The module is compiled once, as on a node that has run it before.
    let empty = daemon.node.path("empty");
    fs::create_dir(&empty).unwrap();
    daemon.first(&yara_spec(&empty, &rules, PASSES));
    daemon.node.stop();
    daemon.node.remove_manifest("scan");
    daemon.node.start_with(&[], &RESTS);
    daemon.node.rest(|| ());
    let alone = pss(daemon.node.pid()).unwrap();
    daemon.first(&yara_spec(&empty, &rules, ""));
    let share = idle(&daemon.node);
    let fresh = pss(daemon.node.pid()).unwrap();
    let fresh_at_rest = at_rest(&daemon.node);
    daemon.remove();

    contents(&mut daemon, &tree, bytes, &rules, &samples, runs);
    daemon.first(&yara_spec(&tree, &rules, ""));
    let share_after = idle(&daemon.node);
    let after = pss(daemon.node.pid()).unwrap();
    let after_at_rest = at_rest(&daemon.node);
    daemon.remove();
    fs::remove_dir_all(&tree).unwrap();
    let [listed, sent] = latency(&mut daemon, &rules);
    daemon.remove();
    if usr.exists() {
        integrity(&mut daemon, &usr);
    }
    let row = |what: &str, of: &[f64]| {
        let at = |at| quantile(of.iter().copied(), at);
        println!(
            "| {what}, ms | p50 {:.0} | p99 {:.0} | worst {:.0} | 100 |",
            at(0.5),
            at(0.99),
            at(1.0)
        );
    };
    row("written to listed in the API", &listed);
    row("written to a destination's file", &sent);
    let mib = |kib: u64| kib as f64 / 1024.0;
    println!("| idle, % of a core: fresh, after a pass | | {share:.2}, {share_after:.2} | | 1 |");
    println!(
        "| PSS beside the daemon alone ({:.1} MiB), MiB: fresh, after a pass | | {:+.1}, {:+.1} | | |",
        mib(alone),
        mib(fresh) - mib(alone),
        mib(after) - mib(alone)
    );
    println!(
        "| the same at rest: fresh, after a pass | | {:+.1}, {:+.1} | | +10 |",
        mib(fresh_at_rest) - mib(alone),
        mib(after_at_rest) - mib(alone)
    );
}
