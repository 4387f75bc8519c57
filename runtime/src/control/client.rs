//! The command line's side.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, to_bytes};
use futures_util::StreamExt as _;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

use super::{Ask, RecordOrder, Recorded, Refusal, socket};

/// The longest that an order may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// The most bytes of an answer.
const ANSWER: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "{}: no daemon answers: {source}; is it running with this state folder? Name another one with --state, and run this as root on the node (in its pod: kubectl exec)",
        path.display()
    )]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The daemon went away, or is another program.
    #[error("the daemon's answer cannot be read: {0}")]
    Broken(String),
    /// The daemon says no.
    #[error("{0}")]
    Refused(String),
}

/// Sends a request to the daemon with this state folder, and waits for the answer.
///
/// # Errors
/// If there is none, or it is no.
pub async fn send<A: Ask>(state: &Path, request: &A) -> Result<A::Answer, ClientError> {
    let path = socket(state);
    let stream = UnixStream::connect(&path).await;
    let stream = stream.map_err(|source| ClientError::Unreachable { path, source })?;
    let broken = |error: &dyn std::fmt::Display| ClientError::Broken(error.to_string());
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| broken(&error))?;
    let connection = tokio::spawn(connection);
    let body = serde_json::to_vec(request).map_err(|error| broken(&error))?;
    let request = hyper::Request::post(A::PATH)
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .map_err(|error| broken(&error))?;
    let answer = async {
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| broken(&error))?;
        let status = response.status();
        let body = to_bytes(Body::new(response.into_body()), ANSWER).await;
        let body = body.map_err(|error| broken(&error))?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| broken(&error));
        }
        Err(match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => ClientError::Refused(refusal.message),
            Err(_) => broken(&String::from_utf8_lossy(&body)),
        })
    };
    let answer = tokio::time::timeout(PATIENCE, answer).await;
    connection.abort();
    answer.map_err(|_| broken(&"it took longer than five minutes"))?
}

/// Records a plugin, until the daemon ends it or the records are dropped.
///
/// # Errors
/// If there is no daemon, or it says no.
pub async fn record(state: &Path, order: &RecordOrder) -> Result<Records, ClientError> {
    let path = socket(state);
    let stream = UnixStream::connect(&path).await;
    let stream = stream.map_err(|source| ClientError::Unreachable { path, source })?;
    let broken = |error: &dyn std::fmt::Display| ClientError::Broken(error.to_string());
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| broken(&error))?;
    let connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let body = serde_json::to_vec(order).map_err(|error| broken(&error))?;
    let request = hyper::Request::post(RecordOrder::PATH)
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .map_err(|error| broken(&error))?;
    let response = sender.send_request(request).await;
    let response = response.map_err(|error| broken(&error))?;
    let status = response.status();
    let body = Body::new(response.into_body());
    if !status.is_success() {
        let body = to_bytes(body, ANSWER)
            .await
            .map_err(|error| broken(&error))?;
        return Err(match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => ClientError::Refused(refusal.message),
            Err(_) => broken(&String::from_utf8_lossy(&body)),
        });
    }
    Ok(Records {
        parts: body.into_data_stream(),
        held: Vec::new(),
        looked: 0,
        _connection: connection,
    })
}

/// The lines of a recording that goes on.
pub struct Records {
    parts: BodyDataStream,
    held: Vec<u8>,
    /// Bytes of these without the end of a line.
    looked: usize,
    _connection: AbortOnDropHandle<Result<(), hyper::Error>>,
}

impl Records {
    /// The next, as it comes; none once the daemon has ended it. Nothing is lost if this is dropped.
    ///
    /// # Errors
    /// If the daemon goes away, or says what cannot be read.
    pub async fn next(&mut self) -> Result<Option<Recorded>, ClientError> {
        let broken = |error: &dyn std::fmt::Display| ClientError::Broken(error.to_string());
        loop {
            let new = self.held.get(self.looked..).unwrap_or_default();
            if let Some(end) = memchr::memchr(b'\n', new) {
                let line: Vec<u8> = self.held.drain(..=self.looked + end).collect();
                self.looked = 0;
                let recorded = serde_json::from_slice(&line).map_err(|error| broken(&error))?;
                return Ok(Some(recorded));
            }
            self.looked = self.held.len();
            match self.parts.next().await {
                Some(part) => self.held.extend(part.map_err(|error| broken(&error))?),
                None => return Ok(None),
            }
        }
    }
}
