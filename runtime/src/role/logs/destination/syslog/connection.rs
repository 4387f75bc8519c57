//! One connection to a syslog server, and what can be known through it.
//!
//! Syslog has no acknowledgement, so these stand in for one:
//! - Before each write it is looked whether the peer has closed the connection meanwhile.
//! - What was written counts once the peer's kernel has acknowledged all of it.
//! - The first request of a connection counts only if the peer has not closed the connection within
//!   [`PROBATION`] of its making. Peers that refuse us (by their list of senders, by their check of
//!   our certificate, a balancer without a server behind it) take the connection and close it soon.
//!
//! What lies in the peer's kernel when its process dies is lost, and nothing on this side can tell.

use std::future::Future;
use std::io::{self, Write};
use std::time::Duration;

use futures_util::FutureExt;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::lookup::Lookup;
use super::tls;
use super::unacknowledged::unacknowledged;

/// How long a peer that refuses us may take to close the connection.
pub(super) const PROBATION: Duration = Duration::from_secs(1);
/// A connection whose peer answers nothing for this many times `timeout` is given up by the kernel.
const DEAD_AFTER: u32 = 10;
/// How often an idle peer is asked again before it counts as dead, and how long it may take.
const KEEPALIVE_PROBES: u32 = 3;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Between looks at what the peer's kernel has acknowledged.
const SHORTEST_LOOK: Duration = Duration::from_millis(1);
const LONGEST_LOOK: Duration = Duration::from_millis(20);
/// A server of syslog says nothing; what it says beside that is thrown away, up to this many reads.
const MOST_SAID: usize = 256;
/// The most of an error's text that is shown, in characters: names in it come from the peer.
const QUOTE: usize = 400;

/// A server of syslog and how to reach it.
pub(super) struct Peer {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Option<(Lookup<TlsConnector>, ServerName<'static>)>,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
    pub(super) keepalive: Duration,
    pub(super) probation: Duration,
}

/// Why a request does not get on.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The peer takes nothing, for now: the same connection may go on.
    Stalled(String),
    /// The connection is of no more use.
    Broken(String),
}

pub(super) struct Connection {
    stream: Stream,
    /// Until then nothing that was written counts; none once the peer has stayed so long.
    probation: Option<Instant>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Peer {
    /// Connects, and shakes hands if there is to be TLS. An error says what went wrong.
    pub(super) async fn connect(&self) -> Result<Connection, String> {
        let tls = match &self.tls {
            Some((lookup, name)) => Some((lookup.current().await?, name)),
            None => None,
        };
        let connect = async {
            let plain = TcpStream::connect((&*self.host, self.port)).await;
            let plain = plain.map_err(|error| {
                format!("cannot connect: {error}; check address, DNS and firewall")
            })?;
            self.prepare(&plain)
                .map_err(|error| format!("cannot set up the connection: {error}"))?;
            let Some((connector, name)) = tls else {
                return Ok(Stream::Plain(plain));
            };
            let handshake = connector.value.connect(name.clone(), plain).await;
            match handshake {
                Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
                Err(error) => Err(tls::explain(&error, &name.to_str())),
            }
        };
        let stream = timeout(self.connect_timeout, connect).await;
        let stream = stream.unwrap_or_else(|_| {
            Err(format!(
                "no connection within {} s; check address, firewall and whether it takes {}",
                self.connect_timeout.as_secs_f64(),
                if self.tls.is_some() { "TLS" } else { "TCP" }
            ))
        });
        Ok(Connection {
            stream: stream.map_err(|trouble| clean(&trouble))?,
            probation: Some(Instant::now() + self.probation),
        })
    }

    fn prepare(&self, socket: &TcpStream) -> rustix::io::Result<()> {
        sockopt::set_tcp_nodelay(socket, true)?;
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, self.keepalive)?;
        sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
        let dead = self.timeout.saturating_mul(DEAD_AFTER).as_millis();
        let most = i32::MAX.unsigned_abs();
        sockopt::set_tcp_user_timeout(socket, u32::try_from(dead).unwrap_or(most).min(most))
    }
}

/// One line, and not too long.
fn clean(text: &str) -> String {
    let clean = text.replace(char::is_control, " ");
    match clean.char_indices().nth(QUOTE) {
        Some((end, _)) => format!("{}...", &clean[..end]),
        None => clean,
    }
}

fn broken(error: io::Error) -> Trouble {
    Trouble::Broken(format!("the connection broke: {error}"))
}

/// What to do about a peer that takes connections and not what is sent through them.
fn refused(how: &str) -> Trouble {
    Trouble::Broken(clean(&format!(
        "it closed the connection at once{how}; check that it takes us (its list of senders, \
         `tls.certFile`), and that both sides speak TLS or neither does"
    )))
}

