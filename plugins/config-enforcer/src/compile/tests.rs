//! What is refused without a node.

use bulkhead_sdk::testing::Harness;
use serde_json::{Value, json};

use crate::ConfigEnforcer;

fn refused(config: Value) -> (String, String) {
    let error = Harness::<ConfigEnforcer>::new(&config.to_string()).err();
    let error = error.unwrap_or_else(|| panic!("accepted: {config}"));
    (error.field().to_owned(), error.message().to_owned())
}

/// The field and a part of the message.
fn check(config: Value, field: &str, message: &str) {
    let (found_field, found) = refused(config);
    assert_eq!(found_field, field, "{found}");
    assert!(found.contains(message), "{found}");
}

fn resources(resources: Value) -> Value {
    json!({ "resources": resources })
}

#[test]
fn names_the_field_that_is_wrong() {
    let one =
        |resource: Value| resources(json!([{"id": "ok", "directory": {"path": "/ok"}}, resource]));
    let cases = [
        (
            json!({"id": "a", "file": {"path": "/a", "content": "", "mode": "0999"}}),
            "resources[1].file.mode",
            "is no mode",
        ),
        (
            json!({"id": "a", "file": {"path": "/a", "content": "", "mode": 420}}),
            "resources[1].file.mode",
            "in quotes",
        ),
        (
            json!({"id": "a", "file": {"path": "a", "content": ""}}),
            "resources[1].file.path",
            "does not begin with `/`",
        ),
        (
            json!({"id": "a", "file": {"path": "/a/../b", "content": ""}}),
            "resources[1].file.path",
            "has an empty part",
        ),
        (
            json!({"id": "a", "file": {"path": "/a*", "content": ""}}),
            "resources[1].file.path",
            "is a glob",
        ),
        (
            json!({"id": "a", "file": {"path": "/a", "content": "", "template": ""}}),
            "resources[1].file",
            "either `content` or `template`",
        ),
        (
            json!({"id": "a", "file": {"path": "/a", "state": "absent", "mode": "0600"}}),
            "resources[1].file",
            "nothing else to say",
        ),
        (
            json!({"id": "a", "file": {"path": "/a", "template": "{{ x }}"}}),
            "resources[1].file.template",
            "there is no `x`",
        ),
        (
            json!({"id": "a", "file": {"path": "/a", "template": "{{ vars.x }}"}}),
            "resources[1].file.template",
            "there is no `vars.x`",
        ),
        (
            json!({"id": "a", "file": {"path": "/a", "template": "{{ os.id"}}),
            "resources[1].file.template",
            "syntax error",
        ),
        (
            json!({"id": "a", "file": {"path": "/a", "contents": ""}}),
            "resources[1].file.contents",
            "unknown field",
        ),
        (
            json!({"id": "a", "when": "os.id ==", "directory": {"path": "/a"}}),
            "resources[1].when",
            "syntax error",
        ),
        (
            json!({"id": "a", "when": "oss.id == 'x'", "directory": {"path": "/a"}}),
            "resources[1].when",
            "there is no `oss`",
        ),
        (
            json!({"id": "a", "when": "vars.x", "directory": {"path": "/a"}}),
            "resources[1].when",
            "there is no `vars.x`",
        ),
        (
            json!({"id": "a", "when": "true %}{% if true", "directory": {"path": "/a"}}),
            "resources[1].when",
            "syntax error",
        ),
        (
            json!({"id": "a", "dependsOn": ["ok", "b"], "directory": {"path": "/a"}}),
            "resources[1].dependsOn[1]",
            "no resource \"b\"",
        ),
        (
            json!({"id": "a", "dependsOn": ["a"], "directory": {"path": "/a"}}),
            "resources[1].dependsOn[0]",
            "itself",
        ),
        (
            json!({"id": "a", "notify": ["h"], "directory": {"path": "/a"}}),
            "resources[1].notify[0]",
            "no handler \"h\"",
        ),
        (
            json!({"id": "ok", "directory": {"path": "/a"}}),
            "resources[1].id",
            "another resource",
        ),
        (
            json!({"id": "", "directory": {"path": "/a"}}),
            "resources[1].id",
            "is empty",
        ),
        (
            json!({"id": "a\n", "directory": {"path": "/a"}}),
            "resources[1].id",
            "control characters",
        ),
        (json!({"id": "a"}), "resources[1]", "exactly one of"),
        (
            json!({"id": "a", "directory": {"path": "/a"}, "symlink": {"path": "/b", "target": "c"}}),
            "resources[1]",
            "exactly one of",
        ),
        (
            json!({"id": "a", "title": "x".repeat(257), "directory": {"path": "/a"}}),
            "resources[1].title",
            "at most 256",
        ),
        (
            json!({"id": "a", "rationale": "x".repeat(2049), "directory": {"path": "/a"}}),
            "resources[1].rationale",
            "longer than 2048",
        ),
        (
            json!({"id": "a", "line": {"path": "/a", "line": "x", "match": "("}}),
            "resources[1].line.match",
            "no regular expression",
        ),
        (
            json!({"id": "a", "line": {"path": "/a", "line": "x", "state": "absent", "ifMissing": "create"}}),
            "resources[1].line.ifMissing",
            "not made",
        ),
        (
            json!({"id": "a", "setting": {"path": "/a", "format": "yaml", "set": {"a": {}}}}),
            "resources[1].setting.set.a",
            "one by one",
        ),
        (
            json!({"id": "a", "setting": {"path": "/a", "format": "toml", "set": {"a": 1}}}),
            "resources[1].setting.format",
            "unknown variant",
        ),
        (
            json!({"id": "a", "permissions": {"path": "/a"}}),
            "resources[1].permissions",
            "at least one",
        ),
        (
            json!({"id": "a", "permissions": {"path": "/a", "mode": "0600", "maxMode": "0644"}}),
            "resources[1].permissions",
            "either",
        ),
        (
            json!({"id": "a", "absent": {"path": "/etc"}}),
            "resources[1].absent.path",
            "below the root",
        ),
        (
            json!({"id": "a", "absent": {"path": "/*/x"}}),
            "resources[1].absent.path",
            "below the root",
        ),
        (
            json!({"id": "a", "sysctl": {"name": "forward", "value": 1}}),
            "resources[1].sysctl.name",
            "no name",
        ),
        (
            json!({"id": "a", "sysctl": {"name": "a.b", "value": 1, "now": false, "persist": false}}),
            "resources[1].sysctl",
            "nothing to do",
        ),
        (
            json!({"id": "a", "kernelModule": {"name": "a/b", "state": "loaded"}}),
            "resources[1].kernelModule.name",
            "no name",
        ),
        (
            json!({"id": "a", "unit": {"name": "ssh", "running": true}}),
            "resources[1].unit.name",
            "no full name",
        ),
        (
            json!({"id": "a", "unit": {"name": "ssh.service"}}),
            "resources[1].unit",
            "at least one",
        ),
        (
            json!({"id": "a", "unit": {"name": "ssh.service", "masked": true, "running": true}}),
            "resources[1].unit",
            "masked unit",
        ),
        (
            json!({"id": "a", "check": {"path": "/a"}}),
            "resources[1].check",
            "`someLine` or `noLine`",
        ),
        (
            json!({"id": "a", "check": {"path": "/a", "someLine": "x", "except": "y"}}),
            "resources[1].check.except",
            "is missing",
        ),
    ];
    for (resource, field, message) in cases {
        check(one(resource), field, message);
    }
}

