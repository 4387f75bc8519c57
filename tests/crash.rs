//! kill -9 at named places, 200 times on one state, one set of logs and four destinations: no line
//! is missing anywhere, none is out of order, Elasticsearch holds no document twice, and elsewhere
//! only those lines come twice that had arrived and that no commit covered.
//!
//! The order of the places, and how often each is passed before the kill, is drawn from a seed,
//! which is printed; `BULKHEAD_SEED` repeats it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use support::history::{History, KEPT};
use support::peers::{Peers, is_filtered};
use support::{Node, PATIENCE, fixture_module, seed, sha256, variant, wait_for};

/// All kills together.
const KILLS: usize = 200;
/// At each place.
const LEAST: usize = 5;

/// Between writes and looks.
const PAUSE: Duration = Duration::from_millis(10);

/// What happens every few writes, while the daemon is on its way to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Nothing,
    /// Logs appear.
    Appear,
    /// A log is renamed; its successor begins where it ended.
    Rotate,
    /// A log is truncated, once everything in it has arrived.
    Truncate,
    /// The manifest changes.
    Update,
    /// The module has changed, so that it is compiled anew.
    Module,
    /// Good and bad revisions take turns, each for long enough to be tried.
    Fail,
}

/// Where the daemon is killed.
struct Place {
    name: &'static str,
    kills: usize,
    /// It is passed up to so many times, the last of them included.
    most: u64,
    deed: Deed,
}

const fn place(name: &'static str, kills: usize, most: u64, deed: Deed) -> Place {
    Place {
        name,
        kills,
        most,
        deed,
    }
}

const PLACES: [Place; 31] = [
    place("tail.opened", 9, 6, Deed::Appear),
    place("tail.read", 9, 20, Deed::Nothing),
    place("tail.rotated", 9, 4, Deed::Rotate),
    place("tail.truncated", 6, 2, Deed::Truncate),
    place("file.before-write", 7, 20, Deed::Nothing),
    place("file.after-write", 7, 20, Deed::Nothing),
    place("file.rotate", 7, 3, Deed::Nothing),
    place("delivery.before-send", 7, 40, Deed::Nothing),
    place("delivery.after-send", 7, 40, Deed::Nothing),
    place("delivery.settled", 7, 40, Deed::Nothing),
    place("dead-letter.before-sync", 6, 3, Deed::Nothing),
    place("dead-letter.after-sync", 6, 3, Deed::Nothing),
    place("queue.segment", 5, 1, Deed::Nothing),
    place("queue.before-write", 7, 20, Deed::Nothing),
    place("queue.half-written", 7, 20, Deed::Nothing),
    place("queue.after-write", 7, 20, Deed::Nothing),
    place("queue.synced", 7, 20, Deed::Nothing),
    place("queue.kept", 7, 20, Deed::Nothing),
    place("queue.settled", 7, 20, Deed::Nothing),
    place("queue.before-cursor", 5, 2, Deed::Nothing),
    place("queue.after-cursor", 5, 2, Deed::Nothing),
    place("queue.removed", 5, 1, Deed::Nothing),
    place("checkpoint.collected", 6, 2, Deed::Nothing),
    place("state.before-commit", 6, 2, Deed::Nothing),
    place("state.after-commit", 6, 2, Deed::Nothing),
    place("cache.before-rename", 5, 1, Deed::Module),
    place("update.compiled", 6, 3, Deed::Update),
    place("update.prepared", 6, 3, Deed::Update),
    place("update.before-swap", 6, 3, Deed::Update),
    place("update.after-swap", 6, 3, Deed::Update),
    place("update.rollback", 5, 1, Deed::Fail),
];

/// A daemon that is killed while lines are written, and where they go.
struct Trial {
    node: Node,
    history: History,
    peers: Peers,
    rounds: u64,
    /// Which variant of the module is declared.
    module: u8,
    /// Logs that have been moved away, or that nothing is written to any more.
    old: Vec<PathBuf>,
}

impl Trial {
    fn new() -> Self {
        Self {
            node: Node::new(),
            history: History::with_filtered(is_filtered),
            peers: Peers::start(),
            rounds: 0,
            module: b'a',
            old: Vec::new(),
        }
    }

    /// Declares a revision of the plugin.
    fn declare(&self, config: &str) {
        let (path, _) = fixture_module("fixture-logs");
        let bytes = variant(&fs::read(path).unwrap(), self.module);
        let path = self.node.path(&format!("module-{}.wasm", self.module));
        if !path.exists() {
            fs::write(&path, &bytes).unwrap();
        }
        let module = format!("file: {{path: {path:?}, sha256: {}}}", sha256(&bytes));
        let config = format!("{{contains: {:?}, {config}}}", KEPT.to_string());
        let destinations = self.peers.destinations(&self.node, "4Ki");
        let spec = self.node.spec_with(&module, &config, &destinations);
        self.node.manifest("app", &spec);
    }

    fn log(&self, name: &str) -> PathBuf {
        self.node.path("logs").join(name)
    }

    fn write(&mut self, name: &str, count: u64) {
        let mut log = File::options()
            .append(true)
            .create(true)
            .open(self.log(name))
            .unwrap();
        let lines = self.history.next(&log, count);
        log.write_all(lines.as_bytes()).unwrap();
    }

    fn missing(&self) -> Vec<(&'static str, Vec<u64>)> {
        self.peers.missing(&self.node, &self.history)
    }

