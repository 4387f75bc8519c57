//! The plugin `node-metrics` beside Debian's prometheus-node-exporter, whose place it takes: the same
//! series under the same names, labels, types and help texts, on this machine and on a tree of hardware
//! that it lacks; and a real Prometheus that evaluates the rules of common dashboards on it, as
//! `deploy/monitoring` has it scraped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/scraping.rs"]
mod scraping;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use support::sink::own_address;
use support::{Node, PATIENCE, wait_for};

/// Names of series that the exporter has and the plugin has not, each with its reason.
const EXCEPTED: [(&str, &str); 3] = [
    (
        "node_exporter_build_info",
        "it is about the exporter's own program; `bulkhead_build_info` is not its like",
    ),
    (
        "node_btrfs_device_unused_bytes",
        "only an ioctl on a mounted Btrfs tells it",
    ),
    (
        "node_btrfs_device_errors_total",
        "only an ioctl on a mounted Btrfs tells it",
    ),
];

/// What the plugin has beyond the exporter.
fn is_ours(series: &str) -> bool {
    series.starts_with("node_cgroup_")
        || series.starts_with("bulkhead_")
        || series.contains("collector=\"cgroups\"")
}

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200").then(|| body.to_owned())
}

/// Starts the exporter and waits until it answers.
fn exporter(arguments: &[String]) -> (Running, SocketAddr) {
    let address = own_address();
    let child = Command::new("prometheus-node-exporter")
        .arg(format!("--web.listen-address={address}"))
        // Of Debian's making, and not on by default elsewhere.
        .arg("--no-collector.systemd")
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("prometheus-node-exporter is a package of Debian, which `make setup` installs");
    let running = Running(child);
    wait_for("the exporter", || get(address, "/metrics"));
    (running, address)
}

const GRANTS: &str = "grants:\n  nodeStats: true\n  nodeFiles: [/proc, /sys, /etc/os-release, /usr/lib/os-release, /etc/selinux/config, /run/udev/data, /var/lib/prometheus/node-exporter, /var/log/containers, /var/log/pods]";

fn spec(config: &str) -> String {
    format!("module: {{bundled: node-metrics}}\n{GRANTS}\nconfig: {config}")
}

/// What was scraped.
#[derive(Default)]
struct Scraped {
    /// By name and labels in alphabetical order.
    series: BTreeMap<String, f64>,
    /// Lines `# HELP` and `# TYPE`.
    heads: BTreeSet<String>,
}

