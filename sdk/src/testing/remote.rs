//! The plugin inside the real sandbox: a child process that holds the component, calls it as it is told to, and asks
//! back for what the plugin imports. Those questions are answered by this thread's fakes, so that a test sees the
//! same world in both.
//!
//! One line of JSON each way: `{"call", "arguments"}`, then any number of `{"ask", "arguments"}` answered by
//! `{"answer"}`, then `{"result"}` or `{"failure"}`.

#![allow(
    clippy::panic,
    reason = "what fails here fails a test, as it would natively"
)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::fakes;
use super::wire::{Wire, read};
use crate::bindings::lifecycle::bulkhead::plugin::{log, node_stats, state};
use crate::log::Level;

/// The program that holds components, and the component; `bulkhead plugin test` sets both.
const PROGRAM: &str = "BULKHEAD_TEST_PROGRAM";
const MODULE: &str = "BULKHEAD_TEST_MODULE";

/// A component in a process of its own.
#[derive(Debug)]
pub(super) struct Remote {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Remote {
    /// Starts it, if tests are to run in the sandbox.
    pub(super) fn start() -> Option<Self> {
        let program = std::env::var_os(PROGRAM)?;
        let module = std::env::var_os(MODULE)?;
        let mut child = Command::new(&program)
            .args(["plugin", "answer-calls"])
            .arg(module)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{PROGRAM}: {}: {error}", program.display()));
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let output = output.map(BufReader::new);
        let output = output.unwrap_or_else(|| panic!("{PROGRAM}: has no stdout"));
        Some(Self {
            child,
            input,
            output,
        })
    }

    /// Calls a function of the component. What ends an instance ends the test, as a panic of the plugin does
    /// natively.
    pub(super) fn call<R: DeserializeOwned>(
        &mut self,
        call: &str,
        arguments: &impl Serialize,
    ) -> R {
        self.send(&json!({"call": call, "arguments": arguments}));
        loop {
            let mut told = self.receive(call);
            if let Some(ask) = told["ask"].as_str() {
                let answer = answer(ask, told["arguments"].clone());
                self.send(&json!({"answer": answer}));
            } else if let Some(failure) = told["failure"].as_str() {
                panic!("in the sandbox: {failure}");
            } else {
                return read(told["result"].take())
                    .unwrap_or_else(|error| panic!("the sandbox's answer to {call}: {error}"));
            }
        }
    }

    fn send(&mut self, value: &Value) {
        let line = value.to_string() + "\n";
        let input = self.input.as_mut();
        let sent = input.map(|input| {
            input
                .write_all(line.as_bytes())
                .and_then(|()| input.flush())
        });
        if !matches!(sent, Some(Ok(()))) {
            panic!("the sandbox's process is gone; what it said is above");
        }
    }

    fn receive(&mut self, call: &str) -> Value {
        let mut line = String::new();
        let count = self.output.read_line(&mut line).unwrap_or(0);
        assert!(
            count > 0,
            "the sandbox's process ended in {call}; what it said is above"
        );
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // It ends when nobody can call it any more.
        self.input = None;
        let _ = self.child.wait();
    }
}

/// The fakes' answer to what the component asks.
fn answer(call: &str, arguments: Value) -> Value {
    let arguments = Wire(arguments);
    let told = match call {
        "log.write" => {
            let (level, target, message, fields): (log::Level, String, String, String) =
                take(call, arguments);
            let level = match level {
                log::Level::Trace => Level::Trace,
                log::Level::Debug => Level::Debug,
                log::Level::Info => Level::Info,
                log::Level::Warn => Level::Warn,
                log::Level::Error => Level::Error,
            };
            fakes::log(level, &target, &message, &fields);
            Ok(Value::Null)
        }
        "log.least-level" => serde_json::to_value(match fakes::least_level() {
            Level::Trace => log::Level::Trace,
            Level::Debug => log::Level::Debug,
            Level::Info => log::Level::Info,
            Level::Warn => log::Level::Warn,
            Level::Error => log::Level::Error,
        }),
        "state.get" => {
            let (key,): (String,) = take(call, arguments);
            serde_json::to_value(fakes::state_get(&key).map_err(refused))
        }
        "state.set" => {
            let (key, value): (String, Vec<u8>) = take(call, arguments);
            serde_json::to_value(fakes::state_set(&key, &value).map_err(refused))
        }
        "state.delete" => {
            let (key,): (String,) = take(call, arguments);
            serde_json::to_value(fakes::state_delete(&key).map_err(refused))
        }
        "state.list-keys" => {
            let (prefix,): (String,) = take(call, arguments);
            serde_json::to_value(fakes::state_keys(&prefix).map_err(refused))
        }
        "node.facts" => serde_json::to_value(fakes::node_facts()),
        "node-stats.filesystems" => {
            let (paths,): (Vec<String>,) = take(call, arguments);
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            let sizes = fakes::filesystems(&paths).into_iter();
            let sizes: Vec<_> = sizes.map(|it| it.map(raw_filesystem)).collect();
            serde_json::to_value(sizes)
        }
        "node-stats.read-clock" => serde_json::to_value(fakes::clock().map(raw_clock)),
        "node-stats.read-system-name" => {
            let name = fakes::system_name();
            serde_json::to_value(node_stats::SystemName {
                sysname: name.sysname,
                nodename: name.nodename,
                release: name.release,
                version: name.version,
                machine: name.machine,
                domainname: name.domainname,
            })
        }
        "node-stats.read-time-zone" => serde_json::to_value(fakes::time_zone()),
        _ => panic!("this SDK has no fake for {call}; build the component with the same SDK"),
    };
    told.unwrap_or_else(|error| panic!("the answer to {call}: {error}"))
}

fn take<T: DeserializeOwned>(call: &str, arguments: Wire) -> T {
    read(arguments.0).unwrap_or_else(|error| panic!("what {call} is asked with: {error}"))
}

fn refused(error: crate::state::Error) -> state::Error {
    use crate::state::Error;
    match error {
        Error::OverQuota(quota) => state::Error::OverQuota(quota),
        Error::InvalidKey => state::Error::InvalidKey,
        Error::Unavailable(why) => state::Error::Unavailable(why),
    }
}

fn raw_filesystem(sizes: crate::node_stats::Filesystem) -> node_stats::Filesystem {
    node_stats::Filesystem {
        size: sizes.size,
        free: sizes.free,
        available: sizes.available,
        files: sizes.files,
        files_free: sizes.files_free,
        read_only: sizes.read_only,
    }
}

fn raw_clock(clock: crate::node_stats::Clock) -> node_stats::Clock {
    node_stats::Clock {
        state: clock.state,
        status: clock.status,
        offset: clock.offset,
        frequency: clock.frequency,
        max_error: clock.max_error,
        estimated_error: clock.estimated_error,
        constant: clock.constant,
        tick: clock.tick,
        pps_frequency: clock.pps_frequency,
        jitter: clock.jitter,
        shift: clock.shift,
        stability: clock.stability,
        jitter_count: clock.jitter_count,
        calibration_count: clock.calibration_count,
        error_count: clock.error_count,
        stability_count: clock.stability_count,
        tai: clock.tai,
    }
}
