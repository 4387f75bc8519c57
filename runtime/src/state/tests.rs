#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::file::{self, FORMAT, MIGRATIONS};
use super::*;

fn open(folder: &Path) -> Store {
    let opened = Store::open(folder).expect("the store opens");
    assert_eq!(opened.set_aside, None);
    opened.store
}

fn file(inode: u64) -> FileId {
    FileId { device: 8, inode }
}

fn checkpoint(offset: u64) -> Checkpoint {
    Checkpoint {
        generation: 3,
        fingerprint: Fingerprint {
            length: 64,
            hash: u64::MAX - 1,
        },
        path: PathBuf::from("/var/log/a.log"),
        marks: vec![("out".to_owned(), offset), ("loki".to_owned(), offset / 2)],
        footprints: vec![Footprint {
            offset,
            length: 64,
            hash: 5,
        }],
        updated: UNIX_EPOCH + Duration::new(1_790_000_000, 7),
    }
}

fn at(hours: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_790_000_000 + hours * 3600)
}

#[test]
fn a_commit_survives_a_reopening_and_keeps_plugins_apart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    assert_eq!(store.load_checkpoints("local/a").unwrap(), []);
    let mut commit = Commit::new("local/a");
    commit.checkpoint(file(2), checkpoint(20));
    commit.checkpoint(file(1), checkpoint(5));
    commit.checkpoint(file(1), checkpoint(10));
    commit.set("k", "value");
    store.commit(&commit).unwrap();
    let mut other = Commit::new("local/a\u{1}");
    other.checkpoint(file(1), checkpoint(99)).set("k", "other");
    store.commit(&other).unwrap();
    drop(store);

    let store = open(folder.path());
    assert_eq!(
        store.load_checkpoints("local/a").unwrap(),
        [(file(1), checkpoint(10)), (file(2), checkpoint(20))]
    );
    assert_eq!(
        store.kv_get("local/a", "k").unwrap().unwrap(),
        b"value".to_vec()
    );
    let mut forget = Commit::new("local/a");
    forget.forget(file(1)).forget(file(77)).delete("k");
    store.commit(&forget).unwrap();
    assert_eq!(
        store.load_checkpoints("local/a").unwrap(),
        [(file(2), checkpoint(20))]
    );
    assert_eq!(store.kv_get("local/a", "k").unwrap(), None);
    assert_eq!(store.load_checkpoints("local/a\u{1}").unwrap().len(), 1);
}

#[test]
fn sizes_follow_writes_overwrites_and_deletes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut commit = Commit::new("local/a");
    commit
        .set("ab", "1234")
        .set("ab", "12")
        .set("c", "")
        .set("d", "x");
    commit.delete("d").delete("never");
    store.commit(&commit).unwrap();
    assert_eq!(store.kv_size("local/a").unwrap(), 2 + 2 + 1);
    assert_eq!(store.kv_size("local/b").unwrap(), 0);
}

#[test]
fn keys_are_listed_by_prefix_in_order_up_to_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut commit = Commit::new("local/a");
    for key in ["p/2", "q", "p/1", "p", "p/3", "o"] {
        commit.set(key, "v");
    }
    store.commit(&commit).unwrap();
    let mut later = Commit::new("local/b");
    later.set("p/0", "v");
    store.commit(&later).unwrap();
    assert_eq!(
        store.kv_list("local/a", "p/", 10).unwrap(),
        ["p/1", "p/2", "p/3"]
    );
    assert_eq!(store.kv_list("local/a", "p", 2).unwrap(), ["p", "p/1"]);
    assert_eq!(store.kv_list("local/a", "", 100).unwrap().len(), 6);
    assert!(store.kv_list("local/a", "z", 10).unwrap().is_empty());
}

