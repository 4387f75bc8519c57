//! The cluster, as far as this node needs it: how its API server is reached, and what it says of the
//! node's pods and of those who ask for the status. Everything else works without: a server that is
//! away, or none at all, delays nothing.

mod access;
mod cache;
mod pod;
mod review;
mod watch;

pub use access::{Access, Error};
pub use cache::{Asked, Pods};
pub use pod::Pod;
pub use review::{ApiReviewer, Reviewer, Unavailable, User};
pub use watch::follow;

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
