//! The one watch of this node's pods. Only their metadata comes over the wire, and of that only what
//! manifests ask for is kept. Without a manifest that asks, there is no watch.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod as ApiPod;
use kube::Api;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::Config;

use super::watch::{Follower, Scope, keep_watching};
use super::{Access, Pod, Pods};
use crate::manifest::PodMetadata;

/// How long the watch goes on when nobody asks any more: a plugin that changes soon asks again.
const LINGER: Duration = Duration::from_secs(60);
/// How often deleted pods are forgotten.
const FORGET: Duration = Duration::from_secs(60);

/// Keeps `pods` up to date while somebody asks for them. Never ends.
pub async fn follow(pods: Pods, access: Access) {
    let mut asking = pods.wanted();
    loop {
        let wanted = asking.now();
        if wanted.is_empty() {
            asking.changed().await;
            continue;
        }
        // Until something else is asked for, or nothing.
        let change = async {
            loop {
                asking.changed().await;
                let now = asking.now();
                if now.is_empty() {
                    let soon = tokio::time::timeout(LINGER, asking.changed()).await;
                    if soon.is_err() {
                        break;
                    }
                }
                if !asking
                    .now()
                    .iter()
                    .all(|metadata| wanted.contains(metadata))
                {
                    break;
                }
            }
        };
        let selector = format!("spec.nodeName={}", pods.node());
        let scope = Scope {
            api: |client, _| Api::all(client),
            namespace: String::new(),
            // From the server's memory: what is missing there comes with the watch.
            config: Config::default().fields(&selector).any_semantic(),
            rights: "the verbs list and watch on pods",
        };
        let mut watched = Watched {
            pods: &pods,
            wanted: &wanted,
        };
        let forget = async {
            loop {
                tokio::time::sleep(FORGET).await;
                pods.forget();
            }
        };
        tokio::select! {
            () = change => {}
            () = forget => {}
            never = keep_watching(&access, &scope, &mut watched) => match never {},
        }
        if asking.now().is_empty() {
            pods.set_problem(None);
            pods.clear();
        }
    }
}

struct Watched<'a> {
    pods: &'a Pods,
    wanted: &'a [PodMetadata],
}

type Object = PartialObjectMeta<ApiPod>;

impl Watched<'_> {
    fn pod(&self, object: Object) -> Option<Pod> {
        Pod::new(object.metadata, self.wanted)
    }
}

impl Follower<Object> for Watched<'_> {
    fn all(&mut self, objects: Vec<Object>) {
        let pods = objects.into_iter().filter_map(|object| self.pod(object));
        self.pods.replace(pods.collect());
    }

    fn put(&mut self, object: Object) {
        let pod = self.pod(object);
        pod.into_iter().for_each(|pod| self.pods.put(pod));
    }

    fn gone(&mut self, object: Object) {
        self.pod(object)
            .iter()
            .for_each(|pod| self.pods.remove(pod));
    }

    fn problem(&mut self, problem: Option<String>) {
        let problem = problem.map(|reason| format!(
            "this node's pods are not watched, and log records carry what was last known of theirs: {reason}"
        ));
        let before = self.pods.set_problem(problem.clone());
        match (before, problem) {
            (None, Some(problem)) => tracing::warn!("{problem}"),
            (Some(_), None) => {
                tracing::info!("the API server answers, and this node's pods are watched again");
            }
            _ => {}
        }
    }
}
