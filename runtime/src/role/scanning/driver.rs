//! The host's side of the role for one plugin: takes what the feed hands out to the plugin, and what the
//! plugin finds to the store.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::io::Errno;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::feed::{Batch, EVENT, Feed, File, Kind, Message, PassKind, Subscriber, Subscription};
use super::findings::{Findings, Limits, Whole};
use super::judge::{Assess, Begin, End, GetOutline, Owned, Scan, Unjudged, ask};
use super::outline::{self, Outline};
use super::publish::{self, Publisher};
use super::report::ScanningReport;
use super::snapshot::Looker;
use crate::manifest::{Identity, Manifest, Scanning};
use crate::sandbox::{Driver, NodeFolders, Prepare, Task, WorkSender};

/// How soon what failed is tried again.
const RETRY: Duration = Duration::from_secs(15);
/// Files by which a plugin fails that are told by name.
const TOLD: usize = 20;
/// Files with findings that are looked for at a time, after a pass.
const LOOKED_FOR: usize = 512;

/// What all plugins that scan share: opened when the first of them starts.
pub struct Rooms {
    folders: NodeFolders,
    state: PathBuf,
    open: Mutex<Option<(Feed, Findings)>>,
}

impl Rooms {
    /// Of the node with these folders; `state` is the daemon's state folder.
    pub fn new(folders: NodeFolders, state: PathBuf) -> Self {
        Self {
            folders,
            state,
            open: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Feed, Findings)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The findings, if any plugin scans or did.
    pub fn findings(&self) -> Option<Findings> {
        self.lock().as_ref().map(|(_, findings)| findings.clone())
    }

    /// Lets go of the findings of a plugin that is no more.
    pub async fn forget(&self, plugin: &Identity) {
        let Some(findings) = self.findings() else {
            return;
        };
        if let Err(error) = findings.forget(plugin).await {
            tracing::error!(%plugin, "{error}");
        }
    }

    /// Blocks.
    fn open(&self) -> Result<(Feed, Findings), String> {
        let mut open = self.lock();
        if let Some(open) = &*open {
            return Ok(open.clone());
        }
        let opened = Findings::open(&self.state, Limits::default());
        let opened = opened.map_err(|error| error.to_string())?;
        if let Some(aside) = &opened.set_aside {
            tracing::error!("findings were damaged, and are begun anew: {aside:?}");
        }
        let feed = Feed::open(&self.folders, &self.state).map_err(|error| {
            format!("files cannot be scanned: {}: {error}", self.state.display())
        })?;
        *open = Some((feed.clone(), opened.findings.clone()));
        Ok((feed, opened.findings))
    }
}

/// What the role needs from the daemon.
pub struct Context {
    /// For whom.
    pub plugin: Identity,
    /// Shared by all plugins.
    pub rooms: Arc<Rooms>,
    /// What is known of the node, for plugins with the grant `nodeFacts`.
    pub facts: Arc<dyn Fn() -> Vec<(String, String)> + Send + Sync>,
    /// Where tasks run that call no guest.
    pub runtime: Handle,
    /// For destinations of findings.
    pub publish: publish::Context,
}

/// The role `scanning` of one plugin.
pub struct ScanningDriver {
    shared: Arc<Shared>,
    running: Option<Running>,
}

struct Running {
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// A view of a driver, to report and to ask for a pass; clones share it.
#[derive(Clone)]
pub struct ScanningStatus(Arc<Shared>);

struct Shared {
    context: Context,
    publisher: Publisher,
    live: Mutex<Live>,
}

#[derive(Default)]
struct Live {
    runs: bool,
    report: ScanningReport,
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ScanningDriver {
    /// A driver that stands still.
    pub fn new(context: Context) -> Self {
        let publisher = Publisher::new(context.publish.clone(), context.runtime.clone());
        let shared = Arc::new(Shared {
            context,
            publisher,
            live: Mutex::default(),
        });
        let running = None;
        Self { shared, running }
    }

    /// The view for the status endpoint.
    pub fn status(&self) -> ScanningStatus {
        ScanningStatus(self.shared.clone())
    }
}

/// How instances are made ready for this role.
pub fn prepare(context: publish::Context) -> Prepare {
    Arc::new(
        move |manifest, instance| match publish::check(manifest, &context) {
            Ok(()) => Box::pin(outline::prepare(manifest, instance)),
            Err(problem) => Box::pin(std::future::ready(Ok(Err(problem)))),
        },
    )
}

impl Driver for ScanningDriver {
    fn prepare(&self) -> Prepare {
        prepare(self.shared.context.publish.clone())
    }

    /// Always: another revision judges by other rules.
    fn restarts(&self, _: &Manifest, _: &Manifest) -> bool {
        true
    }

    fn start(&mut self, manifest: Arc<Manifest>, work: WorkSender) {
        let settings = manifest.spec.scanning.clone().unwrap_or_default();
        self.shared.live().runs = true;
        self.shared.publisher.set(&settings.destinations);
        let cancel = CancellationToken::new();
        let scan = Scanner {
            shared: self.shared.clone(),
            settings,
            manifest,
            work,
            cancel: cancel.clone(),
        };
        let task = self.shared.context.runtime.spawn(async move {
            let cancelled = scan.cancel.clone();
            // What was not judged by then is passed again in the next pass.
            cancelled.run_until_cancelled(scan.run()).await;
        });
        self.running = Some(Running { cancel, task });
    }

