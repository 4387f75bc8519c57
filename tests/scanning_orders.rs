//! Orders to a daemon that scans, and changes of findings on their way to destinations, through the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::sink::{Sink, ok, own_address, status};
use support::{Node, wait_for};

/// Not the test file of virus scanners as a whole: that would be found on whoever works on this.
const BAD: &str = "begins X5O!P%@AP with EICAR-STANDARD\n";

/// A spec of the bundled scanner, which looks for the above in the node's folder `scanned` and sends changes
/// to `destinations`, in YAML's flow form.
fn spec(node: &Node, destinations: &str) -> String {
    let scanned = node.path("scanned");
    format!(
        "module: {{bundled: security-scanner}}\n\
         update: {{probation: 200ms}}\n\
         config: {{signatures: {{yara: [{{name: test, text: 'rule eicar {{ strings: $a = \"EICAR-STANDARD\" condition: $a }}'}}]}}}}\n\
         grants: {{state: {{quota: 1Mi}}, scan: {{files: [{scanned:?}]}}}}\n\
         scanning: {{schedule: {{realTime: false}}, budget: {{yieldToPressure: false}}, destinations: [{destinations}]}}\n"
    )
}

fn node() -> Node {
    let node = Node::new();
    fs::create_dir(node.path("scanned")).unwrap();
    fs::write(node.path("scanned/good"), "nothing of interest\n").unwrap();
    node
}

