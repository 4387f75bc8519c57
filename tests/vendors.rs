//! Exactly as many documents or events as lines, at servers of our own or at those that the
//! environment names; see `tests/README.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use support::disk::Ext4;
use support::elastic::{Elastic, Elasticsearch};
use support::splunk::{self, Splunk};
use support::{Node, numbered, wait_for};

/// The lines are there, each once.
fn assert_documents(server: &Elasticsearch, mut lines: Vec<String>) {
    lines.sort();
    let messages = server.messages();
    assert_eq!(messages.len(), lines.len());
    assert!(messages == lines, "{messages:?}");
}

/// The daemon runs with another machine-id(5), on which it has no influence.
fn on_machine(node: &mut Node, id: &str) {
    let path = node.path("machine-id");
    fs::write(&path, format!("{id}\n")).unwrap();
    let bind = r#"mount --bind "$0" /etc/machine-id && exec "$@""#;
    let wrapper = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        bind,
        path.to_str().unwrap(),
    ];
    node.wrapper = wrapper.map(str::to_owned).to_vec();
}

/// Two machines are cloned from an image on which a log has been begun, and go on with it: their
/// files have the same device, inode and birth. `ids` are their machine ids; `differ` tells whether
/// what they write does.
fn clones(ids: [&str; 2], differ: bool) {
    let server = Elasticsearch::start();
    let folder = tempfile::tempdir().unwrap();
    let disk = Ext4::new(&folder.path().join("disk"), 64 << 20, true);
    let log = folder.path().join("disk/a.log");
    let append = |lines: &[String]| {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(&log)
            .unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    };
    let old = match differ {
        true => Vec::new(),
        false => numbered("image", 0..100).collect(),
    };
    append(&old);
    let image = folder.path().join("image");
    disk.copy_to(&image);
    let mut written = Vec::new();
    for (id, name) in ids.into_iter().zip(["one", "two"]) {
        disk.restore(&image);
        let mut node = Node::new();
        on_machine(&mut node, id);
        let spec = node.spec_to("fixture-logs", "{}", &server.destination());
        let spec = spec.replace(
            node.path("logs/*.log").to_str().unwrap(),
            log.to_str().unwrap(),
        );
        node.manifest("app", &spec);
        let lines = numbered(if differ { name } else { "same" }, 0..1000);
        let lines: Vec<String> = old.iter().cloned().chain(lines).collect();
        append(&lines[old.len()..]);
        node.start();
        let accounts = node.assert_accounted("app", lines.len() as u64);
        assert_eq!(accounts.acknowledged, lines.len() as u64);
        assert!(node.stop().success());
        written.extend(lines);
    }
    assert_documents(&server, written);
}

const ONE: &str = "11111111111111111111111111111111";
const TWO: &str = "22222222222222222222222222222222";

#[test]
fn two_daemons_of_one_image_store_all_of_their_lines() {
    clones([ONE, TWO], false);
}

/// Nobody gave them machine ids of their own.
#[test]
fn two_daemons_with_one_machine_id_store_all_of_their_lines() {
    clones([ONE, ONE], true);
}

fn copy_and_truncate(log: &Path, copy: &str) {
    fs::copy(log, log.with_extension(copy)).unwrap();
    File::options()
        .write(true)
        .open(log)
        .unwrap()
        .set_len(0)
        .unwrap();
}

