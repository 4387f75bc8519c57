//! A pass sees what is there.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use proptest::prelude::*;

use super::support::{Node, globs, in_private_mounts, inside, trees};
use crate::role::scanning::feed::{Kind, PassKind};

/// What `find -xdev` prints, as paths of the node.
fn find(root: &Path, arguments: &[&str]) -> BTreeSet<Vec<u8>> {
    let output = Command::new("find")
        .arg(root)
        .arg("-xdev")
        .args(arguments)
        .arg("-print0")
        .output()
        .unwrap();
    assert!(output.status.success());
    let paths = output.stdout.split(|byte| *byte == 0);
    let paths = paths.filter(|path| !path.is_empty());
    let prefix = root.as_os_str().as_bytes();
    paths
        .map(|path| match path.strip_prefix(prefix).unwrap() {
            b"" => b"/".to_vec(),
            path => path.to_vec(),
        })
        .collect()
}

#[derive(Debug, Clone)]
enum Leaf {
    File(Vec<u8>),
    Folder,
    Link(Vec<u8>),
    Fifo,
}

/// Names that a file system takes: newlines, blanks and what is no UTF-8 among them.
fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(1u8..=255, 1..6),
        Just(b"a\nb".to_vec()),
        Just(b"\xff\xfe".to_vec()),
        Just(b" ".to_vec()),
        "[a-d]{1,2}".prop_map(String::into_bytes),
    ]
    .prop_filter("a name", |name| {
        !name.contains(&b'/') && !matches!(&name[..], b"." | b"..")
    })
}

fn leaf() -> impl Strategy<Value = Leaf> {
    prop_oneof![
        5 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Leaf::File),
        2 => Just(Leaf::Folder),
        1 => name().prop_map(Leaf::Link),
        1 => Just(Leaf::Fifo),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn a_pass_sees_what_find_does(
        tree in prop::collection::vec((prop::collection::vec(name(), 1..5), leaf()), 0..40),
    ) {
        let node = Node::new();
        for (names, leaf) in tree {
            let mut path = PathBuf::from(node.root());
            for name in &names {
                path.push(std::ffi::OsStr::from_bytes(name));
            }
            // Whatever is there already stays: writing to a FIFO or through a link is not the point.
            if std::fs::create_dir_all(path.parent().unwrap()).is_err()
                || path.symlink_metadata().is_ok()
            {
                continue;
            }
            match leaf {
                Leaf::File(content) => std::fs::write(&path, content).unwrap(),
                Leaf::Folder => std::fs::create_dir(&path).unwrap(),
                Leaf::Link(to) => {
                    std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&to), &path).unwrap();
                }
                Leaf::Fifo => {
                    let kind = rustix::fs::FileType::Fifo;
                    let mode = rustix::fs::Mode::from_raw_mode(0o600);
                    rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
                }
            }
        }
        let mut all = node.subscribe(|it| it.interest.others = true);
        let pass = all.pass();
        prop_assert!(pass.complete);
        let passed: BTreeSet<Vec<u8>> = pass.files.keys().cloned().collect();
        prop_assert_eq!(passed, find(node.root(), &[]));
        prop_assert!(pass.files.values().all(|passed| passed.times == 1));
        for (path, passed) in &pass.files {
            let path = node.path(std::ffi::OsStr::from_bytes(path));
            if passed.file.kind == Kind::File {
                prop_assert_eq!(&passed.content, &std::fs::read(path).unwrap());
            }
        }
        let mut files = node.subscribe(|it| it.name = "local/files".to_owned());
        let passed: BTreeSet<Vec<u8>> = files.pass().files.keys().cloned().collect();
        prop_assert_eq!(passed, find(node.root(), &["-type", "f"]));
    }
}

#[test]
fn trees_and_globs_say_what_is_passed() {
    let node = Node::new();
    for path in [
        "/etc/passwd",
        "/etc/ssl/key",
        "/usr/bin/ls",
        "/usr/lib/x.so",
        "/usr/lib/y.o",
        "/home/me/.cache/x",
        "/home/me/file",
    ] {
        node.write(path, path);
    }
    let mut plugin = node.subscribe(|it| {
        it.roots = trees(&["/usr", "/etc", "/usr/lib", "/absent"]);
        it.exclude = globs(&["/etc/ssl/**", "/usr/**/*.o"]);
    });
    let pass = plugin.pass();
    assert!(pass.complete);
    assert_eq!(
        pass.names(),
        ["/etc/passwd", "/usr/bin/ls", "/usr/lib/x.so"]
    );
    assert!(pass.files.values().all(|passed| passed.times == 1));
    // A tree below what another one leaves out, in the same pass.
    let mut both = node.subscribe(|it| {
        it.name = "local/all".to_owned();
        it.exclude = globs(&["/home"]);
    });
    let mut home = node.subscribe(|it| {
        it.name = "local/home".to_owned();
        it.roots = trees(&["/home/me"]);
    });
    std::thread::scope(|scope| {
        let home = scope.spawn(move || home.pass().names());
        assert_eq!(both.pass().names().len(), 5);
        assert_eq!(home.join().unwrap(), ["/home/me/.cache/x", "/home/me/file"]);
    });
}

