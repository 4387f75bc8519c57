//! What an author waits for: from `plugin new` to the first line, from a saved file to the line that shows it; and
//! what a first plugin weighs, takes to compile, and spends on a line. Run by `make bench`; a bar that is missed is
//! reported, not failed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs
)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead::manifest::{Grants, Limits};
use bulkhead::sandbox::bindings::logs::exports::bulkhead::plugin::logs as wit;
use bulkhead::sandbox::{Environment, Journal, NodeFolders, Sandbox, Tap};
use tokio::runtime::Runtime;
use wasmtime::component::Component;

/// Lines of a batch, and how often it is passed.
const LINES: usize = 65_536;
const ROUNDS: u32 = 50;

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
    command
        .current_dir(folder)
        .args(arguments)
        .env("CARGO_NET_OFFLINE", "true")
        .env_remove("CARGO_TARGET_DIR")
        .stdin(Stdio::null());
    command
}

fn works(folder: &Path, arguments: &[&str]) -> String {
    let output = command(folder, arguments).stderr(Stdio::inherit()).output();
    let output = output.expect("the binary starts");
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn report(what: &str, found: f64, unit: &str, bar: f64) {
    let verdict = if found <= bar { "" } else { "  MISSED" };
    println!("{what:<52} {found:>10.1} {unit:<4} (bar {bar} {unit}){verdict}");
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let begin = Instant::now();
    works(folder.path(), &["plugin", "new", "hello", "--role", "logs"]);
    let path = folder.path().join("hello");
    let mut running = command(&path, &["plugin", "run"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let stdout = running.stdout.take().expect("a pipe");
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let mut wait = |part: &str| {
        let found = lines.any(|line| line.contains(part));
        assert!(found, "{part} was not shown");
    };
    wait("\"greeting\":\"hello\"");
    report(
        "from `plugin new` to the first line",
        begin.elapsed().as_secs_f64(),
        "s",
        60.0,
    );
    let source = path.join("src/lib.rs");
    let text = fs::read_to_string(&source).expect("the source");
    let mut slowest = Duration::ZERO;
    for greeting in ["moin", "servus", "ahoy"] {
        let begin = Instant::now();
        let new = text.replace(
            "\"greeting\", \"hello\"",
            &format!("\"greeting\", \"{greeting}\""),
        );
        fs::write(&source, new).expect("it is saved");
        wait(&format!("\"greeting\":\"{greeting}\""));
        slowest = slowest.max(begin.elapsed());
    }
    report(
        "from a saved file to the line that shows it, slowest",
        slowest.as_secs_f64(),
        "s",
        3.0,
    );
    // As Ctrl-C does: its daemon ends with it, and its folder is removed.
    let it = rustix::process::Pid::from_child(&running);
    rustix::process::kill_process(it, rustix::process::Signal::INT).expect("it runs");
    running.wait().expect("it ended");

    let built = works(&path, &["plugin", "build", "--output", "json"]);
    let built: serde_json::Value = serde_json::from_str(&built).expect("JSON");
    let module: PathBuf = built["path"].as_str().expect("a path").into();
    let module = fs::read(module).expect("the module");
    report(
        "a hello plugin for logs",
        module.len() as f64 / 1024.0,
        "KiB",
        150.0,
    );
    let sandbox = Sandbox::new(Vec::new(), NodeFolders::bare(Vec::new())).expect("a sandbox");
    let begin = Instant::now();
    let _ = Component::new(sandbox.engine(), &module).expect("it compiles");
    report(
        "compiling it",
        begin.elapsed().as_secs_f64() * 1000.0,
        "ms",
        200.0,
    );
    // In turns, and the least of each: the difference is small.
    let (mut unread, mut filtered) = (f64::MAX, f64::MAX);
    for _ in 0..5 {
        unread = unread.min(per_line(&sandbox, "fixture_facades", "{}"));
        filtered = filtered.min(per_line(&sandbox, "fixture_logs", r#"{"contains":"b"}"#));
    }
    println!("passing a batch to a plugin that looks at no line: {unread:.1} ns a line");
    report(
        "what looking at each adds, a line",
        filtered - unread,
        "ns",
        10.0,
    );
}

/// Nanoseconds for each of many short lines: passing the batch, what the plugin does, and answering.
fn per_line(sandbox: &Sandbox, fixture: &str, config: &str) -> f64 {
    let path = Path::new(env!("BULKHEAD_FIXTURES")).join(format!("{fixture}.wasm"));
    let module = fs::read(path).expect("the build script built it");
    let component = Component::new(sandbox.engine(), module).expect("a component");
    let blueprint = sandbox
        .link(&component, &Grants::default(), &Limits::default())
        .expect("it links");
    let environment = Environment {
        journal: Journal::new("bench/bench"),
        state: None,
        usage: Arc::default(),
        tap: Tap::default(),
        seed: None,
    };
    let bytes = vec![b'a'; LINES];
    let line = |index: usize| wit::Line {
        time: 0,
        offset: index as u32,
        length: 1,
        source: 0,
        flags: 0,
    };
    let lines: Vec<wit::Line> = (0..LINES).map(line).collect();
    let sources = [wit::Source {
        path: "/var/log/x",
        attributes: &[],
    }];
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut instance = blueprint.instantiate(&environment).await.expect("starts");
        instance
            .init(config.to_owned())
            .await
            .expect("answers")
            .expect("accepts");
        let guest = instance.logs().expect("the role");
        let (bytes, lines, sources) = (&bytes, &lines, &sources);
        let begin = Instant::now();
        for _ in 0..ROUNDS {
            let guest = guest.clone();
            let answer = instance.call("logs.process", move |store, _| {
                Box::pin(async move {
                    let batch = wit::Batch {
                        sources,
                        bytes,
                        lines,
                    };
                    guest.call_process(store, batch).await
                })
            });
            let _ = answer.await.expect("answers").expect("decides");
        }
        begin.elapsed().as_nanos() as f64 / (f64::from(ROUNDS) * LINES as f64)
    })
}
