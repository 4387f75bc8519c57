//! One lane's worker: takes parcels off its queue, one after the other, until each is settled.

use std::any::Any;
use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::failpoint;
use crate::manifest::Retry;
use crate::role::logs::dead_letter::{DeadLetters, Entries};
use crate::role::logs::destination::{Destination, Lane, Request, SendError};
use crate::role::logs::output::{Content, DestinationIndex, Parcel, Record};

use super::Settle;
use super::front::Front;
use super::stats::Stats;

/// The longest that a peer may make us wait with `Retry-After`, unless the manifest's own longest
/// wait is longer: a wrong header must not stop delivery for a year.
const LONGEST_AFTER: Duration = Duration::from_secs(600);
/// A buffer that grew beyond this, in bytes, is given back once its request is through.
const KEEP_BUFFER: usize = 1 << 20;

/// What a worker needs.
pub(super) struct Setup {
    pub(super) index: DestinationIndex,
    pub(super) lane: usize,
    pub(super) destination: Arc<dyn Destination>,
    pub(super) retry: Retry,
    pub(super) plugin: Arc<str>,
    pub(super) settle: Arc<dyn Settle>,
    pub(super) dead_letters: Option<Arc<DeadLetters>>,
    pub(super) stats: Arc<Stats>,
    pub(super) unsettled: Arc<AtomicUsize>,
    pub(super) stop: CancellationToken,
}

pub(super) struct Worker {
    setup: Setup,
    lane: Box<dyn Lane>,
    body: Vec<u8>,
    /// Failures in a row, for the status; 0 when all is well.
    failures: u32,
}

/// The worker was told to stop; the parcel at hand stays unsettled.
struct Stopped;

/// Where a parcel comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// From who is told once it is settled.
    Sender,
    /// From a queue, which has said so already.
    Queue,
}

/// How far a parcel has come. Outlives a panic, so that nothing is sent twice or settled twice
/// because of one.
#[derive(Default)]
struct Progress {
    /// Records or payloads that are through.
    done: usize,
    dead_lettered: Vec<u32>,
    settled: bool,
}