#[test]
fn links_are_not_followed_even_to_a_tree() {
    let node = Node::new();
    node.write("/real/file", "x");
    std::os::unix::fs::symlink("real", node.path("/link")).unwrap();
    let mut plugin = node.subscribe(|it| it.roots = trees(&["/link"]));
    let pass = plugin.pass();
    assert!(pass.files.is_empty());
    assert!(!pass.complete, "somebody expects files there");
}

#[test]
fn the_daemons_own_folder_is_nobodys() {
    let node = Node::new();
    node.write("/x", "x");
    // A second name of the state's folder, below the node's root.
    let inside = node.path("/state");
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(inside.join("secret"), "x").unwrap();
    let node = node.with_private(inside);
    let mut plugin = node.subscribe(|it| it.interest.others = true);
    assert_eq!(plugin.pass().names(), ["/", "/x"]);
    let mut asks = node.subscribe(|it| {
        it.name = "local/asks".to_owned();
        it.roots = trees(&["/state"]);
    });
    assert!(asks.pass().files.is_empty());
}

#[test]
fn mounts_are_left_out_unless_told_otherwise_and_bind_mounts_are_read_once() {
    let script = "
        mkdir -p plain/deep disk same proc
        echo 1 > plain/deep/file
        mount -t tmpfs tmpfs disk && echo 2 > disk/file
        mount --bind plain same && mount -t proc proc proc
        touch disk/kernels && mount --bind proc/uptime disk/kernels";
    in_private_mounts("walk::inside_mounts", script, |_, _| ());
}

/// The part of the test above that runs inside.
#[test]
#[ignore = "run by another test, in a namespace of its own"]
fn inside_mounts() {
    let node = inside();
    let mut one = node.subscribe(|_| ());
    assert_eq!(one.pass().names(), ["/plain/deep/file"]);
    let mut all = node.subscribe(|it| {
        it.name = "local/all".to_owned();
        it.one_file_system = false;
    });
    let names = all.pass().names();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.contains(&"/disk/file".to_owned()));
    // Through either of its two paths.
    assert!(names.iter().any(|name| name.ends_with("/deep/file")));
    // A tree that begins where something is mounted is walked.
    let mut disk = node.subscribe(|it| {
        it.name = "local/disk".to_owned();
        it.roots = trees(&["/disk"]);
    });
    assert_eq!(disk.pass().names(), ["/disk/file"]);
    // The kernel's own never is.
    let mut proc = node.subscribe(|it| {
        it.name = "local/proc".to_owned();
        it.roots = trees(&["/proc"]);
        it.interest.others = true;
    });
    let pass = proc.pass();
    assert!(pass.files.is_empty() && !pass.complete);
    assert_eq!(proc.another(PassKind::Full).files.len(), 0);
}

#[test]
fn a_folder_that_two_reach_by_different_mounts_is_walked_for_both() {
    let script = "
        mkdir -p plain/deep same
        echo 1 > plain/deep/file
        mount --bind plain same";
    in_private_mounts("walk::inside_two_mounts", script, |_, _| ());
}

/// The part of the test above that runs inside.
#[test]
#[ignore = "run by another test, in a namespace of its own"]
fn inside_two_mounts() {
    let node = inside();
    let subscribe = |name: &str, tree| {
        node.subscribe(|it| {
            it.name = name.to_owned();
            it.roots = trees(&[tree]);
        })
    };
    // Both share their first pass.
    let (mut one, mut other) = (
        subscribe("local/a", "/plain"),
        subscribe("local/b", "/same"),
    );
    std::thread::scope(|scope| {
        let other = scope.spawn(move || other.pass().names());
        assert_eq!(one.pass().names(), ["/plain/deep/file"]);
        assert_eq!(other.join().unwrap(), ["/same/deep/file"]);
    });
}

#[test]
fn a_server_that_does_not_answer_costs_only_what_is_its_own() {
    // A mount of FUSE that nobody serves: whoever asks it anything waits for ever.
    let script = "
        mkdir -p hung plain && echo 1 > plain/file && exec 5<>/dev/fuse
        mount -i -t fuse -o fd=5,rootmode=40000,user_id=0,group_id=0 hung \"$PWD/hung\"";
    in_private_mounts("walk::inside_with_a_dead_server", script, |_, _| ());
}

