//! `bulkhead plugin run`: one plugin alone, by the daemon's own code path, with what it does shown.
//!
//! A daemon is started with a folder of its own, this plugin's manifest, and no right to change the node. What is
//! shown is what it tells of the plugin's calls, as for `record`. When a file of the crate is saved, the crate is
//! built again and the manifest names the new module: the rest is an ordinary update.

mod daemon;
mod input;
mod stage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::cargo::tell;
use super::recording::Recording;
use super::show;
use crate::cli::{Failed, OutputFormat, print};
use crate::control::{self, ClientError, RecordOrder, Recorded};
use crate::sandbox::{Role, Told};

use daemon::Daemon;
use input::Input;
use stage::Stage;

/// Run a plugin alone and show what it does, built and loaded again when a file is saved.
///
/// Lines come from files, from stdin or from a recording; what measures, keeps or scans is shown this node. The
/// node is not changed: changes are shown as a diff.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bulkhead plugin run\n  bulkhead plugin run --input /var/log/syslog\n  tail -f app.log | bulkhead plugin run ./hello --input -\n  bulkhead plugin run target/plugin/hello.wasm --manifest plugin.yaml --once --output json\n\nOf each line: = kept as it is, - dropped, ~ changed (what became of it stands below), > part of a payload."
)]
pub(in crate::cli) struct Run {
    /// The crate's folder, or the file of a module.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// A ConfigMap, or what stands under its key plugin.yaml; that of the crate unless given.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// A file whose lines the plugin gets; - for stdin. May be given several times. Three lines to try unless given.
    #[arg(long, value_name = "FILE", conflicts_with = "recording")]
    input: Vec<PathBuf>,
    /// The lines of a recording.
    #[arg(long, value_name = "FILE")]
    recording: Option<PathBuf>,
    /// End when the input was worked on, or after the first collection, plan or look.
    #[arg(long)]
    once: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
    /// Given to cargo.
    #[arg(last = true, value_name = "OPTIONS")]
    cargo: Vec<String>,
}

/// How often files and the plugin's status are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often what measures or keeps is asked.
const ASK: Duration = Duration::from_secs(2);
/// With `--once`, how long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// Calls that wait to be shown, beside those that wait in the daemon.
const QUEUE: usize = 16;
/// As good as for ever.
const LONG: u64 = 10 * 365 * 24 * 3600;

enum Heard {
    Begun,
    Call(Box<Told>),
    Over(Option<ClientError>),
}

impl Run {
    pub(in crate::cli) fn execute(self) -> Result<ExitCode, Failed> {
        let runtime = super::runtime()?;
        let ended = runtime.block_on(self.run());
        // Whoever types at the terminal is not waited for.
        runtime.shutdown_background();
        ended
    }

