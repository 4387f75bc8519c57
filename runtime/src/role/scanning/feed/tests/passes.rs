//! What is passed, to whom, and what a pass comes to.

use std::os::unix::fs::PermissionsExt;

use super::support::{Node, all_digests};
use crate::role::scanning::feed::{Batch, CUT, Message, PassKind, UNATTRIBUTED};

#[test]
fn each_gets_what_it_asked_for_and_each_file_is_read_once() {
    let node = Node::new();
    let long = vec![b'x'; 11 << 20];
    node.write("/long", &long);
    node.write("/short", "abc");
    node.write("/empty", "");
    let mode = std::fs::Permissions::from_mode(0o4755);
    std::fs::set_permissions(node.path("/short"), mode).unwrap();
    let mut all = node.subscribe(|it| it.interest.digests = all_digests());
    let mut cut = node.subscribe(|it| {
        it.name = "local/cut".to_owned();
        it.interest.content = 2;
        it.interest.digests.md5 = true;
    });
    let mut digests = node.subscribe(|it| {
        it.name = "local/digests".to_owned();
        it.interest.content = 0;
        it.interest.digests.sha256 = true;
    });
    // One after the other takes what the same pass says to all of them.
    let read = std::thread::scope(|scope| {
        let cut = scope.spawn(move || {
            let pass = cut.pass();
            assert_eq!(pass.get("/long").content, b"xx");
            assert_eq!(pass.get("/long").file.flags, CUT);
            assert_eq!(pass.get("/short").content, b"ab");
            assert_eq!(pass.get("/short").digests.len(), 16);
        });
        let digests = scope.spawn(move || {
            let pass = digests.pass();
            assert_eq!(pass.get("/long").content, b"");
            assert_eq!(pass.get("/long").file.flags, 0);
            assert_eq!(pass.get("/short").digests.len(), 32);
        });
        let mut read = 0;
        let pass = all.pass_with(|batch| {
            let running = node.feed.status().pass;
            read = running.map_or(read, |pass| pass.read);
            batch.judged();
        });
        assert!(pass.get("/long").content == long);
        let short = pass.get("/short");
        assert_eq!(short.content, b"abc");
        assert_eq!(short.digests.len(), 32 + 20 + 16 + 32);
        assert_eq!((short.file.mode, short.file.links), (0o4755, 1));
        assert_eq!(pass.get("/empty").content, b"");
        cut.join().unwrap();
        digests.join().unwrap();
        read
    });
    assert!(read <= (11 << 20) + 3, "{read} bytes");
}

#[test]
fn digests_are_of_the_whole_file() {
    use sha2::{Digest as _, Sha256};
    let node = Node::new();
    let mut contents = Vec::new();
    for length in [0, 1, 65_536, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 9 << 20] {
        let content: Vec<u8> = (0..length).map(|n: usize| (n / 7) as u8).collect();
        node.write(&format!("/{length}"), &content);
        contents.push((format!("/{length}"), content));
    }
    for limit in [0, 1, 4 << 20, 64 << 20] {
        let mut plugin = node.subscribe(|it| {
            it.name = format!("local/{limit}");
            it.interest.content = limit;
            it.interest.digests.sha256 = true;
        });
        let pass = plugin.pass();
        for (path, content) in &contents {
            let passed = pass.get(path);
            assert_eq!(passed.digests, Sha256::digest(content).as_slice(), "{path}");
            let wanted = content.len().min(limit as usize);
            assert!(passed.content == content[..wanted], "{path} {limit}");
        }
    }
}

#[test]
fn attributes_are_passed_by_name() {
    let node = Node::new();
    node.write("/file", "x");
    for (name, value) in [("user.b", &b"2"[..]), ("user.a", b"\0one")] {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(node.path("/file"), name, value, flags).unwrap();
    }
    let mut plugin = node.subscribe(|it| it.interest.attributes = true);
    let pass = plugin.pass();
    assert_eq!(
        pass.get("/file").attributes,
        b"user.a\0\x04\0\0\0\0oneuser.b\0\x01\0\0\x002"
    );
}

