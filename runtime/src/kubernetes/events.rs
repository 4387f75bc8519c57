//! Events at the ConfigMaps of plugins: at most one write for each transition, spread over time, and
//! given up if the API server stays away. What they say the status endpoint says, too.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Access;
use super::watch::said;
use crate::manifest::Identity;
use crate::plugin::Transition;

/// What the Events say made them.
const CONTROLLER: &str = "bulkhead.dev/node-daemon";
/// Events that wait; more are dropped.
const QUEUE: usize = 256;
/// Nodes that see the same bad manifest shall not all write at once.
const SPREAD: Duration = Duration::from_secs(5);
/// So many Events may be written at once, and one more each pause.
const BURST: u32 = 25;
const PAUSE: Duration = Duration::from_secs(6);
/// How often a write is tried.
const TRIES: u32 = 5;
/// An Event that comes again within this time is counted, not written anew.
const SERIES: Duration = Duration::from_secs(1800);
/// How many of those are remembered.
const MOST_SERIES: usize = 512;
/// The API server takes no longer `note`.
const NOTE: usize = 1024;

/// Which Events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All.
    All,
    /// Those that somebody should look at.
    Warnings,
    /// None.
    Nothing,
}

/// Something to tell.
#[derive(Debug)]
struct Note {
    plugin: Identity,
    /// Of the ConfigMap.
    uid: Arc<str>,
    transition: Transition,
    message: String,
    /// When it came about.
    at: Timestamp,
    /// When to write it.
    due: Instant,
}

/// Where to put what is to be told. Clones share the queue.
#[derive(Debug, Clone)]
pub struct Events {
    wanted: Wanted,
    sender: mpsc::Sender<Note>,
    dropped: Arc<AtomicU64>,
}

impl Events {
    /// The other half writes them; to be run as a task.
    pub fn new(
        access: Access,
        node: &str,
        wanted: Wanted,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let (sender, notes) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            access,
            node: node.to_owned(),
            notes,
            dropped: dropped.clone(),
            series: HashMap::new(),
            budget: Budget::new(),
            complained: false,
        };
        let events = Self {
            wanted,
            sender,
            dropped,
        };
        (events, writer.run())
    }

    /// Tells of a transition, unless nobody wants to know. Does not block.
    pub fn tell(&self, plugin: &Identity, uid: Arc<str>, transition: Transition, message: &str) {
        let wanted = match self.wanted {
            Wanted::All => true,
            Wanted::Warnings => transition.is_warning(),
            Wanted::Nothing => false,
        };
        if !wanted {
            return;
        }
        let spread = spread(transition);
        let note = Note {
            plugin: plugin.clone(),
            uid,
            transition,
            message: message.to_owned(),
            at: Timestamp::now(),
            due: Instant::now() + spread,
        };
        if self.sender.try_send(note).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// How many writes may be made now.
struct Budget {
    left: f64,
    at: Instant,
}

impl Budget {
    fn new() -> Self {
        Self {
            left: f64::from(BURST),
            at: Instant::now(),
        }
    }

    /// How long until one may be made; it counts as made then.
    fn take(&mut self, now: Instant) -> Duration {
        let earned = now.duration_since(self.at).as_secs_f64() / PAUSE.as_secs_f64();
        self.at = now;
        self.left = (self.left + earned).min(f64::from(BURST)) - 1.0;
        match self.left < 0.0 {
            true => PAUSE.mul_f64(-self.left),
            false => Duration::ZERO,
        }
    }
}

/// What makes two Events the same.
type Key = (Identity, Transition, String);

/// An Event that was written.
struct Written {
    name: String,
    count: i32,
    at: Instant,
}

struct Writer {
    access: Access,
    node: String,
    notes: mpsc::Receiver<Note>,
    dropped: Arc<AtomicU64>,
    series: HashMap<Key, Written>,
    budget: Budget,
    /// Why nothing can be written is said once.
    complained: bool,
}

impl Writer {
    async fn run(mut self) {
        // In the order in which they are due; few wait at a time.
        let mut waiting: Vec<Note> = Vec::new();
        loop {
            waiting.sort_by_key(|note| std::cmp::Reverse(note.due));
            let due = waiting.last().map(|note| note.due);
            tokio::select! {
                note = self.notes.recv(), if waiting.len() < QUEUE => match note {
                    Some(note) => waiting.push(note),
                    None => return,
                },
                () = at(due) => if let Some(note) = waiting.pop() {
                    tokio::time::sleep(self.budget.take(Instant::now())).await;
                    self.write(note).await;
                },
            }
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                tracing::warn!(
                    dropped,
                    "Events were dropped: they came faster than they may be written"
                );
            }
        }
    }

    async fn write(&mut self, note: Note) {
        self.series
            .retain(|_, written| written.at.elapsed() < SERIES);
        let mut wait = Duration::from_secs(1);
        for tried in 1..=TRIES {
            let problem = match self.access.client().await {
                Ok(client) => match self.try_write(client, &note).await {
                    Ok(()) => {
                        self.complained = false;
                        return;
                    }
                    Err(error) if is_final(&error) => {
                        return self.complain(&said(
                            &error,
                            "the verbs create and patch on events of events.k8s.io there",
                        ));
                    }
                    Err(error) => said(&error, ""),
                },
                Err(error) => error.to_string(),
            };
            if tried == TRIES {
                return self.complain(&problem);
            }
            tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64())).await;
            wait *= 2;
        }
    }

    fn complain(&mut self, problem: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!("an Event could not be written and was given up: {problem}");
        }
    }

    async fn try_write(&mut self, client: Client, note: &Note) -> Result<(), kube::Error> {
        let api: Api<Event> = Api::namespaced(client, note.plugin.namespace());
        let key = (note.plugin.clone(), note.transition, note.message.clone());
        if let Some(written) = self.series.get_mut(&key) {
            let series = EventSeries {
                count: written.count + 1,
                last_observed_time: MicroTime(note.at),
            };
            let patch = Patch::Merge(json!({"series": series}));
            match api
                .patch(&written.name, &PatchParams::default(), &patch)
                .await
            {
                Ok(_) => {
                    written.count += 1;
                    written.at = Instant::now();
                    return Ok(());
                }
                // It has expired, which is what Events do.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let name = format!("{}.{:x}", note.plugin.name(), note.at.as_nanosecond());
        let kind = match note.transition.is_warning() {
            true => "Warning",
            false => "Normal",
        };
        let reason = note.transition.reason().to_owned();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(note.plugin.namespace().to_owned()),
                ..ObjectMeta::default()
            },
            action: Some(reason.clone()),
            reason: Some(reason),
            event_time: Some(MicroTime(note.at)),
            note: Some(shortened(&format!("{}: {}", self.node, note.message))),
            regarding: Some(ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("ConfigMap".to_owned()),
                name: Some(note.plugin.name().to_owned()),
                namespace: Some(note.plugin.namespace().to_owned()),
                uid: Some(note.uid.to_string()),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(shortened_to(&self.node, 128)),
            type_: Some(kind.to_owned()),
            ..Event::default()
        };
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => {}
            // The answer to an earlier try was lost.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error),
        }
        if self.series.len() < MOST_SERIES {
            let written = Written {
                name,
                count: 1,
                at: Instant::now(),
            };
            self.series.insert(key, written);
        }
        Ok(())
    }
}

