//! Calls of the plugin: each a piece of work that hands back what it was given, whatever became of it.

use std::ops::Range;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::feed::{Batch, File, Kind, PassKind};
use super::findings::{Found, Judged, check_files, check_whole};
use super::outline::{Fresh, Outline};
use super::snapshot::Seen;
use crate::sandbox::bindings::scanning::exports::bulkhead::plugin::scanning as wit;
use crate::sandbox::{Cause, Failure, Instance, Task, Work, WorkSender};

const SCAN: &str = "scanning.scan";
const BEGIN: &str = "scanning.begin";
const END: &str = "scanning.end";
const ASSESS: &str = "scanning.assess";

/// Why there is no judgement.
#[derive(Debug, Clone)]
pub(super) enum Unjudged {
    /// The plugin said why.
    Refused(String),
    /// The plugin's instance ended.
    Failed(String),
    /// The role ends.
    Gone,
}

/// Sends a piece of work and waits for its answer.
pub(super) async fn ask<T>(
    work: &WorkSender,
    make: impl FnOnce(oneshot::Sender<T>) -> Box<dyn Work>,
) -> Result<T, Unjudged> {
    let (reply, answer) = oneshot::channel();
    work.send(make(reply)).await.map_err(|_| Unjudged::Gone)?;
    answer.await.map_err(|_| Unjudged::Gone)
}

/// What the instance at work is about.
pub(super) struct GetOutline(pub(super) oneshot::Sender<Arc<Outline>>);

impl Work for GetOutline {
    fn run<'a>(self: Box<Self>, instance: &'a mut Instance) -> Task<'a, Result<(), Failure>> {
        Box::pin(async move {
            if let Some(outline) = instance.noted::<Arc<Outline>>() {
                // Whoever asked may be gone.
                let _ = self.0.send(outline.clone());
            }
            Ok(())
        })
    }
}

/// Some files of a batch.
pub(super) struct Scan {
    pub(super) batch: Batch,
    pub(super) files: Range<usize>,
    /// Whether the instance that judges these is to judge what comes next as well.
    pub(super) amid: bool,
    pub(super) reply: oneshot::Sender<(Batch, Result<Vec<Owned>, Unjudged>)>,
}

/// All that there is of one file of a batch.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) path: Vec<u8>,
    pub(super) findings: Vec<Found>,
}

impl Work for Scan {
    fn run<'a>(self: Box<Self>, instance: &'a mut Instance) -> Task<'a, Result<(), Failure>> {
        Box::pin(async move {
            let Self {
                batch,
                files,
                amid,
                reply,
            } = *self;
            let answer = scan(instance, &batch, files).await;
            instance.set_amid(amid);
            let (answer, failure) = settle(answer);
            let _ = reply.send((batch, answer));
            failure
        })
    }
}

/// What the one who asked is told, and what the actor is.
fn settle<T>(
    answer: Result<Result<T, String>, Failure>,
) -> (Result<T, Unjudged>, Result<(), Failure>) {
    match answer {
        Ok(Ok(judged)) => (Ok(judged), Ok(())),
        Ok(Err(message)) => (Err(Unjudged::Refused(message)), Ok(())),
        Err(failure) => {
            let why = Unjudged::Failed(failure.to_string());
            (Err(why), Err(failure))
        }
    }
}

