//! What the watches have told, and what that means: which plugins this node shall run. Pure: no I/O.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

use super::kept::Loaded;
use super::{POLICY_KEY, Settings};
use crate::manifest::{self, Document, Error, Identity, Manifest, Policy, Reason, read_object};
use crate::source::{Accepted, Declared, Desired};

/// Names plugins, `NAMESPACE/NAME` with commas between, that stand still on the Node that has it.
pub(super) const SUSPEND: &str = "bulkhead.dev/suspend";

/// What of its Node the daemon goes by.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct NodeMeta {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
}

impl NodeMeta {
    fn suspends(&self, identity: &Identity) -> bool {
        let names = self.annotations.get(SUSPEND).map(String::as_str);
        let mut names = names.unwrap_or_default().split([',', ' ']);
        let identity = identity.to_string();
        names.any(|name| name == identity)
    }
}

/// Something to be kept on the disk, or not any more.
#[derive(Debug)]
pub(super) enum Change {
    Manifest(Identity, Box<ConfigMap>),
    Gone(Identity),
    Policy(Option<String>),
    Node(NodeMeta),
}

#[derive(Debug, Default)]
struct Namespace {
    /// What it has was told, or could not be had.
    tried: bool,
    objects: BTreeMap<Identity, Object>,
}

#[derive(Debug)]
struct Object {
    uid: Option<Arc<str>>,
    /// Of all that it says.
    content: u128,
    read: Result<Arc<Manifest>, Vec<Error>>,
    /// The last that this node accepted.
    good: Option<Arc<Manifest>>,
    /// To be kept once it is accepted.
    unsaved: Option<Box<ConfigMap>>,
}

