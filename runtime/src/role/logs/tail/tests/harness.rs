//! A folder, a tail on it, and what came out so far.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;
use tokio::sync::mpsc::{self, Receiver, error::TryRecvError};

use super::super::super::batch::{Batch, FileId};
use super::super::{Config, Item, Known, Nameless, Stats, Tail};
use crate::manifest::{ContainerSource, FileFormat, FileSource, LogSource, LogSourceKind};

/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(20);

/// One line as it came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) body: String,
    pub(super) time: i64,
    pub(super) flags: u32,
    pub(super) path: PathBuf,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) generation: u64,
    pub(super) position: u64,
    /// How many lines were joined onto it.
    pub(super) joined: u32,
}

pub(super) struct Rig {
    pub(super) dir: TempDir,
    pub(super) config: Config,
    pub(super) stats: Arc<Stats>,
    pub(super) lines: Vec<Got>,
    pub(super) gone: Vec<FileId>,
    /// The last position of each file, as a checkpoint store would keep it.
    pub(super) known: HashMap<FileId, Known>,
    pub(super) nameless: Vec<Nameless>,
    tail: Option<Tail>,
    out: Option<Receiver<Item>>,
    pub(super) capacity: usize,
}

impl Rig {
    /// A folder with `*.log` as plain files; short waits; older files from their beginning.
    pub(super) fn new() -> Self {
        Self::with_format(FileFormat::Plain)
    }

    pub(super) fn with_format(format: FileFormat) -> Self {
        let dir = TempDir::new().unwrap();
        let glob = format!("{}/*.log", dir.path().display());
        let source = LogSourceKind::Files(FileSource {
            include: vec![glob],
            exclude: Vec::new(),
            format,
        });
        Self::with_source(dir, source)
    }

    pub(super) fn containers() -> Self {
        let dir = TempDir::new().unwrap();
        let source = LogSourceKind::Containers(ContainerSource {
            root: Some(dir.path().to_owned()),
            ..ContainerSource::default()
        });
        Self::with_source(dir, source)
    }

    pub(super) fn with_source(dir: TempDir, source: impl Into<LogSource>) -> Self {
        let mut config = Config::new(vec![source.into()], SystemTime::now());
        config.linger = Duration::from_millis(1);
        config.grace = Duration::from_millis(300);
        config.partial_wait = Duration::from_secs(60);
        config.poll = Duration::from_millis(20);
        Self {
            dir,
            config,
            stats: Arc::default(),
            lines: Vec::new(),
            gone: Vec::new(),
            known: HashMap::new(),
            nameless: Vec::new(),
            tail: None,
            out: None,
            capacity: 64,
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        append(&self.path(name), text);
    }

    pub(super) fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// Starts and waits until everything was looked at once.
    pub(super) fn start(&mut self) {
        self.stats = Arc::default();
        let (sender, receiver) = mpsc::channel(self.capacity);
        let known = self.known.values().cloned().collect();
        let tail = Tail::start(
            self.config.clone(),
            known,
            &mut self.nameless,
            sender,
            self.stats.clone(),
        )
        .unwrap();
        self.tail = Some(tail);
        self.out = Some(receiver);
        self.until("scanned", |rig| {
            rig.stats.scanned.load(std::sync::atomic::Ordering::Relaxed)
        });
    }

    /// Takes what has come, then stops; what comes while stopping is not seen, as in a crash.
    pub(super) fn stop(&mut self) {
        self.drain();
        self.stop_at_once();
    }

    /// As [`Self::stop`], and what has come is not seen either.
    pub(super) fn stop_at_once(&mut self) {
        let left = self.tail.take().unwrap().stop();
        self.nameless = left.files;
        for item in left.items {
            if let Item::Gone(_, nameless) = item {
                self.nameless.extend(nameless);
            }
        }
        self.out = None;
    }

    pub(super) fn drain(&mut self) {
        loop {
            let item = match self.out.as_mut().map(Receiver::try_recv) {
                Some(Ok(item)) => item,
                None | Some(Err(TryRecvError::Empty)) => return,
                Some(Err(TryRecvError::Disconnected)) => panic!("the tail ended by itself"),
            };
            match item {
                Item::Batch(batch) => self.take(&batch),
                Item::Gone(file, _) => {
                    self.gone.push(file);
                    self.known.remove(&file);
                }
            }
        }
    }

    /// Checks a batch's promises and keeps its lines and positions.
    fn take(&mut self, batch: &Batch) {
        assert!(!batch.spans.is_empty());
        assert_eq!(batch.lines.len(), batch.positions.len());
        for (index, span) in batch.spans.iter().enumerate() {
            let twice = batch.spans[..index].iter().any(|s| s.file == span.file);
            assert!(!twice, "a file is in a batch once");
            assert_eq!(span.file.lane(self.config.lanes), batch.lane);
            assert!(span.start <= span.end);
            if let Some(known) = self.known.get(&span.file) {
                let expected = if known.generation == span.generation && !span.again {
                    known.offset
                } else {
                    0
                };
                assert_eq!(span.start, expected, "spans follow each other");
            }
            self.known.insert(
                span.file,
                Known {
                    file: span.file,
                    generation: span.generation,
                    fingerprint: span.fingerprint,
                    offset: span.end,
                    taken_back: Default::default(),
                    footprints: span.footprint.into_iter().collect(),
                    path: span.source.path.to_path_buf(),
                },
            );
        }
        for index in 0..batch.lines.len() {
            let line = batch.lines[index];
            let span = &batch.spans[line.source as usize];
            assert!(batch.positions[index] >= span.start);
            self.lines.push(Got {
                body: String::from_utf8_lossy(batch.body(index)).into_owned(),
                time: line.time,
                flags: line.flags,
                path: span.source.path.to_path_buf(),
                attributes: span.source.attributes.clone(),
                generation: span.generation,
                position: batch.positions[index],
                joined: batch.joined(index).map_or(0, |joined| joined.lines),
            });
        }
    }

    /// Waits until `done`.
    pub(super) fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.drain();
            if done(self) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{what} did not happen; {} lines, last {:?}; {:?}",
                self.lines.len(),
                self.lines.last(),
                self.stats,
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until as many lines have come.
    pub(super) fn until_lines(&mut self, count: usize) {
        self.until(&format!("{count} lines"), |rig| rig.lines.len() >= count);
    }

    pub(super) fn bodies(&self) -> Vec<&str> {
        self.lines.iter().map(|line| line.body.as_str()).collect()
    }
}

pub(super) fn append(path: &Path, text: impl AsRef<[u8]>) {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    file.write_all(text.as_ref()).unwrap();
}
