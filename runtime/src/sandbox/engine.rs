//! The one wasmtime engine of the daemon, and the clock that interrupts guests.
//!
//! Epochs make a running guest yield to its runtime every [`TICK`], so that a deadline can pass and
//! a spinning guest cannot hold a worker thread. The clock stands still while no guest runs: an
//! idle daemon must not wake up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use wasmtime::{Config, Engine, WasmBacktraceDetails};

/// How long a guest runs before it yields.
pub const TICK: Duration = Duration::from_millis(2);

/// After this many ticks without a running guest the clock stops.
const IDLE_TICKS: u32 = 50;

/// Guests may use this much native stack; deeper recursion traps.
const GUEST_STACK: usize = 512 << 10;

/// Makes the engine. Two daemons of one build on one kind of CPU make equal engines, so compiled
/// code can be cached.
///
/// # Errors
/// If this CPU lacks what the compiler needs.
pub(super) fn new() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        // WASI 0.2 has no concurrent calls; without them an empty call costs a quarter.
        .concurrency_support(false)
        .max_wasm_stack(GUEST_STACK)
        .async_stack_size(GUEST_STACK + (512 << 10))
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(32));
    Engine::new(&config)
}

/// Advances the engine's epoch while at least one guest runs.
#[derive(Clone)]
pub(super) struct Clock {
    running: Arc<AtomicUsize>,
    thread: Thread,
}

impl Clock {
    /// Starts the clock's thread.
    ///
    /// # Errors
    /// If the thread cannot start.
    pub(super) fn start(engine: &Engine) -> wasmtime::Result<Self> {
        let running = Arc::new(AtomicUsize::new(0));
        let handle = std::thread::Builder::new()
            .name("epoch".into())
            .stack_size(64 << 10)
            .spawn({
                let running = running.clone();
                let engine = engine.weak();
                move || {
                    let mut idle = 0;
                    loop {
                        if running.load(Ordering::Acquire) > 0 {
                            idle = 0;
                        } else if idle < IDLE_TICKS {
                            idle += 1;
                        } else {
                            std::thread::park();
                            idle = 0;
                        }
                        std::thread::sleep(TICK);
                        match engine.upgrade() {
                            Some(engine) => engine.increment_epoch(),
                            None => return,
                        }
                    }
                }
            })?;
        Ok(Self {
            running,
            thread: handle.thread().clone(),
        })
    }

    /// Keeps the clock going until the guard is dropped.
    pub(super) fn run(&self) -> Running<'_> {
        if self.running.fetch_add(1, Ordering::AcqRel) == 0 {
            self.thread.unpark();
        }
        Running(&self.running)
    }
}

/// A guest is running.
pub(super) struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
