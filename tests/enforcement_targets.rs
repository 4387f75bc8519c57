//! config-enforcer on real targets: a Debian tree at /host, seen from within a pod's root; kernel settings
//! in a network namespace of the test's own; units over a real D-Bus, with `support/systemd1.rs` (which is
//! not systemd) behind it; and the profile for hardening a host.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;
#[path = "support/systemd1.rs"]
#[allow(dead_code, reason = "a module of several tests")]
mod systemd1;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use support::debian::{copy, read_tree};
use support::enforcer::{checked, order, policy, spec, start, text, wait_check};
use support::{Node, config_map, wait_for};
use systemd1::{Systemd1, Unit};

fn get(node: &Node, path: &str) -> Value {
    let (code, body) = node.get(path).unwrap();
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// A program, and its arguments, run by a shell after `script`, in namespaces of its own.
fn wrapper(namespaces: &[&str], script: &str, arguments: &[&Path]) -> Vec<String> {
    let mut wrapper = vec!["unshare".to_owned()];
    wrapper.extend(namespaces.iter().map(|it| (*it).to_owned()));
    wrapper.extend(["sh", "-ec", script, "sh"].map(str::to_owned));
    wrapper.extend(arguments.iter().map(|it| it.display().to_string()));
    wrapper
}

/// In the daemon's network namespace.
fn within(node: &Node, command: &[&str]) -> Output {
    let output = Command::new("nsenter")
        .arg(format!("--net=/proc/{}/ns/net", node.pid()))
        .args(command)
        .output();
    output.unwrap()
}

/// A root of the pod's own, with the programs of this machine in it and the node's at /host.
const POD: &str = r#"
pod="$1" tree="$2" folder="$3" programs="$4"; shift 4
mount -t tmpfs pod "$pod"
mkdir -p "$pod/etc/real" "$pod/host" "$pod/tmp"
echo 'root:x:0:0::/:/bin/sh
app:x:7777:7777::/:/bin/sh' > "$pod/etc/passwd"
for link in bin lib lib64 sbin; do [ ! -L "/$link" ] || cp -P "/$link" "$pod/$link"; done
for path in /usr /lib /lib64 /bin /sbin /proc /dev "$folder" "$programs"; do
    [ -L "$path" ] || [ ! -d "$path" ] || { mkdir -p "$pod$path"; mount --rbind "$path" "$pod$path"; }
done
mount --bind "$tree" "$pod/host"
exec chroot "$pod" "$@"
"#;

#[test]
fn a_pod_changes_the_node_at_host_and_nothing_of_its_own() {
    let mut node = Node::new();
    let (pod, tree) = (node.path("pod"), node.path("tree"));
    fs::create_dir(&pod).unwrap();
    copy(&tree);
    fs::create_dir(tree.join("etc/real")).unwrap();
    fs::create_dir(tree.join("srv/elsewhere")).unwrap();
    // Absolute links mean the node's root, not the daemon's.
    symlink("/etc/real", tree.join("etc/app")).unwrap();
    symlink("/srv/elsewhere", tree.join("etc/away")).unwrap();
    let accounts = tree.join("etc/passwd");
    let text_of = fs::read_to_string(&accounts).unwrap();
    fs::write(&accounts, text_of + "app:x:1234:1234::/:/bin/sh\n").unwrap();
    let before = read_tree(&tree);
    let config = r#"resources:
- {id: motd, file: {path: /etc/motd, content: "of the node\n"}}
- {id: through, file: {path: /etc/app/conf, content: "x\n", owner: app, group: 1234, mode: "0640"}}
- {id: link, symlink: {path: /etc/localtime, target: /usr/share/zoneinfo/Asia/Tokyo}}
- {id: root-login, setting: {path: /etc/ssh/sshd_config, format: sshd, set: {PermitRootLogin: "no"}}}
- {id: astray, file: {path: /etc/away/conf, content: "x\n"}}"#;
    let grants = "changes: {files: [/etc]}";
    node.manifest("conf", &spec(config, grants, "mode: enforce"));
    let programs = Path::new(env!("CARGO_BIN_EXE_bulkhead")).parent().unwrap();
    let folder = node.folder.path().to_owned();
    let arguments = [&*pod, &*tree, &*folder, programs];
    node.wrapper = wrapper(&["--mount", "--propagation", "private"], POD, &arguments);
    start(&mut node, Path::new("/host"));
    let output = wait_check(&node, "conf");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let report = checked(&node, "conf");
    assert_eq!(report["rules"]["pass"], 4, "{report:#}");
    let why = report["outstanding"].to_string() + &report["broken"].to_string();
    assert!(why.contains("/etc/away/conf"), "{why}");

    let read = |path: &str| fs::read_to_string(tree.join(path)).unwrap();
    assert_eq!(read("etc/motd"), "of the node\n");
    assert_eq!(read("etc/real/conf"), "x\n");
    let metadata = tree.join("etc/real/conf").metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (1234, 0o640));
    assert!(read("etc/ssh/sshd_config").contains("\nPermitRootLogin no\nInclude "));
    let zone = fs::read_link(tree.join("etc/localtime")).unwrap();
    assert_eq!(zone, Path::new("/usr/share/zoneinfo/Asia/Tokyo"));
    let after = read_tree(&tree);
    let changed = after.iter().filter(|(path, entry)| {
        let before = before.get(*path);
        !before.is_some_and(|before| before.is_like(entry))
    });
    let changed: Vec<_> = changed.map(|(path, _)| path.to_str().unwrap()).collect();
    assert_eq!(
        changed,
        [
            "etc/localtime",
            "etc/motd",
            "etc/real/conf",
            "etc/ssh/sshd_config"
        ]
    );
    // And nothing of the pod's own root, which is to be seen through the daemon's.
    let own = PathBuf::from(format!("/proc/{}/root", node.pid()));
    assert!(
        own.join("host/etc/motd").exists(),
        "the daemon is in the pod"
    );
    assert!(!own.join("etc/motd").exists());
    assert_eq!(fs::read_dir(own.join("etc/real")).unwrap().count(), 0);
}

