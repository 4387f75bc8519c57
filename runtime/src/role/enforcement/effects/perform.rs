//! Makes changes, many at a time.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use rustix::io::Errno;

use super::Effects;
use super::audit::Entry;
use super::diff::diff;
use super::error::Error;
use super::history::shown;
use super::kept::{Ended, Kept, Outcome, Record};
use super::kind::{self, Desk, Kind};
use super::place::Folder;
use super::state::State;
use super::subject::{Subject, verb};
use super::view::Seen;
use crate::failpoint;
use crate::role::enforcement::Change;

/// How many changes take each step together, and how many bytes of old content are held meanwhile.
const TOGETHER: (usize, u64) = (256, 16 << 20);
/// What is said of an error in the logs.
const MAX_ERROR: usize = 1000;

/// What changes belong to.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// The plugin's revision, for people.
    pub revision: &'a str,
    /// The ids of its rules, in the outline's order.
    pub rules: &'a [Arc<str>],
    /// What it was made of. What was not looked at is changed whatever it is by now.
    pub seen: Option<&'a Seen>,
}

/// What became of a change that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The number under which what was there before is kept; none if there was nothing to be done.
    pub sequence: Option<u64>,
}

/// One change under way.
pub(super) struct Job {
    pub(super) record: Record,
    pub(super) kind: Box<dyn Kind>,
}

impl Job {
    pub(super) fn new(change: &Change, plan: &Plan<'_>) -> Self {
        let rule = change.rule.and_then(|rule| plan.rules.get(rule as usize));
        let subject = Subject::of(&change.action);
        Self {
            record: Record {
                sequence: 0,
                time: Timestamp::now(),
                revision: plan.revision.to_owned(),
                change: change.id.to_string(),
                rule: rule.map(|rule| rule.to_string()),
                reason: change.reason.clone(),
                action: verb(&change.action).to_owned(),
                scheme: subject.scheme().to_owned(),
                subject: subject.to_string(),
                secret: change.secret,
                before: State::Absent,
                after: State::Absent,
                undoes: None,
            },
            kind: kind::of(&change.action),
        }
    }
}

impl Effects {
    /// Makes changes that do not depend on each other. The results are in their order. Each is made, or is as
    /// if it had not been tried, or is [`Error::Unfinished`].
    pub fn make_all(&self, changes: &[&Change], plan: &Plan<'_>) -> Vec<Result<Made, Error>> {
        let jobs = changes.iter().map(|change| Job::new(change, plan));
        self.perform(jobs.collect(), plan.seen)
    }

    pub(super) fn perform(&self, jobs: Vec<Job>, seen: Option<&Seen>) -> Vec<Result<Made, Error>> {
        let mut kept = self.kept();
        let (most_jobs, most_bytes) = kept.together();
        let most_jobs = most_jobs.min(TOGETHER.0);
        let most_bytes = most_bytes.min(TOGETHER.1);
        let mut results: Vec<Option<Result<Made, Error>>> = Vec::new();
        results.resize_with(jobs.len(), || None);
        let failing = kept.failing();
        let kin = |job: &Job| match job.kind.reaches_further() {
            true => Kin::Alone,
            false if failing.contains(&job.record.attempt()) => Kin::Failing,
            false => Kin::Other,
        };
        let jobs = jobs.into_iter().enumerate();
        let mut jobs: Vec<(Kin, usize, Job)> = jobs.map(|(i, job)| (kin(&job), i, job)).collect();
        jobs.sort_by_key(|(kin, ..)| *kin);
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            if self.stopped.load(Ordering::Acquire) {
                let left = jobs.by_ref();
                left.for_each(|(_, index, _)| results[index] = Some(Err(Error::Stopped)));
                break;
            }
            let mut batch = Batch {
                effects: self,
                desk: self.desk(seen, kept.most()),
                under_way: Vec::new(),
            };
            let mut bytes = 0;
            let mut kin = None;
            // One at least, however little is kept.
            while batch.under_way.len() < most_jobs
                && (bytes < most_bytes || batch.under_way.is_empty())
                && let Some((of, index, mut job)) =
                    jobs.next_if(|(of, ..)| kin.is_none_or(|kin| of.goes_with(kin)))
            {
                kin = Some(of);
                match look(&mut job, &mut batch.desk) {
                    Ok(true) => {
                        bytes += job.record.before.size() as u64;
                        batch.under_way.push(UnderWay::new(index, job));
                    }
                    Ok(false) => results[index] = Some(Ok(Made { sequence: None })),
                    Err(error) => results[index] = Some(Err(error)),
                }
            }
            for (index, result) in batch.perform(&mut kept) {
                results[index] = Some(result);
            }
        }
        let missing = || Err(Error::NotKept("it was not tried".to_owned()));
        let results = results.into_iter();
        results.map(|it| it.unwrap_or_else(missing)).collect()
    }
}

