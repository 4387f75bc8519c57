#![allow(clippy::unwrap_used)]

use std::io::Write as _;

use bulkhead_sdk::testing::{Harness, Judged, Node};
use sha1::Sha1;
use sha2::Digest as _;

use crate::SecurityScanner;

const RULES: &str = r#"{"signatures": {"yara": [{"name": "test", "text": "rule eicar : malware { meta: description = \"the test file\" severity = \"high\" strings: $a = \"EICAR-STANDARD\" condition: $a }"}]}}"#;

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn scan(config: &str, node: &Node) -> Judged {
    Harness::<SecurityScanner>::new(config)
        .unwrap()
        .scan(node)
        .unwrap()
}

#[test]
fn files_are_judged_by_the_rules_of_the_configuration() {
    let node = Node::new()
        .file("/tmp/bad", "x EICAR-STANDARD x")
        .file("/tmp/good", "nothing");
    let found = scan(RULES, &node);
    assert_eq!(found.subjects("test.eicar"), ["/tmp/bad"]);
    assert_eq!(found.all()[0].evidence["strings"], "$a at 2");
    assert_eq!(found.all().len(), 1);
    // In pieces, too.
    let found = scan(RULES, &node.piece_size(7));
    assert_eq!(found.subjects("test.eicar"), ["/tmp/bad"]);
}

#[test]
fn members_of_archives_are_named() {
    let node = Node::new().file("/tmp/a.gz", gzip(&gzip(b"EICAR-STANDARD")));
    let found = scan(RULES, &node);
    assert_eq!(found.subjects("test.eicar"), ["/tmp/a.gz"]);
    assert_eq!(found.all()[0].evidence["member"], "a.gz!gzip!gzip");
    let off = RULES.replacen(
        "{\"yara\"",
        "{\"archives\": {\"enabled\": false}, \"yara\"",
        1,
    );
    assert!(scan(&off, &node).is_empty());
}

#[test]
fn a_limit_that_is_reached_is_told_with_its_name() {
    let limit = |limit: &str| RULES.replacen("{\"yara\"", &format!("{{{limit}, \"yara\""), 1);
    let deep = Node::new().file("/a.gz", gzip(&gzip(b"x")));
    let large = Node::new().file("/a.gz", gzip(&[0; 1 << 20]));
    let long = Node::new().file("/a", "0123456789");
    for (config, node, said) in [
        (
            limit(r#""archives": {"depth": 1}"#),
            &deep,
            "archives.depth is 1",
        ),
        (
            limit(r#""archives": {"maxUnpacked": 200000}"#),
            &large,
            "archives.maxUnpacked is 200000",
        ),
        (
            limit(r#""archives": {"maxRatio": 2}"#),
            &large,
            "archives.maxRatio is 2",
        ),
        (
            limit(r#""archives": {"maxMembers": 1}"#),
            &deep,
            "archives.maxMembers is 1",
        ),
        (limit(r#""maxContent": 5"#), &long, "maxContent (5 bytes)"),
    ] {
        let found = scan(&config, node);
        assert_eq!(found.subjects("scanner.incomplete").len(), 1, "{config}");
        let message = &found.all()[0].message;
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn findings_in_one_file_end() {
    let many = (0..150).flat_map(|_| gzip_member()).collect::<Vec<u8>>();
    let found = scan(RULES, &Node::new().file("/a.tar", many));
    assert_eq!(
        found.subjects("test.eicar").len(),
        101,
        "the archive itself, and its members"
    );
    assert!(
        found
            .all()
            .iter()
            .any(|it| it.message.contains("more than 100 findings"))
    );
}

/// A member of a tar, each with a name of its own.
fn gzip_member() -> Vec<u8> {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let data = b"EICAR-STANDARD";
    let mut header = [0; 512];
    let name = format!("file-{number}");
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
    header[156] = b'0';
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut member = [&header[..], data].concat();
    member.resize(1024, 0);
    member
}

/// A configuration with one list, and archives or not.
fn list(text: &str, archives: bool) -> String {
    serde_json::json!({"signatures": {
        "hashes": [{"name": "bad", "text": text}],
        "archives": {"enabled": archives},
    }})
    .to_string()
}

#[test]
fn files_are_known_by_their_digests() {
    // Of `hello`.
    let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let node = Node::new().file("/a", "hello").file("/b", "other");
    // SHA-1 and MD5 are not asked for: the node has none to give, and would say so.
    for text in [
        sha256.to_owned(),
        format!("{sha256}:5:Greeting"),
        format!("{sha256}  Greeting"),
        format!("# x\n{sha256}:*:Greeting\n"),
    ] {
        let found = scan(&list(&text, false), &node);
        assert_eq!(found.subjects("hash.bad"), ["/a"], "{text}");
        assert_eq!(found.all().len(), 1);
    }
    let found = scan(&list(&format!("{sha256} Greeting"), false), &node);
    assert_eq!(found.all()[0].evidence["name"], "Greeting");
    assert!(
        scan(&list(&format!("{sha256}:6:Greeting"), false), &node).is_empty(),
        "of another size"
    );
    // One finding a hit.
    let found = scan(&list(&format!("{sha256} One\n{sha256} Two"), false), &node);
    assert_eq!(found.subjects("hash.bad"), ["/a", "/a"]);
}

#[test]
fn old_digests_are_asked_for_if_a_list_has_them() {
    let sha1 = Sha1::digest(b"hello");
    let text = crate::integrity::hex(&sha1);
    let node = Node::new().file("/a", "hello").digest("/a", "sha1", sha1);
    assert_eq!(
        scan(&list(&text, false), &node).subjects("hash.bad"),
        ["/a"]
    );
    let md5 = [7; 16];
    let node = Node::new().file("/a", "hello").digest("/a", "md5", md5);
    let text = format!("{}:*:Seven", crate::integrity::hex(&md5));
    assert_eq!(
        scan(&list(&text, false), &node).subjects("hash.bad"),
        ["/a"]
    );
}

#[test]
fn members_are_known_by_their_digests() {
    let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let node = Node::new().file("/tmp/a.gz", gzip(b"hello"));
    let found = scan(&list(sha256, true), &node);
    assert_eq!(found.subjects("hash.bad"), ["/tmp/a.gz"]);
    assert_eq!(found.all()[0].evidence["member"], "a.gz!gzip");
    assert!(scan(&list(sha256, false), &node).is_empty());
}

#[test]
fn what_is_wrong_with_rules_is_told_with_its_place() {
    for (config, field, said) in [
        (
            r#"{"signatures": {"yara": [{"name": "test", "text": "rule a { condition: $b }"}]}}"#,
            "signatures.yara[0]",
            "test:1:",
        ),
        (
            r#"{"signatures": {"yara": [{"name": "test"}]}}"#,
            "signatures.yara[0]",
            "either text or file",
        ),
        (
            r#"{"signatures": {"hashes": [{"name": "", "text": ""}]}}"#,
            "signatures.hashes[0].name",
            "1 to 64 bytes",
        ),
    ] {
        let error = Harness::<SecurityScanner>::new(config).unwrap_err();
        assert_eq!(error.field(), field);
        assert!(error.to_string().contains(said), "{error}");
    }
}
