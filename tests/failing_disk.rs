//! A disk that takes lines and then loses them: ext4 on a file for which there is no room. The kernel
//! says so once, when the lines are synced.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Accounts, Node, numbered, wait_for};
use tempfile::TempDir;

/// What the disk can really hold.
const ROOM: u64 = 3 << 20;

fn run(program: &str, arguments: &[&Path]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

/// A mounted file system that is larger than what is beneath it.
struct Disk {
    below: PathBuf,
    mounted: PathBuf,
    _folder: TempDir,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = Self {
            below: folder.path().join("below"),
            mounted: folder.path().join("disk"),
            _folder: folder,
        };
        fs::create_dir(&disk.below).unwrap();
        fs::create_dir(&disk.mounted).unwrap();
        let size = PathBuf::from(format!("size={ROOM}"));
        let tmpfs = Path::new("tmpfs");
        run(
            "mount",
            &[
                "-t".as_ref(),
                tmpfs,
                "-o".as_ref(),
                &size,
                tmpfs,
                &disk.below,
            ],
        );
        let image = disk.below.join("image");
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let journal = Path::new("^has_journal");
        run(
            "mkfs.ext4",
            &["-q".as_ref(), "-F".as_ref(), "-O".as_ref(), journal, &image],
        );
        run(
            "mount",
            &["-o".as_ref(), "loop".as_ref(), &image, &disk.mounted],
        );
        disk
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for mounted in [&self.mounted, &self.below] {
            let _ = Command::new("umount").arg("--lazy").arg(mounted).status();
        }
    }
}

#[test]
fn lines_that_a_disk_took_back_are_delivered_to_the_next_path() {
    const LINES: u64 = 100_000;
    let mut node = Node::new();
    let disk = Disk::new();
    let to = |path: &Path| {
        let file = format!("file: {{path: {path:?}, format: raw}}");
        node.spec_to("fixture-logs", "{}", &file)
    };
    let lost = to(&disk.mounted.join("out"));
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
    assert!(numbers.iter().copied().eq(first..LINES), "from {first} on");
    node.append("a.log", numbered("", LINES..LINES + 1));
    node.assert_accounted("app", LINES + 1);
}