/// Fills in what is there and what will be. Whether there is anything to do.
fn look(job: &mut Job, desk: &mut Desk<'_>) -> Result<bool, Error> {
    let (before, after) = job.kind.look(desk)?;
    let differs = before.digest() != after.digest();
    (job.record.before, job.record.after) = (before, after);
    Ok(differs || job.kind.always())
}

/// Which changes take each step together, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kin {
    Other,
    /// They have failed before: should they fail again, nothing of that is kept.
    Failing,
    /// Each by itself: what the next one finds depends on it.
    Alone,
}

impl Kin {
    fn goes_with(self, other: Self) -> bool {
        self == other && self != Self::Alone
    }
}

struct UnderWay {
    index: usize,
    job: Job,
    failed: Option<Error>,
    /// Whether the node may be otherwise by now.
    begun: bool,
    digests: (String, String),
    /// What is there afterwards, where that is known only then.
    found: Option<State>,
}

impl UnderWay {
    fn new(index: usize, job: Job) -> Self {
        let digests = (job.record.before.digest(), job.record.after.digest());
        Self {
            index,
            job,
            failed: None,
            begun: false,
            digests,
            found: None,
        }
    }

    /// Takes one step, unless an earlier one failed.
    fn step(&mut self, step: impl FnOnce(&mut Job) -> Result<(), Error>) {
        if self.failed.is_none() {
            self.failed = step(&mut self.job).err();
        }
    }

    fn ended(&self) -> Ended {
        match self.failed {
            None => Ended::Done,
            Some(Error::Unfinished(_)) => Ended::Interrupted,
            Some(_) => Ended::Failed,
        }
    }
}

struct Batch<'a> {
    effects: &'a Effects,
    desk: Desk<'a>,
    under_way: Vec<UnderWay>,
}

