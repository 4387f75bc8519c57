//! The way of a plugin's lines: from the tail through the plugin to the outlets, one batch after the
//! other. What runs when, and what is written down of it, is the driver's.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::{join_all, select_all};
use tokio_util::sync::CancellationToken;

use super::batch::Batch;
use super::dead_letter::Entries;
use super::delivery::Outlet;
use super::driver::{COMMIT, Shared};
use super::hand_out::{HandOut, LOOK};
use super::ledger::Receipt;
use super::output::Parcel;
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
    if stop.run_until_cancelled(open(&outlets)).await.is_none() {
        return;
    }
    let Some(items) = shared.start_tail(&logs, &outlets, &stop).await else {
        return;
    };
    let mut items = items.lock().await;
    let mut processor = Processor::new(work.clone(), Routing::new(&logs));
    let mut out = HandOut::new(shared.clone(), Arc::new(logs), work, outlets);
    'items: loop {
        let item = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            item = items.recv() => item,
            () = tokio::time::sleep(LOOK), if out.any_detached() => {
                out.look();
                continue;
            }
        };
        match item {
            Some(Item::Gone(file, nameless)) => shared.ledger.gone(file, nameless),
            Some(Item::Batch(batch)) => {
                let mut unentered = Unentered::new(&shared, &batch);
                let Ok(parts) = processor.process(batch).await else {
                    break;
                };
                unentered.decided(parts);
                loop {
                    out.before_entering().await;
                    let Some(parcel) = unentered.enter_next().await else {
                        break;
                    };
                    if out.hand(&parcel).await.is_err() {
                        if !stop.is_cancelled() {
                            shared.report_bug("a destination's task ended");
                            stop.cancelled().await;
                        }
                        break 'items;
                    }
                }
            }
            None => {
                shared.report_bug("the tail ended");
                stop.cancelled().await;
                break;
            }
        }
    }
}

/// Waits until it is known which destinations have queues that cannot be opened, and until there is one
/// that has not.
async fn open(outlets: &[Outlet]) {
    join_all(outlets.iter().map(Outlet::tried)).await;
    let opened = outlets.iter().map(|outlet| Box::pin(outlet.opened()));
    select_all(opened).await;
}

/// A batch that the tail has handed over and the ledger does not know yet. Whatever ends the
/// pipeline, its lines are entered then, to be taken back.
struct Unentered<'a> {
    shared: &'a Shared,
    /// Until the plugin has decided.
    receipt: Option<Receipt>,
    /// Afterwards.
    parts: VecDeque<Processed>,
}

impl<'a> Unentered<'a> {
    fn new(shared: &'a Shared, batch: &Batch) -> Self {
        Self {
            shared,
            receipt: Some(shared.ledger.receipt(batch)),
            parts: VecDeque::new(),
        }
    }

    fn decided(&mut self, parts: Vec<Processed>) {
        self.receipt = None;
        self.parts = parts.into();
    }

    /// Enters the next part. None if there is none.
    async fn enter_next(&mut self) -> Option<Arc<Parcel>> {
        let dead = match self.parts.front() {
            Some(part) => bury(self.shared, part).await,
            None => return None,
        };
        let part = self.parts.pop_front()?;
        let parcel = self.shared.ledger.enter(part.batch, part.output, dead);
        Some(Arc::new(parcel))
    }
}

impl Drop for Unentered<'_> {
    fn drop(&mut self) {
        if let Some(receipt) = self.receipt.take() {
            self.shared.ledger.enter_receipt(receipt);
        }
        for part in self.parts.drain(..) {
            self.shared.ledger.enter_unsent(&part.batch);
        }
    }
}

impl Shared {
    pub(super) fn report_bug(&self, what: &str) {
        tracing::error!(plugin = %self.context.identity, "{what} by itself");
        self.live().problem = Some(format!("{what}; please report this as a bug"));
    }
}

/// Writes a line that the plugin cannot process to the dead letters, however long that takes. Returns
/// the lines that are there.
pub(super) async fn bury(shared: &Shared, part: &Processed) -> &'static [u32] {
    let Some(reason) = &part.set_aside else {
        return &[];
    };
    let plugin = &shared.context.identity;
    tracing::warn!(%plugin, "a line was set aside: {reason}");
    let mut entries = Entries::new("(plugin)");
    entries.record(&part.batch.record(0), reason);
    while let Err(problem) = shared
        .context
        .dead_letters
        .write(entries.bytes.clone())
        .await
    {
        tracing::error!(%plugin, "{problem}");
        shared.live().problem = Some(problem);
        tokio::time::sleep(COMMIT).await;
    }
    // It is alone in its batch.
    &[0]
}
