//! Files that are rotated, truncated, deleted, linked and cut while they are written: every line
//! comes once, in order within its file, or is counted as given up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;
use support::sink::{Sink, ok, own_address};
use support::{Accounts, Node, numbered};

fn message(record: &Value) -> &str {
    record["message"].as_str().unwrap()
}

/// The numbers behind each text, in the order of the output.
fn sequences(output: &[Value]) -> BTreeMap<&str, Vec<u64>> {
    let mut sequences: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for record in output {
        let (text, number) = message(record).split_once(' ').unwrap();
        let numbers = sequences.entry(text).or_default();
        numbers.push(number.parse().unwrap());
    }
    sequences
}

/// Waits until all `written` lines are settled, and returns the output.
fn settled(node: &Node, written: u64) -> Vec<Value> {
    node.assert_accounted("app", written);
    node.output("app")
}

fn start(spec: impl Fn(&Node) -> String) -> Node {
    let mut node = Node::new();
    node.manifest("app", &spec(&node));
    node.start();
    node.wait_running("app");
    node
}

fn plain(node: &Node) -> String {
    node.spec("app", "fixture-logs", "{}")
}

/// Renames `NAME.log.1` to `NAME.log.2` and so on; the writer goes on in a new file.
fn shift(folder: &Path, name: &str, last: u64) {
    let path = |number| folder.join(format!("{name}.log.{number}"));
    for number in (1..last).rev() {
        fs::rename(path(number), path(number + 1)).unwrap();
    }
    fs::rename(folder.join(format!("{name}.log")), path(1)).unwrap();
}

/// The numbers `0..total` are there once each, and in order within each file of `each` lines: a
/// log's successor may be read before the last lines of its predecessor.
fn assert_ordered_in_files(numbers: &[u64], total: u64, each: u64) {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    let wrong = (0..total).zip(&sorted).find(|(n, got)| n != *got);
    assert_eq!(wrong, None, "lost or doubled");
    assert_eq!(sorted.len() as u64, total);
    let mut last = BTreeMap::new();
    for number in numbers {
        let before = last.insert(number / each, number);
        assert!(before.is_none_or(|before| before < number), "{number}");
    }
}

#[test]
fn rotation_by_rename_under_writers_that_never_wait() {
    const FILES: usize = 4;
    const ROTATIONS: u64 = 25;
    const EACH: u64 = 400;
    let node = start(plain);
    let folder = node.path("logs");
    std::thread::scope(|scope| {
        for file in 0..FILES {
            let folder = &folder;
            scope.spawn(move || {
                let name = format!("w{file}");
                for rotation in 0..ROTATIONS {
                    let path = folder.join(format!("{name}.log"));
                    let mut log = File::create_new(&path).unwrap();
                    for line in numbered(&name, rotation * EACH..(rotation + 1) * EACH) {
                        writeln!(log, "{line}").unwrap();
                    }
                    shift(folder, &name, rotation + 1);
                    if rotation % 5 == 4 {
                        // As the compression of an old file leaves it: other bytes, another name.
                        let old = folder.join(format!("{name}.log.{}", rotation + 1));
                        let bytes = fs::read(old).unwrap();
                        let file = File::create(folder.join(format!("{name}.log.{rotation}.gz")));
                        let mut gzip = flate2::write::GzEncoder::new(
                            file.unwrap(),
                            flate2::Compression::fast(),
                        );
                        gzip.write_all(&bytes).unwrap();
                        gzip.finish().unwrap();
                    }
                }
            });
        }
    });
    let total = ROTATIONS * EACH;
    let output = settled(&node, FILES as u64 * total);
    let sequences = sequences(&output);
    assert_eq!(sequences.len(), FILES);
    for numbers in sequences.values() {
        assert_ordered_in_files(numbers, total, EACH);
    }
}

#[test]
fn two_rotations_in_a_row_and_lines_into_the_renamed_file() {
    const ROUNDS: u64 = 30;
    let node = start(plain);
    let folder = node.path("logs");
    let mut written = 0;
    for round in 0..ROUNDS {
        let mut open = Vec::new();
        // The second comes before anyone can have looked at the first.
        for twice in 0..2 {
            let path = folder.join("a.log");
            let mut log = File::create_new(&path).unwrap();
            writeln!(log, "a {written}").unwrap();
            written += 1;
            shift(&folder, "a", 2 * round + twice + 1);
            open.push(log);
        }
        for log in &mut open {
            writeln!(log, "late {}", written - 1).unwrap();
        }
    }
    let output = settled(&node, 2 * written);
    let sequences = sequences(&output);
    assert_ordered_in_files(&sequences["a"], written, 1);
    let mut late = sequences["late"].clone();
    late.sort_unstable();
    let expected = (0..ROUNDS).flat_map(|round| [2 * round + 1; 2]);
    assert!(late.into_iter().eq(expected));
}

