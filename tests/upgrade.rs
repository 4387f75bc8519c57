//! A store that an earlier daemon wrote opens, and work goes on exactly where it ended. Each format
//! of the store has a fixture, `fixtures/state-FORMAT.redb.zst`, which is never made anew: it stands
//! for what is on nodes. The ignored test makes the one of a new format:
//!
//! ```sh
//! cargo test -p bulkhead --features bulkhead/test-faults --test upgrade -- --ignored
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use bulkhead::state::{Commit, FileId, Store};
use support::{Node, numbered};

/// The newest format.
const FORMAT: u64 = 1;
/// Lines that the earlier daemon had shipped and committed.
const SHIPPED: u64 = 500;

fn fixture(format: u64) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures");
    PathBuf::from(format!("{folder}/state-{format}.redb.zst"))
}

/// A plugin that ships lines and counts them in its own state.
fn node() -> Node {
    let node = Node::new();
    let spec = node.spec("app", "fixture-grants", "{count: true}");
    let grants = "grants: {state: {quota: 1Mi}, nodeFacts: true}\nupdate:";
    node.manifest("app", &spec.replace("update:", grants));
    node
}

/// The lines as they were, so that the file is known by its first bytes.
fn append(node: &Node, range: std::ops::Range<u64>) {
    node.append("a.log", numbered("the line", range));
}

#[test]
fn work_goes_on_where_each_earlier_format_ended() {
    for format in 1..=FORMAT {
        let mut node = node();
        append(&node, 0..SHIPPED);
        let log = node.path("logs/a.log");
        let size = fs::metadata(&log).unwrap().len();
        fs::create_dir(&node.state).unwrap();
        let bytes = zstd::decode_all(fs::File::open(fixture(format)).unwrap()).unwrap();
        fs::write(node.state.join("bulkhead.redb"), bytes).unwrap();

        let opened = Store::open(&node.state).unwrap();
        assert_eq!(opened.set_aside, None, "format {format}");
        let store = opened.store;
        let mut checkpoints = store.load_checkpoints("local/app").unwrap();
        assert_eq!(checkpoints.len(), 1, "format {format}");
        let (there, checkpoint) = checkpoints.remove(0);
        assert_eq!(checkpoint.marks, [("out".to_owned(), size)]);
        assert!(checkpoint.path.ends_with("logs/a.log"));
        let known = store.known_plugins().unwrap();
        assert_eq!(known.len(), 1);
        assert_eq!(known[0].identity, "local/app");
        assert!(known[0].first_seen <= checkpoint.updated);
        assert!(known[0].deleted_at.is_none());
        let count = store.kv_get("local/app", "lines").unwrap();
        assert_eq!(count, Some(SHIPPED.to_string().into_bytes()));
        assert_eq!(store.kv_size("local/app").unwrap(), 8);

        // The same file, but for the number that this disk gave it.
        let meta = fs::metadata(&log).unwrap();
        let here = FileId {
            device: meta.dev(),
            inode: meta.ino(),
        };
        let mut moved = Commit::new("local/app");
        moved.forget(there).checkpoint(here, checkpoint);
        store.commit(&moved).unwrap();
        drop(store);
        append(&node, SHIPPED..SHIPPED + 100);
        node.start();
        node.assert_accounted("app", 100);
        let output = node.output("app");
        let messages = output
            .iter()
            .map(|record| record["message"].as_str().unwrap());
        let counts = output.iter().map(|record| record["line"].as_u64().unwrap());
        let new = numbered("the line", SHIPPED..SHIPPED + 100);
        assert!(messages.map(str::to_owned).eq(new));
        assert!(counts.eq(SHIPPED + 1..=SHIPPED + 100));
    }
}

#[test]
#[ignore = "makes the fixture of a new format"]
fn make_the_fixture() {
    let path = fixture(FORMAT);
    assert!(!path.exists(), "{} is on nodes: keep it", path.display());
    let mut node = node();
    append(&node, 0..SHIPPED);
    node.start();
    node.assert_accounted("app", SHIPPED);
    assert!(node.stop().success());
    let store = fs::read(node.state.join("bulkhead.redb")).unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, zstd::encode_all(&store[..], 19).unwrap()).unwrap();
}
