//! Keeps one actor for each declared plugin, and its state for a while after it is gone.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::observer::{PluginEvents, PluginObserver, Uids};
use super::own_log;
use super::reporter::{NodeReporter, View};
use super::rest::Loads;
use super::safe_mode::SafeMode;
use crate::kubernetes::{ClusterSecrets, Events, Pods};
use crate::manifest::{Identity, Manifest, Policy};
use crate::module::{Cache, Parts};
use crate::node_files::Reader;
use crate::plugin::{self, Declaration, Goal, Marks, Transition};
use crate::role::enforcement::{self, Audit, EnforcementDriver};
use crate::role::logs::dead_letter::DeadLetters;
use crate::role::logs::destination::Surroundings;
use crate::role::logs::destination::secrets::{DaemonSecrets, NodeNames};
use crate::role::logs::record_id::Machine;
use crate::role::logs::{self, LogsDriver, Queues};
use crate::role::metrics::{self, MetricsDriver};
use crate::role::scanning::{self, Rooms, ScanningDriver};
use crate::sandbox::{Driver, KeyValue, Role, Sandbox};
use crate::source::{Accepted, Declared, Desired};
use crate::state::{Store, Values};

/// All plugins together get this long to end.
const END: Duration = Duration::from_millis(4500);

/// What the manager works with.
pub(super) struct Context {
    pub(super) store: Store,
    pub(super) marks: Marks,
    pub(super) sandbox: Sandbox,
    pub(super) cache: Cache,
    pub(super) state: PathBuf,
    /// The node's root folder.
    pub(super) root: Arc<Path>,
    pub(super) control: Handle,
    pub(super) guests: Handle,
    pub(super) reporter: Arc<NodeReporter>,
    pub(super) safe_mode: SafeMode,
    pub(super) node_name: Arc<str>,
    pub(super) pods: Option<Pods>,
    pub(super) parts: Option<Arc<dyn Parts>>,
    pub(super) secrets: Option<ClusterSecrets>,
    pub(super) events: Option<Events>,
    pub(super) loads: Loads,
    /// Bytes that all guests together may be promised.
    pub(super) memory: u64,
    /// Where privileged effects are noted.
    pub(super) audit: Arc<Audit>,
    /// Whether nothing on the node is changed.
    pub(super) audit_only: bool,
    /// What plugins that scan share.
    pub(super) scanning: Arc<Rooms>,
}

/// See the module.
pub(super) struct Manager {
    context: Arc<Shared>,
    safe_mode: SafeMode,
    memory: u64,
    plugins: HashMap<Identity, Plugin>,
    /// Plugins that are ending; the same identity starts again only after.
    ending: JoinSet<Identity>,
    still_ending: HashMap<Identity, ()>,
    settled_absent: bool,
    /// Problems of the source that the log has.
    told: Vec<String>,
}

struct Shared {
    store: Store,
    marks: Marks,
    sandbox: Sandbox,
    cache: Cache,
    state: PathBuf,
    root: Arc<Path>,
    control: Handle,
    guests: Handle,
    reporter: Arc<NodeReporter>,
    machine: Machine,
    node_name: Arc<str>,
    pods: Option<Pods>,
    parts: Option<Arc<dyn Parts>>,
    secrets: Option<ClusterSecrets>,
    labels: watch::Sender<Arc<BTreeMap<String, String>>>,
    events: Option<Events>,
    loads: Loads,
    uids: watch::Sender<Uids>,
    audit: Arc<Audit>,
    audit_only: bool,
    scanning: Arc<Rooms>,
}

struct Plugin {
    handle: plugin::Handle,
    /// `limits.memory` of what was last accepted.
    memory: u64,
    /// What was accepted and may run, with its hash. The plugin holds what does: their configurations may be large.
    accepted: Vec<(String, Weak<Manifest>)>,
}

