//! Bytes on the disk that are not what was written.

use super::*;
use crate::role::logs::queue::frame::{
    Beginning, Key, RECORD_HEADER, SEGMENT_HEADER, SegmentHeader,
};
use crate::role::logs::queue::segment::Segment;

const BIG: u64 = 64 << 20;
const TINY: u64 = 16 << 10;

/// A queue with records of 10 lines, killed; `settings` say how long its segments are.
async fn filled(base: &Path, settings: Settings, records: u64, synced: bool) {
    let mut bench = open(base, settings);
    for n in 0..records {
        bench.append(0, n * 10, 10).await;
    }
    bench.kept().await;
    if synced {
        bench.queue.sync().await.unwrap();
    }
    bench.kill().await;
}

/// Where the records of a segment begin, and where the last one ends.
fn records(path: &Path) -> Vec<u64> {
    let file = fs::File::open(path).unwrap();
    let (Beginning::Segment(SegmentHeader { key, lanes, number }), length) =
        Segment::look(&file).unwrap()
    else {
        panic!("no segment")
    };
    let segment = Segment {
        number,
        key,
        lanes,
        file,
    };
    let mut at = vec![SEGMENT_HEADER as u64];
    while let Some(found) = segment.record(at[at.len() - 1], length).unwrap() {
        at.push(found.end());
    }
    at
}

#[tokio::test]
async fn a_torn_end_is_cut_off_wherever_it_is_torn_and_said_once() {
    let base = tempfile::tempdir().unwrap();
    filled(base.path(), settings(BIG, WhenFull::Block), 3, false).await;
    let [path] = segments(&folder(base.path())).try_into().unwrap();
    let whole = fs::read(&path).unwrap();
    let ends = records(&path);
    let cursor = fs::read(folder(base.path()).join("cursor")).unwrap();
    for cut in (0..whole.len()).step_by(7) {
        fs::write(&path, &whole[..cut]).unwrap();
        fs::write(folder(base.path()).join("cursor"), &cursor).unwrap();
        let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
        let records = ends
            .iter()
            .filter(|end| **end <= cut as u64)
            .count()
            .saturating_sub(1) as u64;
        let whole = if records > 0 {
            ends[records as usize]
        } else {
            SEGMENT_HEADER as u64
        };
        assert_eq!(
            bench.recovered.cut,
            (cut as u64).saturating_sub(whole),
            "{cut}"
        );
        assert_eq!(bench.recovered.lines, records * 10);
        let end = bench
            .recovered
            .ends
            .get(&file(0))
            .map_or(0, |end| end.offset);
        assert_eq!(end, records * 10 * LINE);
        // Read from the file again, as far as the end says.
        bench.append(0, records * 10, 30 - records * 10).await;
        bench.kept().await;
        bench.kill().await;
        let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
        assert_eq!(bench.recovered.cut, 0, "{cut}");
        assert_eq!(bench.deliver_all(0).await, (0..30).collect::<Vec<_>>());
        assert_eq!(bench.watcher.told().damaged, 0);
        bench.kill().await;
        segments(&folder(base.path()))
            .iter()
            .for_each(|path| fs::remove_file(path).unwrap());
    }
}

#[tokio::test]
async fn rubbish_at_the_end_is_cut_off() {
    let base = tempfile::tempdir().unwrap();
    filled(base.path(), settings(BIG, WhenFull::Block), 3, true).await;
    let [path] = segments(&folder(base.path())).try_into().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    // Even if it looks like a record: of another segment, say.
    let record = bytes[SEGMENT_HEADER..].to_vec();
    bytes.extend_from_slice(&[0; 4096]);
    bytes.extend_from_slice(&record[..RECORD_HEADER]);
    bytes.extend_from_slice(&record);
    fs::write(&path, &bytes).unwrap();
    let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
    assert_eq!(
        bench.recovered.cut as usize,
        4096 + RECORD_HEADER + record.len()
    );
    assert_eq!(bench.deliver_all(0).await, (0..30).collect::<Vec<_>>());
    bench.kill().await;
    assert_eq!(
        open(base.path(), settings(BIG, WhenFull::Block))
            .recovered
            .cut,
        0
    );
}

