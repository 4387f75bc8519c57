//! A destination that is detached, and one that catches up.

use super::*;

fn detached() -> Ledger {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    ledger.begun();
    ledger.detach(1, Some(&nothing(&ledger)));
    ledger
}

fn nothing(ledger: &Ledger) -> Parcel {
    ledger.enter(Batch::default(), all(), &[])
}

fn ask(
    ledger: &Ledger,
    catch_up: &mut CatchUp,
    batch: Batch,
    output: Output,
) -> Result<Parcel, May> {
    let clip = match ledger.may_enter(catch_up, &batch, &output) {
        May::Whole => vec![],
        May::Clipped(clip) => clip,
        other => return Err(other),
    };
    ledger
        .enter_alone(catch_up, batch, output, clip, &[])
        .ok_or(May::Attached)
}

fn alone(ledger: &Ledger, catch_up: &mut CatchUp, batch: Batch) -> Parcel {
    ask(ledger, catch_up, batch, all()).unwrap()
}

fn refused(ledger: &Ledger, catch_up: &mut CatchUp, batch: Batch) -> May {
    ask(ledger, catch_up, batch, all()).unwrap_err()
}

#[test]
fn lines_are_counted_as_the_one_that_is_behind_passes_them() {
    let ledger = detached();
    for start in [0, 10, 20] {
        let parcel = ledger.enter(batch(0, start, 10), all(), &[]);
        ledger.settle(0, &parcel, &[]);
    }
    assert_eq!((ledger.tally().in_flight, ledger.behind(1)), (30, Some(30)));
    let (mut catch_up, known, _) = ledger.begin_catch_up(1);
    assert_eq!((known[0].offset, known[0].taken_back.lines), (0, 0));
    // It reads other stretches than the others had.
    let first = alone(&ledger, &mut catch_up, batch(0, 0, 14));
    ledger.settle(1, &first, &[2, 13]);
    let tally = ledger.tally();
    assert_eq!(
        (tally.settled.acknowledged, tally.settled.dead_lettered),
        (12, 2)
    );
    assert_eq!(tally.in_flight, 16);
    assert!(!ledger.attach(1));
    let second = alone(&ledger, &mut catch_up, batch(0, 14, 16));
    ledger.settle(1, &second, &[]);
    assert!(ledger.attach(1));
    let tally = ledger.tally();
    assert_eq!((tally.settled.acknowledged, tally.in_flight), (28, 0));
}

#[test]
fn the_last_of_two_that_are_behind_counts_even_if_they_meet_within_a_parcel() {
    let ledger = Ledger::default();
    ledger.begin(&["a".into(), "b".into(), "c".into()], &[]);
    ledger.detach(1, Some(&nothing(&ledger)));
    ledger.detach(2, Some(&nothing(&ledger)));
    let everywhere = |lines: &[u32]| Output {
        bytes: vec![],
        content: Content::Keep(lines.to_vec(), DestinationSet(0b111)),
    };
    let even: Vec<u32> = (0..10).map(|n| 2 * n).collect();
    let parcel = ledger.enter(batch(0, 0, 20), everywhere(&even), &[]);
    ledger.settle(0, &parcel, &[4]);
    let (mut b, ..) = ledger.begin_catch_up(1);
    let (mut c, ..) = ledger.begin_catch_up(2);
    let enter = |catch_up: &mut CatchUp, start: u64, lines: u64| {
        let kept: Vec<u32> = (0..lines as u32)
            .filter(|n| (start as u32 + n).is_multiple_of(2))
            .collect();
        ask(&ledger, catch_up, batch(0, start, lines), everywhere(&kept)).unwrap()
    };
    ledger.settle(1, &enter(&mut b, 0, 7), &[]);
    assert_eq!(ledger.tally().in_flight, 20);
    // Only up to 7 is this one the last.
    ledger.settle(2, &enter(&mut c, 0, 20), &[]);
    let tally = ledger.tally();
    assert_eq!(
        (
            tally.settled.acknowledged,
            tally.settled.dead_lettered,
            tally.settled.filtered
        ),
        (3, 1, 3)
    );
    ledger.settle(1, &enter(&mut b, 7, 13), &[]);
    let tally = ledger.tally();
    assert_eq!(
        (
            tally.settled.acknowledged,
            tally.settled.dead_lettered,
            tally.settled.filtered
        ),
        (9, 1, 10)
    );
    assert!(ledger.attach(1) && ledger.attach(2));
}

