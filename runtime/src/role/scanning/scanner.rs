//! The task of a role that runs: takes what the feed hands out to the plugin, and what the plugin finds to
//! the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::io::Errno;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::driver::Shared;
use super::feed::{
    Absent, Batch, EVENT, Feed, File, Kind, Message, PassKind, Subscriber, Subscription,
};
use super::findings::{Failed, Findings, Whole};
use super::judge::{Assess, Begin, End, GetOutline, Owned, Rest, Scan, Unjudged, ask};
use super::outline::Outline;
use super::report::PassReport;
use super::snapshot::Looker;
use crate::manifest::{Manifest, Scanning};
use crate::sandbox::WorkSender;

/// How soon what failed is tried again.
const RETRY: Duration = Duration::from_secs(15);
/// Nothing came for so long, and no pass is under way: what the plugin keeps for more is not needed.
const QUIET: Duration = Duration::from_secs(10);
/// Files by which a plugin fails that are told by name.
const TOLD: usize = 20;
/// Files that a plugin refuses, each by itself, until it is taken to refuse all of a batch.
const REFUSED: usize = 4;
/// Files with findings that are looked for at a time, after a pass.
const LOOKED_FOR: usize = 512;
/// Threads that look for them.
const LOOKS: usize = 2;

/// What may have a problem of its own; the first is the one that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Start,
    Store,
    Files,
    Begin,
    Scan,
    End,
    Assess,
}

/// The task of a role that runs.
pub(super) struct Scanner {
    pub(super) shared: Arc<Shared>,
    pub(super) settings: Scanning,
    pub(super) manifest: Arc<Manifest>,
    pub(super) work: WorkSender,
}

/// Which of some files are passed to a plugin no more. Blocks.
type Look = fn(&Feed, &str, Vec<Vec<u8>>) -> Absent;

/// A file of which something is passed in several batches, and which the plugin failed by.
struct Skipped {
    device: u64,
    inode: u64,
    /// It was refused with all else, and does not count as judged.
    refused: bool,
}

impl Scanner {
    /// Works until it is dropped.
    pub(super) async fn run(&self) {
        loop {
            self.until_another().await;
        }
    }

