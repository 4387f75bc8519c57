//! What lines look like when they come out: joining, cutting, sources, many files, watching.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::super::super::batch::{LINE_CUT, LINE_STDERR, LINE_UNFINISHED};
use super::harness::Rig;
use crate::manifest::{FileFormat, FileSource, LogSourceKind};

const T: &str = "2024-01-02T03:04:05.000000001Z";

#[test]
fn follows_a_file_and_holds_what_has_no_line_feed() {
    let mut rig = Rig::new();
    rig.start();
    rig.append("a.log", "one\ntw");
    rig.until_lines(1);
    rig.append("a.log", b"o\r\n\n\0\xff\n");
    rig.until_lines(4);
    assert_eq!(rig.lines[0].body, "one");
    assert_eq!(rig.lines[1].body, "two\r");
    assert_eq!(rig.lines[1].position, 4);
    assert_eq!(rig.lines[2].body, "");
    rig.append("ignored.txt", "no\n");
    rig.append("packed.log.gz", "no\n");
    rig.append("a.log", "end\n");
    rig.until_lines(5);
    assert_eq!(rig.lines[4].body, "end");
}

#[test]
fn long_lines_are_cut_and_the_next_one_is_whole() {
    let mut rig = Rig::new();
    rig.config.max_line = 1000;
    rig.start();
    rig.append("a.log", "x".repeat(1001) + "\nshort\n");
    rig.append("a.log", "y".repeat(1_500_000));
    rig.append("a.log", "z\nafter\n".to_owned() + &"w".repeat(1000) + "\n");
    rig.until_lines(5);
    let seen: Vec<_> = rig.lines.iter().map(|l| (l.body.len(), l.flags)).collect();
    assert_eq!(
        seen,
        [
            (1000, LINE_CUT),
            (5, 0),
            (1000, LINE_CUT),
            (5, 0),
            (1000, 0)
        ]
    );
    assert_eq!(rig.stats.lines_cut.load(Relaxed), 2);
}

#[test]
fn a_line_longer_than_the_buffer_but_within_the_limit_is_whole() {
    let mut rig = Rig::new();
    rig.config.max_line = 2 << 20;
    rig.start();
    rig.append("a.log", "x".repeat(1 << 20) + "\nshort\n");
    rig.until_lines(2);
    assert_eq!((rig.lines[0].body.len(), rig.lines[0].flags), (1 << 20, 0));
}

#[test]
fn container_logs_have_attributes_and_are_read_once() {
    let mut rig = Rig::containers();
    fs::create_dir_all(rig.path("containers")).unwrap();
    rig.start();
    let folder = "pods/shop_web-0_1f2e/nginx";
    fs::create_dir_all(rig.path(folder)).unwrap();
    let log = format!("{folder}/0.log");
    rig.append(&log, format!("{T} stderr F hello\n"));
    symlink(
        rig.path(&log),
        rig.path("containers/web-0_shop_nginx-0123.log"),
    )
    .unwrap();
    rig.until_lines(1);
    rig.append(
        &log,
        format!("{T} stdout P wo\n{T} stdout F rld\nmalformed\n"),
    );
    rig.until_lines(3);
    assert_eq!(rig.bodies(), ["hello", "world", "malformed"]);
    assert_eq!(rig.lines[0].flags, LINE_STDERR);
    assert_eq!(rig.lines[0].time % 1_000_000_000, 1);
    assert_eq!(rig.stats.malformed.load(Relaxed), 1);
    assert_eq!(rig.stats.files_watched.load(Relaxed), 1);
    let key = |name: &str| format!("k8s.{name}");
    let attributes = &rig.lines[1].attributes;
    assert!(attributes.contains(&(key("pod.uid"), "1f2e".to_owned())));
    assert!(attributes.contains(&(key("container.restart_count"), "0".to_owned())));
}

