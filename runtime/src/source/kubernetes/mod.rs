//! ConfigMaps of the cluster as a source: watches of the manifests in the daemon's own namespace and
//! in those that the policy lets in, of the policy, and of the daemon's own Node. What they tell is
//! put together in `seen`; what was good is kept on the disk by `kept`, so that plugins run on while
//! the API server is away, also across a restart of the daemon. Nothing here writes to the cluster.

mod kept;
mod seen;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Api;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::Config;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::Desired;
use crate::kubernetes::Access;
use crate::kubernetes::watch::{Follower, Scope, keep_watching};
use crate::manifest::{LABEL, Policy};

use kept::Kept;
use seen::{NodeMeta, Seen};

/// How long the start waits for the API server before it goes by what was kept.
const PATIENCE: Duration = Duration::from_secs(3);
/// The key of the policy's ConfigMap.
const POLICY_KEY: &str = "policy.yaml";

/// What to watch.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How the API server is reached.
    pub access: Access,
    /// The daemon's own namespace.
    pub namespace: String,
    /// What the cluster calls this node.
    pub node_name: String,
    /// The policy's ConfigMap in the daemon's namespace.
    pub policy_name: String,
    /// What holds on this node whatever the policy says.
    pub policy: Policy,
}

/// The cluster's manifests under watch, until this is dropped.
#[derive(Debug)]
pub struct Kubernetes {
    desired: watch::Receiver<Arc<Desired>>,
    _task: AbortOnDropHandle<()>,
}

impl Kubernetes {
    /// Begins to watch, and waits for what there is: from the API server, or what was kept in `folder`
    /// if that does not answer soon.
    pub async fn start(settings: Settings, folder: &Path) -> Self {
        let (kept, loaded) = Kept::open(folder.to_owned()).await;
        let shared = Arc::new(Shared {
            seen: Mutex::new(Seen::new(&settings, loaded)),
            changed: Notify::new(),
        });
        let mut watches = Watches::start(settings, &shared);
        watches.follow_policy();
        let complete = async {
            while !shared.seen().is_complete() {
                shared.changed.notified().await;
                watches.follow_policy();
            }
        };
        if timeout(PATIENCE, complete).await.is_err() {
            tracing::warn!(
                "the API server has not told all that is declared; until it does, what was last known holds"
            );
        }
        let (sender, desired) = watch::channel(Arc::default());
        // What came with the start is to be evaluated, too.
        shared.changed.notify_one();
        let mut follow = Follow {
            shared,
            watches,
            kept,
            sender,
        };
        follow.look().await;
        let task = tokio::spawn(follow.run());
        Self {
            desired,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// What is declared, now and later. Changes only when something changed in meaning.
    pub fn desired(&self) -> watch::Receiver<Arc<Desired>> {
        self.desired.clone()
    }
}

#[derive(Debug)]
struct Shared {
    seen: Mutex<Seen>,
    /// Something was seen.
    changed: Notify,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts together what the watches tell.
struct Follow {
    shared: Arc<Shared>,
    watches: Watches,
    kept: Kept,
    sender: watch::Sender<Arc<Desired>>,
}

impl Follow {
    async fn run(mut self) {
        loop {
            self.shared.changed.notified().await;
            self.look().await;
        }
    }

    async fn look(&mut self) {
        self.watches.follow_policy();
        let (desired, changes) = {
            let mut seen = self.shared.seen();
            (seen.desired(), seen.take_changes())
        };
        self.sender.send_if_modified(|current| {
            let differs = **current != desired;
            if differs {
                *current = Arc::new(desired);
            }
            differs
        });
        self.kept.apply(changes).await;
    }
}

/// The tasks that watch; they end with this.
struct Watches {
    settings: Settings,
    shared: Arc<Shared>,
    manifests: BTreeMap<String, AbortOnDropHandle<()>>,
    _policy: AbortOnDropHandle<()>,
    _node: AbortOnDropHandle<()>,
}

impl Watches {
    fn start(settings: Settings, shared: &Arc<Shared>) -> Self {
        let by_name = |name: &str| Config::default().fields(&format!("metadata.name={name}"));
        let policy = Scope {
            api: |client, namespace| Api::<ConfigMap>::namespaced(client, namespace),
            namespace: settings.namespace.clone(),
            config: by_name(&settings.policy_name),
            rights: "the verbs list and watch on configmaps in its own namespace",
        };
        let node = Scope {
            api: |client, _| Api::<PartialObjectMeta<Node>>::all(client),
            namespace: String::new(),
            config: by_name(&settings.node_name),
            rights: "the verbs list and watch on nodes",
        };
        let policy = spawn(&settings.access, policy, PolicyWatch(shared.clone()));
        let node = spawn(&settings.access, node, NodeWatch(shared.clone()));
        Self {
            settings,
            shared: shared.clone(),
            manifests: BTreeMap::new(),
            _policy: policy,
            _node: node,
        }
    }

    /// Watches manifests in just those namespaces that may have some.
    fn follow_policy(&mut self) {
        let wanted: BTreeSet<String> = self.shared.seen().namespaces();
        let (manifests, shared) = (&mut self.manifests, &self.shared);
        manifests.retain(|namespace, _| {
            let stays = wanted.contains(namespace);
            if !stays {
                shared.seen().forget(namespace);
            }
            stays
        });
        for namespace in wanted {
            manifests.entry(namespace.clone()).or_insert_with(|| {
                let scope = Scope {
                    api: |client, namespace| Api::<ConfigMap>::namespaced(client, namespace),
                    namespace: namespace.clone(),
                    config: Config::default().labels(&format!("{LABEL}=true")),
                    rights: "the verbs list and watch on configmaps there: a RoleBinding to the ClusterRole bulkhead-manifests",
                };
                let follower = ManifestWatch {
                    shared: shared.clone(),
                    namespace,
                };
                spawn(&self.settings.access, scope, follower)
            });
        }
    }
}

fn spawn<K>(
    access: &Access,
    scope: Scope<K>,
    mut follower: impl Follower<K> + 'static,
) -> AbortOnDropHandle<()>
where
    K: kube::Resource
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let access = access.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        match keep_watching(&access, &scope, &mut follower).await {}
    }))
}

