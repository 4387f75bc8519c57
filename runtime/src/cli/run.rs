//! `bulkhead run`: the daemon.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use tokio::runtime::Builder;
use tracing_subscriber::EnvFilter;

use super::Failed;
use super::endpoint::Endpoint;
use crate::daemon;

/// Run the node daemon.
#[derive(Args)]
#[command(
    after_help = "Example:\n  bulkhead run --manifests /etc/bulkhead --state /var/lib/bulkhead\n\nSIGTERM and SIGINT drain, checkpoint and end; SIGHUP reads the manifests again."
)]
pub(super) struct Run {
    /// The folder of manifests (ConfigMap YAML).
    #[arg(long, value_name = "DIR")]
    manifests: PathBuf,
    /// The folder of checkpoints, plugins' state and compiled code; made if it is missing.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    #[command(flatten)]
    endpoint: Endpoint,
    /// What the cluster calls this node; as the system calls itself unless given.
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    node_name: Option<String>,
    /// How the cluster is reached outside of a pod, where the ServiceAccount's token says it.
    #[arg(long, value_name = "FILE", env = "BULKHEAD_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// After this many deaths of the daemon within five minutes, plugins that were in a call are
    /// left out; 0 for never.
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    safe_mode_deaths: usize,
    /// How the log is written to stderr; pretty on a terminal and JSON elsewhere unless given.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, trace, or directives such as `info,bulkhead=debug`.
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "BULKHEAD_LOG"
    )]
    log_level: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Json,
    Pretty,
}

/// Tasks that call no guest.
const CONTROL_THREADS: usize = 2;

impl Run {
    pub(super) fn execute(self) -> Result<ExitCode, Failed> {
        self.start_log()?;
        // Every rustls user of this process takes this provider. An error says that one is set.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let failed = |error: std::io::Error| Failed::new(format!("cannot start threads: {error}"));
        let guests = Builder::new_multi_thread()
            .thread_name("guest")
            .enable_all()
            .build()
            .map_err(failed)?;
        let control = Builder::new_multi_thread()
            .thread_name("control")
            .worker_threads(CONTROL_THREADS)
            .enable_all()
            .build()
            .map_err(failed)?;
        let options = daemon::Options {
            manifests: self.manifests,
            state: self.state,
            status: self.endpoint.options(false),
            node_name: self.node_name.filter(|name| !name.is_empty()),
            kubeconfig: self.kubeconfig,
            safe_mode_deaths: self.safe_mode_deaths,
        };
        let handle = guests.handle().clone();
        let result = control.block_on(daemon::run(options, handle));
        guests.shutdown_background();
        control.shutdown_background();
        result.map_err(|error| Failed::new(error.to_string()))?;
        Ok(ExitCode::SUCCESS)
    }

    fn start_log(&self) -> Result<(), Failed> {
        // What the API server's client says of itself, our messages say with the remedy.
        let directives = format!("kube_client=off,kube_runtime=off,{}", self.log_level);
        let filter = EnvFilter::try_new(directives)
            .map_err(|error| Failed::new(format!("--log-level: {error}")))?;
        let terminal = std::io::stderr().is_terminal();
        let pretty = match self.log_format {
            Some(format) => format == LogFormat::Pretty,
            None => terminal,
        };
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr);
        if pretty {
            log.with_ansi(terminal).init();
        } else {
            log.json().flatten_event(true).init();
        }
        Ok(())
    }
}