#[test]
fn state_outlives_a_deleted_manifest_by_its_retention() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let new = store.mark_present("local/a", at(0)).unwrap();
    assert_eq!(
        new,
        FirstSeen {
            at: at(0),
            new: true
        }
    );
    let mut commit = Commit::new("local/a");
    commit.checkpoint(file(1), checkpoint(10)).set("k", "v");
    store.commit(&commit).unwrap();
    store.mark_present("local/ab", at(0)).unwrap();
    commit.identity = "local/ab".to_owned();
    store.commit(&commit).unwrap();

    store.mark_deleted("local/a", at(1)).unwrap();
    store.mark_deleted("local/a", at(20)).unwrap();
    assert!(store.purge_expired(at(24)).unwrap().is_empty());
    let back = store.mark_present("local/a", at(24)).unwrap();
    assert_eq!(
        back,
        FirstSeen {
            at: at(0),
            new: false
        }
    );
    assert!(store.purge_expired(at(1000)).unwrap().is_empty());

    store.mark_deleted("local/a", at(30)).unwrap();
    assert!(
        store.purge_expired(at(29)).unwrap().is_empty(),
        "a clock set back"
    );
    assert_eq!(store.purge_expired(at(54)).unwrap(), ["local/a"]);
    assert!(store.load_checkpoints("local/a").unwrap().is_empty());
    assert_eq!(store.kv_size("local/a").unwrap(), 0);
    assert_eq!(store.kv_get("local/a", "k").unwrap(), None);
    assert_eq!(store.load_checkpoints("local/ab").unwrap().len(), 1);
    assert!(store.kv_get("local/ab", "k").unwrap().is_some());
    assert_eq!(store.known_plugins().unwrap().len(), 1);
}

#[test]
fn a_plugin_that_returns_after_its_retention_starts_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.mark_present("local/a", at(0)).unwrap();
    let mut commit = Commit::new("local/a");
    commit.checkpoint(file(1), checkpoint(10));
    store.commit(&commit).unwrap();
    store.mark_deleted("local/a", at(1)).unwrap();
    let seen = store.mark_present("local/a", at(26)).unwrap();
    assert_eq!(
        seen,
        FirstSeen {
            at: at(26),
            new: true
        }
    );
    assert!(store.load_checkpoints("local/a").unwrap().is_empty());
    // Unknown plugins get no record by being deleted.
    store.mark_deleted("local/never", at(26)).unwrap();
    assert_eq!(store.known_plugins().unwrap().len(), 1);
}

#[test]
fn records_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    assert_eq!(store.get_record("deaths").unwrap(), None);
    store.put_record("deaths", b"one").unwrap();
    store.put_record("deaths", b"two").unwrap();
    assert_eq!(store.get_record("deaths").unwrap().unwrap(), b"two");
}

#[test]
fn a_second_daemon_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let Err(error) = Store::open(folder.path()) else {
        panic!("the folder is in use");
    };
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains(&format!("process {}", std::process::id())),
        "{text}"
    );
    assert!(text.contains("--state"), "{text}");
    drop(first);
    open(folder.path());
}

#[test]
fn the_folder_and_the_file_are_private() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("new/state");
    let _store = open(&folder);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("bulkhead.redb")), 0o600);

    let open_to_all = parent.path().join("open");
    std::fs::create_dir(&open_to_all).unwrap();
    std::fs::set_permissions(&open_to_all, std::fs::Permissions::from_mode(0o777)).unwrap();
    let Err(error) = Store::open(&open_to_all) else {
        panic!("others may write there");
    };
    assert!(error.to_string().contains("chmod 0700"), "{error}");
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.put_record("r", b"kept").unwrap();
    drop(store);
    let path = folder.path().join("bulkhead.redb");
    drop(
        file::open(
            &path,
            FORMAT + 1,
            &[|transaction| {
                let table = redb::TableDefinition::<&str, u64>::new("added");
                transaction.open_table(table)?.insert("x", 1)?;
                Ok(())
            }],
        )
        .expect("the migration runs"),
    );

    let Err(error) = Store::open(folder.path()) else {
        panic!("this is a newer format");
    };
    assert!(matches!(error, Error::Newer { found: 2, .. }), "{error}");
    let database = file::open(
        &path,
        FORMAT + 1,
        &[|_| panic!("a migration runs only once")],
    );
    assert!(database.is_ok());
}

