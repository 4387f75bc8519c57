#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use super::*;

mod behind;
mod queued;
use crate::role::logs::batch::{Fingerprint, Line, Source, Span};
use crate::role::logs::output::{Content, DestinationSet};
use crate::state::{Commit, Store};

const FILE: FileId = FileId {
    device: 1,
    inode: 2,
};

fn batch(generation: u64, start: u64, lines: u64) -> Batch {
    let mut batch = Batch::default();
    batch.spans.push(Span {
        file: FILE,
        generation,
        fingerprint: Fingerprint::default(),
        source: Arc::new(Source {
            path: Path::new("/x").into(),
            attributes: vec![],
        }),
        start,
        end: start + lines,
        again: false,
        footprint: None,
    });
    for n in 0..lines {
        batch.lines.push(Line {
            time: n as i64,
            offset: 0,
            length: 0,
            source: 0,
            flags: 0,
        });
        batch.positions.push(start + n);
    }
    batch
}

fn all() -> Output {
    Output {
        bytes: vec![],
        content: Content::All(DestinationSet(0b11)),
    }
}

fn names() -> Vec<String> {
    vec!["a".into(), "b".into()]
}

#[test]
fn the_slowest_destination_holds_the_checkpoint_and_the_others_get_nothing_twice() {
    let ledger = Ledger::default();
    assert!(ledger.begin(&names(), &[]).is_empty());
    let parcel = ledger.enter(batch(0, 0, 10), all(), &[]);
    ledger.settle(0, &parcel, &[]);
    assert_eq!(ledger.tally().settled.acknowledged, 0);
    let known = ledger.begin(&names(), &[]);
    ledger.begun();
    assert_eq!(known[0].offset, 0);
    assert_eq!(ledger.tally().in_flight, 0);
    let again = ledger.enter(batch(0, 0, 12), all(), &[]);
    assert_eq!(again.records(0).count(), 2);
    assert_eq!(again.records(1).count(), 12);
    ledger.settle(0, &again, &[]);
    ledger.settle(1, &again, &[3]);
    assert_eq!(ledger.tally().settled.acknowledged, 11);
    assert_eq!(ledger.tally().settled.dead_lettered, 1);
    assert_eq!(ledger.begin(&names(), &[])[0].offset, 12);
}

#[test]
fn filtered_lines_are_counted_and_passed() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    let output = Output {
        bytes: vec![],
        content: Content::Keep(vec![1], DestinationSet(1)),
    };
    let parcel = ledger.enter(batch(0, 0, 5), output, &[]);
    ledger.settle(0, &parcel, &[]);
    ledger.settle(1, &parcel, &[]);
    assert_eq!(ledger.tally().settled.filtered, 4);
    assert_eq!(ledger.tally().settled.acknowledged, 1);
    assert_eq!(ledger.tally().in_flight, 0);
}

#[test]
fn a_new_generation_begins_at_nought() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    let first = ledger.enter(batch(0, 0, 10), all(), &[]);
    let second = ledger.enter(batch(1, 0, 3), all(), &[]);
    ledger.settle(0, &first, &[]);
    ledger.settle(1, &first, &[]);
    ledger.settle(0, &second, &[]);
    let known = ledger.begin(&names(), &[]);
    assert_eq!((known[0].generation, known[0].offset), (1, 0));
    let again = ledger.enter(batch(1, 0, 3), all(), &[]);
    assert_eq!(again.records(0).count(), 0);
    assert_eq!(again.records(1).count(), 3);
}

#[test]
fn a_file_that_is_gone_is_forgotten_after_its_last_parcel() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    let parcel = ledger.enter(batch(0, 0, 1), all(), &[]);
    ledger.gone(FILE, None);
    let mut commit = Commit::new("local/x");
    assert_eq!(ledger.collect(&mut commit).forgotten, 0);
    ledger.settle(0, &parcel, &[]);
    ledger.settle(1, &parcel, &[]);
    let collected = ledger.collect(&mut commit);
    assert_eq!(collected.forgotten, 1);
    ledger.put_back(collected);
    let collected = ledger.collect(&mut commit);
    assert_eq!(collected.forgotten, 1);
    assert!(ledger.committed(collected).is_empty());
    assert_eq!(ledger.collect(&mut commit).forgotten, 0);
}

