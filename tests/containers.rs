//! Container logs as the kubelet and the container runtimes lay them out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use support::Node;

/// A spec that ships containers' logs; `source` are fields of `containers`.
fn spec(node: &Node, source: &str) -> String {
    let spec = node.spec("app", "fixture-logs", "{}");
    let files = spec.lines().find(|line| line.contains("- files:")).unwrap();
    let root = node.path("log");
    let containers = format!("  - containers: {{root: {root:?}, {source}}}");
    spec.replace(files, &containers)
}

fn start(source: &str) -> Node {
    let mut node = Node::new();
    for folder in ["log/pods", "log/containers"] {
        fs::create_dir_all(node.path(folder)).unwrap();
    }
    node.manifest("app", &spec(&node, source));
    node.start();
    node.wait_running("app");
    node
}

/// Appends lines of a runtime; `folder` is a pod's and a container's.
fn write(node: &Node, folder: &str, log: &str, text: &str) -> PathBuf {
    let folder = node.path(&format!("log/pods/{folder}"));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(log);
    let file = File::options().append(true).create(true).open(&path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
    path
}

const T: &str = "2026-01-02T03:04:05";

fn full(text: impl std::fmt::Display) -> String {
    format!("{T}.000000000Z stdout F {text}\n")
}

/// The output without the members that depend on the test's folder.
fn messages(output: &[Value]) -> Vec<&str> {
    let messages = output
        .iter()
        .map(|record| record["message"].as_str().unwrap());
    messages.collect()
}

#[test]
fn parts_are_joined_and_stream_time_and_place_are_kept() {
    let node = start("");
    let text = format!(
        "{T}.100000001Z stdout P one \n{T}.200000000Z stderr F error\n{T}.300000000Z stdout P two \n{T}.400000000Z stdout F three\n{T}.5+02:00 stdout F later\n"
    );
    write(&node, "shop_web-0_1f2e/nginx", "0.log", &text);
    node.assert_accounted("app", 3);
    let record = |time: &str, message: &str| {
        json!({
            "time": time,
            "message": message,
            "k8s.namespace.name": "shop",
            "k8s.pod.name": "web-0",
            "k8s.pod.uid": "1f2e",
            "k8s.container.name": "nginx",
            "k8s.container.restart_count": "0",
        })
    };
    let mut error = record("2026-01-02T03:04:05.200000000Z", "error");
    error["stream"] = "stderr".into();
    let output = node.output("app");
    let expected = [
        error,
        record("2026-01-02T03:04:05.100000001Z", "one two three"),
        record("2026-01-02T01:04:05.500000000Z", "later"),
    ];
    assert_eq!(output, expected);
}

#[test]
fn a_part_whose_end_comes_after_a_restart_is_joined() {
    let mut node = start("");
    let log = "shop_web-0_1f2e/nginx";
    let part = format!("{T}.1Z stdout P begun \n");
    write(&node, log, "0.log", &(full("first") + &part));
    node.assert_accounted("app", 1);
    assert!(node.stop().success());
    write(&node, log, "0.log", &full("and finished"));
    node.start();
    node.assert_accounted("app", 1);
    let output = node.output("app");
    assert_eq!(messages(&output), ["first", "begun and finished"]);
}

/// Writes one line in each of several namespaces, and says whose came.
fn namespaces(source: &str, expected: &[&str]) {
    let node = start(source);
    for namespace in ["shop", "shop-test", "kube-system", "bank"] {
        let folder = format!("{namespace}_p-1_{namespace}-1/c");
        let log = write(&node, &folder, "0.log", &full(namespace));
        let link = format!("log/containers/p-1_{namespace}_c-0123.log");
        symlink(log, node.path(&link)).unwrap();
    }
    node.assert_accounted("app", expected.len() as u64);
    let output = node.output("app");
    let mut found = messages(&output);
    found.sort_unstable();
    assert_eq!(found, expected);
    let report = node.plugin("app").unwrap();
    assert_eq!(report["logs"]["files"]["watched"], expected.len());
}

#[test]
fn only_the_named_namespaces() {
    namespaces("namespaces: [shop, bank]", &["bank", "shop"]);
}

#[test]
fn not_the_excluded_namespaces() {
    namespaces(
        "excludeNamespaces: [kube-system, shop]",
        &["bank", "shop-test"],
    );
}

#[test]
fn a_restarted_container_and_its_link_that_is_led_on() {
    let node = start("");
    let folder = "shop_web-0_1f2e/nginx";
    let link = node.path("log/containers/web-0_shop_nginx-0123.log");
    let hidden = node.path("log/containers/.new");
    for restart in 0..5 {
        let name = format!("{restart}.log");
        let log = write(&node, folder, &name, &full(format!("{restart} begins")));
        symlink(log, &hidden).unwrap();
        fs::rename(&hidden, &link).unwrap();
        write(&node, folder, &name, &full(format!("{restart} ends")));
        if restart > 0 {
            // The kubelet keeps one dead container.
            let before = format!("log/pods/{folder}/{}.log", restart - 1);
            node.assert_accounted("app", 2 * (restart + 1));
            fs::remove_file(node.path(&before)).unwrap();
        }
    }
    node.assert_accounted("app", 10);
    let output = node.output("app");
    for index in 0..5 {
        // Order holds within a file; two files may overtake each other.
        let count = index.to_string();
        let of_file = output
            .iter()
            .filter(|record| record["k8s.container.restart_count"] == count);
        let pair: Vec<_> = of_file.cloned().collect();
        let of = |what: &str| format!("{index} {what}");
        assert_eq!(messages(&pair), [of("begins"), of("ends")]);
        assert!(pair.iter().all(|record| record["k8s.pod.uid"] == "1f2e"));
    }
}

#[test]
fn rotation_as_the_kubelet_does_it() {
    const ROTATIONS: u64 = 20;
    let node = start("");
    let folder = "shop_web-0_1f2e/nginx";
    let mut written = 0;
    for rotation in 0..ROTATIONS {
        let before = write(&node, folder, "0.log", "");
        let mut log = File::options().append(true).open(&before).unwrap();
        for _ in 0..100 {
            log.write_all(full(written).as_bytes()).unwrap();
            written += 1;
        }
        let stamp = format!("0.log.20260102-0304{rotation:02}");
        let after = before.with_file_name(&stamp);
        fs::rename(&before, &after).unwrap();
        // The runtime is told to open the log again, and writes meanwhile.
        log.write_all(full(written).as_bytes()).unwrap();
        written += 1;
        if rotation > 0 {
            let old = format!("0.log.20260102-0304{:02}", rotation - 1);
            let old = before.with_file_name(old);
            node.assert_accounted("app", written);
            // Compressed under another name, then deleted.
            let mut gzip = flate2::write::GzEncoder::new(
                File::create(old.with_extension("tmp")).unwrap(),
                flate2::Compression::fast(),
            );
            gzip.write_all(&fs::read(&old).unwrap()).unwrap();
            gzip.finish().unwrap();
            let name = format!("{}.gz", old.display());
            fs::rename(old.with_extension("tmp"), name).unwrap();
            fs::remove_file(old).unwrap();
        }
    }
    node.assert_accounted("app", written);
    let output = node.output("app");
    let mut numbers: Vec<u64> = messages(&output)
        .iter()
        .map(|message| message.parse().unwrap())
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..written));
}

#[test]
fn a_duration_takes_lines_by_their_time() {
    let mut node = Node::new();
    let now = jiff::Timestamp::now();
    let ago = |seconds: u64| {
        let then = now - Duration::from_secs(seconds);
        format!("{then} stdout F {seconds} seconds ago\n")
    };
    let text: String = [7200, 4000, 3000, 60].map(ago).concat();
    write(&node, "shop_web-0_1f2e/nginx", "0.log", &text);
    // Births have a coarse clock: the file must be older than the plugin beyond doubt.
    std::thread::sleep(Duration::from_millis(100));
    let spec = spec(&node, "").replace("startAt: beginning", "startAt: 1h");
    node.manifest("app", &spec);
    node.start();
    node.assert_accounted("app", 2);
    let output = node.output("app");
    assert_eq!(messages(&output), ["3000 seconds ago", "60 seconds ago"]);
}
