//! Credentials of destinations from Secrets of the cluster, against a real API server: by name, from the
//! manifest's own namespace, rotated while the daemon runs, and nowhere to be seen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/cluster/mod.rs"]
mod cluster;
mod support;

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster::rig::Rig;
use cluster::{Cluster, NAMESPACE, SERVICE_ACCOUNT};
use serde_json::json;
use support::authority::Authority;
use support::sink::{Sink, ok};
use support::wait_for;

/// Makes a Secret, or puts another value in its place.
fn secret(rig: &Rig, name: &str, value: &str) {
    let collection = format!("/api/v1/namespaces/{}/secrets", rig.namespace);
    let data = json!({"token": STANDARD.encode(value)});
    let (code, _) = rig
        .cluster
        .request("GET", &format!("{collection}/{name}"), None);
    match code {
        404 => {
            let object = json!({"metadata": {"name": name}, "data": data});
            rig.cluster.create(&collection, &object);
        }
        _ => {
            let path = format!("{collection}/{name}");
            rig.cluster.patch(&path, &json!({"data": data}));
        }
    }
}

/// Lets the daemon read one Secret of the rig's namespace.
fn allow(rig: &Rig, name: &str) {
    let base = format!(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/{}",
        rig.namespace
    );
    let role = json!({
        "metadata": {"name": "bulkhead-secrets"},
        "rules": [{
            "apiGroups": [""], "resources": ["secrets"], "resourceNames": [name],
            "verbs": ["list", "watch"],
        }],
    });
    rig.cluster.create(&format!("{base}/roles"), &role);
    let binding = json!({
        "metadata": {"name": "bulkhead-secrets"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "bulkhead-secrets"},
        "subjects": [{"kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": NAMESPACE}],
    });
    rig.cluster
        .create(&format!("{base}/rolebindings"), &binding);
}

#[test]
fn a_rotated_secret_takes_effect_without_a_restart_and_is_never_shown() {
    let mut rig = Rig::new(Cluster::shared());
    let seen = Arc::new(Mutex::new(Vec::<String>::new()));
    let sink = Sink::start({
        let seen = seen.clone();
        move |request| {
            let header = |name: &str| request.header(name).to_owned();
            let line = format!(
                "{} {} {}",
                header("x-token"),
                header("x-zone"),
                request.text()
            );
            seen.lock().unwrap().push(line);
            ok()
        }
    });
    let destination = format!(
        "http: {{url: {:?}, retry: {{initial: 10ms, max: 50ms}}, headers: {{X-Token: \"${{secret:access/token}}\", X-Zone: \"${{node:name}}.${{node:label/zone}}\"}}}}",
        sink.url()
    );
    rig.apply("app", &rig.node.spec_to("fixture-logs", "{}", &destination));
    rig.node.start();
    rig.wait_running("app");
    rig.node.append("a.log", ["first".to_owned()]);
    // Nobody has allowed it, and the status says what to do.
    let trouble = |text: &str| {
        rig.wait("app", text, |report| {
            report["logs"]["destinations"].to_string().contains(text)
        });
    };
    trouble("needs the verbs list and watch on it");
    assert!(seen.lock().unwrap().is_empty());
    allow(&rig, "access");
    trouble("does not exist");
    secret(&rig, "access", "s3cret-one");
    let sent = |text: &str| {
        wait_for(text, || {
            let seen = seen.lock().unwrap();
            seen.iter().find(|line| line.contains(text)).cloned()
        })
    };
    let first = sent("first");
    let expected = format!("s3cret-one {}.a ", rig.node_name);
    assert!(first.starts_with(&expected), "{first}");

    secret(&rig, "access", "s3cret-two");
    let zone = json!({"metadata": {"labels": {"zone": "b"}}});
    rig.cluster.patch(&rig.node_path(), &zone);
    let expected = format!("s3cret-two {}.b ", rig.node_name);
    let mut index = 0;
    wait_for("the new ones to be used", || {
        index += 1;
        rig.node.append("a.log", [format!("line {index}")]);
        let seen = seen.lock().unwrap();
        seen.iter()
            .any(|line| line.starts_with(&expected))
            .then_some(())
    });
    let mut said = rig.node.daemon_log();
    for path in ["/", "/metrics", "/v1/node", "/v1/plugins"] {
        said += &rig.node.get(path).unwrap().1;
    }
    assert!(!said.contains("s3cret"), "{said}");
    for entry in walk(&rig.node.state) {
        let bytes = std::fs::read(&entry).unwrap_or_default();
        let found = bytes.windows(6).any(|window| window == b"s3cret");
        assert!(!found, "{}", entry.display());
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => files.extend(walk(&path)),
            path => files.push(path),
        }
    }
    files
}

#[test]
fn tls_takes_what_it_needs_from_a_secret() {
    let mut rig = Rig::new(Cluster::shared());
    let seen = Arc::new(Mutex::new(Vec::<String>::new()));
    let authority = Authority::new(rig.node.path("authority"));
    let address = support::sink::own_address();
    let files = authority.certify(&address.ip().to_string());
    let _sink = Sink::start_with(address, Some(&files), {
        let seen = seen.clone();
        move |request| {
            seen.lock().unwrap().push(request.text().to_owned());
            ok()
        }
    });
    let destination = format!(
        "http: {{url: {:?}, retry: {{initial: 10ms, max: 50ms}}, tls: {{ca: \"${{secret:authority/token}}\"}}}}",
        format!("https://{address}/ingest")
    );
    rig.apply("app", &rig.node.spec_to("fixture-logs", "{}", &destination));
    allow(&rig, "authority");
    secret(&rig, "authority", "nonsense");
    rig.node.start();
    rig.wait_running("app");
    rig.node.append("a.log", ["first".to_owned()]);
    rig.wait("app", "no certificate in it", |report| {
        let destinations = report["logs"]["destinations"].to_string();
        destinations.contains("tls.ca: holds no certificate")
    });
    assert!(seen.lock().unwrap().is_empty());
    let pem = std::fs::read_to_string(authority.ca()).unwrap();
    secret(&rig, "authority", &pem);
    wait_for("the line", || {
        let seen = seen.lock().unwrap();
        seen.iter().any(|body| body.contains("first")).then_some(())
    });
}

#[test]
fn without_a_cluster_a_secret_is_refused_where_it_is_needed() {
    let mut node = support::Node::new();
    let destination = "http: {url: \"http://127.0.0.1:1\", headers: {X: \"${secret:a/b}\"}}";
    node.manifest("app", &node.spec_to("fixture-logs", "{}", destination));
    node.start();
    node.wait_running("app");
    node.append("a.log", ["first".to_owned()]);
    node.wait_plugin("app", "the reason", |report| {
        report["logs"]["destinations"]
            .to_string()
            .contains("there is no cluster here")
    });
}
