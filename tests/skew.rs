//! Old and new beside each other, one version apart: manifests, stores, plugins and programs.
//! `upgrade.rs` has the stores of earlier daemons.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bulkhead::manifest::{
    self, Allowance, AllowedFolder, AllowedLogs, ByteSize, CpuShare, Document, ModuleSource,
    NamespacePolicy, NodeLimits, Period, Plugin, Policy, TrustedModule,
};
use serde_json::{Value, json};
use support::{Node, fixture_module, message, numbered, reason, sha256, wait_for};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

/// What a manifest says, with all defaults.
fn meaning(path: &Path) -> Value {
    let mut documents = manifest::read(path, &fs::read(path).unwrap());
    assert_eq!(documents.len(), 1, "{}", path.display());
    match documents.remove(0) {
        Document::Manifest(manifest) => json!({
            "identity": manifest.identity.to_string(),
            "spec": serde_json::to_value(&manifest.spec).unwrap(),
        }),
        other => panic!("{}: {other:?}", path.display()),
    }
}

/// Whether all that was said then is said now. What was added since is left out.
fn assert_still(then: &Value, now: &Value, place: &str) {
    match (then, now) {
        (Value::Object(then), Value::Object(now)) => {
            for (name, value) in then {
                let found = now.get(name).unwrap_or(&Value::Null);
                assert_still(value, found, &format!("{place}.{name}"));
            }
        }
        (Value::Array(then), Value::Array(now)) => {
            assert_eq!(then.len(), now.len(), "{place}");
            for (index, (then, now)) in then.iter().zip(now).enumerate() {
                assert_still(then, now, &format!("{place}[{index}]"));
            }
        }
        _ => assert_eq!(then, now, "{place}"),
    }
}

/// The manifests of `fixtures/v1alpha1`, which are never changed: they stand for what is in clusters.
/// A new field goes into a new file.
fn old_manifests() -> Vec<PathBuf> {
    let entries = fs::read_dir(fixtures().join("v1alpha1")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().unwrap() == "yaml")
        .collect();
    paths.sort();
    paths
}

#[test]
fn old_manifests_mean_what_they_meant() {
    let manifests = old_manifests();
    assert_eq!(manifests.len(), 9);
    for path in manifests {
        let then = fs::read_to_string(path.with_extension("json")).unwrap();
        let then: Value = serde_json::from_str(&then).unwrap();
        assert_still(&then, &meaning(&path), &path.display().to_string());
    }
}

#[test]
#[ignore = "writes down what a new manifest means"]
fn write_what_new_manifests_mean() {
    for path in old_manifests() {
        let file = path.with_extension("json");
        if !file.exists() {
            let text = serde_json::to_string_pretty(&meaning(&path)).unwrap();
            fs::write(file, text + "\n").unwrap();
        }
    }
}

