//! Files, and parts of them.

use bulkhead_sdk::testing::Verdict;
use serde_json::json;

use super::{etc, one, test};

#[test]
fn writes_a_whole_file() {
    let resource = json!({"file": {"path": "/etc/motd", "content": "Hello\n", "mode": "0640", "owner": "app", "group": 42}});
    let mut new = one(resource.clone(), etc());
    let planned = new.converge();
    assert_eq!(planned.ids(), ["/etc/motd"]);
    assert_eq!(planned.message("r"), "it is not there");
    assert_eq!(new.node.text("/etc/motd"), Some("Hello\n"));
    assert_eq!(new.node.permissions("/etc/motd"), Some((0o640, 1000, 42)));

    let mut other = one(resource.clone(), etc().file("/etc/motd", "Hello\nyou\n"));
    let planned = other.converge();
    assert_eq!(
        planned.message("r"),
        "its content differs from line 2 on; its mode is 0644, not 0640; it belongs to user 0, not 1000; it belongs to group 0, not 42"
    );

    // Only the permissions: the content is not written again.
    let node = etc()
        .file("/etc/motd", "Hello\n")
        .mode("/etc/motd", 0o640)
        .owner("/etc/motd", 7, 42);
    let mut owner = one(resource, node);
    let planned = owner.converge();
    let change = format!("{:?}", planned.change("/etc/motd").unwrap().action);
    assert!(
        change.contains("content: None") && change.contains("uid: Some(1000)"),
        "{change}"
    );
    assert!(change.contains("mode: None"), "{change}");
}

#[test]
fn leaves_alone_what_is_no_file() {
    let resource = json!({"file": {"path": "/etc/motd", "content": "Hello\n"}});
    let cases = [
        (etc().directory("/etc/motd"), "it is a folder, not a file"),
        (
            etc().device("/etc/motd"),
            "it is a device, a socket or a pipe, not a file",
        ),
        (
            etc().link("/etc/motd", "/run/motd"),
            "it is a symbolic link, not a file",
        ),
        (
            etc().unreadable("/etc/motd", 5),
            "cannot be read: the disk gave an error",
        ),
        (
            etc().unreadable("/etc/motd", 13),
            "cannot be read: a link on its way leads out of what is granted",
        ),
        (
            etc().unreadable("/etc/motd", 95),
            "cannot be read: error 95",
        ),
    ];
    for (node, message) in cases {
        let found = one(resource.clone(), node).verdict();
        assert_eq!(found.0, Verdict::Error);
        assert!(found.1.starts_with(message), "{}", found.1);
    }
    let long = etc().file("/etc/motd", "x".repeat((4 << 20) + 1));
    one(resource, long.clone()).converge();
    let line = json!({"line": {"path": "/etc/motd", "line": "x"}});
    assert_eq!(one(line, long).verdict().1, "is longer than 4 MiB");
}

#[test]
fn removes_a_file() {
    let resource = json!({"file": {"path": "/etc/motd", "state": "absent"}});
    let mut there = one(resource.clone(), etc().link("/etc/motd", "x"));
    assert_eq!(there.converge().ids(), ["/etc/motd"]);
    assert_eq!(one(resource.clone(), etc()).verdict().0, Verdict::Pass);
    assert_eq!(
        one(resource, etc().directory("/etc/motd")).verdict().0,
        Verdict::Error
    );
}

#[test]
fn fills_in_templates() {
    let config = json!({
        "vars": {"banner": "Welcome", "zones": ["a", "b"]},
        "resources": [{"id": "r", "file": {"path": "/etc/motd", "template":
            "{{ vars.banner }} to {{ node.name }} ({{ os.id }}, {{ cpus * 2 }} threads)\n{% for zone in vars.zones %}\n- {{ zone }}\n{% endfor %}\n{% if labels[\"example.com/role\"] == \"x\" %}\nrole x\n{% endif %}\n"}}]
    });
    let node = etc()
        .fact("node.name", "n1")
        .fact("os.id", "debian")
        .fact("cpus", "4")
        .fact("labels.example.com/role", "x");
    let mut filled = test(config.clone(), node);
    filled.converge();
    assert_eq!(
        filled.node.text("/etc/motd"),
        Some("Welcome to n1 (debian, 8 threads)\n- a\n- b\nrole x\n")
    );
    // What is not there is an error, not an empty string.
    let found = test(config, etc().fact("node.name", "n1")).verdict();
    assert_eq!(found.0, Verdict::Error);
    assert_eq!(found.1, "the template: `os.id` is undefined (line 1)");
}

