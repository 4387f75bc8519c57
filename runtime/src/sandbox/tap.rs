//! What a plugin is called with, what it asks the host meanwhile, and what it answers: for somebody who was let
//! listen. Nobody does as a rule, and then nothing is kept and nothing is spent on it.
//!
//! An instance that is made while somebody listens gets random numbers from a seed that is told, and its wall
//! clock stands still during a call, so that the same calls have the same answers when they are made again.

mod value;

use std::io::Read as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;
use wasmtime_wasi::HostWallClock;

use super::failure::Failure;

pub(super) use value::{bytes, encode, number};

/// One call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Told {
    /// Which instance of the plugin was called, from 1.
    pub instance: u64,
    /// Calls before this one that came faster than they were taken, and are missing.
    #[serde(skip_serializing_if = "is_none_missing")]
    pub missing: u64,
    /// `logs.process`, for example; `instantiate` for the start of the instance.
    pub call: String,
    /// What the wall clock of the guest shows meanwhile, in nanoseconds since 1970.
    pub time: u64,
    /// How long it took, in microseconds.
    pub micros: u64,
    /// In the order of the contract.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<Value>,
    /// What the guest asked the host, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<Imported>,
    /// What it answered; of `instantiate`, the seed.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub result: Value,
    /// Why it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The guest's frames then, innermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<String>,
}

/// A call of the guest to the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Imported {
    /// `state.get`, for example.
    pub call: String,
    /// In the order of the contract.
    pub arguments: Vec<Value>,
    /// The host's answer.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub answer: Value,
}

fn is_none_missing(missing: &u64) -> bool {
    *missing == 0
}

impl Told {
    /// Roughly the bytes that it takes.
    fn size(&self) -> usize {
        let imports = self
            .imports
            .iter()
            .flat_map(|it| it.arguments.iter().chain([&it.answer]));
        let values = self.arguments.iter().chain([&self.result]).chain(imports);
        size_of::<Self>() + values.map(weigh).sum::<usize>()
    }
}

fn weigh(value: &Value) -> usize {
    let below = match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(weigh).sum(),
        Value::Object(members) => members
            .iter()
            .map(|(name, it)| name.len() + weigh(it))
            .sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    size_of::<Value>() + below
}

/// Bytes of calls that may wait for whoever listens.
const WAITING: usize = 16 << 20;

/// Where somebody listens to one plugin, whatever instances it has; clones are the same place.
#[derive(Debug, Clone, Default)]
pub struct Tap(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    on: AtomicBool,
    listener: Mutex<Option<mpsc::Sender<Told>>>,
    lost: AtomicU64,
    /// Of these, since the last that was taken.
    missing: AtomicU64,
    /// Bytes of the calls that wait.
    waiting: AtomicUsize,
    instances: AtomicU64,
}

impl Tap {
    /// Listens, until the calls are dropped. `None` if somebody does already.
    pub fn listen(&self, queue: usize) -> Option<Calls> {
        let mut listener = self
            .0
            .listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if listener.is_some() {
            return None;
        }
        let (sender, receiver) = mpsc::channel(queue);
        *listener = Some(sender);
        self.0.lost.store(0, Ordering::Relaxed);
        self.0.missing.store(0, Ordering::Relaxed);
        self.0.waiting.store(0, Ordering::Relaxed);
        self.0.on.store(true, Ordering::Relaxed);
        let tap = self.clone();
        Some(Calls { receiver, tap })
    }

    /// How many calls the listener was too slow for.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    fn is_on(&self) -> bool {
        self.0.on.load(Ordering::Relaxed)
    }

    fn tell(&self, mut told: Told) {
        let listener = self
            .0
            .listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = listener.as_ref() else {
            return;
        };
        let size = told.size();
        let waiting = self.0.waiting.load(Ordering::Relaxed);
        let fits = waiting == 0 || waiting.saturating_add(size) <= WAITING;
        // A guest is never held up for who listens.
        if fits {
            told.missing = self.0.missing.load(Ordering::Relaxed);
            self.0.waiting.fetch_add(size, Ordering::Relaxed);
            if sender.try_send(told).is_ok() {
                self.0.missing.store(0, Ordering::Relaxed);
                return;
            }
            self.0.waiting.fetch_sub(size, Ordering::Relaxed);
        }
        self.0.lost.fetch_add(1, Ordering::Relaxed);
        self.0.missing.fetch_add(1, Ordering::Relaxed);
    }
}