impl Plugin {
    fn new(handle: plugin::Handle) -> Self {
        Self {
            handle,
            memory: 0,
            accepted: Vec::new(),
        }
    }

    /// Takes note of what it is to be.
    fn note(&mut self, goal: &Goal, memory: Option<u64>) {
        self.memory = memory.unwrap_or(self.memory);
        let (Goal::Run(declared)
        | Goal::Refuse {
            last_good: Some(declared),
            ..
        }) = goal
        else {
            return;
        };
        let manifest = Arc::downgrade(&declared.manifest);
        self.accepted.retain(|(_, known)| known.strong_count() > 0);
        // Of two that say the same the plugin may hold either.
        if !self.accepted.iter().any(|(_, it)| it.ptr_eq(&manifest)) {
            self.accepted.push((declared.hash.clone(), manifest));
        }
    }

    /// Why the policy does not let go on what runs, if it does not.
    fn forbidden(&self, policy: &Policy) -> Option<String> {
        let active = self.handle.status.snapshot().active?;
        let mut accepted = self.accepted.iter();
        let running = accepted.find_map(|(hash, manifest)| {
            let manifest = manifest.upgrade()?;
            (*hash == active.manifest).then_some(manifest)
        })?;
        let errors: Vec<String> = policy
            .check(&running)
            .iter()
            .map(ToString::to_string)
            .collect();
        (!errors.is_empty()).then(|| errors.join("\n"))
    }
}

impl Manager {
    pub(super) fn new(context: Context) -> Self {
        Self {
            context: Arc::new(Shared {
                store: context.store,
                marks: context.marks,
                sandbox: context.sandbox,
                cache: context.cache,
                state: context.state,
                control: context.control,
                guests: context.guests,
                reporter: context.reporter,
                machine: Machine::of_node(&context.root),
                root: context.root,
                node_name: context.node_name,
                pods: context.pods,
                parts: context.parts,
                secrets: context.secrets,
                labels: watch::Sender::default(),
                events: context.events,
                loads: context.loads,
                uids: watch::Sender::default(),
                audit: context.audit,
                scanning: context.scanning,
                audit_only: context.audit_only,
            }),
            safe_mode: context.safe_mode,
            memory: context.memory,
            plugins: HashMap::new(),
            ending: JoinSet::new(),
            still_ending: HashMap::new(),
            settled_absent: false,
            told: Vec::new(),
        }
    }

    /// Makes what runs follow what is declared.
    pub(super) async fn apply(&mut self, desired: &Desired) {
        let problems: Vec<String> = desired.problems.iter().map(ToString::to_string).collect();
        for problem in problems.iter().filter(|it| !self.told.contains(it)) {
            tracing::warn!("{problem}");
        }
        self.told.clone_from(&problems);
        self.context.reporter.problems(problems);
        self.context.labels.send_replace(desired.labels.clone());
        let elsewhere = desired.elsewhere.iter().map(ToString::to_string);
        self.context.reporter.elsewhere(elsewhere.collect());
        let gone: Vec<Identity> = self
            .plugins
            .keys()
            .filter(|identity| !desired.plugins.contains_key(identity))
            .cloned()
            .collect();
        for identity in gone {
            self.unload(identity).await;
        }
        self.context.uids.send_replace(desired.uids.clone());
        for (identity, declared) in &desired.plugins {
            let (mut goal, memory) = self.goal(identity, declared);
            if let Some(plugin) = self.plugins.get_mut(identity) {
                plugin.note(&goal, memory);
                // A policy is for what runs as well as for what shall.
                if let Some(message) = plugin.forbidden(&desired.policy) {
                    goal = match goal {
                        Goal::Refuse { .. } => Goal::Halt {
                            reason: plugin::POLICY_REFUSED,
                            message,
                        },
                        Goal::Run(declaration) => Goal::Replace {
                            declaration,
                            message,
                        },
                        goal => goal,
                    };
                }
                plugin.handle.set(goal);
                continue;
            }
            if self.still_ending.contains_key(identity) {
                continue;
            }
            match self.load(identity.clone(), goal.clone()).await {
                Ok(handle) => {
                    let mut plugin = Plugin::new(handle);
                    plugin.note(&goal, memory);
                    self.plugins.insert(identity.clone(), plugin);
                }
                Err(error) => {
                    tracing::error!(plugin = %identity, "cannot load: {error}");
                    self.context
                        .reporter
                        .problems(vec![format!("{identity}: cannot load: {error}")]);
                }
            }
        }
        if !std::mem::replace(&mut self.settled_absent, true) {
            self.mark_absent(desired).await;
        }
        self.context.reporter.applied();
    }

