//! Files that somebody made to hurt.

use std::ffi::CString;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::support::{Node, all_digests, take, until};
use crate::role::scanning::feed::{Batch, CHANGED, CUT, Kind, Message, PassKind};

#[test]
fn what_is_no_file_is_never_opened() {
    let node = Node::new();
    node.write("/file", "x");
    std::os::unix::fs::symlink("/", node.path("/up")).unwrap();
    std::os::unix::fs::symlink("loop", node.path("/loop")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", node.path("/zero")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(node.path("/socket")).unwrap();
    let device = |name: &str, kind, number| {
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            node.path(name),
            kind,
            Mode::from_raw_mode(0o666),
            number,
        );
        made.expect("making devices needs root");
    };
    // Opened for reading, a FIFO without a writer would wait for ever.
    device("/fifo", FileType::Fifo, 0);
    // `/dev/zero` has no end.
    device(
        "/endless",
        FileType::CharacterDevice,
        rustix::fs::makedev(1, 5),
    );
    device("/disk", FileType::BlockDevice, rustix::fs::makedev(7, 200));
    let mut files = node.subscribe(|_| ());
    assert_eq!(files.pass().names(), ["/file"]);
    let mut all = node.subscribe(|it| {
        it.name = "local/all".to_owned();
        it.interest.others = true;
        it.interest.attributes = true;
        it.interest.digests = all_digests();
    });
    let pass = all.pass();
    assert!(pass.complete);
    for (path, kind) in [
        ("/", Kind::Directory),
        ("/disk", Kind::BlockDevice),
        ("/endless", Kind::CharacterDevice),
        ("/fifo", Kind::Fifo),
        ("/file", Kind::File),
        ("/loop", Kind::Symlink),
        ("/socket", Kind::Socket),
        ("/up", Kind::Symlink),
        ("/zero", Kind::Symlink),
    ] {
        let passed = pass.get(path);
        assert_eq!(passed.file.kind, kind, "{path}");
        assert_eq!(passed.file.error, 0, "{path}");
        assert_eq!(passed.content.is_empty(), kind != Kind::File, "{path}");
    }
    assert_eq!(pass.files.len(), 9);
    assert_eq!(pass.get("/zero").attributes, b"/dev/zero");
}

/// Makes folders deeper than any path may be long.
fn deep(node: &Node, levels: usize, name: &str) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut at = rustix::fs::open(node.root(), flags, Mode::empty()).unwrap();
    let name = CString::new(name).unwrap();
    for _ in 0..levels {
        rustix::fs::mkdirat(&at, &*name, Mode::from_raw_mode(0o755)).unwrap();
        at = rustix::fs::openat(&at, &*name, flags, Mode::empty()).unwrap();
    }
    at
}

fn write_in(folder: &OwnedFd, name: &str, content: &[u8]) {
    let flags = OFlags::WRONLY | OFlags::CREATE;
    let mode = Mode::from_raw_mode(0o644);
    let file = rustix::fs::openat(folder, name, flags, mode).unwrap();
    std::fs::File::from(file).write_all(content).unwrap();
}

#[test]
fn a_thousand_folders_deep_is_not_too_deep() {
    let node = Node::new();
    let bottom = deep(&node, 1000, "twelve-bytes");
    write_in(&bottom, "bottom", b"found");
    // Siblings on the way up need the folders whose descriptors were closed meanwhile.
    node.write("/twelve-bytes/a", "a");
    node.write("/twelve-bytes/z/z", "z");
    let mut plugin = node.subscribe(|_| ());
    let pass = plugin.pass();
    assert!(pass.complete);
    assert_eq!(pass.files.len(), 3);
    let longest = pass.files.keys().max_by_key(|path| path.len()).unwrap();
    assert_eq!(longest.len(), 1000 * 13 + 7);
    assert_eq!(pass.files.get(longest).unwrap().content, b"found");
}

#[test]
fn deeper_folders_are_an_error_and_the_rest_is_passed() {
    let node = Node::new();
    // More bytes than a path may have here, though the kernel goes on.
    let bottom = deep(&node, 90, &"x".repeat(200));
    write_in(&bottom, "bottom", b"not found");
    node.write("/z", "z");
    let mut plugin = node.subscribe(|_| ());
    let pass = plugin.pass();
    assert_eq!(pass.names(), ["/z"]);
    assert!(!pass.complete);
}

#[test]
fn a_hundred_thousand_files_in_a_folder_are_no_trouble() {
    let node = Node::new();
    for n in 0..100_000 {
        std::fs::File::create(node.path(format!("/{n}"))).unwrap();
    }
    node.settle();
    let mut plugin = node.subscribe(|_| ());
    let pass = plugin.pass();
    assert!(pass.complete);
    assert_eq!(pass.files.len(), 100_000);
    assert!(plugin.another(PassKind::Changed).files.is_empty());
    let status = node.feed.status();
    assert_eq!(status.cached_folders, 1);
    assert!(status.cached_bytes < 16 << 20, "{status:?}");
}