    fn stop(&mut self, drain: Duration, again: bool) -> Task<'static, ()> {
        self.shared.live().runs = false;
        let running = self.running.take();
        let shared = self.shared.clone();
        Box::pin(async move {
            let until = Instant::now() + drain;
            if let Some(Running { cancel, task }) = running {
                cancel.cancel();
                let abort = task.abort_handle();
                if tokio::time::timeout_at(until.into(), task).await.is_err() {
                    abort.abort();
                }
            }
            if !again {
                let left = until.saturating_duration_since(Instant::now());
                shared.publisher.stop(left).await;
            }
        })
    }
}

impl ScanningStatus {
    /// The role's figures, or none if it does not run.
    pub fn report(&self) -> Option<ScanningReport> {
        let mut report = {
            let live = self.0.live();
            live.runs.then(|| live.report.clone())?
        };
        let context = &self.0.context;
        let open = context.rooms.lock().clone();
        if let Some((feed, findings)) = open {
            let tally = findings.tally(&context.plugin);
            report.findings = tally.open;
            report.suppressed = tally.suppressed;
            let status = feed.status();
            let name = context.plugin.to_string();
            let mine = |pass: &super::feed::Progress| {
                pass.participants
                    .iter()
                    .any(|participant| participant.name == name)
            };
            report.pass = status.pass.filter(mine);
            report.watched = Some(status.watched);
        }
        report.destinations = self.0.publisher.status();
        Some(report)
    }

    /// Begins a pass over all files as soon as none is under way. Its number, as the report will have it;
    /// none if the plugin is shown no files.
    pub fn request(&self, kind: PassKind) -> Option<u64> {
        let context = &self.0.context;
        let (feed, _) = context.rooms.lock().clone()?;
        feed.request(&context.plugin.to_string(), kind)
    }

