//! Disks that fail. One takes lines and then loses them: ext4 on a file for which there is no room.
//! The kernel says so once, when the lines are synced. Another one, the state's, is full.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use support::disk::{Ext4, Tmpfs};
use support::{Accounts, Node, numbered, wait_for};

/// What the disk can really hold.
const ROOM: u64 = 3 << 20;

#[test]
fn lines_that_a_disk_took_back_are_delivered_to_the_next_path() {
    const LINES: u64 = 100_000;
    let mut node = Node::new();
    let disk = node.path("disk");
    let _disk = Ext4::new(&disk, ROOM, false);
    let to = |path: &Path| {
        let file = format!("file: {{path: {path:?}, format: raw}}");
        node.spec_to("fixture-logs", "{}", &file)
    };
    let lost = to(&disk.join("out"));
    let safe = to(&node.path("out-app"));
    node.manifest("app", &lost);
    node.start();
    node.wait_running("app");
    let line = |n: u64| format!("{n:099}");
    node.append("a.log", (0..LINES).map(line));
    node.wait_plugin("app", "the disk to fail", |report| {
        let problem = report["logs"]["problem"].as_str().unwrap_or("");
        problem.contains("cannot make delivered lines durable")
            && Accounts::of(report).acknowledged == LINES
    });
    node.manifest("app", &safe);
    let output = wait_for("the last line at the next path", || {
        let output = fs::read_to_string(node.path("out-app")).ok()?;
        let whole = output.ends_with(&(line(LINES - 1) + "\n"));
        whole.then_some(output)
    });
    let accounts = node.assert_accounted("app", LINES);
    assert_eq!(accounts.acknowledged, LINES);
    let numbers: Vec<u64> = output.lines().map(|line| line.parse().unwrap()).collect();
    let first = numbers[0];
    assert!(
        first * 100 < ROOM,
        "the disk can only hold so many: {first}"
    );
    // What is not delivered again is on the disk, not in the kernel's cache alone.
    let kept = File::open(disk.join("out")).unwrap();
    rustix::fs::fadvise(&kept, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let mut text = vec![0; (first * 100) as usize];
    kept.read_exact_at(&mut text, 0).unwrap();
    let expected: String = (0..first).map(|n| line(n) + "\n").collect();
    assert!(text == expected.as_bytes(), "0..{first} are on the disk");
    assert!(numbers.iter().copied().eq(first..LINES), "from {first} on");
    node.append("a.log", numbered("", LINES..LINES + 1));
    node.assert_accounted("app", LINES + 1);
}

/// Takes all the room there is; what comes back gives it up.
fn fill(folder: &Path) -> PathBuf {
    let ballast = folder.join("ballast");
    let mut file = File::create(&ballast).unwrap();
    // The last bytes, too.
    for size in [64 << 10, 1 << 10, 1] {
        let block = vec![1; size];
        while file.write_all(&block).is_ok() {}
    }
    ballast
}

#[test]
fn a_full_disk_of_the_state_delays_checkpoints_and_no_line() {
    const EACH: u64 = 3;
    let mut node = Node::new();
    node.state = node.path("small");
    let _disk = Tmpfs::new(&node.state, 32 << 20);
    node.manifest("app", &node.spec("app", "fixture-logs", "{}"));
    node.start();
    node.append("first.log", numbered("first", 0..EACH));
    node.assert_accounted("app", EACH);

    let ballast = fill(&node.state);
    // What a file has in the store takes some room each.
    let mut files = 0;
    let said = wait_for("checkpoints to fail", || {
        for _ in 0..100 {
            files += 1;
            let text = format!("f{files}");
            node.append(&format!("{text}.log"), numbered(&text, 0..EACH));
        }
        // It is said in time, or the lines would be many.
        node.assert_accounted("app", EACH + files * EACH);
        let report = node.plugin("app").unwrap();
        report["logs"]["problem"].as_str().map(str::to_owned)
    });
    for part in ["checkpoints are not written", "No space left", "free"] {
        assert!(said.contains(part), "{part:?} is missing: {said}");
    }
    // Delivery goes on for as long as it takes.
    node.append("first.log", numbered("first", EACH..2 * EACH));
    let written = files * EACH + 2 * EACH;
    node.assert_accounted("app", written);
    assert_eq!(node.wait_running("app")["phase"], "Running");

    fs::remove_file(ballast).unwrap();
    node.wait_plugin("app", "checkpoints again", |report| {
        report["logs"]["problem"].is_null()
    });
    node.kill();
    node.start();
    node.append("first.log", numbered("first", 2 * EACH..3 * EACH));
    // Nothing was read again.
    node.assert_accounted("app", EACH);
    let mut messages: Vec<String> = (node.output("app").iter())
        .map(|record| record["message"].as_str().unwrap().to_owned())
        .collect();
    let mut expected: Vec<String> = numbered("first", 0..3 * EACH).collect();
    expected.extend((1..=files).flat_map(|file| numbered(&format!("f{file}"), 0..EACH)));
    messages.sort();
    expected.sort();
    assert!(messages == expected, "each line once: {messages:?}");
}
