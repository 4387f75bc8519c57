//! `bulkhead run`: the daemon.

mod starter;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use rustix::process::Signal;
use tokio::runtime::Builder;
use tracing_subscriber::EnvFilter;

use super::Failed;
use super::endpoint::Endpoint;
use crate::daemon::{self, Manifests};
use crate::kubernetes::WantedEvents;

use starter::Starter;

/// Run the node daemon; without --manifests and --kubernetes, the bundled plugins on this machine, read-only.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bulkhead run\n  bulkhead run --manifests /etc/bulkhead --state /var/lib/bulkhead\n  bulkhead run --kubernetes --state /var/lib/bulkhead\n\nSIGTERM and SIGINT drain, checkpoint and end; SIGHUP reads the manifests again."
)]
pub(super) struct Run {
    #[command(flatten)]
    source: SourceArgs,
    /// The daemon's own namespace in the cluster.
    #[arg(
        long,
        value_name = "NAME",
        env = "POD_NAMESPACE",
        default_value = "bulkhead-system"
    )]
    namespace: String,
    /// The ConfigMap in that namespace with the node's policy, under the key `policy.yaml`.
    #[arg(long, value_name = "NAME", default_value = "bulkhead-policy")]
    policy_config_map: String,
    /// Which Events are written at the manifests' ConfigMaps.
    #[arg(long, value_enum, value_name = "WHICH", default_value_t)]
    events: EventKinds,
    /// The file with the node's policy, for manifests from a folder.
    #[arg(long, value_name = "FILE", conflicts_with = "kubernetes")]
    policy: Option<PathBuf>,
    /// A label of the node, for manifests from a folder; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label, conflicts_with = "kubernetes")]
    node_label: Vec<(String, String)>,
    /// The folder of checkpoints, plugins' state and compiled code; made if it is missing. Must be given
    /// with --manifests and --kubernetes.
    #[arg(long, value_name = "DIR", required_if_eq("kubernetes", "true"))]
    state: Option<PathBuf>,
    /// Where the node's root folder is mounted, in a pod: granted folders, and the files and queues of
    /// destinations, are looked for in it.
    #[arg(long, value_name = "DIR", default_value = "/")]
    host_root: PathBuf,
    #[command(flatten)]
    endpoint: Endpoint,
    /// What the cluster calls this node; as the system calls itself unless given.
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    node_name: Option<String>,
    /// How the cluster is reached outside of a pod, where the ServiceAccount's token says it.
    #[arg(long, value_name = "FILE", env = "BULKHEAD_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Change nothing on this node, whatever manifests say: only report what plugins would change.
    #[arg(long)]
    audit_only: bool,
    /// Let root record what plugins are shown and answer (`bulkhead plugin record`): log lines, files and
    /// settings of the node, with whatever secrets are in them.
    #[arg(long)]
    allow_recording: bool,
    /// After this many deaths of the daemon within five minutes, plugins that were in a call are
    /// left out; 0 for never.
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    safe_mode_deaths: usize,
    /// End when the process that started it does.
    #[arg(long, hide = true)]
    with_parent: bool,
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

/// Where manifests come from: one of the two, or the bundled plugins' own.
#[derive(Args)]
#[group(multiple = false)]
struct SourceArgs {
    /// The folder of manifests (ConfigMap YAML).
    #[arg(long, value_name = "DIR", requires = "state")]
    manifests: Option<PathBuf>,
    /// Manifests are the ConfigMaps of the cluster with the label bulkhead.dev/plugin=true.
    #[arg(long)]
    kubernetes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum EventKinds {
    /// What happens and what goes wrong.
    #[default]
    All,
    /// What goes wrong.
    Warnings,
    /// Nothing.
    None,
}

pub(super) fn label(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
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
        if self.with_parent {
            let gone = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
            gone.map_err(|error| Failed::new(format!("--with-parent: {error}")))?;
        }
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
        let in_cluster = self.source.kubernetes;
        let starter = match (&self.source.manifests, in_cluster) {
            (None, false) => Some(Starter::make()?),
            _ => None,
        };
        let folder = self.source.manifests;
        let folder = folder.or_else(|| starter.as_ref().map(Starter::manifests));
        let state = self.state.or_else(|| starter.as_ref().map(Starter::state));
        let state = state.ok_or_else(|| Failed::new("--state is missing".to_owned()))?;
        let status = self.endpoint.options(in_cluster);
        if let Some(starter) = &starter {
            starter.introduce(status.address, &state);
        }
        let manifests = match folder {
            Some(path) => Manifests::Folder {
                path,
                policy: self
                    .policy
                    .or_else(|| starter.as_ref().map(Starter::policy)),
                labels: self.node_label.into_iter().collect(),
            },
            None => Manifests::Kubernetes {
                namespace: self.namespace,
                policy: self.policy_config_map,
                events: match self.events {
                    EventKinds::All => WantedEvents::All,
                    EventKinds::Warnings => WantedEvents::Warnings,
                    EventKinds::None => WantedEvents::Nothing,
                },
            },
        };
        let options = daemon::Options {
            manifests,
            state,
            host_root: self.host_root,
            status,
            node_name: self.node_name.filter(|name| !name.is_empty()),
            kubeconfig: self.kubeconfig,
            safe_mode_deaths: self.safe_mode_deaths,
            audit_only: self.audit_only || starter.is_some(),
            allow_recording: self.allow_recording,
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