impl Object {
    fn is_saved(&self, manifest: &Manifest) -> bool {
        let read = self.read.as_ref();
        self.unsaved.is_none() && read.is_ok_and(|before| before.digest == manifest.digest)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Seen {
    home: String,
    /// Of this node, whatever the cluster says.
    base: Policy,
    policy: Option<Arc<Policy>>,
    policy_told: bool,
    policy_name: PathBuf,
    node: Option<NodeMeta>,
    /// Those of the node.
    labels: Arc<BTreeMap<String, String>>,
    node_told: bool,
    namespaces: BTreeMap<String, Namespace>,
    problems: BTreeMap<String, String>,
    policy_errors: Vec<Error>,
    changes: Vec<Change>,
}

impl Seen {
    /// Begins with what was kept.
    pub(super) fn new(settings: &Settings, loaded: Loaded) -> Self {
        let mut seen = Self {
            home: settings.namespace.clone(),
            base: Policy {
                home: settings.namespace.clone(),
                ..settings.policy.clone()
            },
            policy: None,
            policy_told: false,
            policy_name: format!(
                "ConfigMap {}/{}, {POLICY_KEY}",
                settings.namespace, settings.policy_name
            )
            .into(),
            labels: Arc::new(loaded.node.clone().unwrap_or_default().labels),
            node: loaded.node,
            node_told: false,
            namespaces: BTreeMap::new(),
            problems: BTreeMap::new(),
            policy_errors: Vec::new(),
            changes: Vec::new(),
        };
        if let Some(policy) = loaded.policy {
            seen.policy(policy.as_deref().map(Some));
            seen.policy_told = false;
        }
        for object in loaded.manifests {
            let namespace = object.metadata.namespace.clone().unwrap_or_default();
            seen.put(&namespace, object);
        }
        for object in seen
            .namespaces
            .values_mut()
            .flat_map(|it| it.objects.values_mut())
        {
            object.unsaved = None;
            // Or it would not have been kept.
            object.good = object.read.as_ref().ok().cloned();
        }
        seen.changes.clear();
        seen
    }

    /// Where manifests may be.
    pub(super) fn namespaces(&self) -> BTreeSet<String> {
        let policy = self.policy.iter();
        let let_in = policy.flat_map(|policy| policy.namespaces.keys());
        let mut namespaces: BTreeSet<String> = let_in.cloned().collect();
        namespaces.insert(self.home.clone());
        namespaces
    }

    /// Whether everything was told that there is, as far as it may be told.
    pub(super) fn is_complete(&self) -> bool {
        let tried = |name| self.namespaces.get(name).is_some_and(|it| it.tried);
        self.policy_told && self.node_told && self.namespaces().iter().all(tried)
    }

    pub(super) fn tried(&mut self, namespace: &str) {
        self.namespaces
            .entry(namespace.to_owned())
            .or_default()
            .tried = true;
    }

    pub(super) fn tried_node(&mut self) {
        self.node_told = true;
    }

    /// These are all labelled ConfigMaps of the namespace.
    pub(super) fn all(&mut self, namespace: &str, objects: Vec<ConfigMap>) {
        let before = self.namespaces.entry(namespace.to_owned()).or_default();
        let before: Vec<Identity> = before.objects.keys().cloned().collect();
        let named = |object: &ConfigMap| object.metadata.name.clone();
        let present: BTreeSet<String> = objects.iter().filter_map(named).collect();
        for identity in before {
            if !present.contains(identity.name()) {
                self.gone(namespace, identity.name());
            }
        }
        for object in objects {
            self.put(namespace, object);
        }
        self.tried(namespace);
    }

    pub(super) fn put(&mut self, namespace: &str, object: ConfigMap) {
        let name = object.metadata.name.clone().unwrap_or_default();
        // Both are names that the API server has accepted.
        let Ok(identity) = Identity::new(namespace, name) else {
            return;
        };
        let space = self.namespaces.entry(namespace.to_owned()).or_default();
        let before = space.objects.remove(&identity);
        let content = content(&object);
        // What is the same stays as it is: others hold what it declares, and it may be large.
        let read = match &before {
            Some(before) if before.content == content => before.read.clone(),
            _ => read(&identity, &object),
        };
        let uid = object.metadata.uid.as_deref().map(Arc::from);
        let is_saved = match (&before, &read) {
            (Some(before), Ok(manifest)) => before.is_saved(manifest),
            _ => false,
        };
        let unsaved = (read.is_ok() && !is_saved).then(|| Box::new(stripped(object)));
        let good = before.and_then(|before| before.good);
        let entry = Object {
            uid,
            content,
            read,
            good,
            unsaved,
        };
        space.objects.insert(identity, entry);
    }

    pub(super) fn gone(&mut self, namespace: &str, name: &str) {
        if let Some(space) = self.namespaces.get_mut(namespace)
            && let Ok(identity) = Identity::new(namespace, name)
            && space.objects.remove(&identity).is_some()
        {
            self.changes.push(Change::Gone(identity));
        }
    }

    /// The namespace may have no manifests any more.
    pub(super) fn forget(&mut self, namespace: &str) {
        let space = self.namespaces.remove(namespace).unwrap_or_default();
        let gone = space.objects.into_keys().map(Change::Gone);
        self.changes.extend(gone);
        let what = format!("manifests in namespace {namespace}");
        self.problems.remove(&what);
    }

    /// The policy's ConfigMap: none, or the text of its key, if it has it.
    pub(super) fn policy(&mut self, text: Option<Option<&str>>) {
        self.policy_told = true;
        self.policy_errors.clear();
        let read = match text {
            None => Ok(self.base.clone()),
            Some(Some(text)) => self.base.with(&self.policy_name, text),
            Some(None) => Err(vec![Error {
                file: self.policy_name.clone(),
                position: None,
                reason: Reason::InvalidField,
                field: "data".to_owned(),
                problem: format!("has no key {POLICY_KEY}"),
                remedy: "add it, or delete the ConfigMap".to_owned(),
            }]),
        };
        match read {
            Ok(policy) => {
                let before = self.policy.replace(policy.into());
                if before != self.policy {
                    let text = text.flatten().map(str::to_owned);
                    self.changes.push(Change::Policy(text));
                }
            }
            Err(errors) => {
                let shut = || self.base.shut(&errors).into();
                self.policy.get_or_insert_with(shut);
                self.policy_errors = errors;
            }
        }
    }

    /// Returns whether anything is new.
    pub(super) fn node(&mut self, meta: NodeMeta) -> bool {
        let first = !std::mem::replace(&mut self.node_told, true);
        let solved = self.problem("this daemon's Node", None);
        let differs = self.node.as_ref() != Some(&meta);
        if differs {
            self.labels = Arc::new(meta.labels.clone());
            self.node = Some(meta.clone());
            self.changes.push(Change::Node(meta));
        }
        first || solved || differs
    }

    /// A watch does not go on, or does again. Returns whether that is news.
    pub(super) fn problem(&mut self, what: &str, problem: Option<String>) -> bool {
        match problem {
            Some(problem) => {
                // How it fails next makes no difference.
                let before = self.problems.entry(what.to_owned());
                let is_new = matches!(before, Entry::Vacant(_));
                before.or_insert(problem);
                is_new
            }
            None => {
                let solved = self.problems.remove(what).is_some();
                if solved {
                    tracing::info!("{what}: watched again");
                }
                solved
            }
        }
    }

    /// What this node shall run. What is accepted is put among the changes.
    pub(super) fn desired(&mut self) -> Desired {
        let mut desired = Desired {
            problems: self.problem_list(),
            labels: self.labels.clone(),
            ..Desired::default()
        };
        // Before the policy is known nobody may declare anything.
        let Some(policy) = &self.policy else {
            return desired;
        };
        desired.policy = policy.clone();
        let mut uids = BTreeMap::new();
        let objects = self.namespaces.values_mut().flat_map(|it| &mut it.objects);
        for (identity, object) in objects {
            let view = View {
                policy,
                node: self.node.as_ref(),
            };
            let Some(declared) = view.declared(object) else {
                desired.elsewhere.insert(identity.clone());
                continue;
            };
            if let Declared::Accepted(accepted) = &declared {
                object.good = Some(accepted.manifest.clone());
                if let Some(unsaved) = object.unsaved.take() {
                    self.changes
                        .push(Change::Manifest(identity.clone(), unsaved));
                }
            }
            desired.plugins.insert(identity.clone(), declared);
            if let Some(uid) = &object.uid {
                uids.insert(identity.clone(), uid.clone());
            }
        }
        desired.uids = Arc::new(uids);
        desired
    }

    fn problem_list(&self) -> Vec<Error> {
        let problems = self.problems.iter();
        let problems = problems.map(|(what, problem)| Error {
            file: PathBuf::from(what),
            position: None,
            reason: Reason::Unreadable,
            field: String::new(),
            problem: problem.clone(),
            remedy: "not watched; until it is, everything stays as it was".to_owned(),
        });
        problems.chain(self.policy_errors.iter().cloned()).collect()
    }

    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }
}

/// What a manifest is judged by.
struct View<'a> {
    policy: &'a Policy,
    node: Option<&'a NodeMeta>,
}

