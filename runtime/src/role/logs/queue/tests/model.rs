//! Random appends, deliveries, checkpoints, kills and damage against a model of what must come out.
//!
//! The model is what the ledger does: reads each file from its mark on, raises the mark when lines are
//! kept, writes it down at a checkpoint, and after a kill goes on at what was written down or at what
//! the queue holds, whichever is further.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Append {
        lane: usize,
        count: u64,
    },
    /// Takes what comes next, and settles it or not.
    Deliver {
        lane: usize,
        settle: bool,
    },
    Checkpoint,
    Kill(Disk),
}

/// What becomes of the disk while the daemon is dead.
#[derive(Debug, Clone)]
enum Disk {
    Fine,
    /// Something was being written.
    Tail(Vec<u8>),
    /// The last segment is cut here.
    Cut(Index),
    /// A byte of a segment is another.
    Flip(Index, Index),
    /// A segment is gone.
    Gone(Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let disk = prop_oneof![
        4 => Just(Disk::Fine),
        2 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Disk::Tail),
        2 => any::<Index>().prop_map(Disk::Cut),
        2 => any::<(Index, Index)>().prop_map(|(segment, at)| Disk::Flip(segment, at)),
        1 => any::<Index>().prop_map(Disk::Gone),
    ];
    let step = prop_oneof![
        12 => (0usize..2, 1u64..40).prop_map(|(lane, count)| Step::Append { lane, count }),
        8 => (0usize..2, prop::bool::weighted(0.8)).prop_map(|(lane, settle)| Step::Deliver { lane, settle }),
        3 => Just(Step::Checkpoint),
        2 => disk.prop_map(Step::Kill),
    ];
    prop::collection::vec(step, 1..60)
}

#[derive(Default)]
struct Lane {
    /// Lines that were kept.
    kept: u64,
    committed: u64,
    /// Every line up to here was settled at the last checkpoint.
    settled: u64,
    settled_now: u64,
    delivered: BTreeSet<u64>,
    /// What was handed out last.
    last: Option<u64>,
}

struct Model {
    bench: Option<Bench>,
    settings: Settings,
    lanes: [Lane; 2],
    /// Lines that were counted as lost.
    lost: u64,
    /// Of these, at the last checkpoint and by the daemon at hand.
    lost_before: u64,
    /// Lines that may be counted as lost twice, or come all the same: what no checkpoint covers is
    /// read again or found missing again, and what was delivered since the last one may be lost in the
    /// queue afterwards.
    uncertain: u64,
}

impl Model {
    fn bench(&mut self) -> &mut Bench {
        self.bench.as_mut().unwrap()
    }

    /// Waits until all that was appended is kept, or cannot be.
    async fn kept_or_full(&mut self) -> bool {
        let bench = self.bench();
        let kept = || bench.watcher.told().kept.len() >= bench.appended;
        until("kept or full", || kept() || bench.queue.stats().full).await;
        kept()
    }

    async fn step(&mut self, base: &Path, step: Step) {
        match step {
            Step::Append { lane, count } => {
                let from = self.lanes[lane].kept;
                self.bench().append(lane, from, count).await;
                while !self.kept_or_full().await {
                    // Somebody has to make room.
                    for lane in 0..2 {
                        self.deliver(lane, true).await;
                    }
                }
                self.bench().kept().await;
                self.lanes[lane].kept += count;
            }
            Step::Deliver { lane, settle } => self.deliver(lane, settle).await,
            Step::Checkpoint => {
                self.bench().queue.sync().await.unwrap();
                self.lost_before = self.bench().lost();
                for lane in &mut self.lanes {
                    lane.committed = lane.kept;
                    lane.settled = lane.settled_now;
                }
            }
            Step::Kill(disk) => self.kill(base, &disk).await,
        }
    }

    async fn deliver(&mut self, lane: usize, settle: bool) {
        let Some(parcel) = self.bench().take(lane).await else {
            return;
        };
        let numbers = numbers(&parcel);
        let state = &mut self.lanes[lane];
        assert!(numbers[0] >= state.settled, "settled before: {numbers:?}");
        if state.last.is_some_and(|last| last > numbers[0]) {
            panic!("{numbers:?} after {:?}", state.last);
        }
        if settle {
            state.last = numbers.last().map(|last| last + 1);
            state.settled_now = state.settled_now.max(numbers[numbers.len() - 1] + 1);
            state.delivered.extend(numbers);
            self.bench().readers[lane].settle();
        }
    }

