//! Tries a collector on files that make no sense.

use std::cell::RefCell;

use bulkhead_sdk::testing::{Files, Harness};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::NodeMetrics;

/// What a file may hold instead of what it should.
const NONSENSE: &[&[u8]] = &[
    b"",
    b"\n",
    b"\0\0\0\0",
    b"\xff\xfe\xfd",
    b"-1",
    b"-",
    b"nan",
    b"1e999",
    b"18446744073709551616",
    b"99999999999999999999999999999999999999999999 1 2 3\n",
    b"a",
    b": : :\n= = =\n[ ] ( ) { }\n",
    "ä ö ü\n".as_bytes(),
];

/// Runs `collector` on `tree` with each file in turn torn, damaged, gone, unreadable, and
/// full of nonsense. It may fail, but not panic, nor give what the host refuses.
pub(crate) fn survives(collector: &str, config: &str, tree: &[(&str, &str)]) {
    let plugin = Harness::<NodeMetrics>::new(config).expect("the configuration is right");
    let plugin = RefCell::new(plugin);
    let run = |files: &Files, how: &str| {
        if let Err(error) = plugin.borrow_mut().collect(collector, files) {
            let error = error.to_string();
            for refusal in ["is no name", "comes twice", "a label twice"] {
                assert!(!error.contains(refusal), "{how}: {error}");
            }
        }
    };
    let all = tree
        .iter()
        .fold(Files::new(), |files, (path, text)| files.file(path, text));
    for (index, (path, text)) in tree.iter().enumerate() {
        // At every byte of a short file, and at some fifty places of a long one.
        for length in (0..text.len()).step_by(1 + text.len() / 50) {
            let torn = &text.as_bytes()[..length];
            run(
                &all.clone().file(path, torn),
                &format!("{path} at {length}"),
            );
        }
        for nonsense in NONSENSE {
            let files = all.clone().file(path, nonsense);
            run(&files, &format!("{path}: {nonsense:?}"));
        }
        run(&all.clone().file(path, vec![b'7'; 100_000]), path);
        run(&all.clone().unreadable(path, 5), path);
        let others = tree.iter().enumerate().filter(|(each, _)| *each != index);
        let without = others.fold(Files::new(), |files, (_, (path, text))| {
            files.file(path, text)
        });
        run(&without, &format!("without {path}"));
    }
    let any_file = 0..tree.len();
    let any_bytes = proptest::collection::vec(any::<u8>(), 0..300);
    let damage = (any::<prop::sample::Index>(), any::<u8>());
    TestRunner::new(Config::with_cases(64))
        .run(
            &(any_file, any_bytes, damage),
            |(index, bytes, (at, byte))| {
                let (path, text) = tree[index];
                let mut damaged = text.as_bytes().to_vec();
                if !damaged.is_empty() {
                    let at = at.index(damaged.len());
                    damaged[at] = byte;
                }
                let how = format!("{path}: {bytes:?} or {damaged:?}");
                run(&all.clone().file(path, bytes), &how);
                run(&all.clone().file(path, damaged), &how);
                Ok(())
            },
        )
        .expect("it survives any bytes");
}