async fn scan(
    instance: &mut Instance,
    batch: &Batch,
    files: Range<usize>,
) -> Result<Result<Vec<Owned>, String>, Failure> {
    let guest = guest(instance, SCAN)?;
    let shown = batch.files.get(files.clone()).unwrap_or_default();
    let pieces = batch.pieces.iter();
    let pieces = pieces.filter(|piece| files.contains(&(piece.file as usize)));
    let pieces: Vec<wit::Piece> = pieces
        .map(|piece| wit::Piece {
            position: piece.position,
            file: piece.file - files.start as u32,
            offset: piece.offset,
            length: piece.length,
            last: piece.last,
        })
        .collect();
    let records: Vec<wit::File> = shown.iter().map(record).collect();
    let (records, pieces) = (&records, &pieces);
    let answer = instance
        .call(SCAN, move |store, _| {
            Box::pin(async move {
                let batch = wit::Batch {
                    bytes: &batch.bytes,
                    files: records,
                    pieces,
                };
                store.data_mut().called_with(&(&batch,));
                guest.call_scan(store, batch).await
            })
        })
        .await?;
    let findings = match answer {
        Ok(findings) => findings,
        Err(message) => return Ok(Err(message)),
    };
    let paths = shown.iter().enumerate().map(|(index, file)| {
        let mut pieces = pieces.iter().filter(|piece| piece.file as usize == index);
        // Without pieces, all of it is its record.
        let last = pieces.clone().next().is_none() || pieces.any(|piece| piece.last);
        (batch.span(file.path), last)
    });
    match check_files(findings, paths) {
        Ok(judged) => Ok(Ok(judged.into_iter().map(Owned::of).collect())),
        Err(broken) => {
            Err(instance.condemn(Failure::new(SCAN, Cause::BrokenPromise, broken.to_string())))
        }
    }
}

impl Owned {
    fn of(judged: Judged<'_>) -> Self {
        Self {
            path: judged.path.to_vec(),
            findings: judged.findings,
        }
    }

    pub(super) fn judged(&self) -> Judged<'_> {
        Judged {
            path: &self.path,
            findings: self.findings.clone(),
        }
    }
}

fn record(file: &File) -> wit::File {
    wit::File {
        device: file.device,
        inode: file.inode,
        size: file.size,
        modified: file.modified,
        changed: file.changed,
        path_offset: file.path.0,
        path_length: file.path.1,
        digests_offset: file.digests.0,
        digests_length: file.digests.1,
        attributes_offset: file.attributes.0,
        attributes_length: file.attributes.1,
        mode: file.mode,
        uid: file.uid,
        gid: file.gid,
        links: file.links,
        error: file.error,
        kind: match file.kind {
            Kind::File => wit::FileKind::File,
            Kind::Directory => wit::FileKind::Directory,
            Kind::Symlink => wit::FileKind::Symlink,
            Kind::Fifo => wit::FileKind::Fifo,
            Kind::Socket => wit::FileKind::Socket,
            Kind::BlockDevice => wit::FileKind::BlockDevice,
            Kind::CharacterDevice => wit::FileKind::CharacterDevice,
        },
        flags: file.flags,
    }
}

/// A pass begins.
pub(super) struct Begin {
    pub(super) kind: PassKind,
    pub(super) reply: oneshot::Sender<Result<(), Unjudged>>,
}

impl Work for Begin {
    fn run<'a>(self: Box<Self>, instance: &'a mut Instance) -> Task<'a, Result<(), Failure>> {
        Box::pin(async move {
            let (answer, failure) = settle(begin(instance, self.kind).await);
            instance.set_amid(true);
            let _ = self.reply.send(answer);
            failure
        })
    }
}

async fn begin(instance: &mut Instance, kind: PassKind) -> Result<Result<(), String>, Failure> {
    let guest = guest(instance, BEGIN)?;
    let kind = match kind {
        PassKind::Changed => wit::ScanKind::Changed,
        PassKind::Full => wit::ScanKind::Full,
    };
    instance
        .call(BEGIN, move |store, _| {
            store.data_mut().called_with(&(kind,));
            Box::pin(async move { guest.call_begin(store, kind).await })
        })
        .await
}

/// A pass is over.
pub(super) struct End {
    pub(super) complete: bool,
    pub(super) reply: oneshot::Sender<Result<Vec<Found>, Unjudged>>,
}