const NETWORK: &str = "ip link set lo up; exec \"$@\"";

#[test]
fn a_kernel_setting_is_kept_in_a_network_namespace() {
    let mut node = Node::new();
    let tree = node.path("tree");
    fs::create_dir_all(tree.join("etc/sysctl.d")).unwrap();
    let here = "/proc/sys/net/ipv4/conf/all/send_redirects";
    let before = fs::read_to_string(here).unwrap();
    let config = r#"resources:
- {id: redirects, sysctl: {name: net.ipv4.conf.all.send_redirects, value: 0, now: true, persist: true}}
- {id: ports, sysctl: {name: net.ipv4.ip_local_port_range, value: "20000 30000", now: true, persist: true}}"#;
    let grants = "changes: {sysctls: ['net.ipv4.*']}";
    let enforcement = "mode: enforce, interval: 1s";
    node.manifest("conf", &spec(config, grants, enforcement));
    node.wrapper = wrapper(&["--net"], NETWORK, &[]);
    start(&mut node, &tree);
    let output = wait_check(&node, "conf");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let value = |node: &Node, path: &str| {
        let output = within(node, &["cat", path]);
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(value(&node, here), "0\n");
    let range = "/proc/sys/net/ipv4/ip_local_port_range";
    assert_eq!(value(&node, range), "20000\t30000\n");
    let notes = tree.join("etc/sysctl.d");
    let notes: Vec<PathBuf> = (fs::read_dir(notes).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    let noted = fs::read_to_string(&notes[0]).unwrap();
    for line in [
        "net.ipv4.conf.all.send_redirects = 0",
        "net.ipv4.ip_local_port_range = 20000 30000",
    ] {
        assert!(noted.lines().any(|it| it == line), "{line}\n{noted}");
    }
    // Nobody is told when a setting changes: the periodic look sees it.
    let set = ["sh", "-c", &format!("echo 1 > {here}")];
    assert!(within(&node, &set).status.success());
    wait_for("the setting to be set again", || {
        (value(&node, here) == "0\n").then_some(())
    });
    let history = order(&node, &["history", "conf"]);
    let history = text(&history);
    assert!(history.matches("send_redirects").count() >= 2, "{history}");
    assert_eq!(fs::read_to_string(here).unwrap(), before, "outside of it");
}

fn unit(active: bool, file: &str) -> Unit {
    Unit {
        active,
        file: file.to_owned(),
        ..Unit::default()
    }
}

/// A bus in a tree, where a node has its own, with a service in systemd's place.
fn bus(tree: &Path, units: &[(&str, Unit)]) -> Systemd1 {
    let folder = tree.join("run/dbus");
    fs::create_dir_all(&folder).unwrap();
    let service = Systemd1::start(&folder, units);
    fs::rename(&service.socket, folder.join("system_bus_socket")).unwrap();
    service
}

#[test]
fn units_are_changed_over_a_bus_and_reloaded_when_their_files_change() {
    let mut node = Node::new();
    let tree = node.path("tree");
    fs::create_dir_all(tree.join("etc")).unwrap();
    let units = [
        ("ssh.service", unit(true, "enabled")),
        ("auditd.service", unit(false, "disabled")),
        ("cups.service", unit(true, "enabled")),
    ];
    let systemd = bus(&tree, &units);
    let config = |text: &str| {
        format!(
            r#"handlers:
- {{id: reload ssh, unit: [sshd.service, ssh.service], action: reload}}
resources:
- {{id: conf, notify: [reload ssh], file: {{path: /etc/sshd.conf, content: {text}}}}}
- {{id: motd, notify: [reload ssh], file: {{path: /etc/motd, content: {text}}}}}
- {{id: auditd, unit: {{name: auditd.service, enabled: true, running: true}}}}
- {{id: no-cups, unit: {{name: cups.service, enabled: false, running: false, masked: true}}}}
- {{id: no-avahi, unit: {{name: avahi-daemon.service, enabled: false, running: false}}}}"#
        )
    };
    let grants = "changes: {files: [/etc], units: ['*.service']}";
    let enforcement = "mode: enforce, interval: 1h";
    node.manifest("conf", &spec(&config("one"), grants, enforcement));
    start(&mut node, &tree);
    let output = wait_check(&node, "conf");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let auditd = systemd.unit("auditd.service");
    assert!(auditd.active && auditd.file == "enabled", "{auditd:?}");
    let cups = systemd.unit("cups.service");
    assert!(!cups.active && cups.file == "masked", "{cups:?}");
    let reloads = || {
        let calls = systemd.calls();
        calls
            .iter()
            .filter(|it| *it == "ReloadUnit ssh.service")
            .count()
    };
    assert_eq!(reloads(), 1, "{:?}", systemd.calls());
    let calls = systemd.calls();
    assert_eq!(order(&node, &["check", "conf"]).status.code(), Some(0));
    assert_eq!(systemd.calls(), calls, "nothing to change");
    node.manifest("conf", &spec(&config("two"), grants, enforcement));
    wait_for("the new revision", || (reloads() == 2).then_some(()));
    assert_eq!(order(&node, &["check", "conf"]).status.code(), Some(0));
    assert_eq!(reloads(), 2);
}

/// The grants of the example, which sees all that the profile wants to see.
fn example() -> String {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../deploy/examples/config-enforcer.yaml"
    );
    let text = fs::read_to_string(path).unwrap();
    text.replace("bulkhead-system", "local")
}

#[test]
fn the_profile_tells_of_this_machine_and_changes_nothing() {
    let mut node = Node::new();
    node.raw_manifest("config-enforcer.yaml", &example());
    // It could not change much if it tried.
    let script = "for it in /etc /usr /var; do mount --bind $it $it; mount -o remount,bind,ro $it; done; exec \"$@\"";
    node.wrapper = wrapper(&["--mount", "--propagation", "private"], script, &[]);
    node.start();
    let report = checked(&node, "config-enforcer");
    assert_eq!(report["mode"], "audit");
    for count in ["made", "failed", "outstandingCount"] {
        assert_eq!(report[count], 0, "{count}: {report:#}");
    }
    assert!(report["problem"].is_null(), "{report:#}");
    let count = |verdict: &str| report["rules"][verdict].as_u64().unwrap();
    let rules = get(&node, "/v1/plugins/local/config-enforcer/rules");
    let rules = rules["items"].as_array().unwrap();
    let verdicts = ["pass", "fail", "notApplicable", "error"].map(count);
    assert_eq!(verdicts.iter().sum::<u64>(), rules.len() as u64);
    assert_eq!(rules.len(), 94);
    assert!(count("pass") > 10, "{verdicts:?}");
    for rule in rules.iter().filter(|it| it["verdict"] != "pass") {
        assert!(
            rule["message"].as_str().is_some_and(|it| !it.is_empty()),
            "{rule:#}"
        );
    }
    let audit = fs::read_to_string(node.path("state/audit/audit.jsonl")).unwrap_or_default();
    assert!(!audit.contains("config-enforcer"), "{audit}");
    let history = get(&node, "/v1/plugins/local/config-enforcer/changes");
    assert_eq!(history["items"].as_array().unwrap().len(), 0);
}

/// The rules of the profile: their ids, and what they are about.
fn profile() -> Vec<(String, Value)> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../plugins/config-enforcer/profiles/host-hardening.yaml"
    );
    let profile: Value = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let rules = profile["rules"].as_array().unwrap().clone();
    let rules = rules.into_iter();
    rules
        .map(|it| (it["id"].as_str().unwrap().to_owned(), it))
        .collect()
}

