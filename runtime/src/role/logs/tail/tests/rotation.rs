//! Rotation, truncation and deletion, also while the receiver is behind.

use std::fs;
use std::io::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::super::super::batch::LINE_UNFINISHED;
use super::harness::Rig;

#[test]
fn a_renamed_file_is_read_to_its_end() {
    let mut rig = Rig::new();
    rig.config.lanes = 1;
    rig.start();
    rig.append("a.log", "1\n");
    rig.until_lines(1);
    rig.append("a.log", "2\n");
    rig.rename("a.log", "a.log.1");
    rig.append("a.log.1", "3\n");
    rig.append("a.log", "5\n");
    rig.append("a.log.1", "4");
    rig.until_lines(5);
    rig.until("closed", |rig| rig.stats.files_open.load(Relaxed) == 1);
    let last = rig.lines.iter().find(|line| line.body == "4").unwrap();
    assert_eq!(last.flags, LINE_UNFINISHED);
    assert!(rig.gone.is_empty(), "it still exists");
    // Written to although rotated long ago.
    rig.append("a.log.1", "late\n");
    rig.until_lines(6);
    fs::remove_file(rig.path("a.log.1")).unwrap();
    rig.until("gone", |rig| rig.gone.len() == 1);
    let mut bodies = rig.bodies();
    bodies.sort_unstable();
    assert_eq!(bodies, ["1", "2", "3", "4", "5", "late"]);
}

/// A writer that rotates by `rotate` after each 500 lines, 20 times; every line must come once.
fn under_load(rig: &mut Rig, rotate: impl Fn(&Rig, usize)) {
    const ROUNDS: usize = 20;
    const LINES: usize = 500;
    rig.start();
    for round in 0..ROUNDS {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(rig.path("a.log"))
            .unwrap();
        for line in 0..LINES {
            writeln!(file, "{:06}", round * LINES + line).unwrap();
        }
        rig.drain();
        rotate(rig, round);
    }
    rig.until_lines(ROUNDS * LINES);
    // Room for a double to show up.
    rig.append("b.log", "end\n");
    rig.until_lines(ROUNDS * LINES + 1);
    let mut seen = rig.bodies();
    seen.retain(|body| *body != "end");
    seen.sort_unstable();
    let expected: Vec<String> = (0..ROUNDS * LINES).map(|n| format!("{n:06}")).collect();
    assert!(seen == expected, "lines lost or doubled");
    // In order within each file.
    let mut by_file = std::collections::HashMap::new();
    for line in rig.lines.iter().filter(|line| line.body != "end") {
        let round = line.body.parse::<usize>().unwrap() / LINES;
        let before = by_file.insert(round, &line.body);
        assert!(before.is_none_or(|before| *before < line.body));
    }
}

fn shift_names(rig: &Rig, round: usize) {
    for number in (1..=round).rev() {
        rig.rename(&format!("a.log.{number}"), &format!("a.log.{}", number + 1));
    }
    rig.rename("a.log", "a.log.1");
}

#[test]
fn rotation_by_rename_under_load_loses_nothing() {
    under_load(&mut Rig::new(), shift_names);
}

#[test]
fn rotation_by_rename_under_load_loses_nothing_when_polling() {
    let mut rig = Rig::new();
    rig.config.polling_only = true;
    under_load(&mut rig, shift_names);
}

#[test]
fn rotation_to_another_naming_scheme_loses_nothing() {
    under_load(&mut Rig::new(), |rig, round| {
        rig.rename("a.log", &format!("old-{round}"));
    });
}

#[test]
fn copies_of_truncated_files_are_not_read() {
    let mut rig = Rig::new();
    rig.start();
    for round in 0..5 {
        let text: String = (0..100).map(|line| format!("{round}-{line}\n")).collect();
        rig.append("a.log", text);
        rig.until_lines((round + 1) * 100);
        for number in (1..=round).rev() {
            rig.rename(&format!("a.log.{number}"), &format!("a.log.{}", number + 1));
        }
        fs::copy(rig.path("a.log"), rig.path("a.log.1")).unwrap();
        fs::File::create(rig.path("a.log")).unwrap();
    }
    rig.append("a.log", "end\n");
    rig.until_lines(501);
    rig.until("copies are known", |rig| rig.known.len() == 6);
    assert_eq!(rig.stats.truncated.bytes.load(Relaxed), 0);
    // Nor after a restart.
    rig.stop();
    rig.start();
    rig.append("a.log", "end\n");
    rig.until_lines(502);
    assert_eq!(rig.lines[501].body, "end");
    assert_eq!(rig.lines[500].generation, rig.lines[0].generation + 5);
}

#[test]
fn what_was_unread_at_a_truncation_is_counted() {
    let mut rig = Rig::new();
    rig.capacity = 1;
    rig.config.batch_lines = 1;
    rig.append("a.log", "1\n2\n3\n4\n5\n6\n");
    rig.start();
    rig.until_lines(6);
    rig.append("a.log", "held back");
    rig.until("seen", |rig| rig.stats.unread_bytes.load(Relaxed) == 9);
    fs::write(rig.path("a.log"), "new and longer than what was there\n").unwrap();
    rig.until_lines(7);
    assert_eq!(rig.lines[6].body, "new and longer than what was there");
    assert_eq!(rig.lines[6].generation, rig.lines[0].generation + 1);
    assert_eq!(rig.stats.truncated.bytes.load(Relaxed), 9);
    assert_eq!(rig.stats.truncations.load(Relaxed), 1);
}

