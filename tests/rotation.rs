//! A log that is rotated and deleted faster than its destination takes it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::sink::{Sink, ok};
use support::{Accounts, Node, numbered, wait_for};

/// Whether the daemon has a file open.
fn has_open(node: &Node, inode: u64) -> bool {
    let open = fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap();
    let mut open = open.filter_map(|entry| fs::metadata(entry.ok()?.path()).ok());
    open.any(|meta| meta.ino() == inode)
}

#[test]
fn what_is_deleted_before_it_is_read_is_counted_to_the_line() {
    const ROTATIONS: u64 = 60;
    const EACH: u64 = 200;
    const KEEP: u64 = 3;
    let mut node = Node::new();
    let released = Arc::new(AtomicBool::new(false));
    let sink = Sink::start({
        let released = Arc::clone(&released);
        move |_| {
            if !released.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(500));
            }
            ok()
        }
    });
    let http = format!("http: {{url: {:?}, maxBody: 2Ki}}", sink.url());
    let spec = node.spec_to("fixture-logs", "{}", &http);
    let spec = spec.replace("logs:\n", "logs:\n  deletedFileWait: 1s\n");
    node.manifest("app", &spec);
    node.start();
    node.wait_running("app");
    let log = node.path("logs/a.log");
    let old = |number: u64| node.path(&format!("logs/a.log.{number}"));
    for round in 0..ROTATIONS {
        let _ = fs::remove_file(old(KEEP));
        for number in (1..KEEP).rev() {
            let _ = fs::rename(old(number), old(number + 1));
        }
        let _ = fs::rename(&log, old(1));
        node.append("a.log", numbered("a", round * EACH..(round + 1) * EACH));
        // Not even a file that nobody ever saw could be counted.
        let inode = File::open(&log).unwrap().metadata().unwrap().ino();
        wait_for("the new log to be opened", || {
            has_open(&node, inode).then_some(())
        });
    }
    node.wait_plugin("app", "lines given up", |report| {
        Accounts::of(report).deleted > 0
    });
    released.store(true, Ordering::SeqCst);
    let written = ROTATIONS * EACH;
    let accounts = node.assert_accounted("app", written);
    assert_eq!(accounts.acknowledged + accounts.deleted, written);
    let records = sink.records();
    let numbers: Vec<u64> = (records.iter())
        .map(|record| record["message"].as_str().unwrap()[2..].parse().unwrap())
        .collect();
    assert_eq!(numbers.len() as u64, accounts.acknowledged);
    // In order within each file, and what was kept is all there.
    for round in 0..ROTATIONS {
        let lines = round * EACH..(round + 1) * EACH;
        let taken: Vec<u64> = (numbers.iter().copied())
            .filter(|number| lines.contains(number))
            .collect();
        let wrong = taken.windows(2).find(|pair| pair[0] >= pair[1]);
        assert_eq!(wrong, None, "twice or out of order");
        let kept = round + KEEP + 1 >= ROTATIONS;
        assert!(!kept || taken.len() as u64 == EACH, "{taken:?}");
    }
}
