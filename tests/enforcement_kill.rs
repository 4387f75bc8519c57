//! kill -9 in the middle of convergence, 200 times on one tree: every managed file is the old or the new
//! one, never torn, nothing else is left behind, the next start completes, handlers that were due are done,
//! and the audit log's chain holds.
//!
//! The order of the places is drawn from a seed, which is printed; `BULKHEAD_SEED` repeats it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use support::{Node, fixture_file, seed};

/// Where the daemon is killed, and how often each is passed at most before it is.
const PLACES: &[(&str, u64)] = &[
    ("effect-kept", 1),
    ("audit-written", 2),
    ("effect-audited", 1),
    ("effect-staged", 40),
    ("effect-settled", 40),
    ("effect-renamed", 40),
    ("effect-synced", 1),
    ("effect-made", 1),
    ("effect-told", 1),
];
const KILLS: usize = 200;
const FILES: usize = 40;

struct Tree {
    node: Node,
    /// The version that is declared.
    version: usize,
}

impl Tree {
    /// What a file is in a version: of several pages, so that a torn one would show.
    fn content(file: usize, version: usize) -> String {
        format!("file {file} version {version}\n").repeat(2000 + file * 100)
    }

    fn mode(version: usize) -> u32 {
        if version.is_multiple_of(2) {
            0o600
        } else {
            0o640
        }
    }

    /// Declares the next version.
    fn declare(&mut self) {
        self.version += 1;
        let etc = self.node.path("etc");
        let files = (0..FILES).map(|file| {
            let path = etc.join(file.to_string());
            let text = format!("file {file} version {}", self.version);
            format!(
                "{{path: {}, line: {text:?}, times: {}, mode: {}}}",
                path.display(),
                2000 + file * 100,
                Self::mode(self.version)
            )
        });
        let files: Vec<String> = files.collect();
        let module = fixture_file("fixture-enforcement");
        let etc = etc.display();
        let (first, done) = (format!("{etc}/0"), self.node.path("etc/done"));
        let handler = format!(
            "{{id: handler, write: {{path: {}, content: {:?}}}, whenChanged: [{first}]}}",
            done.display(),
            self.version.to_string()
        );
        self.node.manifest(
            "conf",
            &format!(
                "module:\n  {module}\nconfig: {{keep: [{}], changes: [{handler}]}}\n\
                 grants: {{changes: {{files: [{etc}]}}}}\n\
                 enforcement: {{mode: enforce, watch: false, keep: {{maxSize: 256Mi, changes: 100000}}}}\n",
                files.join(", ")
            ),
        );
    }

    /// Each file is as in this version or the one before. How many are new.
    fn check(&self) -> usize {
        let mut new = 0;
        for file in 0..FILES {
            let path = self.node.path("etc").join(file.to_string());
            let Ok(found) = fs::read_to_string(&path) else {
                assert_eq!(self.version, 1, "file {file} is gone");
                continue;
            };
            let mode = path.metadata().unwrap().mode() & 0o7777;
            let version = [self.version, self.version - 1]
                .into_iter()
                .find(|version| {
                    found == Self::content(file, *version) && mode == Self::mode(*version)
                });
            let version = version.unwrap_or_else(|| {
                let begin: String = found.chars().take(40).collect();
                panic!(
                    "file {file} of {} bytes, mode {mode:o}, is torn: {begin}",
                    found.len()
                )
            });
            new += usize::from(version == self.version);
        }
        new
    }

    /// Starts again, and everything is as declared.
    fn complete(&mut self) {
        self.node.start_with(&["--safe-mode-deaths", "0"], &[]);
        self.node.wait_plugin("conf", "converged", |report| {
            let report = &report["enforcement"];
            report["lastCheck"].is_string()
                && report["rules"]["pass"] == FILES
                && report["outstandingCount"] == 0
                && report["waitingHandlers"] == 0
        });
        self.node.stop();
        assert_eq!(self.check(), FILES);
        let done = fs::read_to_string(self.node.path("etc/done")).unwrap();
        assert_eq!(done, self.version.to_string(), "the handler was not done");
        let names = fs::read_dir(self.node.path("etc")).unwrap();
        let names: BTreeSet<String> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut expected: BTreeSet<String> = (0..FILES).map(|file| file.to_string()).collect();
        expected.insert("done".to_owned());
        assert_eq!(names, expected, "something was left behind");
        let verified = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
            .args(["enforcement", "audit", "--state"])
            .arg(self.node.path("state"))
            .output()
            .unwrap();
        assert!(verified.status.success(), "{verified:?}");
    }
}

#[test]
fn two_hundred_kills_leave_every_file_old_or_new() {
    let seed = seed();
    eprintln!("BULKHEAD_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let node = Node::new();
    fs::create_dir(node.path("etc")).unwrap();
    let mut tree = Tree { node, version: 0 };
    tree.declare();
    tree.complete();
    let mut killed: BTreeMap<&str, usize> = BTreeMap::new();
    let mut between = 0;
    while killed.values().sum::<usize>() < KILLS {
        // The place that was hit least so far.
        let (place, most) = PLACES
            .iter()
            .min_by_key(|(place, _)| (killed.get(place).copied().unwrap_or(0), random.u8(..)))
            .unwrap();
        tree.declare();
        let times = random.u64(1..=*most);
        let failpoint = format!("{place}:{times}");
        // Dying is what it is for: the plugin is not to be left out for it.
        let environment = [("BULKHEAD_FAILPOINT", &*failpoint)];
        tree.node.spawn(&["--safe-mode-deaths", "0"], &environment);
        tree.node.wait_for_end();
        *killed.entry(place).or_default() += 1;
        let new = tree.check();
        between += usize::from(new > 0 && new < FILES);
        tree.complete();
    }
    eprintln!("killed at {killed:?}, with some files old and some new {between} times");
    assert!(
        between >= 20,
        "the kills came too early or too late: {between}"
    );
    assert!(killed.values().all(|count| *count >= 20), "{killed:?}");
}
