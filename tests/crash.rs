//! kill -9 at named places: after the next start no line is missing, none is out of order, and only
//! those come twice that no commit covered.
//!
//! The number of times that a place is passed before the kill is drawn from a seed, which a failure
//! prints; `BULKHEAD_SEED` repeats it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use support::history::History;
use support::{Node, PATIENCE, wait_for};

/// Each place is hit this often.
const HITS: usize = 5;

/// Between writes and looks.
const PAUSE: Duration = Duration::from_millis(10);

static SEED: LazyLock<u64> = LazyLock::new(|| match std::env::var("BULKHEAD_SEED") {
    Ok(seed) => seed.parse().unwrap(),
    Err(_) => SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64,
});

/// A daemon that is killed while lines are written.
struct Trial {
    node: Node,
    history: History,
    /// The log that is written now.
    log: String,
    rounds: u64,
}

impl Trial {
    fn new() -> Self {
        Self {
            node: Node::new(),
            history: History::default(),
            log: "a.log".into(),
            rounds: 0,
        }
    }

    fn spec(&self, config: &str) -> String {
        self.node.spec("app", "fixture-logs", config)
    }

    fn write(&mut self, count: u64) {
        let path = self.node.path("logs").join(&self.log);
        let mut log = File::options()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        let lines = self.history.next(&log, count);
        log.write_all(lines.as_bytes()).unwrap();
    }

    fn shipped(&self) -> Vec<u64> {
        self.history.shipped(&self.node)
    }

    /// Starts the daemon until it is killed at `place`, [`HITS`] times, each after a number of hits
    /// of up to `most`. `disturb` is done between writes.
    fn crash(&mut self, place: &str, most: u64, disturb: impl Fn(&mut Self)) {
        let mut hasher = DefaultHasher::new();
        (*SEED, place).hash(&mut hasher);
        let mut random = fastrand::Rng::with_seed(hasher.finish());
        let hits = [(); HITS].map(|()| random.u64(1..=most));
        eprintln!("BULKHEAD_SEED={} {place}: killed at {hits:?}", *SEED);
        for hit in hits {
            let armed = format!("{place}:{hit}");
            let environment = [("BULKHEAD_FAILPOINT", armed.as_str())];
            self.node.spawn(&["--safe-mode-deaths", "0"], &environment);
            let begin = Instant::now();
            while !self.node.has_ended() {
                let log = || self.node.daemon_log();
                assert!(begin.elapsed() < PATIENCE, "{armed} in vain\n{}", log());
                self.write(20);
                self.rounds += 1;
                disturb(self);
                std::thread::sleep(PAUSE);
            }
            assert!(!self.node.wait_for_end().success(), "{armed}: killed");
            self.history.crashed(&self.node);
        }
    }

    /// Lets the daemon finish, and judges what came out.
    fn conclude(mut self) {
        self.node.manifest("app", &self.spec("{version: last}"));
        self.node.start_with(&["--safe-mode-deaths", "0"], &[]);
        self.write(1);
        let begin = Instant::now();
        loop {
            let missing = self.history.missing(&self.shipped());
            if missing.is_empty() {
                break;
            }
            let late = begin.elapsed() > PATIENCE;
            assert!(
                !late,
                "lost {missing:?} of {}\n{}",
                self.history.written(),
                self.node.daemon_log()
            );
            std::thread::sleep(PAUSE);
        }
        self.node.wait_plugin("app", "nothing left", |report| {
            let logs = &report["logs"];
            logs["lag"]["bytes"] == 0 && logs["lines"]["inFlight"] == 0
        });
        self.history.judge(&self.shipped());
    }
}

/// Kills the daemon at `place` again and again while lines are written, then lets it finish.
fn survives(place: &str, most: u64, disturb: impl Fn(&mut Trial)) {
    let mut trial = Trial::new();
    trial.node.manifest("app", &trial.spec("{version: first}"));
    trial.crash(place, most, disturb);
    trial.conclude();
}