#[test]
fn refuses_handlers_that_cannot_be() {
    let handlers = |it: Value| json!({ "handlers": it });
    check(
        handlers(json!([{"id": "h", "unit": "ssh"}])),
        "handlers[0].unit",
        "no full name",
    );
    check(
        handlers(json!([{"id": "h", "unit": []}])),
        "handlers[0].unit",
        "names no unit",
    );
    let twice = json!([{"id": "h", "unit": "a.service"}, {"id": "h", "unit": "b.service"}]);
    check(handlers(twice), "handlers[1].id", "another handler");
    let check_notifies = json!({
        "handlers": [{"id": "h", "unit": "a.service"}],
        "resources": [{"id": "a", "notify": ["h"], "check": {"path": "/a", "someLine": "x"}}]
    });
    check(check_notifies, "resources[0].notify", "notifies nobody");
}

#[test]
fn refuses_contradictions() {
    let pairs = [
        (
            json!({"file": {"path": "/a", "content": "1"}}),
            json!({"file": {"path": "/a", "content": "2"}}),
            "another content",
        ),
        (
            json!({"file": {"path": "/a", "content": "1"}}),
            json!({"file": {"path": "/a", "state": "absent"}}),
            "to be there",
        ),
        (
            json!({"file": {"path": "/a", "content": "1", "mode": "0600"}}),
            json!({"permissions": {"path": "/a", "mode": "0644"}}),
            "another one in each",
        ),
        (
            json!({"file": {"path": "/a", "content": "1", "mode": "0644"}}),
            json!({"permissions": {"path": "/a", "maxMode": "0600"}}),
            "another one in each",
        ),
        (
            json!({"file": {"path": "/a", "state": "absent"}}),
            json!({"line": {"path": "/a", "line": "x"}}),
            "one removes the file",
        ),
        (
            json!({"file": {"path": "/a", "content": "1"}}),
            json!({"directory": {"path": "/a"}}),
            "a file in one, a folder in the other",
        ),
        (
            json!({"symlink": {"path": "/a", "target": "b"}}),
            json!({"symlink": {"path": "/a", "target": "c"}}),
            "another target",
        ),
        (
            json!({"symlink": {"path": "/a", "target": "b"}}),
            json!({"permissions": {"path": "/a", "mode": "0600"}}),
            "no permissions of its own",
        ),
        (
            json!({"line": {"path": "/a", "line": "x"}}),
            json!({"line": {"path": "/a", "line": "x", "state": "absent"}}),
            "the line \"x\"",
        ),
        (
            json!({"line": {"path": "/a", "line": "x=1", "match": "^x"}}),
            json!({"line": {"path": "/a", "line": "x=2", "match": "^x"}}),
            "becomes another line",
        ),
        (
            json!({"setting": {"path": "/a", "format": "sshd", "set": {"Port": 1}}}),
            json!({"setting": {"path": "/a", "format": "sshd", "set": {"port": 2}}}),
            "`port` has another value",
        ),
        (
            json!({"setting": {"path": "/a", "format": "ini", "set": {"k": 1}}}),
            json!({"setting": {"path": "/a", "format": "ini", "unset": ["k"]}}),
            "`k` has another value",
        ),
        (
            json!({"setting": {"path": "/a", "format": "yaml", "set": {"k": 1}}}),
            json!({"setting": {"path": "/a", "format": "yaml", "set": {"k.l": 1}}}),
            "same key",
        ),
        (
            json!({"setting": {"path": "/a", "format": "yaml", "set": {"k": 1}}}),
            json!({"setting": {"path": "/a", "format": "ini", "set": {"l": 1}}}),
            "another format",
        ),
        (
            json!({"sysctl": {"name": "a.b", "value": 1}}),
            json!({"sysctl": {"name": "a/b", "value": 2}}),
            "another value",
        ),
        (
            json!({"kernelModule": {"name": "a-b", "state": "loaded"}}),
            json!({"kernelModule": {"name": "a_b", "state": "blacklisted"}}),
            "never does",
        ),
        (
            json!({"unit": {"name": "a.service", "running": true}}),
            json!({"unit": {"name": "a.service", "masked": true}}),
            "another state",
        ),
    ];
    for (mut one, mut other, message) in pairs {
        (one["id"], other["id"]) = ("one".into(), "other".into());
        check(resources(json!([one, other])), "resources[1]", message);
        check(
            resources(json!([other, one])),
            "resources[1]",
            "contradicts",
        );
        // Conditions may keep them apart.
        other["when"] = "os.id == 'debian'".into();
        Harness::<ConfigEnforcer>::new(&resources(json!([one, other])).to_string()).unwrap();
    }
}

