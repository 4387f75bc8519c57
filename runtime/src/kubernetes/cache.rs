//! What is known of this node's pods, for whoever reads their logs. Looking costs a reader nothing
//! while nothing changes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Pod;
use crate::manifest::PodMetadata;

/// How long a deleted pod is remembered: its last lines are read after.
const REMEMBERED: Duration = Duration::from_secs(300);
/// How many deleted pods are remembered.
const MOST_GONE: usize = 1024;

/// This node's pods. Clones share it.
#[derive(Debug, Clone)]
pub struct Pods(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    node: Box<str>,
    /// Grows with every change of what is known.
    version: AtomicU64,
    by_uid: RwLock<HashMap<Box<str>, Entry>>,
    wanted: watch::Sender<Wanted>,
    problem: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<Pod>,
    /// Since when it is deleted, if it is.
    gone: Option<Instant>,
}

/// What is asked for, each with a number of its own.
#[derive(Debug, Default)]
struct Wanted {
    next: u64,
    by: Vec<(u64, PodMetadata)>,
}

impl Pods {
    /// Of the node called `node`.
    pub fn new(node: &str) -> Self {
        Self(Arc::new(Shared {
            node: node.into(),
            version: AtomicU64::new(0),
            by_uid: RwLock::default(),
            wanted: watch::Sender::default(),
            problem: Mutex::default(),
        }))
    }

    /// The node's name.
    pub fn node(&self) -> &str {
        &self.0.node
    }

    /// Has the pods watched until the answer is dropped.
    pub fn ask(&self, metadata: impl IntoIterator<Item = PodMetadata>) -> Asked {
        let mut ids = Vec::new();
        self.0.wanted.send_modify(|wanted| {
            for metadata in metadata {
                ids.push(wanted.next);
                wanted.by.push((wanted.next, metadata));
                wanted.next += 1;
            }
        });
        Asked {
            pods: self.clone(),
            ids,
        }
    }

    /// What everybody asks for, each once, and a way to see it change.
    pub(super) fn wanted(&self) -> Asking {
        Asking(self.0.wanted.subscribe())
    }

    /// How many pods are known and not deleted.
    pub fn count(&self) -> usize {
        let known = self.0.by_uid.read().unwrap_or_else(PoisonError::into_inner);
        known.values().filter(|entry| entry.gone.is_none()).count()
    }

    /// Why what is known may be old, and what to do.
    pub fn problem(&self) -> Option<String> {
        let problem = &self.0.problem;
        problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Sets it; returns what it was.
    pub(super) fn set_problem(&self, problem: Option<String>) -> Option<String> {
        let mut old = self
            .0
            .problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *old, problem)
    }

    /// Changes when a pod does.
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// The pod with this UID or, where a log's path does not tell it, the one of that name that was
    /// there last.
    pub fn find(&self, namespace: &str, name: &str, uid: Option<&str>) -> Option<Arc<Pod>> {
        let known = self.0.by_uid.read().unwrap_or_else(PoisonError::into_inner);
        let entry = match uid {
            Some(uid) => known.get(uid)?,
            None => known
                .values()
                .filter(|entry| &*entry.pod.name == name && &*entry.pod.namespace == namespace)
                // Not deleted, or deleted last.
                .max_by_key(|entry| (entry.gone.is_none(), entry.gone))?,
        };
        Some(entry.pod.clone())
    }

    /// A pod came or changed.
    pub(super) fn put(&self, pod: Pod) {
        self.change(|known| put(known, pod));
    }

    /// A pod was deleted.
    pub(super) fn remove(&self, pod: &Pod) {
        self.change(|known| {
            if let Some(entry) = known.get_mut(&pod.uid) {
                entry.gone.get_or_insert_with(Instant::now);
            }
            false
        });
    }

    /// These are all pods there are.
    pub(super) fn replace(&self, pods: Vec<Pod>) {
        self.change(|known| {
            let now = Instant::now();
            for (uid, entry) in known.iter_mut() {
                if !pods.iter().any(|pod| pod.uid == *uid) {
                    entry.gone.get_or_insert(now);
                }
            }
            let mut changed = false;
            for pod in pods {
                changed |= put(known, pod);
            }
            changed
        });
    }

    /// Forgets the pods that have been gone for long, and the longest gone of too many.
    pub(super) fn forget(&self) {
        self.change(|_| false);
    }

    /// Forgets every pod: nobody asks for them.
    pub(super) fn clear(&self) {
        self.change(|known| {
            known.clear();
            true
        });
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<Box<str>, Entry>) -> bool) {
        let by_uid = &self.0.by_uid;
        let mut known = by_uid.write().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut known);
        known.retain(|_, entry| entry.gone.is_none_or(|gone| gone.elapsed() < REMEMBERED));
        let mut gone: Vec<Instant> = known.values().filter_map(|entry| entry.gone).collect();
        if gone.len() > MOST_GONE {
            gone.sort_unstable();
            let oldest = gone[gone.len() - MOST_GONE];
            known.retain(|_, entry| entry.gone.is_none_or(|gone| gone >= oldest));
        }
        if changed {
            self.0.version.fetch_add(1, Ordering::Release);
        }
    }
}

