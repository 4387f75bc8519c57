//! Threads that may be stuck in a call of the kernel for ever, since a server does not answer, and whoever
//! waits for them: only for as long as they get on.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::lock;

/// A file system that has not answered for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// By the mount whose server may not answer, who asks it: while one of them is stuck, nobody else does.
#[derive(Debug, Default)]
pub(super) struct Asides(Mutex<HashMap<u64, Vec<Weak<Beat>>>>);

/// How such a thread stands.
#[derive(Debug)]
pub(super) struct Beat {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// When it last came back from the file system; none while it does something else.
    since: Option<Instant>,
    /// Nobody waits for it any more.
    left: bool,
    over: bool,
    panicked: bool,
}

impl Asides {
    /// Runs `act` on a thread of its own, about this mount.
    pub(super) fn begin<T: Send + 'static>(
        &self,
        mount: u64,
        act: impl FnOnce(&Beat) -> T + Send + 'static,
    ) -> io::Result<Aside<T>> {
        let beat = Arc::new(Beat::begin());
        {
            let mut running = lock(&self.0);
            let runs = |beat: &Weak<Beat>| beat.upgrade().is_some_and(|it| !lock(&it.state).over);
            running.retain(|_, beats| {
                beats.retain(runs);
                !beats.is_empty()
            });
            let beats = running.entry(mount).or_default();
            let is_stuck = |it: Arc<Beat>| lock(&it.state).left;
            if beats.iter().filter_map(Weak::upgrade).any(is_stuck) {
                return Err(Errno::TIMEDOUT.into());
            }
            beats.push(Arc::downgrade(&beat));
        }
        let answer = Arc::new(Mutex::new(None));
        let (ends, answers) = (Ends(beat.clone()), answer.clone());
        let thread = std::thread::Builder::new().name("scan-remote".to_owned());
        thread.spawn(move || {
            let done = act(&ends.0);
            *lock(&answers) = Some(done);
            drop(ends);
        })?;
        Ok(Aside { beat, answer })
    }
}

/// A thread that was begun.
#[derive(Debug)]
pub(super) struct Aside<T> {
    beat: Arc<Beat>,
    answer: Arc<Mutex<Option<T>>>,
}

impl<T> Aside<T> {
    /// What it came to; none if it is stuck, or panicked. Then it does nothing more once it is no longer.
    pub(super) fn wait(self) -> Option<T> {
        let mut state = lock(&self.beat.state);
        loop {
            if state.over {
                let whole = !state.panicked;
                drop(state);
                return lock(&self.answer).take().filter(|_| whole);
            }
            let waited = state.since.map(|since| since.elapsed());
            let left = waited.map_or(Some(PATIENCE), |waited| PATIENCE.checked_sub(waited));
            let Some(left) = left else {
                state.left = true;
                return None;
            };
            let woken = self.beat.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Beat {
    fn begin() -> Self {
        Self {
            state: Mutex::new(State {
                since: Some(Instant::now()),
                left: false,
                over: false,
                panicked: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// The file system has answered.
    pub(super) fn gets_on(&self) {
        lock(&self.state).since = Some(Instant::now());
    }

    /// Does what asks no file system, and may take as long as it likes. None: it is to stop, since nobody
    /// waits for it.
    pub(super) fn between<T>(&self, act: impl FnOnce() -> T) -> Option<T> {
        {
            let mut state = lock(&self.state);
            if state.left {
                return None;
            }
            state.since = None;
        }
        let done = act();
        self.gets_on();
        Some(done)
    }
}

/// The thread ends, however it does.
struct Ends(Arc<Beat>);

impl Drop for Ends {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.over = true;
        state.panicked = std::thread::panicking();
        drop(state);
        self.0.changed.notify_all();
    }
}
