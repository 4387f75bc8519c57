//! The daemon: puts the rooms together, starts them, and ends them in order.
//!
//! Two runtimes: guests run on one, everything else on the other, so that plugins that spin on
//! every core do not delay an answer of the status endpoint.

mod budget;
pub(crate) mod checking;
mod facts;
mod manager;
mod observer;
mod own_log;
mod reporter;
mod rest;
mod safe_mode;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::control;
use crate::kubernetes::{self, Access, ClusterSecrets, ConfigMapParts, Events, Pods, WantedEvents};
use crate::manifest::Policy;
use crate::module::{Cache, CacheError, Compiler, Parts};
use crate::plugin::Marks;
use crate::role::enforcement::Audit;
use crate::role::scanning::Rooms;
use crate::sandbox::{NodeFolders, Sandbox};
use crate::source::{self, Directory, Kubernetes, KubernetesSettings, Rules, Source};
use crate::state::{self, Store};
use crate::status::{self, Server};

use manager::Manager;
use reporter::NodeReporter;
use safe_mode::SafeMode;

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where manifests come from.
    pub manifests: Manifests,
    /// The folder of state.
    pub state: PathBuf,
    /// Where the node's root folder is.
    pub host_root: PathBuf,
    /// Where the status endpoint listens, and who may read.
    pub status: status::Options,
    /// What the node is called; as the system calls it if not given.
    pub node_name: Option<String>,
    /// How the cluster is reached, if not as the pod's ServiceAccount.
    pub kubeconfig: Option<PathBuf>,
    /// From this many deaths within five minutes on, plugins that were in a call are left out; 0
    /// for never.
    pub safe_mode_deaths: usize,
    /// Whether nothing on the node is changed, whatever manifests say.
    pub audit_only: bool,
    /// Whether root may record what plugins are shown.
    pub allow_recording: bool,
}

/// Where manifests come from.
#[derive(Debug, Clone)]
pub enum Manifests {
    /// A folder.
    Folder {
        /// The folder.
        path: PathBuf,
        /// The file of the node's policy.
        policy: Option<PathBuf>,
        /// The node's labels, beside those that every node has.
        labels: BTreeMap<String, String>,
    },
    /// The ConfigMaps of the cluster.
    Kubernetes {
        /// The daemon's own namespace.
        namespace: String,
        /// The policy's ConfigMap in it.
        policy: String,
        /// Which Events are written.
        events: WantedEvents,
    },
}

impl fmt::Display for Manifests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder { path, .. } => path.display().fmt(f),
            Self::Kubernetes { namespace, .. } => write!(f, "ConfigMaps of {namespace}"),
        }
    }
}

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The status endpoint cannot listen.
    #[error(transparent)]
    Status(#[from] status::Error),
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] state::Error),
    /// Orders cannot be taken.
    #[error(transparent)]
    Control(#[from] control::Error),
    /// The manifests' folder cannot be used.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// The code cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The WebAssembly engine does not start.
    #[error("the WebAssembly engine does not start on this machine: {0:#}")]
    Engine(wasmtime::Error),
    /// Manifests shall come from a cluster, and there is none.
    #[error(
        "--kubernetes: there is no cluster here: run in a pod with a ServiceAccount, or name a --kubeconfig"
    )]
    NoCluster,
    /// Something of the operating system failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Runs until SIGTERM or SIGINT; then drains, checkpoints and returns.
