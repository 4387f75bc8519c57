//! Where reading starts, and where it goes on.

use std::fs;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use super::harness::{Rig, append};
use crate::manifest::{FileFormat, Period, StartAt};

/// Makes everything that is there older than the plugin.
fn age(rig: &mut Rig) {
    rig.config.first_seen = SystemTime::now() + Duration::from_secs(3600);
}

#[test]
fn old_files_are_read_from_their_end_and_that_is_remembered() {
    let mut rig = Rig::new();
    rig.append("a.log", "old\nunfin");
    age(&mut rig);
    rig.start();
    rig.until("a position", |rig| rig.known.len() == 1);
    assert_eq!(rig.known.values().next().unwrap().offset, 4);
    rig.stop();
    rig.append("a.log", "ished\nnew\n");
    rig.start();
    rig.until_lines(2);
    assert_eq!(rig.bodies(), ["unfinished", "new"]);
}

#[test]
fn a_file_that_we_see_created_is_young_whatever_the_clock_says() {
    let mut rig = Rig::new();
    age(&mut rig);
    rig.start();
    rig.append("a.log", "first\n");
    rig.until_lines(1);
    assert_eq!(rig.bodies(), ["first"]);
}

#[test]
fn old_files_from_their_beginning() {
    let mut rig = Rig::new();
    rig.append("a.log", "old\n");
    age(&mut rig);
    rig.config.start_at = StartAt::Beginning;
    rig.start();
    rig.until_lines(1);
}

#[test]
fn old_files_from_a_time_on() {
    let mut rig = Rig::with_format(FileFormat::Cri);
    let now = jiff::Timestamp::now();
    for minute in (0..60).rev() {
        let time = now - jiff::SignedDuration::from_secs(minute * 60 + 30);
        rig.append("a.log", format!("{time:.9} stdout F {minute}\n"));
    }
    age(&mut rig);
    rig.config.start_at = StartAt::Last(Period::seconds(180));
    rig.start();
    rig.until_lines(3);
    assert_eq!(rig.bodies(), ["2", "1", "0"]);
}

#[test]
fn resumes_exactly_where_it_was() {
    let mut rig = Rig::new();
    rig.append("a.log", "one\ntwo\nthr");
    rig.start();
    rig.until_lines(2);
    rig.stop();
    rig.append("a.log", "ee\nfour\n");
    rig.start();
    rig.until_lines(4);
    assert_eq!(rig.bodies(), ["one", "two", "three", "four"]);
}

#[test]
fn goes_on_in_files_rotated_while_it_was_down_before_younger_ones() {
    let mut rig = Rig::new();
    rig.append("a.log", "1\n2\n");
    rig.start();
    rig.until_lines(2);
    rig.stop();
    rig.append("a.log", "3\n");
    rig.rename("a.log", "a.log.1");
    rig.append("a.log", "4\n");
    rig.rename("a.log.1", "a.log.2");
    rig.rename("a.log", "a.log.1");
    rig.append("a.log", "5\n");
    rig.config.lanes = 1;
    rig.start();
    rig.until_lines(5);
    assert_eq!(rig.bodies(), ["1", "2", "3", "4", "5"]);
    assert!(rig.lines.iter().all(|line| line.path == rig.path("a.log")));
    // And not again after the next restart.
    rig.stop();
    rig.start();
    rig.append("a.log", "6\n");
    rig.until_lines(6);
    assert_eq!(rig.lines[5].body, "6");
}

#[test]
fn another_file_with_a_known_inode_is_read_from_its_start() {
    let mut rig = Rig::new();
    rig.append("a.log", "old contents\n");
    rig.start();
    rig.until_lines(1);
    rig.stop();
    // The same inode with other first bytes, longer than the position.
    fs::write(rig.path("a.log"), "new contents here\nmore\n").unwrap();
    rig.start();
    rig.until_lines(3);
    assert_eq!(rig.bodies(), ["old contents", "new contents here", "more"]);
    assert_ne!(rig.lines[1].generation, rig.lines[0].generation);
}

