use bulkhead_sdk::scanning::Severity;
use bulkhead_sdk::state;
use bulkhead_sdk::testing::{Harness, Judged, Node, reset_state};

use crate::SecurityScanner;

fn plugin(label: &str) -> Harness<SecurityScanner> {
    let config = format!(r#"{{"integrity": {{"baseline": "{label}", "exclude": ["/etc/mtab"]}}}}"#);
    Harness::new(&config).unwrap()
}

fn node() -> Node {
    Node::new()
        .file("/etc/motd", "hello")
        .file("/etc/passwd", "root")
        .link("/etc/localtime", "/usr/share/zoneinfo/UTC")
        .file("/usr/bin/ping", "p")
        .attribute("/usr/bin/ping", "security.capability", [1, 0])
}

/// Rules and subjects, without the baseline itself.
fn told(found: &Judged) -> Vec<(&str, &str)> {
    let all = found
        .all()
        .iter()
        .filter(|it| it.rule != "integrity.baseline");
    all.map(|it| (it.rule.as_str(), it.subject.as_str()))
        .collect()
}

#[test]
fn what_changes_after_the_first_pass_is_told() {
    reset_state(None);
    let mut plugin = plugin("1");
    let first = plugin.scan(&node()).unwrap();
    assert_eq!(told(&first), []);
    assert_eq!(first.subjects("integrity.baseline"), ["baseline/1"]);
    assert_eq!(
        first.all()[0].evidence["files"],
        7,
        "four, and three folders"
    );
    assert_eq!(told(&plugin.scan(&node()).unwrap()), [], "nothing changed");

    let later = node()
        .file("/etc/motd", "hullo")
        .without("/etc/passwd")
        .link("/etc/localtime", "/usr/share/zoneinfo/CET")
        .attribute("/usr/bin/ping", "user.x", [1])
        .file("/usr/bin/new", "n")
        .file("/etc/mtab", "not watched");
    let found = plugin.scan(&later).unwrap();
    assert_eq!(
        told(&found),
        [
            ("integrity.changed", "/etc/localtime"),
            ("integrity.changed", "/etc/motd"),
            ("integrity.new", "/usr/bin/new"),
            ("integrity.changed", "/usr/bin/ping"),
            ("integrity.gone", "/etc/passwd"),
        ]
    );
    let all = found.all();
    let motd = all.iter().find(|it| it.subject == "/etc/motd").unwrap();
    assert_eq!(motd.evidence["changed"], "content");
    // What `sha256sum` says of both.
    assert_eq!(
        motd.evidence["before.sha256"],
        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    );
    assert_ne!(
        motd.evidence["before.sha256"],
        motd.evidence["after.sha256"]
    );
    let link = all
        .iter()
        .find(|it| it.subject == "/etc/localtime")
        .unwrap();
    assert_eq!(link.evidence["changed"], "target");

    let mode = node().mode("/etc/motd", 0o4755).owner("/etc/motd", 7, 8);
    let found = plugin.scan(&mode).unwrap();
    assert_eq!(found.all()[0].evidence["changed"], "mode, owner, group");
    assert_eq!(found.all()[0].evidence["before.mode"], "0644");
    assert_eq!(found.all()[0].evidence["after.mode"], "4755");
}

#[test]
fn the_baseline_outlives_the_instance_and_another_label_accepts() {
    reset_state(None);
    plugin("1").scan(&node()).unwrap();
    let changed = node().file("/etc/motd", "hullo").without("/usr/bin/ping");
    let again = plugin("1").scan(&changed).unwrap();
    assert_eq!(again.subjects("integrity.changed"), ["/etc/motd"]);
    assert_eq!(again.subjects("integrity.gone"), ["/usr/bin/ping"]);
    // An instance that is only tried must not touch the one at work.
    plugin("2").assess(&node()).unwrap();
    assert_eq!(
        plugin("1")
            .scan(&changed)
            .unwrap()
            .subjects("integrity.changed"),
        ["/etc/motd"]
    );
    assert_eq!(told(&plugin("2").scan(&changed).unwrap()), []);
    assert_eq!(told(&plugin("2").scan(&changed).unwrap()), []);
    let back = plugin("2").scan(&node()).unwrap();
    assert_eq!(
        told(&back),
        [
            ("integrity.changed", "/etc/motd"),
            ("integrity.new", "/usr/bin/ping")
        ]
    );
}

#[test]
fn a_file_that_is_back_is_no_longer_gone() {
    reset_state(None);
    let mut plugin = plugin("1");
    plugin.scan(&node()).unwrap();
    let found = plugin.scan(&node().without("/etc/motd")).unwrap();
    assert_eq!(found.subjects("integrity.gone"), ["/etc/motd"]);
    // Back between two passes, and known to the next instance.
    plugin.scan_event(&node(), "/etc/motd").unwrap();
    assert_eq!(state::get("integrity/gone").unwrap(), None);
    assert_eq!(told(&plugin.scan(&node()).unwrap()), []);
}

#[test]
fn a_pass_that_goes_on_says_nothing_of_what_is_gone() {
    reset_state(None);
    plugin("1").scan(&node()).unwrap();
    // The pass before was interrupted: what it has passed does not come again.
    state::set("integrity/running", b"").unwrap();
    let without = node().without("/etc/motd");
    assert_eq!(told(&plugin("1").scan(&without).unwrap()), []);
    assert_eq!(
        told(&plugin("1").scan(&without).unwrap()),
        [("integrity.gone", "/etc/motd")]
    );
}

#[test]
fn a_baseline_that_was_changed_outside_is_critical_and_stays() {
    for (what, spoil) in [
        (
            "a digest",
            (|| {
                let key = "integrity/segment/000000";
                let mut segment = state::get(key).unwrap().unwrap();
                let at = segment.len() - 40;
                segment[at] ^= 1;
                state::set(key, &segment).unwrap();
            }) as fn(),
        ),
        ("cut", || {
            let key = "integrity/segment/000000";
            let segment = state::get(key).unwrap().unwrap();
            state::set(key, &segment[..segment.len() - 1]).unwrap();
        }),
        ("a segment gone", || {
            state::delete("integrity/segment/000000").unwrap()
        }),
        ("the head gone", || state::delete("integrity/head").unwrap()),
        ("the head damaged", || {
            state::set("integrity/head", b"{").unwrap()
        }),
    ] {
        reset_state(None);
        plugin("1").scan(&node()).unwrap();
        spoil();
        for pass in 0..2 {
            let found = plugin("1").scan(&node().file("/etc/motd", "x")).unwrap();
            assert_eq!(
                told(&found),
                [("integrity.baseline-broken", "baseline/1")],
                "{what}, pass {pass}"
            );
            assert_eq!(found.all()[0].severity, Severity::Critical);
        }
        assert_eq!(
            told(&plugin("2").scan(&node()).unwrap()),
            [],
            "{what}: made anew by another label"
        );
        assert_eq!(told(&plugin("2").scan(&node()).unwrap()), [], "{what}");
    }
}

#[test]
fn a_baseline_without_room_is_told_and_compares_nothing() {
    reset_state(Some(300));
    for _ in 0..2 {
        let found = plugin("1").scan(&node()).unwrap();
        assert_eq!(told(&found), [("integrity.no-room", "baseline/1")]);
        // Another instance must not take a part of it for all.
        assert!(state::keys("integrity/segment/").unwrap().is_empty());
        assert!(state::get("integrity/head").unwrap().is_none());
    }
}

#[test]
fn twenty_thousand_files_fit_into_four_mebibytes() {
    reset_state(Some(4 << 20));
    let many = (0..20_000).fold(Node::new(), |node, i| {
        node.file(
            &format!("/usr/lib/x86_64-linux-gnu/some-package/folder/file-{i:05}.so"),
            "x",
        )
    });
    let first = plugin("1").scan(&many).unwrap();
    assert_eq!(first.all()[0].evidence["files"], 20_005, "with the folders");
    let path = "/usr/lib/x86_64-linux-gnu/some-package/folder/file-19999.so";
    let found = plugin("1").scan(&many.file(path, "y")).unwrap();
    assert_eq!(told(&found), [("integrity.changed", path)]);
}

#[test]
fn the_same_files_have_the_same_digest_in_whatever_order_they_come() {
    let digest = |node: &Node, events: &[&str]| {
        reset_state(None);
        let mut plugin = plugin("1");
        for path in events {
            plugin.scan_event(node, path).unwrap();
        }
        plugin.scan(node).unwrap().all()[0].evidence["digest"].clone()
    };
    assert_eq!(
        digest(&node(), &[]),
        digest(&node(), &["/usr/bin/ping", "/etc/motd"])
    );
    assert_ne!(
        digest(&node(), &[]),
        digest(&node().mode("/etc/motd", 0o600), &[])
    );
}