impl Batch<'_> {
    fn perform(mut self, kept: &mut Kept) -> Vec<(usize, Result<Made, Error>)> {
        if self.under_way.is_empty() {
            return Vec::new();
        }
        if let Err(error) = self.announce(kept) {
            let each = self.under_way.iter();
            return each.map(|it| (it.index, Err(error.clone()))).collect();
        }
        for it in &mut self.under_way {
            it.step(|job| job.kind.stage());
        }
        self.settle();
        for it in &mut self.under_way {
            let stopped = self.effects.stopped.load(Ordering::Acquire);
            it.begun = it.failed.is_none() && !stopped;
            it.step(|job| match stopped {
                true => Err(Error::Stopped),
                false => job.kind.apply(&mut self.desk),
            });
            // What was found to be another thing by then was left alone.
            it.begun &= !matches!(it.failed, Some(Error::Changed { .. }));
        }
        self.note();
        self.sync();
        self.look_after(kept.most());
        for it in &mut self.under_way {
            match it.failed {
                None => it.found = it.job.kind.outcome(&mut self.desk),
                Some(_) => it.job.kind.discard(),
            }
        }
        failpoint::hit("effect-made");
        self.tell(kept);
        failpoint::hit("effect-told");
        let each = self.under_way.into_iter();
        each.map(|it| {
            let sequence = Some(it.job.record.sequence);
            let result = it.failed.map_or(Ok(Made { sequence }), Err);
            (it.index, result)
        })
        .collect()
    }

    /// Has what was there, and what is going to be done, on the disk.
    fn announce(&mut self, kept: &mut Kept) -> Result<(), Error> {
        let records = self.under_way.iter().map(|it| {
            let record = &it.job.record;
            let text = diff(
                &record.subject,
                &record.before,
                &record.after,
                record.secret,
            );
            (record.clone(), text)
        });
        let mut records: Vec<(Record, String)> = records.collect();
        kept.begin(&mut records)?;
        for (it, (record, _)) in self.under_way.iter_mut().zip(records) {
            it.job.record.sequence = record.sequence;
        }
        failpoint::hit("effect-kept");
        let audited = self.audit("intent");
        if let Err(error) = audited {
            let outcomes = self.under_way.iter().map(|it| Outcome {
                sequence: it.job.record.sequence,
                result: Ended::Failed,
                error: Some(error.to_string()),
                after: None,
            });
            kept.end(outcomes.collect());
            return Err(error);
        }
        failpoint::hit("effect-audited");
        Ok(())
    }

    fn audit(&self, stage: &'static str) -> Result<(), Error> {
        let plugin = self.effects.plugin.to_string();
        let errors: Vec<Option<String>> = self
            .under_way
            .iter()
            .map(|it| it.failed.as_ref().map(shorten))
            .collect();
        let each = self.under_way.iter().zip(&errors);
        let entries: Vec<Entry<'_>> = each
            .map(|(it, error)| Entry {
                stage,
                plugin: &plugin,
                revision: &it.job.record.revision,
                change: &it.job.record.change,
                kept: it.job.record.sequence,
                action: &it.job.record.action,
                subject: &it.job.record.subject,
                before: &it.digests.0,
                after: &it.digests.1,
                result: (stage == "outcome").then(|| it.ended().word()),
                error: error.as_deref(),
            })
            .collect();
        let appended = self.effects.audit.append(&entries);
        appended.map_err(|error| Error::NotAudited(error.to_string()))
    }

    /// Writes what was noted for the node's next start.
    fn note(&mut self) {
        if let Err(error) = self.desk.notes.write(&mut self.desk.folders) {
            let noting = self.under_way.iter_mut().filter(|it| it.job.kind.notes());
            for it in noting {
                it.step(|_| Err(error.clone()));
            }
        }
    }

    /// Waits until all that was staged is on the disk.
    fn settle(&mut self) {
        let staged = self.under_way.iter().enumerate();
        let (places, files): (Vec<usize>, Vec<BorrowedFd<'_>>) = staged
            .filter(|(_, it)| it.failed.is_none())
            .filter_map(|(place, it)| Some((place, it.job.kind.staged()?)))
            .unzip();
        let settled = sync_all(&files);
        for (place, settled) in places.into_iter().zip(settled) {
            let it = &mut self.under_way[place];
            it.step(|job| settled.map_err(|errno| Error::of(&job.record.subject, errno)));
        }
    }

    /// Has the names of what was made on the disk: each folder once.
    fn sync(&mut self) {
        let mut folders: Vec<Rc<Folder>> = Vec::new();
        let mut places: HashMap<*const Folder, usize> = HashMap::new();
        let made = self.under_way.iter().filter(|it| it.failed.is_none());
        for folder in made.filter_map(|it| it.job.kind.folder()) {
            places.entry(Rc::as_ptr(&folder)).or_insert_with(|| {
                folders.push(folder.clone());
                folders.len() - 1
            });
        }
        let files: Vec<BorrowedFd<'_>> = folders.iter().map(|folder| folder.as_fd()).collect();
        let synced = sync_all(&files);
        for it in &mut self.under_way {
            let folder = it.job.kind.folder();
            let place = folder.and_then(|folder| places.get(&Rc::as_ptr(&folder)));
            let synced = place.and_then(|place| synced.get(*place)).copied();
            let synced = synced.unwrap_or(Ok(()));
            it.step(|job| synced.map_err(|errno| Error::of(&job.record.subject, errno)));
        }
        failpoint::hit("effect-synced");
    }

    /// Tells those that failed and changed nothing from those that did something all the same, by what is
    /// there now.
    fn look_after(&mut self, most: u64) {
        let failed = self.under_way.iter_mut();
        let mut failed = failed
            .filter(|it| it.begun && it.failed.is_some())
            .peekable();
        if failed.peek().is_none() {
            return;
        }
        // Another desk: what was looked up and noted for this batch is not what is there.
        let mut desk = self.effects.desk(None, most);
        for it in failed {
            let record = &it.job.record;
            let now = Subject::read(&record.scheme, &record.subject)
                .and_then(|subject| kind::now(&subject, &record.before, &mut desk).ok());
            if now.as_ref().is_some_and(|now| now.digest() == it.digests.0) {
                continue;
            }
            it.found = now.map(|now| shown(now, false));
            it.failed = (it.failed.take()).map(|error| Error::Unfinished(Box::new(error)));
        }
    }

    /// Writes down what became of it. Should that fail, the intent is in the log, and the daemon tells the
    /// outcome from what is there when it starts.
    fn tell(&mut self, kept: &mut Kept) {
        if let Err(error) = self.audit("outcome") {
            tracing::error!("{error}; the changes were made, see what was intended");
        }
        let outcomes = self.under_way.iter_mut().map(|it| Outcome {
            sequence: it.job.record.sequence,
            result: it.ended(),
            error: it.failed.as_ref().map(shorten),
            after: it.found.take(),
        });
        kept.end(outcomes.collect());
    }
}

/// Waits until all of these are on the disk. From several threads: the disk takes them together, and what is
/// slow is to be woken for each.
fn sync_all(files: &[BorrowedFd<'_>]) -> Vec<Result<(), Errno>> {
    const THREADS: usize = 16;
    let sync = |file: &BorrowedFd<'_>| {
        let synced = rustix::fs::fsync(file);
        failpoint::hit("effect-settled");
        synced
    };
    if files.len() < THREADS {
        return files.iter().map(sync).collect();
    }
    let each = files.len().div_ceil(THREADS);
    std::thread::scope(|scope| {
        let parts = files.chunks(each).map(|part| {
            let sync = move || part.iter().map(sync).collect::<Vec<_>>();
            // Where no thread can be had, this one does it.
            let builder = std::thread::Builder::new().stack_size(64 << 10);
            let thread = builder.spawn_scoped(scope, sync).map_err(|_| sync);
            (part.len(), thread)
        });
        let parts: Vec<_> = parts.collect();
        let results = parts.into_iter().flat_map(|(count, part)| match part {
            Ok(thread) => (thread.join()).unwrap_or_else(|_| vec![Err(Errno::IO); count]),
            Err(sync) => sync(),
        });
        results.collect()
    })
}

fn shorten(error: &Error) -> String {
    let mut text = error.to_string();
    if text.len() > MAX_ERROR {
        text.truncate(text.floor_char_boundary(MAX_ERROR));
    }
    text
}
