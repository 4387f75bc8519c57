//! The status page in a real browser, and the API's description held against a real daemon.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/browser.rs"]
mod browser;
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use browser::Browser;
use serde_json::{Map, Value, json};
use support::{Node, fixture_file, reason};

const ROW: &str = "document.querySelector('[data-plugin=\"local/app\"]')";

fn phase_is(phase: &str) -> String {
    format!("{ROW}?.dataset.phase === '{phase}'")
}

fn shows(text: &str) -> String {
    format!("{ROW}.innerText.includes({})", json!(text))
}

#[test]
fn the_page_shows_a_plugin_fail_and_recover() {
    let mut node = Node::new();
    let good = node.spec("app", "fixture-logs", "{version: one}");
    node.manifest("app", &good);
    node.start();
    node.wait_running("app");
    node.append("a.log", (0..100).map(|n| n.to_string()));
    let origin = format!("http://{}/", node.address());
    let mut browser = Browser::open(&origin);
    browser.wait(&phase_is("Running"));
    browser.wait("document.getElementById('link').textContent === 'live'");

    // By keyboard alone: to the row, open it, close it, open it again.
    browser.press("ArrowDown", "");
    browser.press("Enter", "\r");
    browser.wait("document.activeElement.getAttribute('aria-expanded') === 'true'");
    browser.wait(&shows("= acknowledged\n100"));
    browser.press("Escape", "");
    browser.wait("document.activeElement.getAttribute('aria-expanded') === 'false'");
    browser.press("Enter", "\r");
    browser.evaluate(&format!("{ROW}.querySelector('summary').click()"));
    browser.wait(&shows("It said nothing."));

    node.manifest(
        "app",
        &node.spec("app", "fixture-logs", "{faults: [{do: panic}]}"),
    );
    node.wait_plugin("app", "past its probation", |report| {
        report["updates"] == 1 && reason(report, "UpToDate") == "Current"
    });
    node.append("a.log", (100..200).map(|n| n.to_string()));
    browser.wait(&phase_is("Degraded"));
    browser.wait(&shows("fixture panic at"));
    browser.wait(&shows("Crashing"));
    browser.wait("document.title.startsWith('(1)')");

    node.manifest("app", &good);
    browser.wait(&phase_is("Running"));
    // A bad revision costs no line.
    browser.wait(&shows("= acknowledged\n200"));
    browser.wait(&shows("+ in flight\n0"));
    browser.wait("!document.title.startsWith('(')");

    // What a manifest or a plugin says is text.
    let markup = "<img src=x onerror=alert(1)>";
    let bad = good.replace("{version: one}", &format!("{{{markup:?}: 1}}"));
    node.manifest("app", &bad);
    browser.wait(&shows(markup));
    assert_eq!(browser.evaluate("document.images.length"), 0);

    // Dark, and narrow.
    let ground = "getComputedStyle(document.documentElement).backgroundColor";
    let light = browser.evaluate(ground);
    let dark = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
    browser.call("Emulation.setEmulatedMedia", dark);
    assert_ne!(browser.evaluate(ground), light);
    let narrow = json!({"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": false});
    browser.call("Emulation.setDeviceMetricsOverride", narrow);
    browser.wait("innerWidth === 400 && document.documentElement.scrollWidth <= 400");

    for request in browser.requests() {
        let stays = request.starts_with(&origin) || request.starts_with("data:");
        assert!(stays || request == "about:blank", "{request}");
    }
    assert!(!browser.requests().is_empty());
    assert!(
        browser.complaints().is_empty(),
        "{:#?}",
        browser.complaints()
    );

    node.kill();
    browser.wait("!document.getElementById('lost').hidden");
}

