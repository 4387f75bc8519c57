//! What is read of a tree of links, and what is not.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::kept::Way;
use super::open::Opener;
use super::rules::Place;
use super::{Batch, Look, Reader, Want};
use crate::manifest::NodeGlob;
use crate::sandbox::NodeFolders;

const EACCES: u32 = 13;

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn link(root: &Path, path: &str, to: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(to, path).unwrap();
}

fn wants(globs: &[&str]) -> Vec<Want> {
    let granted = ["/proc", "/sys"].map(|it| NodeGlob::parse(it).unwrap());
    let check = |glob: &&str| Want::check(glob, Look::Content, &granted).unwrap();
    globs.iter().map(check).collect()
}

/// Paths, with what was read of them or the number of the error.
fn rows(batch: &Batch) -> Vec<(String, Result<String, u32>)> {
    let text = |(offset, length): (u32, u32)| {
        let bytes = &batch.bytes[offset as usize..][..length as usize];
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    let row = |file: &super::File| match file.error {
        0 => (text(file.path), Ok(text(file.data))),
        error => (text(file.path), Err(error)),
    };
    batch.files.iter().map(row).collect()
}

fn reader(root: &TempDir) -> Reader {
    Reader::of(&NodeFolders {
        root: root.path().into(),
        private: [].into(),
    })
}

fn read(root: &TempDir, globs: &[&str]) -> Vec<(String, Result<String, u32>)> {
    let until = Instant::now() + Duration::from_secs(60);
    let batch = reader(root).pass().read(&wants(globs), until).unwrap();
    rows(&batch)
}

fn row(path: &str, read: Result<&str, u32>) -> (String, Result<String, u32>) {
    (path.to_owned(), read.map(str::to_owned))
}

#[test]
fn files_of_a_device_are_where_its_links_lead() {
    let root = tempfile::tempdir().unwrap();
    let at = root.path();
    write(at, "sys/devices/good/value", "1\n");
    write(at, "sys/module/secret/value", "hush\n");
    write(at, "etc/value", "hush\n");
    link(at, "sys/class/net/a", "../../devices/good");
    link(at, "sys/class/net/b", "../../module/secret");
    link(at, "sys/class/net/c", "/etc");
    link(at, "sys/class/net/d", "../../../etc");
    let found = read(&root, &["/sys/class/net/*/value"]);
    assert_eq!(found[0], row("/sys/class/net/a/value", Ok("1\n")));
    assert_eq!(found[1], row("/sys/class/net/b/value", Err(EACCES)));
    // They lead out of /sys, which the kernel refuses before anything is looked at.
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found[2].1.is_err() && found[3].1.is_err(), "{found:?}");
}

#[test]
fn a_file_that_is_a_link_is_where_it_leads() {
    let root = tempfile::tempdir().unwrap();
    let at = root.path();
    write(at, "sys/devices/good/value", "1\n");
    write(at, "sys/devices/good/config", "hush\n");
    write(at, "sys/module/secret/value", "hush\n");
    link(at, "sys/devices/good/near", "value");
    link(at, "sys/devices/good/hidden", "config");
    link(at, "sys/devices/good/away", "../../module/secret/value");
    let path = |name: &str| format!("/sys/devices/good/{name}");
    // The folder is looked at with the first of them, and each file by itself.
    assert_eq!(
        read(&root, &["/sys/devices/good/*"]),
        [
            row(&path("away"), Err(EACCES)),
            row(&path("hidden"), Err(EACCES)),
            row(&path("near"), Ok("1\n")),
            row(&path("value"), Ok("1\n")),
        ]
    );
}

