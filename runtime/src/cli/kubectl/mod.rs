//! `kubectl bulkhead`: the same binary under the name `kubectl-bulkhead`, which kubectl finds in the
//! `PATH`. It asks the daemons of a cluster, with the rights of the kubeconfig's user.

mod cluster;
mod daemon;
mod view;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use futures_util::StreamExt;

use super::{AUDIENCE, Failed, UNREACHABLE, print};
use cluster::Cluster;
use view::Row;

/// What kubectl looks for.
const NAME: &str = "kubectl-bulkhead";
/// Daemons that are asked at the same time; each is a connection through the API server.
const AT_ONCE: usize = 8;

#[derive(Parser)]
#[command(
    name = NAME,
    bin_name = "kubectl bulkhead",
    version,
    about = "Ask the bulkhead daemons of a cluster",
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a daemon or the API server does not answer."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Status(Status),
}

/// Show how the plugins are, on every node.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  kubectl bulkhead status\n  kubectl bulkhead status shop/app-logs\n  kubectl bulkhead status -o json | jq '.nodes[] | select(.error)'\n\nIt lists the daemons' pods, gets a token of ten minutes for the ServiceAccount bulkhead-viewer and asks each daemon by a port-forward to its pod; the Role bulkhead-status lets a user do so.\n\nExit codes: 0 every node answered, 1 failed or there is no such plugin, 2 wrong usage, 3 a daemon or the API server does not answer."
)]
struct Status {
    /// Only this plugin, NAME or NAMESPACE/NAME.
    name: Option<String>,
    #[command(flatten)]
    place: Place,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Where the daemons are.
#[derive(Args)]
struct Place {
    /// The daemons' namespace.
    #[arg(long, short, value_name = "NAME", default_value = "bulkhead-system")]
    namespace: String,
    /// The context of the kubeconfig; its current one if not given.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig; as kubectl finds it if not given.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The daemons' --status-audience.
    #[arg(long, value_name = "NAME", default_value = AUDIENCE)]
    audience: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Table,
    /// For scripts.
    Json,
}

/// Whether the binary was started by kubectl's name for it.
pub(super) fn is_meant(program: Option<&OsStr>) -> bool {
    let name = program.and_then(|program| Path::new(program).file_name());
    name.is_some_and(|name| name == NAME)
}

/// Reads the command line and does what it says.
pub(super) fn main() -> Result<ExitCode, Failed> {
    let Command::Status(status) = Arguments::parse().command;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed::new(error.to_string()))?;
    runtime.block_on(status.execute())
}

impl Status {
    async fn execute(self) -> Result<ExitCode, Failed> {
        let cluster = Cluster::new(&self.place).await?;
        let daemons = cluster.daemons().await?;
        let token = cluster.token().await?;
        let asked = daemons.into_iter().map(|daemon| {
            let (cluster, token) = (&cluster, &token);
            async move {
                let answer = daemon::ask(cluster.pods(), &daemon, token).await;
                Row::new(daemon, answer)
            }
        });
        let rows = futures_util::stream::iter(asked).buffered(AT_ONCE);
        let mut rows: Vec<Row> = rows.collect().await;
        let silent = rows.iter().filter(|row| row.answer.is_err()).count();
        if let Some(name) = &self.name {
            rows.iter_mut().for_each(|row| row.only(name));
            rows.retain(|row| !matches!(&row.answer, Ok(plugins) if plugins.is_empty()));
            if rows.is_empty() {
                return Err(Failed::new(format!(
                    "no node has a plugin {name:?}; `kubectl bulkhead status` lists them"
                )));
            }
        }
        print(&match self.output {
            Output::Table => view::table_of(&rows),
            Output::Json => view::json(&rows),
        });
        Ok(match silent {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::from(UNREACHABLE),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_by_its_name() {
        for program in [
            "kubectl-bulkhead",
            "/usr/bin/kubectl-bulkhead",
            "./kubectl-bulkhead",
        ] {
            assert!(is_meant(Some(OsStr::new(program))), "{program}");
        }
        for program in [
            "bulkhead",
            "/kubectl-bulkhead/bulkhead",
            "kubectl-bulkhead2",
            "",
        ] {
            assert!(!is_meant(Some(OsStr::new(program))), "{program}");
        }
        assert!(!is_meant(None));
    }
}
