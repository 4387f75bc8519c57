//! Disks that are full or fail.

use super::*;
use crate::role::logs::queue::disk::Faults;
use crate::role::logs::queue::shared::lock;

const BIG: u64 = 64 << 20;

#[tokio::test]
async fn a_full_disk_is_said_and_lines_wait_until_there_is_room() {
    for policy in [WhenFull::Block, WhenFull::DropOldest] {
        let base = tempfile::tempdir().unwrap();
        let mut bench = open(base.path(), settings(BIG, policy));
        bench.append(0, 0, 10).await;
        bench.kept().await;
        lock(&bench.queue.shared.disk).faults = Faults {
            writes: u32::MAX,
            ..Faults::default()
        };
        bench.append(0, 10, 10).await;
        until("said", || bench.queue.stats().problem.is_some()).await;
        let said = bench.queue.stats().problem.unwrap();
        assert!(
            said.contains("free some space") && said.contains("No space left"),
            "{said}"
        );
        assert!(
            said.contains(&*folder(base.path()).to_string_lossy()),
            "{said}"
        );
        // What is there is delivered all the same.
        assert_eq!(bench.deliver(0).await.unwrap().len(), 10);
        assert_eq!(bench.queue.stats().lines, 0);
        // Half a record is not left where others need the room.
        until("cut back", || bench.on_disk() == bench.queue.stats().bytes).await;
        lock(&bench.queue.shared.disk).faults = Faults::default();
        bench.kept().await;
        until("well", || bench.queue.stats().problem.is_none()).await;
        bench.queue.close().await.unwrap();
        assert_eq!(bench.watcher.told().dropped, 0);
        drop(bench);
        let mut bench = open(base.path(), settings(BIG, policy));
        assert_eq!(bench.recovered.cut, 0);
        assert_eq!(bench.deliver_all(0).await, (10..20).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn what_could_not_be_synced_is_written_again_and_once() {
    for no_cuts in [false, true] {
        let base = tempfile::tempdir().unwrap();
        let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
        for n in 0..30 {
            // Also of a segment that is new.
            if n % 7 == 0 || n % 10 == 9 {
                let syncs = 1;
                lock(&bench.queue.shared.disk).faults = Faults {
                    syncs,
                    no_cuts,
                    ..Faults::default()
                };
            }
            bench.append(n as usize % 2, n * 10, 10).await;
            bench.kept().await;
        }
        assert_eq!(bench.watcher.told().kept.len(), 30);
        bench.kill().await;
        let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
        // A second copy at the very end may have been cut off.
        assert_eq!(bench.recovered.lines, 300);
        assert!(bench.recovered.cut == 0 || no_cuts);
        let mut all = [bench.deliver_all(0).await, bench.deliver_all(1).await].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..300));
        assert_eq!(bench.watcher.told().damaged, 0);
    }
}

#[tokio::test]
async fn a_cursor_that_cannot_be_written_is_said_to_the_one_who_commits() {
    let base = tempfile::tempdir().unwrap();
    let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
    bench.append(0, 0, 10).await;
    bench.append(0, 10, 10).await;
    bench.kept().await;
    bench.deliver(0).await.unwrap();
    lock(&bench.queue.shared.disk).faults = Faults {
        cursors: 1,
        ..Faults::default()
    };
    assert!(bench.queue.sync().await.is_err());
    bench.queue.sync().await.unwrap();
    bench.kill().await;
    let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
    assert_eq!(bench.deliver_all(0).await, (10..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_close_does_not_wait_for_a_disk_that_has_no_room() {
    let base = tempfile::tempdir().unwrap();
    let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
    lock(&bench.queue.shared.disk).faults = Faults {
        writes: u32::MAX,
        ..Faults::default()
    };
    bench.append(0, 0, 10).await;
    until("said", || bench.queue.stats().problem.is_some()).await;
    bench.queue.close().await.unwrap();
    assert!(bench.watcher.told().kept.is_empty());
    let refused = bench.queue.append(parcel(0, 0, 1, DestinationSet(1))).await;
    assert_eq!(refused, Err(Closed));
}
