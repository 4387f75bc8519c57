//! Manifests from the ConfigMaps of a cluster: against a real API server, as the ServiceAccount of
//! `deploy/`, so that a verb that is missing there fails these tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/cluster/mod.rs"]
mod cluster;
mod support;

use std::fs;
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster::rig::{Rig, manifest};
use cluster::{Cluster, NAMESPACE, SERVICE_ACCOUNT};
use serde_json::{Value, json};
use support::{fixture_module, message, numbered, reason, sha256, variant, wait_for};

#[test]
fn a_config_map_is_loaded_updated_refused_and_unloaded() {
    let mut rig = Rig::new(Cluster::shared());
    rig.node.start();
    assert_eq!(rig.node_report()["plugins"], 0);
    rig.apply("app", &rig.spec("app"));
    rig.wait_running("app");
    rig.node.append("a.log", numbered("line", 0..10));
    rig.node.wait_output("app", 10);

    rig.apply(
        "app",
        &rig.spec("app")
            .replace("config: {}", "config: {version: two}"),
    );
    rig.wait("app", "the update", |report| report["updates"] == 1);

    let broken = rig.spec("app").replace("module:", "modul:");
    rig.apply("app", &broken);
    let report = rig.wait("app", "the refusal", |report| {
        reason(report, "UpToDate") == "Refused"
    });
    assert_eq!(report["phase"], "Running");
    let said = message(&report, "UpToDate");
    let place = format!(
        "ConfigMap {}/app, plugin.yaml:3:1: modul: unknown field",
        rig.namespace
    );
    assert!(said.contains(&place), "{said}");
    rig.node.append("a.log", numbered("line", 10..20));
    rig.node.wait_output("app", 20);

    rig.cluster.delete(&rig.path("app"));
    rig.wait_gone("app");
    // What is not labelled is not read.
    let mut object = manifest("other", &rig.spec("other"));
    object["metadata"]["labels"] = json!({});
    rig.put(&rig.namespace, object);
    rig.apply("last", &rig.spec("last"));
    rig.wait_running("last");
    assert_eq!(rig.node_report()["plugins"], 1);
    assert_eq!(rig.node_report()["problems"], json!([]));
}

/// Which manifest is at work.
fn active(rig: &Rig, name: &str) -> Value {
    rig.plugin(name).unwrap()["active"]["manifest"].clone()
}

#[test]
fn what_was_good_runs_on_while_the_api_server_is_away_and_across_a_restart() {
    let cluster = Arc::new(Cluster::start());
    let mut rig = Rig::new(cluster.clone());
    rig.apply("app", &rig.spec("app"));
    rig.apply("bad", &rig.spec("bad"));
    rig.apply("gone", &rig.spec("gone"));
    rig.policy("limits: {memory: 100Mi}");
    rig.node.start();
    for name in ["app", "bad", "gone"] {
        rig.wait_running(name);
    }
    let first = active(&rig, "app");
    cluster.stop_server();
    rig.wait_problem("until it is, everything stays as it was");
    rig.node.append("a.log", numbered("line", 0..10));
    rig.node.wait_output("app", 10);
    assert!(rig.node.stop().success());

    rig.node.start();
    for name in ["app", "bad", "gone"] {
        rig.wait_running(name);
    }
    assert_eq!(rig.node.get("/readyz").unwrap().0, 200);
    rig.node.append("a.log", numbered("line", 10..20));
    rig.node.wait_output("app", 20);
    assert!(rig.node.stop().success());

    // Changed meanwhile: one is deleted, one is broken, one changed, one is new.
    cluster.start_server();
    rig.cluster.delete(&rig.path("gone"));
    rig.apply("bad", "nonsense: true");
    rig.apply(
        "app",
        &rig.spec("app")
            .replace("config: {}", "config: {version: two}"),
    );
    rig.apply("new", &rig.spec("new"));
    rig.node.start();
    rig.wait_running("new");
    rig.wait_running("app");
    let second = active(&rig, "app");
    assert_ne!(second, first);
    let report = rig.wait_running("bad");
    assert_eq!(reason(&report, "UpToDate"), "Refused", "{report:#}");
    rig.wait_gone("gone");
    rig.node.append("a.log", numbered("line", 20..30));
    rig.node.wait_output("bad", 30);
    assert!(rig.node.stop().success());

    // And what was kept followed it.
    cluster.stop_server();
    rig.node.start();
    for name in ["app", "bad", "new"] {
        rig.wait_running(name);
    }
    assert!(rig.plugin("gone").is_none());
    assert_eq!(active(&rig, "app"), second);
    // Back while it runs.
    cluster.start_server();
    rig.apply(
        "bad",
        &rig.spec("bad")
            .replace("config: {}", "config: {version: good}"),
    );
    rig.wait("bad", "the good one", |report| report["updates"] == 1);
    rig.wait_no_problem();
}