#[test]
fn a_new_destination_begins_where_the_slowest_is() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    let parcel = ledger.enter(batch(0, 0, 10), all(), &[]);
    ledger.settle(0, &parcel, &[]);
    ledger.settle(1, &parcel, &[]);
    let known = ledger.begin(&["b".to_owned(), "c".to_owned()], &[]);
    assert_eq!(known[0].offset, 10);
    let next = ledger.enter(batch(0, 10, 1), all(), &[]);
    assert!(next.delivered.is_empty());
}

fn settle_both(ledger: &Ledger, parcel: &Parcel) {
    ledger.settle(0, parcel, &[]);
    ledger.settle(1, parcel, &[]);
}

fn commit(ledger: &Ledger) {
    let collected = ledger.collect(&mut Commit::new("local/x"));
    assert!(ledger.committed(collected).is_empty());
}

/// Everything that was ever entered is somewhere.
fn accounted(ledger: &Ledger) -> u64 {
    let tally = ledger.tally();
    tally.read() + tally.deleted.lines + tally.truncated.lines
}

#[test]
fn what_only_a_removed_destination_lacked_is_settled() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    let parcel = ledger.enter(batch(0, 0, 10), all(), &[]);
    ledger.settle(0, &parcel, &[]);
    let known = ledger.begin(&["a".to_owned()], &[]);
    assert_eq!(known[0].offset, 10);
    assert_eq!(ledger.tally().settled.acknowledged, 10);
    assert_eq!(ledger.tally().in_flight, 0);
}

#[test]
fn lines_under_way_of_a_file_that_is_gone_are_given_up() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    let parcel = ledger.enter(batch(0, 0, 10), all(), &[]);
    ledger.settle(0, &parcel, &[]);
    ledger.gone(FILE, None);
    assert!(
        ledger.begin(&names(), &[]).is_empty(),
        "there is nothing to resume"
    );
    let lost = Amount {
        lines: 10,
        joined: 0,
        bytes: 10,
    };
    assert_eq!(ledger.tally().deleted, lost);
    assert_eq!(ledger.tally().read(), 0);
    assert_eq!(ledger.collect(&mut Commit::new("local/x")).forgotten, 1);
}

#[test]
fn lines_under_way_of_earlier_contents_are_given_up() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    ledger.enter(batch(0, 0, 10), all(), &[]);
    ledger.enter(batch(1, 0, 3), all(), &[]);
    let known = ledger.begin(&names(), &[]);
    assert_eq!((known[0].generation, known[0].offset), (1, 0));
    assert_eq!(known[0].taken_back.lines, 3);
    assert_eq!(ledger.tally().truncated.lines, 10);
}

#[test]
fn what_is_taken_back_is_told_to_the_tail() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    let first = ledger.enter(batch(0, 0, 10), all(), &[]);
    ledger.enter(batch(0, 10, 5), all(), &[]);
    settle_both(&ledger, &first);
    let known = ledger.begin(&names(), &[]);
    assert_eq!((known[0].offset, known[0].taken_back.lines), (10, 5));
    // Until a tail has it, it is told again.
    assert_eq!(ledger.begin(&names(), &[])[0].taken_back.lines, 5);
    ledger.begun();
    assert_eq!(ledger.begin(&names(), &[])[0].taken_back.lines, 0);
}

#[test]
fn a_file_closed_at_rest_tells_where_counting_begins() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    ledger.enter(batch(0, 0, 10), all(), &[]);
    assert_eq!(ledger.closing(FILE, 1), None, "another generation");
    assert_eq!(ledger.closing(FILE, 0), Some(10));
    ledger.begin(&names(), &[]);
    assert_eq!(ledger.tally().deleted.lines, 10);
}

#[test]
fn rolling_back_reads_again_what_was_not_committed() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    settle_both(&ledger, &ledger.enter(batch(0, 0, 10), all(), &[]));
    commit(&ledger);
    let later = ledger.enter(batch(0, 10, 5), all(), &[]);
    settle_both(&ledger, &later);
    let collected = ledger.collect(&mut Commit::new("local/x"));
    ledger.put_back(collected);
    assert!(ledger.roll_back().is_empty());
    assert_eq!(ledger.tally().settled.acknowledged, 10);
    assert_eq!(ledger.begin(&names(), &[])[0].offset, 10);
    let again = ledger.enter(batch(0, 10, 5), all(), &[]);
    assert_eq!(again.records(0).count(), 5);
    settle_both(&ledger, &again);
    assert_eq!(accounted(&ledger), 15);
}

