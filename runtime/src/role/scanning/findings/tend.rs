//! The thread that writes findings: all that waits goes into one transaction, so that many judgements
//! wait for the disk together.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use tokio::sync::{mpsc, oneshot};

use super::store::{Failed, Shared};
use super::writer::{Done, Session, Task, today};
use crate::manifest::Identity;

/// The most tasks of one transaction.
const TOGETHER: usize = 256;

/// A task, and who waits for it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) task: Task,
    pub(super) answer: oneshot::Sender<Result<(), Failed>>,
}

pub(super) struct Thread {
    shared: Arc<Shared>,
    asked: mpsc::Receiver<Asked>,
    next: u64,
    /// The day as of which suppressions were looked at.
    day: Date,
}

impl Thread {
    /// Starts it. It ends when nobody can ask any more.
    pub(super) fn start(
        shared: Arc<Shared>,
        asked: mpsc::Receiver<Asked>,
        next: u64,
    ) -> io::Result<()> {
        let thread = Self {
            shared,
            asked,
            next,
            day: today(Timestamp::now()),
        };
        let builder = std::thread::Builder::new().name("findings".to_owned());
        builder.spawn(move || thread.run()).map(drop)
    }

    fn run(mut self) {
        let mut waiting = VecDeque::new();
        while let Some(first) = waiting.pop_front().or_else(|| self.asked.blocking_recv()) {
            let mut together = vec![first];
            while let Some(next) = waiting.pop_front().or_else(|| self.asked.try_recv().ok()) {
                let is_last = together
                    .iter()
                    .chain([&next])
                    .any(|it| it.task.is_solitary());
                if is_last || together.len() >= TOGETHER {
                    waiting.push_front(next);
                    break;
                }
                together.push(next);
            }
            self.together(together);
        }
    }

    fn together(&mut self, together: Vec<Asked>) {
        let (mut tasks, answers): (Vec<Task>, Vec<_>) = together
            .into_iter()
            .map(|asked| (asked.task, asked.answer))
            .unzip();
        for task in &tasks {
            if let Task::Enrol(plugin, rules, suppressions) = task {
                self.shared.change(|plugins| {
                    let known = plugins.entry(plugin.clone()).or_default();
                    known.rules = Arc::clone(rules);
                    known.suppressions.clone_from(suppressions);
                });
            }
        }
        let now = Timestamp::now();
        let day = std::mem::replace(&mut self.day, today(now));
        tasks.extend(self.due(day).into_iter().map(Task::Sweep));
        let result = self.write(&tasks, now);
        if result.is_err() {
            // What is due is due again.
            self.day = day;
        }
        for answer in answers {
            // Whoever asked may have gone: it is written all the same.
            let _ = answer.send(result.clone());
        }
    }

    /// The plugins of which a suppression ended, or counts again, since that day.
    fn due(&self, before: Date) -> Vec<Identity> {
        if before == self.day {
            return Vec::new();
        }
        let plugins = self.shared.plugins();
        let due = plugins
            .iter()
            .filter(|(_, known)| known.suppressions.differ(before, self.day));
        due.map(|(plugin, _)| plugin.clone()).collect()
    }

    fn write(&mut self, tasks: &[Task], now: Timestamp) -> Result<(), Failed> {
        let shared = Arc::clone(&self.shared);
        let heard = shared.teller.is_heard();
        let written = shared.handle.write(|transaction| {
            let plugins = shared.plugins();
            let mut session =
                Session::begin(transaction, &plugins, shared.limits, now, self.next, heard)?;
            for task in tasks {
                session.work(task)?;
            }
            session.finish()
        });
        let done = written.map_err(|error| Failed::Store(Arc::new(error)))?;
        self.remember(done);
        Ok(())
    }

    /// Takes over into memory what is on the disk now, and tells it.
    fn remember(&mut self, done: Done) {
        self.next = done.next;
        let most = self.shared.limits.open;
        self.shared.change(|plugins| {
            for (plugin, tally) in done.tallies {
                let known = plugins.entry(plugin.clone()).or_default();
                let drops = tally.dropped > known.tally.dropped;
                if drops && !known.is_full {
                    tracing::warn!(
                        plugin = %plugin,
                        "the plugin has {most} findings, and no more are kept; accept or mend some, or let it find fewer"
                    );
                }
                known.is_full = tally.kept() >= most;
                known.tally = tally;
            }
            for (plugin, file, has) in done.files {
                let files = &mut plugins.entry(plugin).or_default().files;
                match has {
                    true => files.insert(file),
                    false => files.remove(&file),
                };
            }
            if let Some(plugin) = &done.forgotten {
                plugins.remove(plugin);
            }
        });
        for change in done.changes {
            self.shared.teller.tell(change);
        }
    }
}