#[test]
fn nothing_is_read_alone_before_it_is_entered_for_all() {
    let ledger = detached();
    let (mut catch_up, ..) = ledger.begin_catch_up(1);
    let early = |catch_up: &mut CatchUp, batch| refused(&ledger, catch_up, batch) == May::Early;
    assert!(early(&mut catch_up, batch(0, 0, 10)), "an unknown file");
    ledger.enter(batch(0, 0, 10), all(), &[]);
    assert!(early(&mut catch_up, batch(0, 0, 11)));
    assert!(early(&mut catch_up, batch(1, 0, 3)), "another content");
    alone(&ledger, &mut catch_up, batch(0, 0, 10));
}

#[test]
fn in_a_pause_it_is_handed_what_was_entered_of_a_longer_stretch() {
    let ledger = detached();
    let parcel = ledger.enter(batch(0, 0, 10), all(), &[]);
    ledger.settle(0, &parcel, &[]);
    let (mut catch_up, ..) = ledger.begin_catch_up(1);
    ledger.pause(true);
    let unknown = |batch: &mut Batch| batch.spans[0].file.inode = 9;
    let mut other = batch(0, 0, 5);
    unknown(&mut other);
    assert_eq!(refused(&ledger, &mut catch_up, other), May::Early);
    let clipped = alone(&ledger, &mut catch_up, batch(0, 0, 15));
    assert_eq!(clipped.records(1).count(), 10);
    ledger.settle(1, &clipped, &[]);
    assert_eq!(ledger.tally().settled.acknowledged, 10);
    // The rest was not handed on.
    ledger.enter(batch(0, 10, 10), all(), &[]);
    assert_eq!(refused(&ledger, &mut catch_up, batch(0, 15, 5)), May::Gap);
    ledger.pause(false);
    assert!(ledger.is_stale(&catch_up));
    let (mut catch_up, known, _) = ledger.begin_catch_up(1);
    assert_eq!(known[0].offset, 10);
    ledger.settle(1, &alone(&ledger, &mut catch_up, batch(0, 10, 10)), &[]);
    assert!(ledger.attach(1));
}

#[test]
fn a_stretch_that_is_left_out_is_noticed() {
    let ledger = detached();
    ledger.enter(batch(0, 5, 20), all(), &[]);
    let (mut catch_up, ..) = ledger.begin_catch_up(1);
    let gap = |catch_up: &mut CatchUp, batch| refused(&ledger, catch_up, batch) == May::Gap;
    assert!(gap(&mut catch_up, batch(0, 6, 3)));
    let parcel = alone(&ledger, &mut catch_up, batch(0, 3, 5));
    assert_eq!(parcel.records(1).count(), 3, "not what nobody was to read");
    assert!(gap(&mut catch_up, batch(0, 9, 3)));
    alone(&ledger, &mut catch_up, batch(0, 8, 3));
}

#[test]
fn one_that_is_attached_again_is_not_read_for() {
    let ledger = detached();
    let parcel = ledger.enter(batch(0, 0, 10), all(), &[]);
    let (mut catch_up, ..) = ledger.begin_catch_up(1);
    ledger.settle(1, &alone(&ledger, &mut catch_up, batch(0, 0, 10)), &[]);
    assert!(ledger.attach(1));
    ledger.enter(batch(0, 10, 10), all(), &[]);
    assert_eq!(
        refused(&ledger, &mut catch_up, batch(0, 10, 10)),
        May::Attached
    );
    ledger.settle(0, &parcel, &[]);
    assert_eq!(ledger.tally().settled.acknowledged, 10);
}

#[test]
fn what_it_lacked_of_a_truncated_file_is_given_up_exactly() {
    let ledger = detached();
    for batch in [batch(0, 0, 10), batch(1, 0, 4), batch(2, 0, 3)] {
        let parcel = ledger.enter(batch, all(), &[]);
        ledger.settle(0, &parcel, &[]);
    }
    assert_eq!(ledger.behind(1), Some(3));
    let (mut catch_up, known, _) = ledger.begin_catch_up(1);
    assert_eq!((known[0].generation, known[0].offset), (2, 0));
    let parcel = alone(&ledger, &mut catch_up, batch(2, 0, 3));
    ledger.settle(1, &parcel, &[]);
    let tally = ledger.tally();
    assert_eq!(
        (
            tally.truncated.lines,
            tally.settled.acknowledged,
            tally.in_flight
        ),
        (14, 3, 0)
    );
    assert!(ledger.attach(1));
}