    /// What a plugin is to be, and the memory that it is promised.
    fn goal(&mut self, identity: &Identity, declared: &Declared) -> (Goal, Option<u64>) {
        let accepted = match declared {
            Declared::Accepted(accepted) => accepted,
            Declared::Refused { errors, last_good } => {
                let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
                let message = messages.join("\n");
                let last_good = last_good.as_ref().map(|good| self.run(identity, good));
                return match last_good {
                    Some((Goal::Run(last_good), memory)) => {
                        let last_good = Some(last_good);
                        (Goal::Refuse { message, last_good }, memory)
                    }
                    _ => (Goal::refuse(message), None),
                };
            }
        };
        self.run(identity, accepted)
    }

    fn run(&mut self, identity: &Identity, accepted: &Accepted) -> (Goal, Option<u64>) {
        let hash = hash(accepted);
        if let Some(message) = self.safe_mode.reason(&identity.to_string(), &hash) {
            let reason = "SafeMode";
            return (Goal::Halt { reason, message }, Some(0));
        }
        if let Some(suspended) = &accepted.suspended {
            let (reason, message) = ("SuspendedOnNode", suspended.to_string());
            return (Goal::Halt { reason, message }, Some(0));
        }
        let spec = &accepted.manifest.spec;
        let wanted = if spec.suspend {
            0
        } else {
            spec.limits.memory.0
        };
        let others: u64 = self
            .plugins
            .iter()
            .filter(|(other, _)| *other != identity)
            .map(|(_, plugin)| plugin.memory)
            .sum();
        if others.saturating_add(wanted) > self.memory {
            return (
                Goal::refuse(format!(
                    "{}: limits.memory: {wanted} bytes are more than the {} that are left of the {} that this node can promise to plugins; lower limits.memory here or elsewhere, or raise the daemon's memory limit",
                    accepted.manifest.origin.name().display(),
                    self.memory.saturating_sub(others),
                    self.memory
                )),
                None,
            );
        }
        let declaration = Declaration {
            manifest: accepted.manifest.clone(),
            hash,
        };
        (Goal::Run(declaration), Some(wanted))
    }

    async fn load(&self, identity: Identity, goal: Goal) -> Result<plugin::Handle, String> {
        let shared = self.context.clone();
        let task = tokio::task::spawn_blocking(move || shared.load(&identity, goal));
        task.await.map_err(|error| error.to_string())?
    }

    async fn unload(&mut self, identity: Identity) {
        let Some(plugin) = self.plugins.remove(&identity) else {
            return;
        };
        tracing::info!(plugin = %identity, "unloading: its manifest is gone");
        self.still_ending.insert(identity.clone(), ());
        let shared = self.context.clone();
        let uid = shared.uids.borrow().get(&identity).cloned();
        self.ending.spawn(async move {
            plugin.handle.stop().await;
            shared.reporter.remove(&identity);
            shared.scanning.forget(vec![identity.clone()]).await;
            if let (Some(events), Some(uid)) = (&shared.events, uid) {
                let message = "its manifest is gone, or not for this node any more";
                events.tell(&identity, uid, Transition::Unloaded, message);
            }
            let store = shared.store.clone();
            let name = identity.to_string();
            let marked =
                tokio::task::spawn_blocking(move || store.mark_deleted(&name, SystemTime::now()))
                    .await;
            if let Ok(Err(error)) = marked {
                tracing::error!(plugin = %identity, "{error}");
            }
            identity
        });
    }