/// How long a write is put off: what goes wrong mostly does so on many nodes at once.
fn spread(transition: Transition) -> Duration {
    match transition.is_warning() {
        true => SPREAD.mul_f64(fastrand::f64()),
        false => Duration::ZERO,
    }
}

/// Whether the server would say the same again: not if it is overloaded, or fails.
fn is_final(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code < 500 && status.code != 429)
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn shortened(text: &str) -> String {
    shortened_to(text, NOTE)
}

fn shortened_to(text: &str, most: usize) -> String {
    match text.len() > most {
        true => format!("{}...", &text[..text.floor_char_boundary(most - 3)]),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_burst_is_written_at_once_and_then_one_each_pause() {
        let mut budget = Budget::new();
        let begin = budget.at;
        for _ in 0..BURST {
            assert_eq!(budget.take(begin), Duration::ZERO);
        }
        assert_eq!(budget.take(begin), PAUSE);
        assert_eq!(budget.take(begin + PAUSE * 3), Duration::ZERO);
    }

    #[test]
    fn warnings_are_spread_and_nothing_else_is() {
        let mut waits: Vec<Duration> = (0..100).map(|_| spread(Transition::Refused)).collect();
        waits.sort();
        assert!(waits.iter().all(|wait| *wait < SPREAD));
        assert!(*waits.last().unwrap() - waits[0] > SPREAD / 2, "{waits:?}");
        assert_eq!(spread(Transition::Loaded), Duration::ZERO);
    }

    #[test]
    fn an_overloaded_server_is_asked_again() {
        let says = |code: u16| {
            let status = kube::core::Status {
                code,
                ..Default::default()
            };
            is_final(&kube::Error::Api(Box::new(status)))
        };
        assert_eq!(
            [403, 422, 429, 500, 503].map(says),
            [true, true, false, false, false]
        );
    }

    #[test]
    fn a_long_note_is_cut() {
        let long = "ä".repeat(NOTE);
        let cut = shortened(&long);
        assert!(cut.len() <= NOTE && cut.ends_with("ä..."));
        assert_eq!(shortened("short"), "short");
    }
}
