//! Plans for nodes made up.

use bulkhead_sdk::testing::{Harness, Node, Planned, Verdict};
use serde_json::{Value, json};

use crate::ConfigEnforcer;

struct Test {
    plugin: Harness<ConfigEnforcer>,
    node: Node,
}

fn test(config: Value, node: Node) -> Test {
    let plugin = Harness::new(&config.to_string()).unwrap();
    Test { plugin, node }
}

fn one(resource: Value, node: Node) -> Test {
    let mut resource = resource;
    resource["id"] = "r".into();
    test(json!({ "resources": [resource] }), node)
}

impl Test {
    fn plan(&mut self) -> Planned {
        self.plugin.plan(&self.node).unwrap()
    }

    /// Plans and applies; then nothing is left to do, and the rules hold.
    fn converge(&mut self) -> Planned {
        let planned = self.plan();
        self.node.apply(&planned).unwrap();
        let again = self.plan();
        assert_eq!(again.ids(), Vec::<&str>::new());
        for rule in again.rules() {
            let verdict = again.verdict(&rule.id);
            let held = matches!(verdict, Some(Verdict::Pass | Verdict::NotApplicable));
            assert!(
                held,
                "{}: {verdict:?}: {}",
                rule.id,
                again.message(&rule.id)
            );
        }
        planned
    }

    /// The one rule's verdict and message, on a node where nothing is to be changed.
    fn verdict(&mut self) -> (Verdict, String) {
        let planned = self.plan();
        assert_eq!(planned.ids(), Vec::<&str>::new());
        (
            planned.verdict("r").unwrap(),
            planned.message("r").to_owned(),
        )
    }
}

fn etc() -> Node {
    Node::new()
        .directory("/etc")
        .user("app", 1000)
        .group("shadow", 42)
}

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
        (etc().unreadable("/etc/motd", 5), "cannot be read: error 5"),
    ];
    for (node, message) in cases {
        let found = one(resource.clone(), node).verdict();
        assert_eq!(found, (Verdict::Error, message.to_owned()));
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
    assert!(found.1.contains("undefined"), "{}", found.1);
}

#[test]
fn a_template_that_goes_on_for_ever_ends() {
    let resource = json!({"file": {"path": "/etc/x", "template":
        "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}"}});
    let (verdict, message) = one(resource, etc()).verdict();
    assert_eq!(verdict, Verdict::Error, "{message}");
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
