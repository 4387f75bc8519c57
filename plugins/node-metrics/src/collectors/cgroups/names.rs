//! Whose a control group is: from the names of folders, and of the log files that the kubelet makes.

use std::collections::HashMap;

use bulkhead_sdk::metrics::Entry;

/// Whom series are of. Without a container, of the pod itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner<'a> {
    namespace: &'a str,
    pod: &'a str,
    pub(super) container: Option<&'a str>,
}

impl<'a> Owner<'a> {
    pub(super) fn labels(&self) -> Vec<(&'a str, &'a str)> {
        let mut labels = vec![("namespace", self.namespace), ("pod", self.pod)];
        labels.extend(self.container.map(|container| ("container", container)));
        labels
    }
}

/// The pods and containers of the node.
#[derive(Debug)]
pub(super) struct Names<'a> {
    by_container: HashMap<&'a str, Owner<'a>>,
    by_pod: HashMap<&'a str, Owner<'a>>,
}

impl<'a> Names<'a> {
    /// Of the names of `/var/log/containers/*.log` and `/var/log/pods/*`.
    pub(super) fn new(
        containers: impl Iterator<Item = Entry<'a>>,
        pods: impl Iterator<Item = Entry<'a>>,
    ) -> Self {
        Self {
            by_container: containers.filter_map(|file| log(file.name())).collect(),
            by_pod: pods.filter_map(|file| folder(file.name())).collect(),
        }
    }

    pub(super) fn owner(&self, pod: &str, container: &str) -> Option<Owner<'a>> {
        self.by_container
            .get(container)
            .or_else(|| self.by_pod.get(pod))
            .cloned()
    }
}

/// `POD_NAMESPACE_CONTAINER-ID.log`
fn log(name: &str) -> Option<(&str, Owner<'_>)> {
    let (pod, rest) = name.strip_suffix(".log")?.split_once('_')?;
    let (namespace, rest) = rest.split_once('_')?;
    let (container, id) = rest.rsplit_once('-')?;
    let owner = Owner {
        namespace,
        pod,
        container: Some(container),
    };
    Some((id, owner))
}

/// `NAMESPACE_POD_UID`
fn folder(name: &str) -> Option<(&str, Owner<'_>)> {
    let (namespace, rest) = name.split_once('_')?;
    let (pod, uid) = rest.split_once('_')?;
    let owner = Owner {
        namespace,
        pod,
        container: None,
    };
    Some((uid, owner))
}

/// Of `podUID`, `kubepods-podUID.slice` or `kubepods-burstable-podUID.slice`. A slice has underscores
/// for hyphens, since those part it from its parents.
pub(super) fn pod_uid(folder: &str) -> Option<String> {
    let (_, uid) = folder
        .strip_suffix(".slice")
        .unwrap_or(folder)
        .rsplit_once("pod")?;
    let uid = uid.replace('_', "-");
    let is_uid = !uid.is_empty() && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    is_uid.then_some(uid)
}

/// Of `ID`, or `cri-containerd-ID.scope`, `crio-ID.scope` and the like. CRI-O's monitor of a container
/// (`crio-conmon-ID.scope`) is not the container.
pub(super) fn container_id(folder: &str) -> Option<&str> {
    let name = folder.strip_suffix(".scope").unwrap_or(folder);
    let (runtime, id) = name.rsplit_once('-').unwrap_or(("", name));
    let is_id = id.len() >= 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_id && !runtime.ends_with("conmon")).then_some(id)
}