#[test]
fn a_links_target_outside_is_followed_when_it_is_rotated() {
    let mut rig = Rig::containers();
    fs::create_dir_all(rig.path("containers")).unwrap();
    fs::create_dir_all(rig.path("elsewhere")).unwrap();
    rig.append("elsewhere/json", format!("{T} stdout F one\n"));
    symlink(
        rig.path("elsewhere/json"),
        rig.path("containers/web-0_shop_nginx-0123.log"),
    )
    .unwrap();
    rig.start();
    rig.until_lines(1);
    rig.append("elsewhere/json", format!("{T} stdout F two\n"));
    rig.rename("elsewhere/json", "elsewhere/json.1");
    rig.append("elsewhere/json", format!("{T} stdout F three\n"));
    rig.until_lines(3);
    rig.append("elsewhere/json", format!("{T} stdout F four\n"));
    rig.until_lines(4);
    let mut bodies = rig.bodies();
    bodies.sort_unstable();
    assert_eq!(bodies, ["four", "one", "three", "two"]);
}

#[test]
fn a_pending_part_is_handed_on_after_a_while() {
    let mut rig = Rig::with_format(FileFormat::Cri);
    rig.config.partial_wait = Duration::from_millis(50);
    rig.start();
    rig.append("a.log", format!("{T} stdout P begun\n"));
    rig.until_lines(1);
    assert_eq!(rig.lines[0].flags, LINE_UNFINISHED);
    rig.append("a.log", format!("{T} stdout F rest\n"));
    rig.until_lines(2);
    assert_eq!(rig.lines[1].body, "rest");
}

#[test]
fn a_pending_part_is_read_again_after_a_restart() {
    let mut rig = Rig::with_format(FileFormat::Cri);
    rig.start();
    rig.append("a.log", format!("{T} stdout F one\n{T} stdout P be\n"));
    rig.until_lines(1);
    rig.stop();
    rig.append("a.log", format!("{T} stdout F gun\n"));
    rig.start();
    rig.until_lines(2);
    assert_eq!(rig.bodies(), ["one", "begun"]);
}

fn many_files(rig: &mut Rig) {
    const FILES: usize = 2000;
    for file in 0..FILES / 2 {
        rig.append(&format!("{file}.log"), format!("{file} first\n"));
    }
    rig.start();
    for file in FILES / 2..FILES {
        rig.append(&format!("{file}.log"), format!("{file} first\n"));
    }
    for file in 0..FILES {
        rig.append(&format!("{file}.log"), format!("{file} second\n"));
    }
    rig.until_lines(2 * FILES);
    for file in 0..FILES {
        let name = rig.path(&format!("{file}.log"));
        let of: Vec<_> = rig.lines.iter().filter(|line| line.path == name).collect();
        assert_eq!(of[0].body, format!("{file} first"));
        assert_eq!(of[1].body, format!("{file} second"));
        assert_eq!(of.len(), 2);
    }
    assert_eq!(rig.stats.unread_bytes.load(Relaxed), 0);
}

#[test]
fn two_thousand_files_with_few_descriptors() {
    let mut rig = Rig::new();
    rig.config.max_open = 100;
    many_files(&mut rig);
    assert!(rig.stats.files_open.load(Relaxed) <= 100);
    assert_eq!(rig.stats.watch_mode(), "inotify");
}

#[test]
fn two_thousand_files_by_polling() {
    let mut rig = Rig::new();
    rig.config.polling_only = true;
    many_files(&mut rig);
    assert_eq!(rig.stats.watch_mode(), "polling");
}

