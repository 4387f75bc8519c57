//! A power cut: the daemon dies, and with it all that no sync had brought to the disk. State, dead
//! letters, the logs and one destination lie on an ext4 that is cut off from its device; the next
//! start finds them as the journal has them. What was committed must have been durable before, and
//! no line may be torn; what servers elsewhere have taken may come again, if no commit covered it.
//!
//! The moments are drawn from a seed, which a failure prints; `BULKHEAD_SEED` repeats it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use support::disk::Ext4;
use support::history::{History, KEPT};
use support::peers::{Peers, is_filtered};
use support::{Node, PATIENCE, fixture_file, seed, wait_for};

/// Room for the image of the disk.
const ROOM: u64 = 64 << 20;

/// Between writes and looks.
const PAUSE: Duration = Duration::from_millis(5);

/// When the power goes.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// So long after the daemon was started.
    Starting(Duration),
    /// So long after its first line reached the destination.
    Shipping(Duration),
    /// When the daemon comes to a place for the n-th time.
    At(&'static str, u64),
}

fn moments() -> Vec<Moment> {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut moments = Vec::new();
    for _ in 0..2 {
        moments.push(Moment::Starting(Duration::from_millis(random.u64(0..500))));
    }
    for _ in 0..5 {
        let shipping = Duration::from_millis(random.u64(0..2500));
        moments.push(Moment::Shipping(shipping));
    }
    for (place, times, most) in [
        ("state.before-commit", 2, 3),
        ("state.after-commit", 3, 3),
        ("file.rotate", 2, 6),
        ("file.after-write", 2, 100),
        ("dead-letter.before-sync", 2, 5),
        ("dead-letter.after-sync", 2, 5),
        ("delivery.after-send", 2, 200),
        ("delivery.settled", 2, 200),
        ("queue.after-write", 2, 60),
        ("queue.kept", 2, 60),
        ("queue.before-cursor", 2, 3),
        ("queue.after-cursor", 2, 3),
    ] {
        for _ in 0..times {
            moments.push(Moment::At(place, random.u64(1..=most)));
        }
    }
    random.shuffle(&mut moments);
    eprintln!("BULKHEAD_SEED={seed}: {moments:?}");
    moments
}

/// A daemon on a disk whose power is cut.
struct Trial {
    node: Node,
    disk: Ext4,
    peers: Peers,
    history: History,
}

impl Trial {
    fn new() -> Self {
        let mut node = Node::new();
        let disk = Ext4::new(&node.path("disk"), ROOM, true);
        node.state = node.path("disk/state");
        node.outputs = node.path("disk/outputs");
        fs::create_dir(node.path("disk/logs")).unwrap();
        let peers = Peers::start();
        let destinations = peers.destinations(&node, "32Ki");
        let config = format!("{{contains: {:?}}}", KEPT.to_string());
        let module = fixture_file("fixture-logs");
        let spec = node.spec_with(&module, &config, &destinations);
        let logs = |path| format!("{:?}", node.path(path));
        let spec = spec.replace(&logs("logs/*.log"), &logs("disk/logs/*.log"));
        node.manifest("app", &spec);
        Self {
            node,
            disk,
            peers,
            history: History::with_filtered(is_filtered),
        }
    }

    fn log(&self) -> File {
        let path = self.node.path("disk/logs/a.log");
        let log = File::options().append(true).create(true).open(path);
        log.unwrap()
    }

    /// Writes lines, which only the kernel has then.
    fn write(&mut self, count: u64) {
        let mut log = self.log();
        let lines = self.history.next(&log, count);
        log.write_all(lines.as_bytes()).unwrap();
    }

    /// Brings the log to the disk.
    fn sync(&self) {
        self.log().sync_all().unwrap();
    }

