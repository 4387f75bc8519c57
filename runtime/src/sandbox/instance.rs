//! One instance: a store that runs a module under limits, and the calls into it.
//!
//! An instance belongs to exactly one task. After a failure it is dead, and every further call says
//! so: the store of a guest that trapped cannot be entered again, and its memory is not to be trusted.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use serde::Serialize;
use wasmtime::component::{ComponentExportIndex, Func};
use wasmtime::{AsContextMut, Store, StoreContextMut, UpdateDeadline};

use super::bindings::plugin::exports::bulkhead::plugin::lifecycle;
use super::bindings::{self};
use super::engine::Clock;
use super::failure::{Cause, Failure};
use super::host::Host;
use super::limits::thread_cpu_time;
use super::puppet::Functions;

pub use lifecycle::{Description, Refusal, SnapshotData};

/// What all instances of a plugin have used together; shared with whoever asks.
#[derive(Debug, Default)]
pub struct Usage {
    cpu_nanos: AtomicU64,
    calls: AtomicU64,
    memory: AtomicU64,
}

impl Usage {
    /// CPU time spent in guest calls.
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_nanos.load(Ordering::Relaxed))
    }

    /// Calls made.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Bytes of guest memory after the latest call.
    pub fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// The instance is gone, and its memory with it.
    pub(crate) fn clear_memory(&self) {
        self.memory.store(0, Ordering::Relaxed);
    }
}

/// The functions of the roles that the component exports. A new role adds a field.
pub(super) struct Exports {
    pub(super) raw: wasmtime::component::Instance,
    pub(super) functions: Functions,
    pub(super) lifecycle: lifecycle::Guest,
    pub(super) logs: Option<bindings::logs::exports::bulkhead::plugin::logs::Guest>,
    pub(super) metrics: Option<bindings::metrics::exports::bulkhead::plugin::metrics::Guest>,
    pub(super) enforcement:
        Option<bindings::enforcement::exports::bulkhead::plugin::enforcement::Guest>,
    pub(super) scanning: Option<bindings::scanning::exports::bulkhead::plugin::scanning::Guest>,
}

/// Bounds on each call.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallLimits {
    pub(super) deadline: Duration,
    pub(super) output: usize,
}

/// Tells blueprints apart, and so the revisions that instances belong to. The default is of none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlueprintId(u64);

impl BlueprintId {
    /// One that no other blueprint has.
    pub(super) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// A running plugin.
pub struct Instance {
    blueprint: BlueprintId,
    store: Store<Host>,
    exports: Exports,
    limits: CallLimits,
    clock: Clock,
    usage: Arc<Usage>,
    dead: Option<Failure>,
    retired: bool,
    amid: bool,
    notes: Vec<Box<dyn Any + Send>>,
    /// At which time the guest's clock stands still during the next call.
    hold: Option<u64>,
}

/// A call's future, as [`Instance::call`] wants it.
pub type Call<'a, R> = Pin<Box<dyn Future<Output = wasmtime::Result<R>> + Send + 'a>>;

/// Says that what a call captures (`'env`) outlives the call (`'a`); without it a closure over any
/// store's lifetime could capture nothing borrowed.
pub type Scope<'a, 'env> = std::marker::PhantomData<&'a &'env ()>;

impl Instance {
    pub(super) async fn new(
        blueprint: BlueprintId,
        mut store: Store<Host>,
        instantiate: impl AsyncInstantiate,
        limits: CallLimits,
        clock: Clock,
        usage: Arc<Usage>,
    ) -> Result<Self, Failure> {
        store.limiter(|host| &mut host.memory);
        store.epoch_deadline_callback(|_| {
            Ok(UpdateDeadline::YieldCustom(
                1,
                Box::pin(tokio::task::yield_now()),
            ))
        });
        let instantiated = bounded(
            "instantiate",
            &mut store,
            limits,
            &clock,
            &usage,
            |store, _| instantiate.instantiate(store),
        )
        .await;
        let exports = instantiated?;
        Ok(Self {
            blueprint,
            store,
            exports,
            limits,
            clock,
            usage,
            dead: None,
            retired: false,
            amid: false,
            notes: Vec::new(),
            hold: None,
        })
    }

    /// Keeps what a role learned when it made this instance ready, instead of what it kept before.
    pub fn note<T: Any + Send>(&mut self, note: T) {
        self.notes.retain(|known| !known.is::<T>());
        self.notes.push(Box::new(note));
    }