#[test]
fn a_watch_that_cannot_be_taken_up_again_begins_anew() {
    let cluster = Arc::new(Cluster::start());
    let mut rig = Rig::new(cluster.clone());
    rig.apply("app", &rig.spec("app"));
    rig.apply("gone", &rig.spec("gone"));
    rig.node.start();
    rig.wait_running("app");
    cluster.stop_server();
    // The daemon sleeps, and finds another server that does not know the past.
    rig.node.signal(rustix::process::Signal::STOP);
    cluster.start_server();
    rig.apply(
        "app",
        &rig.spec("app")
            .replace("config: {}", "config: {version: two}"),
    );
    rig.cluster.delete(&rig.path("gone"));
    cluster.compact();
    cluster.stop_server();
    cluster.start_server();
    rig.node.signal(rustix::process::Signal::CONT);
    rig.wait("app", "the update", |report| report["updates"] == 1);
    rig.wait_gone("gone");
}

#[test]
fn a_token_that_is_not_valid_any_more_is_read_anew() {
    let cluster = Arc::new(Cluster::start());
    let mut rig = Rig::new(cluster.clone());
    let accounts = format!("/api/v1/namespaces/{}/serviceaccounts", rig.namespace);
    let account = json!({"metadata": {"name": "rotating"}});
    cluster.create(&accounts, &account);
    rig.cluster.delete(&format!(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings/bulkhead-manifests",
        rig.namespace
    ));
    rig.cluster.bind(&rig.namespace, &rig.namespace, "rotating");
    let folder = rig.node.folder.path().to_owned();
    rig.cluster.kubeconfig(&folder, &rig.namespace, "rotating");
    rig.apply("app", &rig.spec("app"));
    rig.node.start();
    rig.wait_running("app");
    // Another account of the same name: the token of the first is void.
    cluster.delete(&format!("{accounts}/rotating"));
    cluster.create(&accounts, &account);
    let token = cluster.service_account_token(&rig.namespace, "rotating", &[]);
    fs::write(folder.join("token"), token).unwrap();
    // A watch that is open stays so.
    cluster.stop_server();
    cluster.start_server();
    rig.apply(
        "app",
        &rig.spec("app")
            .replace("config: {}", "config: {version: two}"),
    );
    rig.wait("app", "the update", |report| report["updates"] == 1);
    assert!(rig.node.stop().success());
    rig.node.start();
    rig.wait_running("app");
}

#[test]
fn the_nodes_labels_and_annotations_say_what_runs_on_it() {
    let mut rig = Rig::new(Cluster::shared());
    let selecting = |name: &str, selector: &str| format!("{selector}\n{}", rig.spec(name));
    rig.apply("a", &selecting("a", "nodeSelector: {zone: a}"));
    rig.apply("b", &selecting("b", "nodeSelector: {zone: b}"));
    let expression = "nodeExpressions: [{key: gpu, operator: DoesNotExist}]";
    rig.apply("plain", &selecting("plain", expression));
    rig.node.start();
    rig.wait_running("a");
    rig.wait_running("plain");
    assert!(rig.plugin("b").is_none());
    let elsewhere = json!([format!("{}/b", rig.namespace)]);
    assert_eq!(rig.node_report()["elsewhere"], elsewhere);

    let labels = json!({"metadata": {"labels": {"zone": "b", "gpu": ""}}});
    rig.cluster.patch(&rig.node_path(), &labels);
    rig.wait_running("b");
    rig.wait_gone("a");
    rig.wait_gone("plain");

    let suspended =
        |names: String| json!({"metadata": {"annotations": {"bulkhead.dev/suspend": names}}});
    let names = format!("{0}/x, {0}/b", rig.namespace);
    rig.cluster.patch(&rig.node_path(), &suspended(names));
    let report = rig.wait("b", "Suspended", |report| report["phase"] == "Suspended");
    assert_eq!(reason(&report, "Ready"), "SuspendedOnNode");
    let said = message(&report, "Ready");
    assert!(said.contains("bulkhead.dev/suspend"), "{said}");
    rig.cluster
        .patch(&rig.node_path(), &suspended(String::new()));
    rig.wait_running("b");
}

