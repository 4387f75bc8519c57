//! Where lines go: what every destination kind promises, and the list of kinds.
//!
//! A new kind is a new file here that implements [`Destination`] and [`Lane`], and one arm in
//! [`open`]. It knows how a request is encoded and sent, and how the peer's answer is to be read.
//! It does not retry, wait, count, split what a plugin sent or write dead letters: that is done
//! once, by `delivery`, for all kinds.

pub mod elasticsearch;
pub mod file;
pub mod http;
pub mod loki;
mod lookup;
pub mod otlp;
pub mod remote_write;
pub mod rotating;
pub mod secrets;
pub mod splunk_hec;
pub mod stdout;
pub mod syslog;
#[cfg(test)]
mod testing;
mod tls_files;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::manifest::{self, DestinationKind, Retry};

use super::output::{Parcel, Record};
use super::record_id::Machine;
use secrets::Secrets;

/// One destination of one plugin.
pub trait Destination: Send + Sync + 'static {
    /// The sending end of one lane. Called once a lane, and again after a panic in it.
    fn lane(self: Arc<Self>) -> Box<dyn Lane>;

    /// Makes what was acknowledged durable. Called before each checkpoint is committed; a
    /// checkpoint after an error would forget lines that a power cut may still take.
    fn sync(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// Encodes and sends for one lane: one request at a time, in order. Owned by one task, so it may
/// keep a connection and buffers without locks.
pub trait Lane: Send {
    /// Encodes as many of `records` (never empty) as one request takes, from the first on, into
    /// `body` (empty), and returns how many: at least one, however large it is.
    ///
    /// `parcel` is what the records are part of, for kinds that need a record's place in its file.
    fn encode(&mut self, parcel: &Parcel, records: &[Record<'_>], body: &mut Vec<u8>) -> usize;

    /// Puts a payload that the plugin encoded into `body` (empty); the payload's bytes are not to
    /// be changed, compression and framing may be added.
    fn encode_payload(&mut self, payload: &[u8], body: &mut Vec<u8>) {
        body.extend_from_slice(payload);
    }

    /// Sends one request. `Ok` means that the peer has acknowledged all of it.
    ///
    /// Dropped half-way at shutdown; the lines then count as not acknowledged.
    fn send<'a>(&'a mut self, request: Request<'a>) -> BoxFuture<'a, Result<(), SendError>>;
}

/// What one call of [`Lane::send`] sends.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// As encoded; cheap to clone.
    pub body: &'a Bytes,
    /// The records in it, in order; empty for a payload.
    pub records: &'a [Record<'a>],
    /// From 1; higher if this very body was sent before and not acknowledged.
    pub attempt: u32,
}

/// Why a request, or a part of it, was not acknowledged. Reasons are for the operator: what
/// happened and what to do, and never a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendError {
    /// Send the same again later.
    Retry {
        /// Not before this, if the peer said so.
        after: Option<Duration>,
        /// What happened.
        reason: String,
    },
    /// The peer will never accept it: dead letters.
    Rejected {
        /// What it said.
        reason: String,
    },
    /// Too long for the peer: the caller sends fewer records at once, and dead-letters a record
    /// that is too long alone.
    TooLarge {
        /// What it said.
        reason: String,
    },
    /// The peer told record by record. What neither list names was acknowledged; with both empty
    /// that is everything, and the reason is what the operator should know all the same.
    Partial {
        /// Indices into [`Request::records`], ascending: send these again.
        retry: Vec<usize>,
        /// Indices into [`Request::records`], ascending, and why each is never accepted.
        rejected: Vec<(usize, String)>,
        /// Not before this, if the peer said so.
        after: Option<Duration>,
        /// Why some must be sent again.
        reason: String,
    },
}

impl SendError {
    /// Everything was acknowledged, and `reason` is to be shown.
    pub fn noted(reason: impl Into<String>) -> Self {
        Self::Partial {
            retry: Vec::new(),
            rejected: Vec::new(),
            after: None,
            reason: reason.into(),
        }
    }

