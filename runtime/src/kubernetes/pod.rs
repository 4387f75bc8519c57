//! One pod, reduced to what its lines may carry.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::manifest::PodMetadata;

/// The most bytes of names and values that are kept of a pod: each line carries them.
const MOST: usize = 16 << 10;
/// What a Deployment's controller puts between its name and the ReplicaSet's, as the label's value.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// The name of a static pod's folder, which the kubelet makes before the API server knows the pod.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// How far a CronJob's pod may be from the time that its Job is named after, in seconds.
const CRON_LATE: i64 = 86_400;

/// A name and its value.
type Pair = (Box<str>, Box<str>);

/// A pod of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
    /// As in the name of its logs' folder.
    pub(super) uid: Box<str>,
    labels: Box<[Pair]>,
    annotations: Box<[Pair]>,
    /// Attributes: the controller, and what that belongs to.
    owners: Box<[Pair]>,
    /// How many labels and annotations had no room.
    pub(super) left_out: usize,
}

impl Pod {
    /// Keeps of `meta` what one of `wanted` asks for. None if it is no pod that has a log.
    pub(super) fn new(meta: ObjectMeta, wanted: &[PodMetadata]) -> Option<Self> {
        let owners = match wanted.iter().any(|wanted| wanted.owner) {
            true => owners(&meta),
            false => Vec::new(),
        };
        let mut annotations = meta.annotations.unwrap_or_default();
        let uid = annotations.get(MIRROR).cloned().or(meta.uid)?;
        let mut labels = meta.labels.unwrap_or_default();
        labels.retain(|name, _| wanted.iter().any(|wanted| wanted.labels.contain(name)));
        annotations.retain(|name, _| {
            let mut globs = wanted.iter().flat_map(|wanted| &wanted.annotations);
            globs.any(|glob| glob.matches(name))
        });
        let (mut room, mut left_out) = (MOST, 0);
        let mut keep = |pairs: std::collections::BTreeMap<String, String>| -> Box<[Pair]> {
            let fits = pairs.into_iter().filter(|(name, value)| {
                let rest = room.checked_sub(name.len() + value.len());
                room = rest.unwrap_or(room);
                left_out += usize::from(rest.is_none());
                rest.is_some()
            });
            fits.map(|(name, value)| (name.into(), value.into()))
                .collect()
        };
        Some(Self {
            namespace: meta.namespace?.into(),
            name: meta.name?.into(),
            uid: uid.into(),
            labels: keep(labels),
            annotations: keep(annotations),
            owners: owners.into(),
            left_out,
        })
    }

    /// What `wanted` asks for, by the names of the OpenTelemetry semantic conventions.
    pub fn attributes<'a>(
        &'a self,
        wanted: &'a PodMetadata,
    ) -> impl Iterator<Item = (String, &'a str)> {
        let labels = self.labels.iter();
        let labels = labels.filter(|(name, _)| wanted.labels.contain(name));
        let annotations = self.annotations.iter().filter(|(name, _)| {
            let mut globs = wanted.annotations.iter();
            globs.any(|glob| glob.matches(name))
        });
        let owners = self.owners.iter().filter(|_| wanted.owner);
        let owners = owners.map(|(name, value)| (name.to_string(), &**value));
        let named = |prefix: &'static str| {
            move |(name, value): &'a Pair| (format!("{prefix}{name}"), &**value)
        };
        owners
            .chain(labels.map(named("k8s.pod.label.")))
            .chain(annotations.map(named("k8s.pod.annotation.")))
    }
}

/// The controller and, by the rules after which controllers name what they make, its own.
fn owners(meta: &ObjectMeta) -> Vec<Pair> {
    let mut owners = Vec::new();
    let references = meta.owner_references.iter().flatten();
    let Some(controller) = references.into_iter().find(|r| r.controller == Some(true)) else {
        return owners;
    };
    let mut push = |kind: &str, name: &str| {
        let attribute = format!("k8s.{}.name", kind.to_ascii_lowercase());
        owners.push((attribute.into(), name.into()));
    };
    push(&controller.kind, &controller.name);
    if let Some(deployment) = deployment(meta, controller) {
        push("deployment", deployment);
    } else if let Some(cron_job) = cron_job(meta, controller) {
        push("cronjob", cron_job);
    }
    owners
}

/// A Deployment's ReplicaSet is called `DEPLOYMENT-HASH`, and its pods have the hash as a label.
fn deployment<'a>(meta: &ObjectMeta, controller: &'a OwnerReference) -> Option<&'a str> {
    if controller.kind != "ReplicaSet" || !controller.api_version.starts_with("apps/") {
        return None;
    }
    let hash = meta.labels.as_ref()?.get(TEMPLATE_HASH)?;
    let name = controller.name.strip_suffix(hash.as_str())?;
    name.strip_suffix('-').filter(|name| !name.is_empty())
}