#[test]
fn the_policy_says_which_namespaces_may_declare_what() {
    let cluster = Cluster::shared();
    let mut rig = Rig::new(cluster.clone());
    let shop = cluster.own_namespace();
    let closed = cluster.namespace();
    rig.put(&shop, manifest("app", &rig.spec("app")));
    rig.node.start();
    rig.apply("own", &rig.spec("own"));
    rig.wait_running("own");
    assert!(rig.plugin_of(&shop, "app").is_none(), "nobody let it in");

    rig.policy(&format!("namespaces: {{{shop}: {{}}, {closed}: {{}}}}"));
    let refused = wait_for("the refusal", || rig.plugin_of(&shop, "app"));
    let said = message(&refused, "Ready");
    assert!(said.contains("may not read logs on this node"), "{said}");
    // The daemon has no right there, and says which.
    let problem = rig.wait_problem(&format!("manifests in namespace {closed}"));
    assert!(
        problem.contains("RoleBinding to the ClusterRole bulkhead-manifests"),
        "{problem}"
    );

    rig.policy(&format!("namespaces: {{{shop}: {{allGrants: true}}}}"));
    wait_for("the plugin to run", || {
        (rig.plugin_of(&shop, "app")?["phase"] == "Running").then_some(())
    });
    rig.wait_no_problem();

    // What runs must be allowed, too.
    rig.policy(&format!("namespaces: {{{shop}: {{}}}}"));
    let halted = wait_for("the plugin to stand still", || {
        let report = rig.plugin_of(&shop, "app")?;
        (report["phase"] == "Suspended").then_some(report)
    });
    assert_eq!(reason(&halted, "Ready"), "PolicyRefused");
    wait_for("the Event that says so", || {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{shop}/events");
        let (_, list) = rig.cluster.request("GET", &path, None);
        let refused = list["items"].as_array()?.iter();
        let refused = refused.filter(|event| event["reason"] == "Refused");
        // The one before is of the first time.
        let count: u64 = refused
            .map(|event| event["series"]["count"].as_u64().unwrap_or(1))
            .sum();
        (count >= 2).then_some(())
    });
    rig.policy(&format!("namespaces: {{{shop}: {{allGrants: true}}}}"));
    wait_for("the plugin to run", || {
        (rig.plugin_of(&shop, "app")?["phase"] == "Running").then_some(())
    });

    // A broken policy changes nothing.
    rig.policy("namespace: {}");
    let problem = rig.wait_problem("bulkhead-policy");
    assert!(
        problem.contains("policy.yaml:3:1: namespace: unknown field"),
        "{problem}"
    );
    assert_eq!(rig.plugin_of(&shop, "app").unwrap()["phase"], "Running");

    rig.cluster.delete(&rig.path("bulkhead-policy"));
    wait_for("the plugin to be gone", || {
        rig.plugin_of(&shop, "app").is_none().then_some(())
    });
    rig.wait_no_problem();
    rig.wait_running("own");
}

