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
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::mpsc::error::{SendError, TrySendError};
use tokio::sync::mpsc::{OwnedPermit, Sender};

use super::Item;

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
    /// With the time since when they wait.
    queue: VecDeque<(Instant, Item)>,
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

    /// What was not sent, in order.
    pub(super) fn into_items(self) -> Vec<Item> {
        self.queue.into_iter().map(|(_, item)| item).collect()
    }

    /// Closes deleted files that have waited here for longer than `wait`: they take disk space.
    pub(super) fn close_late(&mut self, wait: Duration) {
        for (since, item) in &mut self.queue {
            if let Item::Gone(_, nameless) = item
                && since.elapsed() > wait
            {
                *nameless = None;
            }
        }
    }

    /// Puts an item behind those that wait. Batches are only pushed while nothing waits.
    pub(super) fn push(&mut self, item: Item) {
        self.queue.push_back((Instant::now(), item));
    }

    /// Sends what waits. `Ok(false)` if the channel is full; the bell rings when it is not any more.
    pub(super) fn flush(&mut self) -> Result<bool, Closed> {
        while let Some((since, item)) = self.queue.pop_front() {
            let Some(waiting) = &mut self.waiting else {
                match self.sender.try_send(item) {
                    Ok(()) => {}
                    Err(TrySendError::Closed(_)) => return Err(Closed),
                    Err(TrySendError::Full(item)) => {
                        self.queue.push_front((since, item));
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
                    self.queue.push_front((since, item));
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