/// The part of the test above that runs inside.
#[test]
#[ignore = "run by another test, in a namespace of its own"]
fn inside_with_a_dead_server() {
    let node = inside();
    let mut all = node.subscribe(|it| {
        it.name = "local/all".to_owned();
        it.one_file_system = false;
        it.schedule.real_time = true;
    });
    let mut there = node.subscribe(|it| {
        it.name = "local/there".to_owned();
        it.roots = trees(&["/hung/deep", "/plain"]);
        it.schedule.real_time = true;
    });
    let (first, status) = std::thread::scope(|scope| {
        let there = scope.spawn(move || {
            let pass = there.pass();
            (pass.names(), pass.complete, there)
        });
        let mut status = None;
        let pass = all.pass_with(|batch| {
            status = node.feed.status().pass;
            batch.judged();
        });
        assert!(pass.complete, "of it, nobody is waited for");
        assert_eq!(pass.names(), ["/plain/file"]);
        (there.join().unwrap(), status)
    });
    let (names, complete, mut there) = first;
    assert_eq!((names, complete), (vec!["/plain/file".to_owned()], false));
    assert!(status.is_some());
    // It is not asked again while it does not answer, and what happens is seen.
    node.settle();
    let stuck = threads("scan-remote");
    let pass = there.another(PassKind::Full);
    assert!(!pass.complete && pass.names() == ["/plain/file"]);
    assert_eq!((stuck, threads("scan-remote")), (1, 1));
    super::support::shell("echo 2 > plain/new", node.root());
    assert_eq!(there.event_of("/plain/new").content, b"2\n");
    assert_eq!(all.event_of("/plain/new").content, b"2\n");
    let watched = node.feed.status().watched;
    let told = watched
        .fallbacks
        .iter()
        .any(|it| it.starts_with("/hung/deep: "));
    assert!(told, "{watched:?}");
}

/// How many threads of this process have this name.
fn threads(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.map(|it| std::fs::read_to_string(it.unwrap().path().join("comm")));
    names
        .filter(|it| it.as_ref().is_ok_and(|it| it.trim_end() == name))
        .count()
}

#[test]
fn what_the_daemon_keeps_is_shown_by_no_mount() {
    in_private_mounts("walk::inside_with_own_mounts", "mkdir other", |_, _| ());
}

/// The part of the test above that runs inside.
#[test]
#[ignore = "run by another test, in a namespace of its own"]
fn inside_with_own_mounts() {
    let node = inside();
    let state = node.state().to_owned();
    std::fs::create_dir_all(state.join("deep/er")).unwrap();
    std::fs::write(state.join("deep/er/secret"), "secret").unwrap();
    let script = format!(
        "mkdir -p a/all a/part && touch a/file && echo 1 > a/plain
        mount --bind {0} a/all && mount --bind {0}/deep/er a/part
        mount --bind {0}/deep/er/secret a/file",
        state.display()
    );
    super::support::shell(&script, node.root());
    let mut all = node.subscribe(|it| {
        it.one_file_system = false;
        it.roots = trees(&["/", "/a/part", "/a/all/deep"]);
    });
    assert_eq!(all.pass().names(), ["/a/plain"]);
}

#[test]
fn a_folder_of_many_folders_is_walked_as_a_whole() {
    let node = Node::new();
    // More than is kept of their names.
    let name = |n: usize| format!("/many/{}-{n}/file", "x".repeat(200));
    let mut names: Vec<String> = (0..1500).map(name).collect();
    names.iter().for_each(|name| node.write(name, "x"));
    names.sort();
    let mut plugin = node.subscribe(|_| ());
    let pass = plugin.pass();
    assert_eq!(pass.names(), names);
    assert!(pass.complete);
    assert!(pass.files.values().all(|file| file.times == 1));
}

/// Somebody with a write lease on a file, who does not give it back until it is asked to end.
fn lease(path: &Path) -> Child {
    let holds = r#"$SIG{IO} = "IGNORE"; $| = 1; open(F, "+<", $ARGV[0]) or die; fcntl(F, 1024, 1) or die $!; print "held\n"; <STDIN>"#;
    let mut child = Command::new("perl")
        .args(["-e", holds])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let read = BufReader::new(child.stdout.take().unwrap()).read_line(&mut said);
    read.unwrap();
    assert_eq!(said, "held\n");
    child
}

#[test]
fn a_file_with_a_lease_is_read_once_that_is_given_back() {
    let node = Node::new();
    node.write("/leased", "content");
    node.write("/other", "other");
    let mut held = lease(&node.path("/leased"));
    let mut plugin = node.subscribe(|_| ());
    let pass = plugin.pass();
    assert_eq!(pass.names(), ["/other"], "it is not passed as an error");
    assert!(!pass.complete);
    drop(held.stdin.take());
    held.wait().unwrap();
    let pass = plugin.another(PassKind::Changed);
    assert_eq!(pass.get("/leased").content, b"content");
    assert!(pass.complete);
}