#[test]
fn a_template_ends_as_it_is_written() {
    for (template, text) in [
        ("{{ 1 + 1 }}\n", "2\n"),
        ("{{ 1 + 1 }}", "2"),
        ("<{{ '&' }}>", "<&>"),
    ] {
        let mut filled = one(
            json!({"file": {"path": "/etc/x", "template": template}}),
            etc(),
        );
        filled.converge();
        assert_eq!(filled.node.text("/etc/x"), Some(text));
    }
}

#[test]
fn a_template_that_goes_on_for_ever_ends() {
    let resource = json!({"file": {"path": "/etc/x", "template":
        "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}"}});
    let (verdict, message) = one(resource, etc()).verdict();
    assert_eq!(verdict, Verdict::Error);
    assert!(message.contains("fuel"), "{message}");
}

#[test]
fn secrets_are_not_told_of() {
    let config = json!({"resources": [
        {"id": "token", "file": {"path": "/etc/token", "content": "s3cret\n", "secret": true}},
        {"id": "line", "line": {"path": "/etc/token", "line": "m0re"}},
        {"id": "key", "setting": {"path": "/etc/key", "format": "ini", "set": {"a": "s3cret"}, "secret": true}},
    ]});
    let node = etc()
        .file("/etc/token", "0ld\n")
        .file("/etc/key", "a=0ld\n");
    let mut secret = test(config, node);
    let planned = secret.plan();
    for id in ["/etc/token", "/etc/key"] {
        let change = planned.change(id).unwrap();
        assert!(change.secret, "{id}");
        assert_eq!(change.reason, "its content differs");
    }
    for rule in ["token", "line", "key"] {
        assert_eq!(planned.message(rule), "its content differs");
    }
    secret.converge();
    assert_eq!(secret.node.text("/etc/token"), Some("s3cret\nm0re\n"));
}

#[test]
fn edits_of_one_file_become_one_change() {
    let config = json!({"resources": [
        {"id": "second", "dependsOn": ["first"], "line": {"path": "/etc/x", "line": "2"}},
        {"id": "first", "line": {"path": "/etc/x", "line": "1", "ifMissing": "create"}},
        {"id": "there", "line": {"path": "/etc/x", "line": "0"}},
        {"id": "told", "checkOnly": true, "line": {"path": "/etc/x", "line": "never"}},
        {"id": "mode", "permissions": {"path": "/etc/x", "mode": "0600"}},
    ]});
    let mut there = test(config.clone(), etc().file("/etc/x", "0\n"));
    let planned = there.plan();
    assert_eq!(planned.ids(), ["/etc/x"]);
    assert_eq!(planned.verdict("first"), Some(Verdict::Fail));
    assert_eq!(planned.verdict("there"), Some(Verdict::Pass));
    assert_eq!(planned.verdict("told"), Some(Verdict::Fail));
    let rule = planned.change("/etc/x").unwrap().rule.unwrap();
    assert_eq!(planned.rules()[rule as usize].id, "first");
    there.node.apply(&planned).unwrap();
    assert_eq!(there.node.text("/etc/x"), Some("0\n1\n2\n"));
    assert_eq!(there.node.permissions("/etc/x"), Some((0o600, 0, 0)));
    let again = there.plan();
    assert!(again.is_empty());
    assert_eq!(again.verdict("told"), Some(Verdict::Fail));
}