#[test]
fn an_old_policy_means_what_it_meant() {
    let path = fixtures().join("policy-v1alpha1.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let policy = Policy::default().with(&path, &text).unwrap();
    let folder = |host: &str, writable| AllowedFolder {
        host: host.into(),
        writable,
    };
    let named = |names: &[&str]| names.iter().copied().map(str::to_owned).collect();
    let shop = NamespacePolicy {
        all_grants: false,
        grants: Allowance {
            state: true,
            node_facts: true,
            files: vec![folder("/srv/shop", true), folder("/srv/read", false)],
            logs: Some(AllowedLogs {
                containers: named(&["shop", "*"]),
                files: vec!["/var/log/shop".into()],
                destinations: Some(named(&["elasticsearch", "http"])),
            }),
            ..Allowance::default()
        },
        limits: Some(NodeLimits {
            memory: ByteSize::mebibytes(64),
            deadline: Period::seconds(5),
            cpu: CpuShare { millis: 500 },
            output: ByteSize::mebibytes(1),
            state: ByteSize::mebibytes(1),
        }),
        modules: Some(
            [
                ModuleSource::Bundled,
                ModuleSource::File,
                ModuleSource::BinaryData,
                ModuleSource::ConfigMapParts,
            ]
            .into(),
        ),
    };
    let platform = NamespacePolicy {
        all_grants: true,
        ..NamespacePolicy::default()
    };
    let expected = Policy {
        limits: NodeLimits {
            memory: ByteSize::mebibytes(256),
            deadline: Period::seconds(30),
            cpu: CpuShare::cores(1),
            output: ByteSize::mebibytes(32),
            state: ByteSize::mebibytes(8),
        },
        allow_root_equivalent: [
            TrustedModule::Bundled("log-shipper".to_owned()),
            TrustedModule::Sha256("1".repeat(64)),
        ]
        .into(),
        namespaces: [("platform", platform), ("shop", shop)]
            .map(|(name, policy)| (name.to_owned(), policy))
            .into(),
        ..Policy::default()
    };
    assert_eq!(policy, expected);
}

#[test]
fn an_old_policy_of_capabilities_means_what_it_meant() {
    let path = fixtures().join("policy-capabilities-v1alpha1.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let mut policy = Policy::default().with(&path, &text).unwrap();
    let Allowance {
        node_stats,
        node_files,
        changes,
        scan,
        remote_write,
        ..
    } = policy.namespaces.remove("nodes").unwrap().grants;
    assert!(node_stats && remote_write);
    let found = json!({"nodeFiles": node_files, "changes": changes, "scan": scan});
    let expected = json!({
        "nodeFiles": ["/proc", "/var/lib/metrics/*.prom"],
        "changes": {
            "files": ["/etc/motd"],
            "sysctls": ["net.ipv4.*"],
            "kernelModules": ["cramfs"],
            "units": ["ssh.service"],
        },
        "scan": {
            "files": ["/usr"],
            "processes": true,
            "argumentsOf": ["kube-*"],
            "sockets": true,
            "users": true,
            "kernelModules": true,
            "sysctls": ["kernel.kptr_restrict"],
        },
    });
    assert_still(&expected, &found, "grants");
}

/// The fields of a type of a schema, `Type.field`: those of a value, or all that there are.
fn fields(
    schema: &Value,
    types: &Value,
    of: &str,
    value: Option<&Value>,
    found: &mut BTreeSet<String>,
) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        // Some types may hold themselves.
        let begun = format!("{name}.");
        let known = found.range(begun.clone()..).next();
        if value.is_some() || !known.is_some_and(|field| field.starts_with(&begun)) {
            fields(&types[name], types, name, value, found);
        }
    }
    for choices in ["anyOf", "oneOf", "allOf"] {
        for choice in schema[choices].as_array().into_iter().flatten() {
            fields(choice, types, of, value, found);
        }
    }
    for (field, inner) in schema["properties"].as_object().into_iter().flatten() {
        let inside = value.map(|value| value.get(field));
        if inside == Some(None) {
            continue;
        }
        let name = format!("{of}.{field}");
        found.insert(name.clone());
        fields(inner, types, &name, inside.flatten(), found);
    }
    for (many, inner) in [
        ("items", &schema["items"]),
        ("values", &schema["additionalProperties"]),
    ] {
        if !inner.is_object() {
            continue;
        }
        match value {
            None => fields(inner, types, of, None, found),
            Some(Value::Array(items)) if many == "items" => {
                items
                    .iter()
                    .for_each(|item| fields(inner, types, of, Some(item), found));
            }
            Some(Value::Object(members)) if many == "values" => {
                members
                    .values()
                    .for_each(|item| fields(inner, types, of, Some(item), found));
            }
            Some(_) => {}
        }
    }
}

/// Fields that no valid manifest has.
const NEVER_GIVEN: [&str; 1] = [
    // Refused beside `token`, which is required.
    "SplunkHecDestination.basicAuth",
];

/// A new field goes into a new file, before it goes out.
#[test]
fn every_field_is_kept_in_a_manifest_or_a_policy() {
    let yaml = |path: &Path| -> Value {
        serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    };
    let manifests = old_manifests().into_iter().map(|path| {
        let text = yaml(&path)["data"]["plugin.yaml"].take();
        serde_saphyr::from_str(text.as_str().unwrap()).unwrap()
    });
    let policies = ["policy-v1alpha1.yaml", "policy-capabilities-v1alpha1.yaml"];
    let policies = policies.map(|name| yaml(&fixtures().join(name)));
    let (mut all, mut kept) = (BTreeSet::new(), BTreeSet::new());
    let kinds: [(&str, Value, Vec<Value>); 2] = [
        (
            "plugin.yaml",
            Plugin::schema().to_value(),
            manifests.collect(),
        ),
        ("policy.yaml", Policy::schema().to_value(), policies.into()),
    ];
    for (name, schema, values) in kinds {
        let types = &schema["$defs"];
        fields(&schema, types, name, None, &mut all);
        for value in &values {
            fields(&schema, types, name, Some(value), &mut kept);
        }
    }
    assert!(all.len() > 250, "{all:?}");
    let lacking = all.iter().filter(|field| !kept.contains(*field));
    assert!(
        lacking.eq(NEVER_GIVEN.iter()),
        "{:?}",
        all.difference(&kept)
    );
}

