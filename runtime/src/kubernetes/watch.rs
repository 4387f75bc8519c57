//! The one watch of this node's pods. Only their metadata comes over the wire, and of that only what
//! manifests ask for is kept. Without a manifest that asks, there is no watch.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod as ApiPod;
use kube::Api;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::time::Instant;

use super::{Access, Pod, Pods};
use crate::manifest::PodMetadata;

/// How long the watch goes on when nobody asks any more: a plugin that changes soon asks again.
const LINGER: Duration = Duration::from_secs(60);
/// How long until all is begun again after a failure: doubled each time, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long after a list the watch that follows it counts as begun: a server that is away, or does not
/// allow it, is noticed before.
const SETTLED: Duration = Duration::from_secs(15);
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
        tokio::select! {
            () = change => {}
            () = keep_watching(&pods, &access, &wanted) => {}
        }
        if asking.now().is_empty() {
            pods.set_problem(None);
            pods.clear();
        }
    }
}

async fn keep_watching(pods: &Pods, access: &Access, wanted: &[PodMetadata]) {
    let mut failures = 0;
    loop {
        // All anew, from files that may have changed.
        let reason = match access.client().await {
            Ok(client) => watch(pods, client, wanted).await,
            Err(error) => chain(&error),
        };
        let problem = format!(
            "this node's pods are not watched, and log records carry what was last known of theirs: {reason}"
        );
        if pods.set_problem(Some(problem.clone())).is_none() {
            tracing::warn!("{problem}");
            failures = 0;
        }
        let wait = FIRST_WAIT.saturating_mul(1 << failures).min(LONGEST_WAIT);
        // Nodes shall not come back all at once.
        tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64())).await;
        failures = (failures + 1).min(10);
    }
}

/// Watches until that fails, and says why.
async fn watch(pods: &Pods, client: kube::Client, wanted: &[PodMetadata]) -> String {
    let selector = format!("spec.nodeName={}", pods.node());
    // From the server's memory: what is missing there comes with the watch.
    let config = watcher::Config::default().fields(&selector).any_semantic();
    let api: Api<PartialObjectMeta<ApiPod>> = Api::all(client);
    let mut events = pin!(watcher(api, config));
    let mut forget = tokio::time::interval(FORGET);
    let mut listed = Vec::new();
    let mut settled: Option<Instant> = None;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = forget.tick() => {
                pods.forget();
                continue;
            }
            () = until(settled) => {
                settled = None;
                well(pods);
                continue;
            }
        };
        let of = |object: PartialObjectMeta<ApiPod>| Pod::new(object.metadata, wanted);
        match event {
            Some(Ok(Event::Init)) => listed.clear(),
            Some(Ok(Event::InitApply(object))) => listed.extend(of(object)),
            Some(Ok(Event::InitDone)) => {
                pods.replace(std::mem::take(&mut listed));
                // Nothing tells that the watch after it has begun; only that it could not.
                settled = Some(Instant::now() + SETTLED);
            }
            Some(Ok(Event::Apply(object))) => {
                of(object).into_iter().for_each(|pod| pods.put(pod));
                well(pods);
            }
            Some(Ok(Event::Delete(object))) => {
                of(object).iter().for_each(|pod| pods.remove(pod));
                well(pods);
            }
            // It is begun again where it was, and fails in another way if the server is away.
            Some(Err(watcher::Error::WatchFailed(_) | watcher::Error::WatchError(_))) => {
                tokio::time::sleep(FIRST_WAIT).await;
            }
            Some(Err(error)) => return reason(&error),
            None => return "the watch ended".to_owned(),
        }
    }
}

/// Waits for that time; for ever if there is none.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn well(pods: &Pods) {
    if pods.set_problem(None).is_some() {
        tracing::info!("the API server answers, and this node's pods are watched again");
    }
}

/// What happened and what to do.
fn reason(error: &watcher::Error) -> String {
    let cause = match error {
        watcher::Error::InitialListFailed(cause) | watcher::Error::WatchStartFailed(cause) => cause,
        other => return other.to_string(),
    };
    match cause {
        kube::Error::Api(status) if status.code == 403 => format!(
            "{}; the daemon's ServiceAccount needs the verbs list and watch on pods, as in deploy/kustomize/base/rbac.yaml",
            status.message
        ),
        kube::Error::Api(status) if status.code == 401 => format!(
            "the API server does not accept the daemon's token ({}); is it of this cluster?",
            status.message
        ),
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => chain(other),
    }
}

/// An error with its causes, where it does not name them itself.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
