//! A syslog server: RFC 5424 over TCP (RFC 6587) or TLS (RFC 5425).
//!
//! Each lane has a connection of its own, so that a file's messages arrive in order. Syslog has no
//! acknowledgement; what stands in for one is told in `connection`. A request that fails is sent
//! again whole, on another connection; one that only waits, because the server takes nothing for a
//! while, goes on where it stopped.
//!
//! A payload that the plugin encoded is one message; it gets its frame and nothing else.

mod connection;
mod message;
mod tls;
mod unacknowledged;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rustls::pki_types::ServerName;

use crate::manifest::SyslogDestination;
use crate::role::logs::output::{Parcel, Record};
use crate::role::logs::record_id::{Machine, RecordId};

use super::{Destination, Lane, Request, SendError, Surroundings};
use connection::{Connection, PROBATION, Peer, Trouble};
use message::{Messages, Rules, push_payload};

/// One write is at most this long unless a single message is longer, in bytes: it bounds what may
/// arrive twice.
const MAX_REQUEST: usize = 1 << 20;

/// A syslog server.
pub struct Syslog {
    peer: Peer,
    rules: Rules,
    machine: Machine,
    /// As the manifest names it.
    address: String,
}

impl Syslog {
    /// Checks the configuration; connects to nothing yet.
    pub(super) fn new(
        manifest: &SyslogDestination,
        surroundings: &Surroundings,
    ) -> Result<Self, (String, String)> {
        let error = |field: &str, problem: String| (format!("syslog.{field}"), problem);
        let Some((host, port)) = manifest.host_and_port() else {
            let problem = format!(
                "{:?} is not HOST:PORT; write for example logs.example.org:6514",
                manifest.address
            );
            return Err(error("address", problem));
        };
        let tls = match &manifest.tls {
            None => None,
            Some(settings) => {
                let name = settings.server_name.as_deref().unwrap_or(host);
                let server = ServerName::try_from(name.to_owned()).map_err(|_| {
                    let problem = format!("{name:?} is no name that a certificate could be for");
                    error("tls.serverName", problem)
                })?;
                let lookup = tls::lookup(settings, &surroundings.secrets)
                    .map_err(|problem| error("tls", problem))?;
                Some((lookup, server))
            }
        };
        Ok(Self {
            peer: Peer {
                host: host.to_owned(),
                port,
                tls,
                connect_timeout: manifest.connect_timeout.0,
                timeout: manifest.timeout.0,
                keepalive: manifest.keepalive.0,
                probation: PROBATION,
            },
            rules: Rules::new(manifest, &surroundings.node_name)?,
            machine: surroundings.machine,
            address: manifest.address.clone(),
        })
    }

    fn retry(&self, problem: &str) -> SendError {
        SendError::Retry {
            after: None,
            reason: format!("{}: {problem}", self.address),
        }
    }
}

impl Destination for Syslog {
    fn lane(self: Arc<Self>) -> Box<dyn Lane> {
        Box::new(SyslogLane {
            destination: self,
            messages: Messages::new(),
            connection: None,
            stalled: None,
        })
    }
}

struct SyslogLane {
    destination: Arc<Syslog>,
    messages: Messages,
    connection: Option<Connection>,
    /// A request that the connection is in the middle of, and how much of it was written.
    stalled: Option<(Bytes, usize)>,
}

impl SyslogLane {
    async fn deliver(&mut self, body: &Bytes, attempt: u32) -> Result<(), SendError> {
        if body.is_empty() {
            return Ok(());
        }
        let destination = &*self.destination;
        let retry = |problem: String| destination.retry(&problem);
        // Taken, so that a connection that is left in the middle of a message is not used again.
        let mut open = self.connection.take();
        let mut written = 0;
        if let Some((stalled, at)) = self.stalled.take() {
            let place = |bytes: &Bytes| (bytes.as_ptr(), bytes.len());
            let same = attempt > 1 && place(&stalled) == place(body);
            match same {
                true => written = at,
                false => open = None,
            }
        }
        if let Some(connection) = &mut open
            && !connection.is_open().await
        {
            open = None;
        }
        let mut connection = match open {
            Some(connection) => connection,
            None => {
                written = 0;
                destination.peer.connect().await.map_err(retry)?
            }
        };
        let patience = destination.peer.timeout;
        match connection.deliver(body, &mut written, patience).await {
            Ok(()) => {
                self.connection = Some(connection);
                Ok(())
            }
            Err(Trouble::Stalled(problem)) => {
                self.connection = Some(connection);
                self.stalled = Some((body.clone(), written));
                Err(retry(problem))
            }
            Err(Trouble::Broken(problem)) => Err(retry(problem)),
        }
    }
}

impl Lane for SyslogLane {
    fn encode(&mut self, parcel: &Parcel, records: &[Record<'_>], body: &mut Vec<u8>) -> usize {
        let destination = &*self.destination;
        for (index, record) in records.iter().enumerate() {
            let before = body.len();
            let id = RecordId::of(&destination.machine, &parcel.batch, record);
            self.messages.push(&destination.rules, record, id, body);
            if body.len() > MAX_REQUEST && index > 0 {
                body.truncate(before);
                return index;
            }
        }
        records.len()
    }

    fn encode_payload(&mut self, payload: &[u8], body: &mut Vec<u8>) {
        push_payload(&self.destination.rules, payload, body);
    }

    fn send<'a>(&'a mut self, request: Request<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(self.deliver(request.body, request.attempt))
    }
}

#[cfg(test)]
mod tests;