#[test]
fn the_page_shows_where_series_are_pushed_to() {
    let mut node = Node::new();
    let module = fixture_file("fixture-metrics");
    let spec = format!("module:\n  {module}\nconfig: {{collectors: [{{name: a, do: count}}]}}\n");
    let far = "{name: far, url: 'http://127.0.0.1:1/push', interval: 1s, retry: {initial: 20ms, max: 50ms}}";
    node.manifest("app", &format!("{spec}metrics: {{remoteWrite: [{far}]}}\n"));
    node.start();
    node.wait_plugin("app", "pushes missed", |report| {
        report["metrics"]["remoteWrite"][0]["missedPushes"].as_u64() >= Some(2)
    });
    let mut browser = Browser::open(&format!("http://{}/", node.address()));
    browser.wait(&phase_is("Running"));
    browser.press("ArrowDown", "");
    browser.press("Enter", "\r");
    let table = format!("{ROW}.querySelector('[aria-label=\"Remote write\"]')");
    browser.wait(&format!("{table}?.checkVisibility()"));
    for text in ["far", "Retrying", "cannot connect"] {
        browser.wait(&format!("{table}.textContent.includes('{text}')"));
    }
    // The column of the missed ones.
    browser.wait(&format!(
        "Number({table}.querySelectorAll('td')[8].textContent) >= 2"
    ));
    browser.wait(&shows("Destination far"));
    let lines = format!("{ROW}.querySelector('[aria-label=\"Destinations\"]').checkVisibility()");
    assert_eq!(browser.evaluate(&lines), false);
    node.manifest("app", &spec);
    browser.wait(&format!("!{table}.checkVisibility()"));
    assert!(
        browser.complaints().is_empty(),
        "{:#?}",
        browser.complaints()
    );
}

#[test]
fn the_page_shows_what_was_found() {
    let mut node = Node::new();
    let scanned = node.path("scanned");
    std::fs::create_dir(&scanned).unwrap();
    std::fs::write(scanned.join("bad"), "with EICAR-STANDARD\n").unwrap();
    let rule = r#"rule eicar { strings: $a = "EICAR-STANDARD" condition: $a }"#;
    let spec = format!(
        "module: {{bundled: security-scanner}}\nconfig: {{signatures: {{yara: [{{name: test, text: '{rule}'}}]}}}}\n\
         grants: {{state: {{quota: 1Mi}}, scan: {{files: [{scanned:?}]}}}}\n"
    );
    let far = "{name: far, http: {url: 'http://127.0.0.1:1/', retry: {initial: 20ms, max: 50ms}}}";
    node.manifest(
        "app",
        &format!("{spec}scanning: {{budget: {{yieldToPressure: false}}, destinations: [{far}]}}\n"),
    );
    node.start();
    node.wait_plugin("app", "a pass", |report| {
        report["scanning"]["passes"].as_u64() >= Some(1)
    });
    let mut browser = Browser::open(&format!("http://{}/", node.address()));
    browser.wait(&phase_is("Running"));
    browser.press("ArrowDown", "");
    browser.press("Enter", "\r");
    for text in ["Scanning", "Open findings", "Last pass", "Changes are seen"] {
        browser.wait(&shows(text));
    }
    let list = format!("{ROW}.querySelector('[aria-label=\"Open findings\"]')");
    browser.wait(&format!("{list}?.checkVisibility()"));
    let path = scanned.join("bad").display().to_string();
    browser.wait(&format!("{list}.textContent.includes({})", json!(path)));
    let table = format!("{ROW}.querySelector('[aria-label=\"Findings are sent to\"]')");
    browser.wait(&format!("{table}.textContent.includes('far (http)')"));
    browser.wait(&shows("Destination far"));
    node.manifest("app", &format!("{spec}scanning: {{}}\n"));
    browser.wait(&format!("!{table}.checkVisibility()"));
    assert!(
        browser.complaints().is_empty(),
        "{:#?}",
        browser.complaints()
    );
}

