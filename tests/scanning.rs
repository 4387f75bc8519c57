//! The role `scanning` through the real binary, with the bundled `security-scanner`: what is found by a pass
//! and at once, what is over, accepted and not looked at again, and what files cannot do to it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::Value;
use support::{Node, message, reason, wait_for};

/// The test file that every scanner of viruses knows (EICAR), in two parts, so that none finds it here.
const EICAR: [&str; 2] = [
    r"X5O!P%@AP[4\PZX54(P^)7CC)7}$",
    "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*",
];

fn eicar() -> String {
    EICAR.concat()
}

/// A rule that finds files with `text`, in YARA's language.
fn rule(name: &str, text: &str) -> String {
    format!(
        "rule {name} {{ meta: severity = \"high\" description = \"has {name}\" strings: $a = \"{text}\" condition: $a }}"
    )
}

/// A spec that scans the node's folder `tree` by these rules; `more` are further fields of `scanning`.
fn spec(node: &Node, rules: &str, more: &str) -> String {
    let rules = serde_json::to_string(rules).unwrap();
    format!(
        "module: {{bundled: security-scanner}}\nconfig: {{signatures: {{yara: [{{name: test, text: {rules}}}]}}}}\nupdate: {{probation: 200ms}}\ngrants: {{state: {{quota: 1Mi}}, scan: {{files: [{}]}}}}\nscanning: {{budget: {{yieldToPressure: false}}, {more}}}\n",
        node.path("tree").display()
    )
}

/// A node whose plugin `scan` finds the test file.
fn node() -> Node {
    let node = Node::new();
    fs::create_dir(node.path("tree")).unwrap();
    node.manifest("scan", &spec(&node, &rule("eicar", "EICAR-STANDARD"), ""));
    node
}