#[test]
fn names_are_taken_as_the_host_takes_them() {
    let agreeing = json!([
        {"id": "a", "sysctl": {"name": "net/ipv4/conf/eth0.1/forwarding", "value": 1}},
        {"id": "b", "sysctl": {"name": "net.ipv4.conf.eth0/1.forwarding", "value": 1}},
        {"id": "c", "unit": {"name": "a@b\\x2dc.timer", "enabled": true}},
    ]);
    Harness::<ConfigEnforcer>::new(&resources(agreeing).to_string()).unwrap();
    let same = json!([
        {"id": "a", "sysctl": {"name": "net/ipv4/conf/eth0.1/forwarding", "value": 1}},
        {"id": "b", "sysctl": {"name": "net.ipv4.conf.eth0/1.forwarding", "value": 2}},
    ]);
    check(resources(same), "resources[1]", "another value");
    for name in ["forward", ".a.b", "a..b", "a.b*", "a.b c", "/a/b"] {
        let config = json!([{"id": "a", "sysctl": {"name": name, "value": 1}}]);
        check(
            resources(config),
            "resources[0].sysctl.name",
            "no name of a kernel setting",
        );
    }
    for name in [
        "ssh",
        ".service",
        "multi-user.target",
        "a b.service",
        "-a.service",
    ] {
        let config = json!([{"id": "a", "unit": {"name": name, "running": true}}]);
        check(
            resources(config),
            "resources[0].unit.name",
            "no full name of a unit",
        );
    }
}