    async fn kill(&mut self, base: &Path, disk: &Disk) {
        let bench = self.bench.take().unwrap();
        self.lost += bench.lost();
        self.uncertain += bench.lost() - std::mem::take(&mut self.lost_before);
        bench.kill().await;
        let paths = segments(&folder(base));
        match disk {
            Disk::Tail(bytes) if !paths.is_empty() => {
                let mut whole = fs::read(&paths[paths.len() - 1]).unwrap();
                whole.extend_from_slice(bytes);
                fs::write(&paths[paths.len() - 1], whole).unwrap();
            }
            Disk::Cut(at) if !paths.is_empty() => {
                let whole = fs::read(&paths[paths.len() - 1]).unwrap();
                let at = at.index(whole.len() + 1);
                fs::write(&paths[paths.len() - 1], &whole[..at]).unwrap();
            }
            Disk::Flip(segment, at) if !paths.is_empty() => {
                let path = segment.get(&paths);
                let length = fs::metadata(path).unwrap().len() as usize;
                if length > 0 {
                    flip(path, at.index(length));
                }
            }
            Disk::Gone(segment) if !paths.is_empty() => {
                fs::remove_file(segment.get(&paths)).unwrap();
            }
            _ => {}
        }
        let bench = open(base, self.settings.clone());
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            let held = bench.recovered.ends.get(&file(number));
            let held = held.map_or(0, |end| end.offset / LINE);
            assert!(held <= lane.kept);
            self.uncertain += lane.kept - lane.committed + lane.settled_now - lane.settled;
            lane.kept = lane.committed.max(held);
            lane.settled_now = lane.settled;
            lane.last = None;
        }
        self.bench = Some(bench);
    }

    /// Reads the files to their ends and delivers everything.
    async fn conclude(&mut self, base: &Path, written: [u64; 2]) {
        for (lane, &written) in written.iter().enumerate() {
            let count = written - self.lanes[lane].kept;
            if count > 0 {
                self.step(base, Step::Append { lane, count }).await;
            }
        }
        for lane in 0..2 {
            while !self.bench().is_idle(lane) {
                self.deliver(lane, true).await;
            }
        }
        self.step(base, Step::Checkpoint).await;
        // Nothing of it is left.
        self.kill(base, &Disk::Fine).await;
        assert_eq!(self.bench().recovered.lines, 0);
        self.step(base, Step::Checkpoint).await;
        assert_eq!(self.bench().is_idle(0), self.bench().is_idle(1));
    }
}

impl Bench {
    /// Lines that were counted as lost.
    fn lost(&self) -> u64 {
        let told = self.watcher.told();
        told.dropped + told.damaged
    }
}

async fn run(steps: Vec<Step>, max_size: u64, when_full: WhenFull, merged: u64) {
    let base = tempfile::tempdir().unwrap();
    let settings = Settings {
        merged,
        ..settings(max_size, when_full)
    };
    let mut model = Model {
        bench: Some(open(base.path(), settings.clone())),
        settings,
        lanes: Default::default(),
        lost: 0,
        lost_before: 0,
        uncertain: 0,
    };
    let harmless = |step: &Step| {
        !matches!(
            step,
            Step::Kill(Disk::Cut(_) | Disk::Flip(..) | Disk::Gone(_))
        )
    };
    let harmless = when_full == WhenFull::Block && steps.iter().all(harmless);
    let mut written = [0, 0];
    for step in steps {
        model.step(base.path(), step).await;
        for (written, lane) in written.iter_mut().zip(&model.lanes) {
            *written = lane.kept.max(*written);
        }
    }
    model.conclude(base.path(), written).await;
    let missing = |(lane, written): (&Lane, u64)| {
        (0..written)
            .filter(|line| !lane.delivered.contains(line))
            .count() as u64
    };
    let missing: u64 = model.lanes.iter().zip(written).map(missing).sum();
    let counted = missing..=missing + model.uncertain;
    assert!(
        counted.contains(&model.lost),
        "{} of {counted:?}",
        model.lost
    );
    assert!(
        !harmless || model.lost == 0,
        "lost {} for nothing",
        model.lost
    );
}

proptest! {
    // Each is many syncs; `PROPTEST_CASES` asks for more.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 4,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_line_comes_out_or_is_counted(
        steps in steps(),
        max_size in prop_oneof![Just(16u64 << 10), Just(256 << 10)],
        drop in any::<bool>(),
        merged in prop_oneof![Just(0u64), Just(2_000), Just(64 << 10)],
    ) {
        let when_full = if drop { WhenFull::DropOldest } else { WhenFull::Block };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps, max_size, when_full, merged));
    }
}
