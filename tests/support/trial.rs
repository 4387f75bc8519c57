//! A daemon that dies at named places, again and again, on one state, one set of logs and four
//! destinations: killed, or with the power of the disk that its state and its output are on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::disk::Ext4;
use super::history::{History, KEPT};
use super::peers::{Peers, is_filtered};
use super::{Node, PATIENCE, fixture_module, sha256, variant, wait_for};

/// All deaths together.
const DEATHS: usize = 200;
/// At each place.
const LEAST: usize = 5;

/// Of the image of the disk.
const ROOM: u64 = 64 << 20;

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

/// Where the daemon dies.
struct Place {
    name: &'static str,
    deaths: usize,
    /// It is passed up to so many times, the last of them included.
    most: u64,
    deed: Deed,
}

const fn place(name: &'static str, deaths: usize, most: u64, deed: Deed) -> Place {
    Place {
        name,
        deaths,
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

/// See the module.
pub struct Trial {
    pub node: Node,
    pub history: History,
    pub peers: Peers,
    /// Loses what was not synced whenever the daemon dies. The logs are not on it.
    disk: Option<Ext4>,
    /// Lines of the output file that were lost with the power.
    pub cut_off: usize,
    rounds: u64,
    /// Which variant of the module is declared.
    module: u8,
    /// Logs that have been moved away, or that nothing is written to any more.
    old: Vec<PathBuf>,
}

impl Trial {
    /// The daemon is killed.
    pub fn new() -> Self {
        Self::with(Node::new(), None)
    }

    /// The power is cut.
    pub fn on_a_disk() -> Self {
        let mut node = Node::new();
        let disk = Ext4::new(&node.path("disk"), ROOM, true);
        node.state = node.path("disk/state");
        node.outputs = node.path("disk/outputs");
        Self::with(node, Some(disk))
    }

    fn with(node: Node, disk: Option<Ext4>) -> Self {
        Self {
            node,
            disk,
            cut_off: 0,
            history: History::with_filtered(is_filtered),
            peers: Peers::start(),
            rounds: 0,
            module: b'a',
            old: Vec::new(),
        }
    }

    /// Declares a revision of the plugin.
    pub fn declare(&self, config: &str) {
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

    pub fn write(&mut self, name: &str, count: u64) {
        let mut log = File::options()
            .append(true)
            .create(true)
            .open(self.log(name))
            .unwrap();
        let lines = self.history.next(&log, count);
        log.write_all(lines.as_bytes()).unwrap();
    }

    /// Whether the daemon can do without a log that has arrived: what a disk has of it is lost with
    /// the power, but for what is committed.
    fn is_safe(&self, log: &Path) -> bool {
        let committed = |log: File| self.history.is_committed_in(&self.node, &log);
        self.disk.is_none() || File::open(log).is_ok_and(committed)
    }

    fn missing(&self) -> Vec<(&'static str, Vec<u64>)> {
        self.peers.missing(&self.node, &self.history)
    }

    /// The daemon has died, and perhaps the power is cut and put on again.
    fn died(&mut self) {
        if let Some(disk) = &self.disk {
            let before = self.history.shipped(&self.node).len();
            disk.cut_power();
            disk.power_on();
            let after = self.history.shipped(&self.node).len();
            self.cut_off += before.saturating_sub(after);
        }
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
                let log = self.log("a.log");
                while !self.node.has_ended() && !self.is_safe(&log) {
                    std::thread::sleep(PAUSE);
                }
                if !self.node.has_ended() {
                    let log = File::create(log).unwrap();
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
    pub fn begin(&mut self) {
        self.declare("");
        self.node.start();
        self.write("a.log", 1);
        wait_for("the first line", || self.missing().is_empty().then_some(()));
        self.node.kill();
        self.died();
    }

    /// Writes a little, and does what else there is to do.
    fn work(&mut self, deed: Deed) {
        self.rounds += 1;
        for name in ["a.log", "b.log", "r.log"] {
            self.write(name, 2);
        }
        self.do_deed(deed);
        std::thread::sleep(PAUSE);
    }

    /// Starts the daemon and works until it dies at the place's `hit`th passing.
    fn die(&mut self, place: &Place, hit: u64) {
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
            self.work(place.deed);
        }
        assert!(!self.node.wait_for_end().success(), "{armed}: killed");
        self.died();
        if place.deed == Deed::Fail {
            // Perhaps the revision at hand is a bad one.
            self.declare("");
        }
    }

    /// Starts the daemon, works and lets it die after this time, wherever it is.
    pub fn die_after(&mut self, time: Duration) {
        self.node.spawn(&["--safe-mode-deaths", "0"], &[]);
        let begin = Instant::now();
        while begin.elapsed() < time {
            self.work(Deed::Nothing);
        }
        assert!(!self.node.has_ended(), "{}", self.node.daemon_log());
        self.node.kill();
        self.died();
    }

    /// Dies [`DEATHS`] times, at each place [`LEAST`] times and more, in an order that is drawn.
    pub fn die_everywhere(&mut self, random: &mut fastrand::Rng) {
        let mut deaths: Vec<&Place> = PLACES
            .iter()
            .flat_map(|place| std::iter::repeat_n(place, place.deaths))
            .collect();
        assert!(deaths.len() >= DEATHS && PLACES.iter().all(|place| place.deaths >= LEAST));
        random.shuffle(&mut deaths);
        let mut hits: BTreeMap<&str, (Vec<u64>, Duration)> = BTreeMap::new();
        for place in deaths {
            let begin = Instant::now();
            let hit = random.u64(1..=place.most);
            self.die(place, hit);
            self.clean_up();
            let (hits, time) = hits.entry(place.name).or_default();
            hits.push(hit);
            *time += begin.elapsed();
        }
        eprintln!("| place | deaths | died at its n-th passing | seconds |");
        for (place, (hits, time)) in &hits {
            let seconds = time.as_secs_f64();
            eprintln!("| {place} | {} | {hits:?} | {seconds:.1} |", hits.len());
        }
        let counts: BTreeSet<usize> = hits.values().map(|(hits, _)| hits.len()).collect();
        assert!(*counts.first().unwrap() >= LEAST && hits.len() == PLACES.len());
    }

    /// Deletes logs that nobody needs any more, so that inodes are used again.
    fn clean_up(&mut self) {
        if self.old.len() > 60 && self.missing().is_empty() {
            let old = std::mem::take(&mut self.old);
            let (safe, needed): (Vec<_>, _) = old.into_iter().partition(|log| self.is_safe(log));
            for log in safe {
                fs::remove_file(log).unwrap();
            }
            self.old = needed;
        }
    }

    /// Lets the daemon finish, and judges what came out.
    pub fn conclude(mut self) {
        self.declare("version: last");
        self.node.start_with(&["--safe-mode-deaths", "0"], &[]);
        self.write("a.log", 1);
        self.peers.conclude(&mut self.node, &self.history);
    }
}
