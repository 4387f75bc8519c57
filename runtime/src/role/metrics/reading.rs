//! From the thread that reads to the task that asks: a queue that wakes the task seldom. A scrape reads for
//! some forty collectors within two milliseconds; to hand each over by itself would cost more than reading.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::collect::Read;

/// The longest that something read waits for more, so that a slow collector does not hold up those before.
const LINGER: Duration = Duration::from_millis(5);
/// Bytes that may wait: the reading thread does not run further ahead.
const AHEAD: usize = 4 << 20;

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the task that asks.
    filled: Notify,
    /// Wakes the thread that reads.
    emptied: Condvar,
}

#[derive(Default)]
struct State {
    reads: VecDeque<Read>,
    bytes: usize,
    /// One of the two sides is gone.
    over: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.state().over = true;
        self.filled.notify_one();
        self.emptied.notify_one();
    }
}

fn size(read: &Read) -> usize {
    read.batch.as_ref().map_or(0, |batch| batch.bytes.len())
}

/// The end of the thread that reads. When it is dropped, all has been read.
pub(super) struct Sender {
    shared: Arc<Shared>,
    woke: Instant,
}

impl Sender {
    /// Hands one over. False if nobody listens any more.
    pub(super) fn send(&mut self, read: Read) -> bool {
        let mut state = self.shared.state();
        state.bytes += size(&read);
        state.reads.push_back(read);
        if state.bytes < AHEAD && self.woke.elapsed() < LINGER {
            return !state.over;
        }
        self.woke = Instant::now();
        self.shared.filled.notify_one();
        while state.bytes >= AHEAD && !state.over {
            let woken = self.shared.emptied.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        !state.over
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.end();
    }
}

/// The end of the task that asks.
pub(super) struct Reads(Arc<Shared>);

impl Reads {
    /// The two ends of a queue.
    pub(super) fn new() -> (Sender, Self) {
        let shared = Arc::<Shared>::default();
        let sender = Sender {
            shared: shared.clone(),
            woke: Instant::now(),
        };
        (sender, Self(shared))
    }

    /// The next, or none if there is none within `patience`, or no more at all.
    pub(super) async fn next(&mut self, patience: Duration) -> Option<Read> {
        let until = tokio::time::Instant::now() + patience;
        loop {
            {
                let mut state = self.0.state();
                if let Some(read) = state.reads.pop_front() {
                    state.bytes -= size(&read);
                    if state.bytes < AHEAD {
                        self.0.emptied.notify_one();
                    }
                    return Some(read);
                }
                if state.over {
                    return None;
                }
            }
            let now = tokio::time::Instant::now();
            if now >= until {
                return None;
            }
            // What lingers while the next one hangs comes without a call.
            let look = until.min(now + 2 * LINGER);
            let _ = tokio::time::timeout_at(look, self.0.filled.notified()).await;
        }
    }
}

impl Drop for Reads {
    fn drop(&mut self) {
        self.0.end();
    }
}
