//! Somebody swaps a folder and a link to elsewhere all the while.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;

const LONG: Duration = Duration::from_secs(4);

/// Ends those who swap, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nothing_outside_is_ever_touched_or_read() {
    let node = Node::new(r#"{"changes":{"files":["/etc/app"]}}"#);
    for folder in ["etc/app/folder", "outside"] {
        std::fs::create_dir_all(node.at(folder)).unwrap();
    }
    node.write("/outside/file", "outside");
    symlink(node.at("outside"), node.at("etc/app/other")).unwrap();
    // Absolute within the node, too.
    symlink("/outside", node.at("etc/app/third")).unwrap();
    let stop = AtomicBool::new(false);
    let outside = || {
        let found = std::fs::metadata(node.at("outside/file")).unwrap();
        use std::os::unix::fs::MetadataExt;
        let names = std::fs::read_dir(node.at("outside")).unwrap().count();
        (
            node.read("/outside/file"),
            found.mode(),
            found.ino(),
            found.ctime_nsec(),
            names,
        )
    };
    let before = outside();
    std::thread::scope(|scope| {
        for link in ["etc/app/other", "etc/app/third"] {
            let (stop, node) = (&stop, &node);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let (one, other) = (node.at("etc/app/folder"), node.at(link));
                    renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                }
            });
        }
        let stop = Stop(&stop);
        let effects = node.effects();
        let (mut made, mut refused, mut seen) = (0, 0, 0);
        let begin = Instant::now();
        let mut i = 0;
        while begin.elapsed() < LONG {
            i += 1;
            let to = "/etc/app/folder/file";
            let actions = [
                write_file(to, &i.to_string()),
                chmod(to, 0o600 + i % 8),
                Action::MakeSymlink {
                    path: path(to),
                    target: "x".to_owned(),
                },
                Action::Remove { path: path(to) },
            ];
            for action in actions {
                match make(&effects, action) {
                    Ok(_) => made += 1,
                    Err(Error::Astray { .. } | Error::NoFolder { .. }) => refused += 1,
                    // The swap was in between, or there was nothing to be given permissions.
                    Err(Error::Changed { .. } | Error::Absent { .. } | Error::WrongKind { .. }) => {
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            let found = look(&node, &effects, &[want("/etc/app/folder/*"), want(to)]);
            seen += found.files.len();
            let text = String::from_utf8_lossy(&found.bytes).into_owned();
            assert!(!text.contains("outside"), "{text}");
        }
        drop(stop);
        // Otherwise the swap was never in between.
        assert!(made > 20 && refused > 20, "{made} made, {refused} refused");
        assert!(seen > 20);
    });
    assert_eq!(outside(), before);
}