/// `bulkhead scanning ARGUMENTS` for this node's daemon.
fn order(node: &Node, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .arg("scanning")
        .args(arguments)
        .arg("--state")
        .arg(node.path("state"))
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn json_lines(text: &str) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

/// What was sent to a file so far, but for a line that is being written.
fn sent(node: &Node, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(node.path(file)).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    json_lines(whole)
}

fn wait_sent(node: &Node, file: &str, count: usize) -> Vec<Value> {
    wait_for(&format!("{count} changes in {file}"), || {
        let sent = sent(node, file);
        (sent.len() >= count).then_some(sent)
    })
}

fn states(changes: &[Value]) -> Vec<&str> {
    changes
        .iter()
        .map(|it| it["state"].as_str().unwrap())
        .collect()
}

#[test]
fn a_pass_is_asked_for_and_its_findings_listed_and_sent() {
    let mut node = node();
    let [out, raw] = ["out.jsonl", "raw.jsonl"].map(|name| node.path(name));
    let destinations = format!(
        "{{name: out, file: {{path: {out:?}}}}}, {{name: raw, file: {{path: {raw:?}, format: raw}}, queue: {{maxSize: 1Mi}}}}"
    );
    node.manifest("scanner", &spec(&node, &destinations));
    node.start();
    node.wait_plugin("scanner", "a first pass", |it| {
        it["scanning"]["passes"].as_u64() >= Some(1)
    });
    let clean = order(&node, &["scan", "scanner", "--wait"]);
    assert_eq!(clean.status.code(), Some(0), "{}", text(&clean));
    assert!(text(&clean).contains("none open"), "{}", text(&clean));
    let none = order(&node, &["findings"]);
    assert_eq!(text(&none), "no such findings\n");

    let bad = node.path("scanned/bad");
    fs::write(&bad, BAD).unwrap();
    let before = node.plugin("scanner").unwrap()["scanning"]["passes"].clone();
    let found = order(&node, &["scan", "local/scanner", "--full", "--wait"]);
    assert_eq!(found.status.code(), Some(2), "{}", text(&found));
    assert!(
        text(&found).contains("local/scanner\n  findings    1 "),
        "{}",
        text(&found)
    );
    let report = node.plugin("scanner").unwrap();
    assert!(
        report["scanning"]["passes"].as_u64() > before.as_u64(),
        "{report:#}"
    );
    assert_eq!(report["scanning"]["lastPass"]["kind"], "full");

    let listed = order(&node, &["findings", "scanner", "--output", "json"]);
    let listed = json_lines(&text(&listed));
    assert_eq!(listed.len(), 1, "{listed:#?}");
    assert_eq!(listed[0]["subject"]["path"], bad.display().to_string());
    let rule = listed[0]["rule"].as_str().unwrap();
    let table = text(&order(&node, &["findings", "--rule", "*eicar*"]));
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 2, "{table}");
    for cell in [rule, "open", "local/scanner", &bad.display().to_string()] {
        assert!(rows[1].contains(cell), "{table}");
    }
    for filter in [
        &["--rule", "other-*"][..],
        &["--in-state", "resolved"],
        &["--subject", "/elsewhere"],
        &["--limit", "0"],
    ] {
        let none = order(&node, &[&["findings"], filter].concat());
        assert_eq!(text(&none), "no such findings\n", "{filter:?}");
    }

    // Both have it: one with what is known of where it comes from, the other as it is.
    let first = &wait_sent(&node, "out.jsonl", 1)[0];
    assert_eq!(first["state"], "opened");
    assert_eq!(first["plugin"], "local/scanner");
    assert_eq!(first["subject"]["path"], bad.display().to_string());
    assert!(first["k8s.node.name"].is_string(), "{first:#}");
    let same = &wait_sent(&node, "raw.jsonl", 1)[0];
    assert_eq!(same["time"], first["time"]);
    assert_eq!(same["k8s.node.name"], Value::Null);

    fs::remove_file(&bad).unwrap();
    let gone = order(&node, &["scan", "scanner", "--full", "--wait"]);
    assert_eq!(gone.status.code(), Some(0), "{}", text(&gone));
    assert_eq!(
        states(&wait_sent(&node, "out.jsonl", 2)),
        ["opened", "resolved"]
    );
    assert_eq!(
        states(&wait_sent(&node, "raw.jsonl", 2)),
        ["opened", "resolved"]
    );
    let report = node.wait_plugin("scanner", "both delivered", |it| {
        let all = it["scanning"]["destinations"].as_array().unwrap();
        all.iter().all(|it| it["lines"] == 2)
    });
    for destination in report["scanning"]["destinations"].as_array().unwrap() {
        assert_eq!(destination["state"], "Healthy");
        assert_eq!(destination["lostChanges"], 0);
        assert_eq!(destination["waitingChanges"], 0);
    }
    let (_, page) = node.get("/metrics").unwrap();
    let series = "bulkhead_scanning_destination_changes_total{namespace=\"local\",name=\"scanner\",destination=\"out\"} 2";
    assert!(page.contains(series), "{page}");

    let status = order(&node, &["status", "--output", "json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status[0]["plugin"], "local/scanner");
    assert_eq!(status[0]["scanning"]["lastPass"]["complete"], true);
    let page = text(&order(&node, &["status", "scanner"]));
    assert!(page.contains("out (file): Healthy, 2 changes"), "{page}");
}

#[test]
fn what_a_destination_was_being_sent_is_counted_when_it_is_replaced() {
    let mut node = node();
    let out = node.path("out.jsonl");
    let dead = "{name: far, http: {url: 'http://127.0.0.1:1/', retry: {initial: 20ms, max: 50ms}}}";
    node.manifest("scanner", &spec(&node, dead));
    fs::write(node.path("scanned/bad"), BAD).unwrap();
    node.start();
    node.wait_plugin("scanner", "attempts that failed", |it| {
        let far = &it["scanning"]["destinations"][0];
        far["state"] == "Retrying" && far["lines"] == 0
    });
    // What the first was being sent is lost with it, and counted; what comes later is not.
    let alive = format!("{{name: far, file: {{path: {out:?}}}}}");
    node.manifest("scanner", &spec(&node, &alive));
    node.wait_plugin("scanner", "the other destination", |it| {
        let far = &it["scanning"]["destinations"][0];
        far["kind"] == "file" && far["lostChanges"] == 1
    });
    fs::write(node.path("scanned/worse"), BAD).unwrap();
    let found = order(&node, &["scan", "scanner", "--wait"]);
    assert_eq!(found.status.code(), Some(2), "{}", text(&found));
    let sent = wait_sent(&node, "out.jsonl", 1);
    let worse = node.path("scanned/worse").display().to_string();
    assert_eq!(sent[0]["subject"]["path"], worse);
    node.stop();
}

#[test]
fn orders_that_make_no_sense_are_refused() {
    let mut node = node();
    let nobody = order(&node, &["status"]);
    assert_eq!(nobody.status.code(), Some(3), "{}", text(&nobody));
    assert!(text(&nobody).starts_with("error: "), "{}", text(&nobody));
    node.start();
    assert_eq!(
        text(&order(&node, &["status"])),
        "no plugin scans on this node\n"
    );
    for (arguments, said) in [
        (
            &["scan", "absent"][..],
            "error: there is no plugin \"absent\" with the role scanning",
        ),
        (
            &["status", "absent"],
            "error: there is no plugin \"absent\" with the role scanning",
        ),
        (
            &["findings", "absent"],
            "error: there is no plugin \"absent\" with the role scanning",
        ),
        (
            &["findings", "--severity", "grave"],
            "error: severity: \"grave\" is none",
        ),
    ] {
        let refused = order(&node, arguments);
        assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
        assert!(text(&refused).starts_with(said), "{}", text(&refused));
    }
}

/// What acknowledged requests had, by the name of the file and the state.
fn delivered(sink: &Sink) -> BTreeSet<(String, String)> {
    let records = sink.acknowledged().into_iter().flat_map(|it| it.records());
    let pairs = records.map(|it| {
        let path = it["subject"]["path"].as_str().unwrap();
        let name = path.rsplit('/').next().unwrap();
        (name.to_owned(), it["state"].as_str().unwrap().to_owned())
    });
    pairs.collect()
}

#[test]
fn what_is_found_while_the_server_is_away_is_sent_once_it_is_back() {
    let mut node = node();
    let [plain, queued] = [own_address(), own_address()];
    let retry = "retry: {initial: 20ms, max: 50ms}";
    let destinations = format!(
        "{{name: plain, http: {{url: 'http://{plain}/ingest', {retry}}}}}, {{name: queued, http: {{url: 'http://{queued}/ingest', {retry}}}, queue: {{maxSize: 1Mi}}}}"
    );
    node.manifest("scanner", &spec(&node, &destinations));
    let mut expected = BTreeSet::new();
    for n in 0..20 {
        fs::write(node.path(&format!("scanned/bad-{n}")), BAD).unwrap();
        expected.insert((format!("bad-{n}"), "opened".to_owned()));
    }
    node.start();
    node.wait_plugin("scanner", "both away", |it| {
        let all = it["scanning"]["destinations"].as_array();
        let away = |it: &Value| it["state"] == "Retrying" && it["lines"] == 0;
        it["scanning"]["findings"]["medium"] == 20
            && all.is_some_and(|all| all.len() == 2 && all.iter().all(away))
    });
    fs::remove_file(node.path("scanned/bad-7")).unwrap();
    expected.insert(("bad-7".to_owned(), "resolved".to_owned()));
    order(&node, &["scan", "scanner", "--full", "--wait"]);
    // First they are there and have no room, then they take what there is.
    let start = |address| {
        Sink::start_at(address, |request| match request.number {
            0..3 => status(503),
            _ => ok(),
        })
    };
    for (name, sink) in [("plain", start(plain)), ("queued", start(queued))] {
        wait_for(&format!("all changes at {name}"), || {
            (delivered(&sink) == expected).then_some(())
        });
        let told: usize = sink
            .acknowledged()
            .iter()
            .map(|it| it.records().len())
            .sum();
        assert_eq!(told, expected.len(), "{name}: each once");
    }
    node.wait_plugin("scanner", "nothing lost", |it| {
        let all = it["scanning"]["destinations"].as_array().unwrap();
        all.iter().all(|it| {
            it["state"] == "Healthy" && it["lostChanges"] == 0 && it["waitingChanges"] == 0
        })
    });
    node.stop();
}

#[test]
fn a_pass_that_leaves_something_out_says_so_and_ends_with_one() {
    let mut node = node();
    node.manifest("scanner", &spec(&node, ""));
    // Somebody has a lease on a file, does not give it back when asked, and takes it again when the kernel has
    // taken it away.
    let holds = r#"$SIG{IO} = "IGNORE"; $| = 1; open(F, "+<", $ARGV[0]) or die; fcntl(F, 1024, 1) or die $!; print "held\n"; vec($in, 0, 1) = 1; fcntl(F, 1024, 1) until select($ready = $in, undef, undef, 0.01);"#;
    let mut held = Command::new("perl")
        .args(["-e", holds])
        .arg(node.path("scanned/good"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let read = BufReader::new(held.stdout.take().unwrap()).read_line(&mut said);
    read.unwrap();
    assert_eq!(said, "held\n");
    node.start();
    node.wait_plugin("scanner", "a first pass", |it| {
        it["scanning"]["passes"].as_u64() >= Some(1)
    });
    let scan = order(&node, &["scan", "scanner", "--wait"]);
    assert_eq!(scan.status.code(), Some(1), "{}", text(&scan));
    let page = text(&order(&node, &["status", "scanner"]));
    for said in [
        "not complete: the rest is passed again in the next one",
        "errors: Resource temporarily unavailable (1)",
        "pass        none under way",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
    let (_, metrics) = node.get("/metrics").unwrap();
    let series = "bulkhead_scanning_last_pass_complete{namespace=\"local\",name=\"scanner\"} 0";
    assert!(metrics.contains(series), "{metrics}");
    drop(held.stdin.take());
    held.wait().unwrap();
    let scan = order(&node, &["scan", "scanner", "--wait"]);
    assert_eq!(scan.status.code(), Some(0), "{}", text(&scan));
    let report = node.plugin("scanner").unwrap();
    assert_eq!(report["scanning"]["lastPass"]["complete"], true);
    node.stop();
}