#[test]
fn too_many_attributes_keep_nobody_from_the_bytes() {
    // Not every file system lets a file have as many; the one in memory does.
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let node = Node::at(memory.path().to_owned());
    node.write("/file", "bad");
    for n in 0..5 {
        let flags = rustix::fs::XattrFlags::empty();
        let value = vec![b'x'; 65_536];
        rustix::fs::setxattr(node.path("/file"), format!("user.{n}"), &value, flags).unwrap();
    }
    let mut plugin = node.subscribe(|it| it.interest.attributes = true);
    let pass = plugin.pass();
    let passed = pass.get("/file");
    assert_eq!(passed.content, b"bad");
    assert_eq!((passed.file.error, passed.file.flags), (0, UNATTRIBUTED));
    let mut plain = node.subscribe(|it| it.name = "local/plain".to_owned());
    assert_eq!(plain.pass().get("/file").file.flags, 0);
}

#[test]
fn what_cannot_be_judged_is_passed_again() {
    let node = Node::new();
    node.write("/a", "a");
    node.settle();
    let mut plugin = node.subscribe(|_| ());
    let pass = plugin.pass_with(Batch::failed);
    assert!(!pass.complete);
    let pass = plugin.another(PassKind::Changed);
    assert_eq!(pass.names(), ["/a"]);
    assert!(pass.complete);
    assert!(plugin.another(PassKind::Changed).files.is_empty());
}

#[test]
fn a_long_file_counts_as_judged_only_as_a_whole() {
    let node = Node::new();
    node.write("/long", vec![1; 10 << 20]);
    node.settle();
    let mut plugin = node.subscribe(|_| ());
    let mut first = true;
    let pass = plugin.pass_with(|batch| match std::mem::take(&mut first) {
        true => batch.failed(),
        false => batch.judged(),
    });
    assert!(!pass.complete);
    assert_eq!(plugin.another(PassKind::Changed).names(), ["/long"]);
    assert!(plugin.another(PassKind::Changed).files.is_empty());
}

#[test]
fn whoever_leaves_does_not_keep_the_others_waiting() {
    let node = Node::new();
    for n in 0..50 {
        node.write(&format!("/{n}"), vec![0; 1 << 20]);
    }
    let mut stays = node.subscribe(|_| ());
    let mut leaves = node.subscribe(|it| it.name = "local/leaves".to_owned());
    let Message::Begin { .. } = leaves.next() else {
        panic!("no begin");
    };
    let Message::Batch(_) = leaves.next() else {
        panic!("no batch");
    };
    drop(leaves);
    let pass = stays.pass();
    assert!(pass.complete);
    assert_eq!(pass.files.len(), 50);
}

#[test]
fn the_schedule_is_kept() {
    let node = Node::new();
    node.write("/a", "a");
    node.settle();
    let mut plugin = node.subscribe(|it| {
        it.schedule.changed = crate::manifest::Period::millis(100);
        it.schedule.full = crate::manifest::Period::seconds(2);
    });
    let first = plugin.pass();
    assert_eq!((first.kind, first.files.len()), (PassKind::Changed, 1));
    let second = plugin.pass();
    assert_eq!((second.kind, second.files.len()), (PassKind::Changed, 0));
    let full = loop {
        let pass = plugin.pass();
        if pass.kind == PassKind::Full {
            break pass;
        }
    };
    assert_eq!(full.names(), ["/a"]);
}

#[test]
fn progress_says_what_is_done_and_what_remains() {
    let node = Node::new();
    for n in 0..20 {
        node.write(&format!("/{n}"), vec![0; 1 << 20]);
    }
    let mut plugin = node.subscribe(|_| ());
    assert!(plugin.pass().complete);
    node.feed.request("local/scanner", PassKind::Full);
    let mut seen = Vec::new();
    let pass = plugin.pass_with(|batch| {
        seen.extend(node.feed.status().pass);
        batch.judged();
    });
    assert!(pass.complete);
    let last = seen.last().unwrap();
    assert_eq!(last.participants[0].name, "local/scanner");
    assert!(last.participants[0].full && !last.participants[0].resumed);
    assert_eq!(last.expected_files, Some(20));
    assert_eq!(last.expected_bytes, Some(20 << 20));
    assert!(last.files > 0 && last.files <= 20);
    assert!(last.remaining.is_some());
    super::support::until("no pass is under way", || node.feed.status().pass.is_none());
}