#[test]
fn accepts_what_agrees() {
    let agreeing = json!([
        {"id": "a", "file": {"path": "/a", "content": "1", "mode": "0600"}},
        {"id": "b", "permissions": {"path": "/a", "maxMode": "0640", "owner": "root"}},
        {"id": "c", "line": {"path": "/a", "line": "x"}},
        {"id": "d", "line": {"path": "/a", "line": "x"}},
        {"id": "e", "setting": {"path": "/b", "format": "ini", "section": "s", "set": {"k": 1}}},
        {"id": "f", "setting": {"path": "/b", "format": "ini", "section": "t", "set": {"k": 2}}},
        {"id": "g", "unit": {"name": "a.service", "running": false}},
        {"id": "h", "unit": {"name": "a.service", "masked": true, "enabled": false}},
    ]);
    Harness::<ConfigEnforcer>::new(&resources(agreeing).to_string()).unwrap();
}

#[test]
fn refuses_cycles() {
    let direct = json!([
        {"id": "a", "dependsOn": ["b"], "directory": {"path": "/a"}},
        {"id": "b", "dependsOn": ["c"], "directory": {"path": "/b"}},
        {"id": "c", "dependsOn": ["a"], "directory": {"path": "/c"}},
        {"id": "d", "dependsOn": ["a"], "directory": {"path": "/d"}},
    ]);
    let (field, message) = refused(resources(direct));
    assert!(field.ends_with(".dependsOn"), "{field}");
    assert!(
        message.contains("`a` waits for `b` waits for `c` waits for `a`"),
        "{message}"
    );
    // A folder is made before what is in it, whatever is said.
    let implied = json!([
        {"id": "inside", "file": {"path": "/a/b", "content": ""}},
        {"id": "folder", "dependsOn": ["inside"], "directory": {"path": "/a"}},
    ]);
    assert!(
        refused(resources(implied))
            .1
            .contains("they wait for each other")
    );
    // Two lines of one file are written at once.
    let merged = json!([
        {"id": "a", "line": {"path": "/a", "line": "1"}},
        {"id": "b", "dependsOn": ["a"], "line": {"path": "/b", "line": "1"}},
        {"id": "c", "dependsOn": ["b"], "line": {"path": "/a", "line": "2"}},
    ]);
    assert!(refused(resources(merged)).1.contains("`a` with `c`"));
}

#[test]
fn the_schema_is_small_enough_and_knows_every_kind() {
    let schema = Harness::<ConfigEnforcer>::config_schema();
    assert!(schema.len() < 256 << 10, "{}", schema.len());
    for kind in [
        "kernelModule",
        "insertAfter",
        "maxMode",
        "ifMissing",
        "checkOnly",
    ] {
        assert!(schema.contains(kind), "{kind}");
    }
}
