//! One collection: the plugin is asked about one collector after the other, as its files have been read.
//!
//! A file that never comes back costs its collector only: its thread is left behind, another one goes on
//! with the next collector, and the collector is not read for again until the thread is back. A collector
//! that ends the instance is left out for a while, so that the others are served meanwhile.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::collection::{Collection, CollectorOutcome};
use super::found::{Found, Known};
use super::plan::Plan;
use crate::handover::{self, Piece, Receiver};
use crate::node_files::{Batch, Kept, Reader, TooMuch};
use crate::sandbox::bindings::metrics::exports::bulkhead::plugin::metrics as wit;
use crate::sandbox::{Cause, Failure, Instance, Task, Work};

/// How long the files of one collector may take.
const READING: Duration = Duration::from_secs(2);
/// A collector that ended the instance is left out for this long, and twice as long each time.
const LEFT_OUT: Duration = Duration::from_secs(30);
/// But not for longer.
const LEFT_OUT_MOST: Duration = Duration::from_secs(3600);

/// Bytes of a collector's own message.
const MESSAGE: usize = 1024;
/// Bytes of series that are kept of one collection.
const COLLECTION_BYTES: usize = 64 << 20;
/// Threads that read, of all plugins. More than a few at once hang.
const THREADS: usize = 64;

static READING_THREADS: AtomicUsize = AtomicUsize::new(0);

/// One of the threads that read.
struct Thread;

impl Thread {
    /// None if there are too many.
    fn begin() -> Option<Self> {
        let before = READING_THREADS.fetch_add(1, Ordering::Relaxed);
        let thread = Self;
        (before < THREADS).then_some(thread)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        READING_THREADS.fetch_sub(1, Ordering::Relaxed);
    }
}

const COLLECT: &str = "metrics.collect";

/// What is remembered between collections.
#[derive(Default)]
pub(super) struct Memory {
    reading: Mutex<Reading>,
    banned: Mutex<HashMap<Arc<str>, Ban>>,
    /// Files that are open for the next collection of this revision, whose number it is. A thread that hangs
    /// does not give them back, or not before they are nobody's.
    kept: Mutex<(u64, Kept)>,
}

/// What threads are reading for, by a number of each, and since when.
#[derive(Default)]
struct Reading {
    last: u64,
    threads: HashMap<u64, (Arc<str>, Instant)>,
}

struct Ban {
    until: Instant,
    times: u32,
    why: String,
}

