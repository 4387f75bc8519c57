//! `kill -9` at each named place, of a real process: this test's own binary, started again.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

/// Tells the process that it is the one to be killed, and where its queue is.
const FOLDER: &str = "BULKHEAD_TEST_QUEUE";
const PLACES: [&str; 12] = [
    "queue.before-write",
    "queue.half-written",
    "queue.after-write",
    "queue.segment",
    "queue.synced",
    "queue.kept",
    "queue.settled",
    "queue.before-cursor",
    "queue.after-cursor",
    "queue.removed",
    "queue.dropped",
    "queue.cut",
];

fn small(when_full: WhenFull) -> Settings {
    settings(32 << 10, when_full)
}

fn policy(place: &str) -> WhenFull {
    match place {
        "queue.dropped" => WhenFull::DropOldest,
        _ => WhenFull::Block,
    }
}

/// Not a test: appends and delivers until it is killed, and notes what it did beside the queue.
#[tokio::test]
#[ignore = "run by the test below"]
async fn the_process_that_is_killed() {
    let Ok(base) = std::env::var(FOLDER) else {
        return;
    };
    let base = Path::new(&base);
    let place = std::env::var("BULKHEAD_FAILPOINT").unwrap();
    let place = place.split(':').next().unwrap().to_owned();
    let mut bench = open(base, small(policy(&place)));
    let notes = |name: &str| {
        fs::File::options()
            .append(true)
            .create(true)
            .open(base.join(name))
    };
    let mut delivered = notes("delivered").unwrap();
    let mut synced = notes("synced").unwrap();
    let mut dropped = notes("dropped").unwrap();
    // As the ledger: where the checkpoint says, or where the queue is.
    let committed = fs::read_to_string(base.join("committed")).ok();
    let committed = committed.map_or(0, |text| text.parse().unwrap());
    let held = bench
        .recovered
        .ends
        .get(&file(0))
        .map_or(0, |end| end.offset / LINE);
    let mut next = held.max(committed);
    let mut settled = Vec::new();
    for round in 0u64.. {
        bench.append(0, next, 7).await;
        next += 7;
        if round % 3 != 0 || place == "queue.dropped" {
            bench.kept().await;
        }
        if place != "queue.dropped" || round % 9 == 0 {
            let parcel = bench.take(0).await;
            if let Some(parcel) = parcel {
                for number in numbers(&parcel) {
                    settled.push(number);
                    writeln!(delivered, "{number}").unwrap();
                }
                bench.readers[0].settle();
            }
        }
        if round % 5 == 0 {
            bench.kept().await;
            let kept = next;
            bench.queue.sync().await.unwrap();
            for number in settled.drain(..) {
                writeln!(synced, "{number}").unwrap();
            }
            writeln!(dropped, "{}", bench.watcher.told().dropped).unwrap();
            fs::write(base.join("committed.new"), kept.to_string()).unwrap();
            fs::rename(base.join("committed.new"), base.join("committed")).unwrap();
        }
    }
}

fn run(base: &Path, failpoint: &str) {
    let name = "role::logs::queue::tests::killed::the_process_that_is_killed";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored"])
        .env(FOLDER, base)
        .env("BULKHEAD_FAILPOINT", failpoint)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = child.wait().unwrap();
    let killed = std::os::unix::process::ExitStatusExt::signal(&status);
    assert_eq!(killed, Some(9), "{failpoint}: {status}");
}

fn noted(base: &Path, name: &str) -> Vec<u64> {
    let text = fs::read_to_string(base.join(name)).unwrap_or_default();
    // The last one may be half there.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| line.parse().unwrap()).collect()
}

async fn killed_at(place: &str) {
    let base = tempfile::tempdir().unwrap();
    for hit in [1, 2, 3, 5, 9] {
        if place == "queue.cut" {
            // There is something to cut off only after another kill.
            run(base.path(), "queue.half-written:4");
        }
        let hit = if place == "queue.cut" { 1 } else { hit };
        let before: BTreeSet<u64> = noted(base.path(), "synced").into_iter().collect();
        let already = noted(base.path(), "delivered").len();
        run(base.path(), &format!("{place}:{hit}"));
        let again = noted(base.path(), "delivered");
        let again: Vec<_> = again[already..]
            .iter()
            .filter(|line| before.contains(line))
            .collect();
        assert!(again.is_empty(), "{place}:{hit}: settled before: {again:?}");
    }
    let mut bench = open(base.path(), small(policy(place)));
    let mut delivered: BTreeSet<u64> = noted(base.path(), "delivered").into_iter().collect();
    let committed: u64 =
        fs::read_to_string(base.path().join("committed")).map_or(0, |text| text.parse().unwrap());
    let held = bench
        .recovered
        .ends
        .get(&file(0))
        .map_or(0, |end| end.offset / LINE);
    let rest = bench.deliver_all(0).await;
    assert!(rest.is_sorted_by(|a, b| a < b), "{place}: {rest:?}");
    delivered.extend(&rest);
    let missing = (0..held.max(committed))
        .filter(|line| !delivered.contains(line))
        .count();
    assert_eq!(bench.watcher.told().damaged, 0, "{place}");
    if policy(place) == WhenFull::Block {
        assert_eq!(missing, 0, "{place}");
    }
}

#[tokio::test]
async fn a_kill_at_any_place_loses_nothing() {
    for place in PLACES {
        killed_at(place).await;
    }
}