    /// Runs the daemon until the moment has come.
    fn run(&mut self, moment: Moment) {
        let armed = match moment {
            Moment::At(place, hit) => format!("{place}:{hit}"),
            _ => String::new(),
        };
        let environment = [("BULKHEAD_FAILPOINT", armed.as_str())];
        self.node.spawn(&["--safe-mode-deaths", "0"], &environment);
        let begin = Instant::now();
        let before = self.bytes();
        let mut shipping = None;
        loop {
            self.write(50);
            self.sync();
            std::thread::sleep(PAUSE);
            let ended = self.node.has_ended();
            if shipping.is_none() && self.bytes() > before {
                shipping = Some(Instant::now());
            }
            match moment {
                Moment::Starting(time) if begin.elapsed() >= time => return,
                Moment::Shipping(time) if shipping.is_some_and(|at| at.elapsed() >= time) => return,
                Moment::At(..) if ended => return,
                _ => {}
            }
            let going_on = !ended && begin.elapsed() < PATIENCE;
            assert!(going_on, "{moment:?} in vain\n{}", self.node.daemon_log());
        }
    }

    /// How much has reached the file.
    fn bytes(&self) -> u64 {
        let outputs = fs::read_dir(&self.node.outputs).into_iter().flatten();
        outputs
            .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
            .sum()
    }

    /// Cuts the power and puts it on again; returns how many lines of the file were lost with it.
    fn cut(&mut self) -> usize {
        let written = self.history.shipped(&self.node).len();
        self.disk.cut_power();
        self.node.kill();
        self.disk.power_on();
        self.peers.crashed(&self.node, &mut self.history);
        written.saturating_sub(self.history.shipped(&self.node).len())
    }

    /// Lets the daemon finish, and judges what came out.
    fn conclude(mut self) {
        self.node.start_with(&["--safe-mode-deaths", "0"], &[]);
        self.write(1);
        self.peers.conclude(&mut self.node, &self.history);
    }
}

#[test]
fn power_cuts_lose_no_line_and_tear_none() {
    let mut trial = Trial::new();
    let mut cut_off = 0;
    for moment in moments() {
        trial.run(moment);
        let lost = trial.cut();
        eprintln!("{moment:?}: {lost} lines of the file were only in memory");
        cut_off += lost;
    }
    assert!(cut_off > 0, "each cut hit a disk with nothing to lose");
    trial.conclude();
}

/// The log's own last lines were not on the disk, but the daemon had read and sent them. Where they
/// stood others are written, which must not be taken for the former sent again.
#[test]
fn what_is_written_in_place_of_lines_that_the_power_took_arrives() {
    let mut trial = Trial::new();
    trial.write(100);
    trial.sync();
    trial.write(100);
    let environment = [("BULKHEAD_FAILPOINT", "checkpoint.collected")];
    trial.node.spawn(&["--safe-mode-deaths", "0"], &environment);
    wait_for("the first commit", || trial.node.has_ended().then_some(()));
    trial.cut();
    let lost = trial.history.cut(&trial.log());
    assert_eq!(lost, 100);
    trial.write(100);
    trial.sync();
    trial.conclude();
}

/// The log's own last lines were not on the disk, but the daemon had committed them: `count` others
/// are written in their place before it starts again. All of it is sent once more, by the same ids.
fn shorter_than_its_checkpoint(count: u64) {
    let mut trial = Trial::new();
    trial.write(500);
    trial.sync();
    trial.write(500);
    trial.node.start();
    wait_for("every line to be committed", || {
        trial.history.is_committed(&trial.node).then_some(())
    });
    trial.cut();
    let log = trial.log();
    assert_eq!(trial.history.cut(&log), 500);
    let all = ["out", "http", "es", "queued"];
    trial.history.comes_again(&log, &all);
    trial.write(count);
    trial.sync();
    trial.conclude();
}

#[test]
fn a_log_that_the_power_cut_below_its_checkpoint_is_sent_again_by_the_same_ids() {
    shorter_than_its_checkpoint(100);
}

#[test]
fn what_is_written_below_a_checkpoint_after_a_power_cut_arrives() {
    shorter_than_its_checkpoint(700);
}

#[test]
fn what_is_written_up_to_the_checkpoint_after_a_power_cut_arrives() {
    shorter_than_its_checkpoint(500);
}
