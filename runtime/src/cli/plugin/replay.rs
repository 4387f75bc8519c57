//! `bulkhead plugin replay`: a recording's calls made again, and the answers compared.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use serde_json::{Value, json};
use similar::TextDiff;

use super::puppet::Puppet;
use super::recording::{Recording, bytes, unhex};
use crate::cli::table::tame;
use crate::cli::{Failed, OutputFormat, print};
use crate::module::{self, Digest};
use crate::sandbox::{Answers, Imported, Instance, Told};

/// Make the calls of a recording again, and show where the answers differ.
///
/// The plugin gets what it got: the same arguments, the same answers of the host, the time and the random numbers.
/// What it reads through WASI (granted folders) and the monotonic clock are not in a recording.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bulkhead plugin replay app-logs.jsonl\n  bulkhead plugin replay app-logs.jsonl --module target/plugin/app-logs.wasm\n\nEnds with 1 if an answer differs."
)]
pub(in crate::cli) struct Replay {
    /// What `bulkhead plugin record` wrote.
    recording: PathBuf,
    /// The module; a bundled one that was recorded need not be named.
    #[arg(long, value_name = "MODULE")]
    module: Option<PathBuf>,
    /// How many differences are shown.
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    show: usize,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// An answer that is another.
struct Difference {
    /// Which call of the recording, from 1.
    number: usize,
    call: String,
    recorded: Value,
    found: Value,
}

impl Replay {
    pub(in crate::cli) fn execute(self) -> Result<ExitCode, Failed> {
        let recording = Recording::read(&self.recording)?;
        let module = self.module(&recording)?;
        let answers = Arc::new(FromRecording::default());
        let puppet = Puppet::open(&module, None, answers.clone())?;
        let digest = puppet.digest.to_string();
        let runtime = super::runtime()?;
        let same_module = digest == recording.head.module;
        let calls = recording.calls.iter();
        // Another module says another version of itself, and perhaps has another schema.
        let calls = calls.filter(|told| same_module || told.call != "lifecycle.describe");
        let (made, differences) = runtime.block_on(replay(&puppet, &answers, calls))?;
        if made == 0 {
            return Err(Failed::new(format!(
                "{}: it holds no call that can be made again",
                self.recording.display()
            )));
        }
        let complete = recording
            .end
            .as_ref()
            .is_some_and(|end| end.lost == Some(0));
        print(&match self.output {
            OutputFormat::Json => {
                let shown: Vec<Value> = differences.iter().take(self.show).map(json_of).collect();
                json!({
                    "plugin": recording.head.plugin, "module": digest, "sameModule": same_module,
                    "calls": recording.calls.len(), "complete": complete,
                    "differences": differences.len(), "shown": shown,
                })
                .to_string()
                    + "\n"
            }
            OutputFormat::Text => {
                let mut page = String::new();
                for difference in differences.iter().take(self.show) {
                    page.push_str(&diff(difference));
                }
                if !complete {
                    page.push_str("the recording is cut off, or calls are missing in it: what depends on them differs\n");
                }
                let module = if same_module {
                    "the module that was recorded"
                } else {
                    "another module"
                };
                let _ = match differences.len() {
                    0 => writeln!(page, "{made} calls, {module}: the same answers"),
                    count => writeln!(page, "{made} calls, {module}: {count} answers differ"),
                };
                tame(&page)
            }
        });
        Ok(ExitCode::from(u8::from(!differences.is_empty())))
    }

