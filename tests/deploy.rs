//! What `deploy/` ships: that its forms are the same, that a real API server takes them, and that they name
//! what there is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/cluster/mod.rs"]
mod cluster;
#[path = "support/helm/mod.rs"]
mod helm;
#[path = "deploy/monitoring.rs"]
mod monitoring;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use bulkhead::manifest::{self, ByteSize, Document};
use cluster::{Cluster, NAMESPACE};
use helm::{NOTES, Objects, chart, kustomize, objects, project, read, render};
use regex::Regex;
use serde_json::{Value, json};

const VALUES: &str = "deploy/helm/bulkhead/values.yaml";
const SCHEMA: &str = "deploy/helm/bulkhead/values.schema.json";

/// Every part of the chart that is off by default.
fn everything(shop: &str) -> Value {
    json!({
        "namespace": {"create": true},
        "status": {"tlsSecret": "bulkhead-status-tls", "audience": "status.example"},
        "image": {"repository": "registry.example:5000/bulkhead", "digest": format!("sha256:{}", "0a".repeat(32)), "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "registry"}],
        "events": "warnings",
        "logLevel": "info,bulkhead=debug",
        "extraArgs": ["--safe-mode-deaths=5"],
        "extraEnv": [{"name": "TOKEN", "value": "1"}],
        "extraVolumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca"}],
        "nodeSelector": {"pool": "apps"},
        "affinity": {"nodeAffinity": {}},
        "podLabels": {"team": "nodes"},
        "podAnnotations": {"note": "here"},
        "policy": {
            "limits": {"memory": "256Mi"},
            "allowRootEquivalent": [{"bundled": "log-shipper"}],
            "namespaces": {
                NAMESPACE: {"allGrants": true},
                shop: {"modules": ["bundled"], "limits": {"memory": "64Mi"}, "grants": {"logs": {"containers": ["shop"]}}},
            },
        },
        "secrets": [{"namespace": shop, "names": ["elastic-access", "splunk"]}],
        "podMonitor": {"enabled": true, "labels": {"release": "p"}, "interval": "15s", "tokenSecret": {"name": "token"}},
        "prometheusRule": {"enabled": true, "runbookUrlPrefix": "https://git.example/bulkhead/"},
        "dashboard": {"enabled": true},
        "networkPolicy": {"enabled": true},
    })
}

/// Asserts that both have the same objects, and says which differ.
fn assert_same(some: &Objects, others: &Objects) {
    let names = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(some), names(others));
    for (name, object) in some {
        let other = &others[name];
        assert_eq!(object, other, "{name}: {object:#}\n{other:#}");
    }
}

