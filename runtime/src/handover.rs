//! From a thread that may hang to the task that waits for it: a queue that wakes the task seldom. What one
//! collection reads comes in some forty pieces within two milliseconds; to wake the task for each would
//! cost more than reading.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The longest that something waits for more, so that what is slow does not hold up what was before it.
const LINGER: Duration = Duration::from_millis(5);
/// Bytes that may wait: the thread does not run further ahead.
const AHEAD: usize = 4 << 20;

/// What is handed over.
pub(crate) trait Piece {
    /// Roughly its bytes.
    fn size(&self) -> usize;
}

/// Why nothing comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Nothing has come in time; it may yet.
    Late,
    /// Nothing comes any more.
    Over,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Wakes the task.
    filled: Notify,
    /// Wakes the thread.
    emptied: Condvar,
}

struct State<T> {
    pieces: VecDeque<T>,
    bytes: usize,
    /// One of the two sides is gone.
    over: bool,
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.state().over = true;
        self.filled.notify_one();
        self.emptied.notify_one();
    }
}

/// The thread's end. When it is dropped, all has been handed over.
pub(crate) struct Sender<T: Piece> {
    shared: Arc<Shared<T>>,
    woke: Instant,
}

/// The task's end.
pub(crate) struct Receiver<T: Piece>(Arc<Shared<T>>);

/// The two ends of a queue.
pub(crate) fn queue<T: Piece>() -> (Sender<T>, Receiver<T>) {
    let state = State {
        pieces: VecDeque::new(),
        bytes: 0,
        over: false,
    };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        filled: Notify::new(),
        emptied: Condvar::new(),
    });
    let sender = Sender {
        shared: shared.clone(),
        woke: Instant::now(),
    };
    (sender, Receiver(shared))
}

impl<T: Piece> Sender<T> {
    /// Hands one over. False if nobody listens any more.
    pub(crate) fn send(&mut self, piece: T) -> bool {
        let mut state = self.shared.state();
        state.bytes += piece.size();
        state.pieces.push_back(piece);
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

impl<T: Piece> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl<T: Piece> Receiver<T> {
    /// The next.
    ///
    /// # Errors
    /// If there is none within `patience`, or no more at all.
    pub(crate) async fn next(&mut self, patience: Duration) -> Result<T, Missing> {
        let until = tokio::time::Instant::now() + patience;
        loop {
            {
                let mut state = self.0.state();
                if let Some(piece) = state.pieces.pop_front() {
                    // The thread waits for nothing else; to wake nobody costs a system call as well.
                    let waits = state.bytes >= AHEAD;
                    state.bytes -= piece.size();
                    if waits && state.bytes < AHEAD {
                        self.0.emptied.notify_one();
                    }
                    return Ok(piece);
                }
                if state.over {
                    return Err(Missing::Over);
                }
            }
            let now = tokio::time::Instant::now();
            if now >= until {
                return Err(Missing::Late);
            }
            // What lingers while the next one hangs comes without a call.
            let look = until.min(now + 2 * LINGER);
            let _ = tokio::time::timeout_at(look, self.0.filled.notified()).await;
        }
    }
}

impl<T: Piece> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A piece of so many bytes.
    impl Piece for usize {
        fn size(&self) -> usize {
            *self
        }
    }

    #[tokio::test]
    async fn what_lingers_comes_though_the_thread_hangs() {
        let (mut sender, mut receiver) = queue();
        let (release, hangs) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            sender.send(1);
            // Until the test is done with it.
            let _ = hangs.recv();
        });
        assert_eq!(receiver.next(Duration::from_secs(60)).await, Ok(1));
        let late = receiver.next(Duration::from_millis(1)).await;
        assert_eq!(late, Err(Missing::Late));
        release.send(()).unwrap();
        let over = receiver.next(Duration::from_secs(60)).await;
        assert_eq!(over, Err(Missing::Over));
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn a_thread_that_is_far_ahead_waits() {
        let (mut sender, mut receiver) = queue();
        let thread = std::thread::spawn(move || (0..100).all(|_| sender.send(AHEAD / 2)));
        for _ in 0..100 {
            let piece = receiver.next(Duration::from_secs(60)).await;
            assert_eq!(piece, Ok(AHEAD / 2));
            assert!(receiver.0.state().bytes <= AHEAD);
        }
        assert!(thread.join().unwrap());
    }

    #[tokio::test]
    async fn nobody_reads_for_a_task_that_is_gone() {
        let (mut sender, receiver) = queue();
        assert!(sender.send(1));
        drop(receiver);
        assert!(!sender.send(1));
    }
}