    async fn run(self) -> Result<ExitCode, Failed> {
        let mut input = match &self.recording {
            Some(path) => Input::recorded(&Recording::read(path)?)?,
            None => Input::of(&self.input, self.once)?,
        };
        // From here on there is something to be tidied up.
        let mut ends = Ends::listen()?;
        let mut stage = Stage::set(&self.path, self.manifest.as_deref(), &self.cargo)?;
        let mut daemon = Daemon::start(stage.folder())?;
        let (sender, mut calls) = mpsc::channel(QUEUE);
        let listening = listen(stage.state(), stage.name().to_owned(), sender);
        let _listening = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(listening));
        let mut shown = String::new();
        let mut seen = 0;
        let mut begun = false;
        let mut planned = false;
        let mut saved: Option<Instant> = Some(stage.began());
        let mut at_work = Value::Null;
        let (mut tick, mut ask) = (tokio::time::interval(TICK), tokio::time::interval(ASK));
        let mut progress = Instant::now();
        loop {
            tokio::select! {
                () = ends.heard() => return Ok(ExitCode::SUCCESS),
                heard = calls.recv() => match heard {
                    Some(Heard::Begun) => {
                        // Nothing that it does from its first call on is missed.
                        stage.let_go()?;
                        self.event("running", json!({"plugin": stage.name(), "module": stage.digest()}));
                    }
                    Some(Heard::Call(told)) => {
                        progress = Instant::now();
                        begun = true;
                        seen += show::count(&told);
                        input.feed(&stage.input(), seen)?;
                        self.show(&told, &mut shown);
                        if self.once && told.missing > 0 {
                            return Err(Failed::new("calls came faster than they could be shown, and what is missing may have failed: give less at a time"));
                        }
                        if self.once && is_answer(&told, stage.roles()) {
                            if is_bad(&told) || told.call != "enforcement.plan" {
                                return Ok(ExitCode::from(u8::from(is_bad(&told))));
                            }
                            planned = true;
                        }
                    }
                    Some(Heard::Over(Some(error))) => return Err(daemon.explain(&error.to_string())),
                    Some(Heard::Over(None)) | None => return Err(daemon.explain("the daemon went away")),
                },
                _ = tick.tick() => {
                    if !daemon.is_alive() {
                        return Err(daemon.explain("the daemon ended"));
                    }
                    if let Some(status) = daemon.status(stage.name()).await {
                        let problem = problem(&status);
                        if let Some(problem) = daemon.news(problem) {
                            let problem = stage.in_words_of_author(&problem);
                            self.event("refused", json!({"problem": problem}));
                            // What is put right is loaded anew, even if it is as before.
                            at_work = Value::Null;
                            if self.once {
                                return Ok(ExitCode::FAILURE);
                            }
                        }
                        // What the plan comes to, the host has looked at as well.
                        if planned && status["enforcement"]["checks"].as_u64() > Some(0) {
                            return Ok(ExitCode::SUCCESS);
                        }
                        let active = &status["active"];
                        if active["digest"] == stage.digest()
                            && active["manifest"] != at_work
                            && is_up_to_date(&status)
                            && begun
                            && let Some(saved) = saved.take()
                        {
                            at_work = active["manifest"].clone();
                            let took = saved.elapsed().as_millis() as u64;
                            self.event("loaded", json!({"module": stage.digest(), "milliseconds": took}));
                            if stage.loads() > 1 {
                                input.again();
                            }
                        }
                    }
                    if begun {
                        input.feed(&stage.input(), seen)?;
                        let all = input.is_over() && seen >= input.lines();
                        if self.once && all && stage.roles().contains(&Role::Logs) {
                            return Ok(ExitCode::SUCCESS);
                        }
                    }
                    if !self.once && let Some(at) = stage.changed() {
                        match stage.build_again().await {
                            Ok(false) => {}
                            Ok(true) => saved = Some(at),
                            Err(error) => self.event("refused", json!({"problem": error.to_string()})),
                        }
                    }
                    if self.once && input.is_over() && progress.elapsed() > PATIENCE {
                        return Err(daemon.explain("the plugin has not been called for two minutes"));
                    }
                }
                _ = ask.tick(), if begun => daemon.ask(stage.name(), stage.roles(), stage.state()),
            }
        }
    }

    fn show(&self, told: &Told, shown: &mut String) {
        if self.output == OutputFormat::Json {
            print(&(serde_json::to_string(&json!({ "call": told })).unwrap_or_default() + "\n"));
            return;
        }
        let page = show::text(told);
        // What is asked again and again says the same most of the time.
        let again = told.call != "logs.process" && page == *shown;
        if !page.is_empty() && !again {
            print(&page);
            *shown = page;
        }
    }

    fn event(&self, event: &str, details: Value) {
        match self.output {
            OutputFormat::Json => {
                print(&(json!({ event: details }).to_string() + "\n"));
            }
            OutputFormat::Text => tell(&format!("[{event}] {}", words(&details))),
        }
    }
}