#[test]
fn the_profile_hardens_a_debian_tree_until_nothing_is_left_to_change() {
    let mut node = Node::new();
    let tree = node.path("tree");
    copy(&tree);
    let systemd = bus(
        &tree,
        &[
            ("ssh.service", unit(true, "enabled")),
            ("cups.service", unit(true, "enabled")),
        ],
    );
    // Settings of the whole machine, and its modules, are not this test's.
    let machine = |rule: &Value| {
        let name = rule["sysctl"]["name"].as_str();
        rule["kernelModule"].is_object() || name.is_some_and(|name| !name.starts_with("net."))
    };
    let rules = profile();
    let (left_out, rules): (Vec<_>, Vec<_>) = rules.into_iter().partition(|(_, it)| machine(it));
    let left_out: Vec<&str> = left_out.iter().map(|(id, _)| id.as_str()).collect();
    let config = format!(
        "profiles:\n- {{name: host-hardening, exclude: [{}]}}",
        left_out.join(", ")
    );
    let grants = "nodeFacts: true, nodeFiles: [/proc/self/mounts, /proc/sys], \
                  changes: {files: [/etc, /var/log], sysctls: ['net.*'], units: ['*.service']}";
    let spec = spec(&config, grants, "mode: enforce, interval: 1h");
    node.manifest("conf", &spec);
    node.wrapper = wrapper(&["--net"], NETWORK, &[]);
    start(&mut node, &tree);
    let first = checked(&node, "conf");
    let second = checked(&node, "conf");
    assert_eq!(second["outstandingCount"], 0, "{second:#}");
    assert_eq!(second["made"], first["made"], "it goes on changing");
    assert!(first["made"].as_u64().unwrap() >= 20, "{first:#}");
    assert!(!systemd.unit("cups.service").active);
    let config = fs::read_to_string(tree.join("etc/ssh/sshd_config")).unwrap();
    assert!(config.contains("PermitRootLogin no"), "{config}");

    // What the profile only tells of, and nothing else, may be wrong still.
    let only_told: BTreeSet<String> = (rules.iter())
        .filter(|(_, it)| it["checkOnly"] == true || it["check"].is_object())
        .map(|(id, _)| format!("host-hardening/{id}"))
        .collect();
    let manifest = node.path("manifests/conf.yaml");
    assert_eq!(
        fs::read_to_string(&manifest).unwrap(),
        config_map("conf", &spec)
    );
    let policy = policy(&node);
    let plan = within(
        &node,
        &[
            env!("CARGO_BIN_EXE_bulkhead"),
            "enforcement",
            "plan",
            manifest.to_str().unwrap(),
            "--host-root",
            tree.to_str().unwrap(),
            "--policy",
            &policy,
            "--output",
            "json",
        ],
    );
    assert_eq!(plan.status.code(), Some(0), "{}", text(&plan));
    let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
    assert_eq!(plan[0]["changes"].as_array().unwrap().len(), 0, "{plan:#}");
    let found = plan[0]["rules"].as_array().unwrap();
    assert_eq!(found.len(), rules.len());
    let mut passing = 0;
    for rule in found {
        let id = rule["id"].as_str().unwrap();
        match rule["verdict"].as_str().unwrap() {
            "pass" => passing += 1,
            "fail" => assert!(only_told.contains(id), "{rule:#}"),
            "notApplicable" => {}
            other => panic!("{other}: {rule:#}"),
        }
    }
    assert!(passing >= 40, "{passing}: {found:#?}");
}