#[test]
fn what_is_written_while_the_receiver_is_behind_is_seen() {
    let mut rig = Rig::new();
    rig.capacity = 1;
    rig.config.batch_lines = 1;
    rig.config.rescan = Duration::from_secs(3600);
    rig.start();
    // Nobody takes from the channel from here on.
    rig.append("a.log", "1\n2\n3\n4\n5\n6\n");
    let stats = rig.stats.clone();
    let wait = |done: &dyn Fn() -> bool| {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !done() {
            assert!(std::time::Instant::now() < deadline, "{stats:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    wait(&|| stats.blocked.load(Relaxed));
    // The first may still be seen by a read that was under way.
    for seen in [14, 16, 18] {
        rig.append("a.log", "7\n");
        wait(&|| stats.bytes_read.load(Relaxed) + stats.unread_bytes.load(Relaxed) == seen);
    }
    assert!(stats.unread_bytes.load(Relaxed) > 0, "it is still behind");
}

#[test]
fn a_deleted_file_is_read_to_its_end() {
    let mut rig = Rig::new();
    rig.capacity = 1;
    rig.config.batch_lines = 1;
    rig.append("a.log", "1\n2\n3\n4\n5\n6\nunfinished");
    rig.start();
    fs::remove_file(rig.path("a.log")).unwrap();
    rig.until("gone", |rig| rig.gone.len() == 1);
    assert_eq!(rig.bodies(), ["1", "2", "3", "4", "5", "6", "unfinished"]);
    assert_eq!(rig.stats.files_open.load(Relaxed), 0);
    assert!(rig.known.is_empty());
}

#[test]
fn a_deleted_file_is_given_up_if_the_receiver_stays_behind() {
    const LINES: u64 = 100;
    let mut rig = Rig::new();
    rig.capacity = 1;
    rig.config.batch_lines = 1;
    rig.config.deleted_file_wait = Duration::from_millis(200);
    let text: String = (0..LINES).map(|line| format!("{line:03}\n")).collect();
    rig.start();
    // Nobody takes from the channel from here on.
    rig.append("a.log", text + "tail");
    let stats = rig.stats.clone();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !stats.blocked.load(Relaxed) {
        assert!(std::time::Instant::now() < deadline, "{stats:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::remove_file(rig.path("a.log")).unwrap();
    while stats.deleted.lines.load(Relaxed) == 0 {
        assert!(std::time::Instant::now() < deadline, "{stats:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(stats.files_open.load(Relaxed), 0, "its space is free");
    rig.until("gone", |rig| rig.gone.len() == 1);
    let given_up = stats.deleted.lines.load(Relaxed);
    assert_eq!(rig.lines.len() as u64 + given_up, LINES + 1);
    let read = rig.lines.len() as u64 * 4;
    assert_eq!(stats.deleted.bytes.load(Relaxed), LINES * 4 + 4 - read);
    assert_eq!(stats.unread_bytes.load(Relaxed), 0);
}

#[test]
fn a_deleted_file_is_handed_from_tail_to_tail() {
    let mut rig = Rig::new();
    rig.capacity = 1;
    rig.config.batch_lines = 1;
    rig.config.lanes = 1;
    let line = |n: usize| format!("{n:03}\n");
    rig.append("a.log", (0..50).map(line).collect::<String>());
    rig.start();
    rig.until_lines(1);
    // Of this one nothing comes through before the stop: nobody takes from the channel any more.
    rig.append("b.log", (50..100).map(line).collect::<String>());
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while rig.stats.files_watched.load(Relaxed) < 2 {
        assert!(std::time::Instant::now() < deadline, "{:?}", rig.stats);
        std::thread::sleep(Duration::from_millis(2));
    }
    fs::remove_file(rig.path("a.log")).unwrap();
    fs::remove_file(rig.path("b.log")).unwrap();
    rig.stop_at_once();
    assert!(!rig.nameless.is_empty(), "nothing was handed on");
    rig.start();
    rig.until("gone", |rig| rig.gone.len() == 2);
    let mut bodies = rig.bodies();
    bodies.sort_unstable();
    let all: Vec<String> = (0..100).map(|n| format!("{n:03}")).collect();
    assert_eq!(bodies, all);
    assert_eq!(rig.stats.files_open.load(Relaxed), 0);
    assert_eq!(rig.stats.deleted.bytes.load(Relaxed), 0);
}

/// A writer that rotates, while the tail is stopped and started at any point of its work.
#[test]
fn rotation_across_restarts_loses_and_doubles_nothing() {
    const ROUNDS: usize = 40;
    const LINES: usize = 200;
    let mut rig = Rig::new();
    rig.config.batch_lines = 50;
    rig.capacity = 2;
    let folder = rig.dir.path().to_owned();
    let writer = std::thread::spawn(move || {
        for round in 0..ROUNDS {
            let path = folder.join("a.log");
            let mut file = fs::File::create_new(&path).unwrap();
            for line in 0..LINES {
                writeln!(file, "{:06}", round * LINES + line).unwrap();
                if line % 20 == 0 {
                    std::thread::sleep(Duration::from_micros(300));
                }
            }
            fs::rename(&path, folder.join(format!("a.log.{round:03}"))).unwrap();
        }
    });
    let mut target = 0;
    while target < ROUNDS * LINES {
        target = (rig.lines.len() + 331).min(ROUNDS * LINES);
        rig.start();
        rig.until_lines(target);
        rig.stop();
    }
    writer.join().unwrap();
    rig.start();
    rig.append("b.log", "end\n");
    rig.until("the end", |rig| rig.bodies().contains(&"end"));
    let mut seen = rig.bodies();
    seen.retain(|body| *body != "end");
    seen.sort_unstable();
    let expected: Vec<String> = (0..ROUNDS * LINES).map(|n| format!("{n:06}")).collect();
    assert_eq!(seen.len(), expected.len());
    assert!(seen == expected, "lines lost or doubled");
}