impl Worker {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            lane: Arc::clone(&setup.destination).lane(),
            setup,
            body: Vec::new(),
            failures: 0,
        }
    }

    /// Delivers what a queue holds until that is closed, and then what comes through `sent` until
    /// `closing` is cancelled and nothing is left; or works until it is stopped.
    pub(super) async fn run(
        mut self,
        front: Arc<Front>,
        mut sent: mpsc::Receiver<Arc<Parcel>>,
        closing: CancellationToken,
    ) {
        let stop = self.setup.stop.clone();
        let queue = stop.run_until_cancelled(front.reader(self.setup.lane));
        let Some(Ok(queue)) = queue.await else { return };
        if let Some(mut queue) = queue {
            while let Some(Some(parcel)) = stop.run_until_cancelled(queue.next()).await {
                if self.settle_one(&parcel, From::Queue).await.is_err() {
                    return;
                }
                queue.settle();
            }
            if closing.is_cancelled() {
                // What comes after it has to wait for it.
                return;
            }
        }
        loop {
            let parcel = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = closing.cancelled(), if !sent.is_closed() => {
                    sent.close();
                    continue;
                }
                parcel = sent.recv() => parcel,
            };
            let Some(parcel) = parcel else { return };
            if self.settle_one(&parcel, From::Sender).await.is_err() {
                return;
            }
            self.setup.unsettled.fetch_sub(1, Ordering::Release);
        }
    }

    async fn settle_one(&mut self, parcel: &Arc<Parcel>, from: From) -> Result<(), Stopped> {
        let mut progress = Progress::default();
        let mut panics = 0;
        loop {
            let attempt =
                AssertUnwindSafe(self.deliver(parcel, from, &mut progress)).catch_unwind();
            let panic = match attempt.await {
                Ok(result) => return result,
                Err(panic) => panic_text(&*panic).to_owned(),
            };
            let reason = format!(
                "internal error in this destination: {panic}: please report it; it is tried again"
            );
            tracing::error!(
                plugin = %self.setup.plugin,
                destination = %self.setup.stats.name,
                "{reason}"
            );
            if progress.settled {
                // The one who is told has failed; telling again might count twice.
                self.setup.stats.noted(&reason);
                return Ok(());
            }
            panics += 1;
            // Whatever state the panic left behind goes with the old lane.
            self.lane = Arc::clone(&self.setup.destination).lane();
            self.body = Vec::new();
            self.wait(panics, None, &reason).await?;
        }
    }

    async fn deliver(
        &mut self,
        parcel: &Arc<Parcel>,
        from: From,
        progress: &mut Progress,
    ) -> Result<(), Stopped> {
        match &parcel.output.content {
            Content::Payloads(_) => self.payloads(parcel, progress).await?,
            _ => self.records(parcel, progress).await?,
        }
        let dead = &mut progress.dead_lettered;
        dead.sort_unstable();
        dead.dedup();
        progress.settled = true;
        if from == From::Sender {
            self.setup
                .settle
                .settled(self.setup.index, parcel, &progress.dead_lettered);
        }
        failpoint::hit("delivery.settled");
        Ok(())
    }

    async fn payloads(
        &mut self,
        parcel: &Arc<Parcel>,
        progress: &mut Progress,
    ) -> Result<(), Stopped> {
        for (payload, lines) in parcel.payloads(self.setup.index).skip(progress.done) {
            self.body.clear();
            self.lane.encode_payload(payload, &mut self.body);
            let body = Bytes::from(std::mem::take(&mut self.body));
            let mut attempt = 0;
            loop {
                attempt += 1;
                let reason = match self.send(&body, &[], attempt).await? {
                    Ok(()) => {
                        self.acknowledged(lines.len(), body.len());
                        break;
                    }
                    Err(error) if error.note().is_some() => {
                        self.acknowledged(lines.len(), body.len());
                        self.note(&error);
                        break;
                    }
                    Err(
                        SendError::Retry { after, reason }
                        | SendError::Partial { after, reason, .. },
                    ) => {
                        if !self.gave_up(attempt) {
                            self.setup.stats.retried();
                            self.wait(attempt, after, &reason).await?;
                            continue;
                        }
                        given_up(attempt, &reason)
                    }
                    Err(SendError::Rejected { reason } | SendError::TooLarge { reason }) => reason,
                };
                let stats = Arc::clone(&self.setup.stats);
                let mut entries = Entries::new(&stats.name);
                entries.payload(payload, lines.len(), &reason);
                self.bury(entries, lines.len(), &reason).await?;
                progress.dead_lettered.extend_from_slice(lines);
                break;
            }
            self.reuse(body);
            progress.done += 1;
        }
        Ok(())
    }

    async fn records(
        &mut self,
        parcel: &Arc<Parcel>,
        progress: &mut Progress,
    ) -> Result<(), Stopped> {
        let records: Vec<Record<'_>> = parcel.records(self.setup.index).collect();
        while let Some(rest) = records.get(progress.done..)
            && !rest.is_empty()
        {
            progress.done += self
                .request(parcel, rest, &mut progress.dead_lettered)
                .await?;
        }
        Ok(())
    }

    /// Delivers as many of `records` as one request takes, and returns how many: each is
    /// acknowledged or in the dead letters by then, through however many requests it took.
    async fn request(
        &mut self,
        parcel: &Parcel,
        records: &[Record<'_>],
        dead_lettered: &mut Vec<u32>,
    ) -> Result<usize, Stopped> {
        let mut group = Cow::Borrowed(records);
        // What was split off, in order, to follow once `group` is through.
        let mut later: Vec<Record<'_>> = Vec::new();
        let mut body = self.encode(parcel, &mut group, &mut later);
        // What did not fit in the first place is the caller's to hand in again.
        later.clear();
        let taken = group.len();
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.send(&body, &group, attempt).await? {
                Ok(()) => self.acknowledged(group.len(), body.len()),
                Err(error) if error.note().is_some() => {
                    self.acknowledged(group.len(), body.len());
                    self.note(&error);
                }
                Err(SendError::Retry { after, reason }) => {
                    if !self.gave_up(attempt) {
                        self.setup.stats.retried();
                        self.wait(attempt, after, &reason).await?;
                        continue;
                    }
                    let reason = given_up(attempt, &reason);
                    self.bury_records(group.iter().map(|r| (r, &*reason)), dead_lettered)
                        .await?;
                }
                Err(SendError::Rejected { reason }) => {
                    self.bury_records(group.iter().map(|r| (r, &*reason)), dead_lettered)
                        .await?;
                }
                Err(SendError::TooLarge { reason }) if group.len() == 1 => {
                    self.bury_records(group.iter().map(|r| (r, &*reason)), dead_lettered)
                        .await?;
                }
                Err(SendError::TooLarge { .. }) => {
                    self.setup.stats.retried();
                    let (first, second) = group.split_at(group.len() / 2);
                    later.splice(0..0, second.iter().copied());
                    group = Cow::Owned(first.to_vec());
                    self.reuse(body);
                    body = self.encode(parcel, &mut group, &mut later);
                    attempt = 0;
                    continue;
                }
                Err(SendError::Partial {
                    retry,
                    rejected,
                    after,
                    reason,
                }) => {
                    let again: Vec<Record<'_>> = retry
                        .iter()
                        .filter_map(|&i| group.get(i).copied())
                        .collect();
                    let refused: Vec<(&Record<'_>, &str)> = rejected
                        .iter()
                        .filter_map(|(i, why)| Some((group.get(*i)?, why.as_str())))
                        .collect();
                    let accepted = group.len().saturating_sub(again.len() + refused.len());
                    if !refused.is_empty() {
                        // Without what was refused it is another request, which some peers judge
                        // only now.
                        attempt = 0;
                    }
                    if accepted > 0 {
                        self.setup.stats.acknowledged(accepted, body.len());
                    }
                    self.bury_records(refused.into_iter(), dead_lettered)
                        .await?;
                    if again.is_empty() {
                        self.recovered();
                    } else if self.gave_up(attempt) {
                        let reason = given_up(attempt, &reason);
                        self.bury_records(again.iter().map(|r| (r, &*reason)), dead_lettered)
                            .await?;
                    } else {
                        self.setup.stats.retried();
                        self.wait(attempt.max(1), after, &reason).await?;
                        group = Cow::Owned(again);
                        self.reuse(body);
                        body = self.encode(parcel, &mut group, &mut later);
                        continue;
                    }
                }
            }
            self.reuse(body);
            if later.is_empty() {
                return Ok(taken);
            }
            group = Cow::Owned(std::mem::take(&mut later));
            body = self.encode(parcel, &mut group, &mut later);
            attempt = 0;
        }
    }

    /// Encodes what fits of `group`, cuts `group` down to it, and puts the rest before `later`.
    fn encode<'r>(
        &mut self,
        parcel: &Parcel,
        group: &mut Cow<'_, [Record<'r>]>,
        later: &mut Vec<Record<'r>>,
    ) -> Bytes {
        self.body.clear();
        let taken = self.lane.encode(parcel, group, &mut self.body);
        let taken = taken.clamp(1, group.len());
        if taken < group.len() {
            match group {
                Cow::Borrowed(records) => {
                    let (now, rest) = records.split_at(taken);
                    later.splice(0..0, rest.iter().copied());
                    *group = Cow::Borrowed(now);
                }
                Cow::Owned(records) => {
                    let rest = records.split_off(taken);
                    later.splice(0..0, rest);
                }
            }
        }
        Bytes::from(std::mem::take(&mut self.body))
    }

    /// One attempt.
    async fn send(
        &mut self,
        body: &Bytes,
        records: &[Record<'_>],
        attempt: u32,
    ) -> Result<Result<(), SendError>, Stopped> {
        failpoint::hit("delivery.before-send");
        let request = Request {
            body,
            records,
            attempt,
        };
        let _in_flight = self.setup.stats.begin();
        tokio::select! {
            biased;
            () = self.setup.stop.cancelled() => Err(Stopped),
            result = self.lane.send(request) => {
                failpoint::hit("delivery.after-send");
                Ok(result)
            }
        }
    }

    /// Takes the memory of a sent body back, if no one else still holds it.
    fn reuse(&mut self, body: Bytes) {
        if let Ok(buffer) = body.try_into_mut()
            && buffer.capacity() <= KEEP_BUFFER
        {
            self.body = Vec::from(buffer);
        }
    }

    fn acknowledged(&mut self, lines: usize, bytes: usize) {
        self.setup.stats.acknowledged(lines, bytes);
        self.recovered();
    }

    /// Shows what the peer said beside its acknowledgement.
    fn note(&self, error: &SendError) {
        let Some(reason) = error.note() else { return };
        self.setup.stats.noted(reason);
        tracing::warn!(
            plugin = %self.setup.plugin,
            destination = %self.setup.stats.name,
            "acknowledged, but: {reason}"
        );
    }

    fn recovered(&mut self) {
        if self.failures > 0 {
            tracing::info!(
                plugin = %self.setup.plugin,
                destination = %self.setup.stats.name,
                "works again after {} failed attempts", self.failures
            );
            self.failures = 0;
            self.setup.stats.recovered(self.setup.lane);
        }
    }

    fn gave_up(&self, attempt: u32) -> bool {
        self.setup
            .retry
            .attempts
            .is_some_and(|limit| attempt >= limit)
    }

    async fn bury_records<'r>(
        &mut self,
        records: impl Iterator<Item = (&'r Record<'r>, &'r str)> + Send,
        dead_lettered: &mut Vec<u32>,
    ) -> Result<(), Stopped> {
        let stats = Arc::clone(&self.setup.stats);
        let mut entries = Entries::new(&stats.name);
        let mut lines = Vec::new();
        let mut why = "";
        for (record, reason) in records {
            if self.setup.dead_letters.is_some() {
                entries.record(record, reason);
            }
            lines.push(record.line);
            why = reason;
        }
        self.bury(entries, lines.len(), why).await?;
        dead_lettered.append(&mut lines);
        Ok(())
    }

    /// Writes dead letters, for as long as it takes: they are the lines' last place.
    async fn bury(
        &mut self,
        entries: Entries<'_>,
        records: usize,
        reason: &str,
    ) -> Result<(), Stopped> {
        if records == 0 {
            return Ok(());
        }
        let mut attempt = 0;
        if let Some(letters) = self.setup.dead_letters.clone() {
            while let Err(problem) = letters.write(entries.bytes.clone()).await {
                attempt += 1;
                self.wait(attempt, None, &problem).await?;
            }
        }
        self.setup.stats.dead_lettered(records);
        let became = match self.setup.dead_letters {
            Some(_) => "written to the dead letters",
            None => "given up",
        };
        tracing::warn!(
            plugin = %self.setup.plugin,
            destination = %self.setup.stats.name,
            records,
            "{became}: {reason}"
        );
        self.recovered();
        self.setup.stats.noted(reason);
        Ok(())
    }

    /// Records failure number `attempt` and waits before the next: exponential backoff with full
    /// jitter, and at least as long as the peer asks.
    async fn wait(
        &mut self,
        attempt: u32,
        after: Option<Duration>,
        reason: &str,
    ) -> Result<(), Stopped> {
        self.failures = self.failures.saturating_add(1);
        self.setup
            .stats
            .failed(self.setup.lane, self.failures, reason);
        if self.failures.is_power_of_two() {
            tracing::warn!(
                plugin = %self.setup.plugin,
                destination = %self.setup.stats.name,
                attempt,
                "{reason}"
            );
        }
        let wait = backoff(&self.setup.retry, attempt, after, fastrand::f64());
        tokio::select! {
            biased;
            () = self.setup.stop.cancelled() => Err(Stopped),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }
}

/// How long to wait after failure number `attempt` (from 1); `jitter` is in 0..1.
fn backoff(retry: &Retry, attempt: u32, after: Option<Duration>, jitter: f64) -> Duration {
    let max = retry.max.0;
    let doubled = 2u32.saturating_pow(attempt.saturating_sub(1).min(31));
    let ceiling = retry.initial.0.saturating_mul(doubled).min(max);
    let drawn = ceiling.mul_f64(jitter.clamp(0.0, 1.0));
    match after {
        // The draw on top, so that all lanes and nodes do not come back in one instant.
        Some(after) => after
            .min(LONGEST_AFTER.max(max))
            .saturating_add(drawn.min(after)),
        None => drawn,
    }
}

fn given_up(attempts: u32, reason: &str) -> String {
    format!("given up after {attempts} attempts: {reason}")
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Period;

    #[test]
    fn backoff_doubles_to_its_ceiling_and_honours_the_peer() {
        let retry = Retry {
            initial: Period::millis(200),
            max: Period::seconds(30),
            attempts: None,
        };
        let wait = |attempt, after| backoff(&retry, attempt, after, 1.0).as_millis();
        let waits: Vec<_> = (1..5).map(|attempt| wait(attempt, None)).collect();
        assert_eq!(waits, [200, 400, 800, 1600]);
        assert_eq!(wait(30, None), 30_000);
        assert_eq!(wait(u32::MAX, None), 30_000);
        assert_eq!(backoff(&retry, 9, None, 0.0), Duration::ZERO);
        let after = Duration::from_secs(7);
        assert!(backoff(&retry, 1, Some(after), 0.0) >= after);
        let year = Duration::from_secs(86_400 * 365);
        assert!(backoff(&retry, 1, Some(year), 1.0) < Duration::from_secs(700));
    }
}
