//! The way of a plugin's lines: from the tail through the plugin to the outlets, one batch after the
//! other. What runs when, and what is written down of it, is the driver's.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::dead_letter::Entries;
use super::delivery::Outlet;
use super::driver::{COMMIT, Shared};
use super::process::{Processed, Processor};
use super::tail::Item;
use super::verdict::Routing;
use crate::manifest::Logs;
use crate::sandbox::WorkSender;

/// Works until `stop`. What was not handed on by then stays in the channel.
pub(super) async fn run(
    shared: Arc<Shared>,
    logs: Logs,
    work: WorkSender,
    outlets: Arc<Vec<Outlet>>,
    stop: CancellationToken,
) {
    if outlets.is_empty() {
        return stop.cancelled().await;
    }
    let Some(items) = shared.start_tail(&logs, &stop).await else {
        return;
    };
    let mut items = items.lock().await;
    let mut processor = Processor::new(work, Routing::new(&logs));
    loop {
        let item = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            item = items.recv() => item,
        };
        match item {
            Some(Item::Gone(file, nameless)) => shared.ledger.gone(file, nameless),
            Some(Item::Batch(batch)) => {
                let Ok(parts) = processor.process(batch).await else {
                    break;
                };
                for part in parts {
                    if !shared.hand_on(part, &outlets).await {
                        break;
                    }
                }
            }
            None => {
                tracing::error!(plugin = %shared.context.identity, "the tail ended by itself");
                shared.live().problem = Some("the tail ended; please report this as a bug".into());
                stop.cancelled().await;
                break;
            }
        }
    }
}

impl Shared {
    /// Enters a part and sends it to every outlet; false if they are closed.
    async fn hand_on(&self, part: Processed, outlets: &[Outlet]) -> bool {
        let mut dead = Vec::new();
        if let Some(reason) = &part.set_aside {
            self.bury(&part, reason).await;
            dead.push(0);
        }
        let parcel = Arc::new(self.ledger.enter(part.batch, part.output, dead));
        for outlet in outlets {
            if outlet.send(parcel.clone()).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Writes a line that the plugin cannot process to the dead letters, however long that takes.
    async fn bury(&self, part: &Processed, reason: &str) {
        tracing::warn!(plugin = %self.context.identity, "a line was set aside: {reason}");
        let mut entries = Entries::new("(plugin)");
        entries.record(&part.batch.record(0), reason);
        while let Err(problem) = self.context.dead_letters.write(entries.bytes.clone()).await {
            tracing::error!(plugin = %self.context.identity, "{problem}");
            self.live().problem = Some(problem);
            tokio::time::sleep(COMMIT).await;
        }
    }
}