/// What somebody who listens hears.
#[derive(Debug)]
pub struct Calls {
    receiver: mpsc::Receiver<Told>,
    tap: Tap,
}

impl Calls {
    /// The next call; none once the plugin is gone.
    pub async fn recv(&mut self) -> Option<Told> {
        let told = self.receiver.recv().await?;
        self.tap.0.waiting.fetch_sub(told.size(), Ordering::Relaxed);
        Some(told)
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        let shared = &self.tap.0;
        let mut listener = shared
            .listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        shared.on.store(false, Ordering::Relaxed);
        *listener = None;
    }
}

/// What one instance keeps of the call under way.
#[derive(Debug, Default)]
pub(super) struct Listening {
    tap: Tap,
    instance: u64,
    arguments: Vec<Value>,
    imports: Vec<Imported>,
    clock: Frozen,
}

impl Listening {
    /// For a fresh instance: with the seed for its random numbers, if somebody listens.
    pub(super) fn begin(tap: Tap) -> (Self, Option<[u8; 32]>) {
        let seed = if tap.is_on() { fresh_seed() } else { None };
        let this = Self {
            instance: tap.0.instances.fetch_add(1, Ordering::Relaxed) + 1,
            tap,
            ..Self::default()
        };
        if let Some(seed) = &seed {
            this.tap.tell(Told {
                instance: this.instance,
                call: "instantiate".to_owned(),
                time: now(),
                result: bytes(seed),
                ..Told::default()
            });
        }
        (this, seed)
    }

    /// A copy for whoever listens.
    pub(super) fn copy<T: Clone>(&self, value: &T) -> Option<T> {
        self.tap.is_on().then(|| value.clone())
    }

    pub(super) fn clock(&self) -> Frozen {
        self.clock.clone()
    }

    /// Has the guest's clock stand still, at this time if one is given.
    pub(super) fn freeze(&mut self, time: Option<u64>) {
        if self.tap.is_on() || time.is_some() {
            self.clock
                .0
                .store(time.unwrap_or_else(now), Ordering::Relaxed);
        }
    }

    /// What the call is made with: a tuple.
    pub(super) fn arguments(&mut self, arguments: &impl Serialize) {
        if self.tap.is_on() {
            self.arguments = list(arguments);
        }
    }

    /// What the guest asked, and what it got.
    pub(super) fn imported(
        &mut self,
        call: &str,
        arguments: &impl Serialize,
        answer: &impl Serialize,
    ) {
        if self.tap.is_on() {
            self.imports.push(Imported {
                call: call.to_owned(),
                arguments: list(arguments),
                answer: encode(answer),
            });
        }
    }

    /// The call is over.
    pub(super) fn end<R: Serialize>(
        &mut self,
        call: &str,
        took: Duration,
        outcome: Result<&R, &Failure>,
    ) {
        let time = self.clock.0.swap(0, Ordering::Relaxed);
        let arguments = std::mem::take(&mut self.arguments);
        let imports = std::mem::take(&mut self.imports);
        if !self.tap.is_on() {
            return;
        }
        self.tap.tell(Told {
            instance: self.instance,
            missing: 0,
            call: call.to_owned(),
            time,
            micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            arguments,
            imports,
            result: outcome.map_or(Value::Null, |answer| encode(answer)),
            failure: outcome.err().map(ToString::to_string),
            backtrace: outcome.map_or_else(|failure| failure.backtrace.clone(), |_| Vec::new()),
        });
    }
}

/// From the kernel: what comes of it is as good as what the guest would have got.
fn fresh_seed() -> Option<[u8; 32]> {
    let mut seed = [0; 32];
    let mut source = std::fs::File::open("/dev/urandom").ok()?;
    source.read_exact(&mut seed).ok()?;
    Some(seed)
}

fn list(arguments: &impl Serialize) -> Vec<Value> {
    match encode(arguments) {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(1, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

/// A guest's wall clock: the node's, unless it stands still.
#[derive(Debug, Clone, Default)]
pub(super) struct Frozen(Arc<AtomicU64>);

impl HostWallClock for Frozen {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        match self.0.load(Ordering::Relaxed) {
            0 => Duration::from_nanos(now()),
            time => Duration::from_nanos(time),
        }
    }
}