#[test]
fn copy_and_truncate_counts_what_was_unread() {
    const LINE: u64 = 10;
    let line = |n: u64| format!("a {n:07}");
    let mut node = Node::new();
    let address = own_address();
    let http =
        format!("http: {{url: \"http://{address}/ingest\", retry: {{initial: 5ms, max: 50ms}}}}");
    node.manifest("app", &node.spec_to("fixture-logs", "{}", &http));
    node.start();
    node.wait_running("app");
    // More than the queues hold, so that the rest is unread.
    let first = 1_000_000;
    node.append("a.log", (0..first).map(line));
    let log = node.path("logs/a.log");
    node.wait_plugin("app", "all of it to be seen", |report| {
        let bytes = |part: &str, of: &str| report["logs"][part][of].as_u64().unwrap();
        // Line feeds are not in flight.
        let in_flight = Accounts::of(report).in_flight * (LINE - 1);
        let unread = bytes("lag", "bytes").saturating_sub(in_flight);
        unread > 0 && bytes("bytes", "read") + unread == first * LINE
    });
    fs::copy(&log, node.path("logs/a.log.1")).unwrap();
    File::options()
        .write(true)
        .open(&log)
        .unwrap()
        .set_len(0)
        .unwrap();
    node.append("a.log", (first..first + 500).map(line));
    let sink = Sink::start_at(address, |_| ok());
    let last = line(first + 499);
    let report = node.wait_plugin("app", "the end", |report| {
        report["logs"]["lines"]["inFlight"] == 0
            && sink
                .acknowledged()
                .last()
                .is_some_and(|request| request.text().contains(&last))
    });
    // Nobody can count the lines of what is gone; here each has the same length.
    let lost = &report["logs"]["bytes"]["givenUp"]["truncated"];
    let lost = lost.as_u64().unwrap();
    assert!(lost > 0 && lost.is_multiple_of(LINE), "{lost}");
    let accounts = Accounts::of(&report);
    let written = first + 500;
    assert_eq!(accounts.acknowledged + lost / LINE, written);
    assert_eq!(accounts.read, accounts.acknowledged);
    assert_eq!(accounts.given_up(), 0);
    let records = sink.records();
    let numbers = &sequences(&records)["a"];
    let kept = first - lost / LINE;
    let expected = (0..kept).chain(first..written);
    assert!(numbers.iter().copied().eq(expected));
}

#[test]
fn copy_and_truncate_of_a_log_that_was_read_loses_and_doubles_nothing() {
    const ROUNDS: u64 = 10;
    let node = start(plain);
    let log = node.path("logs/a.log");
    for round in 0..ROUNDS {
        node.append("a.log", numbered("a", round * 100..(round + 1) * 100));
        node.assert_accounted("app", (round + 1) * 100);
        for number in (1..=round).rev() {
            let path = |number| node.path(&format!("logs/a.log.{number}"));
            fs::rename(path(number), path(number + 1)).unwrap();
        }
        fs::copy(&log, node.path("logs/a.log.1")).unwrap();
        File::create(&log).unwrap();
    }
    node.append("a.log", numbered("a", ROUNDS * 100..ROUNDS * 100 + 1));
    let output = settled(&node, ROUNDS * 100 + 1);
    let numbers = &sequences(&output)["a"];
    assert!(numbers.iter().copied().eq(0..=ROUNDS * 100));
}

/// A spec for `address`, where nobody listens until a sink is started there; deleted files are waited
/// for 100 ms.
fn impatient(node: &Node, address: SocketAddr, timeout: &str) -> String {
    let http = format!(
        "http: {{url: \"http://{address}/ingest\", timeout: {timeout}, retry: {{initial: 5ms, max: 50ms}}}}"
    );
    let spec = node.spec_to("fixture-logs", "{}", &http);
    spec.replace("logs:\n", "logs:\n  deletedFileWait: 100ms\n")
}

/// Starts the daemon, and writes more lines to `a.log` than the queues of a dead destination hold.
fn start_behind(node: &mut Node, spec: &str, lines: u64) {
    node.manifest("app", spec);
    node.start();
    node.wait_running("app");
    node.append("a.log", numbered("a", 0..lines));
    node.wait_plugin("app", "the queues to be full", |report| {
        let bytes = report["logs"]["lag"]["bytes"].as_u64().unwrap();
        bytes > lines * 5 && Accounts::of(report).in_flight > 0
    });
}

