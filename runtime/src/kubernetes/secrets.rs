//! Secrets that manifests refer to: each under a watch of its own, by its name, while somebody refers to
//! it. No right over all secrets of a namespace is needed, and none of the cluster's.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::runtime::watcher::Config;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::Access;
use super::watch::{Follower, Scope, keep_watching};

/// The cluster's Secrets. Clones share the watches.
#[derive(Clone)]
pub struct ClusterSecrets(Arc<Shared>);

struct Shared {
    access: Access,
    runtime: Handle,
    watched: Mutex<HashMap<(String, String), Weak<Watched>>>,
}

impl fmt::Debug for ClusterSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecrets(...)")
    }
}

impl ClusterSecrets {
    /// Watches will be tasks of `runtime`.
    pub fn new(access: Access, runtime: Handle) -> Self {
        Self(Arc::new(Shared {
            access,
            runtime,
            watched: Mutex::default(),
        }))
    }

    /// A key of a Secret, which is watched until this is dropped.
    pub(crate) fn key(&self, namespace: &str, name: &str, key: &str) -> SecretKey {
        SecretKey {
            watched: self.watched(namespace, name),
            key: key.into(),
        }
    }

    fn watched(&self, namespace: &str, name: &str) -> Arc<Watched> {
        let all = &self.0.watched;
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, watched| watched.strong_count() > 0);
        let entry = (namespace.to_owned(), name.to_owned());
        if let Some(watched) = all.get(&entry).and_then(Weak::upgrade) {
            return watched;
        }
        let state = Arc::new(RwLock::new(State::Unknown));
        let scope = Scope {
            api: |client, namespace| Api::<Secret>::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            config: Config::default().fields(&format!("metadata.name={name}")),
            rights: "the verbs list and watch on it: a Role with its name in `resourceNames` and a RoleBinding in its namespace",
        };
        let mut follower = Watch {
            secret: format!("Secret {namespace}/{name}"),
            state: state.clone(),
        };
        let access = self.0.access.clone();
        let task = self
            .0
            .runtime
            .spawn(async move { match keep_watching(&access, &scope, &mut follower).await {} });
        let watched = Arc::new(Watched {
            secret: format!("Secret {namespace}/{name}"),
            state,
            _task: AbortOnDropHandle::new(task),
        });
        all.insert(entry, Arc::downgrade(&watched));
        watched
    }
}

/// A Secret under watch.
struct Watched {
    secret: String,
    state: Arc<RwLock<State>>,
    _task: AbortOnDropHandle<()>,
}

enum State {
    Unknown,
    Known(BTreeMap<String, Vec<u8>>),
    Missing,
    Failed(String),
}

/// A key of a Secret.
pub(crate) struct SecretKey {
    watched: Arc<Watched>,
    key: Box<str>,
}

impl SecretKey {
    /// What it is now. An error says why there is nothing.
    pub(crate) fn get(&self) -> Result<String, String> {
        let secret = &self.watched.secret;
        let state = &self.watched.state;
        let state = state.read().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Unknown => Err(format!("{secret} has not been read yet")),
            State::Missing => Err(format!("{secret} does not exist; make it")),
            State::Failed(why) => Err(format!("{secret} cannot be read: {why}")),
            State::Known(data) => {
                let bytes = data.get(&*self.key);
                let bytes = bytes.ok_or_else(|| format!("{secret} has no key {}", self.key))?;
                let text = std::str::from_utf8(bytes);
                let text = text.map_err(|_| format!("{secret}: {} is not UTF-8", self.key))?;
                // As of a file: what `echo` wrote.
                Ok(text.strip_suffix('\n').unwrap_or(text).to_owned())
            }
        }
    }
}

struct Watch {
    secret: String,
    state: Arc<RwLock<State>>,
}

impl Watch {
    fn set(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl Follower<Secret> for Watch {
    fn all(&mut self, objects: Vec<Secret>) {
        match objects.into_iter().next() {
            Some(object) => self.put(object),
            None => self.set(State::Missing),
        }
    }

    fn put(&mut self, object: Secret) {
        let data = object.data.unwrap_or_default().into_iter();
        self.set(State::Known(
            data.map(|(key, value)| (key, value.0)).collect(),
        ));
    }

    fn gone(&mut self, _: Secret) {
        self.set(State::Missing);
    }

    fn problem(&mut self, problem: Option<String>) {
        let Some(problem) = problem else { return };
        let known = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            matches!(*state, State::Known(_))
        };
        // What is known goes on being used.
        if !known {
            tracing::warn!("{}: {problem}", self.secret);
            self.set(State::Failed(problem));
        }
    }
}