#[test]
fn rolling_back_gives_up_what_cannot_be_read_again() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    settle_both(&ledger, &ledger.enter(batch(0, 0, 10), all(), &[]));
    commit(&ledger);
    settle_both(&ledger, &ledger.enter(batch(0, 10, 5), all(), &[]));
    settle_both(&ledger, &ledger.enter(batch(1, 0, 3), all(), &[]));
    ledger.gone(FILE, None);
    assert!(ledger.roll_back().is_empty());
    let tally = ledger.tally();
    assert_eq!(tally.settled.acknowledged, 10);
    assert_eq!((tally.truncated.lines, tally.deleted.lines), (5, 3));
    assert_eq!(accounted(&ledger), 18);
    assert!(ledger.begin(&names(), &[]).is_empty());
}

#[test]
fn a_new_file_with_a_forgotten_inode_keeps_its_checkpoint() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    settle_both(&ledger, &ledger.enter(batch(0, 0, 10), all(), &[]));
    ledger.gone(FILE, None);
    settle_both(&ledger, &ledger.enter(batch(7, 0, 4), all(), &[]));
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap().store;
    let mut commit = Commit::new("local/x");
    ledger.collect(&mut commit);
    store.commit(&commit).unwrap();
    let kept = store.load_checkpoints("local/x").unwrap();
    assert_eq!((kept.len(), kept[0].1.generation), (1, 7));
}

fn amount(lines: u64) -> Amount {
    Amount {
        lines,
        joined: 0,
        bytes: lines,
    }
}

#[test]
fn what_a_tail_had_not_read_again_is_told_to_the_next() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    settle_both(&ledger, &ledger.enter(batch(0, 0, 10), all(), &[]));
    ledger.begin(&names(), &[]);
    ledger.begun();
    let owed = |generation| tail::Owed {
        file: FILE,
        generation,
        amount: amount(5),
    };
    ledger.owe(&owed(0));
    let known = ledger.begin(&names(), &[]);
    assert_eq!((known[0].offset, known[0].taken_back.lines), (10, 5));
    ledger.begun();
    ledger.owe(&owed(3));
    assert_eq!(ledger.tally().deleted.lines, 5, "of another content");
}

#[test]
fn lines_that_were_read_and_never_sent_are_taken_back_or_given_up() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    ledger.enter_receipt(ledger.receipt(&batch(0, 0, 10)));
    ledger.enter_unsent(&batch(0, 10, 5));
    assert_eq!(ledger.tally().in_flight, 15);
    assert_eq!(ledger.begin(&names(), &[])[0].taken_back.lines, 15);
    assert_eq!(ledger.tally().read(), 0);
    ledger.begun();
    ledger.enter_unsent(&batch(0, 0, 15));
    ledger.gone(FILE, None);
    assert!(ledger.begin(&names(), &[]).is_empty());
    assert_eq!(ledger.tally().deleted.lines, 15);
}

#[test]
fn what_was_rolled_back_and_cannot_be_read_again_is_given_up() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    settle_both(&ledger, &ledger.enter(batch(0, 0, 10), all(), &[]));
    commit(&ledger);
    settle_both(&ledger, &ledger.enter(batch(0, 10, 5), all(), &[]));
    assert!(ledger.roll_back().is_empty());
    // It is deleted while the plugin stands still; what comes after 15 is the caller's to count.
    assert_eq!(ledger.closing(FILE, 0), Some(15));
    ledger.begin(&names(), &[]);
    assert_eq!(ledger.tally().deleted.lines, 5);
    assert_eq!(accounted(&ledger), 15);
}

#[test]
fn a_file_forgotten_while_it_is_committed_is_not_rolled_back() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    settle_both(&ledger, &ledger.enter(batch(0, 0, 10), all(), &[]));
    let collected = ledger.collect(&mut Commit::new("local/x"));
    ledger.gone(FILE, None);
    assert!(ledger.committed(collected).is_empty());
    assert!(ledger.roll_back().is_empty());
    let tally = ledger.tally();
    assert_eq!((tally.settled.acknowledged, tally.deleted.lines), (10, 0));
}

#[test]
fn lines_of_a_file_whose_inode_is_reused_are_given_up_by_a_roll_back() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    let first = ledger.enter(batch(0, 0, 10), all(), &[]);
    let second = ledger.enter(batch(0, 10, 5), all(), &[]);
    settle_both(&ledger, &first);
    ledger.gone(FILE, None);
    ledger.enter(batch(7, 0, 4), all(), &[]);
    settle_both(&ledger, &second);
    assert!(ledger.roll_back().is_empty());
    assert_eq!(ledger.tally().deleted.lines, 15);
    assert_eq!(accounted(&ledger), 19);
    ledger.begin(&names(), &[]);
    assert_eq!(accounted(&ledger), 15, "the last four are read again");
}

