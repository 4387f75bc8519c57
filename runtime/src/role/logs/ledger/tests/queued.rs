//! Destinations whose queues hold more than the store knows.

use super::*;

/// A ledger that has loaded where `a` and `b` were at the last commit.
fn loaded(generation: u64, marks: [u64; 2]) -> Ledger {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap().store;
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    for (destination, mark) in marks.into_iter().enumerate() {
        let parcel = ledger.enter(batch(generation, 0, mark), all(), &[]);
        ledger.settle(destination, &parcel, &[]);
    }
    let mut commit = Commit::new("x/y");
    let _ = ledger.collect(&mut commit);
    store.commit(&commit).unwrap();
    let ledger = Ledger::default();
    ledger.load(store.load_checkpoints("x/y").unwrap());
    ledger
}

fn ends(generation: u64, offset: u64) -> HashMap<FileId, queue::End> {
    HashMap::from([(
        FILE,
        queue::End {
            generation,
            offset,
            footprint: None,
        },
    )])
}

#[test]
fn what_a_queue_holds_is_not_read_again() {
    let ledger = loaded(7, [10, 10]);
    let known = ledger.begin(&names(), &[ends(7, 30), ends(7, 20)]);
    ledger.begun();
    assert_eq!(known[0].offset, 20);
    let parcel = ledger.enter(batch(7, 20, 20), all(), &[]);
    assert_eq!(
        (parcel.records(0).count(), parcel.records(1).count()),
        (10, 20)
    );
    ledger.settle(0, &parcel, &[]);
    ledger.settle(1, &parcel, &[]);
    // The others were counted before.
    assert_eq!(ledger.tally().settled.acknowledged, 20);
    assert_eq!(ledger.begin(&names(), &[])[0].offset, 40);
}

#[test]
fn what_it_holds_of_other_contents_says_nothing() {
    for (generation, offset) in [(6, 30), (8, 30), (7, 5)] {
        let ledger = loaded(7, [10, 10]);
        let known = ledger.begin(&names(), &[HashMap::new(), ends(generation, offset)]);
        assert_eq!(known[0].offset, 10, "{generation} {offset}");
        let parcel = ledger.enter(batch(7, 10, 30), all(), &[]);
        assert_eq!(parcel.records(1).count(), 30, "{generation} {offset}");
    }
}

#[test]
fn a_queue_that_is_opened_late_is_asked_before_anything_is_read_for_it() {
    let ledger = loaded(7, [10, 10]);
    ledger.begin(&names(), &[]);
    ledger.begun();
    ledger.detach(1, None);
    for start in [10, 20] {
        let parcel = ledger.enter(batch(7, start, 10), all(), &[]);
        ledger.settle(0, &parcel, &[]);
    }
    assert_eq!(ledger.tally().in_flight, 20);
    ledger.raise(1, &ends(7, 15));
    assert_eq!(ledger.behind(1), Some(15));
    assert_eq!(ledger.begin_catch_up(1).1[0].offset, 15);
    // All of it is there.
    ledger.raise(1, &ends(7, 30));
    assert_eq!(ledger.behind(1), None);
    let tally = ledger.tally();
    assert_eq!((tally.in_flight, tally.settled.acknowledged), (0, 20));
    assert!(ledger.attach(1));
}
