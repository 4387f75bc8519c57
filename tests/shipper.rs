//! The bundled log-shipper through the daemon: each thing that its configuration can do to a line,
//! seen in the files and at the HTTP endpoint that it comes out of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};
use support::sink::{Sink, ok};
use support::{Accounts, Node};

/// The log-shipper with a configuration, and with a second destination that only gets what is
/// routed to it.
fn start(config: &str) -> Node {
    let mut node = Node::new();
    let errors = format!(
        "\n  - name: errors\n    receives: routed\n    file: {{path: {:?}}}",
        node.path("out-errors")
    );
    node.manifest("app", &(spec(&node, config) + &errors));
    node.start();
    node.wait_running("app");
    node
}

fn spec(node: &Node, config: &str) -> String {
    let spec = node.spec("app", "fixture-logs", config);
    let file = spec.lines().find(|line| line.contains("file: {path"));
    spec.replacen(file.unwrap(), "  bundled: log-shipper", 1)
}

fn write(node: &Node, lines: &[&str]) {
    node.append("a.log", lines.iter().map(|line| (*line).to_owned()));
}

/// The output without what differs from run to run.
fn output(node: &Node, name: &str) -> Vec<Value> {
    let mut output = node.output(name);
    for record in &mut output {
        let record = record.as_object_mut().unwrap();
        let file = record.remove("file").unwrap();
        assert!(file.as_str().unwrap().ends_with("/logs/a.log"));
        let time = record.remove("time").unwrap();
        assert!(time.as_str().unwrap().ends_with('Z'));
    }
    output
}

fn filtered(accounts: &Accounts) -> (u64, u64) {
    (accounts.acknowledged, accounts.filtered)
}

#[test]
fn json_is_parsed_filtered_redacted_and_changed() {
    let node = start(
        r#"{parse: json, filters: [{drop: {field: level, equals: debug}}],
         redact: [{pattern: '\d{4}-\d{4}', replace: '****'}, {pattern: secret, fields: [user.password]}],
         remove: [noise, user.id], rename: {msg: text}, add: {cluster: west, shard: 3}}"#,
    );
    write(
        &node,
        &[
            r#"{"level":"info","msg":"card 1234-5678","n":1.50,"noise":[1,2],"user":{"id":7,"password":"secret","note":"secret"}}"#,
            r#"{"level":"debug","msg":"dropped"}"#,
            r#"not json, card 1234-5678"#,
            r#"{"level":"warn","cluster":"east","msg":{"deep":["1111-2222"]}}"#,
        ],
    );
    let accounts = node.assert_accounted("app", 4);
    assert_eq!(filtered(&accounts), (3, 1));
    let text = fs::read_to_string(node.path("out-app")).unwrap();
    assert!(text.contains("1.50"), "numbers stay as they were written");
    assert_eq!(
        output(&node, "app"),
        [
            json!({"level": "info", "text": "card ****", "n": 1.5, "cluster": "west", "shard": 3,
                "user": {"password": "[redacted]", "note": "secret"}}),
            json!({"message": "not json, card ****", "parseError": "json", "cluster": "west",
                "shard": 3}),
            json!({"level": "warn", "text": {"deep": ["****"]}, "cluster": "west", "shard": 3}),
        ]
    );
}

#[test]
fn logfmt_is_parsed_and_routed() {
    let node = start(
        r"{parse: logfmt, time: {field: ts}, routes: [
            {when: {field: level, oneOf: [error, fatal]}, to: [errors]},
            {when: {field: audit, exists: true}, to: [errors, out]}]}",
    );
    write(
        &node,
        &[
            r#"ts=2026-01-02T03:04:05.25Z level=error msg="no \"space\" left""#,
            "level=info msg=fine",
            "level=info audit=yes msg=both",
        ],
    );
    let accounts = node.assert_accounted("app", 3);
    assert_eq!(filtered(&accounts), (3, 0));
    let errors = node.output("errors");
    assert_eq!(errors[0]["time"], "2026-01-02T03:04:05.250000000Z");
    let both = json!({"level": "info", "audit": "yes", "msg": "both"});
    let error = json!({"ts": "2026-01-02T03:04:05.25Z", "level": "error",
        "msg": "no \"space\" left"});
    let fine = json!({"level": "info", "msg": "fine"});
    assert_eq!(output(&node, "errors"), [error, both.clone()]);
    assert_eq!(output(&node, "app"), [fine, both]);
}

#[test]
fn a_regular_expression_parses_and_what_it_does_not_match_is_dropped() {
    let node = start(
        r"{parse: {regex: '^(?<status>\d{3}) (?<path>/\S*)$'}, unparsed: drop,
         filters: [{keep: {field: status, matches: '^5'}}]}",
    );
    write(
        &node,
        &[
            "200 /",
            "503 /cart",
            "500 /pay",
            "what?",
            "404 /x",
            "5000 /y",
        ],
    );
    let accounts = node.assert_accounted("app", 6);
    assert_eq!(filtered(&accounts), (2, 4));
    assert_eq!(
        output(&node, "app"),
        [
            json!({"status": "503", "path": "/cart"}),
            json!({"status": "500", "path": "/pay"}),
        ]
    );
}

#[test]
fn sampling_lets_one_in_so_many_pass_and_keeps_keys_together() {
    let node = start(
        "{parse: logfmt, sample: [
            {when: {field: kind, equals: access}, rate: 10},
            {when: {field: kind, equals: trace}, rate: 4, key: id}]}",
    );
    let line = |n: u64| match n % 3 {
        0 => format!("kind=access n={n}"),
        1 => format!("kind=trace id={} n={n}", n / 3 % 100),
        _ => format!("kind=other n={n}"),
    };
    node.append("a.log", (0..3000).map(line));
    let accounts = node.assert_accounted("app", 3000);
    let mut traces: BTreeMap<String, u64> = BTreeMap::new();
    let (mut access, mut other) = (0, 0);
    for record in output(&node, "app") {
        match record["kind"].as_str().unwrap() {
            "access" => access += 1,
            "other" => other += 1,
            _ => *traces.entry(record["id"].to_string()).or_default() += 1,
        }
    }
    assert_eq!((access, other), (100, 1000));
    assert!(traces.values().all(|&lines| lines == 10), "{traces:?}");
    assert!((1..100).contains(&traces.len()), "{}", traces.len());
    let passed = 1100 + 10 * traces.len() as u64;
    assert_eq!(filtered(&accounts), (passed, 3000 - passed));
}

#[test]
fn an_endpoint_gets_json_lines_with_the_lines_own_members() {
    let mut node = Node::new();
    let sink = Sink::start(|_| ok());
    let destination = format!("http: {{url: {:?}}}", sink.url());
    let spec = spec(&node, "{parse: auto, add: {env: test}}");
    let file = spec.lines().last().unwrap().to_owned();
    node.manifest("app", &spec.replace(&file, &format!("    {destination}")));
    node.start();
    write(
        &node,
        &[r#"{"n":1,"env":"own"}"#, "plain \"text\"", "{ broken"],
    );
    node.assert_accounted("app", 3);
    let mut records = sink.records();
    for record in &mut records {
        let record = record.as_object_mut().unwrap();
        assert!(record.remove("time").is_some() && record.remove("file").is_some());
    }
    assert_eq!(
        records,
        [
            json!({"n": 1, "env": "test"}),
            json!({"message": "plain \"text\"", "env": "test"}),
            json!({"message": "{ broken", "parseError": "json", "env": "test"}),
        ]
    );
    let request = &sink.acknowledged()[0];
    assert_eq!(request.header("content-type"), "application/x-ndjson");
}
