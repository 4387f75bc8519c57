//! Joined lines in files that are rotated, truncated, deleted and read again.

use std::fs;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::super::super::batch::{LINE_CUT, LINE_UNFINISHED};
use super::harness::Rig;
use crate::manifest::{FileFormat, JoinRule, LinePattern, LogSource, Multiline, Period};

/// Long enough that no test waits for it.
const NEVER: Duration = Duration::from_secs(3600);

/// A rig whose records begin with `>`.
fn rig(format: FileFormat, timeout: Duration) -> Rig {
    let mut rig = Rig::with_format(format);
    let source: &mut LogSource = &mut rig.config.sources[0];
    source.multiline = Some(Multiline {
        rule: JoinRule::Start(LinePattern::try_from("^>".to_owned()).unwrap()),
        timeout: Period(timeout),
        max_lines: 1000,
    });
    rig
}

/// Waits until the tail has read that many bytes, joined and pending ones included.
fn until_read(rig: &mut Rig, bytes: usize) {
    rig.until("the bytes are read", |rig| {
        rig.stats.bytes_read.load(Relaxed) == bytes as u64
    });
}

#[test]
fn the_last_record_is_handed_on_after_the_time_out() {
    let mut rig = rig(FileFormat::Plain, Duration::from_millis(50));
    rig.start();
    rig.append("a.log", "> a\n1\n> b\n2\n");
    rig.until_lines(2);
    assert_eq!(rig.bodies(), ["> a\n1", "> b\n2"]);
    assert_eq!((rig.lines[1].position, rig.lines[1].joined), (6, 1));
    // Too late for its record, and read once.
    rig.append("a.log", "3\n");
    rig.until_lines(3);
    rig.stop();
    rig.append("a.log", "> c\n");
    rig.start();
    rig.until_lines(4);
    assert_eq!(rig.bodies()[2..], ["3", "> c"]);
}

#[test]
fn a_record_half_written_at_a_crash_is_joined_whole() {
    for format in [FileFormat::Plain, FileFormat::Cri] {
        let head = match format {
            FileFormat::Plain => "",
            FileFormat::Cri => "2024-01-02T03:04:05Z stdout F ",
        };
        let mut rig = rig(format, NEVER);
        let text = format!("{head}> a\n{head}1\n{head}> b\n{head}2\n");
        rig.append("a.log", &text);
        rig.append("a.log", format!("{head}ha"));
        rig.start();
        rig.until_lines(1);
        until_read(&mut rig, text.len());
        rig.stop();
        rig.append("a.log", format!("lf\n{head}3\n{head}> c\n"));
        rig.start();
        rig.until_lines(2);
        assert_eq!(rig.bodies(), ["> a\n1", "> b\n2\nhalf\n3"]);
        assert_eq!(
            rig.lines[1].position,
            text.len() as u64 - (2 * head.len() + 6) as u64
        );
    }
}

#[test]
fn a_record_ends_with_its_file() {
    let mut rig = rig(FileFormat::Plain, NEVER);
    rig.start();
    rig.append("a.log", "> a\n1\n");
    until_read(&mut rig, 6);
    rig.rename("a.log", "a.log.1");
    rig.append("a.log", "2\n> b\n");
    rig.append("a.log.1", "end");
    rig.until_lines(2);
    let mut bodies = rig.bodies();
    bodies.sort_unstable();
    assert_eq!(bodies, ["2", "> a\n1\nend"]);
    let ended = rig.lines.iter().find(|line| line.body != "2").unwrap();
    assert_eq!(ended.flags, LINE_UNFINISHED);
    rig.until("closed", |rig| rig.stats.files_open.load(Relaxed) == 1);
}