    /// What to show of a request that was acknowledged all the same.
    pub fn note(&self) -> Option<&str> {
        match self {
            Self::Partial {
                retry,
                rejected,
                reason,
                ..
            } if retry.is_empty() && rejected.is_empty() => Some(reason),
            _ => None,
        }
    }
}

/// What kinds may use of their surroundings.
#[derive(Clone)]
pub struct Surroundings {
    /// Where the node's root folder is mounted: `/` on a bare host, `/host` in a pod. Paths of
    /// file destinations are resolved inside it.
    pub node_root: Arc<Path>,
    /// Resolves references to secrets.
    pub secrets: Arc<dyn Secrets>,
    /// For the stable ids of records.
    pub machine: Machine,
    /// What the node is called.
    pub node_name: Arc<str>,
}

/// A destination's configuration cannot work. Found at start, so that `check` and an update see it.
#[derive(Debug, thiserror::Error)]
#[error("destination {name:?}: {field}: {problem}")]
pub struct OpenError {
    /// The destination's name.
    pub name: String,
    /// The manifest's field below the destination.
    pub field: String,
    /// What is wrong and what to write instead.
    pub problem: String,
}

/// A destination ready for use.
pub struct Opened {
    /// The destination.
    pub destination: Arc<dyn Destination>,
    /// How long to wait between attempts, and how often to try.
    pub retry: Retry,
    /// The kind as the manifest writes it.
    pub kind: &'static str,
}

/// Makes a destination from the manifest. Connects to nothing and creates nothing yet: a peer that
/// is down must not keep a plugin from starting.
pub fn open(
    manifest: &manifest::Destination,
    surroundings: &Surroundings,
) -> Result<Opened, OpenError> {
    let error = |(field, problem)| OpenError {
        name: manifest.name.clone(),
        field,
        problem,
    };
    Ok(match &manifest.kind {
        DestinationKind::File(file) => Opened {
            destination: Arc::new(file::FileDestination::new(file, surroundings).map_err(error)?),
            retry: local_retry(),
            kind: "file",
        },
        DestinationKind::Stdout(stdout) => Opened {
            destination: Arc::new(stdout::StdoutDestination::new(stdout.format)),
            retry: local_retry(),
            kind: "stdout",
        },
        DestinationKind::Http(http) => Opened {
            destination: Arc::new(http::HttpDestination::new(http, surroundings).map_err(error)?),
            retry: http.retry.clone(),
            kind: "http",
        },
        DestinationKind::Elasticsearch(to) => Opened {
            destination: Arc::new(
                elasticsearch::Elasticsearch::new(to, surroundings).map_err(error)?,
            ),
            retry: to.retry.clone(),
            kind: "elasticsearch",
        },
        DestinationKind::SplunkHec(to) => Opened {
            destination: Arc::new(splunk_hec::SplunkHec::new(to, surroundings).map_err(error)?),
            retry: to.retry.clone(),
            kind: "splunkHec",
        },
        DestinationKind::Loki(to) => Opened {
            destination: Arc::new(loki::Loki::new(to, surroundings).map_err(error)?),
            retry: to.retry.clone(),
            kind: "loki",
        },
        DestinationKind::Otlp(to) => Opened {
            destination: Arc::new(otlp::Otlp::new(to, surroundings).map_err(error)?),
            retry: to.retry.clone(),
            kind: "otlp",
        },
        DestinationKind::Syslog(to) => Opened {
            destination: Arc::new(syslog::Syslog::new(to, surroundings).map_err(error)?),
            retry: to.retry.clone(),
            kind: "syslog",
        },
    })
}

/// For what is on this machine: never give up, and look again soon, because a full disk or a wrong
/// permission is mended by hand.
fn local_retry() -> Retry {
    Retry {
        initial: manifest::Period::millis(200),
        max: manifest::Period::seconds(5),
        attempts: None,
    }
}

#[cfg(test)]
mod tests;
