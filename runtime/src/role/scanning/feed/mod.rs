//! The feed: what walks, watches and reads the node's files for all plugins that scan. It knows nothing of
//! guests and their findings.
//!
//! # For the driver of the role
//! There is one [`Feed`] a daemon. Each plugin subscribes with a [`Subscription`] once its outline is known,
//! and takes [`Message`]s out of its [`Subscriber`]: [`Message::Begin`], batches, [`Message::End`]; batches
//! of events come at any time. A new rule set, or other roots, is another subscription under the same name;
//! drop the old one first.
//!
//! - A [`Batch`] is answered by [`Batch::judged`] once the plugin has judged it and its findings are kept:
//!   only then do its files count as judged. [`Batch::failed`], and dropping it, say that it was not; its
//!   files are passed again in the next pass, and the pass is not complete. [`Message::End`] is sent after
//!   all batches of the pass have been answered.
//! - At most [`AHEAD`] batches wait for a subscriber. While it does not take them, nothing is read for the
//!   others that share the pass either: bound each call's time.
//! - A file that is longer than a batch comes in several, one after the other, with nothing in between; its
//!   digests, and how reading it ended, are in the record of the batch with the piece that is `last`. There
//!   is one such piece for each file whose bytes are passed, of length 0 for an empty file. A file that
//!   could not be opened has a record with its error, and no piece.
//! - A file that is gone is passed with the error `ENOENT`, device and inode 0, when that was seen to
//!   happen. If its kind is a folder, all below it is gone. Other files that are gone are known from a
//!   complete full pass: whatever was not passed in it is not there.
//! - A full pass that goes on after a restart (`resumed`) does not pass again what was judged before the
//!   restart: what the plugin is told should be [`PassKind::Changed`] then.
//! - [`Feed::status`] has the progress, and how well changes are seen at once.

mod account;
mod aside;
mod attributes;
mod batch;
mod cache;
mod counts;
mod digest;
mod facts;
mod filesystem;
mod lane;
mod members;
mod mounts;
mod pace;
mod pass;
mod pressure;
mod read;
mod root;
mod scope;
mod status;
mod subscription;
mod sys;
mod there;
mod walk;
mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

pub use batch::{Batch, CHANGED, CUT, EVENT, File, Piece, UNATTRIBUTED};
pub use counts::{Participant, Progress};
pub use digest::Wanted;
pub use facts::Kind;
pub use pressure::Paused;
pub use status::Status;
pub use subscription::{Interest, Message, PassKind, Subscriber, Subscription};
pub use there::Absent;
pub use watch::Watched;

use crate::sandbox::NodeFolders;
use account::Account;
use aside::Asides;
use cache::Cache;
use counts::Counts;
use lane::Lane;
use members::{Member, Members};
use pace::Pace;
use root::Root;
use scope::Scope;
use watch::Watch;

/// How many batches wait for a subscriber at most.
pub const AHEAD: usize = 2;

/// What walks, watches and reads; clones share it. It ends with the last one.
#[derive(Clone)]
pub struct Feed {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
}

/// What its threads share.
struct Shared {
    root: Root,
    cache: Cache,
    /// Of passes.
    pace: Pace,
    /// Of what happens.
    event_pace: Pace,
    events: Counts,
    watch: Watch,
    asides: Asides,
    /// Where the kernel says how much processes wait.
    pressure: PathBuf,
    members: Mutex<Members>,
    /// Of the above.
    changed: Condvar,
}

