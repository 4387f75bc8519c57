use bulkhead_sdk::testing::{Harness, Judged, Node};

use super::installed::{apk, dpkg};
use super::{APK, DPKG};
use crate::SecurityScanner;

const STATUS: &str = "Package: libssl3\nStatus: install ok installed\nSource: openssl\nVersion: 3.0.11-1~deb12u1\nDescription: x\n Version: 9\n\n\
    Package: gone\nStatus: deinstall ok config-files\nVersion: 1.0\n\n\
    Package: libc-bin\nStatus: install ok installed\nSource: glibc (2.36-9)\nVersion: 2.36-9+b1\n";
const INSTALLED: &str = "C:Q1x=\nP:libcrypto3\nV:3.1.3-r0\no:openssl\n\nP:musl\nV:1.2.4-r1\n";

#[test]
fn lists_of_packages_are_read() {
    let found = dpkg(STATUS);
    let names: Vec<_> = found
        .iter()
        .map(|it| {
            (
                it.name.as_str(),
                it.source.as_str(),
                it.source_version.as_str(),
            )
        })
        .collect();
    assert_eq!(
        names,
        [
            ("libssl3", "openssl", "3.0.11-1~deb12u1"),
            ("libc-bin", "glibc", "2.36-9")
        ]
    );
    let found = apk(INSTALLED);
    let names: Vec<_> = found
        .iter()
        .map(|it| (it.name.as_str(), it.source.as_str(), it.version.as_str()))
        .collect();
    assert_eq!(
        names,
        [
            ("libcrypto3", "openssl", "3.1.3-r0"),
            ("musl", "musl", "1.2.4-r1")
        ]
    );
    for text in [
        "",
        "\n\n\n",
        "Package: x",
        "P:x",
        "Status: a b\n\nStatus: installed",
    ] {
        assert!(dpkg(text).is_empty() && apk(text).is_empty(), "{text}");
    }
}

fn advisory(id: &str, ecosystem: &str, name: &str, events: &str) -> String {
    format!(
        r#"{{"id": "{id}", "summary": "bad", "affected": [{{"package": {{"ecosystem": "{ecosystem}", "name": "{name}"}},
        "ranges": [{{"type": "ECOSYSTEM", "events": [{events}]}}], "ecosystem_specific": {{"severity": "HIGH"}}}}]}}"#
    )
}

fn assess(advisories: &[String], node: &Node) -> Judged {
    let text = format!("[{}]", advisories.join(","));
    let config = serde_json::json!({"packages": {"advisories": [{"name": "all", "text": text}]}});
    let mut plugin = Harness::<SecurityScanner>::new(&config.to_string()).unwrap();
    plugin.assess(node).unwrap()
}

fn ids(found: &Judged) -> Vec<&str> {
    let all = found
        .all()
        .iter()
        .filter(|it| it.rule == "packages.vulnerable");
    all.map(|it| it.fingerprint.as_str()).collect()
}

const FROM_0: &str = r#"{"introduced": "0"}"#;

#[test]
fn packages_of_debian_are_judged_by_their_source() {
    let node = Node::new().file(DPKG, STATUS).fact("os.version", "12");
    let until = |fixed: &str| format!(r#"{FROM_0}, {{"fixed": "{fixed}"}}"#);
    let found = assess(
        &[
            advisory("A", "Debian:12", "openssl", &until("3.0.11-1~deb12u2")),
            advisory("FIXED", "Debian:12", "openssl", &until("3.0.11-1~deb12u1")),
            advisory("RELEASE", "Debian:11", "openssl", FROM_0),
            advisory("SYSTEM", "Alpine:v3.18", "openssl", FROM_0),
            advisory("BINARY", "Debian:12", "libssl3", FROM_0),
            advisory("OPEN", "Debian", "glibc", FROM_0),
            advisory("GONE", "Debian:12", "gone", FROM_0),
            // Introduced again, in whatever order it is told.
            advisory(
                "AGAIN",
                "Debian:12",
                "openssl",
                r#"{"introduced": "3.0.11"}, {"fixed": "2.0"}, {"introduced": "0"}"#,
            ),
            advisory(
                "LAST",
                "Debian:12",
                "glibc",
                r#"{"introduced": "2.0"}, {"last_affected": "2.36-9"}"#,
            ),
            advisory(
                "PAST",
                "Debian:12",
                "glibc",
                r#"{"introduced": "2.0"}, {"last_affected": "2.36-8"}"#,
            ),
            advisory("FUTURE", "Debian:12", "glibc", r#"{"introduced": "2.37"}"#),
        ],
        &node,
    );
    assert_eq!(ids(&found), ["A", "AGAIN", "OPEN", "LAST"]);
    let first = &found.all()[0];
    assert_eq!(first.subject, "package/libssl3");
    assert_eq!(first.evidence["fixed"], "3.0.11-1~deb12u2");
    assert_eq!(first.severity, bulkhead_sdk::scanning::Severity::High);
}

#[test]
fn packages_of_alpine_are_judged() {
    let node = Node::new()
        .file(APK, INSTALLED)
        .fact("os.version", "3.18.4");
    let found = assess(
        &[
            advisory(
                "A",
                "Alpine:v3.18",
                "openssl",
                r#"{"introduced": "0"}, {"fixed": "3.1.4-r0"}"#,
            ),
            advisory("B", "Alpine:v3.1", "openssl", FROM_0),
            advisory(
                "C",
                "Alpine:v3.18",
                "musl",
                r#"{"introduced": "0"}, {"fixed": "1.2.4-r1"}"#,
            ),
        ],
        &node,
    );
    assert_eq!(ids(&found), ["A"]);
}

#[test]
fn what_cannot_be_judged_is_said() {
    let one = [advisory("A", "Debian:12", "openssl", FROM_0)];
    let found = assess(&one, &Node::new());
    assert_eq!(found.subjects("packages.unclear"), ["packages"]);
    let found = assess(&one, &Node::new().file(DPKG, STATUS));
    assert_eq!(found.subjects("packages.unclear"), [DPKG]);
    assert!(ids(&found).is_empty());
    let config = r#"{"packages": {"advisories": [{"name": "a", "text": "{"}]}}"#;
    let error = Harness::<SecurityScanner>::new(config).unwrap_err();
    assert_eq!(error.field(), "packages.advisories[0]");
}