    /// Whether any findings of it are kept, also while it does not run.
    pub fn has_findings(&self) -> bool {
        let context = &self.0.context;
        let Some(findings) = context.rooms.findings() else {
            return false;
        };
        let tally = findings.tally(&context.plugin);
        tally.open.total() + tally.suppressed + tally.resolved > 0
    }
}

/// The task of a role that runs.
struct Scanner {
    shared: Arc<Shared>,
    settings: Scanning,
    manifest: Arc<Manifest>,
    work: WorkSender,
    cancel: CancellationToken,
}

/// A file of which something is passed in several batches, and which the plugin failed by.
type Skipped = Option<(u64, u64)>;

impl Scanner {
    async fn run(&self) {
        let (outline, feed, findings) = loop {
            match self.open().await {
                Ok(opened) => break opened,
                Err(problem) => {
                    self.problem(Some(problem));
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        self.problem(None);
        let mut subscriber = match self.subscribe(&outline, feed).await {
            Ok(subscriber) => subscriber,
            Err(problem) => {
                self.problem(Some(problem));
                None
            }
        };
        let looker = Looker::of(&self.shared.context.rooms.folders);
        let assesses = !outline.wants.is_empty();
        let mut assess = tokio::time::interval(self.settings.schedule.assess.0);
        assess.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut skipped = None;
        let mut begun = Instant::now();
        loop {
            tokio::select! {
                message = next(&mut subscriber) => match message {
                    Some(Message::Begin { kind, resumed }) => {
                        begun = Instant::now();
                        let kind = if resumed { PassKind::Changed } else { kind };
                        self.begin(kind).await;
                    }
                    Some(Message::Batch(batch)) => self.batch(&findings, batch, &mut skipped).await,
                    Some(Message::End { number, kind, complete }) => {
                        self.end(&findings, complete).await;
                        self.shared.live().report.passed(number, kind, complete, begun.elapsed());
                    }
                    None => {
                        self.problem(Some("the feed of files has ended; please report this as a bug".to_owned()));
                        subscriber = None;
                    }
                },
                _ = assess.tick(), if assesses => self.assess(&outline, &looker, &findings).await,
            }
        }
    }

    fn problem(&self, problem: Option<String>) {
        let mut live = self.shared.live();
        if let Some(problem) = problem
            .as_ref()
            .filter(|it| Some(*it) != live.report.problem.as_ref())
        {
            tracing::error!(plugin = %self.shared.context.plugin, "{problem}");
        }
        live.report.problem = problem;
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
        if let Err(why) | Ok(Err(why)) = begun {
            self.say("scanning.begin", &why);
        }
    }

    /// Has a batch judged, and keeps what was found. A file by which the plugin fails is found by halves, and
    /// left alone until it changes.
    async fn batch(&self, findings: &Findings, batch: Batch, skipped: &mut Skipped) {
        self.count(&batch);
        if let Err(error) = self.gone(findings, &batch).await {
            self.problem(Some(error));
            return batch.failed();
        }
        let all = 0..batch.files.len();
        let mut waiting = Vec::from([all]);
        let mut batch = batch;
        let mut judged: Vec<Owned> = Vec::new();
        while let Some(range) = waiting.pop() {
            if let [file] = batch.files.get(range.clone()).unwrap_or_default()
                && *skipped == Some((file.device, file.inode))
            {
                if ends(&batch, range.start) {
                    *skipped = None;
                }
                continue;
            }
            let files = range.clone();
            let (reply, answer) = oneshot::channel();
            let work = Scan {
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
                Ok(found) => judged.extend(found),
                Err(Unjudged::Gone) => return batch.failed(),
                Err(why) if range.len() > 1 => {
                    self.say("scanning.scan", &why);
                    let middle = range.start + range.len() / 2;
                    waiting.push(middle..range.end);
                    waiting.push(range.start..middle);
                }
                Err(why) => {
                    self.say("scanning.scan", &why);
                    if let Some(file) = batch.files.get(range.start) {
                        self.unjudged(&batch, file, &why);
                        if !ends(&batch, range.start) {
                            *skipped = Some((file.device, file.inode));
                        }
                    }
                }
            }
        }
        let plugin = &self.shared.context.plugin;
        match findings
            .judge(plugin, judged.iter().map(Owned::judged))
            .await
        {
            Ok(()) => batch.judged(),
            Err(error) => {
                self.problem(Some(error.to_string()));
                batch.failed();
            }
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
    async fn gone(&self, findings: &Findings, batch: &Batch) -> Result<(), String> {
        let absent = Errno::NOENT.raw_os_error().unsigned_abs();
        let gone = batch.files.iter().filter(|file| file.error == absent);
        let mut paths = Vec::new();
        for file in gone {
            let path = batch.span(file.path).to_vec();
            if file.kind == Kind::Directory {
                let below = findings.gone_below(path.clone()).await;
                below.map_err(|error| error.to_string())?;
            }
            paths.push(path);
        }
        match paths.is_empty() {
            true => Ok(()),
            false => findings
                .gone(paths)
                .await
                .map_err(|error| error.to_string()),
        }
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

    async fn end(&self, findings: &Findings, complete: bool) {
        let ended = ask(&self.work, |reply| Box::new(End { complete, reply })).await;
        match ended {
            Ok(Ok(found)) => {
                let plugin = &self.shared.context.plugin;
                if let Err(error) = findings.replace(plugin, Whole::Pass, found).await {
                    self.problem(Some(error.to_string()));
                }
            }
            Ok(Err(why)) | Err(why) => self.say("scanning.end", &why),
        }
        if complete {
            self.look_for_what_is_gone(findings).await;
        }
    }

    /// Files with findings may have gone while nobody watched.
    async fn look_for_what_is_gone(&self, findings: &Findings) {
        let plugin = &self.shared.context.plugin;
        let mut after = None;
        loop {
            let Ok((paths, next)) = findings.files(plugin, after, LOOKED_FOR).await else {
                return;
            };
            let rooms = self.shared.context.rooms.clone();
            let looking = tokio::task::spawn_blocking(move || {
                let mut paths = paths;
                paths.retain(|path| !rooms.folders.is_there(path));
                paths
            });
            let Ok(gone) = looking.await else { return };
            if !gone.is_empty()
                && let Err(error) = findings.gone(gone).await
            {
                return self.problem(Some(error.to_string()));
            }
            after = match next {
                Some(next) => Some(next),
                None => return,
            };
        }
    }

    async fn assess(&self, outline: &Outline, looker: &Looker, findings: &Findings) {
        let (looker, wants) = (looker.clone(), outline.wants.clone());
        let looked = tokio::task::spawn_blocking(move || looker.look(&wants)).await;
        let seen = match looked {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => return self.problem(Some(error.to_string())),
            Err(error) => return self.problem(Some(error.to_string())),
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
                match findings.replace(plugin, Whole::Node, found).await {
                    Ok(()) => self.problem(None),
                    Err(error) => self.problem(Some(error.to_string())),
                }
            }
            Ok(Err(why)) | Err(why) => return self.say("scanning.assess", &why),
        }
        let mut live = self.shared.live();
        live.report.assessments += 1;
        live.report.last_assessment = Some(Timestamp::now());
        live.report.troubles = troubles.count;
        live.report.first_trouble = troubles.first;
    }

    /// Says what the plugin refused. What it failed by, its own status has.
    fn say(&self, call: &str, why: &Unjudged) {
        match why {
            Unjudged::Refused(message) => {
                self.problem(Some(format!("{call}: the plugin says: {message}")));
            }
            Unjudged::Failed(_) | Unjudged::Gone => {}
        }
    }
}

async fn next(subscriber: &mut Option<Subscriber>) -> Option<Message> {
    match subscriber {
        Some(subscriber) => subscriber.next().await,
        None => std::future::pending().await,
    }
}

/// Whether nothing more of a file comes after this batch.
fn ends(batch: &Batch, file: usize) -> bool {
    let mut pieces = batch.pieces.iter().filter(|it| it.file as usize == file);
    pieces.clone().next().is_none() || pieces.any(|piece| piece.last)
}
