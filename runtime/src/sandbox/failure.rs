//! How a guest's call can fail, in words for the person who can act.

use schemars::JsonSchema;
use serde::Serialize;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

/// The most frames that are reported.
const FRAMES: usize = 16;

/// Why a call ended an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Cause {
    /// The guest trapped: a panic, an access out of bounds, a stack overflow.
    Trap,
    /// The call took longer than `limits.deadline`.
    DeadlineExceeded,
    /// The guest wanted more memory than `limits.memory`.
    OutOfMemory,
    /// The guest returned more than `limits.output`.
    OutputTooLarge,
    /// What the guest returned is not what the contract allows.
    BrokenPromise,
    /// The guest returned an error.
    Returned,
    /// The node did not let the module be compiled or its configuration be checked, for example because memory ran out.
    Interrupted,
    /// The daemon itself failed during the call; please report it.
    HostPanic,
}

/// A call that failed. The instance is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{call}: {message}")]
pub struct Failure {
    /// The function that was called, for example `logs.process`.
    pub call: &'static str,
    /// What kind of failure.
    pub cause: Cause,
    /// What happened and what to do.
    pub message: String,
    /// The guest's frames, innermost first; empty if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<String>,
    /// The last that the guest wrote to stderr: a Rust panic says its message there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stderr: String,
}

impl Failure {
    /// A failure without frames or output.
    pub fn new(call: &'static str, cause: Cause, message: impl Into<String>) -> Self {
        Self {
            call,
            cause,
            message: message.into(),
            backtrace: Vec::new(),
            stderr: String::new(),
        }
    }

    /// Reads what wasmtime says of a failed call.
    pub(super) fn from_call(
        call: &'static str,
        error: &wasmtime::Error,
        memory_refused: bool,
        stderr: String,
    ) -> Self {
        let backtrace = error
            .downcast_ref::<WasmBacktrace>()
            .map(frames)
            .unwrap_or_default();
        let reason = error.root_cause().to_string();
        let reason = reason.strip_prefix("wasm trap: ").unwrap_or(&reason);
        let panic = panic_message(&stderr);
        let (cause, message) = if memory_refused {
            (
                Cause::OutOfMemory,
                "wanted more memory than it may have; raise limits.memory in the manifest if the plugin needs it".to_owned(),
            )
        } else if reason.contains("fuel allocated for hostcalls") {
            (
                Cause::OutputTooLarge,
                "returned more bytes than it may; raise limits.output in the manifest if the plugin needs it".to_owned(),
            )
        } else if let Some(panic) = panic {
            (Cause::Trap, panic)
        } else if error.is::<I32Exit>() {
            let message =
                "called exit, and a plugin is called again and again; return an error instead";
            (Cause::Trap, message.to_owned())
        } else if let Some(Trap::MemoryOutOfBounds) = error.downcast_ref() {
            // Rust and C keep a stack of their own at the start of the memory.
            let hint = "most often a stack overflow: see whether the backtrace recurses";
            (Cause::Trap, format!("trapped: {reason}; {hint}"))
        } else if let Some(Trap::StackOverflow) = error.downcast_ref() {
            let hint = "see whether the backtrace recurses";
            (Cause::Trap, format!("trapped: {reason}; {hint}"))
        } else {
            let how = match error.downcast_ref::<Trap>() {
                Some(_) => "trapped",
                None => "failed",
            };
            (
                Cause::Trap,
                format!("{how}: {reason}{}", last_words(&stderr)),
            )
        };
        Self {
            call,
            cause,
            message,
            backtrace,
            stderr,
        }
    }
}

/// The message of a Rust panic: from `panicked at` on.
fn panic_message(stderr: &str) -> Option<String> {
    let start = stderr.rfind("panicked at ")?;
    let message = stderr.get(start..)?;
    let message = message.split("\nnote: ").next().unwrap_or(message);
    Some(message.trim_end().replace(":\n", ": "))
}

/// Where other languages say why they gave up: an exception is the last line of its traceback.
fn last_words(stderr: &str) -> String {
    match stderr.lines().next_back().map(str::trim) {
        None | Some("") => String::new(),
        Some(line) => format!("; the last line that it wrote to stderr: {line}"),
    }
}

fn frames(backtrace: &WasmBacktrace) -> Vec<String> {
    backtrace
        .frames()
        .iter()
        .take(FRAMES)
        .map(|frame| {
            let symbol = frame.symbols().first();
            let name = symbol
                .and_then(|symbol| symbol.name())
                .or_else(|| frame.func_name())
                .map_or_else(|| format!("function {}", frame.func_index()), demangle);
            match symbol.and_then(|symbol| Some((symbol.file()?, symbol.line()?))) {
                Some((file, line)) => format!("{name} ({file}:{line})"),
                None => name,
            }
        })
        .collect()
}

fn demangle(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_panic_in_stderr() {
        let stderr = "hello\nthread '<unnamed>' panicked at src/lib.rs:3:5:\nboom\nnote: run with `RUST_BACKTRACE=1`";
        assert_eq!(
            panic_message(stderr).as_deref(),
            Some("panicked at src/lib.rs:3:5: boom")
        );
        assert_eq!(panic_message("nothing"), None);
    }

    #[test]
    fn the_last_line_of_stderr_is_told() {
        let stderr = "Traceback (most recent call last):\n  File \"app.py\"\nKeyError: 'x'\n";
        assert_eq!(
            last_words(stderr),
            "; the last line that it wrote to stderr: KeyError: 'x'"
        );
        assert_eq!(last_words(""), "");
    }
}
