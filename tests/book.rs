//! The book is true: its manifests are accepted, its plugins are those that are built here, its references are
//! what the source says, and its links lead somewhere. Manifests that are not ours say so (`yaml,elsewhere`). That
//! its commands run is `commands.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use bulkhead::manifest::{Plugin, Policy};
use serde_json::{Value, json};
use support::book::{Block, MODULES, Page, assert_text, root};
use support::{fixture_module, reference, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_bulkhead");
/// What follows is written by the tests.
const WRITTEN: &str =
    "<!-- Written by tests/book.rs: BULKHEAD_WRITE_BOOK=1 cargo test ... --test book -->\n";

/// A page whose end is written here.
fn assert_written(name: &str, rest: &str) {
    let page = Page::read(name);
    let (prose, _) = page.text.split_once(WRITTEN).unwrap();
    assert_text(name, &format!("{prose}{WRITTEN}{rest}"));
}

#[test]
fn the_manifest_reference_has_every_field() {
    let text = reference::fields(&[
        ("plugin.yaml", Plugin::schema().to_value()),
        ("policy.yaml", Policy::schema().to_value()),
    ]);
    assert_written("docs/manifest-reference.md", &text);
}

#[test]
fn the_wit_reference_has_every_function_and_type() {
    assert_written("docs/wit.md", &reference::contract(&root().join("sdk/wit")));
}

#[test]
fn the_metrics_reference_has_every_family() {
    let mut named = BTreeSet::new();
    let folder = root().join("runtime/src/status");
    let mut files = vec![folder.join("metrics.rs")];
    let below = fs::read_dir(folder.join("metrics")).unwrap();
    files.extend(below.map(|entry| entry.unwrap().path()));
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
        let words = words.filter(|it| it.starts_with("bulkhead_"));
        named.extend(words.map(str::to_owned));
    }
    // Some are told only where there is something to tell.
    let mut node = support::Node::new();
    let module = |fixture: &str| {
        let (path, sha256) = fixture_module(fixture);
        format!("module: {{file: {{path: {path:?}, sha256: {sha256}}}}}\n")
    };
    let server = "url: 'http://127.0.0.1:9/'";
    let queue = "queue: {maxSize: 1Mi}";
    let write = format!("metrics: {{remoteWrite: [{{name: a, {server}, {queue}}}]}}");
    let grants = "grants: {nodeFiles: [/proc/loadavg]}\n";
    node.manifest("load", &(module("tutorial-load") + grants + &write));
    let scanned = node.path("scanned");
    fs::create_dir(&scanned).unwrap();
    let scanning = format!(
        "grants: {{scan: {{files: [{scanned:?}]}}}}\nscanning: {{destinations: [{{name: a, {queue}, http: {{{server}}}}}]}}\n"
    );
    node.manifest("watchman", &(module("tutorial-watchman") + &scanning));
    node.start();
    for name in ["load", "watchman"] {
        node.wait_running(name);
    }
    let mut page = String::new();
    for name in &named {
        wait_for(name, || {
            page = node.get("/metrics")?.1;
            page.contains(&format!("# TYPE {name} ")).then_some(())
        });
    }
    assert!(named.len() > 90, "{named:?}");
    assert_written("docs/metrics-reference.md", &reference::families(&page));
}

#[test]
fn every_plugin_of_the_book_is_one_that_is_built_and_run_here() {
    let code = |text: &str| -> String {
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        lines
            .filter(|line| !line.is_empty())
            .map(|line| format!("{line}\n"))
            .collect()
    };
    let folders = [
        "minimal",
        "tutorial-load",
        "tutorial-motd",
        "tutorial-watchman",
    ];
    let known: Vec<String> = folders
        .iter()
        .map(|name| root().join("tests/plugins").join(name).join("src/lib.rs"))
        .map(|path| code(&fs::read_to_string(path).unwrap()))
        .collect();
    let mut seen = 0;
    for page in Page::all() {
        for block in page
            .blocks()
            .iter()
            .filter(|block| block.language() == "rust")
        {
            let (name, line) = (&page.name, block.line);
            assert!(
                known.contains(&code(&block.text)),
                "{name}:{line}: no plugin of {folders:?}"
            );
            seen += 1;
        }
    }
    assert!(seen >= folders.len());
}

