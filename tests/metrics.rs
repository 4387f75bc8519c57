//! The role `metrics` through the real binary: what may be read, what becomes of what plugins find, and
//! what plugins cannot do to each other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use support::{Node, PATIENCE, fixture_file, message, reason, wait_for};

/// A spec of `fixture-metrics`. `collectors` is YAML in one line, `more` are further fields.
fn spec(collectors: &str, more: &str) -> String {
    let module = fixture_file("fixture-metrics");
    format!("module:\n  {module}\nconfig: {{collectors: [{collectors}]}}\n{more}")
}

/// GET with headers; the head and the body.
fn get(node: &Node, path: &str, headers: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(node.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n{headers}\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    (head, answer[end + 4..].to_vec())
}

/// What a plugin's own path answers, as text.
fn scrape(node: &Node, plugin: &str) -> String {
    let (head, body) = get(node, &format!("/metrics/plugins/local/{plugin}"), "");
    let body = String::from_utf8(body).unwrap();
    assert!(head.starts_with("HTTP/1.0 200"), "{head}\n{body}");
    body
}

fn has(body: &str, line: &str) -> bool {
    body.lines().any(|it| it == line)
}

/// Looks a text over as Prometheus' own tool does; what it complains of.
fn promtool(text: &[u8]) -> String {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is part of Debian's package prometheus, which `make setup` installs");
    promtool.stdin.take().unwrap().write_all(text).unwrap();
    let output = promtool.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn what_is_nobodys_is_refused_whatever_is_granted() {
    let mut node = Node::new();
    let hostile = [
        ("environ", "/proc/1/environ"),
        ("own-environ", "/proc/self/environ"),
        ("any-environ", "/proc/[0-9]*/environ"),
        ("star", "/proc/*/environ"),
        ("memory", "/proc/1/mem"),
        ("root", "/proc/1/root/etc/shadow"),
        ("deep", "/proc/**"),
        ("kernel", "/proc/kcore"),
        ("keys", "/proc/keys"),
        ("debug", "/sys/kernel/debug/**"),
        ("disguised", "/[p]roc/1/environ"),
        ("up", "/proc/../etc/shadow"),
        ("everywhere", "/sys/class/**/a/**/b"),
        ("password", "/sys/class/iscsi_session/*/password"),
    ];
    for (name, glob) in hostile {
        let collectors = format!("{{name: a, content: [{glob:?}]}}");
        node.manifest(
            name,
            &spec(&collectors, "grants: {nodeFiles: [/proc, /sys, /etc]}"),
        );
    }
    node.manifest(
        "no-logs",
        &spec(
            "{name: a}",
            "logs: {sources: [{containers: {}}], destinations: [{name: out, stdout: {}}]}",
        ),
    );
    let wants_too_much = "{name: a, content: [/proc/stat, /etc/shadow]}";
    node.manifest(
        "not-granted",
        &spec(wants_too_much, "grants: {nodeFiles: [/proc]}"),
    );
    node.start();
    for (name, glob) in hostile {
        let report = node.wait_plugin(name, "refused", |report| {
            reason(report, "Ready") == "Refused"
        });
        let message = message(&report, "Ready");
        assert!(message.contains(glob), "{message}");
        let why = match name {
            "up" => "`..`",
            _ => "no plugin may read",
        };
        assert!(message.contains(why), "{message}");
    }
    let refused = |report: &_| reason(report, "Ready") == "Refused";
    let report = node.wait_plugin("no-logs", "refused", refused);
    let text = message(&report, "Ready");
    assert!(
        text.contains("logs: the module has not the role logs"),
        "{text}"
    );
    let report = node.wait_plugin("not-granted", "refused", refused);
    let text = message(&report, "Ready");
    assert!(
        text.contains("collector a: /etc/shadow is not granted"),
        "{text}"
    );
    assert!(text.contains("nodeFiles:\n  - /etc/shadow"), "{text}");
}

#[test]
fn only_what_is_granted_is_read_wherever_links_lead() {
    let mut node = Node::new();
    let granted = node.path("granted");
    fs::create_dir_all(granted.join("folder")).unwrap();
    fs::write(node.path("secret"), "hush").unwrap();
    fs::write(granted.join("a.prom"), "one 1\n").unwrap();
    fs::write(granted.join("empty.prom"), "").unwrap();
    fs::write(granted.join("huge.prom"), vec![b'x'; (4 << 20) + 1]).unwrap();
    fs::write(granted.join("folder/deep.prom"), "two 2\n").unwrap();
    symlink(node.path("secret"), granted.join("away.prom")).unwrap();
    symlink("/proc/loadavg", granted.join("load.prom")).unwrap();
    symlink("/proc/1/environ", granted.join("environ.prom")).unwrap();
    symlink("/proc/self/environ", granted.join("own-environ.prom")).unwrap();
    symlink(granted.join("a.prom"), granted.join("near.prom")).unwrap();
    symlink(granted.join("nowhere"), granted.join("broken.prom")).unwrap();
    let pipe = granted.join("pipe.prom");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let glob = granted.join("**/*.prom");
    let link = granted.join("near.prom");
    let collectors = format!("{{name: files, content: [{glob:?}], targets: [{link:?}]}}");
    let grants = format!("grants: {{nodeFiles: [{granted:?}]}}");
    node.manifest("reader", &spec(&collectors, &grants));
    // A grant by a glob is no licence to follow links, though the want is spelled the same.
    let same = granted.join("*.prom");
    let collectors = format!("{{name: files, content: [{same:?}]}}");
    let grants = format!("grants: {{nodeFiles: [{same:?}]}}");
    node.manifest("globber", &spec(&collectors, &grants));
    // The daemon's own state is nobody's, though the folder around it may be granted.
    let state = format!("grants: {{nodeFiles: [{:?}]}}", node.folder.path());
    node.manifest("nosy", &spec("{name: a}", &state));
    node.start();
    node.wait_running("reader");
    let body = scrape(&node, "reader");
    let row = |path: &str| {
        let path = format!("path=\"{}\"", granted.join(path).display());
        let rows: Vec<&str> = body.lines().filter(|line| line.contains(&path)).collect();
        rows
    };
    for (name, text, value) in [
        ("a.prom", "one 1\\n", "6"),
        ("folder/deep.prom", "two 2\\n", "6"),
        ("near.prom", "one 1\\n", "6"),
        ("empty.prom", "", "0"),
    ] {
        let row = row(name);
        assert!(
            row[0].contains(&format!("text=\"{text}\",error=\"\"")),
            "{row:?}"
        );
        assert!(row[0].contains("dated=\"yes\""), "{row:?}");
        assert!(row[0].ends_with(&format!(" {value}")), "{row:?}");
    }
    assert!(row("huge.prom")[0].contains("cut=\"yes\""), "{body}");
    assert!(row("huge.prom")[0].ends_with(" 4.194304e+06"), "{body}");
    // Where the link leads is told by the second want.
    assert!(
        row("near.prom")[1].contains("a.prom\",error=\"\""),
        "{body}"
    );
    for name in ["away.prom", "load.prom", "environ.prom", "own-environ.prom"] {
        let row = row(name);
        assert_eq!(row.len(), 1, "{body}");
        assert!(!row[0].contains("error=\"\""), "{row:?}");
        assert!(row[0].ends_with(" 0"), "{row:?}");
    }
    assert!(!row("pipe.prom")[0].contains("error=\"\""), "{body}");
    assert!(row("broken.prom").is_empty(), "{body}");
    assert!(!body.contains("hush"), "{body}");
    node.wait_running("globber");
    let globbed = scrape(&node, "globber");
    assert!(globbed.contains("one 1"), "{globbed}");
    assert!(!globbed.contains("hush"), "{globbed}");
    let refused = |report: &_| reason(report, "Ready") == "Refused";
    let report = node.wait_plugin("nosy", "refused", refused);
    let text = message(&report, "Ready");
    assert!(
        text.contains("where the daemon keeps its own state"),
        "{text}"
    );
}

#[test]
fn every_kind_is_written_as_prometheus_reads_it() {
    let mut node = Node::new();
    node.manifest(
        "kinds",
        &spec(
            "{name: a, do: kinds}",
            "metrics: {labels: {team: \"a\\\"b\", version: \"2\"}}",
        ),
    );
    node.start();
    node.wait_running("kinds");
    let text = scrape(&node, "kinds");
    for line in [
        "# HELP fixture_counter_total A counter with a \\\\ and\\na line feed.",
        "# TYPE fixture_counter_total counter",
        "fixture_counter_total{text=\"a \\\"quoted\\\" \\\\ and\\nbroken text\",team=\"a\\\"b\",version=\"2\"} 3",
        "# TYPE fixture_info gauge",
        "fixture_seconds_bucket{path=\"/\",team=\"a\\\"b\",version=\"2\",le=\"0.1\"} 2",
        "fixture_seconds_bucket{path=\"/\",team=\"a\\\"b\",version=\"2\",le=\"+Inf\"} 7",
        "fixture_seconds_sum{path=\"/\",team=\"a\\\"b\",version=\"2\"} 8.25",
        "fixture_seconds_count{path=\"/\",team=\"a\\\"b\",version=\"2\"} 7",
        "fixture_pause_seconds{team=\"a\\\"b\",version=\"2\",quantile=\"0.99\"} 0.4",
        "fixture_untyped{of=\"nan\",team=\"a\\\"b\",version=\"2\"} NaN",
        "fixture_untyped{of=\"negative\",team=\"a\\\"b\",version=\"2\"} -Inf",
        "fixture_untyped{of=\"tiny\",team=\"a\\\"b\",version=\"2\"} 1e-300",
        "fixture_untyped{of=\"huge\",team=\"a\\\"b\",version=\"2\"} 1e+300",
        "# TYPE fixture_odd counter",
        "bulkhead_collect_success{namespace=\"local\",name=\"kinds\"} 1",
    ] {
        assert!(has(&text, line), "{line}\n{text}");
    }
    // It checks names by taste, too; what it cannot read it says otherwise.
    let complaints = promtool(text.as_bytes());
    let taste = [
        "fixture_odd counter metrics should have \"_total\" suffix",
        "fixture_counter_total metric name should not include type 'counter'",
    ];
    let complaints: Vec<&str> = complaints
        .lines()
        .filter(|it| !taste.contains(it))
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");

    let path = "/metrics/plugins/local/kinds";
    let (head, body) = get(
        &node,
        path,
        "Accept: application/openmetrics-text;version=1.0.0\r\n",
    );
    assert!(
        head.contains("application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    let body = String::from_utf8(body).unwrap();
    for line in [
        "# TYPE fixture_counter counter",
        "# UNIT fixture_size_bytes bytes",
        "# TYPE fixture info",
        "fixture_info{version=\"1.0\",team=\"a\\\"b\"} 1",
        "fixture_seconds_bucket{path=\"/\",team=\"a\\\"b\",version=\"2\",le=\"1.0\"} 5",
        "# TYPE fixture_odd unknown",
        "# TYPE fixture_untyped unknown",
    ] {
        assert!(has(&body, line), "{line}\n{body}");
    }
    assert!(body.ends_with("# EOF\n"), "{body}");

    let (head, body) = get(&node, path, "Accept-Encoding: gzip\r\n");
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut plain = String::new();
    let mut decoder = flate2::read::GzDecoder::new(&body[..]);
    decoder.read_to_string(&mut plain).unwrap();
    assert!(
        has(&plain, "# TYPE fixture_counter_total counter"),
        "{plain}"
    );
}

#[test]
fn what_breaks_the_data_model_is_left_out_and_said() {
    let mut node = Node::new();
    node.manifest("invalid", &spec("{name: a, do: invalid}", ""));
    node.manifest(
        "many",
        &spec("{name: a, do: {many: 50}}", "metrics: {maxSeries: 20}"),
    );
    node.manifest("a-kinds", &spec("{name: a, do: kinds}", ""));
    node.manifest("b-other", &spec("{name: a, do: otherType}", ""));
    node.manifest("c-other", &spec("{name: a, do: otherType}", ""));
    node.start();
    for name in ["invalid", "many", "a-kinds", "b-other", "c-other"] {
        node.wait_running(name);
    }
    let (_, body) = get(&node, "/metrics/plugins", "");
    let text = String::from_utf8(body).unwrap();
    assert!(has(&text, "fixture_good{a=\"b\"} 1"), "{text}");
    assert!(has(&text, "fixture_twice{a=\"1\",b=\"2\"} 1"), "{text}");
    for absent in [
        "0fixture",
        "fixture_label",
        "negative_total",
        "fixture_buckets",
        "{b=",
    ] {
        assert!(!text.contains(absent), "{absent}\n{text}");
    }
    assert_eq!(text.matches("fixture_many{").count(), 20, "{text}");
    // Two plugins may share a family, if they mean the same by it.
    assert_eq!(
        text.matches("# TYPE fixture_counter_total").count(),
        1,
        "{text}"
    );
    assert_eq!(
        text.matches("\nfixture_counter_total{").count(),
        1,
        "{text}"
    );
    assert_eq!(text.matches("\nfixture_shared_total{").count(), 1, "{text}");
    let complaints = promtool(text.as_bytes());
    let read = !complaints.contains("error while linting");
    assert!(read, "{complaints}");

    let report = node.plugin("invalid").unwrap();
    assert_eq!(report["metrics"]["invalidSeries"], 8, "{report:#}");
    let problem = report["metrics"]["problem"].as_str().unwrap();
    assert!(problem.contains("fixture_twice comes twice"), "{problem}");
    assert_eq!(report["phase"], "Running");
    let report = node.plugin("many").unwrap();
    assert_eq!(report["metrics"]["cutSeries"], 30, "{report:#}");
    let problem = report["metrics"]["problem"].as_str().unwrap();
    assert!(problem.contains("metrics.maxSeries is 20"), "{problem}");
    assert_eq!(report["metrics"]["collectors"][0]["series"], 20);
}

#[test]
fn a_collector_that_traps_or_lies_costs_itself_alone() {
    let acts = [
        "panic",
        "spanOutside",
        "notText",
        "labelsMissing",
        "spansUnending",
        "familyMissing",
    ];
    let mut node = Node::new();
    for act in acts {
        let name = act.to_ascii_lowercase();
        let collectors = format!(
            "{{name: first, do: kinds}}, {{name: bad, do: {act}}}, {{name: error, do: error}}, {{name: last, do: outcomes}}"
        );
        node.manifest(&name, &spec(&collectors, ""));
    }
    node.manifest("good", &spec("{name: a, do: {many: 3}}", ""));
    node.start();
    node.wait_running("good");
    for act in acts {
        let name = act.to_ascii_lowercase();
        node.wait_running(&name);
        // The first time it ends the instance; what was found before is served.
        let first = scrape(&node, &name);
        assert!(first.contains("\nfixture_size_bytes"), "{act}\n{first}");
        let failed = format!("bulkhead_collect_success{{namespace=\"local\",name=\"{name}\"}} 0");
        assert!(has(&first, &failed), "{act}\n{first}");
        // From then on it is left out.
        let what = format!("a whole collection after {act}");
        let text = wait_for(&what, || {
            let text = scrape(&node, &name);
            has(&text, "fixture_outcome{collector=\"first\"} 1").then_some(text)
        });
        assert!(
            has(&text, "fixture_outcome{collector=\"bad\"} 0"),
            "{act}\n{text}"
        );
        assert!(
            has(&text, "fixture_outcome{collector=\"error\"} 0"),
            "{act}\n{text}"
        );
        assert!(!text.contains("fixture_garbage"), "{act}\n{text}");
        let report = node.plugin(&name).unwrap();
        let collectors = &report["metrics"]["collectors"];
        let why = collectors[1]["message"].as_str().unwrap();
        assert!(why.starts_with("left out for "), "{why}");
        assert_eq!(collectors[2]["message"], "fixture error");
        assert_eq!(collectors[3]["success"], true);
    }
    assert_eq!(scrape(&node, "good").matches("\nfixture_many{").count(), 3);
}

#[test]
fn a_slow_plugin_does_not_hold_up_the_others_answer() {
    let mut node = Node::new();
    let slow = "limits: {deadline: 40s}\nmetrics: {timeout: 60s}";
    node.manifest("slow", &spec("{name: a, do: loop}", slow));
    node.manifest("good", &spec("{name: a, do: {many: 3}}", ""));
    node.start();
    node.wait_running("slow");
    node.wait_running("good");
    let header = "X-Prometheus-Scrape-Timeout-Seconds: 2\r\n";
    let (_, body) = get(&node, "/metrics/plugins", header);
    let text = String::from_utf8(body).unwrap();
    let success = |name: &str, value: u8| {
        let line =
            format!("bulkhead_collect_success{{namespace=\"local\",name=\"{name}\"}} {value}");
        assert!(has(&text, &line), "{line}\n{text}");
    };
    success("slow", 0);
    success("good", 1);
    assert_eq!(text.matches("\nfixture_many{").count(), 3, "{text}");
    // The call still goes on: the answer did not wait for it.
    assert_eq!(node.plugin("slow").unwrap()["metrics"]["collections"], 0);
}

#[test]
fn a_collection_is_served_again_for_as_long_as_the_manifest_says() {
    let mut node = Node::new();
    node.manifest(
        "cached",
        &spec("{name: a, do: count}", "metrics: {cache: 1h}"),
    );
    node.manifest("fresh", &spec("{name: a, do: count}", ""));
    node.start();
    for (name, counts) in [("cached", ["1", "1"]), ("fresh", ["1", "2"])] {
        node.wait_running(name);
        for count in counts {
            let text = scrape(&node, name);
            assert!(
                has(&text, &format!("fixture_calls_total {count}")),
                "{text}"
            );
        }
    }
    let (head, _) = get(&node, "/metrics/plugins/local/nobody", "");
    assert!(head.starts_with("HTTP/1.0 404"), "{head}");
}

#[test]
fn what_hangs_costs_its_own_series_alone() {
    let mut node = Node::new();
    let hung = node.path("hung");
    fs::create_dir(&hung).unwrap();
    // A mount of FUSE that nobody serves: whoever touches it waits for ever. In namespaces of its own, with
    // the daemon as process 1, so that nobody else meets it; the daemon holds it open.
    let script = "exec 5<>/dev/fuse && mount -i -t fuse -o fd=5,rootmode=40000,user_id=0,group_id=0 hung \"$0\" && exec \"$@\"";
    let unshare = "unshare --mount --pid --fork --mount-proc --kill-child sh -c";
    node.wrapper = unshare.split(' ').map(str::to_owned).collect();
    node.wrapper.push(script.to_owned());
    node.wrapper.push(hung.display().to_string());
    let text = hung.join("a.prom");
    let collectors = format!(
        "{{name: hung, content: [{text:?}]}}, {{name: good, do: kinds}}, {{name: last, do: outcomes}}"
    );
    node.manifest(
        "reader",
        &spec(&collectors, &format!("grants: {{nodeFiles: [{hung:?}]}}")),
    );
    node.manifest("node-metrics", "module: {bundled: node-metrics}\ngrants: {nodeStats: true, nodeFiles: [/proc]}\nconfig: {disableDefaults: true, collectors: {filesystem: {enabled: true}, loadavg: {enabled: true}}}");
    node.start();
    for name in ["reader", "node-metrics"] {
        node.wait_running(name);
    }
    for why in [
        "its files cannot be read in time",
        "its files still cannot be read",
    ] {
        let text = scrape(&node, "reader");
        assert!(
            has(&text, "fixture_outcome{collector=\"hung\"} 0"),
            "{text}"
        );
        assert!(
            has(&text, "fixture_outcome{collector=\"good\"} 1"),
            "{text}"
        );
        let report = node.plugin("reader").unwrap();
        assert_eq!(report["metrics"]["collectors"][0]["message"], why);
    }
    for _ in 0..2 {
        let text = scrape(&node, "node-metrics");
        let of = |name: &str, point: &str| {
            let point = format!("mountpoint=\"{point}\"");
            let mut lines = text.lines();
            let line = lines.find(|line| line.starts_with(name) && line.contains(&point));
            line.and_then(|line| line.rsplit(' ').next())
                .map(str::to_owned)
        };
        let hung = hung.to_str().unwrap();
        assert_eq!(
            of("node_filesystem_device_error{", hung).as_deref(),
            Some("1"),
            "{text}"
        );
        assert_eq!(of("node_filesystem_size_bytes{", hung), None, "{text}");
        assert_eq!(
            of("node_filesystem_device_error{", "/").as_deref(),
            Some("0"),
            "{text}"
        );
        assert!(of("node_filesystem_size_bytes{", "/").is_some(), "{text}");
        assert!(text.contains("\nnode_load1 "), "{text}");
    }
    let report = node.plugin("reader").unwrap();
    assert_eq!(report["restarts"], 0, "{report:#}");
    node.kill();
}
