//! A destination that catches up: reads for itself what the others have already, from where it was,
//! and asks the plugin about it once more. In rounds, each with a tail of its own.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::batch::Batch;
use super::delivery::Outlet;
use super::driver::{BATCHES, COMMIT, Shared, close};
use super::ledger::{CatchUp, May};
use super::output::{DestinationIndex, Parcel};
use super::pipeline::bury;
use super::process::{Processed, Processor};
use super::tail::{Item, Known, Nameless, Tail};
use super::verdict::Routing;
use crate::manifest::Logs;
use crate::sandbox::WorkSender;

/// How often a round is asked whether another would get more.
const STALE: Duration = Duration::from_secs(1);
/// A round ends when nothing was read for so long though something is lacking: longer than a tail waits
/// for the rest of a line or record.
const QUIET: Duration = Duration::from_secs(120);
/// And when something was read that is not entered for all in so long: it may never be.
const EARLY: Duration = Duration::from_secs(10);
/// How often the destination, and what is entered, are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A destination that is behind.
pub(super) struct Straggler {
    pub(super) shared: Arc<Shared>,
    pub(super) logs: Arc<Logs>,
    pub(super) work: WorkSender,
    pub(super) outlets: Arc<Vec<Outlet>>,
    pub(super) destination: DestinationIndex,
}

/// Why a round ended.
enum End {
    /// Begin another.
    Again,
    /// The destination is taken back, or the role ends.
    Done,
}

/// Works until `stop` or until the destination is taken back; first waits for the end of those
/// `before`.
pub(super) async fn run(
    straggler: Straggler,
    before: Vec<AbortOnDropHandle<()>>,
    stop: CancellationToken,
) {
    for task in before {
        // If it failed it has ended, too.
        let _ = task.await;
    }
    let rounds = async {
        let outlet = straggler.outlet();
        if !outlet.is_open() {
            outlet.opened().await;
            let ends = outlet.take_ends();
            straggler.shared.ledger.raise(straggler.destination, &ends);
        }
        loop {
            // Its marks are where reading begins, so what it was handed has to be settled.
            while !straggler.outlet().is_idle() {
                sleep(LOOK).await;
            }
            if let End::Done = straggler.round().await {
                return;
            }
        }
    };
    let _ = stop.run_until_cancelled(rounds).await;
    straggler.shared.stop_chaser(straggler.destination).await;
}

impl Straggler {
    fn outlet(&self) -> &Outlet {
        &self.outlets[self.destination]
    }

    async fn round(&self) -> End {
        let ledger = &self.shared.ledger;
        let (mut catch_up, known, nameless) = ledger.begin_catch_up(self.destination);
        let started = self
            .shared
            .start_chaser(self.destination, &self.logs, known, nameless);
        let mut items = match started.await {
            Ok(items) => items,
            Err(error) => {
                tracing::error!(plugin = %self.shared.context.identity, "cannot follow files: {error}");
                sleep(COMMIT).await;
                return End::Again;
            }
        };
        let mut processor = Processor::new(self.work.clone(), Routing::new(&self.logs));
        let end = loop {
            let parts = match self.next(&mut items, &catch_up).await {
                Ok(batch) => match processor.process(batch).await {
                    Ok(parts) => parts,
                    Err(_) => break End::Done,
                },
                Err(end) => break end,
            };
            if let Err(end) = self.hand(&mut catch_up, parts).await {
                break end;
            }
        };
        // A deleted file may go with them.
        items.close();
        while let Ok(item) = items.try_recv() {
            if let Item::Gone(_, Some(file)) = item {
                close(vec![file]).await;
            }
        }
        end
    }

    /// What its tail has read next.
    async fn next(
        &self,
        items: &mut mpsc::Receiver<Item>,
        catch_up: &CatchUp,
    ) -> Result<Batch, End> {
        let ledger = &self.shared.ledger;
        let since = Instant::now();
        loop {
            match timeout(STALE, items.recv()).await {
                Ok(Some(Item::Batch(batch))) => return Ok(batch),
                // The pipeline's own tail says so, too.
                Ok(Some(Item::Gone(_, file))) => close(file.into_iter().collect()).await,
                Ok(None) => return Err(End::Again),
                Err(_) if !self.outlet().is_idle() => {}
                Err(_) if ledger.is_stale(catch_up) => return Err(End::Again),
                Err(_) if since.elapsed() > QUIET && ledger.behind(self.destination).is_some() => {
                    return Err(End::Again);
                }
                Err(_) => {}
            }
        }
    }

    async fn hand(&self, catch_up: &mut CatchUp, parts: Vec<Processed>) -> Result<(), End> {
        for part in parts {
            if self.shared.ledger.is_stale(catch_up) {
                return Err(End::Again);
            }
            let parcel = self.enter(catch_up, part).await?;
            if self.outlet().send(Arc::new(parcel)).await.is_err() {
                return Err(End::Done);
            }
        }
        Ok(())
    }

    /// Waits until what was read is entered for all.
    async fn enter(&self, catch_up: &mut CatchUp, part: Processed) -> Result<Parcel, End> {
        let ledger = &self.shared.ledger;
        let since = Instant::now();
        let clip = loop {
            match ledger.may_enter(catch_up, &part.batch, &part.output) {
                May::Whole => break Vec::new(),
                May::Clipped(clip) => break clip,
                May::Early if since.elapsed() < EARLY => sleep(LOOK / 4).await,
                May::Early | May::Gap => return Err(End::Again),
                May::Attached => return Err(End::Done),
            }
        };
        let dead = bury(&self.shared, &part).await;
        ledger
            .enter_alone(catch_up, part.batch, part.output, clip, dead)
            .ok_or(End::Done)
    }
}

impl Shared {
    /// Starts a tail for a destination that catches up. What it was given and could not hand on is
    /// still in the books.
    async fn start_chaser(
        &self,
        destination: DestinationIndex,
        logs: &Logs,
        known: Vec<Known>,
        mut nameless: Vec<Nameless>,
    ) -> io::Result<mpsc::Receiver<Item>> {
        self.stop_chaser(destination).await;
        let (sender, items) = mpsc::channel(BATCHES);
        let mut config = self.tail_config(logs);
        // The others need descriptors, too.
        config.max_open = (config.max_open / 4).max(16);
        let tail = Tail::start(config, known, &mut nameless, sender, Arc::default())?;
        self.live().chasers.push((destination, tail));
        Ok(items)
    }

    /// Stops the tail of a destination that caught up.
    async fn stop_chaser(&self, destination: DestinationIndex) {
        let mine = |(other, _): &mut (DestinationIndex, Tail)| *other == destination;
        let tails = self.live().chasers.extract_if(.., mine).collect();
        end_tails(tails).await;
    }

    /// Stops the tails of all destinations that catch up.
    pub(super) async fn stop_chasers(&self) {
        let tails = std::mem::take(&mut self.live().chasers);
        end_tails(tails).await;
    }
}

/// What these have not handed on is read again.
async fn end_tails(tails: Vec<(DestinationIndex, Tail)>) {
    if !tails.is_empty() {
        // Fails only if a tail panics, and then it has ended.
        let _ = tokio::task::spawn_blocking(move || drop(tails)).await;
    }
}