impl Scraped {
    fn read(text: &str) -> Self {
        let mut scraped = Self::default();
        for line in text.lines() {
            if line.starts_with('#') {
                scraped.heads.insert(line.to_owned());
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            let value = value.parse().unwrap();
            let known = scraped.series.insert(in_order(series), value);
            assert!(known.is_none(), "twice: {series}");
        }
        scraped
    }
}

/// A series with its labels in alphabetical order.
fn in_order(series: &str) -> String {
    let Some((name, labels)) = series.split_once('{') else {
        return series.to_owned();
    };
    let labels = labels.strip_suffix('}').unwrap();
    let mut pairs = Vec::new();
    let (mut begin, mut quoted, mut escaped) = (0, false, false);
    for (at, character) in labels.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                pairs.push(&labels[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    pairs.push(&labels[begin..]);
    pairs.sort_unstable();
    format!("{name}{{{}}}", pairs.join(","))
}

fn name(series: &str) -> &str {
    series.split('{').next().unwrap()
}

/// Whether the plugin need not have a series of the exporter's.
fn is_excepted(series: &str) -> bool {
    // What it tells of its own process and library is no collector's.
    let own = ["go_", "process_", "promhttp_"];
    own.iter().any(|prefix| series.starts_with(prefix))
        || EXCEPTED
            .iter()
            .any(|(excepted, _)| name(series) == *excepted)
}

/// Whether `ours`, scraped between two scrapes of the exporter, is what these explain.
fn explained(series: &str, before: f64, ours: f64, after: f64) -> bool {
    if name(series) == "node_scrape_collector_duration_seconds" {
        return ours > 0.0;
    }
    if before.is_nan() || after.is_nan() {
        return ours.is_nan();
    }
    // What moves may have gone there and back meanwhile: a twentieth of what it is.
    let slack = match before == after {
        true => 0.0,
        false => (after - before).abs().max(before.abs() / 20.0),
    };
    let (low, high) = (before.min(after), before.max(after));
    (low - slack..=high + slack).contains(&ours)
}

/// Compares until every series was explained once: what stands still for two scrapes may move between
/// them. Fails at once if a series is missing.
/// `root` is where the exporter's paths begin.
fn compare(exporter: SocketAddr, daemon: SocketAddr, root: &str) -> usize {
    let mut unexplained: Option<BTreeMap<String, String>> = None;
    let scrape = |address, path| {
        let text = get(address, path).unwrap();
        Scraped::read(&text.replace(&format!("\"{root}/"), "\"/"))
    };
    for _ in 0..20 {
        let before = scrape(exporter, "/metrics");
        let ours = scrape(daemon, "/metrics/plugins");
        let after = scrape(exporter, "/metrics");
        let theirs: BTreeSet<&String> = before.series.keys().chain(after.series.keys()).collect();
        let theirs: BTreeSet<&String> = theirs.into_iter().filter(|it| !is_excepted(it)).collect();
        let missing: Vec<_> = theirs
            .iter()
            .filter(|it| !ours.series.contains_key(**it))
            .collect();
        assert!(missing.is_empty(), "missing: {missing:#?}");
        let more = ours
            .series
            .keys()
            .filter(|it| !is_ours(it) && !theirs.contains(it));
        let more: Vec<_> = more.collect();
        assert!(more.is_empty(), "more than the exporter has: {more:#?}");
        let heads = after.heads.iter().filter(|head| {
            let of = head.split(' ').nth(2).unwrap();
            !is_excepted(of) && !ours.heads.contains(*head)
        });
        let heads: Vec<_> = heads.collect();
        assert!(heads.is_empty(), "other types or help texts: {heads:#?}");
        let wrong = theirs.iter().filter_map(|series| {
            let [before, after] = [&before, &after].map(|it| it.series.get(*series).copied());
            let (Some(before), Some(after)) = (before, after) else {
                return None;
            };
            let ours = ours.series[*series];
            let wrong = !explained(series, before, ours, after);
            wrong.then(|| ((*series).clone(), format!("{before} {ours} {after}")))
        });
        let wrong: BTreeMap<String, String> = wrong.collect();
        let still = match unexplained {
            None => wrong,
            Some(known) => wrong
                .into_iter()
                .filter(|(it, _)| known.contains_key(it))
                .collect(),
        };
        if still.is_empty() {
            return theirs.len();
        }
        unexplained = Some(still);
    }
    panic!("before, ours and after: {unexplained:#?}");
}

#[test]
fn it_has_what_the_exporter_has_of_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("a.prom"),
        "# HELP of_text Of a text.\n# TYPE of_text counter\nof_text{a=\"b\"} 3\n",
    )
    .unwrap();
    let text = folder.path().to_str().unwrap();
    let (_exporter, exporter) = exporter(&[format!("--collector.textfile.directory={text}")]);
    let mut node = Node::new();
    let spec = spec(&format!(
        "{{collectors: {{textfile: {{directories: [{text:?}]}}}}}}"
    ));
    node.manifest(
        "node-metrics",
        &spec.replace("/sys,", &format!("/sys, {text:?},")),
    );
    node.start();
    node.wait_running("node-metrics");
    let compared = compare(exporter, node.address(), "");
    assert!(compared > 300, "only {compared} series");
    let text = get(node.address(), "/metrics/plugins").unwrap();
    for series in ["of_text{a=\"b\"} 3", "node_textfile_scrape_error 0"] {
        assert!(text.lines().any(|line| line == series), "{series}");
    }
}

/// What Prometheus' own tool finds wrong with a text.
fn complaints(text: &str) -> BTreeSet<String> {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is part of Debian's package prometheus");
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    said.lines().map(str::to_owned).collect()
}

#[test]
fn it_has_what_the_exporter_has_from_within_a_pod_too() {
    let (_exporter, exporter) = exporter(&[]);
    let mut node = Node::new();
    let host = node.path("host").display().to_string();
    fs::create_dir(&host).unwrap();
    // As the pod of deploy/ has it: mounts of its own, with the node's root at a folder; the node's
    // processes and network.
    let script = "mount --rbind / \"$0\" && exec \"$@\"";
    let wrapper = ["unshare", "--mount", "sh", "-c", script, &host];
    node.wrapper = wrapper.map(str::to_owned).to_vec();
    node.manifest("node-metrics", &spec("{}"));
    node.start_with(&["--host-root", &host], &[]);
    node.wait_running("node-metrics");
    let compared = compare(exporter, node.address(), "");
    assert!(compared > 300, "only {compared} series");
    // What its names and texts are by the rules of Prometheus, the exporter's are, too.
    let theirs = complaints(&get(exporter, "/metrics").unwrap());
    let ours = complaints(&get(node.address(), "/metrics/plugins").unwrap());
    let more: Vec<_> = ours.difference(&theirs).collect();
    assert!(more.is_empty(), "{more:#?}");
}

/// Unpacks the tree of a node with hardware of all kinds.
fn unpack(root: &Path) {
    let tree: BTreeMap<String, Value> =
        serde_json::from_str(include_str!("fixtures/node-tree.json")).unwrap();
    for (path, content) in tree {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match content {
            Value::String(text) => fs::write(path, text).unwrap(),
            Value::Object(link) => {
                let target = link["link"].as_str().unwrap();
                std::os::unix::fs::symlink(target, path).unwrap();
            }
            // An empty folder, or a file that is no text.
            Value::Null => fs::create_dir_all(path).unwrap(),
            bytes => fs::write(path, serde_json::from_value::<Vec<u8>>(bytes).unwrap()).unwrap(),
        }
    }
    // Where the exporter looks for what is process 1's.
    std::os::unix::fs::symlink("1/net", root.join("proc/net")).unwrap();
}

#[test]
fn it_has_what_the_exporter_has_of_hardware_that_this_machine_lacks() {
    let root = tempfile::tempdir().unwrap();
    unpack(root.path());
    let path = |name: &str| root.path().join(name).display().to_string();
    // Those of which the tree has something.
    let collectors = [
        "bcache",
        "bonding",
        "btrfs",
        "dmi",
        "edac",
        "fibrechannel",
        "hwmon",
        "infiniband",
        "ipvs",
        "mdadm",
        "nfs",
        "nfsd",
        "nvme",
        "powersupplyclass",
        "rapl",
        "selinux",
        "tapestats",
        "thermal_zone",
        "xfs",
        "zfs",
    ];
    let mut arguments = vec![
        format!("--path.procfs={}", path("proc")),
        format!("--path.sysfs={}", path("sys")),
        "--collector.disable-defaults".to_owned(),
    ];
    arguments.extend(collectors.map(|name| format!("--collector.{name}")));
    let (_exporter, exporter) = exporter(&arguments);
    let enabled = collectors.map(|name| {
        let name = name.replace("thermal_zone", "thermalZone");
        format!("{name}: {{enabled: true}}")
    });
    let mut node = Node::new();
    node.manifest(
        "node-metrics",
        &spec(&format!(
            "{{disableDefaults: true, collectors: {{{}}}}}",
            enabled.join(", ")
        )),
    );
    let host_root = root.path().to_str().unwrap();
    node.start_with(&["--host-root", host_root], &[]);
    node.wait_running("node-metrics");
    let compared = compare(exporter, node.address(), host_root);
    assert!(compared > 700, "only {compared} series");
}

#[test]
fn odd_files_cost_their_series_and_never_the_plugin() {
    let root = tempfile::tempdir().unwrap();
    unpack(root.path());
    let mut files = Vec::new();
    let mut folders = vec![root.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push((entry.path(), fs::read(entry.path()).unwrap()));
            }
        }
    }
    assert!(files.len() > 300);
    let mut node = Node::new();
    node.manifest("node-metrics", &spec("{}"));
    node.start_with(&["--host-root", root.path().to_str().unwrap()], &[]);
    node.wait_running("node-metrics");
    type Damage = fn(&[u8]) -> Vec<u8>;
    let damages: [(&str, Damage); 6] = [
        ("whole", |content| content.to_vec()),
        ("empty", |_| Vec::new()),
        ("torn", |content| content[..content.len() / 2].to_vec()),
        ("binary", |content| {
            content.iter().map(|byte| byte ^ 0xa5).collect()
        }),
        ("doubled", |content| content.repeat(2)),
        ("no numbers", |content| {
            content
                .iter()
                .map(|byte| if byte.is_ascii_digit() { b'x' } else { *byte })
                .collect()
        }),
    ];
    let check = |what: &str| {
        let text = get(node.address(), "/metrics/plugins").unwrap();
        let went = "bulkhead_collect_success{namespace=\"local\",name=\"node-metrics\"} 1";
        assert!(text.lines().any(|line| line == went), "{what}\n{text}");
        let report = node.plugin("node-metrics").unwrap();
        assert_eq!(report["restarts"], 0, "{what}: {report:#}");
        assert_eq!(report["metrics"]["invalidSeries"], 0, "{what}: {report:#}");
        report["metrics"]["series"].as_u64().unwrap()
    };
    let mut found = BTreeMap::new();
    for (what, damage) in damages {
        for (path, content) in &files {
            fs::write(path, damage(content)).unwrap();
        }
        found.insert(what, check(what));
    }
    assert!(found["whole"] > 700, "{found:?}");
    assert!(found["empty"] < found["whole"] / 2, "{found:?}");
    // Longer than what is passed of any file.
    for (path, content) in &files {
        let huge = [
            "proc/mdstat",
            "proc/1/net/rpc/nfsd",
            "proc/stat",
            "zfs/arcstats",
        ];
        match huge.iter().any(|name| path.ends_with(name)) {
            true => fs::write(path, content.repeat((5 << 20) / content.len())).unwrap(),
            false => fs::write(path, content).unwrap(),
        }
    }
    check("huge");
    let report = node.plugin("node-metrics").unwrap();
    let collectors = report["metrics"]["collectors"].as_array().unwrap();
    let mdadm = collectors.iter().find(|it| it["name"] == "mdadm").unwrap();
    let why = mdadm["message"].as_str().unwrap();
    assert!(why.contains("longer than what is passed"), "{why}");
}