/// As a newer daemon does that changes the layout of the store.
fn set_format(node: &Node, format: u64) {
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    let database = redb::Database::create(node.state.join("bulkhead.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let before = {
        let mut table = transaction.open_table(meta).unwrap();
        table
            .insert("format", format)
            .unwrap()
            .map(|before| before.value())
    };
    assert!(before.is_some());
    transaction.commit().unwrap();
}

#[test]
fn a_store_of_a_newer_daemon_is_refused_and_nothing_of_it_is_lost() {
    let mut node = Node::new();
    node.manifest("app", &node.spec("app", "fixture-logs", "{}"));
    node.append("a.log", numbered("line", 0..100));
    node.start();
    node.assert_accounted("app", 100);
    assert!(node.stop().success());

    set_format(&node, 99);
    let files = |node: &Node| {
        let entries = fs::read_dir(&node.state).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = files(&node);
    node.spawn(&[], &[]);
    assert!(!node.wait_for_end().success());
    let log = node.daemon_log();
    assert!(
        log.contains("has state format 99, and this daemon knows formats up to"),
        "{log}"
    );
    assert!(log.contains("run the newer daemon again"), "{log}");
    assert_eq!(files(&node), before);

    // What the newer one would find.
    set_format(&node, 1);
    node.append("a.log", numbered("line", 100..150));
    node.start();
    node.assert_accounted("app", 50);
    let output = node.output("app");
    let messages = output
        .iter()
        .map(|record| record["message"].as_str().unwrap().to_owned());
    assert!(messages.eq(numbered("line", 0..150)));
}

/// A component as if built against another version of the contract, which has as many digits.
fn of_contract(component: &[u8], version: &str) -> Vec<u8> {
    const NAME: &[u8] = b"bulkhead:plugin/";
    let mut bytes = component.to_vec();
    let mut changed = 0;
    for start in memchr::memmem::find_iter(component, NAME) {
        let name = &component[start + NAME.len()..];
        let length = name
            .iter()
            .take_while(|byte| byte.is_ascii_lowercase())
            .count();
        if name[length..].starts_with(b"@0.1.1") {
            let at = start + NAME.len() + length + 1;
            bytes[at..at + version.len()].copy_from_slice(version.as_bytes());
            changed += 1;
        }
    }
    assert!(changed > 3, "the fixture names the contract");
    bytes
}

#[test]
fn plugins_of_a_later_patch_load_and_those_of_another_minor_are_refused_by_name() {
    let mut node = Node::new();
    node.append("a.log", numbered("line", 0..10));
    let component = fs::read(fixture_module("fixture-grants").0).unwrap();
    for (name, version) in [("patch", "0.1.9"), ("minor", "0.2.0"), ("older", "0.0.9")] {
        let bytes = of_contract(&component, version);
        let path = node.path(&format!("{name}.wasm"));
        fs::write(&path, &bytes).unwrap();
        let module = format!("file: {{path: {path:?}, sha256: {}}}", sha256(&bytes));
        let spec = node.spec_of(name, &module, "{count: true}");
        let grants = "grants: {state: {quota: 1Mi}, nodeFacts: true}\nupdate:";
        node.manifest(name, &spec.replace("update:", grants));
    }
    node.start();
    node.wait_running("patch");
    assert_eq!(node.wait_output("patch", 10).len(), 10);
    for (name, version) in [("minor", "0.2.0"), ("older", "0.0.9")] {
        let report = node.wait_plugin(name, "Refused", |report| report["phase"] == "Refused");
        assert_eq!(reason(&report, "Ready"), "Refused");
        let said = message(&report, "Ready");
        for part in [
            &format!("@{version}"),
            "this daemon speaks version 0.1 of the contract",
            "rebuild the plugin against bulkhead-sdk 0.1 or update the daemon",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
}

/// A component of `fixtures/contract-0.1.0`, built against that version and never again: what is on nodes.
fn first_of(node: &Node, name: &str) -> String {
    let path = fixtures().join(format!("contract-0.1.0/{name}.wasm.zst"));
    let bytes = zstd::decode_all(fs::File::open(path).unwrap()).unwrap();
    let path = node.path(&format!("{name}.wasm"));
    fs::write(&path, &bytes).unwrap();
    format!("file: {{path: {path:?}, sha256: {}}}", sha256(&bytes))
}

#[test]
fn plugins_of_the_first_contract_work() {
    let mut node = Node::new();
    node.append("a.log", numbered("line", 0..20));
    for (name, config, kept) in [
        ("minimal", "{contains: line 1}", 11),
        ("logs", "{}", 20),
        ("grants", "{count: true}", 20),
    ] {
        let spec = node.spec_of(name, &first_of(&node, name), config);
        let spec = match name {
            "grants" => spec.replace(
                "update:",
                "grants: {state: {quota: 1Mi}, nodeFacts: true}\nupdate:",
            ),
            _ => spec,
        };
        node.manifest(name, &spec);
        if name == "minimal" {
            node.start();
        }
        assert_eq!(node.wait_output(name, kept).len(), kept, "{name}");
    }
    let module = first_of(&node, "metrics");
    let collectors = "[{name: a, content: [/proc/loadavg]}]";
    node.manifest(
        "metrics",
        &format!(
            "module: {{{module}}}\ngrants: {{nodeFiles: [/proc]}}\nconfig: {{collectors: {collectors}}}\n"
        ),
    );
    node.wait_running("metrics");
    let (_, series) = node.get("/metrics/plugins/local/metrics").unwrap();
    assert!(series.contains("/proc/loadavg"), "{series}");

    let kept = node.path("etc/kept");
    fs::create_dir_all(kept.parent().unwrap()).unwrap();
    let module = first_of(&node, "enforcement");
    let folder = kept.parent().unwrap();
    node.manifest(
        "enforcement",
        &format!(
            "module: {{{module}}}\ngrants: {{changes: {{files: [{folder:?}]}}}}\nenforcement: {{mode: enforce}}\nconfig: {{keep: [{{path: {kept:?}, content: a}}]}}\n"
        ),
    );
    wait_for("the file", || {
        fs::read_to_string(&kept).ok().filter(|text| text == "a")
    });

    let looked_at = node.path("looked-at");
    fs::create_dir(&looked_at).unwrap();
    fs::write(looked_at.join("miner"), "stratum+tcp://pool").unwrap();
    let module = first_of(&node, "scanning");
    node.manifest(
        "scanning",
        &format!("module: {{{module}}}\ngrants: {{scan: {{files: [{looked_at:?}]}}}}\nscanning: {{budget: {{yieldToPressure: false}}}}\n"),
    );
    wait_for("the finding", || {
        let (_, found) = node.get("/v1/findings?name=scanning")?;
        found.contains("names a pool of miners").then_some(())
    });
}

/// Answers every request with that list of plugins.
fn daemon_that_says(list: &Value) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let body = list.to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
            let _ = write!(
                stream,
                "{head}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    address
}

fn status(list: &Value, name: &[&str]) -> Output {
    let address = daemon_that_says(list).to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
    command.args(["status", "--status", &address]).args(name);
    command.output().unwrap()
}

/// The same with members in every object that nobody knows.
fn with_more(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let known = members
                .iter()
                .map(|(name, value)| (name.clone(), with_more(value)));
            let new = [("ofALaterVersion".to_owned(), json!({"a": [1]}))];
            Value::Object(known.chain(new).collect())
        }
        Value::Array(items) => items.iter().map(with_more).collect(),
        other => other.clone(),
    }
}

/// Where the members of a value are, as JSON pointers.
fn members(value: &Value, place: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members_) => {
            for (name, value) in members_ {
                let place = format!("{place}/{name}");
                members(value, &place, found);
                found.push(place);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                members(item, &format!("{place}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn without(value: &Value, place: &str) -> Value {
    let mut value = value.clone();
    let (parent, name) = place.rsplit_once('/').unwrap();
    let parent = value.pointer_mut(parent).unwrap();
    parent.as_object_mut().unwrap().remove(name).unwrap();
    value
}

#[test]
fn the_status_of_a_newer_or_an_older_daemon_is_shown() {
    let mut node = Node::new();
    node.manifest("app", &node.spec("app", "fixture-logs", "{}"));
    node.append("a.log", numbered("line", 0..10));
    node.start();
    node.assert_accounted("app", 10);
    let (_, list) = node.get("/v1/plugins").unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();

    let mut newer = with_more(&list);
    newer["items"][0]["phase"] = "OfALaterVersion".into();
    for name in [&[][..], &["local/app"]] {
        let said = status(&newer, name);
        assert!(said.status.success(), "{said:?}");
        let text = String::from_utf8(said.stdout).unwrap();
        assert!(text.contains("OfALaterVersion"), "{text}");
        assert!(text.contains("10"), "{text}");
    }
    let mut places = Vec::new();
    members(&list, "", &mut places);
    assert!(places.len() > 40, "{places:?}");
    for place in places {
        let older = without(&list, &place);
        for name in [&[][..], &["local/app"]] {
            let said = status(&older, name);
            let named =
                name.is_empty() || !["/items/0/namespace", "/items/0/name"].contains(&&*place);
            assert_eq!(
                said.status.success(),
                named && place != "/items",
                "{place}: {said:?}"
            );
            let text = String::from_utf8(said.stdout).unwrap();
            assert!(!text.contains("null"), "{place}: {text}");
        }
    }
}
