//! What cannot be done to a node, and what is shown of it.

use super::Node;
use crate::enforcement::{ModuleChange, Outline, Plan, UnitChange};
use crate::testing::Planned;

type Build<'a> = &'a dyn Fn(&mut Plan);

fn apply(node: &mut Node, build: impl FnOnce(&mut Plan)) -> Result<(), String> {
    let mut plan = Plan::default();
    build(&mut plan);
    let outline = Outline::new().into_parts().0;
    let planned = Planned::check(outline, plan.finish().unwrap()).unwrap();
    node.apply(&planned).map_err(|error| error.to_string())
}

#[test]
fn refuses_what_the_kernel_would() {
    let node = Node::new()
        .file("/etc/a", "")
        .link("/etc/l", "a")
        .device("/dev/null");
    let refused = |build: Build<'_>| {
        let mut node = node.clone();
        let why = apply(&mut node, build).unwrap_err();
        assert!(node.done().is_empty());
        why
    };
    let cases: [(Build<'_>, &str); 9] = [
        (
            &|plan| {
                plan.write_file("x", "/no/a", "");
            },
            "x: there is no folder /no",
        ),
        (
            &|plan| {
                plan.write_file("x", "/etc/a/b", "");
            },
            "x: there is no folder /etc/a",
        ),
        (
            &|plan| {
                plan.write_file("x", "/etc", "");
            },
            "x: /etc is no file",
        ),
        (
            &|plan| {
                plan.set_permissions("x", "/etc/b");
            },
            "x: /etc/b is not there",
        ),
        (
            &|plan| {
                plan.make_directory("x", "/etc/a");
            },
            "x: /etc/a is no folder",
        ),
        (
            &|plan| {
                plan.remove("x", "/etc");
            },
            "x: /etc is not empty",
        ),
        (
            &|plan| {
                plan.set_sysctl("x", "a.b", "1", true, true);
            },
            "x: there is no setting a.b",
        ),
        (
            &|plan| {
                plan.change_module("x", "m", ModuleChange::Load);
            },
            "x: there is no module m",
        ),
        (
            &|plan| {
                plan.change_unit("x", "u.service", UnitChange::Start);
            },
            "x: the unit u.service is not-found",
        ),
    ];
    for (build, why) in cases {
        assert_eq!(refused(build), why);
    }
}

#[test]
fn does_what_is_planned_in_order_and_then_the_handlers() {
    let mut node = Node::new()
        .directory("/etc")
        .link("/etc/l", "a")
        .sysctl("net/ipv4/conf/eth0.1/forwarding", "0")
        .unit("u.service", "enabled", "active");
    let applied = apply(&mut node, |plan| {
        plan.change_unit("handler", "u.service", UnitChange::Restart)
            .when_changed(["file"]);
        plan.change_unit("other handler", "u.service", UnitChange::Stop)
            .when_changed(["nothing"]);
        plan.write_file("file", "/etc/d/f", "x")
            .mode(0o600)
            .after("folder");
        plan.make_directory("folder", "/etc/d").uid(7);
        plan.write_file("link", "/etc/l", "no link any more");
        plan.set_sysctl("set", "net.ipv4.conf.eth0/1.forwarding", "1", true, false);
    });
    assert_eq!(applied, Ok(()));
    assert_eq!(node.done(), ["folder", "link", "set", "file", "handler"]);
    assert_eq!(node.permissions("/etc/d/f"), Some((0o600, 0, 0)));
    assert_eq!(node.permissions("/etc/d"), Some((0o755, 7, 0)));
    assert_eq!(node.text("/etc/l"), Some("no link any more"));
    assert_eq!(
        node.setting("net.ipv4.conf.eth0/1.forwarding"),
        (Some("1"), None)
    );
}