/// Rules as dashboards of nodes have them, of all that they use.
const RULES: &str = r#"
groups:
- name: node
  interval: 1s
  rules:
  - record: instance:node_num_cpu:sum
    expr: count without (cpu, mode) (node_cpu_seconds_total{job="node-exporter",mode="idle"})
  - record: instance:node_cpu_utilisation:rate5m
    expr: 1 - avg without (cpu) (sum without (mode) (rate(node_cpu_seconds_total{job="node-exporter", mode=~"idle|iowait|steal"}[5m])))
  - record: instance:node_load1_per_cpu:ratio
    expr: node_load1{job="node-exporter"} / instance:node_num_cpu:sum{job="node-exporter"}
  - record: instance:node_memory_utilisation:ratio
    expr: 1 - (node_memory_MemAvailable_bytes{job="node-exporter"} / node_memory_MemTotal_bytes{job="node-exporter"})
  - record: instance:node_vmstat_pgmajfault:rate5m
    expr: rate(node_vmstat_pgmajfault{job="node-exporter"}[5m])
  - record: instance_device:node_disk_io_time_seconds:rate5m
    expr: rate(node_disk_io_time_seconds_total{job="node-exporter", device!=""}[5m])
  - record: instance:node_network_receive_bytes_excluding_lo:rate5m
    expr: sum without (device) (rate(node_network_receive_bytes_total{job="node-exporter", device!="lo"}[5m]))
  - record: instance:node_network_transmit_drop_excluding_lo:rate5m
    expr: sum without (device) (rate(node_network_transmit_drop_total{job="node-exporter", device!="lo"}[5m]))
  - record: node:node_filesystem_usage:ratio
    expr: 1 - node_filesystem_avail_bytes{job="node-exporter", fstype!=""} / node_filesystem_size_bytes{job="node-exporter", fstype!=""}
  - record: node:uptime:seconds
    expr: node_time_seconds{job="node-exporter"} - node_boot_time_seconds{job="node-exporter"}
  - record: node:uname
    expr: node_uname_info{job="node-exporter"} * on (instance) group_left () up{job="node-exporter"}