#[test]
fn a_file_deleted_while_its_destination_is_dead_is_given_up_and_counted() {
    const LINES: u64 = 400_000;
    let mut node = Node::new();
    let address = own_address();
    let spec = impatient(&node, address, "10s");
    start_behind(&mut node, &spec, LINES);
    fs::remove_file(node.path("logs/a.log")).unwrap();
    node.wait_plugin("app", "giving up", |report| {
        Accounts::of(report).deleted > 0
    });
    // Its place on the disk is free, and the others are followed all the same.
    node.append("b.log", numbered("b", 0..10));
    let sink = Sink::start_at(address, |_| ok());
    let accounts = node.assert_accounted("app", LINES + 10);
    assert!(accounts.deleted > 0 && accounts.truncated == 0);
    assert_eq!(accounts.acknowledged + accounts.deleted, LINES + 10);
    let records = sink.records();
    let sequences = sequences(&records);
    let shipped = LINES - accounts.deleted;
    assert!(sequences["a"].iter().copied().eq(0..shipped));
    assert!(sequences["b"].iter().copied().eq(0..10));
}

#[test]
fn a_file_deleted_while_the_plugin_is_suspended_is_given_up_and_counted() {
    const LINES: u64 = 400_000;
    let mut node = Node::new();
    let address = own_address();
    let spec = impatient(&node, address, "10s");
    start_behind(&mut node, &spec, LINES);
    node.manifest("app", &format!("suspend: true\n{spec}"));
    node.wait_plugin("app", "Suspended", |report| report["phase"] == "Suspended");
    fs::remove_file(node.path("logs/a.log")).unwrap();
    node.wait_plugin("app", "giving up", |report| {
        Accounts::of(report).deleted > 0
    });
    let sink = Sink::start_at(address, |_| ok());
    node.append("b.log", numbered("b", 0..10));
    node.manifest("app", &spec);
    let accounts = node.assert_accounted("app", LINES + 10);
    assert_eq!((accounts.deleted, accounts.acknowledged), (LINES, 10));
    assert!(sequences(&sink.records())["b"].iter().copied().eq(0..10));
}

#[test]
fn lines_read_ahead_of_a_deleted_file_are_counted_after_a_change_of_the_destination() {
    const LINES: u64 = 400_000;
    let mut node = Node::new();
    let address = own_address();
    let [first, second] = ["10s", "11s"].map(|timeout| impatient(&node, address, timeout));
    start_behind(&mut node, &first, LINES);
    fs::remove_file(node.path("logs/a.log")).unwrap();
    node.wait_plugin("app", "giving up what is unread", |report| {
        Accounts::of(report).deleted > 0
    });
    // Batches wait for the plugin, which waits for the destination: nobody has them after this.
    node.manifest("app", &second);
    node.wait_plugin("app", "giving up what was read", |report| {
        Accounts::of(report).deleted == LINES
    });
    let _sink = Sink::start_at(address, |_| ok());
    node.append("b.log", numbered("b", 0..10));
    let accounts = node.assert_accounted("app", LINES + 10);
    assert_eq!((accounts.deleted, accounts.acknowledged), (LINES, 10));
}

#[test]
fn lines_under_way_of_a_deleted_file_are_counted_if_they_cannot_be_read_again() {
    let mut node = Node::new();
    let address = own_address();
    let [first, second] = ["10s", "11s"].map(|timeout| impatient(&node, address, timeout));
    node.manifest("app", &first);
    node.start();
    node.wait_running("app");
    node.append("a.log", numbered("a", 0..100));
    node.wait_plugin("app", "all of it to be under way", |report| {
        Accounts::of(report).in_flight == 100
    });
    fs::remove_file(node.path("logs/a.log")).unwrap();
    support::wait_for("the file to be closed", || {
        let open = fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap();
        let links = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        let held = links
            .into_iter()
            .any(|link| link.to_string_lossy().contains("a.log"));
        (!held).then_some(())
    });
    // A change of the destination: what is under way is cut off, to be read again.
    node.manifest("app", &second);
    node.wait_plugin("app", "giving up", |report| {
        Accounts::of(report).deleted > 0
    });
    let sink = Sink::start_at(address, |_| ok());
    node.append("b.log", numbered("b", 0..10));
    let accounts = node.assert_accounted("app", 110);
    assert_eq!((accounts.deleted, accounts.acknowledged), (100, 10));
    assert!(sequences(&sink.records())["b"].iter().copied().eq(0..10));
}