    /// The daemon has died.
    fn died(&mut self) {
        self.peers.crashed(&self.node, &mut self.history);
    }

    fn do_deed(&mut self, deed: Deed) {
        let round = self.rounds;
        match deed {
            Deed::Nothing => {}
            Deed::Appear => {
                let name = format!("n{}.log", round / 3);
                self.write(&name, 2);
                if round.is_multiple_of(3) {
                    self.old.push(self.log(&name));
                }
            }
            Deed::Rotate if round.is_multiple_of(5) => {
                let log = self.log("r.log");
                let old = log.with_extension(format!("log.{round}"));
                if fs::rename(&log, &old).is_ok() {
                    self.old.push(old);
                }
            }
            Deed::Truncate => {
                self.peers.wait_arrived(&mut self.node, &self.history);
                if !self.node.has_ended() {
                    let log = File::create(self.log("a.log")).unwrap();
                    self.history.truncated(&log);
                }
            }
            Deed::Update if round.is_multiple_of(3) => {
                self.declare(&format!("version: \"{round}\""));
            }
            Deed::Fail if round.is_multiple_of(40) => {
                let faults = ["", ", faults: [{do: panic}]"][(round / 40 % 2) as usize];
                self.declare(&format!("version: \"{round}\"{faults}"));
            }
            Deed::Rotate | Deed::Update | Deed::Module | Deed::Fail => {}
        }
    }

    /// A log that is moved away before its plugin was ever loaded is not the plugin's, so it is loaded
    /// once in peace.
    fn begin(&mut self) {
        self.declare("");
        self.node.start();
        self.write("a.log", 1);
        wait_for("the first line", || self.missing().is_empty().then_some(()));
        self.node.kill();
        self.died();
    }

    /// Starts the daemon and works until it is killed at the place's `hit`th passing.
    fn kill(&mut self, place: &Place, hit: u64) {
        let armed = format!("{}:{hit}", place.name);
        let environment = [("BULKHEAD_FAILPOINT", armed.as_str())];
        if place.deed == Deed::Module {
            self.module += 1;
            self.declare("");
        }
        self.node.spawn(&["--safe-mode-deaths", "0"], &environment);
        let begin = Instant::now();
        while !self.node.has_ended() {
            let log = || self.node.daemon_log();
            assert!(begin.elapsed() < PATIENCE, "{armed} in vain\n{}", log());
            self.rounds += 1;
            for name in ["a.log", "b.log", "r.log"] {
                self.write(name, 2);
            }
            self.do_deed(place.deed);
            std::thread::sleep(PAUSE);
        }
        assert!(!self.node.wait_for_end().success(), "{armed}: killed");
        self.died();
        if place.deed == Deed::Fail {
            // Perhaps the revision at hand is a bad one.
            self.declare("");
        }
    }

    /// Deletes logs that nobody needs any more, so that inodes are used again.
    fn clean_up(&mut self) {
        if self.old.len() > 60 && self.missing().is_empty() {
            for log in self.old.drain(..) {
                fs::remove_file(log).unwrap();
            }
        }
    }

    /// Lets the daemon finish, and judges what came out.
    fn conclude(mut self) {
        self.declare("version: last");
        self.node.start_with(&["--safe-mode-deaths", "0"], &[]);
        self.write("a.log", 1);
        self.peers.conclude(&mut self.node, &self.history);
    }
}

#[test]
fn two_hundred_kills_lose_nothing_and_repeat_only_what_was_in_flight() {
    let seed = seed();
    eprintln!("BULKHEAD_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut kills: Vec<&Place> = PLACES
        .iter()
        .flat_map(|place| std::iter::repeat_n(place, place.kills))
        .collect();
    assert!(kills.len() >= KILLS && PLACES.iter().all(|place| place.kills >= LEAST));
    random.shuffle(&mut kills);

    let mut trial = Trial::new();
    trial.begin();
    let mut hits: BTreeMap<&str, (Vec<u64>, Duration)> = BTreeMap::new();
    for place in kills {
        let begin = Instant::now();
        let hit = random.u64(1..=place.most);
        trial.kill(place, hit);
        trial.clean_up();
        let (hits, time) = hits.entry(place.name).or_default();
        hits.push(hit);
        *time += begin.elapsed();
    }
    eprintln!("| place | kills | killed at its n-th passing | seconds |");
    for (place, (hits, time)) in &hits {
        eprintln!(
            "| {place} | {} | {hits:?} | {:.1} |",
            hits.len(),
            time.as_secs_f64()
        );
    }
    let counts: BTreeSet<usize> = hits.values().map(|(hits, _)| hits.len()).collect();
    assert!(*counts.first().unwrap() >= LEAST && hits.len() == PLACES.len());
    trial.conclude();
}

#[test]
fn a_stop_in_the_middle_of_load_ships_nothing_twice() {
    let mut trial = Trial::new();
    trial.declare("");
    for round in 1..=5 {
        trial.node.start();
        let target = trial.history.shipped(&trial.node).len() + 500 * round;
        wait_for("lines", || {
            trial.write("a.log", 500);
            (trial.history.shipped(&trial.node).len() >= target).then_some(())
        });
        assert!(trial.node.stop().success());
        assert!(trial.node.daemon_log().contains("ended"));
    }
    trial.conclude();
}
