#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use std::os::unix::fs::symlink;
use std::process::Command;

const LARGE: Rotation = Rotation {
    max_size: u64::MAX,
    keep: 3,
};

fn file(path: &Path) -> RotatingFile {
    RotatingFile::new(Path::new("/"), path).unwrap()
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn folders_are_made_and_a_torn_tail_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/out");
    file(&path).append(b"one\n", LARGE).unwrap();
    std::fs::write(&path, "one\ntwo\nthr").unwrap();
    let again = file(&path);
    again.append(b"three\n", LARGE).unwrap();
    assert_eq!(read(&path), "one\ntwo\nthree\n");
    again.sync().unwrap();
}

#[test]
fn a_tail_that_is_not_ours_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    std::fs::File::create(&path)
        .unwrap()
        .set_len(TAIL + 1000)
        .unwrap();
    file(&path).append(b"x\n", LARGE).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len() as u64, TAIL + 1000 + 3);
    assert!(bytes.ends_with(b"\0\nx\n"));
}

#[test]
fn rotation_under_concurrent_writers_loses_and_tears_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let file = file(&path);
    let rotation = Rotation {
        max_size: 1000,
        keep: 1000,
    };
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let file = &file;
            scope.spawn(move || {
                for number in 0..200 {
                    let body = format!("{writer} {number} a\n{writer} {number} b\n");
                    file.append(body.as_bytes(), rotation).unwrap();
                }
            });
        }
    });
    let count = std::fs::read_dir(folder.path()).unwrap().count();
    assert!(count > 10, "{count} files");
    let mut all = String::new();
    for number in (1..count).rev() {
        let text = read(folder.path().join(format!("out.{number}")));
        assert!(text.len() <= 1000);
        all.push_str(&text);
    }
    all.push_str(&read(&path));
    let mut next = [0; 4];
    let lines: Vec<&str> = all.lines().collect();
    for pair in lines.chunks(2) {
        let (writer, number) = pair[0].strip_suffix(" a").unwrap().split_once(' ').unwrap();
        assert_eq!(pair[1], format!("{writer} {number} b"));
        let next = &mut next[writer.parse::<usize>().unwrap()];
        assert_eq!(number.parse(), Ok(*next));
        *next += 1;
    }
    assert_eq!(next, [200; 4]);
}

#[test]
fn only_as_many_old_files_as_told_and_gaps_push_nothing_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let at = |number: u32| folder.path().join(format!("out.{number}"));
    let rotation = Rotation {
        max_size: 2,
        keep: 2,
    };
    std::fs::write(at(2), "old\n").unwrap();
    let file = file(&path);
    file.append(b"1\n", rotation).unwrap();
    file.append(b"2\n", rotation).unwrap();
    assert_eq!(
        [read(&path), read(at(1)), read(at(2))],
        ["2\n", "1\n", "old\n"]
    );
    file.append(b"3\n", rotation).unwrap();
    assert_eq!(
        [read(&path), read(at(1)), read(at(2))],
        ["3\n", "2\n", "1\n"]
    );
    assert!(!at(3).exists());
    let none = Rotation {
        max_size: 2,
        keep: 0,
    };
    file.append(b"4\n", none).unwrap();
    assert_eq!([read(&path), read(at(1))], ["4\n", "2\n"]);
}

#[test]
fn a_file_that_someone_else_rotated_is_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let moved = folder.path().join("moved");
    let file = file(&path);
    file.append(b"0\n", LARGE).unwrap();
    std::fs::rename(&path, &moved).unwrap();
    let start = Instant::now();
    let mut written = 1;
    while !path.exists() {
        assert!(start.elapsed() < Duration::from_secs(60));
        file.append(format!("{written}\n").as_bytes(), LARGE)
            .unwrap();
        written += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    let expected: String = (0..written).map(|number| format!("{number}\n")).collect();
    assert_eq!(read(&moved) + &read(&path), expected);
}

#[test]
fn links_and_special_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    std::fs::write(&target, "").unwrap();
    let link = folder.path().join("link");
    symlink(&target, &link).unwrap();
    let error = file(&link).append(b"x\n", LARGE).unwrap_err();
    assert!(error.to_string().contains("symlink"), "{error}");
    let fifo = folder.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RWXU).unwrap();
    let error = file(&fifo).append(b"x\n", LARGE).unwrap_err();
    assert!(error.to_string().contains("regular"), "{error}");
    assert_eq!(read(&target), "");
    for path in ["relative", "/a/../b", "/"] {
        assert!(RotatingFile::new(Path::new("/"), Path::new(path)).is_none());
    }
}

#[test]
fn links_in_the_path_stay_inside_the_root() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("real")).unwrap();
    symlink("/real", root.path().join("link")).unwrap();
    let file = RotatingFile::new(root.path(), Path::new("/link/sub/out")).unwrap();
    file.append(b"x\n", LARGE).unwrap();
    assert_eq!(read(root.path().join("real/sub/out")), "x\n");
}

#[test]
fn a_synced_append_that_failed_is_taken_back_and_can_be_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let file = file(&path);
    file.append_synced(b"one\n", LARGE).unwrap();
    file.failing_syncs
        .store(3, std::sync::atomic::Ordering::SeqCst);
    for _ in 0..3 {
        file.append_synced(b"two\n", LARGE).unwrap_err();
        assert_eq!(read(&path), "one\n");
    }
    file.append_synced(b"two\n", LARGE).unwrap();
    file.append_synced(b"three\n", LARGE).unwrap();
    assert_eq!(read(&path), "one\ntwo\nthree\n");
}

#[test]
fn after_a_failed_sync_nothing_is_promised_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let file = file(&folder.path().join("out"));
    file.append(b"one\n", LARGE).unwrap();
    file.failing_syncs
        .store(1, std::sync::atomic::Ordering::SeqCst);
    file.sync().unwrap_err();
    let error = file.sync().unwrap_err();
    assert!(error.to_string().contains("an earlier sync"), "{error}");
}

/// A file system with room for 256 KiB; unmounted when dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(folder.path())
            .status()
            .is_ok_and(|status| status.success());
        mounted.then_some(Self(folder))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_leaves_whole_appends_only() {
    let Some(small) = Small::mount() else {
        eprintln!("skipped: this machine does not let the test mount a tmpfs");
        return;
    };
    let path = small.0.path().join("out");
    let file = file(&path);
    let body = [&[b'x'; 50_000][..], b"\n"].concat();
    let mut whole = 0;
    let error = loop {
        match file.append(&body, LARGE) {
            Ok(()) => whole += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let length = || std::fs::metadata(&path).unwrap().len();
    assert!(whole > 0);
    assert_eq!(length(), whole * body.len() as u64);
    // Space comes back: the same append succeeds.
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(0)
        .unwrap();
    file.append(&body, LARGE).unwrap();
    assert_eq!(length(), body.len() as u64);
}