#[test]
fn folders_along_a_glob_may_come_go_and_come_back() {
    let dir = tempfile::TempDir::new().unwrap();
    let source = LogSourceKind::Files(FileSource {
        include: vec![
            format!("{}/not/yet/*/app.log", dir.path().display()),
            format!("{}/deep/**/*.txt", dir.path().display()),
        ],
        exclude: vec![format!("{}/**/secret/*", dir.path().display())],
        format: FileFormat::Plain,
    });
    let mut rig = Rig::with_source(dir, source);
    rig.start();
    for round in 0..2 {
        fs::create_dir_all(rig.path("not/yet/x")).unwrap();
        rig.append("not/yet/x/app.log", "app\n");
        fs::create_dir_all(rig.path("deep/a/b")).unwrap();
        fs::create_dir_all(rig.path("deep/secret")).unwrap();
        rig.append("deep/secret/s.txt", "secret\n");
        rig.append("deep/a/b/c.txt", "deep\n");
        rig.append("deep/c.txt", "flat\n");
        rig.until_lines(3 * (round + 1));
        fs::remove_dir_all(rig.path("not")).unwrap();
        fs::remove_dir_all(rig.path("deep")).unwrap();
        rig.until("three files are gone", |rig| {
            rig.gone.len() == 3 * (round + 1)
        });
    }
    assert!(!rig.bodies().contains(&"secret"));
}

#[test]
fn excluded_files_are_not_read_by_any_name() {
    let mut rig = Rig::new();
    rig.append("own.log", "own\n");
    fs::hard_link(rig.path("own.log"), rig.path("alias.log")).unwrap();
    rig.config.own.files = vec![rig.path("own.log")];
    rig.start();
    rig.append("own.log", "own\n");
    rig.append("a.log", "other\n");
    rig.until_lines(1);
    assert_eq!(rig.bodies(), ["other"]);
}

#[test]
fn own_files_are_not_read_after_their_rotation_either() {
    let mut rig = Rig::new();
    rig.config.own.files = vec![rig.path("own.log")];
    rig.start();
    rig.append("own.log", "own\n");
    rig.rename("own.log", "own.log.1");
    rig.append("own.log", "own\n");
    rig.append("a.log", "other\n");
    rig.rename("a.log", "a.log.1");
    rig.until_lines(1);
    assert_eq!(rig.bodies(), ["other"]);
    assert_eq!(rig.stats.files_watched.load(Relaxed), 1);
}

#[test]
fn the_own_containers_log_is_not_read_by_any_name() {
    let mut rig = Rig::containers();
    rig.config.own.pod = Some("1f2e".to_owned());
    rig.config.own.container = Some("node-daemon".to_owned());
    fs::create_dir_all(rig.path("containers")).unwrap();
    let write = |rig: &Rig, pod: &str, container: &str| {
        let folder = format!("pods/{pod}/{container}");
        fs::create_dir_all(rig.path(&folder)).unwrap();
        let log = format!("{folder}/0.log");
        rig.append(&log, format!("{T} stderr F {pod} {container}\n"));
        let link = format!("containers/{}_ns_{container}-1.log", pod.replace('_', "-"));
        symlink(rig.path(&log), rig.path(&link)).unwrap();
    };
    write(&rig, "system_node-daemon-x7_1f2e", "node-daemon");
    rig.start();
    rig.append(
        "pods/system_node-daemon-x7_1f2e/node-daemon/1.log",
        format!("{T} stderr F after a restart\n"),
    );
    write(&rig, "system_node-daemon-x7_1f2e", "sidecar");
    write(&rig, "system_node-daemon-y8_01f2e", "node-daemon");
    rig.until_lines(2);
    let mut bodies = rig.bodies();
    bodies.sort_unstable();
    assert_eq!(
        bodies,
        [
            "system_node-daemon-x7_1f2e sidecar",
            "system_node-daemon-y8_01f2e node-daemon"
        ]
    );
    assert_eq!(rig.stats.files_watched.load(Relaxed), 2);
}

#[test]
fn stops_while_the_receiver_does_not_take() {
    let mut rig = Rig::new();
    rig.capacity = 1;
    rig.config.batch_lines = 1;
    rig.append("a.log", "1\n2\n3\n4\n5\n");
    rig.start();
    rig.until_lines(1);
    // More waits than the channel holds, and nobody takes it.
    rig.append("a.log", "6\n7\n8\n9\n");
    rig.stop();
    rig.start();
    rig.until_lines(9);
    let expected: Vec<String> = (1..=9).map(|n| n.to_string()).collect();
    assert_eq!(rig.bodies(), expected);
}