macro_rules! places {
    ($($test:ident: $place:literal, $most:literal;)*) => {$(
        #[test]
        fn $test() {
            survives($place, $most, |_| {});
        }
    )*};
}

places! {
    tail_read: "tail.read", 20;
    file_before_write: "file.before-write", 20;
    file_after_write: "file.after-write", 20;
    delivery_before_send: "delivery.before-send", 20;
    delivery_after_send: "delivery.after-send", 20;
    delivery_settled: "delivery.settled", 20;
    checkpoint_collected: "checkpoint.collected", 3;
    state_before_commit: "state.before-commit", 3;
    state_after_commit: "state.after-commit", 3;
    // Once a start, until there is an entry.
    cache_before_rename: "cache.before-rename", 1;
}

/// While the daemon runs the manifest changes, so that there are updates to be killed in.
fn survives_in_update(place: &str, most: u64) {
    survives(place, most, |trial| {
        let config = format!("{{version: \"{}\"}}", trial.rounds);
        trial.node.manifest("app", &trial.spec(&config));
    });
}

#[test]
fn update_compiled() {
    survives_in_update("update.compiled", 4);
}

#[test]
fn update_prepared() {
    survives_in_update("update.prepared", 4);
}

#[test]
fn update_before_swap() {
    survives_in_update("update.before-swap", 4);
}

#[test]
fn update_after_swap() {
    survives_in_update("update.after-swap", 4);
}

/// Good and bad revisions take turns, each for long enough to be tried.
#[test]
fn update_rollback() {
    survives("update.rollback", 2, |trial| {
        let turn = trial.rounds / 40;
        if trial.rounds.is_multiple_of(40) {
            let faults = ["", ", faults: [{do: panic}]"][turn as usize % 2];
            let config = format!("{{version: \"{turn}\"{faults}}}");
            let spec = trial.spec(&config);
            let spec = spec.replace("probation: 200ms", "probation: 1m");
            trial.node.manifest("app", &spec);
        }
    });
}

/// A file is opened once a start, so there must be more of them.
#[test]
fn tail_opened() {
    survives("tail.opened", 5, |trial| {
        trial.log = format!("{}.log", trial.rounds / 3);
    });
}

/// Moves the log away; its successor begins where it ended.
#[test]
fn rotation_by_rename() {
    survives("tail.rotated", 5, |trial| {
        // A log that is rotated before its plugin was ever loaded is not the plugin's.
        if trial.rounds.is_multiple_of(5) && !trial.shipped().is_empty() {
            let log = trial.node.path("logs/a.log");
            let _ = fs::rename(&log, log.with_extension(format!("log.{}", trial.rounds)));
        }
    });
}

/// Truncates the log once everything in it was shipped.
#[test]
fn truncation() {
    survives("tail.truncated", 3, |trial| {
        wait_for("what was written to be shipped", || {
            let missing = trial.history.missing(&trial.shipped());
            (missing.is_empty() || trial.node.has_ended()).then_some(())
        });
        if !trial.node.has_ended() {
            File::create(trial.node.path("logs/a.log")).unwrap();
            trial.history.truncated();
        }
    });
}

/// The output is rotated every few lines.
#[test]
fn file_rotate() {
    let mut trial = Trial::new();
    let spec = trial.spec("{}");
    let small = spec.replace("out-app\"", "out-app\", maxSize: 8Ki, keep: 100000");
    assert_ne!(spec, small);
    trial.node.manifest("app", &small);
    trial.crash("file.rotate", 6, |_| {});
    trial.conclude();
}

#[test]
fn a_stop_in_the_middle_of_load_ships_nothing_twice() {
    let mut trial = Trial::new();
    trial.node.manifest("app", &trial.spec("{}"));
    for round in 1..=5 {
        trial.node.start();
        let target = trial.shipped().len() + 500 * round;
        wait_for("lines", || {
            trial.write(500);
            (trial.shipped().len() >= target).then_some(())
        });
        assert!(trial.node.stop().success());
        assert!(trial.node.daemon_log().contains("ended"));
    }
    trial.conclude();
}