#[test]
fn the_chart_is_the_kustomize_base() {
    let mut base = kustomize("deploy/kustomize/base");
    let whole = chart(NAMESPACE, &json!({"namespace": {"create": true}}));
    assert_same(&base, &whole);
    // Helm's users make the namespace.
    let namespace = format!("Namespace  {NAMESPACE}");
    assert!(base.remove(&namespace).is_some(), "{:?}", base.keys());
    assert_same(&base, &chart(NAMESPACE, &json!({})));
    // And the image is the one of this version.
    let daemon = &base[&format!("DaemonSet {NAMESPACE} bulkhead")];
    let image = &daemon["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, concat!("bulkhead:", env!("CARGO_PKG_VERSION")));
    let about: Value = serde_saphyr::from_str(&read("deploy/helm/bulkhead/Chart.yaml")).unwrap();
    assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_chart_has_what_is_shipped_beside_the_base() {
    let on = json!({"enabled": true});
    let prefix = "https://git.example/bulkhead/";
    let rule = json!({"enabled": true, "runbookUrlPrefix": prefix});
    let values = json!({
        "status": {"tlsSecret": "bulkhead-status-tls"},
        "podMonitor": on, "prometheusRule": rule, "dashboard": on, "networkPolicy": on,
    });
    let mut chart = chart(NAMESPACE, &values);
    for name in kustomize("deploy/kustomize/base").keys() {
        chart.remove(name);
    }
    let beside = serde_json::to_string(&kustomize("deploy/monitoring")).unwrap();
    let beside = beside.replace("\"docs/runbooks", &format!("\"{prefix}docs/runbooks"));
    let mut beside: Objects = serde_json::from_str(&beside).unwrap();
    beside.extend(objects(&read("deploy/examples/network-policy.yaml")));
    assert_same(&beside, &chart);
}

/// Kinds of the Prometheus operator, which no API server knows by itself: of them only the form is looked at.
const OPERATOR: [&str; 2] = ["PodMonitor", "PrometheusRule"];

#[test]
fn a_real_api_server_takes_every_object() {
    let cluster = Cluster::shared();
    let shop = cluster.namespace();
    let namespace = json!({"metadata": {"name": "shop"}});
    cluster.create("/api/v1/namespaces", &namespace);
    let mut all = vec![
        kustomize("deploy/kustomize/base"),
        kustomize("deploy/monitoring"),
        chart(NAMESPACE, &everything(&shop)),
    ];
    for file in std::fs::read_dir(project("deploy/examples")).unwrap() {
        all.push(objects(
            &std::fs::read_to_string(file.unwrap().path()).unwrap(),
        ));
    }
    let mut passed_over = BTreeSet::new();
    for object in all.iter().flat_map(BTreeMap::values) {
        let kind = object["kind"].as_str().unwrap();
        if OPERATOR.contains(&kind) {
            assert_eq!(object["apiVersion"], "monitoring.coreos.com/v1");
            passed_over.insert(kind);
        } else if let Err(refused) = cluster.dry_apply(object) {
            panic!("{object:#}\n{refused}");
        }
    }
    assert!(passed_over.into_iter().eq(OPERATOR));
    // It would not take everything.
    let name = format!("DaemonSet {NAMESPACE} bulkhead");
    let mut wrong = all.remove(0).remove(&name).unwrap();
    wrong["spec"]["template"]["spec"]["toleration"] = json!([]);
    let refused = cluster.dry_apply(&wrong).unwrap_err();
    assert!(refused.contains("toleration"), "{refused}");
}

#[test]
fn values_do_what_they_say() {
    let made = chart(NAMESPACE, &everything("shop"));
    let pod = &made[&format!("DaemonSet {NAMESPACE} bulkhead")]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let image = container["image"].as_str().unwrap();
    assert!(
        image.starts_with("registry.example:5000/bulkhead@sha256:0a0a"),
        "{image}"
    );
    let arguments: Vec<&str> = container["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|argument| argument.as_str().unwrap())
        .collect();
    for argument in [
        "--status-tls=/etc/bulkhead/tls",
        "--status-audience=status.example",
        "--events=warnings",
        "--log-level=info,bulkhead=debug",
        "--safe-mode-deaths=5",
    ] {
        assert!(arguments.contains(&argument), "{argument}: {arguments:?}");
    }
    // The daemon knows them all.
    let help = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .args(["run", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let flags: BTreeSet<&str> = help.split_whitespace().collect();
    for argument in &arguments[1..] {
        let flag = argument.split('=').next().unwrap();
        assert!(flags.contains(flag), "{flag}: {help}");
    }
    let mount = json!({"name": "status-tls", "mountPath": "/etc/bulkhead/tls", "readOnly": true});
    assert!(
        container["volumeMounts"]
            .as_array()
            .unwrap()
            .contains(&mount)
    );
    let volume = json!({"name": "status-tls", "secret": {"secretName": "bulkhead-status-tls"}});
    assert!(pod["volumes"].as_array().unwrap().contains(&volume));

    // The policy is one that the daemon reads, and its namespaces are let in.
    let policy = made[&format!("ConfigMap {NAMESPACE} bulkhead-policy")]["data"]["policy.yaml"]
        .as_str()
        .unwrap();
    let policy = bulkhead::manifest::Policy::default()
        .with(Path::new("policy"), policy)
        .unwrap();
    assert!(policy.namespaces.keys().eq([NAMESPACE, "shop"]));
    assert!(made.contains_key("RoleBinding shop bulkhead-manifests"));
    let role = &made["Role shop bulkhead-secrets"]["rules"][0];
    assert_eq!(role["resourceNames"], json!(["elastic-access", "splunk"]));
    assert_eq!(role["verbs"], json!(["list", "watch"]));

    // A Secret with the token in place of the scrape class.
    let monitor = json!({"status": {"tlsSecret": "a"}, "podMonitor": {"enabled": true, "scrapeClass": "", "tokenSecret": {"name": "token"}, "instance": "address"}});
    let monitor = &chart(NAMESPACE, &monitor)[&format!("PodMonitor {NAMESPACE} bulkhead")]["spec"];
    assert_eq!(monitor["scrapeClass"], Value::Null);
    let endpoints = monitor["podMetricsEndpoints"].as_array().unwrap();
    for endpoint in endpoints {
        let credentials = json!({"name": "token", "key": "token"});
        assert_eq!(endpoint["authorization"]["credentials"], credentials);
    }
    let job = json!([{"action": "replace", "replacement": "node-exporter", "targetLabel": "job"}]);
    assert_eq!(endpoints[1]["relabelings"], job);

    // On loopback the kubelet asks there, and nobody else is told to come.
    let loopback = json!({"status": {"address": "127.0.0.1:9999"}});
    let pod = &chart(NAMESPACE, &loopback)[&format!("DaemonSet {NAMESPACE} bulkhead")]["spec"]["template"]
        ["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["ports"][0]["containerPort"], 9999);
    let probe =
        json!({"scheme": "HTTP", "host": "127.0.0.1", "port": "status", "path": "/healthz"});
    assert_eq!(container["livenessProbe"]["httpGet"], probe);

    // Nodes are those that the image is for, and may be chosen further or otherwise.
    let pod = |values: &Value| {
        let name = format!("DaemonSet {NAMESPACE} bulkhead");
        chart(NAMESPACE, values)[&name]["spec"]["template"]["spec"].clone()
    };
    let built_for = json!({"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"});
    assert_eq!(pod(&json!({}))["nodeSelector"], built_for);
    let mut further = built_for.clone();
    further["pool"] = json!("apps");
    assert_eq!(pod(&everything("shop"))["nodeSelector"], further);
    let otherwise = json!({"nodeSelector": {"kubernetes.io/arch": null}});
    let any = json!({"kubernetes.io/os": "linux"});
    assert_eq!(pod(&otherwise)["nodeSelector"], any);

    // Nothing goes to the namespace of the base when the release has another one.
    let elsewhere = render("agents", &everything("shop")).unwrap();
    for (name, text) in &elsewhere {
        let text = text.replace("bulkhead.bulkhead-system.svc", "");
        let allowed = ["policy.yaml", "dashboard.yaml"].contains(&&**name);
        assert!(allowed || !text.contains(NAMESPACE), "{name}: {text}");
    }
    assert!(elsewhere[NOTES].contains("status --namespace agents"));
}

#[test]
fn values_that_cannot_work_are_refused() {
    let refused = |values: Value, why: &str| {
        let said = render(NAMESPACE, &values).unwrap_err();
        assert!(said.contains(why), "{said}");
    };
    let open = json!({"podMonitor": {"enabled": true, "tls": {"ca": null}}});
    refused(open, "insecureSkipVerify: true");
    let loopback =
        json!({"status": {"address": "127.0.0.1:9720"}, "podMonitor": {"enabled": true}});
    refused(loopback, "a status.address that Prometheus can reach");
    let unsigned = json!({"podMonitor": {"enabled": true}});
    refused(unsigned, "podMonitor needs status.tlsSecret");
    let nowhere = json!({"prometheusRule": {"enabled": true}});
    refused(nowhere, "prometheusRule needs runbookUrlPrefix");
    for nobody in [json!([]), json!(null)] {
        let all = json!({"networkPolicy": {"enabled": true, "from": nobody}});
        refused(all, "would let everybody in");
    }

    // Helm checks values against the schema.
    let schema: Value = serde_json::from_str(&read(SCHEMA)).unwrap();
    let schema = jsonschema::draft7::new(&schema).unwrap();
    let own: Value = serde_saphyr::from_str(&read(VALUES)).unwrap();
    assert!(schema.is_valid(&own));
    assert!(schema.is_valid(&everything("shop")));
    for wrong in [
        json!({"tolerance": []}),
        json!({"image": {"name": "x"}}),
        json!({"image": {"digest": "0a0a"}}),
        json!({"status": {"address": "10.0.0.1:9720"}}),
        json!({"status": {"address": "0.0.0.0"}}),
        json!({"events": "some"}),
        json!({"secrets": [{"namespace": "shop", "names": []}]}),
        json!({"podMonitor": {"instance": "pod"}}),
        json!({"networkPolicy": {"from": []}}),
    ] {
        assert!(!schema.is_valid(&wrong), "{wrong}");
    }
}

/// Each key with its line, in the file and in the schema.
#[test]
fn every_value_is_explained_and_in_the_schema() {
    let schema: Value = serde_json::from_str(&read(SCHEMA)).unwrap();
    let values: Value = serde_saphyr::from_str(&read(VALUES)).unwrap();
    let text = read(VALUES);
    let lines: Vec<&str> = text.lines().collect();
    let explained = |indent: &str, key: &str, from: usize| {
        let start = format!("{indent}{key}:");
        let at = (from..lines.len()).find(|line| lines[*line].starts_with(&start));
        let at = at.unwrap_or_else(|| panic!("no {start} in {VALUES}"));
        (at, lines[at - 1].trim_start().starts_with('#'))
    };
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<BTreeSet<_>>()
    };
    let mut in_schema = keys(&schema["properties"]);
    // What charts that hold this one may set for all.
    assert!(in_schema.remove("global"));
    assert_eq!(in_schema, keys(&values));
    for (key, value) in values.as_object().unwrap() {
        let (at, here) = explained("", key, 0);
        let closed = &schema["properties"][key];
        if closed["properties"].is_null() || closed["additionalProperties"] != false {
            assert!(here, "{key} has no comment");
            continue;
        }
        assert_eq!(keys(&closed["properties"]), keys(value), "{key}");
        for inner in keys(value) {
            // `enabled` is what the comment above says of the whole.
            let said = explained("  ", &inner, at).1 || (inner == "enabled" && here);
            assert!(said, "{key}.{inner} has no comment");
        }
    }
}

#[test]
fn every_verb_is_explained() {
    let texts = [
        "deploy/kustomize/base/rbac.yaml",
        "deploy/monitoring/podmonitor.yaml",
        "deploy/helm/bulkhead/templates/rbac.yaml",
        "deploy/helm/bulkhead/templates/podmonitor.yaml",
        "deploy/helm/bulkhead/templates/secrets.yaml",
    ];
    let explained = Regex::new("^  - [a-z]+ +# .+").unwrap();
    for file in texts {
        let text = read(file);
        let mut lines = text.lines().peekable();
        let mut verbs = 0;
        while let Some(line) = lines.next() {
            if !line.contains("verbs:") {
                continue;
            }
            assert_eq!(
                line, "  verbs:",
                "{file}: a verb a line, each with its reason"
            );
            while let Some(verb) = lines.next_if(|line| line.starts_with("  - ")) {
                assert!(
                    explained.is_match(verb),
                    "{file}: `{verb}` is not explained"
                );
                verbs += 1;
            }
        }
        assert!(verbs > 0, "{file} has no verbs");
    }
}

/// The manifests of `deploy/examples`.
fn examples() -> Vec<String> {
    let files = std::fs::read_dir(project("deploy/examples")).unwrap();
    let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let declares = |object: &Value| !object["metadata"]["labels"]["bulkhead.dev/plugin"].is_null();
    let manifests: Vec<_> = texts
        .filter(|text| objects(text).values().any(declares))
        .collect();
    assert!(!manifests.is_empty());
    manifests
}

#[test]
fn the_examples_pass_the_check() {
    let folder = tempfile::tempdir().unwrap();
    for text in examples() {
        // As the cluster's own namespace, which `check` does not know.
        let local = folder.path().join("manifest.yaml");
        std::fs::write(&local, text.replace("namespace: bulkhead-system", "")).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
            .arg("check")
            .arg(local)
            .output()
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{said}");
    }
    let policy = &objects(&read("deploy/examples/policy.yaml"))
        [&format!("ConfigMap {NAMESPACE} bulkhead-policy")];
    let text = policy["data"]["policy.yaml"].as_str().unwrap();
    let policy = bulkhead::manifest::Policy::default().with(Path::new("policy"), text);
    assert!(policy.unwrap().namespaces.contains_key("shop"));
}

/// What the image's daemon is laid out by would else be found to be refused by the build of the image, late.
#[test]
fn the_manifests_of_the_layout_pass_the_check() {
    let folder = tempfile::tempdir().unwrap();
    // Its peers are not started where there is their port.
    std::fs::write(folder.path().join("port"), "1\n").unwrap();
    let training = "set -euo pipefail; . deploy/layout/training.sh; prepare \"${kinds[@]}\"";
    let output = Command::new("bash")
        .args(["-c", training])
        .current_dir(project("."))
        .env("folder", folder.path())
        .env("source", "deploy")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let manifests = std::fs::read_dir(folder.path().join("manifests")).unwrap();
    let manifests: Vec<_> = manifests.map(|it| it.unwrap().path()).collect();
    assert_eq!(manifests.len(), 5);
    let output = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .arg("check")
        .args(&manifests)
        .arg("--policy")
        .arg(project("deploy/layout/policy.yaml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The daemon promises plugins a share of its pod's memory, and refuses what does not fit.
#[test]
fn the_examples_fit_into_the_pod_together() {
    let daemon = &kustomize("deploy/kustomize/base")[&format!("DaemonSet {NAMESPACE} bulkhead")];
    let container = &daemon["spec"]["template"]["spec"]["containers"][0];
    let limit = container["resources"]["limits"]["memory"].clone();
    let ByteSize(limit) = serde_json::from_value(limit).unwrap();
    let share = Regex::new(r"const SHARE: u64 = (\d+);").unwrap();
    let budget = read("runtime/src/daemon/budget.rs");
    let share: u64 = share.captures(&budget).unwrap()[1].parse().unwrap();
    let memory = examples().into_iter().map(|text| {
        match manifest::read(Path::new("example"), text.as_bytes()).remove(0) {
            Document::Manifest(manifest) => manifest.spec.limits.memory.0,
            other => panic!("{other:?}"),
        }
    });
    let (wanted, promised): (u64, u64) = (memory.sum(), limit / 100 * share);
    assert!(wanted <= promised, "{wanted} of {promised} bytes");
}

/// Where the TLS library looks for them; an image from scratch has what is copied into it alone.
#[test]
fn the_image_has_the_public_authorities() {
    let text = read("deploy/Containerfile");
    let (build, image) = text.split_once("\nFROM scratch\n").unwrap();
    let installed = build.lines().find(|line| line.contains("apt-get install"));
    let mut packages = installed.unwrap().split_whitespace();
    assert!(packages.any(|package| package == "ca-certificates"));
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    let copied = format!("COPY --from=build {bundle} {bundle}");
    assert!(image.lines().any(|line| line == copied), "{image}");
}

#[test]
fn what_the_downward_api_gives_is_in_the_book() {
    let daemon = &kustomize("deploy/kustomize/base")[&format!("DaemonSet {NAMESPACE} bulkhead")];
    let container = &daemon["spec"]["template"]["spec"]["containers"][0];
    let given = container["env"].as_array().unwrap().iter();
    let given = given.filter_map(|one| {
        let field = one["valueFrom"]["fieldRef"]["fieldPath"].as_str()?;
        Some((one["name"].as_str()?, field))
    });
    let given: BTreeMap<_, _> = given.collect();
    assert_eq!(given["HOST_IP"], "status.hostIP");
    let book = read("docs/kubernetes.md");
    let help = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .args(["run", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for name in given.keys() {
        let known = book.contains(&format!("`{name}`")) || help.contains(&format!("[env: {name}="));
        assert!(known, "neither the book nor the daemon knows {name}");
    }
}

#[test]
fn the_chart_asks_for_no_newer_cluster_than_it_is_tested_on() {
    let about: Value = serde_saphyr::from_str(&read("deploy/helm/bulkhead/Chart.yaml")).unwrap();
    let asked = about["kubeVersion"].as_str().unwrap();
    let minor = asked.strip_prefix(">=1.").unwrap();
    let minor = minor.strip_suffix(".0-0").unwrap().parse::<u32>().unwrap();
    let (_, version) = Cluster::shared().request("GET", "/version", None);
    let tested = version["minor"].as_str().unwrap().trim_end_matches('+');
    assert!(minor <= tested.parse().unwrap(), "{version:#}");
    let book = read("docs/cluster.md");
    assert!(book.contains(&format!("version is at least 1.{minor}.")));
}