    /// Resolves when a plugin has ended that was unloaded; never if none is ending.
    pub(super) async fn ended(&mut self) {
        match self.ending.join_next().await {
            Some(Ok(identity)) => {
                self.still_ending.remove(&identity);
            }
            Some(Err(error)) => tracing::error!("unloading failed: {error}"),
            None => std::future::pending().await,
        }
    }

    /// State of plugins that were deleted while the daemon was down begins to age now, and what they found
    /// is forgotten.
    async fn mark_absent(&self, desired: &Desired) {
        let store = self.context.store.clone();
        let present: Vec<String> = desired.plugins.keys().map(ToString::to_string).collect();
        let marked = tokio::task::spawn_blocking(move || {
            let now = SystemTime::now();
            let mut absent = Vec::new();
            for record in store.known_plugins()? {
                if !present.contains(&record.identity) {
                    store.mark_deleted(&record.identity, now)?;
                    absent.extend(record.identity.parse::<Identity>());
                }
            }
            Ok::<_, crate::state::Error>(absent)
        })
        .await;
        match marked {
            Ok(Ok(absent)) if absent.is_empty() => {}
            Ok(Ok(absent)) => self.context.scanning.forget(absent).await,
            Ok(Err(error)) => tracing::error!("{error}"),
            Err(error) => tracing::error!("{error}"),
        }
    }

    /// Forgets the state of plugins that have been gone for a day.
    pub(super) async fn purge(&self) {
        let shared = self.context.clone();
        let purge = move || {
            let purged = shared.store.purge_expired(SystemTime::now())?;
            for plugin in purged {
                tracing::info!(plugin, "forgot the state of a plugin that is gone");
            }
            let known = shared.store.known_plugins()?;
            let is_known = |plugin: &str| known.iter().any(|record| record.identity == plugin);
            logs::purge_queues(&shared.state, &shared.root, is_known);
            enforcement::purge(&shared.state, is_known);
            Ok::<_, crate::state::Error>(())
        };
        match tokio::task::spawn_blocking(purge).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("{error}"),
            Err(error) => tracing::error!("{error}"),
        }
    }

    /// Ends all plugins, each finishing what is under way.
    pub(super) async fn end(mut self) {
        let stops = self.plugins.drain().map(|(_, plugin)| plugin.handle.stop());
        let stops = join_all(stops);
        let all = async {
            stops.await;
            while self.ending.join_next().await.is_some() {}
        };
        if tokio::time::timeout(END, all).await.is_err() {
            tracing::warn!(
                "not everything could be finished in time; it is read again at the next start"
            );
        }
        let safe_mode = self.safe_mode;
        match tokio::task::spawn_blocking(move || safe_mode.end()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("{error}"),
            Err(error) => tracing::error!("{error}"),
        }
    }
}