#[test]
fn a_browser_may_do_nothing_with_the_page_but_show_it() {
    let mut node = Node::new();
    node.start();
    for (path, accept, kind) in [
        ("/", "text/html,*/*", "text/html; charset=utf-8"),
        ("/", "*/*", "text/plain; charset=utf-8"),
        ("/page.css", "*/*", "text/css; charset=utf-8"),
        ("/page.js", "*/*", "text/javascript; charset=utf-8"),
        ("/v1/node", "*/*", "application/json"),
    ] {
        let answer = request(&node, path, accept);
        assert_eq!((answer.code, &*answer.header("content-type")), (200, kind));
        let policy = answer.header("content-security-policy");
        for part in ["default-src 'none'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
    }
    let index = request(&node, "/", "*/*").body;
    assert!(
        index.contains("\n/v1/plugins/{namespace}/{name}/logs"),
        "{index}"
    );
}

#[test]
fn every_answer_is_as_the_description_says() {
    let mut node = Node::new();
    let good = node.spec("runs", "fixture-logs", "{readFile: /etc/passwd}");
    node.manifest("runs", &good);
    let bad = "{faults: [{do: panic}]}";
    node.manifest("traps", &node.spec("traps", "fixture-logs", bad));
    let refused = node.spec("refused", "fixture-logs", "{vresion: one}");
    node.manifest("refused", &refused);
    let idle = node.spec("idle", "fixture-logs", "{}");
    node.manifest("idle", &format!("suspend: true\n{idle}"));
    // A port that nobody listens on: bound, and closed again.
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let waits = node.spec("waits", "fixture-logs", "{}");
    let http = format!("\n  - name: http\n    http: {{url: \"http://{closed}/\"}}");
    node.manifest("waits", &(waits + &http));
    node.raw_manifest(
        "broken.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: [\n",
    );
    node.start();
    node.append("a.log", (0..100).map(|n| n.to_string()));
    node.wait_running("runs");
    node.wait_plugin("traps", "failed", |report| {
        report["lastFailure"].is_object()
    });
    node.wait_plugin("refused", "refused", |report| report["phase"] == "Refused");
    node.wait_plugin("idle", "suspended", |report| report["phase"] == "Suspended");
    node.wait_plugin("waits", "in trouble", |report| {
        let destinations = report["logs"]["destinations"].as_array();
        destinations.is_some_and(|all| all.iter().any(|one| one["state"] == "Retrying"))
    });
    node.manifest("runs", &good.replace("/etc/passwd", "/etc/group"));
    node.wait_plugin("runs", "updated", |report| report["updates"] == 1);

    let mut document: Value =
        serde_json::from_str(&request(&node, "/openapi.json", "*/*").body).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    close(&mut document["components"]["schemas"]);
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            let described = schema["description"].is_string() || schema["$ref"].is_string();
            assert!(described, "{name}.{field} has no description");
        }
    }
    for (path, item) in document["paths"].as_object().unwrap() {
        let probe = ["/healthz", "/readyz"].contains(&&**path);
        let responses = item["get"]["responses"].as_object().unwrap();
        assert_eq!(item["get"]["security"] == json!([]), probe, "{path}");
        for code in ["401", "403"] {
            assert_eq!(responses.contains_key(code), !probe, "{path}: {code}");
        }
    }
    let plugins = ["runs", "traps", "refused", "idle", "waits", "no-such"];
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace("{namespace}", "local");
        let names = if path.contains("{name}") {
            &plugins[..]
        } else {
            &plugins[..1]
        };
        for name in names {
            check(
                &node,
                &document,
                &path.replace("{name}", name),
                &item["get"],
            );
        }
    }
    // The check itself: a field that nobody described.
    let mut node_report: Value =
        serde_json::from_str(&request(&node, "/v1/node", "*/*").body).unwrap();
    node_report["surprise"] = 1.into();
    let operation = &document["paths"]["/v1/node"]["get"];
    let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
    assert!(!validator(&document, schema).is_valid(&node_report));
}

/// Holds one path's answers against its description.
fn check(node: &Node, document: &Value, path: &str, operation: &Value) {
    for accept in ["*/*", "text/html"] {
        let answer = request(node, path, accept);
        let response = &operation["responses"][answer.code.to_string()];
        assert!(
            response.is_object(),
            "{path}: {} is not described",
            answer.code
        );
        let kind = answer.header("content-type");
        let content = &response["content"][&kind];
        assert!(content.is_object(), "{path}: {kind} is not described");
        if kind != "application/json" {
            continue;
        }
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        let validator = validator(document, &content["schema"]);
        let errors: Vec<String> = validator
            .iter_errors(&body)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{path}: {errors:#?}\n{body:#}");
    }
}

fn validator(document: &Value, schema: &Value) -> jsonschema::Validator {
    let mut schema = schema.clone();
    schema["components"] = document["components"].clone();
    jsonschema::validator_for(&schema).unwrap()
}

/// Refuses fields that are not described, everywhere.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.get("properties").is_some_and(Value::is_object) {
                members
                    .entry("additionalProperties")
                    .or_insert(Value::Bool(false));
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

struct Answer {
    code: u16,
    headers: Map<String, Value>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> String {
        self.headers
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }
}

fn request(node: &Node, path: &str, accept: &str) -> Answer {
    let mut stream = TcpStream::connect(node.address()).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nAccept: {accept}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Answer {
        code: head.split(' ').nth(1).unwrap().parse().unwrap(),
        headers: head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.into()))
            .collect(),
        body: body.to_owned(),
    }
}