#[test]
fn a_module_travels_in_parts_and_only_to_nodes_that_lack_it() {
    let cluster = Arc::new(Cluster::start());
    let mut rig = Rig::new(cluster.clone());
    let module = fs::read(fixture_module("fixture-logs").0).unwrap();
    let declare = |rig: &Rig, version: u8, with_last: bool| {
        let module = variant(&module, version);
        let packed = zstd::encode_all(module.as_slice(), 19).unwrap();
        let half = packed.len() / 2;
        let parts = [&packed[..half], &packed[half..]];
        let names: Vec<String> = (0..2).map(|i| format!("module-{version}-{i}")).collect();
        for (name, part) in names.iter().zip(parts).take(1 + usize::from(with_last)) {
            let object = json!({
                "metadata": {"name": name},
                "immutable": true,
                "binaryData": {"part": STANDARD.encode(part)},
            });
            rig.put(&rig.namespace, object);
        }
        let from = rig.spec("app").lines().nth(1).unwrap().to_owned();
        let sha256 = sha256(&module);
        let to = format!(
            "  configMapParts: {{names: [{}], sha256: {sha256}}}",
            names.join(", ")
        );
        rig.apply("app", &rig.spec("app").replace(&from, &to));
        sha256
    };
    let gets = || cluster.requests(&["resource=\"configmaps\"", "verb=\"GET\""]);
    let first = declare(&rig, 1, true);
    let before = gets();
    rig.node.start();
    let report = rig.wait_running("app");
    assert_eq!(report["active"]["digest"], first.as_str());
    assert_eq!(gets() - before, 2.0);
    assert!(rig.node.stop().success());
    rig.node.start();
    rig.wait_running("app");
    assert_eq!(gets() - before, 2.0, "it was there already");

    // A part that comes late.
    let second = declare(&rig, 2, false);
    let waits = rig.wait("app", "the wait for a part", |report| {
        reason(report, "UpToDate") == "Fetching"
    });
    let said = message(&waits, "UpToDate");
    assert!(said.contains("module-2-1"), "{said}");
    assert_eq!(waits["phase"], "Running");
    declare(&rig, 2, true);
    let report = rig.wait("app", "the update", |report| report["updates"] == 1);
    assert_eq!(report["active"]["digest"], second.as_str());
}

#[test]
fn what_pack_writes_runs() {
    let mut rig = Rig::new(Cluster::shared());
    let (module, digest) = fixture_module("fixture-logs");
    let spec = rig.node.path("plugin.yaml");
    fs::write(&spec, rig.spec("app")).unwrap();
    rig.node.start();
    for (i, extra) in [&["--inline"][..], &[]].into_iter().enumerate() {
        let output = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
            .args([
                "plugin",
                "pack",
                "--name",
                "app",
                "--namespace",
                &rig.namespace,
            ])
            .arg("--spec")
            .arg(&spec)
            .arg(&module)
            .args(extra)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let page = String::from_utf8(output.stdout).unwrap();
        let objects: Vec<Value> = serde_saphyr::from_multiple(&page).unwrap();
        assert_eq!(objects.len(), 1 + i);
        for object in objects {
            rig.put(&rig.namespace, object);
        }
        let report = rig.wait("app", "the module", |report| {
            report["updates"] == i && report["phase"] == "Running"
        });
        assert_eq!(report["active"]["digest"], digest.as_str());
    }
    let refused = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .args(["plugin", "pack", "--name", "app", "--spec"])
        .arg(&spec)
        .arg(rig.node.path("token"))
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && said.contains("not a WebAssembly component"),
        "{said}"
    );
}

#[test]
fn the_daemon_may_write_no_config_map() {
    let cluster = Cluster::shared();
    let account = format!("system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}");
    let may = |verb: &str, group: &str, resource: &str| {
        let review = json!({"spec": {
            "user": account,
            "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{NAMESPACE}")],
            "resourceAttributes": {
                "namespace": NAMESPACE, "verb": verb, "group": group, "resource": resource,
            },
        }});
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let answer = cluster.create(path, &review);
        answer["status"]["allowed"].as_bool().unwrap()
    };
    assert!(may("get", "", "configmaps"), "the test asks as it should");
    for verb in ["create", "update", "patch", "delete", "deletecollection"] {
        assert!(!may(verb, "", "configmaps"), "{verb}");
    }
    for verb in ["get", "list", "watch"] {
        assert!(!may(verb, "", "secrets"), "{verb} of secrets");
    }
}
