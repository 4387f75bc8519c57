//! Kernel settings, modules, units and handlers.

use bulkhead_sdk::testing::Verdict;
use serde_json::{Value, json};

use super::{Test, etc, one, test};

#[test]
fn sets_kernel_settings_now_and_for_the_next_start() {
    let resource =
        json!({"sysctl": {"name": "net.ipv4.ip_local_port_range", "value": "1024 65535"}});
    let node = || etc().sysctl("net.ipv4.ip_local_port_range", "1024\t65535");
    let mut kept = one(resource.clone(), node());
    let planned = kept.converge();
    assert_eq!(
        planned.message("r"),
        "this plugin does not keep it for the next start"
    );
    assert_eq!(
        kept.node.setting("net.ipv4.ip_local_port_range"),
        (Some("1024\t65535"), Some("1024 65535"))
    );
    let mut now = one(
        json!({"sysctl": {"name": "a.b", "value": false, "persist": false}}),
        etc().sysctl("a.b", "1"),
    );
    now.converge();
    assert_eq!(now.node.setting("a.b"), (Some("false"), None));
    assert_eq!(one(resource, etc()).verdict().0, Verdict::Error);
    let optional = json!({"sysctl": {"name": "a.b", "value": 1, "ifMissing": "notApplicable"}});
    assert_eq!(one(optional, etc()).verdict().0, Verdict::NotApplicable);
}

#[test]
fn loads_and_blacklists_modules() {
    let module = |state: &str| json!({"kernelModule": {"name": "br_netfilter", "state": state}});
    let mut load = one(module("loaded"), etc().module("br_netfilter", false));
    let planned = load.converge();
    assert_eq!(
        planned.ids(),
        [
            "module br_netfilter load",
            "module br_netfilter load at start"
        ]
    );
    assert_eq!(one(module("loaded"), etc()).verdict().0, Verdict::Error);
    let mut never = one(module("blacklisted"), etc().module("br_netfilter", false));
    assert_eq!(never.converge().ids(), ["module br_netfilter blacklist"]);
    assert_eq!(one(module("blacklisted"), etc()).verdict().0, Verdict::Pass);
    // One that is in the kernel stays until the node starts anew.
    let mut loaded = one(module("blacklisted"), etc().module("br_netfilter", true));
    let planned = loaded.plan();
    loaded.node.apply(&planned).unwrap();
    assert_eq!(
        loaded.verdict(),
        (
            Verdict::Fail,
            "it is in the kernel until the node starts anew".to_owned()
        )
    );
}

#[test]
fn brings_units_into_their_state() {
    let unit = |mut unit: Value| {
        unit["name"] = "a.service".into();
        json!({ "unit": unit })
    };
    let node = |file: &str, active: &str| etc().unit("a.service", file, active);
    let ids = |mut it: Test| -> Vec<String> {
        it.converge()
            .ids()
            .into_iter()
            .map(|id| id.replace("unit a.service ", ""))
            .collect()
    };
    let on = unit(json!({"enabled": true, "running": true}));
    assert_eq!(
        ids(one(on.clone(), node("disabled", "inactive"))),
        ["enable", "start"]
    );
    assert_eq!(ids(one(on.clone(), node("enabled", "failed"))), ["start"]);
    assert_eq!(
        one(on.clone(), node("static", "active")).verdict(),
        (Verdict::Pass, "it is static".to_owned())
    );
    assert_eq!(
        one(on.clone(), node("masked", "inactive")).verdict().0,
        Verdict::Error
    );
    assert_eq!(one(on, etc()).verdict().0, Verdict::Error);
    let off = unit(json!({"enabled": false, "running": false, "masked": true}));
    assert_eq!(
        ids(one(off.clone(), node("enabled", "active"))),
        ["stop", "disable", "mask"]
    );
    assert_eq!(ids(one(off, etc())), ["mask"]);
    let again = unit(json!({"enabled": true, "running": true, "masked": false}));
    assert_eq!(
        ids(one(again, node("masked", "inactive"))),
        ["unmask", "enable", "start"]
    );
    let stopped = unit(json!({"running": false}));
    assert_eq!(one(stopped.clone(), etc()).verdict().0, Verdict::Pass);
    let silent = etc().unknown_unit("a.service", "systemd does not answer");
    assert_eq!(
        one(stopped, silent).verdict(),
        (
            Verdict::Error,
            "its state is not known: systemd does not answer".to_owned()
        )
    );
}

#[test]
fn handlers_follow_changes() {
    let config = json!({
        "handlers": [
            {"id": "reload ssh", "unit": ["sshd.service", "ssh.service"], "action": "reload"},
            {"id": "restart other", "unit": "other.service"},
        ],
        "resources": [
            {"id": "running", "unit": {"name": "ssh.service", "running": true}},
            {"id": "port", "notify": ["reload ssh"], "setting": {"path": "/etc/ssh/sshd_config", "format": "sshd", "set": {"Port": 22}}},
            {"id": "motd", "file": {"path": "/etc/motd", "content": ""}},
        ]
    });
    let node = |text: &str| {
        etc()
            .file("/etc/ssh/sshd_config", text)
            .file("/etc/motd", "x")
            .unit("ssh.service", "enabled", "active")
    };
    let mut changed = test(config.clone(), node(""));
    let planned = changed.converge();
    assert_eq!(planned.handlers(), ["handler reload ssh"]);
    assert_eq!(changed.node.done().last().unwrap(), "handler reload ssh");
    // It is in the plan also without a change, or it could not be made up for.
    let mut same = test(config.clone(), node("Port 22\n"));
    let planned = same.converge();
    assert!(planned.handlers().is_empty());
    assert_eq!(
        planned.change("handler reload ssh").unwrap().when_changed,
        ["/etc/ssh/sshd_config"]
    );
    // Nobody is told who does not run; but the unit starts after what it reads is there.
    let stopped = etc()
        .file("/etc/ssh/sshd_config", "")
        .unit("ssh.service", "enabled", "inactive");
    let planned = test(config, stopped).plan();
    assert!(planned.change("handler reload ssh").is_none());
    assert_eq!(
        planned.change("unit ssh.service start").unwrap().after,
        ["/etc/ssh/sshd_config"]
    );
}