    fn module(&self, recording: &Recording) -> Result<PathBuf, Failed> {
        if let Some(module) = &self.module {
            return Ok(module.clone());
        }
        let head = &recording.head;
        let module = Digest::parse(&head.module);
        let bundled = module::bundled()
            .iter()
            .find(|plugin| Some(plugin.digest) == module);
        bundled.map(|plugin| plugin.name.into()).ok_or_else(|| {
            Failed::new(format!(
                "{}: {} was recorded with the module {}, which is not in this program: name it, or a newer one, with --module",
                self.recording.display(),
                head.plugin,
                head.module
            ))
        })
    }
}

async fn replay(
    puppet: &Puppet,
    answers: &FromRecording,
    calls: impl Iterator<Item = &Told>,
) -> Result<(usize, Vec<Difference>), Failed> {
    let mut made = 0;
    let mut differences = Vec::new();
    let mut instances: Vec<(u64, Instance)> = Vec::new();
    for (index, told) in calls.enumerate() {
        let number = index + 1;
        answers.next(&told.imports);
        if told.call == "instantiate" {
            let mut seed = [0; 32];
            let known = unhex_seed(&told.result);
            let length = known.len().min(seed.len());
            seed[..length].copy_from_slice(&known[..length]);
            let instance = puppet.instance(Some(seed)).await;
            let instance = instance.map_err(|failure| Failed::new(failure.to_string()))?;
            // The one before may still be asked for its snapshot, but none before that.
            if instances.len() > 1 {
                instances.remove(0);
            }
            instances.push((told.instance, instance));
            continue;
        }
        let mut known = instances.iter_mut();
        let Some((_, instance)) = known.find(|(instance, _)| *instance == told.instance) else {
            continue;
        };
        made += 1;
        let found = instance
            .call_by_name(&told.call, &told.arguments, Some(told.time))
            .await;
        let found = match found {
            Ok(answer) => json!({"result": answer, "asked": answers.asked()}),
            Err(failure) => json!({"failure": failure.to_string(), "asked": answers.asked()}),
        };
        let imports = serde_json::to_value(&told.imports).unwrap_or_default();
        let recorded = match &told.failure {
            None => json!({"result": told.result, "asked": imports}),
            Some(failure) => json!({"failure": failure, "asked": imports}),
        };
        if found != recorded {
            differences.push(Difference {
                number,
                call: told.call.clone(),
                recorded,
                found,
            });
        }
    }
    Ok((made, differences))
}

fn unhex_seed(seed: &Value) -> Vec<u8> {
    match seed["hex"].as_str() {
        Some(hex) => unhex(hex),
        None => bytes(seed),
    }
}

/// What the host answered then. A question that was not asked then has no answer, but for a log record.
#[derive(Default)]
struct FromRecording(Mutex<Imports>);

#[derive(Default)]
struct Imports {
    recorded: VecDeque<Imported>,
    asked: Vec<Imported>,
}

impl FromRecording {
    fn next(&self, imports: &[Imported]) {
        let mut this = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        this.recorded = imports.iter().cloned().collect();
        this.asked.clear();
    }

    fn asked(&self) -> Value {
        let this = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::to_value(&this.asked).unwrap_or_default()
    }
}

impl Answers for FromRecording {
    fn answer(&self, call: &str, arguments: Vec<Value>) -> Result<Value, String> {
        let mut this = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut recorded = this.recorded.iter();
        let known = recorded.position(|it| it.call == call && it.arguments == arguments);
        let answer = match known.and_then(|known| this.recorded.remove(known)) {
            Some(recorded) => recorded.answer,
            None if call == "log.write" => Value::Null,
            None => {
                return Err(format!(
                    "was not asked so when it was recorded, with {}",
                    Value::from(arguments)
                ));
            }
        };
        this.asked.push(Imported {
            call: call.to_owned(),
            arguments,
            answer: answer.clone(),
        });
        Ok(answer)
    }
}

fn json_of(difference: &Difference) -> Value {
    json!({
        "number": difference.number, "call": difference.call,
        "recorded": difference.recorded, "found": difference.found,
    })
}

fn diff(difference: &Difference) -> String {
    let text = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default() + "\n";
    let (recorded, found) = (text(&difference.recorded), text(&difference.found));
    let number = difference.number;
    let diff = TextDiff::from_lines(&recorded, &found);
    let diff = diff.unified_diff().context_radius(2).to_string();
    format!(
        "call {number}, {}\n--- recorded\n+++ now\n{diff}",
        difference.call
    )
}