///
/// # Errors
/// If the daemon cannot start. Once it has started it does not fail.
pub async fn run(mut options: Options, guests: Handle) -> Result<(), Error> {
    let system = |what: &str| {
        let what = what.to_owned();
        move |source| Error::System { what, source }
    };
    let state = format!("finding {}", options.state.display());
    options.state = std::path::absolute(&options.state).map_err(system(&state))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(system("listening to SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("listening to SIGINT"))?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(system("listening to SIGHUP"))?;
    let access = Access::find(options.kubeconfig.as_deref());
    let server = Server::bind(&options.status, access.as_ref()).await?;
    let url = server.url();

    let node_name: Arc<str> = match options.node_name.take() {
        Some(name) => name.into(),
        None => facts::host_name().into(),
    };
    let parts = access.clone().map(|access| {
        let parts: Arc<dyn Parts> = Arc::new(ConfigMapParts(access));
        parts
    });
    let secrets = access.clone();
    let secrets = secrets.map(|access| ClusterSecrets::new(access, Handle::current()));
    let events = match (&access, &options.manifests) {
        (Some(access), Manifests::Kubernetes { events, .. }) => {
            let (events, writing) = Events::new(access.clone(), &node_name, *events);
            Some((events, AbortOnDropHandle::new(tokio::spawn(writing))))
        }
        _ => None,
    };
    let (events, _writing) = events.unzip();
    // Nothing waits for the cluster.
    let pods = access.clone().map(|access| {
        let pods = Pods::new(&node_name);
        let watch = kubernetes::follow(pods.clone(), access);
        (pods, AbortOnDropHandle::new(tokio::spawn(watch)))
    });
    let (pods, _watch) = pods.unzip();
    let started = {
        let options = options.clone();
        let node_name = node_name.clone();
        // Opens files, maps code, looks at every manifest: nothing for an async thread.
        tokio::task::spawn_blocking(move || start(&options, &node_name, access))
            .await
            .map_err(|error| Error::System {
                what: "starting".into(),
                source: std::io::Error::other(error),
            })??
    };
    let Started {
        audit,
        store,
        marks,
        sandbox,
        cache,
        safe_mode,
        from,
    } = started;
    let scanning = Arc::new(Rooms::new(sandbox.folders().clone(), options.state.clone()));
    let reporter = NodeReporter::new(
        safe_mode.left_out(),
        pods.clone(),
        scanning.clone(),
        options.allow_recording,
    );
    let reporter = Arc::new(reporter);
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(server.serve(reporter.clone(), shutdown.clone()));
    let controlling = control::listen(&options.state, reporter.clone(), shutdown.clone())?;
    let controlling = tokio::spawn(controlling);
    let loads = rest::Loads::default();
    let _resting = AbortOnDropHandle::new(tokio::spawn(rest::keep(loads.clone())));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        manifests = %options.manifests,
        state = %options.state.display(),
        status = %url,
        "bulkhead runs"
    );

    let source = match from {
        From::Folder(directory) => Source::Directory(directory),
        From::Cluster(settings) => {
            let folder = options.state.join("kubernetes");
            Source::Kubernetes(Kubernetes::start(*settings, &folder).await)
        }
    };
    let mut manager = Manager::new(manager::Context {
        store,
        marks,
        sandbox,
        cache,
        state: options.state.as_path().into(),
        root: options.host_root.as_path().into(),
        control: Handle::current(),
        guests,
        reporter: reporter.clone(),
        safe_mode,
        node_name,
        pods,
        parts,
        secrets,
        events,
        loads,
        memory: budget::memory(),
        audit,
        audit_only: options.audit_only,
        scanning,
    });
    let mut desired = source.desired();
    let mut hourly = tokio::time::interval(Duration::from_secs(3600));
    let mut stale = true;
    loop {
        if std::mem::take(&mut stale) {
            let target = desired.borrow_and_update().clone();
            manager.apply(&target).await;
        }
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                tracing::info!("SIGHUP: reading the manifests again");
                source.rescan();
            }
            changed = desired.changed() => {
                stale = true;
                if changed.is_err() {
                    tracing::error!("the watch of the manifests ended; please report this as a bug");
                    terminate.recv().await;
                    break;
                }
            }
            () = manager.ended() => stale = true,
            _ = hourly.tick() => manager.purge().await,
        }
    }
    tracing::info!("ending: draining what is under way");
    reporter.ending();
    manager.end().await;
    shutdown.cancel();
    let _ = serving.await;
    let _ = controlling.await;
    tracing::info!("ended");
    Ok(())
}

/// What the blocking part of the start makes.
struct Started {
    audit: Arc<Audit>,
    store: Store,
    marks: Marks,
    sandbox: Sandbox,
    cache: Cache,
    safe_mode: SafeMode,
    from: From,
}

/// A source that has begun, or can.
enum From {
    Folder(Directory),
    Cluster(Box<KubernetesSettings>),
}

fn start(options: &Options, node_name: &str, access: Option<Access>) -> Result<Started, Error> {
    let state = &options.state;
    let opened = Store::open(state)?;
    if let Some(aside) = &opened.set_aside {
        tracing::error!(
            "the state was damaged and a new one begun; lines may be shipped again: {aside:?}"
        );
    }
    let store = opened.store;
    let marks = state.join("in-call");
    let (marks, in_call) = Marks::open(&marks).map_err(|source| Error::System {
        what: format!("opening {}", marks.display()),
        source,
    })?;
    let safe_mode = SafeMode::begin(store.clone(), in_call, options.safe_mode_deaths)?;
    let host = options.host_root.as_path();
    let folders = NodeFolders {
        root: host.into(),
        // In a pod it is there twice.
        private: [
            state.clone(),
            host.join(state.strip_prefix("/").unwrap_or(state)),
        ]
        .into(),
    };
    let sandbox = Sandbox::new(facts::read(host, node_name), folders).map_err(Error::Engine)?;
    let cache = Cache::open(state.join("cache"), sandbox.engine(), Compiler::Child)?;
    let from = match options.manifests.clone() {
        Manifests::Folder {
            path,
            policy: policy_file,
            labels,
        } => {
            let rules = Rules {
                policy: policy(state),
                policy_file,
                labels: facts::labels(node_name, labels),
            };
            From::Folder(Directory::start(&path, rules)?)
        }
        Manifests::Kubernetes {
            namespace,
            policy: policy_name,
            ..
        } => From::Cluster(Box::new(KubernetesSettings {
            access: access.ok_or(Error::NoCluster)?,
            namespace,
            node_name: node_name.to_owned(),
            policy_name,
            policy: policy(state),
        })),
    };
    let audit = Audit::open(state).map_err(|source| Error::System {
        what: format!("opening {}", state.join("audit").display()),
        source,
    })?;
    Ok(Started {
        audit: Arc::new(audit),
        store,
        marks,
        sandbox,
        cache,
        safe_mode,
        from,
    })
}

/// The policy of a node without a policy, with the daemon's own folders out of bounds.
pub(crate) fn policy(state: &Path) -> Policy {
    Policy {
        private_folders: vec![state.to_owned()],
        ..Policy::default()
    }
}
