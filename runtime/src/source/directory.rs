//! A folder as a source: a thread that waits for changes, lets them come to rest, and looks.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use tokio::sync::watch;

use super::Desired;
use super::inotify::Inotify;
use super::scan::Scanner;
use crate::manifest::Policy;

/// A change is looked at after this long without another one: several files may change together.
const QUIET: Duration = Duration::from_millis(10);
/// The same while a file is being written or is gone: an editor may be about to put it back.
const UNFINISHED: Duration = Duration::from_millis(50);
/// Changes are looked at this long after the first one at the latest.
const PATIENCE: Duration = Duration::from_millis(300);
/// How often files are looked at that cannot be watched: behind a symlink, or without inotify.
const POLL: Duration = Duration::from_secs(2);
/// How often all files are looked at though they are watched.
const CROSS_CHECK: Duration = Duration::from_secs(30);
/// How often a folder is looked for that is gone.
const RETURN: Duration = Duration::from_millis(500);

/// Why a folder cannot be a source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder is missing, no folder or not readable.
    #[error("manifest folder {}: {source}: make it, or name another one with --manifests", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gave no thread or descriptor.
    #[error("cannot watch manifest folder {}: {source}", folder.display())]
    Resources {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What holds on the node.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Its policy, or what holds whatever [`Self::policy_file`] says.
    pub policy: Policy,
    /// The file of its policy, if it has one.
    pub policy_file: Option<PathBuf>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A folder of manifests under watch, until this is dropped.
#[derive(Debug)]
pub struct Directory {
    desired: watch::Receiver<Arc<Desired>>,
    control: Arc<Control>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Control {
    wake: OwnedFd,
    stop: AtomicBool,
    rescan: AtomicBool,
}

impl Control {
    fn wake(&self) {
        // The counter can only be full if the thread is about to wake up anyway.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

impl Directory {
    /// Looks at `folder` once, then keeps watching it. Blocks for that first look.
    pub fn start(folder: &Path, rules: Rules) -> Result<Self, Error> {
        let missing = |source| Error::Folder {
            folder: folder.to_owned(),
            source,
        };
        let resources = |source: io::Error| Error::Resources {
            folder: folder.to_owned(),
            source,
        };
        // Absolute, so that messages name files that people find, wherever they stand.
        let folder = std::path::absolute(folder).map_err(missing)?;
        std::fs::read_dir(&folder).map_err(missing)?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let control = Arc::new(Control {
            wake: eventfd(0, flags).map_err(|errno| resources(errno.into()))?,
            stop: AtomicBool::new(false),
            rescan: AtomicBool::new(false),
        });
        let inotify = Inotify::new()
            .inspect_err(|error| tracing::warn!(%error, "no inotify, manifests are polled"))
            .ok();
        let mut watcher = Watcher {
            scanner: Scanner::new(folder, rules),
            inotify,
            control: Arc::clone(&control),
            interval: POLL,
        };
        let (sender, desired) = watch::channel(Arc::new(watcher.look()));
        let thread = std::thread::Builder::new()
            .name("manifests".to_owned())
            .spawn(move || watcher.run(&sender))
            .map_err(resources)?;
        Ok(Self {
            desired,
            control,
            thread: Some(thread),
        })
    }

    /// What is declared, now and later. Changes only when something changed in meaning.
    pub fn desired(&self) -> watch::Receiver<Arc<Desired>> {
        self.desired.clone()
    }

    /// Reads every file anew, soon, whether it seems to have changed or not. Does not block.
    pub fn rescan(&self) {
        self.control.rescan.store(true, Ordering::Release);
        self.control.wake();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.control.stop.store(true, Ordering::Release);
        self.control.wake();
        if let Some(thread) = self.thread.take() {
            // At worst for the rest of one look.
            let _ = thread.join();
        }
    }
}

struct Watcher {
    scanner: Scanner,
    inotify: Option<Inotify>,
    control: Arc<Control>,
    interval: Duration,
}

impl Watcher {
    fn look(&mut self) -> Desired {
        // Watch first, so that what changes after the look is not missed; and again after it, for
        // the folders of modules that it found.
        self.watch();
        let desired = self.scanner.look();
        let watched = self.watch();
        self.interval = if !self.scanner.folder().is_dir() {
            RETURN
        } else if watched && !self.scanner.needs_polling {
            CROSS_CHECK
        } else {
            POLL
        };
        desired
    }

    fn watch(&mut self) -> bool {
        let scanner = &self.scanner;
        self.inotify
            .as_mut()
            .is_some_and(|inotify| inotify.watch(scanner.folder(), scanner.other_files()))
    }

    fn run(mut self, sender: &watch::Sender<Arc<Desired>>) {
        // Once more right away: what changed between the first look and its last watch.
        let mut wait = UNFINISHED;
        loop {
            let changed = self.wait(wait);
            if changed {
                self.settle();
            }
            // After settling, which may have taken the wake-up that came with the stop.
            if self.control.stop.load(Ordering::Acquire) {
                return;
            }
            if self.control.rescan.swap(false, Ordering::AcqRel) {
                self.scanner.forget_stamps();
            }
            let desired = self.look();
            sender.send_if_modified(|current| {
                let differs = **current != desired;
                if differs {
                    *current = Arc::new(desired);
                }
                differs
            });
            wait = self.interval;
        }
    }

    /// Waits until changes have come to rest.
    fn settle(&mut self) {
        let latest = Instant::now() + PATIENCE;
        while self.wait(
            self.quiet()
                .min(latest.saturating_duration_since(Instant::now())),
        ) {
            if Instant::now() >= latest || self.control.stop.load(Ordering::Acquire) {
                break;
            }
        }
        if let Some(inotify) = &mut self.inotify {
            inotify.looked();
        }
    }

    fn quiet(&self) -> Duration {
        let at_rest = self.inotify.as_ref().is_some_and(Inotify::at_rest);
        if at_rest { QUIET } else { UNFINISHED }
    }

    /// Whether something that matters happened within `limit`.
    fn wait(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let wake = self.control.wake.as_fd();
            let mut fds = vec![PollFd::from_borrowed_fd(wake, PollFlags::IN)];
            if let Some(inotify) = &self.inotify {
                fds.push(PollFd::from_borrowed_fd(inotify.queue(), PollFlags::IN));
            }
            let ready = poll(&mut fds, Some(&timeout));
            let woken = !fds[0].revents().is_empty();
            let events = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
            match ready {
                Err(Errno::INTR) => continue,
                // Without poll there is only time.
                Err(_) => std::thread::sleep(left.min(POLL)),
                Ok(_) => {}
            }
            if woken {
                let _ = rustix::io::read(wake, &mut [0u8; 8]);
                return true;
            }
            if events && self.inotify.as_mut().is_some_and(Inotify::drain) {
                return true;
            }
            if left.is_zero() {
                return false;
            }
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
