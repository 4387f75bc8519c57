//! `bulkhead plugin record`: what a live plugin is called with, into a file.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::cli::{Failed, UNREACHABLE, bytes, print};
use crate::control::{self, ClientError, End, RecordOrder, Recorded};
use crate::manifest::ByteSize;

/// Record what a live plugin is called with and answers, to be run again elsewhere with `replay`.
///
/// The plugin goes on with a fresh instance, which takes over from the one before as at an update, so that the
/// recording has all that its answers come from. The file holds what the plugin is shown, unredacted: log lines,
/// files and settings of the node, with whatever secrets are in them. So it is permitted by the daemon's
/// administrator (`bulkhead run --allow-recording`) to root on the node, and the file is for its owner alone.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bulkhead plugin record app-logs --for 30s -o app-logs.jsonl\n  bulkhead plugin record shop/app-logs --for 5m --max-size 16Mi -o shop.jsonl"
)]
pub(in crate::cli) struct Record {
    /// The plugin, NAME or NAMESPACE/NAME.
    plugin: String,
    /// For how long.
    #[arg(long = "for", value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// The file to write; it must not be there yet.
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// The recording ends when it is so long.
    #[arg(long, value_name = "SIZE", default_value = "64Mi")]
    max_size: ByteSize,
    /// The daemon's state folder.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/bulkhead")]
    state: PathBuf,
}

impl Record {
    pub(in crate::cli) fn execute(self) -> Result<ExitCode, Failed> {
        let failed = |error: std::io::Error| {
            let remedy = match error.kind() {
                std::io::ErrorKind::AlreadyExists => ": name another file with -o",
                _ => "",
            };
            Failed::new(format!("{}: {error}{remedy}", self.out.display()))
        };
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.out)
            .map_err(failed)?;
        let order = RecordOrder {
            plugin: self.plugin.clone(),
            seconds: self.duration.as_secs().max(1),
            bytes: self.max_size.0,
        };
        let (mut calls, mut size, mut end) = (0, 0, None);
        let mut broken = None;
        let mut take = |recorded: Recorded| {
            match &recorded {
                Recorded::Call(_) => calls += 1,
                Recorded::End(it) => end = Some(it.clone()),
                Recorded::Recording(_) => {}
            }
            let line = serde_json::to_string(&recorded).unwrap_or_default() + "\n";
            size += line.len() as u64;
            broken = file.write_all(line.as_bytes()).err();
            broken.is_none()
        };
        let runtime = super::runtime()?;
        let recorded = async {
            let mut records = control::record(&self.state, &order).await?;
            while let Some(recorded) = records.next().await? {
                if !take(recorded) {
                    break;
                }
            }
            Ok(true)
        };
        let recorded = runtime.block_on(async {
            tokio::select! {
                recorded = recorded => recorded,
                _ = tokio::signal::ctrl_c() => Ok(false),
            }
        });
        let to_end = match recorded {
            Ok(to_end) => to_end,
            Err(error) => {
                // Nothing was recorded: the name is free again.
                if size == 0 {
                    let _ = std::fs::remove_file(&self.out);
                }
                return Err(Failed {
                    code: match error {
                        ClientError::Unreachable { .. } => UNREACHABLE,
                        ClientError::Broken(_) | ClientError::Refused(_) => 1,
                    },
                    message: error.to_string(),
                });
            }
        };
        if let Some(error) = broken {
            return Err(failed(error));
        }
        let End { reason, lost, .. } = match (end, to_end) {
            (Some(end), _) => end,
            (None, false) => {
                let end = End {
                    reason: "it was interrupted".to_owned(),
                    calls,
                    lost: None,
                };
                let line = serde_json::to_string(&Recorded::End(end.clone())).unwrap_or_default();
                writeln!(file, "{line}").map_err(failed)?;
                end
            }
            (None, true) => {
                return Err(Failed::new(
                    "the daemon went away: the recording is cut off",
                ));
            }
        };
        print(&format!(
            "{}: {calls} calls, {}; {reason}\nIt holds what the plugin was shown, unredacted.\n",
            self.out.display(),
            bytes(size)
        ));
        match lost {
            Some(0) => Ok(ExitCode::SUCCESS),
            None => {
                print("Whether calls are missing is not known, since it was interrupted.\n");
                Ok(ExitCode::SUCCESS)
            }
            Some(lost) => Err(Failed::new(format!(
                "{lost} calls came faster than they were written and are missing: what depends on them will differ"
            ))),
        }
    }
}