struct ManifestWatch {
    shared: Arc<Shared>,
    namespace: String,
}

impl ManifestWatch {
    fn change(&self, change: impl FnOnce(&mut Seen, &str)) {
        let mut seen = self.shared.seen();
        // The policy may just have taken the namespace out, and this task not have ended yet.
        if seen.namespaces().contains(&self.namespace) {
            change(&mut seen, &self.namespace);
            self.shared.changed.notify_one();
        }
    }
}

impl Follower<ConfigMap> for ManifestWatch {
    fn all(&mut self, objects: Vec<ConfigMap>) {
        self.change(|seen, namespace| seen.all(namespace, objects));
    }

    fn put(&mut self, object: ConfigMap) {
        self.change(|seen, namespace| seen.put(namespace, object));
    }

    fn gone(&mut self, object: ConfigMap) {
        let name = object.metadata.name.unwrap_or_default();
        self.change(|seen, namespace| seen.gone(namespace, &name));
    }

    fn problem(&mut self, problem: Option<String>) {
        self.change(|seen, namespace| {
            let what = format!("manifests in namespace {namespace}");
            seen.problem(&what, problem);
            seen.tried(namespace);
        });
    }
}

struct PolicyWatch(Arc<Shared>);

impl PolicyWatch {
    fn set(&self, object: Option<&ConfigMap>) {
        let data = object.map(|object| object.data.as_ref());
        let text = data.map(|data| data.and_then(|data| data.get(POLICY_KEY)));
        self.0
            .seen()
            .policy(text.map(|text| text.map(String::as_str)));
        self.0.changed.notify_one();
    }
}

impl Follower<ConfigMap> for PolicyWatch {
    fn all(&mut self, objects: Vec<ConfigMap>) {
        self.set(objects.first());
    }

    fn put(&mut self, object: ConfigMap) {
        self.set(Some(&object));
    }

    fn gone(&mut self, _: ConfigMap) {
        self.set(None);
    }

    fn problem(&mut self, problem: Option<String>) {
        self.0.seen().problem("the policy", problem);
        self.0.changed.notify_one();
    }
}

struct NodeWatch(Arc<Shared>);

impl Follower<PartialObjectMeta<Node>> for NodeWatch {
    fn all(&mut self, objects: Vec<PartialObjectMeta<Node>>) {
        match objects.into_iter().next() {
            Some(object) => self.put(object),
            None => self.problem(Some(
                "there is no such Node; is NODE_NAME right?".to_owned(),
            )),
        }
    }

    fn put(&mut self, object: PartialObjectMeta<Node>) {
        let meta = NodeMeta {
            labels: object.metadata.labels.unwrap_or_default(),
            annotations: object.metadata.annotations.unwrap_or_default(),
        };
        let changed = self.0.seen().node(meta);
        // A Node changes every few minutes without any of this changing.
        if changed {
            self.0.changed.notify_one();
        }
    }

    fn gone(&mut self, _: PartialObjectMeta<Node>) {}

    fn problem(&mut self, problem: Option<String>) {
        let changed = self.0.seen().problem("this daemon's Node", problem);
        self.0.seen().tried_node();
        if changed {
            self.0.changed.notify_one();
        }
    }
}