/// `plugin local/a, milliseconds 7`.
fn words(details: &Value) -> String {
    let members = details.as_object().into_iter().flatten();
    let words: Vec<String> = members
        .map(|(name, value)| match value.as_str() {
            Some(text) if name == "problem" => text.to_owned(),
            Some(text) => format!("{name} {text}"),
            None => format!("{name} {value}"),
        })
        .collect();
    words.join(", ")
}

/// Listens as `record` does, as soon as the daemon knows the plugin.
async fn listen(state: PathBuf, plugin: String, sender: mpsc::Sender<Heard>) {
    let order = RecordOrder {
        plugin,
        seconds: LONG,
        bytes: u64::MAX,
    };
    let over = hear(&state, &order, &sender).await.err();
    let _ = sender.send(Heard::Over(over)).await;
}

async fn hear(
    state: &Path,
    order: &RecordOrder,
    sender: &mpsc::Sender<Heard>,
) -> Result<(), ClientError> {
    let begin = Instant::now();
    let mut records = loop {
        match control::record(state, order).await {
            // It is about to start, or to read the manifest.
            Err(ClientError::Unreachable { .. } | ClientError::Refused(_))
                if begin.elapsed() < PATIENCE =>
            {
                tokio::time::sleep(TICK / 4).await;
            }
            answer => break answer?,
        }
    };
    while let Some(recorded) = records.next().await? {
        let heard = match recorded {
            Recorded::Recording(_) => Heard::Begun,
            Recorded::Call(told) => Heard::Call(told),
            Recorded::End(_) => return Ok(()),
        };
        // Waits for the terminal; what the daemon cannot keep meanwhile, it counts.
        if sender.send(heard).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Why what is declared does not run, if it does not.
fn problem(status: &Value) -> Option<String> {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let bad = conditions
        .filter(|condition| condition["status"] == "False" && condition["reason"] != "Suspended");
    let mut messages = bad.filter_map(|condition| condition["message"].as_str());
    let of_plugin = messages.next().map(str::to_owned);
    let changes = status["enforcement"]["outstanding"].as_array();
    let mut changes = changes.into_iter().flatten();
    of_plugin.or_else(|| {
        let refused = changes.find(|change| change["state"] == "refused")?;
        let text = |name: &str| refused[name].as_str().unwrap_or_default();
        let (kind, subject, why) = (text("kind"), text("subject"), text("message"));
        Some(format!("{kind} {subject} would not be made: {why}"))
    })
}

/// Whether what is declared is what is at work.
fn is_up_to_date(status: &Value) -> bool {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.any(|it| it["type"] == "UpToDate" && it["status"] == "True")
}

/// Whether a plugin failed, or answered with an error.
fn is_bad(told: &Told) -> bool {
    told.failure.is_some() || told.result.get("Err").is_some()
}

/// What ends it: Ctrl-C, or whoever closes the terminal or asks it to end.
struct Ends([Signal; 3]);

impl Ends {
    fn listen() -> Result<Self, Failed> {
        let kinds = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ];
        let [one, two, three] = kinds.map(signal);
        let failed =
            |error: std::io::Error| Failed::new(format!("cannot wait for signals: {error}"));
        Ok(Self([
            one.map_err(failed)?,
            two.map_err(failed)?,
            three.map_err(failed)?,
        ]))
    }

    async fn heard(&mut self) {
        let [one, two, three] = &mut self.0;
        tokio::select! {
            _ = one.recv() => {}
            _ = two.recv() => {}
            _ = three.recv() => {}
        }
    }
}

/// Whether a call ends what `--once` waits for: with the role `logs`, all lines are waited for, unless it fails.
fn is_answer(told: &Told, roles: &[Role]) -> bool {
    let answers = matches!(
        told.call.as_str(),
        "metrics.collect" | "enforcement.plan" | "scanning.end" | "scanning.assess"
    );
    told.failure.is_some() || (answers && !roles.contains(&Role::Logs))
}

/// The roles for which something has to be asked.
fn is_asked(role: Role) -> bool {
    matches!(role, Role::Metrics | Role::Enforcement)
}