#[tokio::test]
async fn a_cut_in_what_was_promised_is_counted_exactly() {
    let base = tempfile::tempdir().unwrap();
    filled(base.path(), settings(BIG, WhenFull::Block), 5, true).await;
    let [path] = segments(&folder(base.path())).try_into().unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..records(&path)[2] as usize + 9]).unwrap();
    let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
    bench.append(0, 50, 1).await;
    bench.kept().await;
    assert_eq!(
        bench.deliver_all(0).await,
        [(0..20).collect::<Vec<_>>(), vec![50]].concat()
    );
    assert_eq!(bench.watcher.told().damaged, 30);
    assert_eq!(bench.queue.stats().damaged, 30);
    // And once.
    bench.queue.sync().await.unwrap();
    bench.kill().await;
    let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
    assert!(bench.take(0).await.is_none());
    assert_eq!(bench.watcher.told().damaged, 0);
}

#[tokio::test]
async fn a_bad_byte_costs_its_own_record_and_no_other() {
    let base = tempfile::tempdir().unwrap();
    filled(base.path(), settings(BIG, WhenFull::Block), 6, true).await;
    let [path] = segments(&folder(base.path())).try_into().unwrap();
    let whole = fs::read(&path).unwrap();
    let ends = records(&path);
    let cursor = fs::read(folder(base.path()).join("cursor")).unwrap();
    for at in (0..whole.len()).step_by(5) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        fs::write(&path, bytes).unwrap();
        fs::write(folder(base.path()).join("cursor"), &cursor).unwrap();
        let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
        bench.append(0, 60, 1).await;
        bench.kept().await;
        let all = bench.deliver_all(0).await;
        let damaged = bench.watcher.told().damaged;
        let record = ends
            .iter()
            .filter(|end| **end <= at as u64)
            .count()
            .checked_sub(1);
        // The summary of a promised record is not needed.
        let lost = (0..=60).filter(|n| !all.contains(n)).collect::<Vec<u64>>();
        assert_eq!(lost.len() as u64, damaged, "{at}");
        if let Some(record) = record.filter(|_| damaged > 0) {
            let record = record as u64;
            assert_eq!(
                lost,
                (record * 10..record * 10 + 10).collect::<Vec<_>>(),
                "{at}"
            );
        } else {
            assert_eq!(damaged, 0, "{at}: the segment's header is not needed");
        }
        // What is delivered is not to be read again, also where only that was damaged.
        let held = bench.recovered.ends[&file(0)].offset;
        assert!(held == 60 * LINE || lost.contains(&59), "{at}: {held}");
        assert!(all.is_sorted_by(|a, b| a < b));
        bench.kill().await;
        segments(&folder(base.path()))
            .iter()
            .for_each(|path| fs::remove_file(path).unwrap());
    }
}

#[tokio::test]
async fn a_segment_that_is_gone_is_counted_exactly() {
    let base = tempfile::tempdir().unwrap();
    filled(base.path(), settings(TINY, WhenFull::Block), 30, true).await;
    let paths = segments(&folder(base.path()));
    assert!(paths.len() > 5, "{paths:?}");
    let lost = 10 * (records(&paths[1]).len() as u64 - 1);
    fs::remove_file(&paths[1]).unwrap();
    let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
    let all = bench.deliver_all(0).await;
    assert_eq!(bench.watcher.told().damaged, lost);
    assert_eq!(all.len() as u64 + lost, 300);
    assert!(all.is_sorted_by(|a, b| a < b));
}

#[tokio::test]
async fn one_place_of_the_cursor_is_enough_and_without_any_all_comes_again() {
    let base = tempfile::tempdir().unwrap();
    let mut bench = open(base.path(), settings(TINY, WhenFull::Block));
    for n in 0..30 {
        bench.append(0, n * 10, 10).await;
    }
    bench.kept().await;
    bench.deliver(0).await.unwrap();
    bench.queue.sync().await.unwrap();
    bench.deliver(0).await.unwrap();
    bench.queue.sync().await.unwrap();
    bench.kill().await;
    let path = folder(base.path()).join("cursor");
    let whole = fs::read(&path).unwrap();
    for (slots, first) in [(vec![0], 10..=20), (vec![1], 10..=20), (vec![0, 1], 0..=0)] {
        fs::write(&path, &whole).unwrap();
        slots.iter().for_each(|slot| flip(&path, slot * 4096 + 20));
        let mut bench = open(base.path(), settings(TINY, WhenFull::Block));
        let all = bench.deliver_all(0).await;
        assert!(first.contains(&all[0]), "{slots:?}: {}", all[0]);
        assert!(all.iter().copied().eq(all[0]..300));
        assert_eq!(bench.watcher.told().damaged, 0);
        bench.kill().await;
    }
}

