//! What is left to do in a walk, for all of its threads: depth first, so that little is.

use std::ffi::{CStr, CString};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::super::facts::Facts;
use super::super::lock;
use super::folder::Folder;

/// More files than these jobs have are read by whoever finds them.
const FILE_JOBS: usize = 64;
/// So many files that changed while they were read are read again.
const AGAIN: usize = 4096;

/// A file that is to be read.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: CString,
    pub(super) facts: Facts,
    /// The turns that want it.
    pub(super) mask: u64,
}

/// Something to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Go into a folder.
    Enter(Arc<Folder>, CString),
    /// Read files of a folder.
    Read(Arc<Folder>, Vec<Entry>),
    /// Read one again, which changed.
    Again(Arc<Folder>, Entry),
    /// Nothing is left: begin with another tree, if there is one.
    Next,
}

/// Names of folders in a folder, each with a zero byte at its end, one after the other: there may be
/// millions.
#[derive(Debug)]
struct Names(Arc<Folder>, Vec<u8>);

#[derive(Debug)]
enum Waiting {
    Folders(Names),
    Files(Arc<Folder>, Vec<Entry>),
    Again(Arc<Folder>, Entry),
}

#[derive(Debug, Default)]
struct Inner {
    waiting: Vec<Waiting>,
    file_jobs: usize,
    /// Files that changed, for the end.
    again: Vec<(Arc<Folder>, Entry)>,
    /// Threads that may still find something.
    busy: usize,
    /// It is over.
    over: bool,
}

/// A thread that may still find something.
pub(super) struct Busy<'a>(&'a Queue);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut inner = lock(&self.0.inner);
        inner.busy -= 1;
        // What it would have found is lost: nobody is to wait for it, nor to begin with another tree.
        inner.over |= std::thread::panicking();
        drop(inner);
        self.0.more.notify_all();
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    more: Condvar,
}

impl Queue {
    /// What to do next; waits while other threads may find something. None: it is over. The job is done
    /// when the second is dropped.
    pub(super) fn next(&self) -> Option<(Job, Busy<'_>)> {
        let mut inner = lock(&self.inner);
        loop {
            if inner.over {
                return None;
            }
            if let Some(job) = inner.pop() {
                inner.busy += 1;
                return Some((job, Busy(self)));
            }
            if inner.busy == 0 {
                let again = std::mem::take(&mut inner.again);
                if again.is_empty() {
                    inner.busy += 1;
                    return Some((Job::Next, Busy(self)));
                }
                let again = again.into_iter();
                inner
                    .waiting
                    .extend(again.map(|(folder, entry)| Waiting::Again(folder, entry)));
                continue;
            }
            inner = self
                .more
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// It is over, whatever is left.
    pub(super) fn end(&self) {
        let mut inner = lock(&self.inner);
        inner.over = true;
        inner.waiting.clear();
        inner.again.clear();
        drop(inner);
        self.more.notify_all();
    }

    pub(super) fn is_over(&self) -> bool {
        lock(&self.inner).over
    }

    /// The folders in a folder.
    pub(super) fn folders(&self, folder: &Arc<Folder>, names: Vec<u8>) {
        if !names.is_empty() {
            self.push(Waiting::Folders(Names(folder.clone(), names)));
        }
    }

    /// Files to be read. They come back if there are many already.
    pub(super) fn files(&self, folder: &Arc<Folder>, files: Vec<Entry>) -> Option<Vec<Entry>> {
        let mut inner = lock(&self.inner);
        if inner.file_jobs >= FILE_JOBS || inner.over {
            return Some(files);
        }
        inner.file_jobs += 1;
        inner.waiting.push(Waiting::Files(folder.clone(), files));
        drop(inner);
        self.more.notify_one();
        None
    }

    /// A file to be read again when everything else is done. Whether there is room.
    pub(super) fn again(&self, folder: &Arc<Folder>, entry: Entry) -> bool {
        let mut inner = lock(&self.inner);
        let room = inner.again.len() < AGAIN;
        if room {
            inner.again.push((folder.clone(), entry));
        }
        room
    }

    fn push(&self, waiting: Waiting) {
        lock(&self.inner).waiting.push(waiting);
        self.more.notify_all();
    }
}

impl Inner {
    fn pop(&mut self) -> Option<Job> {
        match self.waiting.pop()? {
            Waiting::Files(folder, files) => {
                self.file_jobs -= 1;
                Some(Job::Read(folder, files))
            }
            Waiting::Again(folder, entry) => Some(Job::Again(folder, entry)),
            Waiting::Folders(Names(folder, mut names)) => {
                // Without the zero byte of the last one.
                let end = names.len().saturating_sub(1);
                let before = memchr::memrchr(0, names.get(..end)?);
                let last = names.split_off(before.map_or(0, |at| at + 1));
                let name = CStr::from_bytes_with_nul(&last).ok()?.to_owned();
                if !names.is_empty() {
                    let names = Names(folder.clone(), names);
                    self.waiting.push(Waiting::Folders(names));
                }
                Some(Job::Enter(folder, name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn nobody_waits_for_a_thread_that_panicked() {
        let queue = Queue::default();
        std::thread::scope(|scope| {
            let (begun, wait) = std::sync::mpsc::channel();
            let queue = &queue;
            let fails = scope.spawn(move || {
                let _busy = queue.next().unwrap();
                begun.send(()).unwrap();
                panic!("as a defect would");
            });
            wait.recv().unwrap();
            assert!(queue.next().is_none());
            assert!(fails.join().is_err());
        });
        assert!(queue.is_over());
    }
}