#[test]
fn a_terabyte_of_nothing_is_cut_and_has_no_digest() {
    let node = Node::new();
    let file = std::fs::File::create(node.path("/sparse")).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.set_len(1 << 40).unwrap();
    node.write("/other", "x");
    let mut plugin = node.subscribe(|it| {
        it.interest.content = 10 << 20;
        it.interest.digests = all_digests();
    });
    let pass = plugin.pass();
    assert!(pass.complete);
    let sparse = pass.get("/sparse");
    assert_eq!(sparse.file.size, 1 << 40);
    assert_eq!(sparse.file.flags, CUT);
    assert_eq!(sparse.file.error, Errno::FBIG.raw_os_error() as u32);
    assert_eq!(sparse.content.len(), 10 << 20);
    assert!(sparse.content.starts_with(b"begin\0"));
    assert!(sparse.digests.is_empty());
    assert_eq!(pass.get("/other").digests.len(), 100);
}

/// A file of 24 MiB that takes seconds to read, and is changed in the middle of that.
fn changed_while_read(change: impl FnOnce(&Node)) -> (Node, Vec<Batch>, bool) {
    let node = Node::new();
    node.write("/long", vec![7; 24 << 20]);
    node.settle();
    let slow = crate::manifest::ByteSize::mebibytes(8);
    let mut plugin = node.subscribe(|it| it.budget.read = slow);
    let Message::Begin { .. } = plugin.next() else {
        panic!("no begin");
    };
    until("the reader is in the middle of the file", || {
        let pass = node.feed.status().pass;
        pass.is_some_and(|pass| pass.read >= 4 << 20)
    });
    change(&node);
    let mut batches = Vec::new();
    loop {
        match plugin.next() {
            Message::Batch(batch) => {
                let kept = Batch {
                    bytes: batch.bytes.clone(),
                    files: batch.files.clone(),
                    pieces: batch.pieces.clone(),
                    receipt: None,
                };
                batch.judged();
                batches.push(kept);
            }
            Message::End { complete, .. } => {
                // What changed is not known.
                drop(plugin);
                return (node, batches, complete);
            }
            Message::Begin { .. } => panic!("two passes"),
        }
    }
}

#[test]
fn a_file_that_grows_is_flagged_and_read_again() {
    let (_node, batches, complete) = changed_while_read(|node| {
        let grown = std::fs::File::options()
            .append(true)
            .open(node.path("/long"));
        grown.unwrap().write_all(b"more").unwrap();
    });
    assert!(complete);
    let flags = batches
        .iter()
        .filter(|it| it.pieces.iter().any(|piece| piece.last));
    let flags: Vec<u32> = flags.map(|batch| batch.files[0].flags).collect();
    assert_eq!(
        flags,
        [CHANGED, 0],
        "first in the middle of it, then as it is"
    );
    let mut files = std::collections::BTreeMap::new();
    batches.iter().for_each(|batch| take(batch, &mut files));
    let long = &files[b"/long".as_slice()];
    assert_eq!(long.times, 2);
    assert_eq!(long.content.len(), (24 << 20) + 4);
    assert!(long.content.ends_with(b"more"));
}

#[test]
fn a_file_that_shrinks_is_flagged_and_read_again() {
    let (_node, batches, complete) = changed_while_read(|node| {
        let file = std::fs::File::options()
            .write(true)
            .open(node.path("/long"));
        file.unwrap().set_len(3).unwrap();
    });
    assert!(complete);
    let last: Vec<_> = batches
        .iter()
        .flat_map(|batch| batch.pieces.iter().map(move |piece| (batch, piece)))
        .filter(|(_, piece)| piece.last)
        .collect();
    assert_eq!(last.len(), 2);
    let (batch, piece) = last[1];
    assert_eq!(batch.files[0].flags, 0);
    assert_eq!(batch.files[0].size, 3);
    assert_eq!((piece.position, piece.length), (0, 3));
    assert_eq!(last[0].0.files[0].flags, CHANGED);
}

#[test]
fn a_file_that_vanishes_comes_to_its_end() {
    let (_node, batches, complete) = changed_while_read(|node| {
        std::fs::remove_file(node.path("/long")).unwrap();
    });
    assert!(complete);
    let last = batches.iter().flat_map(|batch| &batch.pieces);
    assert_eq!(last.filter(|piece| piece.last).count(), 1);
    // It was still open, and removing it changed it.
    assert_eq!(batches.last().unwrap().files[0].flags, CHANGED);
}
