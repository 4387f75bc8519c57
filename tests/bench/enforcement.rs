//! config-enforcer beside `puppet apply` and `ansible-playbook -c local` (with pipelining): 500 files and 20
//! lines `key = value` on copies of the same tree, converged and looked at again, and manual edits undone.
//!
//! `BULKHEAD_BENCH_FILES` and `BULKHEAD_BENCH_RUNS` make it shorter or longer. It fails if a tree is not as
//! declared, or the trees are not alike, never for being slow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "pipeline/process.rs"]
#[allow(dead_code, reason = "a module of several benchmarks")]
mod process;
#[path = "../support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use process::pss;
use support::debian::{differences, read_tree};
use support::enforcer::{order, spec, text, wait_check};
use support::{Node, RESTS, wait_for};

const SETTINGS: usize = 20;
/// Looks with nothing to change.
const CHECKS: usize = 50;
/// Manual edits, each of a file of its own: a fifth of one file would count as an edit war.
const EDITS: usize = 100;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |it| it.parse().unwrap())
}

fn content(file: usize) -> String {
    (0..20).fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "option_{line} = value {line} of file {file}");
        text
    })
}

/// A tree in which no file is there and each setting has another value.
fn tree(node: &Node, name: &str) -> PathBuf {
    let root = node.path(name);
    let _ = fs::remove_dir_all(&root);
    fs::create_dir(&root).unwrap();
    let lines = (0..SETTINGS).map(|key| format!("net.key_{key} = old\n"));
    fs::write(root.join("settings.conf"), lines.collect::<String>()).unwrap();
    root
}

fn ours(root: &Path, files: usize) -> String {
    let root = root.display();
    let mut config = "resources:\n".to_owned();
    for file in 0..files {
        let text = content(file);
        let _ = writeln!(
            config,
            "- {{id: f{file}, file: {{path: {root}/{file}.conf, content: {text:?}, mode: \"0644\"}}}}"
        );
    }
    for key in 0..SETTINGS {
        let _ = writeln!(
            config,
            "- {{id: s{key}, setting: {{path: {root}/settings.conf, format: keyValue, set: {{net.key_{key}: {key}}}}}}}"
        );
    }
    config
}

fn puppets(root: &Path, files: usize) -> String {
    let root = root.display();
    let mut site = String::new();
    for file in 0..files {
        let text = content(file);
        let _ = writeln!(
            site,
            "file {{ '{root}/{file}.conf': content => {text:?}, mode => '0644' }}"
        );
    }
    for key in 0..SETTINGS {
        let _ = writeln!(
            site,
            "file_line {{ 's{key}': path => '{root}/settings.conf', line => 'net.key_{key} = {key}', match => '^net\\.key_{key} =' }}"
        );
    }
    site
}

fn ansibles(root: &Path, files: usize) -> String {
    let root = root.display();
    let mut book = format!(
        "- hosts: localhost\n  connection: local\n  gather_facts: false\n  tasks:\n  \
         - copy: {{dest: '{root}/{{{{ item.name }}}}', content: '{{{{ item.content }}}}', mode: '0644'}}\n    loop:\n"
    );
    for file in 0..files {
        let text = content(file);
        let _ = writeln!(book, "    - {{name: {file}.conf, content: {text:?}}}");
    }
    let _ = writeln!(
        book,
        "  - lineinfile: {{path: '{root}/settings.conf', line: 'net.key_{{{{ item }}}} = {{{{ item }}}}', regexp: '^net\\.key_{{{{ item }}}} ='}}\n    loop: \"{{{{ range({SETTINGS}) | list }}}}\""
    );
    book
}

/// The seconds that a command takes.
fn time(command: &mut Command, codes: &[i32]) -> f64 {
    let begin = Instant::now();
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}: see `make setup`"));
    let code = output.status.code().unwrap_or(-1);
    assert!(codes.contains(&code), "{code}: {}", text(&output));
    begin.elapsed().as_secs_f64()
}

