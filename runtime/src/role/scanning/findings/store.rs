//! The store of findings: opened, written by a thread of its own, and asked.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use redb::ReadableTable;
use tokio::sync::{mpsc, oneshot};

use super::change::{Changes, Teller};
use super::check::Judged;
use super::finding::{Found, Subject};
use super::query::{Page, Query};
use super::record::{FINDINGS, FORMAT, Record, Scope};
use super::rules::Rules;
use super::suppress::Suppressions;
use super::tally::Tally;
use super::tend::{Asked, Thread};
use super::writer::{Task, Whole, short_key};
use crate::manifest::{Identity, Suppression};
use crate::state::{Error, Handle, SetAside, existing};

/// Tasks that wait for the thread at most; whoever brings more waits.
const WAITING: usize = 256;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Findings of one plugin that are open or suppressed.
    pub open: u64,
    /// Resolved findings of all plugins together.
    pub resolved: u64,
    /// How long resolved findings are kept.
    pub retention: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            open: 100_000,
            resolved: 20_000,
            retention: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

/// What is known of a plugin besides the disk.
#[derive(Debug, Default)]
pub(super) struct Plugin {
    pub(super) rules: Arc<Rules>,
    pub(super) suppressions: Suppressions,
    pub(super) tally: Tally,
    /// Keys of files that have findings.
    pub(super) files: HashSet<u64>,
    /// That findings are dropped was said.
    pub(super) is_full: bool,
}

impl Plugin {
    /// Whether a file may have findings: never wrongly no.
    pub(super) fn has(&self, path: &[u8]) -> bool {
        self.has_files() && self.files.contains(&short_key(path))
    }

    pub(super) fn has_files(&self) -> bool {
        !self.files.is_empty()
    }
}

pub(super) type Plugins = BTreeMap<Identity, Plugin>;

/// The findings of all plugins. Clones share one open file.
#[derive(Debug, Clone)]
pub struct Findings {
    pub(super) shared: Arc<Shared>,
    thread: mpsc::Sender<Asked>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) handle: Handle,
    pub(super) limits: Limits,
    pub(super) teller: Teller,
    pub(super) plugins: RwLock<Plugins>,
}

impl Shared {
    /// Never waits long: only the thread that writes takes it for itself, for moments.
    pub(super) fn plugins(&self) -> RwLockReadGuard<'_, Plugins> {
        self.plugins.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the thread that writes.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Plugins) -> T) -> T {
        let mut plugins = self.plugins.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut plugins)
    }
}

/// A store that was opened, and what had to be put away for it.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub findings: Findings,
    /// The damaged file that was found instead, if one was: what was found before is not known.
    pub set_aside: Option<SetAside>,
}

/// Why something was not kept. It is safe to bring it again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failed {
    /// The disk did not take it.
    #[error("findings were not kept: {0}")]
    Store(Arc<Error>),
    /// The daemon is ending.
    #[error("findings were not kept: the store is closed")]
    Closed,
}

