//! What a container's log knows of its pod. A log that is new waits for that, but not for long; one
//! whose pod changes goes on under another source. Nothing of this is done line by line.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::super::batch::Source;
use super::stats::Stats;
use crate::kubernetes::{Pod, Pods};
use crate::manifest::PodMetadata;

/// The pod of one log, and what is wanted of it.
pub(super) struct OfPod {
    metadata: Arc<PodMetadata>,
    /// The log's source, as far as its path tells.
    place: Arc<Source>,
    pod: Option<Arc<Pod>>,
    /// The version of the pods at which it was looked up last.
    version: Option<u64>,
    /// Until when lines wait for it.
    until: Option<Instant>,
}

impl OfPod {
    pub(super) fn new(metadata: Arc<PodMetadata>, place: Arc<Source>) -> Self {
        let until = Instant::now() + metadata.wait.0;
        Self {
            metadata,
            place,
            pod: None,
            version: None,
            until: Some(until),
        }
    }

    /// How many attributes the path alone gives.
    pub(super) fn of_place(&self) -> usize {
        self.place.attributes.len()
    }

    /// Brings `source` up to date. Whether the log can be read now.
    pub(super) fn look_up(&mut self, pods: &Pods, source: &mut Arc<Source>, stats: &Stats) -> bool {
        let version = pods.version();
        if self.version != Some(version) {
            let first = self.version.is_none();
            self.version = Some(version);
            let found = self.find(pods);
            let same = match (&self.pod, &found) {
                (Some(old), Some(new)) => Arc::ptr_eq(old, new),
                // What was known of a pod stays with its log.
                (_, None) => true,
                (None, Some(_)) => false,
            };
            if !same {
                self.pod = found;
            }
            if first || !same {
                *source = Arc::new(self.source(pods.node()));
            }
        }
        if self.pod.is_some() {
            self.until = None;
            return true;
        }
        match self.until {
            Some(until) if Instant::now() < until => return false,
            Some(_) => {
                self.until = None;
                stats.without_metadata.fetch_add(1, Relaxed);
            }
            None => {}
        }
        true
    }

    fn find(&self, pods: &Pods) -> Option<Arc<Pod>> {
        let of_path = |name: &str| {
            let mut attributes = self.place.attributes.iter();
            let found = attributes.find(|(attribute, _)| attribute == name);
            found.map(|(_, value)| value.as_str())
        };
        let namespace = of_path("k8s.namespace.name")?;
        pods.find(namespace, of_path("k8s.pod.name")?, of_path("k8s.pod.uid"))
    }

    fn source(&self, node: &str) -> Source {
        let mut attributes = self.place.attributes.clone();
        attributes.push(("k8s.node.name".to_owned(), node.to_owned()));
        let of_pod = self
            .pod
            .iter()
            .flat_map(|pod| pod.attributes(&self.metadata));
        for (name, value) in of_pod {
            // A controller may be of a kind whose name says something else already.
            if !attributes.iter().any(|(other, _)| *other == name) {
                attributes.push((name, value.to_owned()));
            }
        }
        Source {
            path: self.place.path.clone(),
            attributes,
        }
    }
}