/// First on a new tree, then with nothing to change; the seconds of each, and the tree.
fn puppet(node: &Node, files: usize) -> ([f64; 2], PathBuf) {
    let root = tree(node, "puppet");
    let site = node.path("site.pp");
    fs::write(&site, puppets(&root, files)).unwrap();
    let run = |code: i32| {
        let mut command = Command::new("puppet");
        command.args(["apply", "--detailed-exitcodes"]);
        for name in ["conf", "var", "log", "run"] {
            let folder = node.path(&format!("puppet-{name}"));
            command.arg(format!("--{name}dir")).arg(folder);
        }
        time(command.arg(&site), &[code])
    };
    ([run(2), run(0)], root)
}

fn ansible(node: &Node, files: usize) -> ([f64; 2], PathBuf) {
    let root = tree(node, "ansible");
    let book = node.path("playbook.yaml");
    fs::write(&book, ansibles(&root, files)).unwrap();
    let run = || {
        let mut command = Command::new("ansible-playbook");
        command.args(["-i", "localhost,", "-c", "local"]);
        let command = command.env("ANSIBLE_PIPELINING", "1");
        let command = command.env("ANSIBLE_HOME", node.path("ansible-home"));
        time(command.arg(&book), &[0])
    };
    ([run(), run()], root)
}

struct Daemon {
    node: Node,
    files: usize,
}

impl Daemon {
    fn declare(&self, root: &Path, enforcement: &str) {
        let grants = format!("changes: {{files: [{}]}}", root.display());
        let config = ours(root, self.files);
        self.node
            .manifest("conf", &spec(&config, &grants, enforcement));
    }

    /// From the manifest in its place to everything done, and how long the round took that did it.
    fn converge(&self, root: &Path) -> f64 {
        let begin = Instant::now();
        self.declare(root, "mode: enforce, interval: 1h");
        let last = root.join(format!("{}.conf", self.files - 1));
        let settings = root.join("settings.conf");
        let whole = content(self.files - 1);
        loop {
            let done = fs::read_to_string(&last).is_ok_and(|it| it == whole)
                && !fs::read_to_string(&settings).unwrap().contains("old");
            if done && fs::read_dir(root).unwrap().count() == self.files + 1 {
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(300), "not converged");
            std::thread::sleep(Duration::from_millis(1));
        }
        let took = begin.elapsed().as_secs_f64();
        self.check();
        took
    }

    /// The seconds of a check through the control socket, and of the look in it.
    fn check(&self) -> (f64, f64) {
        let begin = Instant::now();
        let output = order(&self.node, &["check", "conf"]);
        let took = begin.elapsed().as_secs_f64();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let report = self.node.plugin("conf").unwrap();
        let report = &report["enforcement"];
        assert_eq!(report["rules"]["pass"], self.files + SETTINGS, "{report:#}");
        (took, report["seconds"].as_f64().unwrap())
    }

    /// The seconds until an edit is undone.
    fn edit(&self, path: &Path, whole: &str) -> f64 {
        fs::write(path, "edited by hand\n").unwrap();
        let begin = Instant::now();
        wait_for("an edit to be undone", || {
            while begin.elapsed() < Duration::from_secs(5) {
                if fs::read_to_string(path).is_ok_and(|it| it == whole) {
                    return Some(begin.elapsed().as_secs_f64());
                }
                std::thread::sleep(Duration::from_micros(500));
            }
            None
        })
    }
}

fn quantile(values: &[f64], of: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * of).round() as usize]
}

fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

