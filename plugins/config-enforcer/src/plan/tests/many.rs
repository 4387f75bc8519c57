//! What is said of many paths.

use bulkhead_sdk::testing::Verdict;
use serde_json::json;

use super::{etc, one, test};

#[test]
fn a_plan_has_no_more_changes_than_fit_in() {
    let resource = json!({"permissions": {"path": "/etc/many/*", "mode": "0600"}});
    let mut node = etc();
    for index in 0..5000 {
        node = node.file(&format!("/etc/many/{index}"), "");
    }
    let mut many = one(resource, node);
    let planned = many.plan();
    assert_eq!(planned.ids().len(), 4096);
    many.node.apply(&planned).unwrap();
    assert_eq!(many.converge().ids().len(), 5000 - 4096);
}

#[test]
fn permissions_by_glob() {
    let resource = json!({"permissions": {"path": "/etc/cron.d/*", "maxMode": "0640", "owner": "root", "group": "shadow"}});
    let node = etc()
        .file("/etc/cron.d/a", "")
        .file("/etc/cron.d/b", "")
        .owner("/etc/cron.d/b", 0, 42)
        .mode("/etc/cron.d/b", 0o600)
        .directory("/etc/cron.d/d")
        .link("/etc/cron.d/l", "a");
    let mut some = one(resource.clone(), node);
    let planned = some.converge();
    assert_eq!(planned.ids(), ["r /etc/cron.d/a", "r /etc/cron.d/d"]);
    assert_eq!(some.node.permissions("/etc/cron.d/a"), Some((0o640, 0, 42)));
    assert_eq!(some.node.permissions("/etc/cron.d/b"), Some((0o600, 0, 42)));
    assert_eq!(one(resource, etc()).verdict().0, Verdict::NotApplicable);
}

#[test]
fn what_is_said_of_one_path_comes_before_what_is_said_of_many() {
    let config = json!({"resources": [
        {"id": "one", "file": {"path": "/etc/d/x", "content": "x", "mode": "0755"}},
        {"id": "many", "permissions": {"path": "/etc/d/*", "mode": "0600"}},
        {"id": "more", "permissions": {"path": "/etc/*/y", "mode": "0644"}},
    ]});
    let node = etc()
        .file("/etc/d/x", "")
        .file("/etc/d/y", "")
        .file("/etc/d/z", "");
    let mut mixed = test(config, node);
    let planned = mixed.plan();
    assert_eq!(
        planned.ids(),
        ["/etc/d/x", "many /etc/d/y", "many /etc/d/z"]
    );
    assert_eq!(
        planned.message("more"),
        "/etc/d/y: another rule wants another mode"
    );
}

#[test]
fn removes_children_first() {
    let resource = json!({"absent": {"path": "/opt/old*", "recursive": true}});
    let node = etc()
        .file("/opt/old1/a/b/c", "")
        .file("/opt/old1/d", "")
        .file("/opt/old2", "")
        .file("/opt/new", "");
    let mut tree = one(resource.clone(), node);
    let planned = tree.converge();
    assert_eq!(planned.ids().len(), 6);
    assert_eq!(
        planned.message("r"),
        "there: /opt/old2; /opt/old1; /opt/old1/d; /opt/old1/a; /opt/old1/a/b; and 1 more"
    );
    assert!(tree.node.text("/opt/new").is_some());
    assert_eq!(one(resource, etc()).verdict().0, Verdict::Pass);
}

#[test]
fn looks_out_for_lines() {
    let resource = json!({"check": {"path": "/etc/sudoers", "also": ["/etc/sudoers.d/*"], "someLine": r"^Defaults\s+use_pty", "noLine": "NOPASSWD", "except": "^#"}});
    let node = || etc().file("/etc/sudoers", "Defaults use_pty\n# NOPASSWD\n");
    assert_eq!(one(resource.clone(), node()).verdict().0, Verdict::Pass);
    let found = one(
        resource.clone(),
        node().file("/etc/sudoers.d/x", "a\nx NOPASSWD: ALL\n"),
    )
    .verdict();
    assert_eq!(
        found,
        (
            Verdict::Fail,
            "should not be there: line 2 of /etc/sudoers.d/x".to_owned()
        )
    );
    let found = one(resource.clone(), etc().file("/etc/sudoers.d/x", "")).verdict();
    assert_eq!(found, (Verdict::Fail, "no line says so".to_owned()));
    assert_eq!(one(resource, etc()).verdict().0, Verdict::NotApplicable);
}

#[test]
fn long_paths_have_short_ids() {
    let path = format!("/etc/{}", "x".repeat(300));
    let mut long = one(json!({"file": {"path": path, "content": ""}}), etc());
    let planned = long.converge();
    assert_eq!(planned.ids().len(), 1);
    assert!(planned.ids()[0].len() <= 256);
}