/// A CronJob's Job is called `CRONJOB-TIME`: minutes since 1970, before 1.21 seconds. A number that
/// is not the pod's time is of somebody else.
fn cron_job<'a>(meta: &ObjectMeta, controller: &'a OwnerReference) -> Option<&'a str> {
    if controller.kind != "Job" || !controller.api_version.starts_with("batch/") {
        return None;
    }
    let (name, time) = controller.name.rsplit_once('-')?;
    let time: i64 = time.parse().ok()?;
    let created = meta.creation_timestamp.as_ref()?.0.as_second();
    let near = |time: i64| (created - time).abs() <= CRON_LATE;
    (near(time.checked_mul(60)?) || near(time)).then_some(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(meta: Value, wanted: Value) -> Vec<(String, String)> {
        let wanted: PodMetadata = serde_json::from_value(wanted).unwrap();
        let pod = stripped(meta, &wanted);
        let attributes = pod.attributes(&wanted);
        attributes
            .map(|(name, value)| (name, value.to_owned()))
            .collect()
    }

    fn stripped(mut meta: Value, wanted: &PodMetadata) -> Pod {
        for (name, value) in [("namespace", "shop"), ("name", "web-0"), ("uid", "1f2e")] {
            meta[name] = value.into();
        }
        let meta = serde_json::from_value(meta).unwrap();
        Pod::new(meta, std::slice::from_ref(wanted)).unwrap()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn owned(kind: &str, version: &str, name: &str, more: Value) -> Vec<(String, String)> {
        let mut meta = more;
        meta["ownerReferences"] = json!([
            {"apiVersion": "v1", "kind": "Other", "name": "not-me", "uid": "1"},
            {"apiVersion": version, "kind": kind, "name": name, "uid": "2", "controller": true},
        ]);
        pod(meta, json!({"labels": false}))
    }

    #[test]
    fn a_deployment_is_known_by_the_hash_of_its_template() {
        let hash = json!({"labels": {"pod-template-hash": "5d4f8"}});
        let owned = |version: &str, name: &str| owned("ReplicaSet", version, name, hash.clone());
        let both = [
            ("k8s.replicaset.name", "web-app-5d4f8"),
            ("k8s.deployment.name", "web-app"),
        ];
        assert_eq!(owned("apps/v1", "web-app-5d4f8"), pairs(&both));
        for name in ["web-app", "web-app5d4f8", "-5d4f8", "5d4f8"] {
            let alone = pairs(&[("k8s.replicaset.name", name)]);
            assert_eq!(owned("apps/v1", name), alone);
        }
        assert_eq!(owned("other/v1", "web-app-5d4f8"), pairs(&both[..1]));
    }

    #[test]
    fn a_cron_job_is_known_by_the_time_of_its_job() {
        let created = json!({"creationTimestamp": "2026-01-02T03:04:05Z"});
        let owned = |name: &str| owned("Job", "batch/v1", name, created.clone());
        for name in ["backup-29454424", "backup-1767323040"] {
            let both = [("k8s.job.name", name), ("k8s.cronjob.name", "backup")];
            assert_eq!(owned(name), pairs(&both));
        }
        for name in [
            "backup-20260102",
            "backup",
            "backup-1",
            "b-9223372036854775807",
        ] {
            assert_eq!(owned(name), pairs(&[("k8s.job.name", name)]));
        }
    }

    #[test]
    fn other_controllers_have_their_kind_as_name() {
        let rollout = owned("Rollout", "argoproj.io/v1alpha1", "web", json!({}));
        assert_eq!(rollout, pairs(&[("k8s.rollout.name", "web")]));
        let set = owned("StatefulSet", "apps/v1", "db", json!({}));
        assert_eq!(set, pairs(&[("k8s.statefulset.name", "db")]));
        assert_eq!(pod(json!({}), json!({})), []);
    }

    #[test]
    fn only_what_is_asked_for_is_kept() {
        let meta = json!({
            "labels": {"app": "web", "app.kubernetes.io/name": "web", "tier": "front"},
            "annotations": {"team": "a", "secret": "b"},
        });
        let wanted = json!({"labels": ["app.*/*", "tier"], "annotations": ["team"]});
        let kept = [
            ("k8s.pod.label.app.kubernetes.io/name", "web"),
            ("k8s.pod.label.tier", "front"),
            ("k8s.pod.annotation.team", "a"),
        ];
        assert_eq!(pod(meta.clone(), wanted.clone()), pairs(&kept));
        let stripped = stripped(meta, &serde_json::from_value(wanted).unwrap());
        assert_eq!((stripped.labels.len(), stripped.annotations.len()), (2, 1));
    }

    #[test]
    fn what_one_manifest_asks_for_another_does_not_get() {
        let wanted = |value: Value| serde_json::from_value::<PodMetadata>(value).unwrap();
        let (all, few) = (wanted(json!({})), wanted(json!({"labels": ["a"]})));
        let meta =
            json!({"namespace": "n", "name": "p", "uid": "u", "labels": {"a": "1", "b": "2"}});
        let meta = serde_json::from_value(meta).unwrap();
        let pod = Pod::new(meta, &[few.clone(), all.clone()]).unwrap();
        assert_eq!(pod.attributes(&all).count(), 2);
        assert_eq!(pod.attributes(&few).count(), 1);
    }

    #[test]
    fn a_pod_is_bounded() {
        let long = "x".repeat(MOST / 2);
        let meta = json!({"annotations": {"a": long, "b": long, "c": "fits"}});
        let wanted = serde_json::from_value(json!({"annotations": ["*"]})).unwrap();
        let pod = stripped(meta, &wanted);
        let names: Vec<_> = pod.attributes(&wanted).map(|(name, _)| name).collect();
        assert_eq!(names, ["k8s.pod.annotation.a", "k8s.pod.annotation.c"]);
        assert_eq!(pod.left_out, 1);
    }

    #[test]
    fn a_static_pod_is_found_by_the_name_of_its_folder() {
        let mirror = json!({"annotations": {MIRROR: "0abc"}});
        assert_eq!(&*stripped(mirror, &PodMetadata::default()).uid, "0abc");
    }
}