#[test]
fn a_log_that_is_copied_and_truncated_has_as_many_documents_as_lines() {
    let server = Elasticsearch::start();
    let mut nodes = [Node::new(), Node::new()];
    let mut written = Vec::new();
    for node in &mut nodes {
        node.manifest(
            "app",
            &node.spec_to("fixture-logs", "{}", &server.destination()),
        );
        node.start();
        node.wait_running("app");
    }
    // Both daemons, each on logs of its own, write the same. The last time nobody looks on.
    for round in 0..4 {
        let lines: Vec<String> = numbered(&format!("round {round}"), 0..500).collect();
        for node in &mut nodes {
            node.append("a.log", lines.clone());
            written.extend(lines.iter().cloned());
            let before = if round == 3 { 0 } else { round };
            node.assert_accounted("app", (before + 1) * lines.len() as u64);
            if round == 2 {
                assert!(node.stop().success());
            }
            copy_and_truncate(&node.path("logs/a.log"), &format!("log.{round}"));
            if round == 2 {
                node.start();
            } else if round < 2 {
                // A copy that was not looked at when the daemon ends is taken for another log if the
                // log has gone on meanwhile.
                node.wait_plugin("app", "the copy to be known", |report| {
                    report["logs"]["files"]["watched"] == round + 2
                });
            }
        }
    }
    assert_documents(&server, written);
}

/// What was sent and not committed when the daemon died is sent again, and stored once.
#[test]
fn what_is_sent_again_after_a_kill_is_stored_once() {
    let server = Elasticsearch::start();
    let mut node = Node::new();
    node.manifest(
        "app",
        &node.spec_to("fixture-logs", "{}", &server.destination()),
    );
    let lines: Vec<String> = numbered("line", 0..5000).collect();
    for part in lines.chunks(1000) {
        node.append("a.log", part.to_vec());
        let environment = [("BULKHEAD_FAILPOINT", "checkpoint.collected")];
        node.spawn(&["--safe-mode-deaths", "0"], &environment);
        wait_for("the first commit", || node.has_ended().then_some(()));
        node.wait_for_end();
    }
    node.start_with(&["--safe-mode-deaths", "0"], &[]);
    node.assert_accounted("app", lines.len() as u64);
    assert_documents(&server, lines);
}

#[test]
fn splunk_indexes_each_line_once() {
    let server = Splunk::start();
    let mut node = Node::new();
    node.manifest(
        "app",
        &node.spec_to("fixture-logs", "{}", &server.destination()),
    );
    let mut lines: Vec<String> = numbered("event", 0..2000).collect();
    node.append("a.log", lines.clone());
    node.start();
    let accounts = node.assert_accounted("app", lines.len() as u64);
    assert_eq!(accounts.acknowledged, lines.len() as u64);
    // A real one takes a while.
    let events = wait_for("every event to be found", || {
        let events = server.events();
        (events.len() >= lines.len()).then_some(events)
    });
    lines.sort();
    assert!(events == lines, "{events:?}");
}

/// The tests above, against servers that only the environment names.
#[test]
fn the_environment_names_other_servers() {
    let names = ["ELASTICSEARCH", "SPLUNK_HEC"];
    if names
        .iter()
        .any(|name| support::real::left_out("the check of the variables", name))
    {
        return;
    }
    let (elastic, splunk) = (Elastic::start(|_| false), splunk::serve());
    let splunk_url = format!("http://{}", splunk.address);
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "what_is_sent_again_after_a_kill",
            "splunk_indexes",
            "--nocapture",
        ])
        .env("BULKHEAD_TEST_ELASTICSEARCH_URL", elastic.url())
        .env("BULKHEAD_TEST_ELASTICSEARCH_AUTH", "me:pass")
        .env("BULKHEAD_TEST_SPLUNK_HEC_URL", &splunk_url)
        .env("BULKHEAD_TEST_SPLUNK_HEC_TOKEN", splunk::TOKEN)
        .env("BULKHEAD_TEST_SPLUNK_URL", &splunk_url)
        .env("BULKHEAD_TEST_SPLUNK_AUTH", "admin:changeme")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains("2 passed"), "{said}");
    // They were there, as who they were told, and cleaned up.
    let index = elastic.index();
    assert_eq!((index.sent.len() >= 5000, index.documents.len()), (true, 0));
    for (request, _) in elastic.sink.all() {
        assert_eq!(request.header("authorization"), "Basic bWU6cGFzcw==");
    }
    let paths = splunk.all().into_iter().map(|(request, _)| request.path);
    assert!(
        paths
            .into_iter()
            .any(|path| path.ends_with("/collector/event"))
    );
}