#[test]
fn a_parcel_that_is_taken_back_is_read_again_from_its_start() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    let first = ledger.enter(batch(0, 0, 10), all(), &[]);
    ledger.settle(0, &first, &[]);
    ledger.begin(&names(), &[]);
    ledger.begun();
    // The first destination is at 10 and has not passed this one; then the second is removed.
    ledger.enter(batch(0, 0, 15), all(), &[]);
    let known = ledger.begin(&["a".to_owned()], &[]);
    assert_eq!((known[0].offset, known[0].taken_back.lines), (0, 15));
    let again = ledger.enter(batch(0, 0, 15), all(), &[]);
    assert_eq!(again.records(0).count(), 5);
}

fn two_files(first: (u64, u64), second: (u64, u64)) -> Batch {
    let mut both = batch(0, first.0, first.1);
    let other = batch(0, second.0, second.1);
    both.spans.extend(other.spans.into_iter().map(|mut span| {
        span.file.inode = 3;
        span
    }));
    both.lines.extend(other.lines.into_iter().map(|mut line| {
        line.source = 1;
        line
    }));
    both.positions.extend(other.positions);
    both
}

#[test]
fn of_several_files_each_is_taken_back_by_itself() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    ledger.begun();
    ledger.settle(0, &ledger.enter(batch(0, 0, 20), all(), &[]), &[]);
    ledger.begin(&names(), &[]);
    ledger.begun();
    ledger.enter(two_files((0, 10), (0, 10)), all(), &[]);
    ledger.enter(batch(0, 10, 10), all(), &[]);
    // Of the first file the remaining destination has all, of the second nothing.
    let mut known = ledger.begin(&["a".to_owned()], &[]);
    known.sort_by_key(|known| known.file.inode);
    let resume: Vec<_> = known
        .iter()
        .map(|known| (known.offset, known.taken_back.lines))
        .collect();
    assert_eq!(resume, [(20, 0), (0, 10)]);
    assert_eq!(accounted(&ledger), 20);
    ledger.begun();
    let again = ledger.enter(two_files((20, 0), (0, 10)), all(), &[]);
    ledger.settle(0, &again, &[]);
    assert_eq!(ledger.tally().settled.acknowledged, 30);
}

#[test]
fn what_was_rolled_back_of_a_destination_that_is_removed_is_settled() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    let first = ledger.enter(batch(0, 0, 20), all(), &[]);
    ledger.settle(0, &first, &[]);
    commit(&ledger);
    ledger.settle(1, &first, &[]);
    assert!(ledger.roll_back().is_empty());
    // The remaining one has made them durable.
    let known = ledger.begin(&["a".to_owned()], &[]);
    assert_eq!((known[0].offset, known[0].taken_back.lines), (20, 0));
    assert_eq!(ledger.tally().settled.acknowledged, 20);
}

#[test]
fn a_second_roll_back_gives_up_nothing_more() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    settle_both(&ledger, &ledger.enter(batch(0, 0, 10), all(), &[]));
    ledger.gone(FILE, None);
    for _ in 0..2 {
        assert!(ledger.roll_back().is_empty());
        assert_eq!(ledger.tally().deleted.lines, 10);
    }
}

#[test]
fn a_new_destination_in_a_new_content_has_nothing_of_the_old() {
    let ledger = Ledger::default();
    ledger.begin(&["a".to_owned()], &[]);
    ledger.enter(batch(0, 0, 10), all(), &[]);
    ledger.enter(batch(1, 0, 3), all(), &[]);
    ledger.begin(&["c".to_owned()], &[]);
    let tally = ledger.tally();
    assert_eq!((tally.truncated.lines, tally.read()), (10, 0));
}

#[test]
fn what_was_committed_is_not_rolled_back_whichever_destination_was_last() {
    let ledger = Ledger::default();
    ledger.begin(&names(), &[]);
    ledger.settle(0, &ledger.enter(batch(0, 0, 10), all(), &[]), &[]);
    ledger.begin(&names(), &[]);
    ledger.begun();
    let again = ledger.enter(batch(0, 0, 10), all(), &[]);
    ledger.settle(1, &again, &[]);
    commit(&ledger);
    // Its mark does not move: it was there before.
    ledger.settle(0, &again, &[]);
    commit(&ledger);
    assert!(ledger.roll_back().is_empty());
    assert_eq!(ledger.begin(&names(), &[])[0].taken_back.lines, 0);
    assert_eq!(accounted(&ledger), 10);
}