fn main() {
    let files = number("BULKHEAD_BENCH_FILES", 500);
    let runs = number("BULKHEAD_BENCH_RUNS", 3);
    let mut node = Node::new();
    node.start();
    let mut daemon = Daemon { node, files };
    // The module is compiled once, as on a node that has run it before.
    let (node, scratch) = (&daemon.node, tree(&daemon.node, "scratch"));
    let grants = format!("changes: {{files: [{}]}}", scratch.display());
    node.manifest("first", &spec("resources: []", &grants, "mode: audit"));
    wait_check(node, "first");
    daemon.node.stop();
    daemon.node.remove_manifest("first");
    daemon.node.start_with(&[], &RESTS);
    daemon.node.rest(|| ());
    let idle = pss(daemon.node.pid()).unwrap();

    let (mut first, mut theirs) = (Vec::new(), [Vec::new(), Vec::new()]);
    let mut root = scratch;
    for run in 0..runs {
        root = tree(&daemon.node, &format!("ours-{run}"));
        first.push(daemon.converge(&root));
        let (took, _) = puppet(&daemon.node, files);
        for (all, took) in theirs.iter_mut().zip(took) {
            all.push(took);
        }
    }
    let (ansibles, tree_of_ansible) = ansible(&daemon.node, files);
    let (_, tree_of_puppet) = puppet(&daemon.node, files);
    let (checks, looks): (Vec<f64>, Vec<f64>) = (0..CHECKS).map(|_| daemon.check()).unzip();
    let after = pss(daemon.node.pid()).unwrap();
    for other in [&tree_of_ansible, &tree_of_puppet] {
        let differing = differences(&read_tree(&root), &read_tree(other));
        assert!(differing.is_empty(), "{}", differing.join("\n"));
    }
    let edits: Vec<f64> = (0..EDITS.min(files))
        .map(|file| daemon.edit(&root.join(format!("{file}.conf")), &content(file)))
        .collect();
    let edited = pss(daemon.node.pid()).unwrap();
    // What converging took is given back once there is nothing more to do than to look, and to undo an edit.
    daemon.declare(&root, "mode: enforce, interval: 5s");
    let mut file = edits.len()..files;
    daemon.node.rest(|| {
        if let Some(file) = file.next() {
            daemon.edit(&root.join(format!("{file}.conf")), &content(file));
        }
    });
    let rested = pss(daemon.node.pid()).unwrap();
    everything_is_read(&daemon, &root);

    println!(
        "{files} files, {SETTINGS} settings; medians of {runs} runs, {CHECKS} checks; Ansible once"
    );
    println!(
        "| | config-enforcer | puppet apply | ratio | ansible-playbook | ratio |\n|---|---:|---:|---:|---:|---:|"
    );
    let row = |what: &str, ours: f64, puppet: f64, ansible: f64| {
        println!(
            "| {what} | {:.1} ms | {puppet:.2} s | {:.0} | {ansible:.1} s | {:.0} |",
            ours * 1000.0,
            puppet / ours,
            ansible / ours,
        );
    };
    let (again, look) = (median(&checks), median(&looks));
    let [puppet_first, puppet_again] = [median(&theirs[0]), median(&theirs[1])];
    row("first", median(&first), puppet_first, ansibles[0]);
    row(
        "nothing to change, `enforcement check`",
        again,
        puppet_again,
        ansibles[1],
    );
    row(
        "nothing to change, in the daemon",
        look,
        puppet_again,
        ansibles[1],
    );
    let mib = |kib: u64| kib as f64 / 1024.0;
    println!(
        "memory, PSS in MiB: idle {:.1}, converged {:+.1}, after {} edits {:+.1}, at rest {:+.1}",
        mib(idle),
        mib(after) - mib(idle),
        edits.len(),
        mib(edited) - mib(idle),
        mib(rested) - mib(idle),
    );
    println!(
        "a manual edit undone after, ms: p50 {:.0}, p99 {:.0}, worst {:.0}",
        median(&edits) * 1000.0,
        quantile(&edits, 0.99) * 1000.0,
        quantile(&edits, 1.0) * 1000.0,
    );
}

/// An edit that no watch tells of, and neither size nor time of the file, is found by a check.
fn everything_is_read(daemon: &Daemon, root: &Path) {
    daemon.declare(root, "mode: audit, interval: 1h, watch: false");
    daemon
        .node
        .wait_plugin("conf", "audits", |it| it["enforcement"]["mode"] == "audit");
    daemon.check();
    let path = root.join("0.conf");
    let modified = path.metadata().unwrap().modified().unwrap();
    fs::write(&path, content(0).replace("value 7", "value 8")).unwrap();
    let times = FileTimes::new().set_modified(modified);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_times(times)
        .unwrap();
    let output = order(&daemon.node, &["check", "conf"]);
    let said = text(&output);
    assert!(
        output.status.code() == Some(2) && said.contains("0.conf"),
        "{said}"
    );
}
