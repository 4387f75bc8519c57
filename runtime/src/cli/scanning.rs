//! `bulkhead scanning`: how scanning goes, a pass now, and what was found.

mod findings;
mod page;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::screen::Screen;
use super::table::tame;
use super::{Failed, OutputFormat, UNREACHABLE, print};
use crate::control::{self, ClientError, ScanAnswer, ScanOrder, Scanned};

/// See what is scanned on this node and what was found.
#[derive(Subcommand)]
pub(super) enum Scanning {
    Status(Status),
    Scan(Scan),
    Findings(findings::Findings),
}

/// How a running daemon is reached: by root, on the node or in its pod.
#[derive(Args)]
struct Daemon {
    /// The daemon's state folder.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/bulkhead")]
    state: PathBuf,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Show the pass under way, the last one, and how changes of files are seen.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bulkhead scanning status\n  bulkhead scanning status security --watch\n  bulkhead scanning status local/security --output json"
)]
pub(super) struct Status {
    /// The plugin, NAME or NAMESPACE/NAME; all that scan unless given.
    plugin: Option<String>,
    /// Show again every second while a pass is under way.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// Have the daemon pass files to a plugin now, or as soon as no other pass is under way.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bulkhead scanning scan security\n  bulkhead scanning scan security --full --wait\n\nWith --wait, ends with 0 if the plugin has no open findings, with 2 if it has some, and with 1 if it has none but the pass was not complete. Without, ends with 0 once the pass is asked for."
)]
pub(super) struct Scan {
    /// The plugin, NAME or NAMESPACE/NAME.
    plugin: String,
    /// All files, not only those that are new or have changed since they were judged.
    #[arg(long)]
    full: bool,
    /// Show how it goes until it is over.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// How often it is asked how a pass goes.
const EVERY: Duration = Duration::from_secs(1);
/// The exit code when there are findings.
const FINDINGS: u8 = 2;

impl Scanning {
    pub(super) fn execute(self) -> Result<ExitCode, Failed> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failed::new(error.to_string()))?;
        runtime.block_on(async {
            match self {
                Self::Status(command) => command.run().await,
                Self::Scan(command) => command.run().await,
                Self::Findings(command) => command.run().await,
            }
        })
    }
}

impl Status {
    async fn run(self) -> Result<ExitCode, Failed> {
        if !self.watch {
            let plugins = self.daemon.status(self.plugin.as_deref()).await?;
            self.daemon.print(&plugins);
            return Ok(ExitCode::SUCCESS);
        }
        let none_under_way =
            |plugins: &[Scanned]| plugins.iter().all(|it| it.scanning["pass"].is_null());
        self.daemon
            .follow(self.plugin.as_deref(), none_under_way)
            .await?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Scan {
    async fn run(self) -> Result<ExitCode, Failed> {
        let Self {
            plugin,
            full,
            wait,
            daemon,
        } = self;
        let order = ScanOrder::Scan {
            plugin: plugin.clone(),
            full,
        };
        let answer = daemon.send(&order).await?;
        let Some(number) = answer.pass else {
            return Err(Failed::new("the daemon's answer has no number of a pass"));
        };
        if !wait {
            print(&match daemon.output {
                OutputFormat::Json => json!({ "pass": number }).to_string() + "\n",
                OutputFormat::Text => format!(
                    "pass {number} begins as soon as no other is under way; `bulkhead scanning status {plugin} --watch` shows it\n"
                ),
            });
            return Ok(ExitCode::SUCCESS);
        }
        let is_over = |plugins: &[Scanned]| {
            let ended = plugins.iter().filter_map(page::last_pass);
            ended.max().is_some_and(|ended| ended >= number)
        };
        let Some(plugins) = daemon.follow(Some(&plugin), is_over).await? else {
            return Err(Failed::new("not waited for: the pass goes on without"));
        };
        let open: u64 = plugins.iter().map(page::open_findings).sum();
        let complete = plugins
            .iter()
            .all(|it| it.scanning["lastPass"]["complete"] == true);
        if open > 0 {
            return Ok(ExitCode::from(FINDINGS));
        }
        match complete {
            true => Ok(ExitCode::SUCCESS),
            false => Err(Failed::new(
                "the pass was not complete: what was not judged is passed again in the next one",
            )),
        }
    }
}

impl Daemon {
    async fn send(&self, order: &ScanOrder) -> Result<ScanAnswer, Failed> {
        let answer = control::send(&self.state, order).await;
        answer.map_err(|error| Failed {
            code: match error {
                ClientError::Unreachable { .. } => UNREACHABLE,
                ClientError::Broken(_) | ClientError::Refused(_) => 1,
            },
            message: error.to_string(),
        })
    }

    async fn status(&self, plugin: Option<&str>) -> Result<Vec<Scanned>, Failed> {
        let plugin = plugin.map(str::to_owned);
        let answer = self.send(&ScanOrder::Status { plugin }).await?;
        Ok(answer.plugins)
    }

    fn print(&self, plugins: &[Scanned]) -> bool {
        print(&match self.output {
            OutputFormat::Json => serde_json::to_string_pretty(plugins).unwrap_or_default() + "\n",
            OutputFormat::Text => tame(&page::page(plugins)),
        })
    }

    /// Shows how it goes until it is over: in one place on a terminal, line by line elsewhere. The end is
    /// shown as a whole and returned, unless somebody interrupts it or nobody reads it any more.
    async fn follow(
        &self,
        plugin: Option<&str>,
        is_over: impl Fn(&[Scanned]) -> bool,
    ) -> Result<Option<Vec<Scanned>>, Failed> {
        let mut plugins = self.status(plugin).await?;
        {
            let screen = Screen::open(self.output);
            let mut said = String::new();
            while !is_over(&plugins) {
                let (text, again) = match self.output {
                    OutputFormat::Json => (page::json_line(&plugins), true),
                    OutputFormat::Text if screen.terminal => {
                        (screen.fit(&tame(&page::page(&plugins))), true)
                    }
                    OutputFormat::Text => (tame(&page::lines(&plugins)), false),
                };
                if (again || text != said) && !screen.show(&text) {
                    return Ok(None);
                }
                said = text;
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => return Ok(None),
                    () = tokio::time::sleep(EVERY) => {}
                }
                plugins = self.status(plugin).await?;
            }
        }
        match self.output {
            OutputFormat::Json => print(&page::json_line(&plugins)),
            OutputFormat::Text => self.print(&plugins),
        };
        Ok(Some(plugins))
    }
}