    /// Works until the instance is one that judges by other rules.
    async fn until_another(&self) {
        let (outline, feed, findings) = loop {
            match self.open().await {
                Ok(opened) => break opened,
                Err(problem) => {
                    self.problem(Part::Start, problem);
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        self.settled(Part::Start);
        self.leave_out(&outline, &findings).await;
        let mut subscriber = None;
        let mut subscribe = tokio::time::interval(RETRY);
        subscribe.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let looker = Looker::of(&self.shared.context.rooms.folders);
        let assesses = !outline.wants.is_empty();
        let mut assess = tokio::time::interval(self.settings.schedule.assess.0);
        assess.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut skipped = None;
        let mut begun = Instant::now();
        let mut in_pass = false;
        let mut rest_at = None;
        loop {
            // A pass has files on the way as long as it goes on.
            let quiet = rest_at.filter(|_| !in_pass);
            tokio::select! {
                () = at(quiet) => {
                    rest_at = None;
                    // If the role ends, nothing needs to rest.
                    let _ = self.work.send(Box::new(Rest)).await;
                }
                _ = subscribe.tick(), if outline.files.is_some() && subscriber.is_none() => {
                    match self.subscribe(&outline, feed.clone()).await {
                        Ok(subscribed) => {
                            subscriber = subscribed;
                            self.settled(Part::Files);
                            self.look_for_absent(&feed, &findings, Feed::left_out).await;
                        }
                        Err(problem) => self.problem(Part::Files, problem),
                    }
                }
                message = next(&mut subscriber) => match message {
                    Some(Message::Begin { kind, resumed }) => {
                        begun = Instant::now();
                        in_pass = true;
                        if self.is_another(&outline).await {
                            return;
                        }
                        let kind = if resumed { PassKind::Changed } else { kind };
                        self.begin(kind).await;
                    }
                    Some(Message::Batch(batch)) => {
                        // The plugin may keep the beginning of a file that goes on.
                        let last = batch.files.len().saturating_sub(1);
                        let rests = ends(&batch, last);
                        let amid = in_pass || !rests;
                        self.batch(&findings, batch, amid, &mut skipped).await;
                        rest_at = rests.then(|| Instant::now() + QUIET);
                    }
                    Some(Message::End { number, kind, complete, errors }) => {
                        (in_pass, rest_at) = (false, Some(Instant::now() + QUIET));
                        self.end(&feed, &findings, complete).await;
                        let pass = PassReport::of(number, kind, complete, begun.elapsed(), errors);
                        self.shared.live().report.passed(pass);
                    }
                    None => {
                        let problem = "the feed of files has ended; it is begun again";
                        self.problem(Part::Files, problem.to_owned());
                        subscriber = None;
                        in_pass = false;
                    }
                },
                _ = assess.tick(), if assesses => {
                    self.assess(&outline, &looker, &findings).await;
                    rest_at = Some(Instant::now() + QUIET);
                }
            }
        }
    }

    fn problem(&self, part: Part, problem: String) {
        let mut live = self.shared.live();
        if live.problems.get(&part) != Some(&problem) {
            tracing::error!(plugin = %self.shared.context.plugin, "{problem}");
        }
        live.problems.insert(part, problem);
    }

    fn settled(&self, part: Part) {
        self.shared.live().problems.remove(&part);
    }

    /// Whether the store took it.
    fn kept(&self, kept: Result<(), Failed>) -> bool {
        match kept {
            Ok(()) => self.settled(Part::Store),
            Err(error) => {
                self.problem(Part::Store, error.to_string());
                return false;
            }
        }
        true
    }

    async fn open(&self) -> Result<(Arc<Outline>, Feed, Findings), String> {
        let outline = ask(&self.work, |reply| Box::new(GetOutline(reply))).await;
        let outline = outline.map_err(|why| why.to_string())?;
        let rooms = self.shared.context.rooms.clone();
        let opened = tokio::task::spawn_blocking(move || rooms.open()).await;
        let (feed, findings) = opened.map_err(|error| error.to_string())??;
        // What is suppressed from now on is told, too.
        self.shared.publisher.listen(&findings);
        let (plugin, suppress) = (&self.shared.context.plugin, &self.settings.suppress);
        let enrolled = findings
            .enrol(plugin, outline.rules.clone(), suppress)
            .await;
        enrolled.map_err(|error| error.to_string())?;
        Ok((outline, feed, findings))
    }

    /// Whether the instance at work judges otherwise than `outline` says: a fresh one may, if it has read
    /// other rules from files, or lost what it knew.
    async fn is_another(&self, outline: &Outline) -> bool {
        let now = ask(&self.work, |reply| Box::new(GetOutline(reply))).await;
        now.is_ok_and(|now| now.rule_set != outline.rule_set)
    }

    async fn subscribe(&self, outline: &Outline, feed: Feed) -> Result<Option<Subscriber>, String> {
        let Some(interest) = outline.files else {
            return Ok(None);
        };
        let files = &self.settings.files;
        let roots = match files.include.is_empty() {
            true => self.manifest.spec.grants.scan.files.clone(),
            false => files.include.clone(),
        };
        let subscription = Subscription {
            name: self.shared.context.plugin.to_string(),
            roots,
            exclude: files.exclude.clone(),
            one_file_system: files.one_file_system,
            interest,
            rule_set: outline.rule_set.clone(),
            schedule: self.settings.schedule.clone(),
            budget: self.settings.budget.clone(),
        };
        let subscribed = tokio::task::spawn_blocking(move || feed.subscribe(subscription)).await;
        let subscribed = subscribed.map_err(|error| error.to_string())?;
        subscribed.map(Some).map_err(|error| error.to_string())
    }

    async fn begin(&self, kind: PassKind) {
        let begun = ask(&self.work, |reply| Box::new(Begin { kind, reply })).await;
        match begun {
            Ok(Ok(())) => self.settled(Part::Begin),
            Err(why) | Ok(Err(why)) => self.say(Part::Begin, &why),
        }
    }

    /// Has a batch judged, and keeps what was found. A file by which the plugin fails is found by halves,
    /// tried once more, since the node may just be slow, and left alone until it changes. If the plugin
    /// refuses all that there is, it is not about the files, and the batch counts as failed.
    /// `amid`: there is more of its last file, or of its pass.
    async fn batch(
        &self,
        findings: &Findings,
        batch: Batch,
        amid: bool,
        skipped: &mut Option<Skipped>,
    ) {
        self.count(&batch);
        let gone = self.gone(findings, &batch).await;
        if !self.kept(gone) {
            return batch.failed();
        }
        let all = 0..batch.files.len();
        let mut waiting = Vec::from([all]);
        let mut batch = batch;
        let mut judged: Vec<Owned> = Vec::new();
        let mut unjudged: Vec<(usize, Unjudged)> = Vec::new();
        let mut tried = None;
        let mut passed = false;
        let mut failed = false;
        while let Some(range) = waiting.pop() {
            if let [file] = batch.files.get(range.clone()).unwrap_or_default()
                && let Some(skip) = skipped
                && (skip.device, skip.inode) == (file.device, file.inode)
            {
                failed |= skip.refused;
                if ends(&batch, range.start) {
                    *skipped = None;
                }
                continue;
            }
            let files = range.clone();
            let (reply, answer) = oneshot::channel();
            let work = Scan {
                amid: amid || files.end < batch.files.len(),
                batch,
                files,
                reply,
            };
            // Dropped with the work, it counts as failed.
            if self.work.send(Box::new(work)).await.is_err() {
                return;
            }
            let Ok((back, answer)) = answer.await else {
                return;
            };
            batch = back;
            match answer {
                Ok(found) => {
                    passed = true;
                    judged.extend(found);
                }
                Err(Unjudged::Gone) => return batch.failed(),
                Err(why) if range.len() > 1 => {
                    self.say(Part::Scan, &why);
                    let middle = range.start + range.len() / 2;
                    waiting.push(middle..range.end);
                    waiting.push(range.start..middle);
                }
                // A fresh instance would not know the beginning of a file that goes on.
                Err(why) if tried != Some(range.start) && begins(&batch, range.start) => {
                    self.say(Part::Scan, &why);
                    tried = Some(range.start);
                    waiting.push(range);
                }
                Err(why) => {
                    self.say(Part::Scan, &why);
                    unjudged.push((range.start, why));
                    if !passed && unjudged.len() >= REFUSED && all_refused(&unjudged) {
                        break;
                    }
                }
            }
        }
        let refused = !passed && all_refused(&unjudged);
        for (index, why) in &unjudged {
            let Some(file) = batch.files.get(*index) else {
                continue;
            };
            if !refused {
                self.unjudged(&batch, file, why);
            }
            if !ends(&batch, *index) {
                *skipped = Some(Skipped {
                    device: file.device,
                    inode: file.inode,
                    refused,
                });
            }
        }
        if failed || refused {
            return batch.failed();
        }
        if unjudged.is_empty() && passed {
            self.settled(Part::Scan);
        }
        let plugin = &self.shared.context.plugin;
        let kept = findings.judge(plugin, judged.iter().map(Owned::judged));
        match self.kept(kept.await) {
            true => batch.judged(),
            false => batch.failed(),
        }
    }

    fn count(&self, batch: &Batch) {
        let mut live = self.shared.live();
        let report = &mut live.report;
        for (index, file) in batch.files.iter().enumerate() {
            // One that goes on is counted once.
            if ends(batch, index) {
                report.files += 1;
                report.events += u64::from(file.flags & EVENT != 0);
            }
        }
        let pieces = batch.pieces.iter();
        report.bytes += pieces.map(|piece| u64::from(piece.length)).sum::<u64>();
    }

    /// Resolves what was found of files that are gone.
    async fn gone(&self, findings: &Findings, batch: &Batch) -> Result<(), Failed> {
        let plugin = &self.shared.context.plugin;
        let absent = Errno::NOENT.raw_os_error().unsigned_abs();
        let gone = batch.files.iter().filter(|file| file.error == absent);
        let mut paths = Vec::new();
        for file in gone {
            let path = batch.span(file.path).to_vec();
            if file.kind == Kind::Directory {
                findings.gone_below(plugin, path.clone()).await?;
            }
            paths.push(path);
        }
        findings.gone(plugin, paths).await
    }

    fn unjudged(&self, batch: &Batch, file: &File, why: &Unjudged) {
        let path = String::from_utf8_lossy(batch.span(file.path)).into_owned();
        tracing::warn!(plugin = %self.shared.context.plugin, ?path, "not judged: {why}");
        let mut live = self.shared.live();
        let report = &mut live.report;
        report.unjudged += 1;
        if report.unjudged_files.len() == TOLD {
            report.unjudged_files.remove(0);
        }
        report.unjudged_files.push(format!("{path:?}: {why}"));
    }

    async fn end(&self, feed: &Feed, findings: &Findings, complete: bool) {
        let ended = ask(&self.work, |reply| Box::new(End { complete, reply })).await;
        match ended {
            Ok(Ok(found)) => {
                let plugin = &self.shared.context.plugin;
                self.settled(Part::End);
                self.kept(findings.replace(plugin, Whole::Pass, found).await);
            }
            Ok(Err(why)) | Err(why) => self.say(Part::End, &why),
        }
        if complete {
            self.look_for_absent(feed, findings, Feed::absent).await;
        }
    }

    /// Files with findings may be left out from now on, have gone while nobody watched, or be on what was
    /// mounted since: as `look` tells.
    async fn look_for_absent(&self, feed: &Feed, findings: &Findings, look: Look) {
        let plugin = &self.shared.context.plugin;
        let (mut looks, mut from) = (JoinSet::new(), Some(None));
        loop {
            if let Some(after) = from
                && looks.len() < LOOKS
            {
                // What cannot be read is looked for after the next pass.
                let files = findings.files(plugin, after, LOOKED_FOR).await;
                let (paths, next) = files.unwrap_or_default();
                let (feed, name) = (feed.clone(), plugin.to_string());
                looks.spawn_blocking(move || look(&feed, &name, paths));
                from = next.map(Some);
                continue;
            }
            let Some(Ok(Absent { left_out, gone })) = looks.join_next().await else {
                return;
            };
            let gone = findings.gone(plugin, gone).await;
            if !self.kept(gone) || !self.kept(findings.left_out(plugin, left_out).await) {
                return;
            }
        }
    }

    /// What was found in ways in which the plugin does not look any more.
    async fn leave_out(&self, outline: &Outline, findings: &Findings) {
        let plugin = &self.shared.context.plugin;
        if outline.wants.is_empty() {
            self.kept(findings.replace(plugin, Whole::Node, Vec::new()).await);
        }
        if outline.files.is_some() {
            return;
        }
        self.kept(findings.replace(plugin, Whole::Pass, Vec::new()).await);
        loop {
            match findings.files(plugin, None, LOOKED_FOR).await {
                Ok((paths, _)) if !paths.is_empty() => {
                    if !self.kept(findings.left_out(plugin, paths).await) {
                        return;
                    }
                }
                _ => return,
            }
        }
    }

    async fn assess(&self, outline: &Outline, looker: &Looker, findings: &Findings) {
        let (looker, wants) = (looker.clone(), outline.wants.clone());
        let looked = tokio::task::spawn_blocking(move || looker.look(&wants)).await;
        let seen = match looked {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => return self.problem(Part::Assess, error.to_string()),
            Err(error) => return self.problem(Part::Assess, error.to_string()),
        };
        let troubles = seen.troubles.clone();
        let facts = match self.manifest.spec.grants.node_facts {
            true => (self.shared.context.facts)(),
            false => Vec::new(),
        };
        let answer = ask(&self.work, |reply| Box::new(Assess { seen, facts, reply })).await;
        match answer {
            Ok(Ok(found)) => {
                let plugin = &self.shared.context.plugin;
                self.settled(Part::Assess);
                self.kept(findings.replace(plugin, Whole::Node, found).await);
            }
            Ok(Err(why)) | Err(why) => return self.say(Part::Assess, &why),
        }
        let mut live = self.shared.live();
        live.report.assessments += 1;
        live.report.last_assessment = Some(Timestamp::now());
        live.report.troubles = troubles.count;
        live.report.first_trouble = troubles.first;
    }

    /// Says what the plugin refused. What it failed by, its own status has.
    fn say(&self, part: Part, why: &Unjudged) {
        match why {
            Unjudged::Refused(message) => {
                let call = match part {
                    Part::Begin => "scanning.begin: ",
                    Part::Scan => "scanning.scan: ",
                    Part::End => "scanning.end: ",
                    Part::Assess => "scanning.assess: ",
                    Part::Start | Part::Store | Part::Files => "",
                };
                self.problem(part, format!("{call}the plugin says: {message}"));
            }
            Unjudged::Failed(_) | Unjudged::Gone => {}
        }
    }
}

/// At that time; never without one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

async fn next(subscriber: &mut Option<Subscriber>) -> Option<Message> {
    match subscriber {
        Some(subscriber) => subscriber.next().await,
        None => std::future::pending().await,
    }
}

/// Whether the plugin itself said no to all of these.
fn all_refused(unjudged: &[(usize, Unjudged)]) -> bool {
    let mut whys = unjudged.iter().map(|(_, why)| why);
    !unjudged.is_empty() && whys.all(|why| matches!(why, Unjudged::Refused(_)))
}

/// Whether nothing of a file came before this batch.
fn begins(batch: &Batch, file: usize) -> bool {
    let mut pieces = batch.pieces.iter().filter(|it| it.file as usize == file);
    pieces.next().is_none_or(|piece| piece.position == 0)
}

/// Whether nothing more of a file comes after this batch.
fn ends(batch: &Batch, file: usize) -> bool {
    let mut pieces = batch.pieces.iter().filter(|it| it.file as usize == file);
    pieces.clone().next().is_none() || pieces.any(|piece| piece.last)
}
