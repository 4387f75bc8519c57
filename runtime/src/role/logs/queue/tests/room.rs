//! A queue that is full.

use super::*;

const SMALL: u64 = 64 << 10;

/// Appends until a parcel is not kept. Returns how many were.
async fn fill(bench: &mut Bench, lane: usize) -> u64 {
    for n in 0.. {
        let before = bench.watcher.told().kept.len();
        bench.append(lane, n * 100, 100).await;
        let kept = || bench.watcher.told().kept.len() > before || bench.queue.stats().full;
        until("kept or full", kept).await;
        if bench.watcher.told().kept.len() == before {
            return n;
        }
    }
    unreachable!()
}

#[tokio::test]
async fn a_full_queue_waits_and_goes_on_when_there_is_room() {
    let base = tempfile::tempdir().unwrap();
    let mut bench = open(base.path(), settings(SMALL, WhenFull::Block));
    let kept = fill(&mut bench, 0).await;
    assert!(kept > 20, "{kept}");
    let stats = bench.queue.stats();
    assert!(
        stats.full && stats.bytes <= SMALL && stats.problem.is_none(),
        "{stats:?}"
    );
    assert!(bench.on_disk() <= SMALL);
    assert_eq!(stats.lines, kept * 100);

    let mut all = Vec::new();
    while !bench.queue.shared.books().is_idle() {
        all.extend(bench.deliver(0).await.unwrap());
    }
    bench.kept().await;
    all.extend(bench.deliver_all(0).await);
    assert!(all.into_iter().eq(0..(kept + 1) * 100));
    until("not full", || !bench.queue.stats().full).await;
    let told = |bench: &Bench| {
        let told = bench.watcher.told();
        (told.dropped, told.damaged)
    };
    assert_eq!(told(&bench), (0, 0));
    // What was removed to make room is known to be settled.
    bench.kill().await;
    let mut bench = open(base.path(), settings(SMALL, WhenFull::Block));
    bench.deliver_all(0).await;
    assert_eq!(told(&bench), (0, 0));
}

#[tokio::test]
async fn dropping_makes_room_and_counts_each_line() {
    let base = tempfile::tempdir().unwrap();
    let mut bench = open(base.path(), settings(SMALL, WhenFull::DropOldest));
    // One of each lane is under way all the time, and is not dropped.
    let mut delivered = [Vec::new(), Vec::new()];
    let mut taken: [Option<Arc<Parcel>>; 2] = [None, None];
    for n in 0..400 {
        for lane in 0..2 {
            bench.append(lane, n * 10, 10).await;
        }
        bench.kept().await;
        assert!(bench.on_disk() <= SMALL, "{n}");
        for lane in 0..2 {
            // The second lane is slower.
            if n % (40 + 60 * lane as u64) == 0 {
                if let Some(parcel) = taken[lane].take() {
                    bench.readers[lane].settle();
                    delivered[lane].extend(numbers(&parcel));
                }
                taken[lane] = bench.take(lane).await;
                assert!(taken[lane].is_some());
            }
        }
    }
    let dropped = bench.watcher.told().dropped;
    assert!(dropped > 4000, "{dropped}");
    assert_eq!(bench.queue.stats().dropped, dropped);
    assert_eq!(
        bench.queue.stats().lines + dropped + delivered.iter().flatten().count() as u64,
        8000
    );

    // What was dropped is neither there nor missing after a restart.
    bench.queue.sync().await.unwrap();
    bench.kill().await;
    let mut bench = open(base.path(), settings(SMALL, WhenFull::DropOldest));
    let mut count = dropped;
    for (lane, delivered) in delivered.iter_mut().enumerate() {
        delivered.extend(bench.deliver_all(lane).await);
        assert!(delivered.is_sorted_by(|a, b| a < b), "{lane}");
        assert_eq!(delivered.last(), Some(&3999));
        count += delivered.len() as u64;
    }
    assert_eq!(count, 8000);
    let told = bench.watcher.told();
    assert_eq!((told.dropped, told.damaged), (0, 0));
}

#[tokio::test]
async fn a_parcel_larger_than_the_queue_has_it_for_itself() {
    let base = tempfile::tempdir().unwrap();
    for when_full in [WhenFull::Block, WhenFull::DropOldest] {
        let mut bench = open(base.path(), settings(4 << 10, when_full));
        bench.append(0, 0, 2).await;
        bench.append(0, 2, 2000).await;
        bench.append(1, 0, 2000).await;
        let mut delivered = 0;
        while (bench.watcher.told().dropped as usize) + delivered < 4002 {
            for lane in 0..2 {
                delivered += bench.deliver_all(lane).await.len();
            }
            let lanes = || (0..2).all(|lane| bench.is_idle(lane));
            let done = || bench.watcher.told().kept.len() == 3;
            until("more", || !lanes() || done()).await;
        }
        let dropped = bench.watcher.told().dropped;
        assert!(dropped == 0 || when_full == WhenFull::DropOldest);
        bench.queue.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_smaller_limit_holds_from_the_next_start_on() {
    let base = tempfile::tempdir().unwrap();
    for (when_full, lost) in [(WhenFull::Block, false), (WhenFull::DropOldest, true)] {
        let mut bench = open(base.path(), settings(16 * SMALL, when_full));
        for n in 0..100 {
            bench.append(0, n * 100, 100).await;
        }
        bench.kept().await;
        bench.kill().await;
        let mut bench = open(base.path(), settings(SMALL, when_full));
        assert_eq!(bench.recovered.lines, 10_000);
        bench.append(0, 10_000, 1).await;
        let kept = || !bench.watcher.told().kept.is_empty() || bench.queue.stats().full;
        until("kept or full", kept).await;
        assert_eq!(bench.queue.stats().full, !lost);
        let mut all = bench.deliver_all(0).await;
        bench.kept().await;
        all.extend(bench.deliver_all(0).await);
        assert_eq!(all.last(), Some(&10_000));
        let dropped = bench.watcher.told().dropped as usize;
        assert_eq!(all.len() + dropped, 10_001);
        assert_eq!(dropped > 0, lost);
        bench.queue.close().await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_forgotten_before_the_destination_has_it_for_good() {
    let base = tempfile::tempdir().unwrap();
    let mut bench = open(base.path(), settings(SMALL, WhenFull::Block));
    fill(&mut bench, 0).await;
    bench.watcher.told().durable_fails = u32::MAX;
    for _ in 0..20 {
        bench.deliver(0).await.unwrap();
    }
    until("said", || bench.queue.stats().problem.is_some()).await;
    assert!(bench.queue.sync().await.is_err());
    bench.kill().await;
    let mut bench = open(base.path(), settings(SMALL, WhenFull::Block));
    assert_eq!(bench.deliver(0).await.unwrap()[0], 0);
}
