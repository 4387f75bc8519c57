//! The other side of the SDK's tests in the sandbox: holds a component and calls it as a test says, over stdin and
//! stdout. Not for people; `bulkhead plugin test` has tests start it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::puppet::Puppet;
use crate::cli::Failed;
use crate::sandbox::Answers;

#[derive(Args)]
pub(in crate::cli) struct AnswerCalls {
    module: PathBuf,
}

impl AnswerCalls {
    pub(in crate::cli) fn execute(self) -> Result<ExitCode, Failed> {
        let runtime = super::runtime()?;
        let cache = cache(&self.module);
        let puppet = Puppet::open(&self.module, cache.as_deref(), Arc::new(Asker))?;
        let mut instance = runtime
            .block_on(puppet.instance(None))
            .map_err(|failure| Failed::new(failure.to_string()))?;
        while let Some(order) = receive() {
            let call = order["call"].as_str().unwrap_or_default();
            let arguments = order["arguments"].as_array().cloned().unwrap_or_default();
            let answer = runtime.block_on(instance.call_by_name(call, &arguments, None));
            let told = match answer {
                Ok(result) => json!({ "result": result }),
                Err(failure) => {
                    let mut text = failure.to_string();
                    for frame in &failure.backtrace {
                        text.push_str("\n  at ");
                        text.push_str(frame);
                    }
                    json!({ "failure": text })
                }
            };
            if !send(&told) {
                break;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Compiled once, beside the module, for all the processes of a test run.
pub(super) fn cache(module: &Path) -> Option<PathBuf> {
    Some(module.parent()?.join(".compiled"))
}

/// Whoever calls is asked.
struct Asker;

impl Answers for Asker {
    fn answer(&self, call: &str, arguments: Vec<Value>) -> Result<Value, String> {
        send(&json!({"ask": call, "arguments": arguments}));
        let mut told = receive().ok_or("the test is gone")?;
        Ok(told["answer"].take())
    }
}

fn send(value: &Value) -> bool {
    let mut stdout = std::io::stdout().lock();
    let sent = writeln!(stdout, "{value}");
    sent.and_then(|()| stdout.flush()).is_ok()
}

fn receive() -> Option<Value> {
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => serde_json::from_str(&line).ok(),
    }
}
