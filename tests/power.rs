//! A power cut: the daemon dies, and with it all that no sync had brought to the disk. The next start
//! finds the disk as its journal has it. What was committed must have been durable before, and no
//! line may be torn; what servers elsewhere have taken may come again, if no commit covered it.
//!
//! 200 cuts at the places of the kills, with state, queue, dead letters and one destination on such a
//! disk; and cuts that take lines of the log itself.
//!
//! The moments are drawn from a seed, which is printed; `BULKHEAD_SEED` repeats it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::time::Duration;

use support::disk::Ext4;
use support::history::{History, KEPT};
use support::peers::{Peers, is_filtered};
use support::trial::Trial;
use support::{Node, fixture_file, seed, wait_for};

/// Room for the image of the disk.
const ROOM: u64 = 64 << 20;

/// A daemon whose log, too, is on a disk whose power is cut.
struct Logs {
    node: Node,
    disk: Ext4,
    peers: Peers,
    history: History,
}

impl Logs {
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

    /// Cuts the power and puts it on again.
    fn cut(&mut self) {
        self.disk.cut_power();
        self.node.kill();
        self.disk.power_on();
        self.peers.crashed(&self.node, &mut self.history);
    }

    /// Lets the daemon finish, and judges what came out.
    fn conclude(mut self) {
        self.node.start_with(&["--safe-mode-deaths", "0"], &[]);
        self.write(1);
        self.peers.conclude(&mut self.node, &self.history);
    }
}

#[test]
fn two_hundred_power_cuts_lose_no_line_and_tear_none() {
    let seed = seed();
    eprintln!("BULKHEAD_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut trial = Trial::on_a_disk();
    trial.begin();
    for _ in 0..5 {
        trial.die_after(Duration::from_millis(random.u64(0..2500)));
    }
    trial.die_everywhere(&mut random);
    let lost = trial.cut_off;
    eprintln!("{lost} lines of the file were lost with the power, and written again");
    assert!(lost > 0, "each cut hit a disk with nothing to lose");
    trial.conclude();
}

/// The log's own last lines were not on the disk, but the daemon had read and sent them. Where they
/// stood others are written, which must not be taken for the former sent again.
#[test]
fn what_is_written_in_place_of_lines_that_the_power_took_arrives() {
    let mut logs = Logs::new();
    logs.write(100);
    logs.sync();
    logs.write(100);
    let environment = [("BULKHEAD_FAILPOINT", "checkpoint.collected")];
    logs.node.spawn(&["--safe-mode-deaths", "0"], &environment);
    wait_for("the first commit", || logs.node.has_ended().then_some(()));
    logs.cut();
    let lost = logs.history.cut(&logs.log());
    assert_eq!(lost, 100);
    logs.write(100);
    logs.sync();
    logs.conclude();
}

/// The log's own last lines were not on the disk, but the daemon had committed them: `count` others
/// are written in their place before it starts again. All of it is sent once more, by the same ids.
fn shorter_than_its_checkpoint(count: u64) {
    let mut logs = Logs::new();
    logs.write(500);
    logs.sync();
    logs.write(500);
    logs.node.start();
    wait_for("every line to be committed", || {
        logs.history
            .is_committed_in(&logs.node, &logs.log())
            .then_some(())
    });
    logs.cut();
    let log = logs.log();
    assert_eq!(logs.history.cut(&log), 500);
    let all = ["out", "http", "es", "queued"];
    logs.history.comes_again(&log, &all);
    logs.write(count);
    logs.sync();
    logs.conclude();
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
