//! What is appended comes out, once, in order.

use super::*;

const BIG: u64 = 64 << 20;

#[tokio::test]
async fn parcels_come_out_in_order_and_those_that_are_settled_do_not_come_again() {
    let base = tempfile::tempdir().unwrap();
    let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
    for n in 0..10 {
        bench.append(0, n * 3, 3).await;
        bench.append(1, n * 5, 5).await;
    }
    bench.kept().await;
    assert_eq!(bench.queue.stats().lines, 80);
    assert_eq!(bench.deliver(0).await.unwrap(), [0, 1, 2]);
    assert_eq!(
        bench.take(0).await.map(|parcel| numbers(&parcel)),
        Some(vec![3, 4, 5])
    );
    // Not settled, so the same again.
    assert_eq!(
        bench.take(0).await.map(|parcel| numbers(&parcel)),
        Some(vec![3, 4, 5])
    );
    assert_eq!(bench.deliver_all(1).await, (0..50).collect::<Vec<_>>());
    assert_eq!(bench.queue.stats().lines, 27);
    bench.queue.close().await.unwrap();
    assert!(bench.readers[0].next().await.is_none());
    drop(bench);

    let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
    assert_eq!((bench.recovered.lines, bench.recovered.cut), (27, 0));
    let end = |lane, lines: u64| {
        (
            file(lane),
            End {
                generation: 0,
                offset: lines * LINE,
                footprint: None,
            },
        )
    };
    assert_eq!(bench.recovered.ends, [end(0, 30), end(1, 50)].into());
    bench.append(0, 30, 1).await;
    bench.kept().await;
    assert_eq!(bench.deliver_all(0).await, (3..31).collect::<Vec<_>>());
    assert!(bench.take(1).await.is_none());
    let told = bench.watcher.told();
    assert_eq!((told.damaged, told.dropped), (0, 0));
}

