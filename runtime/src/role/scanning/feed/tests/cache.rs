//! What has not changed is not passed again.

use std::time::SystemTime;

use super::support::{Node, until};
use crate::role::scanning::feed::{Message, PassKind};

#[test]
fn only_what_changed_is_passed_again() {
    let node = Node::new();
    for path in ["/a", "/b/c", "/b/d", "/e/f"] {
        node.write(path, path);
    }
    node.settle();
    let mut plugin = node.subscribe(|_| ());
    assert_eq!(plugin.pass().files.len(), 4);
    assert!(plugin.another(PassKind::Changed).files.is_empty());
    node.write("/b/c", "else");
    node.write("/b/new", "new");
    std::fs::remove_file(node.path("/e/f")).unwrap();
    node.settle();
    assert_eq!(
        plugin.another(PassKind::Changed).names(),
        ["/b/c", "/b/new"]
    );
    assert!(plugin.another(PassKind::Changed).files.is_empty());
    // Another folder is another place.
    std::fs::rename(node.path("/b/new"), node.path("/e/moved")).unwrap();
    assert_eq!(plugin.another(PassKind::Changed).names(), ["/e/moved"]);
}

#[test]
fn a_full_pass_passes_everything() {
    let node = Node::new();
    node.write("/a", "a");
    node.write("/b/c", "c");
    node.settle();
    let mut plugin = node.subscribe(|_| ());
    assert_eq!(plugin.pass().files.len(), 2);
    let full = plugin.another(PassKind::Full);
    assert_eq!((full.kind, full.files.len()), (PassKind::Full, 2));
    assert_eq!(plugin.another(PassKind::Full).files.len(), 2);
    assert!(plugin.another(PassKind::Changed).files.is_empty());
}

#[test]
fn a_time_that_was_put_back_hides_nothing() {
    let node = Node::new();
    node.write("/a", "good");
    let before = std::fs::metadata(node.path("/a"))
        .unwrap()
        .modified()
        .unwrap();
    node.settle();
    let mut plugin = node.subscribe(|_| ());
    assert_eq!(plugin.pass().files.len(), 1);
    node.write("/a", "evil");
    let file = std::fs::File::options()
        .write(true)
        .open(node.path("/a"))
        .unwrap();
    file.set_modified(before).unwrap();
    drop(file);
    let pass = plugin.another(PassKind::Changed);
    assert_eq!(
        pass.get("/a").content,
        b"evil",
        "told by the time that nobody can set"
    );
}

#[test]
fn a_file_that_may_change_within_the_clocks_tick_is_passed_again() {
    let node = Node::new();
    let mut plugin = node.subscribe(|_| ());
    assert!(plugin.pass().files.is_empty());
    // Over and over, until it was read right after it was written.
    until("a file is read while it is new", || {
        node.write(
            "/new",
            SystemTime::now()
                .elapsed()
                .map_or(0, |it| it.as_nanos() as u8)
                .to_string(),
        );
        let first = plugin.another(PassKind::Changed);
        assert_eq!(first.names(), ["/new"]);
        !plugin.another(PassKind::Changed).files.is_empty()
    });
    node.settle();
    plugin.another(PassKind::Changed);
    assert!(plugin.another(PassKind::Changed).files.is_empty());
}

#[test]
fn other_rules_are_another_judgement() {
    let node = Node::new();
    node.write("/a", "a");
    node.settle();
    let mut plugin = node.subscribe(|_| ());
    assert_eq!(plugin.pass().files.len(), 1);
    drop(plugin);
    let mut plugin = node.subscribe(|_| ());
    assert_eq!(plugin.pass().files.len(), 0);
    drop(plugin);
    let mut plugin = node.subscribe(|it| it.rule_set = b"others".to_vec());
    assert_eq!(plugin.pass().files.len(), 1);
    drop(plugin);
    let mut plugin = node.subscribe(|it| {
        it.rule_set = b"others".to_vec();
        it.interest.content = 1;
    });
    assert_eq!(plugin.pass().files.len(), 1);
}

#[test]
fn what_was_judged_outlives_a_restart_and_nobody_elses_judgement_counts() {
    let node = Node::new();
    node.write("/a", "a");
    node.settle();
    let mut plugin = node.subscribe(|_| ());
    assert_eq!(plugin.pass().files.len(), 1);
    drop(plugin);
    let node = node.restarted();
    let mut plugin = node.subscribe(|_| ());
    assert_eq!(plugin.pass().files.len(), 0);
    let mut other = node.subscribe(|it| it.name = "local/other".to_owned());
    assert_eq!(other.pass().files.len(), 1);
}