#[test]
fn a_truncation_ends_a_record_and_loses_nothing_that_was_read() {
    let mut rig = rig(FileFormat::Plain, NEVER);
    rig.start();
    rig.append("a.log", "> a\n1\n");
    until_read(&mut rig, 6);
    fs::write(rig.path("a.log"), "2\n3\n> longer than what was there\n").unwrap();
    rig.until_lines(2);
    assert_eq!(rig.bodies(), ["> a\n1", "2\n3"]);
    assert_eq!(rig.lines[1].generation, rig.lines[0].generation + 1);
    assert_eq!(rig.stats.truncated.bytes.load(Relaxed), 0);
}

/// What is given up is counted in records, and what was joined in them beside that. Some lines are
/// longer than any buffer, and begin as records do or do not.
#[test]
fn a_deleted_file_that_is_given_up_is_counted_record_by_record() {
    const RECORDS: usize = 50;
    let long = "x".repeat(700_000);
    for open_end in ["", "\n"] {
        let mut rig = rig(FileFormat::Plain, NEVER);
        rig.capacity = 1;
        rig.config.batch_lines = 1;
        rig.config.max_line = 10_000;
        rig.config.deleted_file_wait = Duration::from_millis(200);
        let short: String = (0..RECORDS).map(|n| format!("> {n}\n1\n2\n")).collect();
        let text = format!("{short}> {long}\n{long}\n3\n> {long}\n4\n{long}{open_end}");
        rig.start();
        // Nobody takes from the channel from here on.
        rig.append("a.log", &text);
        let stats = rig.stats.clone();
        let wait = |done: &dyn Fn() -> bool| {
            let deadline = Instant::now() + Duration::from_secs(20);
            while !done() {
                assert!(Instant::now() < deadline, "{stats:?}");
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        wait(&|| stats.blocked.load(Relaxed));
        fs::remove_file(rig.path("a.log")).unwrap();
        wait(&|| stats.deleted.lines.load(Relaxed) > 0);
        rig.until("gone", |rig| rig.gone.len() == 1);
        let records = rig.lines.len() as u64 + stats.deleted.lines.load(Relaxed);
        assert_eq!(records, RECORDS as u64 + 2);
        let joined: u64 = rig.lines.iter().map(|line| u64::from(line.joined)).sum();
        let joined = joined + stats.joined_given_up.load(Relaxed);
        assert_eq!(records + joined, 3 * (RECORDS as u64 + 2));
        let read: usize = rig.lines.iter().map(|line| line.body.len() + 1).sum();
        let given_up = stats.deleted.bytes.load(Relaxed);
        assert_eq!(read as u64 + given_up, text.len() as u64);
    }
}

#[test]
fn long_lines_are_joined_as_far_as_the_limit_reaches() {
    let mut rig = rig(FileFormat::Plain, NEVER);
    rig.config.max_line = 1000;
    rig.start();
    let long = "x".repeat(700_000);
    rig.append(
        "a.log",
        format!("> a\n{long}\n1\n> {long}\n{long}\n> c\n2\n> d\n"),
    );
    rig.until_lines(3);
    let seen: Vec<_> = rig
        .lines
        .iter()
        .map(|l| (l.body.len(), l.flags, l.joined))
        .collect();
    assert_eq!(seen, [(1000, LINE_CUT, 2), (1000, LINE_CUT, 1), (5, 0, 1)]);
    assert_eq!(rig.stats.lines_cut.load(Relaxed), 2);
}

#[test]
fn many_files_with_few_descriptors_have_their_records_open() {
    const FILES: usize = 300;
    let mut rig = rig(FileFormat::Plain, Duration::from_millis(300));
    rig.config.max_open = 20;
    for file in 0..FILES {
        rig.append(&format!("{file}.log"), format!("> {file}\n1\n"));
    }
    rig.start();
    rig.until_lines(FILES);
    let mut bodies = rig.bodies();
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!(bodies.len(), FILES);
    assert!(bodies.iter().all(|body| body.ends_with("\n1")));
    assert!(rig.stats.files_open.load(Relaxed) <= 20);
}