impl Memory {
    fn reading(&self) -> std::sync::MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn banned(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Ban>> {
        self.banned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, (u64, Kept)> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_kept(&self) -> (u64, Kept) {
        let mut kept = self.kept();
        (kept.0, std::mem::take(&mut kept.1))
    }

    fn give_back(&self, revision: u64, files: Kept) {
        let mut kept = self.kept();
        if kept.0 == revision {
            kept.1 = files;
        }
    }

    /// Begins to read for a collector, unless a thread hangs with its files.
    fn begin(&self, collector: &Arc<str>) -> Option<u64> {
        let mut reading = self.reading();
        let mut threads = reading.threads.values();
        if threads.any(|(name, since)| name == collector && since.elapsed() >= READING) {
            return None;
        }
        reading.last += 1;
        let number = reading.last;
        let since = Instant::now();
        reading.threads.insert(number, (collector.clone(), since));
        Some(number)
    }

    fn end(&self, number: u64) {
        self.reading().threads.remove(&number);
    }

    /// Why a collector is left out, if it is.
    fn ban(&self, collector: &str) -> Option<String> {
        let banned = self.banned();
        let ban = banned.get(collector)?;
        let rest = ban.until.checked_duration_since(Instant::now())?;
        let rest = humantime::format_duration(Duration::from_secs(rest.as_secs() + 1));
        Some(format!(
            "left out for {rest}, because it ended the plugin's instance: {}",
            ban.why
        ))
    }

    /// A collector has ended the instance.
    fn accuse(&self, collector: &Arc<str>, failure: &Failure) {
        let mut banned = self.banned();
        let times = banned.get(collector).map_or(0, |ban| ban.times);
        let factor = 1_u32.checked_shl(times).unwrap_or(u32::MAX);
        let ban = Ban {
            until: Instant::now() + LEFT_OUT.saturating_mul(factor).min(LEFT_OUT_MOST),
            times: times + 1,
            why: failure.message.clone(),
        };
        banned.insert(collector.clone(), ban);
    }

    /// A new revision may do better, and read other files.
    pub(super) fn forgive(&self) {
        self.banned().clear();
        let mut kept = self.kept();
        *kept = (kept.0 + 1, Kept::default());
    }

    fn acquit(&self, collector: &str) {
        self.banned().remove(collector);
    }
}

/// One collection, as work for the actor.
pub(super) struct Collect {
    pub(super) memory: Arc<Memory>,
    pub(super) reader: Reader,
    /// Where files are read.
    pub(super) runtime: Handle,
    /// When it was asked for.
    pub(super) begun: Instant,
    /// No collector is called after this.
    pub(super) until: Instant,
    /// The most series of the plugin.
    pub(super) most_series: usize,
    pub(super) reply: oneshot::Sender<Collection>,
}

/// What was read for one collector.
struct Read {
    index: usize,
    batch: Result<Batch, String>,
    took: Duration,
}

impl Piece for Read {
    fn size(&self) -> usize {
        self.batch.as_ref().map_or(0, |batch| batch.bytes.len())
    }
}

impl Work for Collect {
    fn run<'a>(self: Box<Self>, instance: &'a mut Instance) -> Task<'a, Result<(), Failure>> {
        Box::pin(async move {
            if self.reply.is_closed() {
                return Ok(());
            }
            let Some(plan) = instance.noted::<Arc<Plan>>().cloned() else {
                // Of a revision that has the role no more: who waits learns it from the dropped reply.
                return Ok(());
            };
            let mut collectors = Vec::with_capacity(plan.collectors.len());
            let ended = self.collect(instance, &plan, &mut collectors).await;
            let failure = ended.as_ref().err().map(ToString::to_string);
            let collection = Collection {
                collectors,
                failure,
                ended: Instant::now(),
                took: self.begun.elapsed(),
            };
            // Nobody may be waiting any more.
            let _ = self.reply.send(collection);
            ended
        })
    }
}

impl Collect {
    async fn collect(
        &self,
        instance: &mut Instance,
        plan: &Arc<Plan>,
        done: &mut Vec<CollectorOutcome>,
    ) -> Result<(), Failure> {
        let mut known = Known::default();
        let mut room = self.most_series;
        let mut bytes = 0_usize;
        let mut reading = self.read(plan, 0);
        while let Some(collector) = plan.collectors.get(done.len()) {
            let index = done.len();
            let name = collector.name.clone();
            let left = self.until.saturating_duration_since(Instant::now());
            let fail = |took, why: String| CollectorOutcome::failed(name.clone(), took, why);
            if left.is_zero() {
                let why = "there was no time left for it; raise metrics.timeout".to_owned();
                done.push(fail(Duration::ZERO, why));
                continue;
            }
            let read = match reading.next(READING.min(left)).await {
                Ok(read) if read.index == index => read,
                // The reading thread is gone, or hangs: it ends when it is back.
                _ => {
                    let why = "its files cannot be read in time".to_owned();
                    done.push(fail(READING.min(left), why));
                    reading = self.read(plan, done.len());
                    continue;
                }
            };
            let batch = match read.batch {
                Ok(batch) => batch,
                Err(why) => {
                    done.push(fail(read.took, why));
                    continue;
                }
            };
            let begun = Instant::now();
            let answer = call(instance, index, &batch, done).await;
            let took = read.took + begun.elapsed();
            let checked = match answer {
                Ok(Ok(families)) => Found::check(families, room, &mut known),
                Ok(Err(mut message)) => {
                    self.memory.acquit(&name);
                    shorten(&mut message);
                    done.push(fail(took, message));
                    continue;
                }
                Err(failure) => {
                    self.memory.accuse(&name, &failure);
                    done.push(fail(took, failure.to_string()));
                    return Err(failure);
                }
            };
            match checked {
                Ok((found, left_out)) => {
                    self.memory.acquit(&name);
                    room = room.saturating_sub(found.series());
                    bytes = bytes.saturating_add(found.size());
                    if bytes > COLLECTION_BYTES {
                        let most = COLLECTION_BYTES >> 20;
                        let why = format!("what the plugin found takes more than {most} MiB");
                        done.push(fail(took, why));
                        continue;
                    }
                    done.push(CollectorOutcome {
                        name,
                        took,
                        error: None,
                        found,
                        left_out,
                    });
                }
                Err(broken) => {
                    let message = format!("broke the contract: {broken}");
                    let failure = Failure::new(COLLECT, Cause::BrokenPromise, message);
                    let failure = instance.condemn(failure);
                    self.memory.accuse(&name, &failure);
                    done.push(fail(took, failure.to_string()));
                    return Err(failure);
                }
            }
        }
        Ok(())
    }

