//! `bulkhead enforcement`: what a plugin would change, and orders to a running daemon.

mod plan;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::table::{table, tame};
use super::{Failed, OutputFormat, UNREACHABLE, print};
use crate::control::{self, Answer, ClientError, Order, Request};
use crate::role::enforcement::effects::verify;

/// See what plugins change on this node, and put it back.
#[derive(Subcommand)]
pub(super) enum Enforcement {
    Plan(plan::Plan),
    Check(Check),
    History(History),
    Revert(Revert),
    Resume(Resume),
    Audit(Audit),
}

/// How a running daemon is reached: by root, on the node or in its pod.
#[derive(Args)]
struct Daemon {
    /// The plugin, NAME or NAMESPACE/NAME.
    plugin: String,
    /// The daemon's state folder.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/bulkhead")]
    state: PathBuf,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Have the daemon look at everything now, and make or report what should be changed.
#[derive(Args)]
#[command(
    after_help = "Example:\n  bulkhead enforcement check hardening\n\nEnds with 0 if the node is as it should be, and with 2 if not, or not all could be changed."
)]
pub(super) struct Check {
    #[command(flatten)]
    daemon: Daemon,
}

/// Show what was changed, latest first.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bulkhead enforcement history hardening\n  bulkhead enforcement history hardening --limit 5 --output json"
)]
pub(super) struct History {
    #[command(flatten)]
    daemon: Daemon,
    /// How many changes.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Only changes before the one with this number.
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
}

/// Put back what was there before, and leave it alone until the manifest changes or `resume`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bulkhead enforcement revert hardening\n  bulkhead enforcement revert hardening --change 42\n  bulkhead enforcement revert local/hardening --change files/etc/motd --force\n\nEnds with 1 if something could not be put back."
)]
pub(super) struct Revert {
    #[command(flatten)]
    daemon: Daemon,
    /// One change: its number in the history, or its id. All that are kept unless given.
    #[arg(long, value_name = "ID")]
    change: Option<String>,
    /// Also what somebody else has changed since.
    #[arg(long)]
    force: bool,
}

/// Take up again what was put back by hand.
#[derive(Args)]
#[command(after_help = "Example:\n  bulkhead enforcement resume hardening")]
pub(super) struct Resume {
    #[command(flatten)]
    daemon: Daemon,
}

/// Follow the chain of the node's audit log: whether lines are missing or were changed.
#[derive(Args)]
#[command(
    after_help = "Example:\n  bulkhead enforcement audit\n\nEnds with 1 if the chain is broken. A log that was cut off at its end, or written anew as a whole, does not show: compare the last hash with one from before."
)]
pub(super) struct Audit {
    /// The daemon's state folder.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/bulkhead")]
    state: PathBuf,
}

impl Enforcement {
    pub(super) fn execute(self) -> Result<ExitCode, Failed> {
        match self {
            Self::Plan(command) => command.execute(),
            Self::Check(Check { daemon }) => daemon.check(Order::Check {}),
            Self::Resume(Resume { daemon }) => daemon.check(Order::Resume {}),
            Self::Audit(Audit { state }) => {
                let verified = verify(&state).map_err(|error| Failed::new(error.to_string()))?;
                print(&match verified.lines {
                    None => "the audit log is empty\n".to_owned(),
                    Some((first, last)) => format!(
                        "lines {first} to {last} follow each other; the last has the hash {}\n",
                        verified.hash
                    ),
                });
                Ok(ExitCode::SUCCESS)
            }
            Self::History(History {
                daemon,
                limit,
                before,
            }) => {
                let answer = daemon.send(Order::History { limit, before })?;
                daemon.print(&answer.history, || rows(&answer.history));
                Ok(ExitCode::SUCCESS)
            }
            Self::Revert(Revert {
                daemon,
                change,
                force,
            }) => {
                let answer = daemon.send(Order::Revert { change, force })?;
                let lines = Value::from(answer.lines.clone());
                daemon.print(&lines, || tame(&(answer.lines.join("\n") + "\n")));
                Ok(ExitCode::from(u8::from(answer.failed > 0)))
            }
        }
    }
}

impl Daemon {
    fn send(&self, order: Order) -> Result<Answer, Failed> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failed::new(error.to_string()))?;
        let request = Request {
            plugin: self.plugin.clone(),
            order,
        };
        let answer = runtime.block_on(control::send(&self.state, &request));
        answer.map_err(|error| Failed {
            code: match error {
                ClientError::Unreachable { .. } => UNREACHABLE,
                ClientError::Broken(_) | ClientError::Refused(_) => 1,
            },
            message: error.to_string(),
        })
    }

    fn print(&self, value: &Value, page: impl FnOnce() -> String) {
        print(&match self.output {
            OutputFormat::Json => serde_json::to_string_pretty(value).unwrap_or_default() + "\n",
            OutputFormat::Text => page(),
        });
    }

    fn check(&self, order: Order) -> Result<ExitCode, Failed> {
        let answer = self.send(order)?;
        self.print(&answer.report, || summary(&answer.report));
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let report = &answer.report;
        let rules = &report["rules"];
        let off =
            number(&report["outstandingCount"]) + number(&rules["fail"]) + number(&rules["error"]);
        Ok(ExitCode::from(if off == 0 { 0 } else { CHANGES }))
    }
}

/// The exit code when there is something to change, as diff(1) users and those of Terraform expect.
const CHANGES: u8 = 2;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// How the node is, in a few lines.
fn summary(report: &Value) -> String {
    let mut page = String::new();
    let rules = &report["rules"];
    // Writing to a string does not fail.
    let _ = writeln!(
        page,
        "rules: {} pass, {} fail, {} not applicable, {} error",
        rules["pass"], rules["fail"], rules["notApplicable"], rules["error"]
    );
    let _ = writeln!(
        page,
        "changes: {} made since the daemon started, {} outstanding",
        report["made"], report["outstandingCount"]
    );
    if let Some(why) = report["onlyReporting"].as_str() {
        let _ = writeln!(page, "changes are only reported: {why}");
    }
    if let Some(problem) = report["problem"].as_str() {
        let _ = writeln!(page, "problem: {problem}");
    }
    for change in report["outstanding"].as_array().into_iter().flatten() {
        let _ = writeln!(
            page,
            "{}  {} {} ({}): {}",
            text(&change["state"]),
            text(&change["kind"]),
            text(&change["subject"]),
            text(&change["id"]),
            match text(&change["message"]) {
                "" => text(&change["reason"]),
                message => message,
            }
        );
    }
    for rule in report["broken"].as_array().into_iter().flatten() {
        let _ = writeln!(
            page,
            "{}  {} [{}] {}: {}",
            text(&rule["verdict"]),
            text(&rule["id"]),
            text(&rule["severity"]),
            text(&rule["title"]),
            text(&rule["message"])
        );
    }
    tame(&page)
}

fn rows(history: &Value) -> String {
    let heading = ["NUMBER", "TIME", "RESULT", "ACTION", "SUBJECT", "CHANGE"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for entry in history["items"].as_array().into_iter().flatten() {
        rows.push(vec![
            entry["sequence"].to_string(),
            text(&entry["time"]).to_owned(),
            text(&entry["result"]).to_owned(),
            text(&entry["action"]).to_owned(),
            text(&entry["subject"]).to_owned(),
            text(&entry["change"]).to_owned(),
        ]);
    }
    tame(&table(&rows))
}