    /// What was kept by [`Self::note`].
    pub fn noted<T: Any + Send>(&self) -> Option<&T> {
        self.notes.iter().find_map(|note| note.downcast_ref())
    }

    /// Bytes of its memory, which never shrinks.
    pub fn memory(&self) -> u64 {
        self.store.data().memory.used()
    }

    /// Whether its memory has what the next piece of work needs, and no snapshot has: then no fresh instance
    /// takes its place as long as it works.
    pub fn set_amid(&mut self, amid: bool) {
        self.amid = amid;
    }

    /// See [`Self::set_amid`].
    pub(crate) fn is_amid(&self) -> bool {
        self.amid
    }

    /// A fresh instance is to take its place, as a successor does.
    pub fn retire(&mut self) {
        self.retired = true;
    }

    /// Its memory is what the plugin uses from here on.
    pub(crate) fn count_memory(&self) {
        self.usage.memory.store(self.memory(), Ordering::Relaxed);
    }

    /// Whether it has just retired.
    pub(crate) fn take_retired(&mut self) -> bool {
        std::mem::take(&mut self.retired)
    }

    /// Calls the guest within the limits. `function` names the call in messages.
    ///
    /// # Errors
    /// Any failure, after which this instance is dead.
    pub async fn call<'env, R: Serialize>(
        &mut self,
        function: &'static str,
        call: impl for<'a> FnOnce(&'a mut Store<Host>, Scope<'a, 'env>) -> Call<'a, R>,
    ) -> Result<R, Failure> {
        if let Some(failure) = &self.dead {
            return Err(failure.clone());
        }
        let hold = self.hold.take();
        self.store.data_mut().listening.freeze(hold);
        let begin = Instant::now();
        let result = bounded(
            function,
            &mut self.store,
            self.limits,
            &self.clock,
            &self.usage,
            call,
        )
        .await;
        let listening = &mut self.store.data_mut().listening;
        listening.end(function, begin.elapsed(), result.as_ref());
        if let Err(failure) = &result {
            self.dead = Some(failure.clone());
        }
        result
    }

    pub(super) fn functions(&self) -> &Functions {
        &self.exports.functions
    }

    /// An exported function, and the store to look at it with.
    pub(super) fn exported(
        &mut self,
        index: ComponentExportIndex,
    ) -> (Option<Func>, StoreContextMut<'_, Host>) {
        let function = self.exports.raw.get_func(&mut self.store, index);
        (function, self.store.as_context_mut())
    }

    pub(super) fn hold(&mut self, time: Option<u64>) {
        self.hold = time;
    }

    /// What it is an instance of.
    pub fn blueprint(&self) -> BlueprintId {
        self.blueprint
    }

    /// Declares this instance dead because of what it returned.
    pub fn condemn(&mut self, failure: Failure) -> Failure {
        self.dead = Some(failure.clone());
        failure
    }

    /// The functions of the role `logs`, if the component exports it.
    pub fn logs(&self) -> Option<bindings::logs::exports::bulkhead::plugin::logs::Guest> {
        self.exports.logs.clone()
    }

    /// The functions of the role `metrics`, if the component exports it.
    pub fn metrics(&self) -> Option<bindings::metrics::exports::bulkhead::plugin::metrics::Guest> {
        self.exports.metrics.clone()
    }

    /// The functions of the role `enforcement`, if the component exports it.
    pub fn enforcement(
        &self,
    ) -> Option<bindings::enforcement::exports::bulkhead::plugin::enforcement::Guest> {
        self.exports.enforcement.clone()
    }

    /// The functions of the role `scanning`, if the component exports it.
    pub fn scanning(
        &self,
    ) -> Option<bindings::scanning::exports::bulkhead::plugin::scanning::Guest> {
        self.exports.scanning.clone()
    }

    /// Asks the plugin for its name, version and configuration schema.
    ///
    /// # Errors
    /// Any failure of the call.
    pub async fn describe(&mut self) -> Result<Description, Failure> {
        let guest = self.exports.lifecycle.clone();
        self.call("lifecycle.describe", move |store, _| {
            Box::pin(async move { guest.call_describe(store).await })
        })
        .await
    }

    /// Gives the plugin its configuration, as a JSON document.
    ///
    /// # Errors
    /// Any failure of the call. The inner result is the plugin's own answer.
    pub async fn init(&mut self, config: String) -> Result<Result<(), Refusal>, Failure> {
        let guest = self.exports.lifecycle.clone();
        self.call("lifecycle.init", move |store, _| {
            store.data_mut().called_with(&(&config,));
            Box::pin(async move { guest.call_init(store, &config).await })
        })
        .await
    }

    /// Asks for state that a successor should take over.
    ///
    /// # Errors
    /// Any failure of the call.
    pub async fn snapshot(&mut self) -> Result<Option<SnapshotData>, Failure> {
        let guest = self.exports.lifecycle.clone();
        self.call("lifecycle.snapshot", move |store, _| {
            Box::pin(async move { guest.call_snapshot(store).await })
        })
        .await
    }

    /// Gives the plugin its predecessor's state.
    ///
    /// # Errors
    /// Any failure of the call. The inner result is the plugin's own answer.
    pub async fn restore(
        &mut self,
        snapshot: SnapshotData,
    ) -> Result<Result<(), Refusal>, Failure> {
        let guest = self.exports.lifecycle.clone();
        self.call("lifecycle.restore", move |store, _| {
            store.data_mut().called_with(&(&snapshot,));
            Box::pin(async move { guest.call_restore(store, &snapshot).await })
        })
        .await
    }
}

