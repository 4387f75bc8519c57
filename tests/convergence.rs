//! One desired state, written for Puppet, for Ansible and for config-enforcer (`tests/convergence`), each
//! converged on its own copy of one Debian tree: the trees are alike, and a second run changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::path::Path;
use std::process::Command;

use support::debian::{copy, differences, lay, read_tree};
use support::enforcer::{checked, order, spec, start, text};
use support::{Node, debian};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/convergence");
const GRANTS: &str = "nodeFacts: true, changes: {files: [/etc, /srv, /var/lib/app, /var/lib/kubelet, /opt/old, /usr/local/bin]}";
/// What is not as it should be in the copies.
const CHANGED: usize = 40;

fn tree(node: &Node, name: &str) -> std::path::PathBuf {
    let root = node.path(name);
    copy(&root);
    lay(&root, &format!("{FOLDER}/seed"));
    root
}

/// Runs it on a tree. Whether it says that it changed something.
fn puppet(folder: &Path, root: &Path) -> bool {
    let mut command = Command::new("puppet");
    command.args(["apply", "--detailed-exitcodes", "--color=false"]);
    for name in ["conf", "var", "log", "run"] {
        command.arg(format!("--{name}dir"));
        command.arg(folder.join(format!("puppet-{name}")));
    }
    command.arg(format!("{FOLDER}/site.pp"));
    let output = command.env("FACTER_root", root).output();
    let output = output.unwrap_or_else(|error| {
        panic!("cannot run puppet ({error}): apt-get install puppet puppet-module-puppetlabs-stdlib puppet-module-puppetlabs-augeas-core")
    });
    match output.status.code() {
        Some(0) => false,
        Some(2) => true,
        _ => panic!("puppet: {}", text(&output)),
    }
}

/// As [`puppet`].
fn ansible(folder: &Path, root: &Path) -> bool {
    let mut command = Command::new("ansible-playbook");
    command.args(["-i", "localhost,", "-c", "local", "-e"]);
    command.arg(format!("root={}", root.display()));
    command.arg(format!("{FOLDER}/playbook.yaml"));
    let settings = [
        ("ANSIBLE_HOME", folder.join("ansible-home")),
        ("ANSIBLE_PIPELINING", "1".into()),
        ("ANSIBLE_NOCOLOR", "1".into()),
    ];
    let output = command.envs(settings).output();
    let output = output.unwrap_or_else(|error| {
        panic!("cannot run ansible-playbook ({error}): apt-get install ansible-core")
    });
    let said = text(&output);
    assert!(output.status.success(), "ansible: {said}");
    assert!(said.contains("changed="), "ansible: {said}");
    !said.contains("changed=0 ")
}

/// As [`puppet`], by the daemon.
fn bulkhead(node: &mut Node, root: &Path) -> bool {
    let desired = std::fs::read_to_string(format!("{FOLDER}/desired.yaml")).unwrap();
    node.manifest("conf", &spec(&desired, GRANTS, "mode: enforce"));
    start(node, root);
    let report = checked(node, "conf");
    assert_eq!(report["outstandingCount"], 0, "{report:#}");
    assert_eq!(report["rules"]["pass"], 61, "{report:#}");
    let output = order(node, &["check", "conf"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    node.stop();
    report["made"] != 0
}

#[test]
fn puppet_ansible_and_config_enforcer_make_the_same_tree() {
    let mut node = Node::new();
    let [start, ours, theirs, others] =
        ["start", "ours", "puppet", "ansible"].map(|name| tree(&node, name));
    let start = read_tree(&start);
    let folder = node.folder.path().to_owned();
    let twice = |run: &mut dyn FnMut() -> bool, root: &Path, name: &str| {
        assert!(run(), "{name} changed nothing");
        let first = read_tree(root);
        assert!(!run(), "{name} says that its second run changed something");
        let second = read_tree(root);
        let touched = first
            .iter()
            .filter(|(path, it)| second.get(*path) != Some(it));
        let touched: Vec<_> = touched.map(|(path, _)| path).collect();
        assert!(touched.is_empty(), "{name}, second run: {touched:?}");
        assert_eq!(first.len(), second.len(), "{name}, second run");
        second
    };
    let (ours, theirs, others) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| twice(&mut || puppet(&folder, &theirs), &theirs, "puppet"));
        let others = scope.spawn(|| twice(&mut || ansible(&folder, &others), &others, "ansible"));
        let ours = twice(&mut || bulkhead(&mut node, &ours), &ours, "config-enforcer");
        (ours, theirs.join().unwrap(), others.join().unwrap())
    });
    let changed = debian::differences(&start, &ours);
    assert!(changed.len() >= CHANGED, "{}: {changed:#?}", changed.len());
    for (name, tree) in [("puppet", &theirs), ("ansible", &others)] {
        let differences = differences(&ours, tree);
        assert!(
            differences.is_empty(),
            "ours, {name}'s:\n{}",
            differences.join("\n")
        );
    }
}
