//! The policy of a node without a cluster, in a file, and the labels of such a node.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use support::{Node, message, numbered, reason, replace_file, wait_for};

fn policy(node: &Node, text: &str) {
    let text = format!("apiVersion: bulkhead.dev/v1alpha1\nkind: Policy\n{text}");
    replace_file(&node.path("policy"), text.as_bytes());
}

/// A node with a policy that takes the plugin's logs away.
fn node() -> Node {
    let mut node = Node::new();
    let path = node.path("policy");
    let arguments = ["--policy", path.to_str().unwrap()].map(str::to_owned);
    node.source.extend(arguments);
    node
}

#[test]
fn a_change_of_the_policy_is_for_what_runs_as_well() {
    let mut node = node();
    policy(&node, "namespaces: {local: {}}");
    node.manifest("app", &node.spec("app", "fixture-logs", "{}"));
    node.start();
    let refused = node.wait_plugin("app", "Refused", |report| report["phase"] == "Refused");
    let said = message(&refused, "Ready");
    assert!(
        said.contains("namespace `local` may not read logs"),
        "{said}"
    );

    policy(&node, "namespaces: {local: {allGrants: true}}");
    node.wait_running("app");
    node.append("a.log", numbered("line", 0..10));
    node.wait_output("app", 10);

    policy(
        &node,
        "namespaces: {local: {allGrants: true, limits: {memory: 1Mi}}}",
    );
    let halted = node.wait_plugin("app", "Suspended", |report| report["phase"] == "Suspended");
    assert_eq!(reason(&halted, "Ready"), "PolicyRefused");
    let said = message(&halted, "Ready");
    assert!(
        said.contains("above the maximum of namespace `local`"),
        "{said}"
    );
    node.append("a.log", numbered("line", 10..20));

    // Nothing is lost meanwhile; and a broken policy changes nothing.
    policy(&node, "namespaces: {local: {allGrants: true}}");
    node.wait_running("app");
    node.wait_output("app", 20);
    policy(&node, "namespaces: [");
    wait_for("the complaint", || {
        node.daemon_log().contains("is not YAML").then_some(())
    });
    node.append("a.log", numbered("line", 20..30));
    node.wait_output("app", 30);
    assert_eq!(node.wait_running("app")["phase"], "Running");
}

#[test]
fn what_the_policy_forbids_does_not_go_on_because_its_successor_fails() {
    let mut node = node();
    policy(&node, "limits: {}");
    let spec = |memory: &str, config: &str| {
        let limits = format!("limits: {{memory: {memory}}}\nupdate:");
        let spec = node.spec("app", "fixture-logs", config);
        spec.replace("update:", &limits)
    };
    let (old, failing, good) = (
        spec("64Mi", "{}"),
        spec("32Mi", "{faults: [{at: init, do: panic}]}"),
        spec("32Mi", "{version: \"2\"}"),
    );
    node.manifest("app", &old);
    node.start();
    node.wait_running("app");
    node.append("a.log", numbered("line", 0..10));
    node.wait_output("app", 10);
    // An update that fails, and the old one goes on.
    node.manifest("app", &failing);
    node.wait_plugin("app", "the failure", |report| {
        report["phase"] == "Running" && reason(report, "UpToDate") != "Current"
    });
    policy(&node, "limits: {memory: 32Mi}");
    let halted = node.wait_plugin("app", "standing still", |report| {
        report["phase"] != "Running" && report["active"].is_null()
    });
    assert_ne!(reason(&halted, "Ready"), "Serving", "{halted:#}");
    node.append("a.log", numbered("line", 10..20));
    node.manifest("app", &good);
    node.wait_running("app");
    node.wait_output("app", 20);
}

#[test]
fn without_a_readable_policy_nobody_is_let_in() {
    let mut node = node();
    policy(&node, "nonsense: 1");
    node.manifest("app", &node.spec("app", "fixture-logs", "{}"));
    node.start();
    let refused = node.wait_plugin("app", "Refused", |report| report["phase"] == "Refused");
    let said = message(&refused, "Ready");
    assert!(said.contains("nobody may declare plugins"), "{said}");
    assert!(said.contains("nonsense: unknown field"), "{said}");
    policy(&node, "limits: {}");
    node.wait_running("app");
}

#[test]
fn a_node_without_a_cluster_has_labels_too() {
    let mut node = Node::new();
    node.source
        .extend(["--node-label", "zone=a"].map(str::to_owned));
    let spec = |name: &str, selector: &str| {
        format!(
            "nodeSelector: {{{selector}}}\n{}",
            node.spec(name, "fixture-logs", "{}")
        )
    };
    node.manifest("here", &spec("here", "zone: a, kubernetes.io/os: linux"));
    node.manifest("there", &spec("there", "zone: b"));
    node.start();
    node.wait_running("here");
    let (_, body) = node.get("/v1/node").unwrap();
    let report: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(report["elsewhere"], serde_json::json!(["local/there"]));
    assert!(node.plugin("there").is_none());
}
