//! What a plugin that stands still keeps: open files that the next tail could not open itself. A
//! deleted one takes disk space, so it is kept for a bounded time, and what is lost with it is
//! counted.

use std::sync::Weak;
use std::time::{Duration, Instant};

use super::driver::{Shared, close};
use super::tail::Nameless;

/// How often they are looked at, at most.
const LOOK: Duration = Duration::from_secs(1);

/// Open files, and since when each is known to be deleted.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<(Nameless, Option<Instant>)>);

impl Kept {
    pub(super) fn extend(&mut self, files: impl IntoIterator<Item = Nameless>) {
        self.0.extend(files.into_iter().map(|file| (file, None)));
    }

    pub(super) fn take(&mut self) -> impl Iterator<Item = Nameless> + use<> {
        std::mem::take(&mut self.0)
            .into_iter()
            .map(|(file, _)| file)
    }

    /// Those that have been deleted for longer than `wait`.
    fn expired(&mut self, wait: Duration) -> Vec<Nameless> {
        for (file, deleted) in &mut self.0 {
            if deleted.is_none() && file.is_deleted() {
                *deleted = Some(Instant::now());
            }
        }
        let late = |(_, deleted): &mut (Nameless, Option<Instant>)| {
            deleted.is_some_and(|since| since.elapsed() > wait)
        };
        let expired = self.0.extract_if(.., late);
        expired.map(|(file, _)| file).collect()
    }
}

/// Looks after the files of a plugin that stands still, until it is aborted or the plugin is gone.
pub(super) async fn keep(shared: Weak<Shared>, wait: Duration) {
    loop {
        tokio::time::sleep(wait.clamp(LOOK / 10, LOOK)).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        close(shared.ledger.close_nameless(wait)).await;
        let expired: Vec<_> = {
            // Held, so that no tail begins in between.
            let mut live = shared.live();
            let expired = live.kept.expired(wait).into_iter();
            let closing = |file: Nameless| {
                let entered = shared.ledger.closing(file.file(), file.generation());
                (file, entered)
            };
            expired.map(closing).collect()
        };
        if expired.is_empty() {
            continue;
        }
        // To its end even if this task is aborted.
        let counted = tokio::task::spawn_blocking(move || {
            for (file, entered) in expired {
                let lost = file.rest(entered);
                let (plugin, id) = (&shared.context.identity, file.file());
                tracing::warn!(%plugin, file = ?id, lines = lost.lines, bytes = lost.bytes,
                    "a deleted file was given up: the plugin stood still for too long");
                shared.ledger.give_up_deleted(lost);
            }
        });
        if let Err(error) = counted.await {
            tracing::error!("counting what was given up failed: {error}");
        }
    }
}