/// Why somebody cannot subscribe.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// There are too many.
    #[error(
        "more than {} plugins that scan files at a time: suspend one of them",
        walk::TURNS
    )]
    TooMany,
    /// Their names cannot be kept.
    #[error("cannot write {}: {source}", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Feed {
    /// Of the node with these folders, remembering in `state` what was judged. The folder must exist and
    /// should be among the private ones, which nobody is shown.
    ///
    /// # Errors
    /// If the node's root or the store cannot be opened, or no thread started.
    pub fn open(folders: &NodeFolders, state: &Path) -> io::Result<Self> {
        Self::with_pressure(folders, state, Path::new("/proc/pressure"))
    }

    fn with_pressure(folders: &NodeFolders, state: &Path, pressure: &Path) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            root: Root::open(folders)?,
            cache: Cache::open(state)?,
            pace: Pace::new(),
            event_pace: Pace::new(),
            events: Counts::default(),
            watch: Watch::default(),
            asides: Asides::default(),
            pressure: pressure.to_owned(),
            members: Mutex::default(),
            changed: Condvar::new(),
        });
        // Dropped if a thread cannot be started, it stops the others.
        let inner = Arc::new(Inner { shared });
        for (name, run) in [
            ("scan-passes", members::run as fn(&Arc<Shared>)),
            ("scan-watch", watch::listen),
            ("scan-events", watch::attend),
            ("scan-long", watch::attend_long),
        ] {
            let shared = inner.shared.clone();
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread.spawn(move || run(&shared))?;
        }
        Ok(Self { inner })
    }

    /// Begins to feed a plugin. Blocks for a short time.
    ///
    /// # Errors
    /// If there are too many, or its name cannot be kept.
    pub fn subscribe(&self, subscription: Subscription) -> Result<Subscriber, SubscribeError> {
        let shared = &self.inner.shared;
        let known = shared.cache.subscriber(&subscription.name);
        let (number, record) = known.map_err(|source| SubscribeError::Cache {
            path: "scan.redb".into(),
            source,
        })?;
        let rules = rules(&shared.cache, &subscription);
        let scope = Scope {
            roots: subscription.roots,
            exclude: subscription.exclude,
            one_file_system: subscription.one_file_system,
        };
        let (sender, messages) = mpsc::channel(AHEAD);
        let account = Arc::new(Account::new(shared.cache.clone()));
        let lane = Arc::new(Lane::new(
            subscription.name,
            number,
            scope,
            subscription.interest,
            rules,
            account,
            sender,
        ));
        let member = Member::new(lane, subscription.schedule, subscription.budget, record);
        let mut members = lock(&shared.members);
        members.forget_closed();
        if members.len() >= walk::TURNS {
            return Err(SubscribeError::TooMany);
        }
        members.add(member, &shared.cache);
        drop(members);
        shared.changed.notify_all();
        Ok(Subscriber { messages })
    }

    /// Forgets what was judged under a name, and its passes: with the next subscription, everything is
    /// passed. Whoever is subscribed under it must subscribe again, and nothing that it judges until then
    /// is remembered. Blocks.
    ///
    /// # Errors
    /// If the store cannot be written: nothing is forgotten then.
    pub fn forget(&self, name: &str) -> io::Result<()> {
        self.inner.shared.cache.forget(name)
    }

    /// The same for all names.
    ///
    /// # Errors
    /// If the store cannot be written: nothing is forgotten then.
    pub fn forget_all(&self) -> io::Result<()> {
        self.inner.shared.cache.forget_all()
    }

    /// Begins a pass for a subscriber as soon as none is under way, whatever its schedule. The number of
    /// that pass, or none if there is no such subscriber.
    pub fn request(&self, name: &str, kind: PassKind) -> Option<u64> {
        let number = lock(&self.inner.shared.members).request(name, kind);
        self.inner.shared.changed.notify_all();
        number
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.pace.stop();
        self.shared.event_pace.stop();
        lock(&self.shared.members).stop();
        self.shared.changed.notify_all();
        self.shared.watch.wake();
    }
}

/// All that decides whether a file must be passed again.
fn rules(cache: &Cache, subscription: &Subscription) -> u64 {
    let Interest {
        content,
        digests,
        attributes,
        others: _,
    } = subscription.interest;
    let flags = [
        digests.sha256,
        digests.sha1,
        digests.md5,
        digests.blake3,
        attributes,
    ];
    let mut bytes = subscription.rule_set.clone();
    bytes.extend_from_slice(&content.to_le_bytes());
    bytes.extend(flags.map(u8::from));
    cache.rules(&bytes)
}

/// Nothing that is guarded here is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