    /// Reads for the collectors from `first` on, in order, on a thread of their own.
    fn read(&self, plan: &Arc<Plan>, first: usize) -> Receiver<Read> {
        let (mut sender, reads) = handover::queue();
        let (plan, reader, memory) = (plan.clone(), self.reader.clone(), self.memory.clone());
        let Some(thread) = Thread::begin() else {
            return reads;
        };
        // Not awaited: it may hang. What it has comes through `reads`.
        drop(self.runtime.spawn_blocking(move || {
            let _thread = thread;
            let (revision, kept) = memory.take_kept();
            let mut pass = reader.pass_with(kept);
            for (index, collector) in plan.collectors.iter().enumerate().skip(first) {
                let begun = Instant::now();
                let batch = match memory.ban(&collector.name) {
                    Some(why) => Err(why),
                    None => match memory.begin(&collector.name) {
                        None => Err("its files still cannot be read".to_owned()),
                        Some(number) => {
                            let batch = pass.read(&collector.wants, Instant::now() + READING);
                            memory.end(number);
                            batch.map_err(|TooMuch| TooMuch.to_string())
                        }
                    },
                };
                let took = begun.elapsed();
                if !sender.send(Read { index, batch, took }) {
                    break;
                }
            }
            memory.give_back(revision, pass.into_kept());
        }));
        reads
    }
}

/// Keeps what people read of a message.
fn shorten(message: &mut String) {
    if message.len() > MESSAGE {
        let end = (0..=MESSAGE).rev().find(|at| message.is_char_boundary(*at));
        message.truncate(end.unwrap_or(0));
        message.push('…');
    }
}

/// Calls one collector.
async fn call(
    instance: &mut Instance,
    index: usize,
    batch: &Batch,
    done: &[CollectorOutcome],
) -> Result<Result<wit::Families, String>, Failure> {
    let guest = instance.metrics().ok_or_else(|| {
        let message = "the component does not export bulkhead:plugin/metrics";
        Failure::new(COLLECT, Cause::BrokenPromise, message)
    })?;
    let files = batch.files.iter().map(|file| wit::File {
        want: file.want,
        path_offset: file.path.0,
        path_length: file.path.1,
        offset: file.data.0,
        length: file.data.1,
        error: file.error,
        flags: u32::from(file.cut),
        modified: file.modified,
    });
    let files: Vec<wit::File> = files.collect();
    let outcomes = done.iter().enumerate().map(|(index, done)| wit::Outcome {
        collector: index as u32,
        ok: done.error.is_none(),
        seconds: done.took.as_secs_f64(),
    });
    let outcomes: Vec<wit::Outcome> = outcomes.collect();
    let (files, outcomes) = (&files, &outcomes);
    instance
        .call(COLLECT, move |store, _| {
            Box::pin(async move {
                let view = wit::View {
                    bytes: &batch.bytes,
                    files,
                    outcomes,
                };
                store.data_mut().called_with(&(index as u32, &view));
                guest.call_collect(store, index as u32, view).await
            })
        })
        .await
}