impl View<'_> {
    /// Nothing if the plugin is not for this node.
    fn declared(&self, object: &Object) -> Option<Declared> {
        let good = object.good.as_ref();
        match &object.read {
            Ok(manifest) => {
                if !self.is_here(manifest) {
                    return None;
                }
                let errors = self.policy.check(manifest);
                Some(match errors.is_empty() {
                    true => Declared::Accepted(self.accepted(manifest)),
                    false => self.refused(errors, good),
                })
            }
            Err(_) if good.is_some_and(|good| !self.is_here(good)) => None,
            Err(errors) => Some(self.refused(errors.clone(), good)),
        }
    }

    fn refused(&self, errors: Vec<Error>, good: Option<&Arc<Manifest>>) -> Declared {
        let good = good.filter(|good| self.is_here(good) && self.policy.check(good).is_empty());
        Declared::Refused {
            errors,
            last_good: good.map(|good| self.accepted(good)),
        }
    }

    /// Whether the plugin is for this node. One that asks for labels waits until they are known.
    fn is_here(&self, manifest: &Manifest) -> bool {
        match self.node {
            Some(node) => manifest.spec.is_for(&node.labels),
            None => !manifest.spec.selects_nodes(),
        }
    }

    fn accepted(&self, manifest: &Arc<Manifest>) -> Accepted {
        let suspended = self
            .node
            .is_some_and(|node| node.suspends(&manifest.identity));
        Accepted {
            manifest: manifest.clone(),
            module_file: None,
            suspended: suspended
                .then(|| format!("the Node's annotation {SUSPEND} names it").into()),
        }
    }
}

fn content(object: &ConfigMap) -> u128 {
    let data = object.data.iter().flatten();
    let data = data.map(|(key, text)| (false, key, text.as_bytes()));
    let binary_data = object.binary_data.iter().flatten();
    let binary_data = binary_data.map(|(key, bytes)| (true, key, bytes.0.as_slice()));
    let mut hash = Xxh3Default::new();
    for (is_binary, key, value) in data.chain(binary_data) {
        hash.update(&[is_binary.into()]);
        for part in [key.as_bytes(), value] {
            hash.update(&part.len().to_le_bytes());
            hash.update(part);
        }
    }
    hash.digest128()
}

fn read(identity: &Identity, object: &ConfigMap) -> Result<Arc<Manifest>, Vec<Error>> {
    let empty = BTreeMap::new();
    let data = object.data.as_ref().unwrap_or(&empty);
    let binary_data = object.binary_data.iter().flatten();
    let binary_data = binary_data.map(|(key, bytes)| (key.clone(), bytes.0.clone()));
    let binary_data = binary_data.collect();
    // Whatever it holds, it must not end the source of all others.
    let document = catch_unwind(AssertUnwindSafe(|| {
        read_object(identity.clone(), data, binary_data)
    }));
    match document {
        Ok(Document::Manifest(manifest)) => Ok(Arc::from(manifest)),
        Ok(Document::Refused { errors, .. }) => Err(errors),
        // An object that was asked for by its label is one of the two.
        Ok(Document::Ignored { .. }) | Err(_) => Err(vec![Error {
            file: format!("ConfigMap {identity}").into(),
            position: None,
            reason: Reason::Unreadable,
            field: String::new(),
            problem: "made the parser fail, which is a fault of the daemon".to_owned(),
            remedy: "please report it".to_owned(),
        }]),
    }
}

/// The object without what nobody reads.
fn stripped(mut object: ConfigMap) -> ConfigMap {
    let meta = object.metadata;
    object.metadata = Default::default();
    object.metadata.name = meta.name;
    object.metadata.namespace = meta.namespace;
    object.metadata.uid = meta.uid;
    if let Some(data) = &mut object.data {
        data.retain(|key, _| key == manifest::KEY);
    }
    object
}