#[test]
fn a_part_that_is_wrong_leaves_the_others_unharmed() {
    let config = json!({"resources": [
        {"id": "good", "setting": {"path": "/etc/x", "format": "ini", "set": {"a": 1}}},
        {"id": "bad", "setting": {"path": "/etc/x", "format": "ini", "set": {"b": 1}}},
        {"id": "unknown", "permissions": {"path": "/etc/x", "owner": "nobody-knows", "mode": "0600"}},
        {"id": "missing", "line": {"path": "/etc/none", "line": "x"}},
        {"id": "after", "dependsOn": ["bad"], "directory": {"path": "/etc/after"}},
        {"id": "later", "dependsOn": ["after"], "directory": {"path": "/etc/later"}},
        {"id": "free", "directory": {"path": "/etc/free"}},
    ]});
    let mut mixed = test(config, etc().file("/etc/x", "a=0\nb=1 \\\nc=2\n"));
    let planned = mixed.plan();
    assert_eq!(planned.ids(), ["/etc/x", "/etc/free"]);
    mixed.node.apply(&planned).unwrap();
    assert_eq!(mixed.node.text("/etc/x"), Some("a=1\nb=1 \\\nc=2\n"));
    assert_eq!(mixed.node.permissions("/etc/x"), Some((0o644, 0, 0)));
    for (rule, message) in [
        (
            "bad",
            "`b` goes on in the line below, which cannot be edited safely",
        ),
        ("unknown", "the node has no user `nobody-knows`"),
        ("missing", "there is no such file"),
        ("after", "depends on `bad`, which is in error"),
        ("later", "depends on `after`, which is in error"),
    ] {
        assert_eq!(planned.verdict(rule), Some(Verdict::Error), "{rule}");
        assert_eq!(planned.message(rule), message);
    }
}

#[test]
fn a_file_is_not_made_for_an_owner_who_is_unknown() {
    let config = json!({"resources": [
        {"id": "secret", "file": {"path": "/etc/x", "content": "s3cret", "mode": "0600", "owner": "nobody-knows"}},
        {"id": "line", "line": {"path": "/etc/x", "line": "1", "ifMissing": "create"}},
    ]});
    let mut secret = test(config, etc());
    let planned = secret.plan();
    assert_eq!(planned.verdict("secret"), Some(Verdict::Error));
    secret.node.apply(&planned).unwrap();
    assert_eq!(secret.node.text("/etc/x"), Some("1\n"));
}

#[test]
fn a_rule_that_another_undoes_is_in_error() {
    let config = json!({"resources": [
        {"id": "put", "line": {"path": "/etc/x", "line": "a=1"}},
        {"id": "take", "line": {"path": "/etc/x", "match": "^a", "state": "absent"}},
    ]});
    let planned = test(config, etc().file("/etc/x", "b\n")).plan();
    assert!(planned.is_empty());
    assert_eq!(
        planned.message("put"),
        "another rule about the file undoes it"
    );
    assert_eq!(planned.verdict("take"), Some(Verdict::Pass));
}

#[test]
fn a_file_in_disorder_is_written_anew() {
    let config = json!({"resources": [
        {"id": "whole", "file": {"path": "/etc/x", "content": "a: 1\n"}},
        {"id": "key", "setting": {"path": "/etc/x", "format": "yaml", "set": {"b": 2}}},
    ]});
    let mut disorder = test(config, etc().file("/etc/x", "a: [\n"));
    disorder.converge();
    assert_eq!(disorder.node.text("/etc/x"), Some("a: 1\nb: 2\n"));
}

#[test]
fn what_is_no_text_is_not_edited() {
    let resource = json!({"line": {"path": "/etc/x", "line": "x"}});
    let found = one(resource.clone(), etc().file("/etc/x", b"\xff\xfe")).verdict();
    assert_eq!(found, (Verdict::Error, "is not UTF-8 text".to_owned()));
    let found = one(resource, etc().file("/etc/x", b"a\0b")).verdict();
    assert_eq!(found.0, Verdict::Error);
}

#[test]
fn a_missing_file_is_made_or_passed_over() {
    let setting = |if_missing: &str| json!({"setting": {"path": "/etc/x.yaml", "format": "yaml", "set": {"a.b": 1}, "ifMissing": if_missing}});
    assert_eq!(one(setting("error"), etc()).verdict().0, Verdict::Error);
    assert_eq!(
        one(setting("notApplicable"), etc()).verdict().0,
        Verdict::NotApplicable
    );
    let mut made = one(setting("create"), etc());
    made.converge();
    assert_eq!(made.node.text("/etc/x.yaml"), Some("a:\n  b: 1\n"));
}