impl Work for End {
    fn run<'a>(self: Box<Self>, instance: &'a mut Instance) -> Task<'a, Result<(), Failure>> {
        Box::pin(async move {
            let (answer, failure) = settle(end(instance, self.complete).await);
            instance.set_amid(false);
            let _ = self.reply.send(answer);
            failure
        })
    }
}

async fn end(
    instance: &mut Instance,
    complete: bool,
) -> Result<Result<Vec<Found>, String>, Failure> {
    let guest = guest(instance, END)?;
    let answer = instance
        .call(END, move |store, _| {
            store.data_mut().called_with(&(complete,));
            Box::pin(async move { guest.call_end(store, complete).await })
        })
        .await?;
    whole(instance, END, answer)
}

/// Nothing is to be judged for now: an instance that has taken much memory gives it back.
pub(super) struct Rest;

/// So much more than it began with is much.
const MUCH: u64 = 4 << 20;

impl Work for Rest {
    fn run<'a>(self: Box<Self>, instance: &'a mut Instance) -> Task<'a, Result<(), Failure>> {
        Box::pin(async move {
            let fresh = instance.noted::<Fresh>().copied();
            if fresh.is_some_and(|Fresh(fresh)| instance.memory() > fresh + MUCH) {
                instance.retire();
            }
            Ok(())
        })
    }
}

/// The node as it is.
pub(super) struct Assess {
    pub(super) seen: Seen,
    pub(super) facts: Vec<(String, String)>,
    pub(super) reply: oneshot::Sender<Result<Vec<Found>, Unjudged>>,
}

impl Work for Assess {
    fn run<'a>(self: Box<Self>, instance: &'a mut Instance) -> Task<'a, Result<(), Failure>> {
        Box::pin(async move {
            let (answer, failure) = settle(assess(instance, &self.seen, &self.facts).await);
            let _ = self.reply.send(answer);
            failure
        })
    }
}

async fn assess(
    instance: &mut Instance,
    seen: &Seen,
    facts: &[(String, String)],
) -> Result<Result<Vec<Found>, String>, Failure> {
    let guest = guest(instance, ASSESS)?;
    let arguments = seen.arguments();
    let (processes, sockets) = (seen.processes(&arguments), seen.sockets());
    let (users, kernel_modules) = (seen.users(), seen.kernel_modules());
    let sysctls = seen.sysctls();
    let facts: Vec<(&str, &str)> = facts
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let (processes, sockets, users) = (&processes, &sockets, &users);
    let (kernel_modules, sysctls, facts) = (&kernel_modules, &sysctls, &facts);
    let answer = instance
        .call(ASSESS, move |store, _| {
            Box::pin(async move {
                let view = wit::View {
                    bytes: &seen.bytes,
                    files: &seen.files,
                    processes,
                    sockets,
                    users,
                    kernel_modules,
                    sysctls,
                    facts,
                };
                store.data_mut().called_with(&(&view,));
                guest.call_assess(store, view).await
            })
        })
        .await?;
    whole(instance, ASSESS, answer)
}

fn whole(
    instance: &mut Instance,
    call: &'static str,
    answer: Result<Vec<wit::Finding>, String>,
) -> Result<Result<Vec<Found>, String>, Failure> {
    match answer.map(check_whole) {
        Ok(Ok(found)) => Ok(Ok(found)),
        Ok(Err(broken)) => {
            let failure = Failure::new(call, Cause::BrokenPromise, broken.to_string());
            Err(instance.condemn(failure))
        }
        Err(message) => Ok(Err(message)),
    }
}

fn guest(instance: &Instance, call: &'static str) -> Result<wit::Guest, Failure> {
    instance.scanning().ok_or_else(|| {
        let message = "the component does not export bulkhead:plugin/scanning";
        Failure::new(call, Cause::BrokenPromise, message)
    })
}

impl std::fmt::Display for Unjudged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(message) | Self::Failed(message) => f.write_str(message),
            Self::Gone => f.write_str("the plugin ended or was updated meanwhile"),
        }
    }
}