#[test]
fn what_only_root_may_read_is_not_read_in_a_known_folder_either() {
    let root = tempfile::tempdir().unwrap();
    for (name, mode) in [("a", 0o644), ("b", 0o400), ("energy_uj", 0o400)] {
        write(root.path(), &format!("sys/devices/good/{name}"), "1\n");
        let path = root.path().join("sys/devices/good").join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    assert_eq!(
        read(&root, &["/sys/devices/good/*"]),
        [
            row("/sys/devices/good/a", Ok("1\n")),
            row("/sys/devices/good/b", Err(EACCES)),
            row("/sys/devices/good/energy_uj", Ok("1\n")),
        ]
    );
}

#[test]
fn nothing_below_proc_is_reached_by_a_link() {
    let root = tempfile::tempdir().unwrap();
    let at = root.path();
    write(at, "proc/1/net/dev", "1\n");
    write(at, "proc/1/environ", "hush\n");
    write(at, "proc/stat", "2\n");
    link(at, "proc/1/net/arp", "../environ");
    link(at, "proc/1/net/stat", "../../1");
    let found = read(
        &root,
        &[
            "/proc/net/dev",
            "/proc/net/arp",
            "/proc/net/stat/environ",
            "/proc/stat",
        ],
    );
    assert_eq!(found[0], row("/proc/net/dev", Ok("1\n")));
    assert_eq!(found.last().unwrap(), &row("/proc/stat", Ok("2\n")));
    assert!(found[1..found.len() - 1].iter().all(|it| it.1.is_err()));
    assert!(!format!("{found:?}").contains("hush"));
}

#[test]
fn more_folders_than_are_kept_open_are_read_alike() {
    let root = tempfile::tempdir().unwrap();
    for number in 0..300 {
        let device = format!("sys/devices/{number:03}");
        write(root.path(), &format!("{device}/a"), "a");
        write(root.path(), &format!("{device}/b"), "b");
        write(root.path(), &format!("sys/module/{number:03}/a"), "hush");
        let odd = number % 2 == 1;
        let to = if odd { "module" } else { "devices" };
        let class = format!("sys/class/x/{number:03}");
        link(root.path(), &class, &format!("../../{to}/{number:03}"));
    }
    let found = read(&root, &["/sys/class/x/*/a", "/sys/class/x/*/b"]);
    // Where the link leads to what may not be read, there is no b.
    assert_eq!(found.len(), 450);
    for (number, found) in found.iter().take(300).enumerate() {
        let read = if number % 2 == 1 {
            Err(EACCES)
        } else {
            Ok("a")
        };
        assert_eq!(*found, row(&format!("/sys/class/x/{number:03}/a"), read));
    }
    assert!(found[300..].iter().all(|it| it.1 == Ok("b".to_owned())));
}

#[test]
fn one_collectors_files_are_not_the_next_ones() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "proc/stat", "1\n");
    write(root.path(), "proc/loadavg", &"2".repeat(100_000));
    let until = Instant::now() + Duration::from_secs(60);
    let mut pass = reader(&root).pass();
    let first = pass.read(&wants(&["/proc/loadavg"]), until).unwrap();
    let second = pass.read(&wants(&["/proc/stat"]), until).unwrap();
    assert_eq!(rows(&first)[0].1, Ok("2".repeat(100_000)));
    assert_eq!(rows(&second), [row("/proc/stat", Ok("1\n"))]);
    assert_eq!(second.bytes.len(), "/proc/stat1\n".len());
}

#[test]
fn a_copy_of_proc_is_read_anew_each_time() {
    let root = tempfile::tempdir().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let reader = reader(&root);
    let mut kept = super::Kept::default();
    for text in ["1", "2"] {
        fs::remove_file(root.path().join("proc/stat")).ok();
        write(root.path(), "proc/stat", text);
        let mut pass = reader.pass_with(kept);
        let batch = pass.read(&wants(&["/proc/stat"]), until).unwrap();
        assert_eq!(rows(&batch), [row("/proc/stat", Ok(text))]);
        kept = pass.into_kept();
    }
}

#[test]
fn a_file_that_stays_open_tells_what_is_new() {
    let reader = Reader::of(&NodeFolders {
        root: Path::new("/").into(),
        private: [].into(),
    });
    let until = Instant::now() + Duration::from_secs(60);
    let wanted = wants(&[
        "/proc/uptime",
        "/proc/sys/kernel/random/uuid",
        "/sys/class/net/*/mtu",
    ]);
    let mut kept = super::Kept::default();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut pass = reader.pass_with(kept);
        let batch = pass.read(&wanted, until).unwrap();
        kept = pass.into_kept();
        assert!(kept.get(&wanted[0], "uptime", Way::default()).is_some());
        let rows = rows(&batch);
        let mtu = std::fs::read_to_string("/sys/class/net/lo/mtu").unwrap();
        assert!(rows.contains(&("/sys/class/net/lo/mtu".to_owned(), Ok(mtu))));
        assert_eq!(
            rows[1].1.as_ref().unwrap().len(),
            "1b4e28ba-2fa1-11d2-883f-0016d3cca427\n".len()
        );
        seen.push(rows[1].clone());
    }
    seen.dedup();
    assert_eq!(seen.len(), 3);
}

/// What a device belongs to may be another one while its own name stays.
#[test]
fn a_link_below_a_listed_name_is_seen() {
    let mut opener = Opener::new(Path::new("/").into(), &[]);
    let mut is_below = |path: &str, listed: &str| opener.is_below(Place::Sys, path, listed.len());
    assert!(is_below("class/net/lo/mtu", "class/net/lo"));
    assert!(is_below("class/net/lo/statistics/rx_bytes", "class/net/lo"));
    assert!(is_below("class/net/lo/mtu", "class/net/lo/mtu"));
    assert!(!is_below("class/net/lo/subsystem/lo/mtu", "class/net/lo"));
    assert!(!is_below("class/net/lo/mtu", "class/net"));
}
