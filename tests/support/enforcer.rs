//! The bundled plugin `config-enforcer` on a node of a test's own.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Node, binary};

/// A spec: `config` is YAML, `grants` and `enforcement` are YAML in one line.
pub fn spec(config: &str, grants: &str, enforcement: &str) -> String {
    let config: String = config.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "module: {{bundled: config-enforcer}}\ngrants: {{{grants}}}\nenforcement: {{{enforcement}}}\nconfig:\n{config}"
    )
}

/// A policy that trusts it with what is as good as root.
pub fn policy(node: &Node) -> String {
    let path = node.path("policy.yaml");
    let text = "apiVersion: bulkhead.dev/v1alpha1\nkind: Policy\nallowRootEquivalent: [{bundled: config-enforcer}]\n";
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Starts the daemon for a tree.
pub fn start(node: &mut Node, root: &Path) {
    let policy = policy(node);
    let root = root.to_str().unwrap();
    node.start_with(&["--host-root", root, "--policy", &policy], &[]);
}

/// `bulkhead enforcement ARGUMENTS` for this node's daemon.
pub fn order(node: &Node, arguments: &[&str]) -> Output {
    Command::new(binary())
        .arg("enforcement")
        .args(arguments)
        .arg("--state")
        .arg(&node.state)
        .output()
        .unwrap()
}

/// What a command printed.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// `bulkhead enforcement check`, once the module is compiled and the plugin at work: a development build
/// takes its time for the first.
pub fn wait_check(node: &Node, plugin: &str) -> Output {
    let begin = Instant::now();
    loop {
        let output = order(node, &["check", plugin]);
        let said = text(&output);
        let early =
            said.contains("does not enforce anything now") || said.contains("there is no plugin");
        if !early {
            return output;
        }
        let patience = Duration::from_secs(300);
        assert!(begin.elapsed() < patience, "{said}\n{}", node.daemon_log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The role's report after such a check, also from within a network namespace.
pub fn checked(node: &Node, plugin: &str) -> Value {
    wait_check(node, plugin);
    let output = order(node, &["check", plugin, "--output", "json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)))
}
