//! A watch of objects that goes on for ever: begun anew, with a growing wait, whenever it cannot go on.
//! Who is told is somebody else.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::Access;

/// How long until all is begun again after a failure: doubled each time, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long after a list the watch that follows it counts as begun: a server that is away, or does not
/// allow it, is noticed before.
const SETTLED: Duration = Duration::from_secs(15);

/// Is told of objects.
pub(crate) trait Follower<K>: Send {
    /// These are all there are.
    fn all(&mut self, objects: Vec<K>);
    /// One came or changed.
    fn put(&mut self, object: K);
    /// One is gone.
    fn gone(&mut self, object: K);
    /// The watch does not go on, for this reason, or goes on again. Told of each failure anew.
    fn problem(&mut self, problem: Option<String>);
}

/// What is watched.
pub(crate) struct Scope<K> {
    /// Which objects.
    pub(crate) api: fn(Client, &str) -> Api<K>,
    /// Their namespace; for objects without one of no meaning.
    pub(crate) namespace: String,
    /// Which of them, and how they are listed.
    pub(crate) config: Config,
    /// What the daemon's account must be allowed, for the message when it is not.
    pub(crate) rights: &'static str,
}

/// Watches, and tells the follower, for ever.
pub(crate) async fn keep_watching<K>(
    access: &Access,
    scope: &Scope<K>,
    follower: &mut dyn Follower<K>,
) -> std::convert::Infallible
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut failures = 0;
    loop {
        let begin = Instant::now();
        // All anew, from files that may have changed.
        let reason = match access.client().await {
            Ok(client) => watch(client, scope, follower).await,
            Err(error) => chain(&error),
        };
        follower.problem(Some(reason));
        // A watch that has worked for a while begins anew soon.
        if begin.elapsed() > LONGEST_WAIT {
            failures = 0;
        }
        let wait = FIRST_WAIT.saturating_mul(1 << failures).min(LONGEST_WAIT);
        // Nodes shall not come back all at once.
        tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64())).await;
        failures = (failures + 1).min(10);
    }
}

/// Watches until that fails, and says why.
async fn watch<K>(client: Client, scope: &Scope<K>, follower: &mut dyn Follower<K>) -> String
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let api = (scope.api)(client, &scope.namespace);
    let mut events = pin!(watcher(api, scope.config.clone()));
    let mut listed = Vec::new();
    let mut settled: Option<Instant> = None;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = until(settled) => {
                settled = None;
                follower.problem(None);
                continue;
            }
        };
        match event {
            Some(Ok(Event::Init)) => listed.clear(),
            Some(Ok(Event::InitApply(object))) => listed.push(object),
            Some(Ok(Event::InitDone)) => {
                follower.all(std::mem::take(&mut listed));
                // Nothing tells that the watch after it has begun; only that it could not.
                settled = Some(Instant::now() + SETTLED);
            }
            Some(Ok(Event::Apply(object))) => {
                follower.put(object);
                follower.problem(None);
            }
            Some(Ok(Event::Delete(object))) => {
                follower.gone(object);
                follower.problem(None);
            }
            // It is begun again where it was, and fails in another way if the server is away.
            Some(Err(watcher::Error::WatchFailed(_) | watcher::Error::WatchError(_))) => {
                tokio::time::sleep(FIRST_WAIT).await;
            }
            Some(Err(error)) => return reason(&error, scope.rights),
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

/// What happened and what to do.
fn reason(error: &watcher::Error, rights: &str) -> String {
    let cause = match error {
        watcher::Error::InitialListFailed(cause) | watcher::Error::WatchStartFailed(cause) => cause,
        other => return other.to_string(),
    };
    said(cause, rights)
}

/// What the API server, or the way to it, said, and what to do.
pub(crate) fn said(error: &kube::Error, rights: &str) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "{}; the daemon's ServiceAccount needs {rights}, as in deploy/kustomize/base/rbac.yaml",
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
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
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