#[test]
fn what_it_lacked_of_a_closed_file_is_given_up_exactly() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    ledger.begun();
    let first = ledger.enter(batch(0, 0, 4), all(), &[]);
    let second = ledger.enter(batch(0, 4, 6), all(), &[]);
    ledger.detach(1, Some(&second));
    ledger.gone(FILE, None);
    ledger.settle(0, &first, &[]);
    ledger.give_up_unreachable();
    assert_eq!(ledger.tally().in_flight, 10, "the other is still at it");
    ledger.settle(0, &second, &[]);
    ledger.give_up_unreachable();
    assert_eq!(
        ledger.tally().in_flight,
        10,
        "it is still at what it was handed"
    );
    ledger.settle(1, &first, &[]);
    ledger.give_up_unreachable();
    let tally = ledger.tally();
    assert_eq!(
        (
            tally.deleted.lines,
            tally.settled.acknowledged,
            tally.in_flight
        ),
        (6, 4, 0)
    );
    assert!(ledger.attach(1));
}

#[test]
fn what_it_is_handed_of_a_closed_file_is_not_given_up() {
    let ledger = detached();
    let parcel = ledger.enter(batch(0, 0, 10), all(), &[]);
    ledger.settle(0, &parcel, &[]);
    let (mut catch_up, ..) = ledger.begin_catch_up(1);
    let handed = alone(&ledger, &mut catch_up, batch(0, 0, 7));
    ledger.gone(FILE, None);
    ledger.give_up_unreachable();
    assert_eq!(ledger.tally().in_flight, 10);
    ledger.settle(1, &handed, &[]);
    ledger.give_up_unreachable();
    let tally = ledger.tally();
    assert_eq!(
        (
            tally.deleted.lines,
            tally.settled.acknowledged,
            tally.in_flight
        ),
        (3, 7, 0)
    );
}

#[test]
fn beginning_anew_takes_back_what_is_lacking_and_no_more() {
    let ledger = detached();
    for start in [0, 10] {
        let parcel = ledger.enter(batch(0, start, 10), all(), &[]);
        ledger.settle(0, &parcel, &[]);
    }
    let (mut catch_up, ..) = ledger.begin_catch_up(1);
    ledger.settle(1, &alone(&ledger, &mut catch_up, batch(0, 0, 7)), &[]);
    let known = ledger.begin(&names(), &[]);
    assert_eq!((known[0].offset, known[0].taken_back.lines), (7, 13));
    assert_eq!(ledger.tally().settled.acknowledged, 7);
    assert!(!ledger.is_detached(1));
    ledger.begun();
    let again = ledger.enter(batch(0, 7, 13), all(), &[]);
    assert_eq!(
        (again.records(0).count(), again.records(1).count()),
        (0, 13)
    );
    settle_both(&ledger, &again);
    assert_eq!(ledger.tally().settled.acknowledged, 20);
}

#[test]
fn a_new_file_with_the_inode_leaves_the_old_one_to_whom_it_is_under_way() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    let old = ledger.enter(batch(3, 0, 10), all(), &[]);
    ledger.gone(FILE, None);
    let new = ledger.enter(batch(7, 0, 4), all(), &[]);
    settle_both(&ledger, &new);
    assert_eq!(
        (
            ledger.tally().settled.acknowledged,
            ledger.tally().in_flight
        ),
        (4, 10)
    );
    settle_both(&ledger, &old);
    assert_eq!(
        (
            ledger.tally().settled.acknowledged,
            ledger.tally().in_flight
        ),
        (14, 0)
    );
}

#[test]
fn memory_is_bounded_however_far_it_is_behind() {
    let ledger = detached();
    for n in 0..10_000 {
        let parcel = ledger.enter(batch(n / 10, n % 10, 1), all(), &[0]);
        ledger.settle(0, &parcel, &[0]);
    }
    let books = ledger.books();
    let under_way = &books.files[&FILE].under_way;
    assert!(under_way.len() < 5_000, "{}", under_way.len());
    assert_eq!(books.tally.in_flight, 10_000);
    drop(books);
    assert_eq!(ledger.oldest_in_flight(), Some(0));
}