"#;

#[test]
fn a_prometheus_scrapes_it_and_the_rules_of_dashboards_find_what_they_want() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new();
    node.manifest("node-metrics", &spec("{}"));
    node.start();
    node.wait_running("node-metrics");
    let file = |name: &str| folder.path().join(name);
    fs::write(file("rules.yaml"), RULES).unwrap();
    fs::write(file("alerts.yaml"), scraping::alerts().to_string()).unwrap();
    // In both of the ways that are shipped.
    let nodes = ["by-file", "by-monitor"];
    let mut jobs = scraping::by_file(node.address(), nodes[0]);
    jobs.extend(scraping::by_monitor(node.address(), nodes[1]));
    let config = json!({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [file("rules.yaml"), file("alerts.yaml")],
        "scrape_configs": jobs,
    });
    fs::write(file("prometheus.yaml"), config.to_string()).unwrap();
    let address = own_address();
    let ask = |path: &str| -> Option<Value> {
        let answer: Value = serde_json::from_str(&get(address, path)?).ok()?;
        Some(answer["data"].clone())
    };
    // Of how many nodes there is a series.
    let found = |query: &str| -> Option<BTreeSet<String>> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = ask(&format!("/api/v1/query?query={encoded}"))?;
        let series = data["result"].as_array()?.iter();
        let nodes = series.map(|one| Some(one["metric"]["instance"].as_str()?.to_owned()));
        nodes.collect()
    };
    let everywhere: BTreeSet<String> = nodes.map(str::to_owned).into();
    // With native histograms it asks for the protobuf format.
    for (number, features) in [(1, "--enable-feature=native-histograms"), (2, "")] {
        let mut command = Command::new("prometheus");
        command
            .arg(format!(
                "--config.file={}",
                file("prometheus.yaml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                file(&format!("data-{number}")).display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .args(Some(features).filter(|it| !it.is_empty()))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let running = Running(command.spawn().expect("Debian's package prometheus"));
        let records = RULES.lines().filter_map(|line| line.split_once("record: "));
        let records = records.map(|(_, record)| record);
        // What alerts and the dashboard find the daemon by; `namespace` is the plugin's.
        let own = [
            "up{job=\"bulkhead\"} == 1",
            "bulkhead_plugin_ready{job=\"bulkhead\", namespace=\"local\", name=\"node-metrics\"} == 1",
        ];
        for query in own.into_iter().chain(records) {
            wait_for(&format!("{query} with {features:?}"), || {
                (found(query)? == everywhere).then_some(())
            });
        }
        // One target for each node and path, and no other.
        assert_eq!(found("up == 1").unwrap(), everywhere);
        assert_eq!(found("up == 0").unwrap(), BTreeSet::new());
        wait_for("every alert to be evaluated, and none to come", || {
            let data = ask("/api/v1/rules?type=alert")?;
            let groups = data["groups"].as_array()?.iter();
            let rules: Vec<&Value> = groups
                .filter_map(|it| it["rules"].as_array())
                .flatten()
                .collect();
            let failed = rules.iter().find(|rule| rule["health"] == "err");
            assert!(failed.is_none(), "{failed:#?}");
            let well = |rule: &&Value| rule["health"] == "ok" && rule["state"] == "inactive";
            (!rules.is_empty() && rules.iter().all(well)).then_some(())
        });
        drop(running);
    }
}