impl Connection {
    fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Whether the peer has left the connection open, as far as this machine's kernel knows.
    pub(super) async fn is_open(&mut self) -> bool {
        for _ in 0..MOST_SAID {
            // Not through the runtime, which may not have heard of it yet.
            let waiting = recv(
                self.socket(),
                &mut [0; 1],
                RecvFlags::PEEK | RecvFlags::DONTWAIT,
            );
            match waiting {
                Err(rustix::io::Errno::AGAIN) => return true,
                Ok((_, 1..)) => {}
                Ok((_, 0)) | Err(_) => return false,
            }
            if self.socket().readable().await.is_err() {
                return false;
            }
            let mut said = [0; 4096];
            // With TLS what is there may be nothing to read: a ticket, or half a record.
            if let Some(Ok(0) | Err(_)) = self.read(&mut said).now_or_never() {
                return false;
            }
        }
        false
    }

    async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.read(into).await,
            Stream::Tls(stream) => stream.read(into).await,
        }
    }

    /// Ends when the peer has closed the connection; how it did, if it has said so.
    async fn gone(&mut self) -> String {
        let mut said = [0; 4096];
        loop {
            match self.read(&mut said).await {
                Ok(0) => return String::new(),
                Ok(_) => {}
                Err(error) => return format!(" ({error})"),
            }
        }
    }

    /// What it means that a connection broke, by its age.
    fn explain(&self, trouble: Trouble) -> Trouble {
        match (trouble, self.probation) {
            (Trouble::Broken(how), Some(_)) => refused(&format!(" ({how})")),
            (trouble, _) => trouble,
        }
    }

    /// Writes `body` from `written` on, which moves with every byte that the kernel has taken, and
    /// waits until the peer's kernel has acknowledged all of it.
    pub(super) async fn deliver(
        &mut self,
        body: &[u8],
        written: &mut usize,
        patience: Duration,
    ) -> Result<(), Trouble> {
        let taken = match self.write(body, written, patience).await {
            Ok(()) => self.acknowledged(patience).await,
            Err(trouble) => Err(trouble),
        };
        taken.map_err(|trouble| self.explain(trouble))?;
        self.pass_probation().await
    }

    async fn write(
        &mut self,
        body: &[u8],
        written: &mut usize,
        patience: Duration,
    ) -> Result<(), Trouble> {
        while let Some(rest) = body.get(*written..)
            && !rest.is_empty()
        {
            let write = async {
                match &mut self.stream {
                    Stream::Plain(socket) => socket.write(rest).await,
                    Stream::Tls(stream) => stream.write(rest).await,
                }
            };
            match within(patience, write).await?.map_err(broken)? {
                0 => return Err(broken(io::ErrorKind::WriteZero.into())),
                count => *written += count,
            }
        }
        if let Stream::Tls(stream) = &mut self.stream {
            within(patience, stream.flush()).await?.map_err(broken)?;
        }
        Ok(())
    }

    async fn acknowledged(&mut self, patience: Duration) -> Result<(), Trouble> {
        let mut look = SHORTEST_LOOK;
        let mut least = usize::MAX;
        let mut progress = Instant::now();
        loop {
            let waiting = unacknowledged(self.socket()).map_err(broken)?;
            // A reset leaves nothing to acknowledge, and takes nothing either.
            if let Some(error) = self.socket().take_error().map_err(broken)? {
                return Err(broken(error));
            }
            if waiting == 0 {
                return Ok(());
            }
            if waiting < least {
                least = waiting;
                progress = Instant::now();
            } else if progress.elapsed() > patience {
                return Err(stalled(patience));
            }
            tokio::time::sleep(look).await;
            look = (look * 2).min(LONGEST_LOOK);
        }
    }

    async fn pass_probation(&mut self) -> Result<(), Trouble> {
        if let Some(end) = self.probation {
            if let Ok(how) = timeout_at(end, self.gone()).await {
                return Err(refused(&how));
            }
            self.probation = None;
        }
        Ok(())
    }
}

async fn within<T>(patience: Duration, work: impl Future<Output = T>) -> Result<T, Trouble> {
    timeout(patience, work).await.map_err(|_| stalled(patience))
}

fn stalled(patience: Duration) -> Trouble {
    Trouble::Stalled(format!(
        "it has taken nothing for {} s; check whether its queue or its disk is full. What it has \
         taken is not sent again",
        patience.as_secs_f64()
    ))
}

impl Drop for Connection {
    /// Says good-bye as TLS wants it, and leaves nothing unread: the kernel would send a reset, which
    /// makes some peers forget what they have not read.
    fn drop(&mut self) {
        if let Stream::Tls(stream) = &mut self.stream {
            let (socket, session) = stream.get_mut();
            session.send_close_notify();
            let _ = session.write_tls(&mut AtOnce(socket));
        }
        let mut said = [0; 4096];
        for _ in 0..MOST_SAID {
            let Ok((_, 1..)) = recv(self.socket(), &mut said, RecvFlags::DONTWAIT) else {
                return;
            };
        }
    }
}

/// Writes what the kernel takes without waiting.
struct AtOnce<'a>(&'a TcpStream);

impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(
            self.0,
            bytes,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        )?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