#[test]
fn damaged_files_are_put_aside_and_work_goes_on() {
    let whole = {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let mut commit = Commit::new("local/a");
        for inode in 0..500 {
            commit.checkpoint(file(inode), checkpoint(inode));
        }
        store.commit(&commit).unwrap();
        drop(store);
        std::fs::read(folder.path().join("bulkhead.redb")).unwrap()
    };
    let mut flipped = whole.clone();
    // A byte in the middle of a checkpoint's path, in every page that holds one.
    let needle = b"/var/log/a.log";
    let hits: Vec<usize> = (0..whole.len() - needle.len())
        .filter(|&i| whole[i..].starts_with(needle))
        .collect();
    assert!(!hits.is_empty());
    for hit in hits {
        flipped[hit] ^= 0x55;
    }
    let cases: [(&str, Vec<u8>); 5] = [
        (
            "text",
            b"this is no database, but it is long enough".repeat(500),
        ),
        ("short", b"redb".to_vec()),
        ("zeros", vec![0; 1 << 16]),
        ("half", whole[..whole.len() / 2].to_vec()),
        ("flipped", flipped),
    ];
    for (name, bytes) in cases {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("bulkhead.redb"), &bytes).unwrap();
        let opened = Store::open(folder.path()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let aside = opened
            .set_aside
            .unwrap_or_else(|| panic!("{name} was taken for a good file"));
        assert!(aside.path.to_string_lossy().contains("redb.corrupt-"));
        assert!(!aside.reason.is_empty());
        assert_eq!(
            std::fs::metadata(&aside.path).unwrap().len(),
            bytes.len() as u64
        );
        opened.store.put_record("r", b"works").unwrap();
        drop(opened.store);
        assert_eq!(
            open(folder.path()).get_record("r").unwrap().unwrap(),
            b"works"
        );
    }
}

/// A file system of a few pages; nothing if this test may not mount.
struct TinyDisk(tempfile::TempDir);

impl TinyDisk {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size},mode=0700"),
                "tmpfs",
            ])
            .arg(folder.path())
            .stderr(std::process::Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        mounted.then_some(Self(folder))
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0.path())
            .status();
    }
}

#[test]
fn a_full_disk_is_an_error_to_retry_and_nothing_is_lost() {
    let Some(disk) = TinyDisk::mount("6m") else {
        eprintln!("skipped: mounting a tmpfs needs root");
        return;
    };
    let store = open(disk.0.path());
    let mut first = Commit::new("local/a");
    first.checkpoint(file(1), checkpoint(1)).set("k", "first");
    store.commit(&first).unwrap();

    // Others fill the disk; then the store.
    let ballast = disk.0.path().join("ballast");
    let mut filled = 0;
    let error = loop {
        let mut commit = Commit::new("local/a");
        commit
            .checkpoint(file(1), checkpoint(1000 + filled))
            .set(format!("big{filled}"), vec![7; 200_000]);
        match store.commit(&commit) {
            Ok(()) => filled += 1,
            Err(error) => break error,
        }
        let mut bytes = std::fs::read(&ballast).unwrap_or_default();
        bytes.resize(bytes.len() + 200_000, 1);
        let _ = std::fs::write(&ballast, bytes);
        assert!(filled < 1000, "the disk never fills");
    };
    assert!(error.is_retryable(), "{error}");
    assert!(matches!(error, Error::Io { .. }), "{error}");
    for _ in 0..3 {
        let mut commit = Commit::new("local/a");
        commit.set("again", vec![7; 200_000]);
        if let Err(error) = store.commit(&commit) {
            assert!(error.is_retryable(), "{error}");
        }
    }

    std::fs::remove_file(&ballast).unwrap();
    let mut retried = Commit::new("local/a");
    retried
        .checkpoint(file(1), checkpoint(5000))
        .set("k", "last");
    store.commit(&retried).expect("there is room again");
    assert_eq!(
        store.load_checkpoints("local/a").unwrap(),
        [(file(1), checkpoint(5000))]
    );
    assert_eq!(store.kv_get("local/a", "k").unwrap().unwrap(), b"last");
    drop(store);
    assert_eq!(
        open(disk.0.path())
            .load_checkpoints("local/a")
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn the_formats_and_their_migrations_match() {
    assert_eq!(MIGRATIONS.len() as u64 + 1, FORMAT);
}