/// Makes the exports of a fresh instance inside its store.
pub(super) trait AsyncInstantiate {
    fn instantiate<'a>(self, store: &'a mut Store<Host>) -> Call<'a, Exports>;
}

/// Runs one call under the deadline and the CPU share, accounts for it, and turns whatever goes
/// wrong, a panic of the host included, into a [`Failure`].
async fn bounded<'env, R>(
    function: &'static str,
    store: &mut Store<Host>,
    limits: CallLimits,
    clock: &Clock,
    usage: &Usage,
    call: impl for<'a> FnOnce(&'a mut Store<Host>, Scope<'a, 'env>) -> Call<'a, R>,
) -> Result<R, Failure> {
    let running = clock.run();
    store.set_epoch_deadline(1);
    store.as_context_mut().set_hostcall_fuel(limits.output);
    let mut cpu = store.data_mut().cpu;
    let outcome = {
        let mut future = pin!(call(store, std::marker::PhantomData));
        let mut pause: Option<Pin<Box<tokio::time::Sleep>>> = None;
        let polled = poll_fn(|context| {
            if let Some(sleep) = &mut pause {
                if sleep.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                pause = None;
            }
            let before = thread_cpu_time();
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
            let used = thread_cpu_time().saturating_sub(before);
            let nanos = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
            usage.cpu_nanos.fetch_add(nanos, Ordering::Relaxed);
            let wait = cpu.spend(used);
            match polled {
                Ok(Poll::Ready(result)) => Poll::Ready(Ok(result)),
                Ok(Poll::Pending) => {
                    if let Some(wait) = wait {
                        let mut sleep = Box::pin(tokio::time::sleep(wait));
                        // Registers the wake-up; it cannot be over before it began.
                        let _ = sleep.as_mut().poll(context);
                        pause = Some(sleep);
                    }
                    Poll::Pending
                }
                Err(_) => Poll::Ready(Err(())),
            }
        });
        tokio::time::timeout(limits.deadline, polled).await
    };
    drop(running);
    usage.calls.fetch_add(1, Ordering::Relaxed);
    let host = store.data_mut();
    host.cpu = cpu;
    usage.memory.store(host.memory.used(), Ordering::Relaxed);
    match outcome {
        Ok(Ok(Ok(value))) => Ok(value),
        Ok(Ok(Err(error))) => Err(Failure::from_call(
            function,
            &error,
            host.memory.refused(),
            host.stderr.take_tail(),
        )),
        Ok(Err(())) => Err(Failure::new(
            function,
            Cause::HostPanic,
            "the daemon panicked during this call; it goes on without the instance. Please report this as a bug",
        )),
        Err(_) => Err(Failure {
            stderr: host.stderr.take_tail(),
            ..Failure::new(
                function,
                Cause::DeadlineExceeded,
                format!(
                    "took longer than its deadline of {}; raise limits.deadline in the manifest if the plugin needs it",
                    humantime::format_duration(limits.deadline)
                ),
            )
        }),
    }
}
