//! What the tests of this room share: parcels made by hand, and someone to tell.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::batch::{Batch, FileId, Fingerprint, Line, Source, Span};
use super::dead_letter::DeadLetters;
use super::delivery::{Context, Settle};
use super::destination::Surroundings;
use super::destination::secrets::DaemonSecrets;
use super::output::{Content, DestinationIndex, DestinationSet, Output, Parcel, Payload};
use super::queue::Home;
use super::record_id::Machine;

/// Everything, to destination 0.
pub(super) const FIRST: DestinationSet = DestinationSet(1);

/// A batch of one file with these lines.
pub(super) fn batch(lane: usize, lines: &[String]) -> Batch {
    let mut batch = Batch {
        lane,
        spans: vec![Span {
            file: FileId {
                device: 1,
                inode: lane as u64,
            },
            generation: 0,
            fingerprint: Fingerprint::default(),
            source: Arc::new(Source {
                path: Arc::from(Path::new("/var/log/test.log")),
                attributes: Vec::new(),
            }),
            start: 0,
            end: 0,
            again: false,
            footprint: None,
        }],
        ..Batch::default()
    };
    for line in lines {
        batch.lines.push(Line {
            time: 0,
            offset: batch.bytes.len() as u32,
            length: line.len() as u32,
            source: 0,
            flags: 0,
        });
        batch.positions.push(batch.bytes.len() as u64);
        batch.bytes.extend_from_slice(line.as_bytes());
    }
    batch
}

/// A parcel of unchanged lines to `to`.
pub(super) fn parcel(lane: usize, lines: &[String], to: DestinationSet) -> Arc<Parcel> {
    Arc::new(Parcel {
        entry: Default::default(),
        batch: batch(lane, lines),
        output: Output {
            bytes: Vec::new(),
            content: Content::All(to),
        },
        delivered: Vec::new(),
        clipped: Vec::new(),
    })
}

/// A parcel of one payload to destination 0 that holds `lines` lines.
pub(super) fn payload(lane: usize, bytes: &[u8], lines: u32) -> Arc<Parcel> {
    let names: Vec<String> = (0..lines).map(|line| line.to_string()).collect();
    Arc::new(Parcel {
        entry: Default::default(),
        batch: batch(lane, &names),
        output: Output {
            bytes: bytes.to_vec(),
            content: Content::Payloads(vec![Payload {
                span: (0, bytes.len() as u32),
                to: FIRST,
                lines: (0..lines).collect(),
            }]),
        },
        delivered: Vec::new(),
        clipped: Vec::new(),
    })
}

/// `LANE:NUMBER` lines, numbers from `from`.
pub(super) fn numbered(lane: usize, from: usize, count: usize) -> Vec<String> {
    (from..from + count)
        .map(|number| format!("{lane}:{number}"))
        .collect()
}

/// One call of [`Settle::settled`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) destination: DestinationIndex,
    pub(super) lane: usize,
    pub(super) lines: Vec<String>,
    pub(super) dead_lettered: Vec<u32>,
}

/// Remembers what it was told.
#[derive(Default)]
pub(super) struct Ledger(pub(super) Mutex<Vec<Settled>>);

impl Ledger {
    pub(super) fn calls(&self) -> Vec<Settled> {
        self.0.lock().unwrap().clone()
    }

    /// Waits until `count` parcels are settled.
    pub(super) async fn wait_for(&self, count: usize) -> Vec<Settled> {
        until("parcels settled", || self.calls().len() >= count).await;
        self.calls()
    }
}

impl Settle for Ledger {
    fn settled(&self, destination: DestinationIndex, parcel: &Arc<Parcel>, dead: &[u32]) {
        let lines = (0..parcel.batch.lines.len())
            .map(|line| String::from_utf8(parcel.batch.body(line).to_vec()).unwrap())
            .collect();
        self.0.lock().unwrap().push(Settled {
            destination,
            lane: parcel.batch.lane,
            lines,
            dead_lettered: dead.to_vec(),
        });
    }
}

/// Waits for a state, at most a minute.
pub(super) async fn until(what: &str, mut state: impl FnMut() -> bool) {
    let start = Instant::now();
    while !state() {
        assert!(start.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A context with its state below `folder`.
pub(super) fn context(folder: &Path, lanes: usize) -> (Context, Arc<Ledger>) {
    let ledger = Arc::new(Ledger::default());
    let context = Context {
        plugin: Arc::from("local/test"),
        lanes,
        settle: Arc::clone(&ledger) as Arc<dyn Settle>,
        dead_letters: Some(Arc::new(DeadLetters::new(folder, "local", "test").unwrap())),
        queues: Home::new(folder, Path::new("/"), "local", "test").unwrap(),
        surroundings: Surroundings {
            node_root: Arc::from(Path::new("/")),
            secrets: Arc::new(DaemonSecrets::offline()),
            machine: Machine::new("test"),
            node_name: Arc::from("node-1"),
        },
        runtime: tokio::runtime::Handle::current(),
    };
    (context, ledger)
}