#[test]
fn what_is_shown_of_plugins_in_other_languages_is_in_their_sources() {
    let mut seen = 0;
    for (language, path) in [
        ("python", "tests/languages/python/app.py"),
        ("js", "tests/languages/javascript/plugin.js"),
        ("wit", "tests/languages/world.wit"),
    ] {
        let source = fs::read_to_string(root().join(path)).unwrap();
        let source: String = source
            .lines()
            .map(|line| format!("{}\n", line.trim()))
            .collect();
        for page in Page::all() {
            for block in page
                .blocks()
                .iter()
                .filter(|block| block.language() == language)
            {
                let shown: String = block
                    .text
                    .lines()
                    .map(|line| format!("{}\n", line.trim()))
                    .collect();
                assert!(
                    source.contains(&shown),
                    "{}:{}: not in {path}",
                    page.name,
                    block.line
                );
                seen += 1;
            }
        }
    }
    assert!(seen >= 5);
}

/// GitHub's and mdBook's name of a heading, but for what is twice in a page.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let name: String = heading.trim().to_lowercase().chars().filter(kept).collect();
    name.replace(' ', "-")
}

fn anchors(page: &Page) -> BTreeSet<String> {
    let headings = page.prose().filter(|(_, line)| line.starts_with('#'));
    headings
        .map(|(_, line)| anchor(line.trim_start_matches('#')))
        .collect()
}

/// The targets of the links in a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(')')?.0))
}