#[test]
fn who_is_forgotten_has_judged_nothing_and_the_others_have() {
    let node = Node::new();
    node.write("/a/file", "a");
    node.settle();
    let mut plugin = node.subscribe(|_| ());
    assert_eq!(plugin.pass().files.len(), 1);
    let mut other = node.subscribe(|it| it.name = "local/other".to_owned());
    assert_eq!(other.pass().files.len(), 1);
    node.feed.forget("local/scanner").unwrap();
    node.feed.forget("local/nobody").unwrap();
    until("the other's is left", || {
        node.feed.status().cached_folders == 1
    });
    // What is judged before it subscribes again is not remembered, and is nobody else's.
    assert_eq!(plugin.another(PassKind::Changed).files.len(), 1);
    assert_eq!(plugin.another(PassKind::Changed).files.len(), 1);
    drop(plugin);
    let mut plugin = node.subscribe(|_| ());
    assert_eq!(plugin.pass().files.len(), 1);
    assert!(plugin.another(PassKind::Changed).files.is_empty());
    assert!(other.another(PassKind::Changed).files.is_empty());
    node.feed.forget_all().unwrap();
    assert_eq!(node.feed.status().cached_folders, 0);
    drop((plugin, other));
    let mut plugin = node.subscribe(|_| ());
    assert_eq!(plugin.pass().files.len(), 1);
    assert!(plugin.another(PassKind::Changed).files.is_empty());
}

#[test]
fn files_of_a_folder_that_was_moved_are_passed_again() {
    let node = Node::new();
    node.write("/a/x", "x");
    node.write("/a/below/y", "y");
    node.write("/other", "z");
    node.settle();
    let mut plugin = node.subscribe(|_| ());
    assert_eq!(plugin.pass().files.len(), 3);
    std::fs::rename(node.path("/a"), node.path("/b")).unwrap();
    let pass = plugin.another(PassKind::Changed);
    assert_eq!(pass.names(), ["/b/below/y", "/b/x"]);
    assert!(plugin.another(PassKind::Changed).files.is_empty());
}

#[test]
fn folders_that_are_gone_are_forgotten() {
    let node = Node::new();
    for n in 0..100 {
        node.write(&format!("/{n}/file"), "x");
    }
    node.settle();
    let mut plugin = node.subscribe(|_| ());
    assert_eq!(plugin.pass().files.len(), 100);
    assert!(plugin.another(PassKind::Changed).files.is_empty());
    assert_eq!(node.feed.status().cached_folders, 100);
    for n in 0..90 {
        std::fs::remove_dir_all(node.path(format!("/{n}"))).unwrap();
    }
    plugin.another(PassKind::Changed);
    until("ten are left", || node.feed.status().cached_folders == 10);
}

#[test]
fn a_full_pass_goes_on_after_a_restart() {
    let node = Node::new();
    for n in 0..40 {
        // A batch each.
        node.write(&format!("/{}/{n}", n % 8), vec![n as u8; 4 << 20]);
    }
    node.settle();
    let mut plugin = node.subscribe(|_| ());
    assert_eq!(plugin.pass().files.len(), 40);
    node.feed.request("local/scanner", PassKind::Full);
    let mut judged = Vec::new();
    while judged.len() < 15 {
        match plugin.next() {
            Message::Batch(batch) => {
                assert_eq!(batch.files.len(), 1);
                judged.push(batch.span(batch.files[0].path).to_vec());
                batch.judged();
            }
            Message::Begin { kind, resumed } => {
                assert_eq!((kind, resumed), (PassKind::Full, false));
            }
            Message::End { .. } => panic!("too early"),
        }
    }
    drop(plugin);
    let node = node.restarted();
    let mut plugin = node.subscribe(|_| ());
    let rest = plugin.pass();
    assert_eq!((rest.kind, rest.resumed), (PassKind::Full, true));
    assert!(rest.complete);
    assert_eq!(rest.files.len(), 25);
    assert!(judged.iter().all(|path| !rest.files.contains_key(path)));
    // The next one is another one.
    let next = plugin.another(PassKind::Full);
    assert!(!next.resumed);
    assert_eq!(next.files.len(), 40);
}

#[test]
fn a_damaged_store_is_begun_anew() {
    let node = Node::new();
    node.write("/a", "a");
    node.settle();
    let mut plugin = node.subscribe(|_| ());
    assert_eq!(plugin.pass().files.len(), 1);
    drop(plugin);
    let store = node.state().join("scan.redb");
    let node = node.restarted_after(|| std::fs::write(&store, "this is no database").unwrap());
    let mut plugin = node.subscribe(|_| ());
    assert_eq!(plugin.pass().files.len(), 1);
}
