//! A power cut: the daemon dies, and with it all that no sync had brought to the disk. State and
//! destination lie on an ext4 that is cut off from its device; the next start finds them as the
//! journal has them. What was committed must have been durable before, and no line may be torn.
//!
//! The moments are drawn from a seed, which a failure prints; `BULKHEAD_SEED` repeats it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use support::disk::Ext4;
use support::history::History;
use support::{Node, PATIENCE, wait_for};

/// Room for the image of the disk.
const ROOM: u64 = 64 << 20;

/// Between writes and looks.
const PAUSE: Duration = Duration::from_millis(5);

/// When the power goes.
#[derive(Debug)]
enum Moment {
    /// So long after the daemon was started.
    Starting(Duration),
    /// So long after its first line reached the destination.
    Shipping(Duration),
    /// When the daemon comes to a place for the n-th time.
    At(&'static str, u64),
}

fn moments() -> Vec<Moment> {
    let seed = match std::env::var("BULKHEAD_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos() as u64,
    };
    let mut random = fastrand::Rng::with_seed(seed);
    let moments = vec![
        Moment::Starting(Duration::from_millis(random.u64(0..500))),
        Moment::At("state.after-commit", random.u64(1..=3)),
        Moment::Shipping(Duration::from_millis(random.u64(0..3000))),
        Moment::At("file.rotate", random.u64(1..=6)),
        Moment::Shipping(Duration::from_millis(random.u64(0..3000))),
        Moment::At("state.after-commit", random.u64(1..=3)),
        Moment::Shipping(Duration::from_millis(random.u64(0..3000))),
    ];
    eprintln!("BULKHEAD_SEED={seed}: {moments:?}");
    moments
}

/// How much has reached the destination.
fn bytes(node: &Node) -> u64 {
    let outputs = fs::read_dir(&node.outputs).into_iter().flatten();
    outputs
        .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
        .sum()
}

#[test]
fn a_power_cut_loses_no_line_and_tears_none() {
    let mut node = Node::new();
    let disk = Ext4::new(&node.path("disk"), ROOM, true);
    node.state = node.path("disk/state");
    node.outputs = node.path("disk/outputs");
    let rotated = "out-app\", maxSize: 256Ki, keep: 100000";
    let spec = node.spec("app", "fixture-logs", "{}");
    node.manifest("app", &spec.replace("out-app\"", rotated));
    let mut history = History::default();
    let mut log = File::create(node.path("logs/a.log")).unwrap();
    let mut cut_off = 0;
    for moment in moments() {
        let armed = match &moment {
            Moment::At(place, hit) => format!("{place}:{hit}"),
            _ => String::new(),
        };
        let environment = [("BULKHEAD_FAILPOINT", armed.as_str())];
        node.spawn(&["--safe-mode-deaths", "0"], &environment);
        let begin = Instant::now();
        let before = bytes(&node);
        let mut shipping = None;
        loop {
            log.write_all(history.next(&log, 50).as_bytes()).unwrap();
            std::thread::sleep(PAUSE);
            let ended = node.has_ended();
            if shipping.is_none() && bytes(&node) > before {
                shipping = Some(Instant::now());
            }
            match moment {
                Moment::Starting(time) if begin.elapsed() >= time => break,
                Moment::Shipping(time) if shipping.is_some_and(|at| at.elapsed() >= time) => break,
                Moment::At(..) if ended => break,
                _ => {}
            }
            let going_on = !ended && begin.elapsed() < PATIENCE;
            assert!(going_on, "{moment:?} in vain\n{}", node.daemon_log());
        }
        let written = history.shipped(&node).len();
        disk.cut_power();
        node.kill();
        disk.power_on();
        let lost = written.saturating_sub(history.shipped(&node).len());
        eprintln!("{moment:?}: of {written} lines in the file {lost} were only in memory");
        cut_off += lost;
        history.crashed(&node);
    }
    assert!(cut_off > 0, "each cut hit a disk with nothing to lose");

    node.start_with(&["--safe-mode-deaths", "0"], &[]);
    log.write_all(history.next(&log, 1).as_bytes()).unwrap();
    wait_for("the last line", || {
        let last = history.written() - 1;
        history.shipped(&node).contains(&last).then_some(())
    });
    let report = node.wait_plugin("app", "nothing left", |report| {
        let logs = &report["logs"];
        logs["lag"]["bytes"] == 0 && logs["lines"]["inFlight"] == 0
    });
    let read = report["logs"]["lines"]["read"].as_u64().unwrap();
    node.assert_accounted("app", read);
    history.judge(&history.shipped(&node));
}