#[test]
fn every_link_leads_somewhere() {
    let pages: BTreeMap<_, _> = Page::all()
        .into_iter()
        .map(|page| (root().join(&page.name).canonicalize().unwrap(), page))
        .collect();
    let mut broken = String::new();
    for (path, page) in &pages {
        for (line, text) in page.prose() {
            for link in links(text).filter(|link| !link.contains("://")) {
                let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
                let target = match file {
                    "" => Some(path.clone()),
                    file => path.parent().unwrap().join(file).canonicalize().ok(),
                };
                let leads = target.is_some_and(|target| {
                    let headings = pages.get(&target).map(anchors);
                    fragment.is_empty() || headings.is_some_and(|all| all.contains(fragment))
                });
                if !leads {
                    let _ = writeln!(broken, "{}:{line}: {link}", page.name);
                }
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{broken}");
}

#[test]
fn every_page_is_in_the_summary() {
    let summary = Page::read("docs/SUMMARY.md");
    let named: BTreeSet<String> = summary
        .prose()
        .flat_map(|(_, line)| links(line))
        .map(|link| format!("docs/{link}"))
        .collect();
    let pages = Page::all().into_iter().map(|page| page.name);
    let pages: BTreeSet<_> = pages
        .filter(|name| name.starts_with("docs/") && name != "docs/SUMMARY.md")
        .collect();
    assert_eq!(named, pages);
}

/// Manifests, as files for `bulkhead check`, or a policy, or nothing that this daemon reads.
enum Meaning {
    Manifests(String),
    Policy(String),
    Elsewhere,
}

/// A ConfigMap of what a block says, made whole.
fn manifest(mut spec: Value) -> Meaning {
    if spec.get("module").is_none() {
        let fields = spec.as_object().unwrap();
        let has = |name: &str| fields.contains_key(name);
        let grants = |name: &str| spec["grants"].get(name).is_some();
        let bundled = match () {
            () if has("enforcement") || grants("changes") => "config-enforcer",
            () if has("scanning") || grants("scan") => "security-scanner",
            () if has("metrics") || grants("nodeFiles") => "node-metrics",
            () => "log-shipper",
        };
        spec["module"] = json!({"bundled": bundled});
    }
    let bundled = spec["module"]["bundled"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if bundled == "security-scanner" && spec["grants"]["state"].is_null() {
        spec["grants"]["state"] = json!({"quota": "8Mi"});
    }
    if bundled == "config-enforcer" && spec["config"].is_object() && spec["grants"].is_null() {
        spec["grants"] = everything_to_enforce();
    }
    if bundled == "node-metrics" && spec["config"].is_null() {
        spec["config"] =
            json!({"disableDefaults": true, "collectors": {"loadavg": {"enabled": true}}});
        spec["grants"] = json!({"nodeStats": true, "nodeFiles": ["/proc"]});
    }
    if bundled == "log-shipper" {
        let logs = &mut spec["logs"];
        if logs["sources"].is_null() {
            logs["sources"] = json!([{"containers": {}}]);
        }
        if logs["destinations"].is_null() {
            logs["destinations"] = json!([{"name": "out", "stdout": {}}]);
        }
    }
    spec["apiVersion"] = json!("bulkhead.dev/v1alpha1");
    spec["kind"] = json!("Plugin");
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "example", "labels": {"bulkhead.dev/plugin": "true"}},
        "data": {"plugin.yaml": spec.to_string()},
    });
    Meaning::Manifests(map.to_string())
}

/// What a YAML block is, by its page and its fields.
fn meaning(page: &Page, block: &Block) -> Meaning {
    if block.is_marked("elsewhere") {
        return Meaning::Elsewhere;
    }
    let text = block.flush();
    let place = format!("{}:{}", page.name, block.line);
    let value: Value =
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{place}: {error}"));
    let bundled = |name: &str| manifest(json!({"module": {"bundled": name}, "config": &value}));
    if value[0]["containers"].is_object() || value[0]["files"].is_object() {
        return manifest(json!({"logs": {"sources": &value}}));
    }
    if value.is_array() {
        return manifest(json!({"logs": {"destinations": &value}}));
    }
    let has = |name: &str| value.get(name).is_some();
    if value["kind"] == "ConfigMap" {
        Meaning::Manifests(text)
    } else if value["kind"] == "Policy" {
        Meaning::Policy(text)
    } else if page.name.ends_with("config-enforcer.md") {
        bundled("config-enforcer")
    } else if page.name.ends_with("security-scanner.md") {
        manifest(json!({
            "module": {"bundled": "security-scanner"},
            "config": &value,
            "grants": everything_to_scan(),
        }))
    } else if has("containers") || has("sources") {
        manifest(json!({"logs": &value}))
    } else if has("basicAuth") {
        let mut http = value;
        http["url"] = json!("https://logs.example.com/");
        manifest(json!({"logs": {"destinations": [{"name": "out", "http": http}]}}))
    } else {
        manifest(value)
    }
}

fn everything_to_enforce() -> Value {
    json!({
        "nodeFacts": true,
        "nodeFiles": ["/etc", "/var/log/audit", "/var/lib", "/opt", "/proc/self/mounts", "/proc/sys"],
        "changes": {"files": ["/etc", "/opt", "/var/lib"], "sysctls": ["*"], "kernelModules": ["*"], "units": ["*"]},
    })
}

fn everything_to_scan() -> Value {
    json!({
        "state": {"quota": "8Mi"},
        "nodeFacts": true,
        "nodeFiles": ["/etc", "/run", "/var/lib", "/lib/apk", "/proc/cmdline"],
        "scan": {
            "files": ["/etc"], "processes": true, "argumentsOf": ["*"], "sockets": true, "users": true,
            "kernelModules": true, "sysctls": ["*"],
        },
    })
}

/// With the digests of modules that pages name, and folders that they grant.
fn made_here(text: &str, folder: &Path) -> String {
    let mut text = text.replace("/srv/rules", folder.to_str().unwrap());
    for (name, fixture) in MODULES {
        if text.contains(name) {
            text = text.replace("SHA256_OF_THE_FILE", &fixture_module(fixture).1);
        }
    }
    text
}

#[test]
fn every_manifest_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    for (name, fixture) in MODULES {
        fs::copy(fixture_module(fixture).0, folder.path().join(name)).unwrap();
    }
    let mut places = Vec::new();
    for page in Page::all() {
        for block in page
            .blocks()
            .iter()
            .filter(|block| block.language() == "yaml")
        {
            let place = format!("{}:{}", page.name, block.line);
            match meaning(&page, block) {
                Meaning::Elsewhere => {}
                Meaning::Policy(text) => {
                    let read = Policy::default().with(Path::new(&place), &text);
                    assert!(read.is_ok(), "{place}: {read:?}");
                }
                Meaning::Manifests(text) => {
                    let file = folder.path().join(format!("{}.yaml", places.len()));
                    fs::write(&file, made_here(&text, folder.path())).unwrap();
                    places.push((file, place));
                }
            }
        }
    }
    // A node of a cluster whose policy also lets in what the pages say of a folder.
    let policy = folder.path().join("policy");
    let trusted = "[{bundled: config-enforcer}, {bundled: log-shipper}]";
    let text =
        "apiVersion: bulkhead.dev/v1alpha1\nkind: Policy\nnamespaces: {local: {allGrants: true}}\n";
    fs::write(&policy, format!("{text}allowRootEquivalent: {trusted}\n")).unwrap();
    let output = Command::new(BINARY)
        .args([
            "check",
            "--output",
            "json",
            "--namespace",
            "bulkhead-system",
            "--policy",
        ])
        .arg(&policy)
        .args(places.iter().map(|(file, _)| file))
        .output()
        .unwrap();
    let results: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let mut refused = String::new();
    for (file, place) in &places {
        for result in results
            .iter()
            .filter(|result| result["file"] == *file.to_str().unwrap())
        {
            for problem in result["problems"].as_array().unwrap() {
                // All fragments go by one name here.
                if !problem.as_str().unwrap().contains("is also declared by") {
                    let _ = writeln!(refused, "{place}: {problem}");
                }
            }
        }
    }
    assert!(refused.is_empty(), "{refused}");
    assert!(places.len() > 30, "{}", places.len());
}
