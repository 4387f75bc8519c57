//! Clocks that jump, and files and lines whose times make no sense: each line arrives once, and what
//! the status says of time stays a number that can be believed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use support::sink::{Sink, ok, status};
use support::{Accounts, Node, config_map, fixture_module, numbered};

const DAY: i64 = 24 * 60 * 60;
const YEAR: i64 = 365 * DAY;

/// A wall clock of the daemon's own.
struct Clock {
    shift: File,
    path: PathBuf,
    library: PathBuf,
}

impl Clock {
    fn new(node: &Node) -> Self {
        let library = node.path("clock.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/clock.c");
        let compiler = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(source)
            .output()
            .unwrap_or_else(|error| panic!("cannot run cc ({error}): install a C compiler"));
        let said = String::from_utf8_lossy(&compiler.stderr);
        assert!(compiler.status.success(), "cc {source}: {said}");
        let path = node.path("clock");
        let clock = Self {
            shift: File::create(&path).unwrap(),
            path,
            library,
        };
        clock.set(0);
        clock
    }

    /// Now is so many seconds from the true time.
    fn set(&self, seconds: i64) {
        self.shift.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }

    fn start(&self, node: &mut Node) {
        let environment = [
            ("LD_PRELOAD", self.library.to_str().unwrap()),
            ("TEST_CLOCK", self.path.to_str().unwrap()),
        ];
        node.start_with(&[], &environment);
    }
}

/// Seconds of lag, of which a plugin that stands still in time has not many.
fn lag(report: &Value) -> f64 {
    let lag = &report["logs"]["lag"]["seconds"];
    lag.as_f64().unwrap_or_else(|| panic!("{lag} is no number"))
}

fn messages(records: &[Value]) -> Vec<String> {
    let message = |record: &Value| record["message"].as_str().unwrap().to_owned();
    let mut messages: Vec<String> = records.iter().map(message).collect();
    messages.sort();
    messages
}

fn expected(parts: &[(&str, u64)]) -> Vec<String> {
    let lines = parts.iter().flat_map(|(name, to)| numbered(name, 0..*to));
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines
}

#[test]
fn a_clock_that_jumps_under_load_and_at_rest_costs_no_line() {
    let mut node = Node::new();
    let clock = Clock::new(&node);
    node.manifest("app", &node.spec("app", "fixture-logs", "{}"));
    let mut written = 0;
    // A log that is rotated before anyone has looked at the folder is not known to be one.
    node.append("first.log", numbered("first", 0..1));
    let mut since_start = 1;
    clock.start(&mut node);
    node.assert_accounted("app", since_start);
    // Linux takes no time before 1970, and the HTTP library cannot write one.
    for (round, shift) in [10 * YEAR, -DAY, -10 * YEAR, YEAR, 0, -50 * YEAR, 60]
        .into_iter()
        .enumerate()
    {
        node.append("a.log", numbered("a", written..written + 500));
        clock.set(shift);
        node.append("a.log", numbered("a", written + 500..written + 1000));
        let log = node.path("logs/a.log");
        fs::rename(&log, log.with_extension(format!("log.{round}"))).unwrap();
        node.append("a.log", numbered("a", written + 1000..written + 1500));
        node.append(
            &format!("b{round}.log"),
            numbered(&format!("b{round}"), 0..500),
        );
        written += 1500;
        since_start += 2000;
        node.assert_accounted("app", since_start);
        assert_eq!(
            lag(&node.plugin("app").unwrap()),
            0.0,
            "nothing is under way"
        );
        if shift == 10 * YEAR {
            let record = node.output("app").pop().unwrap();
            let time: jiff::Timestamp = record["time"].as_str().unwrap().parse().unwrap();
            let ahead = time.as_second() - jiff::Timestamp::now().as_second();
            assert!(ahead > 9 * YEAR, "the clock does not move: {record}");
        }
        if round % 2 == 1 {
            // The next start believes the new clock, and goes on where it was.
            assert!(node.stop().success());
            clock.start(&mut node);
            since_start = 0;
        }
    }
    let names: Vec<String> = (0..7).map(|round| format!("b{round}")).collect();
    let mut parts: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 500)).collect();
    parts.extend([("a", written), ("first", 1)]);
    assert!(messages(&node.output("app")) == expected(&parts));
}