impl Findings {
    /// Opens the store in `folder`, made if it is missing. Blocks.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn open(folder: &Path, limits: Limits) -> Result<Opened, Error> {
        let path = folder.join("findings.redb");
        let (handle, set_aside) = Handle::open(path, FORMAT, &[])?;
        let (plugins, next) = load(&handle)?;
        let shared = Arc::new(Shared {
            handle,
            limits,
            teller: Teller::new(),
            plugins: RwLock::new(plugins),
        });
        let (thread, asked) = mpsc::channel(WAITING);
        Thread::start(Arc::clone(&shared), asked, next).map_err(|source| Error::Io {
            doing: "cannot start the thread that writes",
            path: shared.handle.path().to_owned(),
            source,
        })?;
        let findings = Self { shared, thread };
        Ok(Opened {
            findings,
            set_aside,
        })
    }

    /// Takes a plugin's rules and what its manifest suppresses, before anything it finds.
    ///
    /// # Errors
    /// If what is suppressed now could not be written.
    pub async fn enrol(
        &self,
        plugin: &Identity,
        rules: Arc<Rules>,
        suppress: &[Suppression],
    ) -> Result<(), Failed> {
        let suppressions = Suppressions::new(suppress);
        self.ask(Task::Enrol(plugin.clone(), rules, suppressions))
            .await
    }

    /// Keeps what there is of files, each as a whole. When it returns, it is on the disk.
    ///
    /// # Errors
    /// If the disk did not take it: bring it again, and do not count the files as judged before.
    pub async fn judge(
        &self,
        plugin: &Identity,
        files: impl IntoIterator<Item = Judged<'_>>,
    ) -> Result<(), Failed> {
        let matters = {
            let plugins = self.shared.plugins();
            let known = plugins.get(plugin);
            let had = |path: &[u8]| known.is_some_and(|known| known.has(path));
            let files = files.into_iter();
            let matters = files.filter(|file| !file.findings.is_empty() || had(file.path));
            matters
                .map(|file| (file.path.to_vec(), file.findings))
                .collect::<Vec<_>>()
        };
        match matters.is_empty() {
            true => Ok(()),
            false => self.ask(Task::Files(plugin.clone(), matters)).await,
        }
    }

    /// Keeps what there is of a pass or of the node, as a whole.
    ///
    /// # Errors
    /// If the disk did not take it.
    pub async fn replace(
        &self,
        plugin: &Identity,
        whole: Whole,
        found: Vec<Found>,
    ) -> Result<(), Failed> {
        self.ask(Task::Whole(plugin.clone(), whole, found)).await
    }

    /// Resolves what a plugin found of paths at which nothing is any more. Others are told in their turn:
    /// what they found may be newer.
    ///
    /// # Errors
    /// If the disk did not take it.
    pub async fn gone(&self, plugin: &Identity, mut paths: Vec<Vec<u8>>) -> Result<(), Failed> {
        {
            let plugins = self.shared.plugins();
            let known = plugins.get(plugin);
            paths.retain(|path| known.is_some_and(|known| known.has(path)));
        }
        match paths.is_empty() {
            true => Ok(()),
            false => self.ask(Task::Gone(plugin.clone(), paths)).await,
        }
    }

    /// Resolves what a plugin found of paths that it is not shown any more, with that as the reason.
    ///
    /// # Errors
    /// If the disk did not take it.
    pub async fn left_out(&self, plugin: &Identity, paths: Vec<Vec<u8>>) -> Result<(), Failed> {
        match paths.is_empty() {
            true => Ok(()),
            false => self.ask(Task::LeftOut(plugin.clone(), paths)).await,
        }
    }

    /// Resolves what a plugin found below a folder that is gone.
    ///
    /// # Errors
    /// If the disk did not take it.
    pub async fn gone_below(&self, plugin: &Identity, folder: Vec<u8>) -> Result<(), Failed> {
        let matter = {
            let plugins = self.shared.plugins();
            plugins.get(plugin).is_some_and(Plugin::has_files)
        };
        match matter {
            true => self.ask(Task::GoneBelow(plugin.clone(), folder)).await,
            false => Ok(()),
        }
    }

    /// Lets go of all findings of a plugin that is no more.
    ///
    /// # Errors
    /// If the disk did not take it.
    pub async fn forget(&self, plugin: &Identity) -> Result<(), Failed> {
        self.ask(Task::Forget(plugin.clone())).await
    }

    /// The files of which a plugin has open findings, in the order in which they were found: at most
    /// `most` behind the cursor, so that whoever walks can look whether they are still there.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn files(
        &self,
        plugin: &Identity,
        after: Option<u64>,
        most: usize,
    ) -> Result<(Vec<Vec<u8>>, Option<u64>), Failed> {
        let (shared, plugin) = (Arc::clone(&self.shared), plugin.to_string());
        blocking(move || shared.files(&plugin, after, most)).await
    }

    /// What matches, latest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn query(&self, query: Query) -> Result<Page, Failed> {
        let shared = Arc::clone(&self.shared);
        blocking(move || query.answer(&shared)).await
    }

    /// How many findings there are of each plugin.
    pub fn tallies(&self) -> Vec<(Identity, Tally)> {
        let plugins = self.shared.plugins();
        plugins
            .iter()
            .map(|(plugin, known)| (plugin.clone(), known.tally.clone()))
            .collect()
    }

    /// How many findings there are of one plugin.
    pub fn tally(&self, plugin: &Identity) -> Tally {
        let plugins = self.shared.plugins();
        let known = plugins.get(plugin).map(|known| known.tally.clone());
        known.unwrap_or_default()
    }

    /// What becomes of findings from now on.
    pub fn changes(&self) -> Changes {
        self.shared.teller.listen()
    }

    async fn ask(&self, task: Task) -> Result<(), Failed> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked { task, answer };
        self.thread.send(asked).await.map_err(|_| Failed::Closed)?;
        answered.await.map_err(|_| Failed::Closed)?
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Failed> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Failed::Closed)?
        .map_err(|error| Failed::Store(Arc::new(error)))
}

impl Shared {
    fn files(
        &self,
        plugin: &str,
        after: Option<u64>,
        most: usize,
    ) -> Result<(Vec<Vec<u8>>, Option<u64>), Error> {
        self.handle.read(|transaction| {
            let Some(table) = existing(transaction.open_table(FINDINGS))? else {
                return Ok((Vec::new(), None));
            };
            let mut files: Vec<Vec<u8>> = Vec::new();
            let from = after.map_or(0, |after| after.saturating_add(1));
            for entry in table.range(from..)? {
                let (number, bytes) = entry?;
                let number = number.value();
                let record = Record::decode(number, bytes.value())?;
                if record.plugin != plugin || record.is_resolved() || record.scope != Scope::File {
                    continue;
                }
                if let Subject::File(path) = record.found.subject
                    && files.last() != Some(&path)
                {
                    files.push(path);
                }
                if files.len() >= most {
                    return Ok((files, Some(number)));
                }
            }
            Ok((files, None))
        })
    }
}

/// What is kept in memory, from what is on the disk, and the next number.
fn load(handle: &Handle) -> Result<(Plugins, u64), Error> {
    handle.read(|transaction| {
        let mut plugins = Plugins::new();
        let mut next = 1;
        let Some(table) = existing(transaction.open_table(FINDINGS))? else {
            return Ok((plugins, next));
        };
        for entry in table.iter()? {
            let (number, bytes) = entry?;
            let number = number.value();
            next = number + 1;
            let record = Record::decode(number, bytes.value())?;
            let Ok(plugin) = record.plugin.parse::<Identity>() else {
                continue;
            };
            let known = plugins.entry(plugin).or_default();
            known.tally.add(&record);
            if let Subject::File(path) = &record.found.subject
                && record.scope == Scope::File
                && !record.is_resolved()
            {
                known.files.insert(short_key(path));
            }
        }
        Ok((plugins, next))
    })
}
