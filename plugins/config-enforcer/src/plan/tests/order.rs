//! Conditions, and what comes after what.

use bulkhead_sdk::testing::Verdict;
use serde_json::json;

use super::{etc, one, test};

#[test]
fn conditions_decide_what_applies() {
    let resource = |when: &str| json!({"when": when, "directory": {"path": "/etc/d"}});
    let node = || {
        etc()
            .fact("os.id", "debian")
            .fact("cpus", "16")
            .fact("labels.role", "worker")
    };
    for holds in [
        "os.id == 'debian'",
        "cpus > 8 and labels.role == 'worker'",
        "labels.gpu != 'true'",
        "not labels.gpu",
        "os.id in ['debian', 'ubuntu']",
    ] {
        one(resource(holds), node()).converge();
    }
    for fails in [
        "os.id == 'rhel'",
        "labels.gpu == 'true'",
        "labels.gpu",
        "cpus < 8",
    ] {
        let found = one(resource(fails), node()).verdict();
        assert_eq!(
            found,
            (Verdict::NotApplicable, "`when` does not hold".to_owned()),
            "{fails}"
        );
    }
    // A fact that is not known: false, whatever is asked about it.
    let found = one(resource("kernel.release != 'x'"), node()).verdict();
    assert_eq!(
        found,
        (
            Verdict::NotApplicable,
            "the node has no fact `kernel.release`".to_owned()
        )
    );
    let found = one(resource("os.id == 'debian'"), etc()).verdict();
    assert_eq!(
        found.1,
        "`os.id` is not known without the grant `nodeFacts`"
    );
    let found = one(resource("os.id + 1 > 2"), node()).verdict();
    assert_eq!(found.0, Verdict::Error, "{}", found.1);
}

#[test]
fn conditions_that_both_hold_do_not_let_a_contradiction_through() {
    let config = json!({"resources": [
        {"id": "a", "when": "os.id == 'debian'", "file": {"path": "/etc/x", "content": "a"}},
        {"id": "b", "when": "arch == 'x86_64'", "file": {"path": "/etc/x", "content": "b"}},
    ]});
    let mut both = test(
        config.clone(),
        etc().fact("os.id", "debian").fact("arch", "x86_64"),
    );
    let planned = both.plan();
    assert!(planned.is_empty());
    assert_eq!(planned.verdict("a"), Some(Verdict::Error));
    assert!(planned.message("b").starts_with("contradicts `a`"));
    let mut one = test(
        config,
        etc().fact("os.id", "debian").fact("arch", "aarch64"),
    );
    one.converge();
    assert_eq!(one.node.text("/etc/x"), Some("a"));
}

#[test]
fn folders_come_before_what_is_in_them() {
    let config = json!({"resources": [
        {"id": "file", "file": {"path": "/etc/a/b/c", "content": "c"}},
        {"id": "inner", "directory": {"path": "/etc/a/b", "mode": "0700", "owner": "app"}},
        {"id": "outer", "directory": {"path": "/etc/a"}},
        {"id": "link", "symlink": {"path": "/etc/a/l", "target": "b/c"}},
    ]});
    let mut new = test(config.clone(), etc());
    let planned = new.converge();
    assert_eq!(planned.change("/etc/a/b/c").unwrap().after.len(), 2);
    assert_eq!(new.node.permissions("/etc/a/b"), Some((0o700, 1000, 0)));
    assert_eq!(new.node.target("/etc/a/l"), Some("b/c"));
    let mut other = test(
        config.clone(),
        etc().file("/etc/a/b/c", "c").link("/etc/a/l", "x"),
    );
    other.converge();
    assert_eq!(other.node.permissions("/etc/a/b"), Some((0o700, 1000, 0)));
    let mut wrong = test(config, etc().file("/etc/a", ""));
    assert_eq!(
        wrong.plan().message("outer"),
        "it is a file; it is not replaced by a folder"
    );
}

#[test]
fn who_comes_after_a_step_without_changes_waits_for_those_before_it() {
    let config = json!({"resources": [
        {"id": "a", "directory": {"path": "/etc/a"}},
        {"id": "b", "dependsOn": ["a"], "directory": {"path": "/etc/b"}},
        {"id": "c", "dependsOn": ["b"], "directory": {"path": "/etc/c"}},
    ]});
    let planned = test(config, etc().directory("/etc/b")).plan();
    assert_eq!(planned.change("/etc/c").unwrap().after, ["/etc/a"]);
}