#[tokio::test]
async fn what_was_settled_since_the_last_sync_comes_again_after_a_kill_and_no_more() {
    let base = tempfile::tempdir().unwrap();
    let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
    for n in 0..9 {
        bench.append(0, n, 1).await;
    }
    bench.kept().await;
    for _ in 0..4 {
        bench.deliver(0).await.unwrap();
    }
    bench.queue.sync().await.unwrap();
    for _ in 0..3 {
        bench.deliver(0).await.unwrap();
    }
    bench.kill().await;
    let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
    assert_eq!(bench.deliver_all(0).await, [4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn small_parcels_that_wait_come_out_as_a_few() {
    let base = tempfile::tempdir().unwrap();
    let merging = || Settings {
        merged: 2_000,
        ..settings(BIG, WhenFull::Block)
    };
    let mut bench = open(base.path(), merging());
    for n in 0..200 {
        bench.append(0, n, 1).await;
    }
    bench.kept().await;
    let first = numbers(&bench.take(0).await.unwrap());
    assert!((5..50).contains(&first.len()), "{first:?}");
    // Not settled, so the same again, however much has come since.
    bench.append(0, 200, 1).await;
    bench.kept().await;
    assert_eq!(numbers(&bench.take(0).await.unwrap()), first);
    assert_eq!(bench.queue.stats().lines, 201);
    bench.readers[0].settle();
    assert_eq!(bench.queue.stats().lines, 201 - first.len() as u64);
    bench.queue.sync().await.unwrap();
    let second = numbers(&bench.take(0).await.unwrap());
    bench.kill().await;
    // From the disk, as well.
    let mut bench = open(base.path(), merging());
    let again = numbers(&bench.take(0).await.unwrap());
    assert_eq!((again[0], again.len() > 4), (second[0], true));
    let mut all = first;
    let mut parcels = 0;
    while let Some(numbers) = bench.deliver(0).await {
        all.extend(numbers);
        parcels += 1;
    }
    assert_eq!(all, (0..201).collect::<Vec<_>>());
    assert!(parcels < 40, "{parcels}");
}

#[tokio::test]
async fn how_far_a_file_is_held_is_known_until_a_checkpoint_has_it() {
    let base = tempfile::tempdir().unwrap();
    let small = || settings(16 << 10, WhenFull::Block);
    let mut bench = open(base.path(), small());
    bench.append(1, 0, 5).await;
    for n in 0..20 {
        bench.append(0, n * 10, 10).await;
    }
    bench.kept().await;
    let before = segments(&bench.queue.shared.path).len();
    assert!(before > 3, "{before}");
    bench.deliver_all(0).await;
    bench.deliver_all(1).await;
    bench.queue.sync().await.unwrap();
    bench.kill().await;
    // That may have been before the commit.
    let bench = open(base.path(), small());
    assert_eq!(bench.recovered.lines, 0);
    assert_eq!(bench.recovered.ends[&file(1)].offset, 5 * LINE);
    bench.queue.sync().await.unwrap();
    bench.queue.sync().await.unwrap();
    assert!(segments(&bench.queue.shared.path).len() <= 1);
}

#[tokio::test]
async fn a_parcel_with_nothing_for_the_destination_takes_no_room() {
    let base = tempfile::tempdir().unwrap();
    let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
    for n in 0..3 {
        let other = parcel(0, n, 1, DestinationSet(2));
        bench.queue.append(other).await.unwrap();
        bench.appended += 1;
    }
    bench.kept().await;
    assert_eq!(bench.watcher.told().kept, [(0, 0, 0), (0, 1, 0), (0, 2, 0)]);
    let stats = bench.queue.stats();
    assert_eq!((stats.lines, stats.bytes, bench.on_disk()), (0, 0, 0));
    assert!(bench.take(0).await.is_none());
}

#[tokio::test]
async fn a_destination_that_keeps_up_is_not_read_back_and_one_that_is_behind_takes_no_memory() {
    let base = tempfile::tempdir().unwrap();
    let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
    bench.append(0, 0, 5).await;
    bench.kept().await;
    // Nothing of it can be read.
    let [segment] = segments(&bench.queue.shared.path).try_into().unwrap();
    let whole = fs::read(&segment).unwrap();
    fs::write(&segment, vec![0; whole.len()]).unwrap();
    assert_eq!(bench.deliver(0).await.unwrap(), [0, 1, 2, 3, 4]);
    fs::write(&segment, whole).unwrap();

    // 40 parcels of about 150 kB.
    let mut held = Vec::new();
    for n in 0..40 {
        let parcel = parcel(0, 100_000 * (n + 1), 10_000, DestinationSet(1));
        held.push(Arc::downgrade(&parcel));
        bench.queue.append(parcel).await.unwrap();
        bench.appended += 1;
    }
    bench.kept().await;
    let kept: Vec<bool> = held.iter().map(|weak| weak.strong_count() > 0).collect();
    let count = kept.iter().filter(|kept| **kept).count();
    assert!((1..=9).contains(&count), "{count}");
    // The first ones, which come next.
    assert!(kept[..count].iter().all(|kept| *kept));
    let wanted = |n: u64| (100_000 * (n + 1)..).take(10_000).collect::<Vec<_>>();
    for n in 0..40 {
        assert!(bench.deliver(0).await.unwrap() == wanted(n), "{n}");
    }
    // Caught up: from memory again.
    bench.append(0, 7, 1).await;
    bench.kept().await;
    for segment in segments(&bench.queue.shared.path) {
        fs::write(segment, b"").unwrap();
    }
    assert_eq!(bench.deliver(0).await.unwrap(), [7]);
}

#[tokio::test]
async fn a_reader_that_waits_is_woken_and_may_be_dropped() {
    let base = tempfile::tempdir().unwrap();
    let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
    assert!(bench.take(0).await.is_none());
    let mut reader = bench.readers.remove(0);
    let waiting = tokio::spawn(async move { reader.next().await.map(|parcel| numbers(&parcel)) });
    bench.append(0, 4, 2).await;
    assert_eq!(waiting.await.unwrap(), Some(vec![4, 5]));
}

#[tokio::test]
async fn a_queue_has_one_owner() {
    let base = tempfile::tempdir().unwrap();
    let bench = open(base.path(), settings(BIG, WhenFull::Block));
    let error = try_open(base.path(), settings(BIG, WhenFull::Block))
        .err()
        .unwrap();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    bench.kill().await;
    open(base.path(), settings(BIG, WhenFull::Block));
}

#[tokio::test]
async fn a_folder_that_is_missing_or_open_to_others_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let missing = base.path().join("not-mounted");
    let error = open_below(base.path(), Some(&missing), settings(BIG, WhenFull::Block))
        .err()
        .unwrap();
    assert!(error.to_string().contains("mount its disk"), "{error}");
    assert!(!missing.exists());
    // And not remembered.

    open(base.path(), settings(BIG, WhenFull::Block))
        .kill()
        .await;
    let mode = fs::metadata(folder(base.path())).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions());
    assert_eq!(mode & 0o777, 0o700);
    let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(folder(base.path()), open_to_all).unwrap();
    let error = try_open(base.path(), settings(BIG, WhenFull::Block))
        .err()
        .unwrap();
    assert!(matches!(error, Error::Exposed { .. }), "{error}");

    let other = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(base.path(), other.path().join("queue")).unwrap();
    assert!(try_open(other.path(), settings(BIG, WhenFull::Block)).is_err());
}