/// Whether what is known changes by it.
fn put(known: &mut HashMap<Box<str>, Entry>, pod: Pod) -> bool {
    if let Some(entry) = known.get_mut(&pod.uid) {
        entry.gone = None;
        if *entry.pod == pod {
            return false;
        }
        entry.pod = Arc::new(pod);
        return true;
    }
    if pod.left_out > 0 {
        tracing::warn!(
            pod = %format_args!("{}/{}", pod.namespace, pod.name),
            left_out = pod.left_out,
            "a pod has more labels and annotations than its lines carry: name fewer in `metadata`"
        );
    }
    let pod = Arc::new(pod);
    known.insert(pod.uid.clone(), Entry { pod, gone: None });
    true
}

/// Somebody's wish to know the pods. They are watched while there is one.
#[derive(Debug)]
pub struct Asked {
    pods: Pods,
    ids: Vec<u64>,
}

impl Asked {
    /// The pods.
    pub fn pods(&self) -> &Pods {
        &self.pods
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let ids = &self.ids;
        let wanted = &self.pods.0.wanted;
        wanted.send_modify(|wanted| wanted.by.retain(|(id, _)| !ids.contains(id)));
    }
}

/// Sees what is asked for.
pub(super) struct Asking(watch::Receiver<Wanted>);

impl Asking {
    pub(super) fn now(&mut self) -> Vec<PodMetadata> {
        let mut all = Vec::new();
        for (_, metadata) in &self.0.borrow_and_update().by {
            if !all.contains(metadata) {
                all.push(metadata.clone());
            }
        }
        all
    }

    /// Waits for a change. Never ends without one while the pods are there.
    pub(super) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, uid: &str, label: &str) -> Pod {
        let meta = json!({"namespace": "n", "name": name, "uid": uid, "labels": {"a": label}});
        let meta = serde_json::from_value(meta).unwrap();
        Pod::new(meta, &[PodMetadata::default()]).unwrap()
    }

    #[test]
    fn a_deleted_pod_is_known_for_a_while_and_one_of_its_name_comes_first() {
        let pods = Pods::new("node");
        let (old, new) = (pod("db-0", "1", "old"), pod("db-0", "2", "new"));
        pods.put(old.clone());
        pods.remove(&old);
        assert_eq!(pods.count(), 0);
        assert_eq!(*pods.find("n", "db-0", None).unwrap(), old);
        pods.put(new.clone());
        assert_eq!(*pods.find("n", "db-0", None).unwrap(), new);
        assert_eq!(*pods.find("n", "db-0", Some("1")).unwrap(), old);
        assert!(pods.find("m", "db-0", None).is_none());
        assert!(pods.find("n", "db-0", Some("3")).is_none());
    }

    #[test]
    fn only_what_differs_is_a_change() {
        let pods = Pods::new("node");
        pods.put(pod("a", "1", "x"));
        let before = pods.version();
        pods.put(pod("a", "1", "x"));
        pods.replace(vec![pod("a", "1", "x")]);
        assert_eq!(pods.version(), before);
        pods.put(pod("a", "1", "y"));
        assert_ne!(pods.version(), before);
    }

    #[test]
    fn a_new_list_has_every_pod() {
        let pods = Pods::new("node");
        pods.put(pod("a", "1", "x"));
        pods.put(pod("b", "2", "x"));
        pods.replace(vec![pod("b", "2", "x"), pod("c", "3", "x")]);
        assert_eq!(pods.count(), 2);
        assert!(pods.find("n", "a", Some("1")).is_some(), "deleted just now");
    }

    #[test]
    fn deleted_pods_are_bounded() {
        let pods = Pods::new("node");
        let all = MOST_GONE + 3;
        for index in 0..all {
            let gone = pod("a", &index.to_string(), "x");
            pods.put(gone.clone());
            pods.remove(&gone);
        }
        let found =
            (0..all).filter(|index| pods.find("n", "a", Some(&index.to_string())).is_some());
        assert!(found.eq(3..all));
    }

    #[test]
    fn what_is_asked_for_ends_with_who_asked() {
        let pods = Pods::new("node");
        let mut asking = pods.wanted();
        let first = pods.ask([PodMetadata::default()]);
        let second = pods.ask([PodMetadata::default()]);
        assert_eq!(asking.now().len(), 1);
        drop(first);
        assert_eq!(asking.now().len(), 1);
        drop(second);
        assert_eq!(asking.now(), []);
    }
}