/// A stretch without a byte, of which a line of another stream is at `position`: a record that began
/// before it is open.
fn beyond(start: u64, position: u64) -> Batch {
    let mut batch = batch(0, start, 1);
    batch.spans[0].end = start;
    batch.positions[0] = position;
    batch
}

#[test]
fn lines_beyond_an_open_record_are_counted_when_they_are_settled_and_not_before() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    settle_both(&ledger, &ledger.enter(batch(0, 0, 10), all(), &[]));
    let nowhere = Output {
        bytes: vec![],
        content: Content::Keep(vec![], DestinationSet(0b11)),
    };
    let other = ledger.enter(beyond(10, 20), nowhere, &[]);
    assert_eq!(ledger.tally().in_flight, 1);
    settle_both(&ledger, &other);
    let tally = ledger.tally();
    assert_eq!((tally.settled.filtered, tally.in_flight), (1, 0));
    ledger.enter_unsent(&beyond(10, 30));
    assert_eq!(ledger.begin(&names(), &[])[0].taken_back.lines, 1);
    assert_eq!(ledger.tally().settled.acknowledged, 10);
}

#[test]
fn one_that_lacks_a_line_beyond_an_open_record_is_not_attached() {
    let ledger = detached();
    let first = ledger.enter(batch(0, 0, 10), all(), &[]);
    let other = ledger.enter(beyond(10, 20), all(), &[]);
    for parcel in [&first, &other] {
        ledger.settle(0, parcel, &[]);
    }
    let (mut catch_up, ..) = ledger.begin_catch_up(1);
    ledger.settle(1, &alone(&ledger, &mut catch_up, batch(0, 0, 10)), &[]);
    assert!(!ledger.attach(1));
    ledger.pause(true);
    assert_eq!(refused(&ledger, &mut catch_up, beyond(10, 20)), May::Early);
    let rest = ledger.enter(batch(0, 10, 15), all(), &[]);
    ledger.settle(0, &rest, &[]);
    for rest in [beyond(10, 20), batch(0, 10, 15)] {
        ledger.settle(1, &alone(&ledger, &mut catch_up, rest), &[]);
    }
    assert!(ledger.attach(1));
    let tally = ledger.tally();
    assert_eq!((tally.settled.acknowledged, tally.in_flight), (26, 0));
}

#[test]
fn what_a_removed_destination_lacked_keeps_what_was_decided() {
    let ledger = detached();
    let few = Output {
        bytes: vec![],
        content: Content::Keep(vec![1, 2], DestinationSet(0b11)),
    };
    ledger.settle(0, &ledger.enter(batch(0, 0, 10), few, &[]), &[]);
    ledger.begin(&["a".to_owned()], &[]);
    let settled = ledger.tally().settled;
    assert_eq!((settled.acknowledged, settled.filtered), (2, 8));
}

#[test]
fn dead_letters_of_a_content_that_is_no_more_are_not_the_next_ones() {
    let ledger = detached();
    ledger.settle(0, &ledger.enter(batch(0, 0, 10), all(), &[]), &[3]);
    ledger.settle(0, &ledger.enter(batch(1, 0, 10), all(), &[]), &[]);
    let (mut catch_up, ..) = ledger.begin_catch_up(1);
    ledger.settle(1, &alone(&ledger, &mut catch_up, batch(1, 0, 10)), &[]);
    let settled = ledger.tally().settled;
    assert_eq!((settled.acknowledged, settled.dead_lettered), (10, 0));
}

#[test]
fn a_payload_is_not_cut() {
    let ledger = detached();
    ledger.settle(0, &ledger.enter(batch(0, 0, 10), all(), &[]), &[]);
    let (mut catch_up, ..) = ledger.begin_catch_up(1);
    ledger.pause(true);
    let payload = Output {
        bytes: vec![],
        content: Content::Payloads(vec![]),
    };
    let asked = ask(&ledger, &mut catch_up, batch(0, 0, 15), payload);
    assert_eq!(asked.unwrap_err(), May::Early);
}