#[tokio::test]
async fn another_format_and_other_lanes_are_refused_and_left_as_they_are() {
    let base = tempfile::tempdir().unwrap();
    filled(base.path(), settings(BIG, WhenFull::Block), 1, true).await;
    let mut lanes = settings(BIG, WhenFull::Block);
    lanes.lanes = 8;
    let error = try_open(base.path(), lanes).err().unwrap();
    assert!(
        matches!(
            error,
            Error::Lanes {
                found: 2,
                known: 8,
                ..
            }
        ),
        "{error}"
    );

    let newer = folder(base.path()).join("00000000000000ff.segment");
    let mut bytes = SegmentHeader {
        lanes: 2,
        key: Key(1),
        number: 0xff,
    }
    .encode();
    bytes[8] = 2;
    let check = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes[..40], 0);
    bytes[40..].copy_from_slice(&check.to_le_bytes());
    fs::write(&newer, bytes).unwrap();
    let error = try_open(base.path(), settings(BIG, WhenFull::Block))
        .err()
        .unwrap();
    let said = error.to_string();
    assert!(
        said.contains("format 2") && said.contains("knows format 1"),
        "{said}"
    );
    fs::remove_file(newer).unwrap();
    let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
    assert_eq!(bench.deliver_all(0).await.len(), 10);
}

#[tokio::test]
async fn the_next_record_is_found_however_far_it_is() {
    let base = tempfile::tempdir().unwrap();
    let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
    for n in 0..3 {
        bench.append(0, n * 20_000, 20_000).await;
    }
    bench.kept().await;
    bench.queue.sync().await.unwrap();
    bench.kill().await;
    let [path] = segments(&folder(base.path())).try_into().unwrap();
    let starts = records(&path);
    assert!(starts[1] > 200_000, "{starts:?}");
    flip(&path, starts[0] as usize + 8);
    let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
    assert!(bench.deliver_all(0).await.into_iter().eq(20_000..60_000));
    assert_eq!(bench.watcher.told().damaged, 20_000);
}

#[tokio::test]
async fn what_was_not_promised_is_read_again_instead_of_given_up() {
    let base = tempfile::tempdir().unwrap();
    // A power cut leaves a head without its body, or no file at all.
    let zero_last_body = |paths: &[PathBuf]| {
        let path = paths.last().unwrap();
        let mut bytes = fs::read(path).unwrap();
        let end = bytes.len();
        bytes[end - 20..].fill(0);
        fs::write(path, bytes).unwrap();
    };
    let lose = |number: usize| move |paths: &[PathBuf]| fs::remove_file(&paths[number]).unwrap();
    type Harm<'a> = &'a dyn Fn(&[PathBuf]);
    let harms: [(Harm<'_>, _); 3] = [
        (&zero_last_body, 290..=290),
        (&lose(0), 0..=0),
        (&lose(2), 1..=289),
    ];
    for (harm, held) in harms {
        filled(base.path(), settings(TINY, WhenFull::Block), 30, false).await;
        harm(&segments(&folder(base.path())));
        let mut bench = open(base.path(), settings(BIG, WhenFull::Block));
        assert!(bench.recovered.cut > 0);
        let lines = bench.recovered.lines;
        assert!(held.contains(&lines), "{lines}");
        let end = bench
            .recovered
            .ends
            .get(&file(0))
            .map_or(0, |end| end.offset);
        assert_eq!(end, lines * LINE);
        bench.append(0, lines, 300 - lines).await;
        bench.kept().await;
        assert!(bench.deliver_all(0).await.into_iter().eq(0..300));
        assert_eq!(bench.watcher.told().damaged, 0);
        bench.kill().await;
        fs::remove_dir_all(folder(base.path())).unwrap();
    }
}
