//! A destination that catches up: reads for itself what the others have already, from where it was,
//! and asks the plugin about it once more. In rounds, each with a tail of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::delivery::Outlet;
use super::driver::{COMMIT, Shared};
use super::ledger::{Alone, CatchUp};
use super::output::{DestinationIndex, Parcel};
use super::pipeline::bury;
use super::process::{Processed, Processor};
use super::tail::Item;
use super::verdict::Routing;
use crate::manifest::Logs;
use crate::sandbox::WorkSender;

/// A round ends when its tail finds nothing more for so long, if something is lacking all the same:
/// the next one is given the files that were deleted meanwhile.
const QUIET: Duration = Duration::from_secs(2);
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
        loop {
            let batch = match timeout(QUIET, items.recv()).await {
                Ok(Some(Item::Batch(batch))) => batch,
                // The pipeline's own tail says so, too, and keeps it open.
                Ok(Some(Item::Gone(..))) => continue,
                Ok(None) => return End::Again,
                Err(_) if self.outlet().is_idle() && ledger.behind(self.destination).is_some() => {
                    return End::Again;
                }
                Err(_) => continue,
            };
            let Ok(parts) = processor.process(batch).await else {
                return End::Done;
            };
            for part in parts {
                match self.enter(&mut catch_up, part).await {
                    Ok(parcel) => {
                        if self.outlet().send(Arc::new(parcel)).await.is_err() {
                            return End::Done;
                        }
                    }
                    Err(end) => return end,
                }
            }
        }
    }

    /// Waits until what was read is entered for all.
    async fn enter(&self, catch_up: &mut CatchUp, part: Processed) -> Result<Parcel, End> {
        let dead = bury(&self.shared, &part).await;
        let (mut batch, mut output) = (part.batch, part.output);
        let since = Instant::now();
        loop {
            let ledger = &self.shared.ledger;
            (batch, output) = match ledger.enter_alone(catch_up, batch, output, dead) {
                Alone::Entered(parcel) => return Ok(parcel),
                Alone::Early(batch, output) if since.elapsed() < EARLY => (batch, output),
                Alone::Early(..) | Alone::Gap => return Err(End::Again),
                Alone::Attached => return Err(End::Done),
            };
            sleep(LOOK / 4).await;
        }
    }
}
