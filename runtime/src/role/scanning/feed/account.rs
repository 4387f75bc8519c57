//! What is on its way to a subscriber, and what became of it.

use std::sync::{Condvar, Mutex};

use super::cache::{Cache, Mark};
use super::lock;

/// Buffers that are kept for the next batches: one that is judged, one that waits, one that is filled.
const SPARE: usize = 3;

/// Batches of one subscriber that are neither judged nor failed, and those that were.
#[derive(Debug)]
pub(super) struct Account {
    cache: Cache,
    books: Mutex<Books>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct Books {
    /// Of passes; what happens has no end.
    outstanding: u64,
    failed: u64,
    spare: Vec<Vec<u8>>,
}

impl Account {
    pub(super) fn new(cache: Cache) -> Self {
        Self {
            cache,
            books: Mutex::default(),
            settled: Condvar::new(),
        }
    }

    /// A batch is on its way, with files of a pass or not; the buffer for the next one.
    pub(super) fn sent(&self, of_pass: bool) -> Vec<u8> {
        let mut books = lock(&self.books);
        books.outstanding += u64::from(of_pass);
        books.spare.pop().unwrap_or_default()
    }

    /// A batch was judged, or not.
    pub(super) fn settle(&self, of_pass: bool, judged: bool, marks: Vec<Mark>, mut bytes: Vec<u8>) {
        self.cache.judged(marks);
        let mut books = lock(&self.books);
        books.outstanding = books.outstanding.saturating_sub(u64::from(of_pass));
        books.failed += u64::from(of_pass && !judged);
        // What happens is little, and may be all for hours.
        if of_pass && books.spare.len() < SPARE {
            bytes.clear();
            books.spare.push(bytes);
        }
        self.settled.notify_all();
    }

    /// Waits until nothing of a pass is on its way. How many of its batches failed up to now.
    pub(super) fn drained(&self) -> u64 {
        let mut books = lock(&self.books);
        while books.outstanding > 0 {
            books = self
                .settled
                .wait(books)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        books.failed
    }

    /// How many batches of passes failed up to now.
    pub(super) fn failed(&self) -> u64 {
        lock(&self.books).failed
    }

    /// Gives the buffers back: nothing large is to be expected for now.
    pub(super) fn rest(&self) {
        lock(&self.books).spare.clear();
    }
}