impl Shared {
    fn load(&self, identity: &Identity, goal: Goal) -> Result<plugin::Handle, String> {
        let text = |error: crate::state::Error| error.to_string();
        let name: Arc<str> = identity.to_string().into();
        let first_seen = self
            .store
            .mark_present(&name, SystemTime::now())
            .map_err(text)?;
        let values = Arc::new(Values::open(self.store.clone(), &name).map_err(text)?);
        let dead_letters = DeadLetters::new(&self.state, identity.namespace(), identity.name())
            .ok_or("the state folder's path is not absolute")?;
        let dead_letters = Arc::new(dead_letters);
        let root = &*self.root;
        let queues = Queues::new(&self.state, root, identity.namespace(), identity.name())
            .ok_or("its name cannot be that of a folder")?;
        let surroundings = Surroundings {
            node_root: root.into(),
            secrets: Arc::new(DaemonSecrets::new(
                identity.namespace(),
                self.secrets.clone(),
                NodeNames {
                    name: self.node_name.clone(),
                    labels: self.labels.subscribe(),
                },
            )),
            machine: self.machine,
            node_name: self.node_name.clone(),
        };
        let logs = LogsDriver::open(logs::Context {
            identity: name.clone(),
            store: self.store.clone(),
            values: values.clone(),
            first_seen: first_seen.at,
            dead_letters: dead_letters.clone(),
            queues: queues.clone(),
            own: own_log::find(),
            surroundings: surroundings.clone(),
            pods: self.pods.clone(),
            runtime: self.control.clone(),
        })
        .map_err(text)?;
        let logs_status = logs.status();
        let metrics = MetricsDriver::new(metrics::Context {
            reader: Reader::of(self.sandbox.folders()),
            runtime: self.control.clone(),
            remote_write: metrics::RemoteWriteContext {
                identity: name.clone(),
                queues: queues.clone().for_metrics(),
                surroundings: surroundings.clone(),
            },
        });
        let metrics_status = metrics.status();
        let labels = self.labels.subscribe();
        let node = self.sandbox.facts();
        let enforcement = EnforcementDriver::new(enforcement::Context {
            plugin: identity.clone(),
            folders: self.sandbox.folders().clone(),
            state: self.state.clone(),
            audit: self.audit.clone(),
            audit_only: self.audit_only,
            facts: Arc::new(move || enforcement::facts(&node, &labels.borrow())),
            runtime: self.control.clone(),
        });
        let enforcement_status = enforcement.status();
        let labels = self.labels.subscribe();
        let node = self.sandbox.facts();
        let scanning = ScanningDriver::new(scanning::Context {
            plugin: identity.clone(),
            rooms: self.scanning.clone(),
            facts: Arc::new(move || enforcement::facts(&node, &labels.borrow())),
            runtime: self.control.clone(),
            publish: scanning::PublishContext {
                identity: name.clone(),
                queues: queues.for_findings(),
                dead_letters,
                surroundings,
            },
        });
        let scanning_status = scanning.status();
        let drivers: Vec<(Role, Box<dyn Driver>)> = vec![
            (Role::Logs, Box::new(logs)),
            (Role::Metrics, Box::new(metrics)),
            (Role::Enforcement, Box::new(enforcement)),
            (Role::Scanning, Box::new(scanning)),
        ];
        let slot = self.marks.slot(&name).map_err(|error| error.to_string())?;
        let _guests = self.guests.enter();
        let state: Arc<dyn KeyValue> = values;
        let handle = plugin::spawn(
            plugin::Context {
                identity: name,
                sandbox: self.sandbox.clone(),
                cache: self.cache.clone(),
                state,
                drivers,
                slot,
                parts: self.parts.clone(),
                observer: Arc::new(PluginObserver {
                    loads: self.loads.clone(),
                    events: self.events.as_ref().map(|events| PluginEvents {
                        events: events.clone(),
                        plugin: identity.clone(),
                        uids: self.uids.subscribe(),
                    }),
                }),
            },
            goal,
        );
        self.reporter.add(
            identity.clone(),
            View {
                status: handle.status.clone(),
                logs: logs_status,
                metrics: metrics_status,
                enforcement: enforcement_status,
                scanning: scanning_status,
            },
        );
        Ok(handle)
    }
}

/// Of the declaration: the manifest's meaning and the module file's content.
fn hash(accepted: &Accepted) -> String {
    use std::fmt::Write as _;
    let mut hash = accepted.manifest.digest_hex();
    if let Some(file) = &accepted.module_file {
        hash.push('-');
        for byte in &file.content {
            // Writing to a string does not fail.
            let _ = write!(hash, "{byte:02x}");
        }
    }
    hash
}
