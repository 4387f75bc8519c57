//! The cluster, as far as this node needs it: how its API server is reached and watched, what it says of
//! the node's pods, of Secrets, of parts of modules and of those who ask for the status, and the Events
//! that it is told. Everything else works without: a server that is away, or none at all, delays nothing.
//! Manifests are the affair of `source`.

mod access;
mod cache;
mod events;
mod follow;
mod parts;
mod pod;
mod review;
mod secrets;
pub(crate) mod watch;

pub use access::{Access, Error};
pub use cache::{Asked, Pods};
pub use events::{Events, Wanted as WantedEvents};
pub use follow::follow;
pub use parts::ConfigMapParts;
pub use pod::Pod;
pub use review::{ApiReviewer, Reviewer, Unavailable, User};
pub use secrets::ClusterSecrets;
pub(crate) use secrets::SecretKey;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod testing {
    use super::{Pod, Pods};
    use crate::manifest::PodMetadata;

    /// Has a pod come or change, of which everything is kept.
    pub(crate) fn put(pods: &Pods, meta: serde_json::Value) {
        let meta = serde_json::from_value(meta).unwrap();
        let all = PodMetadata::default();
        pods.put(Pod::new(meta, &[all]).unwrap());
    }
}