#[test]
fn a_known_file_that_is_gone_is_said_to_be_gone() {
    let mut rig = Rig::new();
    rig.config.rescan = Duration::from_millis(20);
    rig.append("a.log", "x\n");
    rig.start();
    rig.until_lines(1);
    rig.stop();
    fs::remove_file(rig.path("a.log")).unwrap();
    rig.start();
    rig.until("gone", |rig| rig.gone.len() == 1);
}

#[test]
fn an_inode_reused_while_the_file_was_closed_is_noticed() {
    let mut rig = Rig::new();
    rig.config.max_open = 0;
    rig.start();
    for round in 0..20 {
        let path = rig.path("a.log");
        append(&path, format!("round {round}\n"));
        rig.until_lines(round + 1);
        assert_eq!(rig.lines[round].body, format!("round {round}"));
        fs::remove_file(&path).unwrap();
    }
    // Though inodes were reused, no two lines may get the same record id.
    let mut seen = std::collections::HashSet::new();
    assert!(rig.lines.iter().all(|line| seen.insert(line.generation)));
    assert_eq!(rig.stats.deleted.lines.load(Relaxed), 0);
}

/// A line as long as any other, which ends as every other does.
fn probe(number: u32) -> String {
    format!(
        "{number:06} GET /healthz?verbose=true&exclude=etcd HTTP/1.1 200 kube-probe/1.31 took 0 ms, ok\n"
    )
}

fn probes(numbers: std::ops::Range<u32>) -> String {
    numbers.map(probe).collect()
}

/// Leaves as much of a log as if the power had gone, and writes other lines behind it.
fn cut(rig: &Rig, name: &str, left: u32, others: std::ops::Range<u32>) {
    let file = fs::File::options().write(true).open(rig.path(name));
    file.unwrap()
        .set_len(u64::from(left) * probe(0).len() as u64)
        .unwrap();
    rig.append(name, probes(others));
}

/// Which lines came after the first `before`.
fn numbers(rig: &Rig, before: usize) -> Vec<u32> {
    let lines = rig.lines[before..].iter();
    lines.map(|line| line.body[..6].parse().unwrap()).collect()
}

#[test]
fn a_log_that_was_cut_and_has_grown_past_its_position_is_read_once_more() {
    for grown in [40, 50, 70] {
        let mut rig = Rig::new();
        rig.append("a.log", probes(0..100));
        rig.start();
        rig.until_lines(100);
        rig.stop();
        cut(&rig, "a.log", 50, 1000..1000 + grown);
        rig.start();
        rig.until_lines(150 + grown as usize);
        assert_eq!(
            numbers(&rig, 100),
            (0..50).chain(1000..1000 + grown).collect::<Vec<_>>()
        );
        assert_eq!(rig.lines[100].generation, rig.lines[0].generation);
        // And only once.
        rig.stop();
        rig.start();
        rig.append("a.log", probe(2000));
        rig.until_lines(151 + grown as usize);
        assert_eq!(numbers(&rig, 150 + grown as usize), [2000]);
    }
}

#[test]
fn a_log_that_was_cut_and_rotated_is_read_once_more() {
    let mut rig = Rig::new();
    age(&mut rig);
    rig.config.start_at = StartAt::Beginning;
    rig.append("a.log", probes(0..100));
    rig.start();
    rig.until_lines(100);
    rig.stop();
    cut(&rig, "a.log", 50, 1000..1020);
    rig.rename("a.log", "a.log.1");
    rig.append("a.log", "next\n");
    rig.start();
    rig.until("the next log", |rig| {
        rig.lines.iter().any(|line| line.body == "next")
    });
    rig.lines.retain(|line| line.body != "next");
    rig.until_lines(170);
    assert_eq!(
        numbers(&rig, 100),
        (0..50).chain(1000..1020).collect::<Vec<_>>()
    );
}