fn write(node: &Node, name: &str, content: impl AsRef<[u8]>) {
    let path = node.path("tree").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// The role's report, once it is as it should be.
fn wait(node: &Node, what: &str, check: impl Fn(&Value) -> bool) -> Value {
    let report = node.wait_plugin("scan", what, |report| check(&report["scanning"]));
    report["scanning"].clone()
}

/// Once a pass has ended.
fn wait_pass(node: &Node) -> Value {
    wait(node, "a pass", |it| it["passes"].as_u64() >= Some(1))
}

fn findings(node: &Node, query: &str) -> Vec<Value> {
    let (code, body) = node.get(&format!("/v1/findings?{query}")).unwrap();
    assert_eq!(code, 200, "{body}");
    let mut page: Value = serde_json::from_str(&body).unwrap();
    serde_json::from_value(page["items"].take()).unwrap()
}

/// The names below `tree` of files with findings that are `state`, sorted, once they are these.
fn wait_found(node: &Node, state: &str, expected: &[&str]) {
    let tree = node.path("tree");
    let names = || {
        let found = findings(node, &format!("state={state}"));
        let name = |finding: &Value| {
            let path = finding["subject"]["path"].as_str().unwrap();
            let name = path.strip_prefix(tree.to_str().unwrap()).unwrap();
            name.trim_start_matches('/').to_owned()
        };
        let mut names: Vec<String> = found.iter().map(name).collect();
        names.sort();
        names
    };
    wait_for(&format!("{state} {expected:?}"), || {
        (names() == expected).then_some(())
    });
}

#[test]
fn a_pass_finds_what_is_there_and_events_what_comes() {
    let mut node = node();
    write(&node, "bad", eicar());
    write(
        &node,
        "deep/er/bad",
        format!("{}{}", "x".repeat(200_000), eicar()),
    );
    write(&node, "good", "nothing");
    node.start();
    let report = wait_pass(&node);
    assert_eq!(report["lastPass"]["complete"], true, "{report:#}");
    assert_eq!(report["findings"]["high"], 2, "{report:#}");
    assert_eq!(report["files"], 3, "{report:#}");
    wait_found(&node, "open", &["bad", "deep/er/bad"]);
    let all = findings(&node, "");
    let one = all.iter().find(|it| {
        it["subject"]["path"]
            .as_str()
            .unwrap()
            .ends_with("/deep/er/bad")
    });
    let one = one.unwrap();
    assert_eq!(one["rule"], "test.eicar");
    assert_eq!(one["title"], "has eicar");
    assert_eq!(
        one["evidence"]["strings"],
        format!("$a at {}", 200_000 + EICAR[0].len())
    );

    // Written, moved in, and in a folder that is new.
    write(&node, "new", eicar());
    fs::write(node.path("aside"), eicar()).unwrap();
    fs::rename(node.path("aside"), node.path("tree/moved")).unwrap();
    write(&node, "fresh/folder/bad", eicar());
    wait_found(
        &node,
        "open",
        &["bad", "deep/er/bad", "fresh/folder/bad", "moved", "new"],
    );

    // Gone, mended, moved out, and gone with its folder.
    fs::remove_file(node.path("tree/new")).unwrap();
    write(&node, "bad", "mended");
    fs::rename(node.path("tree/moved"), node.path("aside")).unwrap();
    fs::remove_dir_all(node.path("tree/fresh")).unwrap();
    wait_found(&node, "open", &["deep/er/bad"]);
    wait_found(
        &node,
        "resolved",
        &["bad", "fresh/folder/bad", "moved", "new"],
    );
    let (_, metrics) = node.get("/metrics").unwrap();
    let series = "bulkhead_scanning_findings{name=\"scan\",namespace=\"local\",rule=\"test.eicar\",severity=\"high\"} 1";
    let has = metrics
        .lines()
        .any(|line| line.starts_with("bulkhead_scanning_findings{") && line.ends_with("} 1"));
    assert!(has, "{series} is not in\n{metrics}");
}

#[test]
fn what_was_judged_is_not_read_again_until_it_or_the_rules_change() {
    let mut node = node();
    for n in 0..50 {
        write(&node, &format!("{}/{n}", n % 7), format!("file {n}"));
    }
    write(&node, "bad", eicar());
    node.start();
    assert_eq!(wait_pass(&node)["files"], 51);
    node.kill();
    write(&node, "3/new", eicar());
    node.start();
    wait_found(&node, "open", &["3/new", "bad"]);
    let report = wait_pass(&node);
    assert!(report["files"].as_u64().unwrap() < 51, "{report:#}");

    // Other rules: all is judged by them, and what they do not find is over.
    node.manifest("scan", &spec(&node, &rule("seven", "file 7"), ""));
    wait_found(&node, "open", &["0/7"]);
    wait_found(&node, "resolved", &["3/new", "bad"]);
}

#[test]
fn what_is_accepted_and_left_out_is_no_finding() {
    let mut node = node();
    for name in ["bad", "known/bad", "out/bad", "out/deep/bad"] {
        write(&node, name, eicar());
    }
    let tree = node.path("tree");
    let more = format!(
        "files: {{exclude: [\"{0}/out/**\"]}}, suppress: [{{rule: test.*, subject: \"{0}/known/*\", reason: it is a test}}]",
        tree.display()
    );
    let rules = rule("eicar", "EICAR-STANDARD");
    node.manifest("scan", &spec(&node, &rules, &more));
    node.start();
    wait_pass(&node);
    wait_found(&node, "open", &["bad"]);
    wait_found(&node, "suppressed", &["known/bad"]);
    assert_eq!(
        findings(&node, "state=suppressed")[0]["reason"],
        "it is a test"
    );
    // Taken back.
    node.manifest("scan", &spec(&node, &rules, ""));
    wait_found(
        &node,
        "open",
        &["bad", "known/bad", "out/bad", "out/deep/bad"],
    );
    // A plugin that is gone leaves none.
    node.remove_manifest("scan");
    wait_for("no findings", || {
        findings(&node, "state=open,suppressed,resolved")
            .is_empty()
            .then_some(())
    });
}

#[test]
fn files_as_they_should_not_be_hurt_nothing() {
    let mut node = node();
    let tree = node.path("tree");
    write(&node, "bad", eicar());
    write(&node, "odd\nname", eicar());
    let raw = tree.join(OsStr::from_bytes(b"raw\xff\xfe"));
    fs::write(&raw, eicar()).unwrap();
    symlink(&tree, tree.join("loop")).unwrap();
    symlink("/etc/shadow", tree.join("out")).unwrap();
    let fifo = Command::new("mkfifo")
        .arg(tree.join("fifo"))
        .status()
        .unwrap();
    assert!(fifo.success());
    let device = Command::new("mknod")
        .arg(tree.join("zero"))
        .args(["c", "1", "5"])
        .status();
    assert!(device.unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    // A terabyte of nothing.
    File::create(tree.join("sparse"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let mut deep = tree.clone();
    for _ in 0..200 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bad"), eicar()).unwrap();
    node.start();
    let report = wait_pass(&node);
    assert_eq!(report["lastPass"]["complete"], true, "{report:#}");
    let all = findings(&node, "rule=test.eicar");
    assert_eq!(all.len(), 4, "{all:#?}");
    let raw = all.iter().find(|it| it["subject"]["pathBytes"].is_string());
    assert!(raw.is_some(), "{all:#?}");
    // That it was not looked at as a whole is said.
    let cut = findings(&node, "rule=scanner.incomplete");
    assert_eq!(cut.len(), 1, "{report:#}\n{}", node.daemon_log());
    assert!(
        cut[0]["subject"]["path"]
            .as_str()
            .unwrap()
            .ends_with("/sparse"),
        "{cut:#?}"
    );
}

#[test]
fn what_is_wrong_is_said_before_anything_is_scanned() {
    let mut node = node();
    node.manifest("scan", "module: {bundled: security-scanner}\nconfig: {signatures: {yara: [{name: test, text: \"rule a { condition: $b }\"}]}}\ngrants: {state: {quota: 1Mi}, scan: {files: [/tmp]}}\nscanning: {}\n");
    node.start();
    let report = node.wait_plugin("scan", "refused", |it| reason(it, "Ready") == "Refused");
    let said = message(&report, "Ready");
    assert!(
        said.contains("signatures.yara[0]") && said.contains("test:1:"),
        "{said}"
    );
    // Without the grant.
    node.manifest("scan", "module: {bundled: security-scanner}\nconfig: {signatures: {yara: [{name: test, text: \"rule a { condition: true }\"}]}}\ngrants: {state: {quota: 1Mi}}\nscanning: {}\n");
    let report = node.wait_plugin("scan", "refused", |it| {
        message(it, "Ready").contains("grants")
    });
    let said = message(&report, "Ready");
    assert!(said.contains("scan: {files: [/]}"), "{said}");
}

#[test]
fn hashes_of_passwords_and_secrets_of_pods_are_shown_to_nobody() {
    let mut node = node();
    let tree = node.path("tree");
    let secret = "var/lib/kubelet/pods/1/volumes/kubernetes.io~secret/token/key";
    for name in [
        "etc/shadow",
        "etc/shadow-",
        "etc/gshadow",
        secret,
        "etc/passwd",
    ] {
        write(&node, name, eicar());
    }
    let rules = serde_json::to_string(&rule("eicar", "EICAR-STANDARD")).unwrap();
    node.manifest(
        "scan",
        &format!("module: {{bundled: security-scanner}}\nconfig: {{signatures: {{yara: [{{name: test, text: {rules}}}]}}}}\ngrants: {{state: {{quota: 1Mi}}, scan: {{files: [/etc, /var]}}}}\nscanning: {{budget: {{yieldToPressure: false}}}}\n"),
    );
    node.start_with(&["--host-root", tree.to_str().unwrap()], &[]);
    let report = wait_pass(&node);
    // They are passed, but as records alone.
    assert_eq!(report["files"], 5, "{report:#}");
    let all = findings(&node, "rule=test.eicar");
    let paths: Vec<_> = all.iter().map(|it| &it["subject"]["path"]).collect();
    assert_eq!(paths, ["/etc/passwd"]);
    // Written at last, and seen at once.
    write(&node, "etc/shadow", format!("{}\n", eicar()));
    write(&node, "etc/group", eicar());
    wait_for("what was written", || {
        (findings(&node, "rule=test.eicar").len() > 1).then_some(())
    });
    let report = wait(&node, "both", |it| it["events"].as_u64() >= Some(2));
    assert_eq!(findings(&node, "rule=test.eicar").len(), 2, "{report:#}");
}

#[test]
fn what_is_left_out_from_now_on_is_resolved_and_comes_back_with_the_files() {
    let mut node = node();
    for name in ["in/bad", "out/bad", "out/good"] {
        write(&node, name, eicar());
    }
    write(&node, "out/good", "nothing");
    let rules = rule("eicar", "EICAR-STANDARD");
    let tree = node.path("tree");
    let without = format!("files: {{exclude: [\"{}/out\"]}}", tree.display());
    node.start();
    wait_pass(&node);
    wait_found(&node, "open", &["in/bad", "out/bad"]);
    node.manifest("scan", &spec(&node, &rules, &without));
    wait_found(&node, "open", &["in/bad"]);
    wait_found(&node, "resolved", &["out/bad"]);
    let resolved = findings(&node, "state=resolved");
    assert_eq!(resolved[0]["reason"], "its file is not scanned any more");

    node.manifest("scan", &spec(&node, &rules, ""));
    wait_found(&node, "open", &["in/bad", "out/bad"]);
    wait_found(&node, "resolved", &[]);

    // Without any files: what was found of them is over as well.
    node.manifest(
        "scan",
        "module: {bundled: security-scanner}\nconfig: {posture: {accounts: {allowUid0: [root]}}}\nupdate: {probation: 200ms}\ngrants: {state: {quota: 1Mi}, scan: {users: true}}\nscanning: {}\n",
    );
    wait_for("nothing found of files", || {
        let open = findings(&node, "rule=test.*");
        open.is_empty().then_some(())
    });
}

#[test]
fn an_instance_that_took_much_memory_gives_it_back() {
    let mut node = node();
    write(&node, "long", "x".repeat(15 << 20));
    write(&node, "bad", eicar());
    node.start();
    let report = wait_pass(&node);
    assert_eq!(report["findings"]["high"], 1, "{report:#}");
    let memory = |report: &Value| report["memoryBytes"].as_u64().unwrap();
    let report = node.wait_plugin("scan", "a small instance", |report| {
        (1..16 << 20).contains(&memory(report))
    });
    assert_eq!(report["restarts"], 0, "{report:#}");
    // It works on, and takes it again.
    write(&node, "new", eicar());
    write(
        &node,
        "longer",
        format!("{}{}", "y".repeat(14 << 20), eicar()),
    );
    wait_found(&node, "open", &["bad", "longer", "new"]);
    node.wait_plugin("scan", "a large instance", |report| {
        memory(report) > 16 << 20
    });
    node.wait_plugin("scan", "a small one again", |report| {
        (1..16 << 20).contains(&memory(report))
    });
}
