//! Killed at every step.

use std::os::unix::process::ExitStatusExt;

use super::*;

const PLACES: [(&str, u32); 12] = [
    ("effect-kept", 1),
    ("audit-written", 1),
    ("effect-audited", 1),
    ("effect-staged", 1),
    ("effect-staged", 3),
    ("effect-settled", 2),
    ("effect-renamed", 1),
    ("effect-renamed", 3),
    ("effect-synced", 1),
    ("effect-made", 1),
    ("audit-written", 2),
    ("effect-told", 1),
];
const FILES: usize = 4;

fn contents(node: &Node) -> Vec<Option<String>> {
    let files = 0..FILES;
    files
        .map(|i| std::fs::read_to_string(node.at(&format!("/etc/{i}"))).ok())
        .collect()
}

fn old(i: usize) -> Option<String> {
    // The last is a new one.
    (i + 1 < FILES).then(|| format!("old {i}"))
}

fn new(i: usize) -> Option<String> {
    Some(format!("new {i}").repeat(1000))
}

const ETC: &str = r#"{"changes":{"files":["/etc"]}}"#;

fn converge(node: &Node) -> Vec<Result<Made, Error>> {
    let effects = node.effects();
    let changes: Vec<Change> = (0..FILES)
        .map(|i| {
            change(
                &i.to_string(),
                write_file(&format!("/etc/{i}"), &new(i).unwrap()),
            )
        })
        .collect();
    let changes: Vec<&Change> = changes.iter().collect();
    let plan = Plan {
        revision: "1",
        rules: &[],
        seen: None,
    };
    effects.make_all(&changes, &plan)
}

#[test]
fn every_file_is_old_or_new_and_the_next_start_knows_which() {
    for (place, nth) in PLACES {
        let node = Node::new(ETC);
        for i in 0..FILES {
            if let Some(content) = old(i) {
                node.write(&format!("/etc/{i}"), &content);
            }
        }
        let folders = format!("{}:{}", node.root.display(), node.state.display());
        let output = child("crash::the_child")
            .env("BULKHEAD_TEST_NODE", folders)
            .env("BULKHEAD_FAILPOINT", format!("{place}:{nth}"))
            .output()
            .unwrap();
        assert_eq!(output.status.signal(), Some(9), "{place}:{nth}: {output:?}");
        let found = contents(&node);
        for (i, content) in found.iter().enumerate() {
            let whole = *content == old(i) || *content == new(i);
            assert!(whole, "{place}:{nth}: file {i} is torn: {content:?}");
        }
        let effects = node.effects();
        assert!(node.left_over().is_empty(), "{place}:{nth}");
        for past in effects.history(None, 99) {
            let i: usize = past.change.parse().unwrap();
            let expected = match found[i] == new(i) {
                true => Ended::Done,
                false => Ended::Interrupted,
            };
            assert_eq!(
                past.result,
                Some(expected),
                "{place}:{nth}: {}",
                past.subject
            );
        }
        verify(&node.state).unwrap();
        drop(effects);
        for result in converge(&node) {
            result.unwrap();
        }
        let all: Vec<_> = (0..FILES).map(new).collect();
        assert_eq!(contents(&node), all, "{place}:{nth}");
        assert!(node.left_over().is_empty());
        // From whatever state, the oldest change puts back what was there first.
        let effects = node.effects();
        for past in effects.history(None, 99) {
            effects.revert(past.sequence, "1", true).unwrap();
        }
        let all: Vec<_> = (0..FILES).map(old).collect();
        assert_eq!(contents(&node), all, "{place}:{nth}");
        verify(&node.state).unwrap();
    }
}

#[test]
#[ignore = "started and killed by another"]
fn the_child() {
    let folders = std::env::var("BULKHEAD_TEST_NODE").unwrap();
    let (root, state) = folders.split_once(':').unwrap();
    let node = Node::at_folders(Path::new(root), Path::new(state), ETC);
    converge(&node);
}