#[test]
fn lag_is_a_number_while_lines_wait_and_the_clock_jumps() {
    let mut node = Node::new();
    let clock = Clock::new(&node);
    let sink = Sink::start(|request| match request.number < 40 {
        true => status(503),
        false => ok(),
    });
    let retry = "retry: {initial: 50ms, max: 50ms}";
    let http = format!("http: {{url: {:?}, {retry}}}", sink.url());
    node.manifest("app", &node.spec_to("fixture-logs", "{}", &http));
    clock.start(&mut node);
    node.append("a.log", numbered("a", 0..100));
    node.wait_plugin("app", "lines that wait", |report| {
        Accounts::of(report).in_flight == 100
    });
    for shift in [-10 * YEAR, -50 * YEAR, 10 * YEAR, 200 * YEAR, 0] {
        clock.set(shift);
        let lag = lag(&node.plugin("app").unwrap());
        let most = shift.max(0) as f64 + support::PATIENCE.as_secs_f64();
        assert!((0.0..=most).contains(&lag), "{lag} s");
    }
    node.assert_accounted("app", 100);
    assert_eq!(messages(&sink.records()), expected(&[("a", 100)]));
}

/// The daemon was first started with a clock that was ahead; it was put right since. Files that come
/// while the daemon runs are new whatever the clock says.
#[test]
fn what_comes_after_a_clock_that_was_ahead_is_read_whole() {
    let mut node = Node::new();
    let clock = Clock::new(&node);
    clock.set(YEAR);
    let spec = node.spec("app", "fixture-logs", "{}");
    let spec = spec.replace("startAt: beginning", "startAt: end");
    node.manifest("app", &spec);
    node.append("old.log", numbered("old", 0..10));
    clock.start(&mut node);
    node.wait_plugin("app", "the old file", |report| {
        report["logs"]["files"]["watched"] == 1
    });
    clock.set(0);
    node.append("a.log", numbered("a", 0..10));
    node.assert_accounted("app", 10);
    assert!(node.stop().success());
    node.append("a.log", numbered("a", 10..20));
    clock.start(&mut node);
    node.wait_plugin("app", "both files", |report| {
        report["logs"]["files"]["watched"] == 2
    });
    node.append("b.log", numbered("b", 0..10));
    node.assert_accounted("app", 20);
    let parts = [("a", 20), ("b", 10)];
    assert_eq!(messages(&node.output("app")), expected(&parts));
}

#[test]
fn files_and_lines_of_any_time_are_read_once() {
    let times = [
        "1969-12-31T23:59:59.999999999Z",
        "1970-01-01T00:00:00Z",
        "2026-01-02T03:04:05.1Z",
        "2016-12-31T23:59:60Z",
        "1678-01-01T00:00:00Z",
        "2261-01-01T00:00:00Z",
        "2020-02-29T12:00:00+14:00",
    ];
    // Nanoseconds in 64 bits do not reach so far: no times, so these lines are passed on whole.
    let beyond = ["0001-01-01T00:00:00Z", "2263-01-01T00:00:00Z"];
    let mut node = Node::new();
    let sink = Sink::start(|request| match request.number < 10 {
        true => status(503),
        false => ok(),
    });
    let (module, sha256) = fixture_module("fixture-logs");
    let retry = "retry: {initial: 50ms, max: 50ms}";
    let spec = format!(
        "module:\n  file: {{path: {module:?}, sha256: {sha256}}}\nconfig: {{}}\nlogs:\n  startAt: 24h\n  sources:\n  - containers: {{root: {:?}}}\n  - files: {{include: [{:?}]}}\n  destinations:\n  - name: out\n    http: {{url: {:?}, {retry}}}",
        node.path("log"),
        node.path("logs/*.log"),
        sink.url(),
    );
    node.raw_manifest("app.yaml", &config_map("app", &spec));
    fs::create_dir_all(node.path("log/pods")).unwrap();
    node.start();
    node.wait_running("app");
    // Times that jump to and fro from line to line.
    let folder = node.path("log/pods/shop_web-0_1/app");
    fs::create_dir_all(&folder).unwrap();
    let mut log = File::create(folder.join("0.log")).unwrap();
    let mut count = 0;
    for _ in 0..50 {
        for time in times {
            writeln!(log, "{time} stdout F cri {count}").unwrap();
            count += 1;
        }
        for time in beyond {
            writeln!(log, "{time} stdout F x").unwrap();
        }
    }
    let all = count + 100 + 20;
    for (name, time) in [("old", 0), ("new", 4_000_000_000)] {
        node.append(&format!("{name}.log"), numbered(name, 0..10));
        let path = node.path(&format!("logs/{name}.log"));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time);
        let file = File::options().append(true).open(path).unwrap();
        file.set_modified(time).unwrap();
    }
    node.wait_plugin("app", "each line", |report| {
        assert!(lag(report) >= 0.0);
        Accounts::of(report).acknowledged >= all
    });
    node.assert_accounted("app", all);
    let parts = [("cri", count), ("old", 10), ("new", 10)];
    let mut expected = expected(&parts);
    for time in beyond {
        expected.extend(vec![format!("{time} stdout F x"); 50]);
    }
    expected.sort();
    assert!(messages(&sink.records()) == expected);
    let report = node.plugin("app").unwrap();
    assert_eq!(report["logs"]["malformedLines"], 100);
}
