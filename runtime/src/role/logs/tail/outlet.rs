//! The way out of the tail's thread: a bounded channel that is waited for in the same `poll` as
//! file events, so that rotations and deletions are seen while the receiver is behind.

use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::mpsc::error::{SendError, TrySendError};
use tokio::sync::mpsc::{OwnedPermit, Sender};

use super::{Item, Nameless};

/// Wakes the tail's thread, as the waker of a future or to stop it.
pub(super) struct Bell {
    event: File,
    stop: AtomicBool,
}

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            event: File::from(event),
            stop: AtomicBool::new(false),
        })
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.ring();
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn ring(&self) {
        // Fails only if the counter is about to overflow, and then the thread is awake anyway.
        let _ = (&self.event).write(&1u64.to_ne_bytes());
    }

    pub(super) fn silence(&self) {
        // Fails if it was not rung: nothing to silence.
        let _ = (&self.event).read(&mut [0; 8]);
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

type Reservation = Pin<Box<dyn Future<Output = Result<OwnedPermit<Item>, SendError<()>>> + Send>>;

/// The receiver is gone: nobody wants lines any more.
#[derive(Debug)]
pub(super) struct Closed;

pub(super) struct Outlet {
    sender: Sender<Item>,
    queue: VecDeque<Item>,
    waiting: Option<Reservation>,
    waker: Waker,
}

impl Outlet {
    pub(super) fn new(sender: Sender<Item>, bell: Arc<Bell>) -> Self {
        Self {
            sender,
            queue: VecDeque::new(),
            waiting: None,
            waker: Waker::from(bell),
        }
    }

    /// The open files among what was not sent.
    pub(super) fn into_nameless(self) -> impl Iterator<Item = Nameless> {
        self.queue.into_iter().filter_map(|item| match item {
            Item::Gone(_, nameless) => nameless,
            Item::Batch(_) => None,
        })
    }

    /// Puts an item behind those that wait. Batches are only pushed while nothing waits.
    pub(super) fn push(&mut self, item: Item) {
        self.queue.push_back(item);
    }

    /// Sends what waits. `Ok(false)` if the channel is full; the bell rings when it is not any more.
    pub(super) fn flush(&mut self) -> Result<bool, Closed> {
        while let Some(item) = self.queue.pop_front() {
            let Some(waiting) = &mut self.waiting else {
                match self.sender.try_send(item) {
                    Ok(()) => {}
                    Err(TrySendError::Closed(_)) => return Err(Closed),
                    Err(TrySendError::Full(item)) => {
                        self.queue.push_front(item);
                        self.waiting = Some(Box::pin(self.sender.clone().reserve_owned()));
                    }
                }
                continue;
            };
            match waiting.as_mut().poll(&mut Context::from_waker(&self.waker)) {
                Poll::Ready(Ok(permit)) => {
                    permit.send(item);
                    self.waiting = None;
                }
                Poll::Ready(Err(_)) => return Err(Closed),
                Poll::Pending => {
                    self.queue.push_front(item);
                    return Ok(false);
                }
            }
        }
        if self.sender.is_closed() {
            return Err(Closed);
        }
        Ok(true)
    }
}
