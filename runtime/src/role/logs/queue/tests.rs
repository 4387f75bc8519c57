#![allow(clippy::unwrap_used, clippy::panic)]

mod damage;
mod delivery;
mod failing;
mod homes;
#[cfg(feature = "test-faults")]
mod killed;
mod model;
mod room;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::super::batch::FileId;
use super::super::testing::{batch, until};
use super::home::Abandoned;
use super::*;
use crate::role::logs::output::{Content, DestinationSet, Output};

/// What a queue told.
#[derive(Debug, Default)]
struct Told {
    /// Lane, number of the first line, lines that were kept.
    kept: Vec<(usize, u64, u32)>,
    dropped: u64,
    damaged: u64,
    /// How many of the next calls of `durable` fail.
    durable_fails: u32,
}

#[derive(Debug, Default)]
struct Watcher(Mutex<Told>);

impl Watcher {
    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.0.lock().unwrap()
    }
}

impl Watch for Watcher {
    fn kept(&self, parcel: &Arc<Parcel>, lines: u32) {
        let first = number(parcel.batch.body(0));
        self.told().kept.push((parcel.batch.lane, first, lines));
    }

    fn dropped(&self, lines: u64) {
        self.told().dropped += lines;
    }

    fn damaged(&self, lines: u64) {
        self.told().damaged += lines;
    }

    fn durable(&self) -> BoxFuture<'_, io::Result<()>> {
        let fails = &mut self.told().durable_fails;
        let result = match fails.checked_sub(1) {
            None => Ok(()),
            Some(left) => {
                *fails = left;
                Err(io::Error::other("the disk took lines back"))
            }
        };
        Box::pin(async { result })
    }
}

/// An open queue and what it told.
struct Bench {
    queue: Queue,
    recovered: Recovered,
    watcher: Arc<Watcher>,
    readers: Vec<Reader>,
    appended: usize,
}

fn settings(max_size: u64, when_full: WhenFull) -> Settings {
    Settings {
        pace: Duration::ZERO,
        merged: 0,
        ..Settings::new(0, 2, max_size, when_full)
    }
}

fn folder(base: &Path) -> PathBuf {
    base.join("queue/local/app/out")
}

fn try_open(base: &Path, settings: Settings) -> Result<Bench, Error> {
    open_below(base, None, settings)
}

/// With a path from the manifest.
fn open_below(base: &Path, path: Option<&Path>, settings: Settings) -> Result<Bench, Error> {
    let watcher = Arc::new(Watcher::default());
    let (lanes, runtime) = (settings.lanes, Handle::current());
    let home = Home::new(base, Path::new("/"), "local", "app").unwrap();
    let (queue, recovered) = Queue::open(&home, "out", path, settings, watcher.clone(), &runtime)?;
    Ok(Bench {
        readers: (0..lanes).map(|lane| queue.reader(lane)).collect(),
        queue,
        recovered,
        watcher,
        appended: 0,
    })
}

fn open(base: &Path, settings: Settings) -> Bench {
    try_open(base, settings).unwrap()
}

/// Bytes that each line takes in its file.
const LINE: u64 = 10;

/// Lines `from..from + count` of the file of `lane`.
fn parcel(lane: usize, from: u64, count: u64, to: DestinationSet) -> Arc<Parcel> {
    let lines: Vec<String> = (from..from + count).map(|n| n.to_string()).collect();
    let mut batch = batch(lane, &lines);
    (batch.spans[0].start, batch.spans[0].end) = (from * LINE, (from + count) * LINE);
    Arc::new(Parcel {
        entry: Default::default(),
        batch,
        output: Output {
            bytes: Vec::new(),
            content: Content::All(to),
        },
        delivered: Vec::new(),
        clipped: Vec::new(),
    })
}

fn number(text: &[u8]) -> u64 {
    std::str::from_utf8(text).unwrap().parse().unwrap()
}

fn numbers(parcel: &Parcel) -> Vec<u64> {
    parcel
        .records(0)
        .map(|record| number(record.body))
        .collect()
}

fn file(lane: usize) -> FileId {
    FileId {
        device: 1,
        inode: lane as u64,
    }
}

impl Bench {
    async fn append(&mut self, lane: usize, from: u64, count: u64) {
        let parcel = parcel(lane, from, count, DestinationSet(1));
        self.queue.append(parcel).await.unwrap();
        self.appended += 1;
    }

    /// Waits until all that was appended is kept.
    async fn kept(&self) {
        let kept = || self.watcher.told().kept.len() >= self.appended;
        until("all is kept", kept).await;
        // Handed over right after that was told.
        until("all is handed over", || {
            let kept = self
                .watcher
                .told()
                .kept
                .iter()
                .map(|kept| u64::from(kept.2))
                .sum::<u64>();
            let books = self.queue.shared.books();
            let lanes = 0..self.queue.shared.settings.lanes;
            lanes.map(|lane| books.kept(lane)).sum::<u64>() >= kept
        })
        .await;
    }

    /// Whether nothing waits in a lane.
    fn is_idle(&self, lane: usize) -> bool {
        let lane = &self.queue.shared.books().cursor().lanes[lane];
        lane.gaps.skip(lane.settled) >= lane.kept
    }

    /// What a lane is handed next, if anything waits.
    async fn take(&mut self, lane: usize) -> Option<Arc<Parcel>> {
        while !self.is_idle(lane) {
            let next = self.readers[lane].next();
            // What waits may turn out to be damaged.
            if let Ok(next) = tokio::time::timeout(Duration::from_secs(1), next).await {
                return next;
            }
        }
        None
    }

    async fn deliver(&mut self, lane: usize) -> Option<Vec<u64>> {
        let parcel = self.take(lane).await?;
        self.readers[lane].settle();
        Some(numbers(&parcel))
    }

    /// All that waits in a lane.
    async fn deliver_all(&mut self, lane: usize) -> Vec<u64> {
        let mut all = Vec::new();
        while let Some(numbers) = self.deliver(lane).await {
            all.extend(numbers);
        }
        all
    }

    /// As `kill -9` does.
    async fn kill(self) {
        self.queue.shared.closing.cancel();
        self.queue.tasks.wait().await;
    }

    fn on_disk(&self) -> u64 {
        segments(&self.queue.shared.path)
            .iter()
            .map(|path| fs::metadata(path).unwrap().len())
            .sum()
    }
}

/// The paths of a queue's segments, in order.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = entries
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "segment")
        })
        .collect();
    paths.sort();
    paths
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x20;
    fs::write(path, bytes).unwrap();
}