#[test]
fn a_file_deleted_while_its_destination_works_loses_nothing() {
    const ROUNDS: u64 = 20;
    let node = start(|node| plain(node).replace("logs:\n", "logs:\n  deletedFileWait: 100ms\n"));
    for round in 0..ROUNDS {
        let name = format!("{round}.log");
        node.append(&name, numbered("a", round * 1000..(round + 1) * 1000));
        node.wait_plugin("app", "the file to be open", |report| {
            Accounts::of(report).read > round * 2000
        });
        node.append(&name, numbered("b", round * 1000..(round + 1) * 1000));
        fs::remove_file(node.path(&format!("logs/{name}"))).unwrap();
    }
    let output = settled(&node, 2 * ROUNDS * 1000);
    for numbers in sequences(&output).values() {
        assert_ordered_in_files(numbers, ROUNDS * 1000, 1000);
    }
    node.wait_plugin("app", "nothing to be followed", |report| {
        report["logs"]["files"]["watched"] == 0
    });
}

#[test]
fn a_thousand_files_at_once() {
    const FILES: u64 = 1000;
    let mut node = Node::new();
    node.manifest("app", &plain(&node));
    let append = |node: &Node, range: std::ops::Range<u64>| {
        for file in 0..FILES {
            let name = format!("f{file}");
            node.append(&format!("{name}.log"), numbered(&name, range.clone()));
        }
    };
    append(&node, 0..10);
    node.start();
    append(&node, 10..20);
    append(&node, 20..30);
    let output = settled(&node, FILES * 30);
    let sequences = sequences(&output);
    assert_eq!(sequences.len() as u64, FILES);
    for numbers in sequences.values() {
        assert!(numbers.iter().copied().eq(0..30), "{numbers:?}");
    }
}

#[test]
fn one_file_under_many_names_is_read_once() {
    let node = start(|node| {
        let more = node.path("links/*");
        plain(node).replace(
            "files: {include: [",
            &format!("files: {{include: [{more:?}, "),
        )
    });
    let links = node.path("links");
    fs::create_dir(&links).unwrap();
    node.append("a.log", numbered("a", 0..10));
    symlink(node.path("logs/a.log"), links.join("soft")).unwrap();
    fs::hard_link(node.path("logs/a.log"), links.join("hard")).unwrap();
    symlink("soft", links.join("second")).unwrap();
    symlink("dangling", links.join("nowhere")).unwrap();
    node.append("a.log", numbered("a", 10..20));
    node.append("b.log", numbered("b", 0..10));
    node.assert_accounted("app", 30);
    // The link leads elsewhere: what it led to is known, what it leads to is read.
    fs::create_dir(node.path("elsewhere")).unwrap();
    let other = node.path("elsewhere/other");
    fs::write(&other, "c 0\nc 1\n").unwrap();
    symlink(&other, links.join(".new")).unwrap();
    fs::rename(links.join(".new"), links.join("soft")).unwrap();
    let mut log = File::options().append(true).open(&other).unwrap();
    writeln!(log, "c 2").unwrap();
    node.append("a.log", numbered("a", 20..30));
    let output = settled(&node, 43);
    for (text, count) in [("a", 30), ("b", 10), ("c", 3)] {
        let numbers = &sequences(&output)[text];
        assert!(numbers.iter().copied().eq(0..count), "{text}: {numbers:?}");
    }
}

#[test]
fn the_daemons_own_output_is_not_read() {
    let node = start(|node| {
        let own = node.path("logs/own.log");
        let out = format!("{:?}", node.path("out-app"));
        let include = format!("[{:?}]", node.path("logs/*.log"));
        // What it is rotated to is not excluded, and matches.
        let narrow = format!("[{:?}], exclude: [{own:?}]", node.path("logs/*"));
        plain(node)
            .replace(&out, &format!("{own:?}, maxSize: 4Ki, keep: 100"))
            .replace(&include, &narrow)
    });
    for round in 0..10 {
        node.append("a.log", numbered("a", round * 100..(round + 1) * 100));
        node.assert_accounted("app", (round + 1) * 100);
    }
    assert!(node.path("logs/own.log.5").exists(), "it was rotated");
    let report = node.plugin("app").unwrap();
    assert_eq!(report["logs"]["files"]["watched"], 1);
}
