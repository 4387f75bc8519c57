//! An HTTP/1.1 server that takes records and misbehaves when told to. Threads and blocking I/O; it
//! shares no code with the daemon, so that a fault of the client's library shows.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use super::authority::Files;
use super::wait_for;

/// Names in lower case.
type Headers = BTreeMap<String, String>;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Of the server, from 0.
    pub connection: usize,
    /// Of the server, from 0, in the order in which they were read to their end.
    pub number: usize,
    pub method: String,
    pub path: String,
    pub headers: Headers,
    /// Decompressed.
    pub body: Vec<u8>,
    pub at: Instant,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The body as newline-delimited JSON.
    pub fn records(&self) -> Vec<Value> {
        assert_eq!(self.path, "/ingest");
        let text = self.text();
        assert!(text.ends_with('\n'), "the last record is whole");
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// What to do with a request.
pub enum Answer {
    /// A status, further headers (each with its line end) and a text.
    Status(u16, &'static str, String),
    /// Says 200 and breaks off in the answer's body.
    CutShort,
    /// Says something that is no HTTP.
    Garbage,
    /// Says nothing until the client goes away.
    Stall,
}

pub fn ok() -> Answer {
    Answer::Status(200, "", String::new())
}

pub fn status(code: u16) -> Answer {
    Answer::Status(code, "", "as told".to_owned())
}

type Behaviour = dyn Fn(&Received) -> Answer + Send + Sync;

/// A connection, with or without TLS.
trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

struct Shared {
    tls: Option<Arc<ServerConfig>>,
    behaviour: Box<Behaviour>,
    /// Closes this many connections in the middle of a request's body.
    resets: AtomicUsize,
    received: Mutex<Vec<(Received, bool)>>,
    /// Those that are open.
    streams: Mutex<BTreeMap<usize, TcpStream>>,
    connections: AtomicUsize,
    at_work: AtomicUsize,
    most_at_work: AtomicUsize,
    stop: AtomicBool,
}

/// A running server. Dropping it closes all its connections.
pub struct Sink {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

/// An address of this test's own, on which nobody listens. Tests share ports of 127.0.0.1, so it is
/// another loopback address.
pub fn own_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from(([127, 1 + high % 250, low, 1], 20_000 + number))
}

impl Sink {
    pub fn start(behaviour: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_at(own_address(), behaviour)
    }

    pub fn start_at(
        address: SocketAddr,
        behaviour: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(address, None, behaviour)
    }

    /// A server that speaks TLS, if it has what it takes.
    pub fn start_with(
        address: SocketAddr,
        tls: Option<&Files>,
        behaviour: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let shared = Arc::new(Shared {
            tls: tls.map(server_config),
            behaviour: Box::new(behaviour),
            resets: AtomicUsize::new(0),
            received: Mutex::default(),
            streams: Mutex::default(),
            connections: AtomicUsize::new(0),
            at_work: AtomicUsize::new(0),
            most_at_work: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(&listener)
        });
        Self {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/ingest", self.address)
    }

    /// Resets the next `count` connections in the middle of a request's body.
    pub fn reset(&self, count: usize) {
        self.shared.resets.store(count, Ordering::SeqCst);
    }

    /// Every request, and whether it was acknowledged.
    pub fn all(&self) -> Vec<(Received, bool)> {
        self.shared.received.lock().unwrap().clone()
    }

    pub fn requests(&self) -> usize {
        self.shared.received.lock().unwrap().len()
    }

    /// The requests that were acknowledged, in order.
    pub fn acknowledged(&self) -> Vec<Received> {
        let all = self.all().into_iter();
        all.filter_map(|(request, taken)| taken.then_some(request))
            .collect()
    }

    /// The acknowledged records, in order.
    pub fn records(&self) -> Vec<Value> {
        self.acknowledged()
            .iter()
            .flat_map(Received::records)
            .collect()
    }

    /// Waits until all that a client sent before it died was read.
    pub fn drain(&self) {
        // Connections are accepted in turn: once this one was, all that came before it were.
        let marker = TcpStream::connect(self.address).unwrap();
        marker.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = (&marker).read(&mut [0]);
        wait_for("the connections of a dead client to end", || {
            let streams = self.shared.streams.lock().unwrap();
            streams.is_empty().then_some(())
        });
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many requests were under way at once at most.
    pub fn most_at_work(&self) -> usize {
        self.shared.most_at_work.load(Ordering::SeqCst)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for stream in self.shared.streams.lock().unwrap().values() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let connection = self.connections.fetch_add(1, Ordering::SeqCst);
            if let Ok(clone) = stream.try_clone() {
                self.streams.lock().unwrap().insert(connection, clone);
            }
            let shared = Arc::clone(self);
            std::thread::spawn(move || {
                let _ = match &shared.tls {
                    None => shared.serve(Box::new(stream), connection),
                    Some(config) => ServerConnection::new(Arc::clone(config))
                        .map_err(io::Error::other)
                        .map(|tls| StreamOwned::new(tls, stream))
                        .and_then(|stream| shared.serve(Box::new(stream), connection)),
                };
                shared.streams.lock().unwrap().remove(&connection);
            });
        }
    }

    /// Requests of one connection, until either side has enough.
    fn serve(&self, stream: Box<dyn Stream>, connection: usize) -> io::Result<()> {
        let mut reader = BufReader::with_capacity(1024, stream);
        while let Some(request) = self.read(&mut reader, connection)? {
            let at_work = self.at_work.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_at_work.fetch_max(at_work, Ordering::SeqCst);
            let answer = self.decide(request);
            // Before the client can know, and send the next.
            self.at_work.fetch_sub(1, Ordering::SeqCst);
            if !give(reader.get_mut(), answer)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// One request; none at the connection's end, and none if it is to be reset.
    fn read(
        &self,
        reader: &mut BufReader<Box<dyn Stream>>,
        connection: usize,
    ) -> io::Result<Option<Received>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let parts: Vec<&str> = line.split_ascii_whitespace().collect();
        let [method, target, "HTTP/1.1"] = parts[..] else {
            panic!("asked for {line}");
        };
        let method = method.to_owned();
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length");
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        let reset = |left: usize| left.checked_sub(1);
        let resets = &self.resets;
        if resets
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, reset)
            .is_ok()
        {
            // What is left unread makes the kernel reset the connection.
            reader.read_exact(&mut vec![0; length / 2])?;
            return Ok(None);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        if headers.get("content-encoding").map(String::as_str) == Some("gzip") {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain)?;
            body = plain;
        }
        Ok(Some(Received {
            connection,
            number: 0,
            method,
            path,
            headers,
            body,
            at: Instant::now(),
        }))
    }

    fn decide(&self, mut request: Received) -> Answer {
        {
            let mut received = self.received.lock().unwrap();
            request.number = received.len();
            received.push((request.clone(), false));
        }
        let answer = (self.behaviour)(&request);
        let taken = match &answer {
            Answer::Status(code, ..) => (200..300).contains(code),
            Answer::CutShort => true,
            Answer::Garbage | Answer::Stall => false,
        };
        self.received.lock().unwrap()[request.number].1 = taken;
        answer
    }
}

fn server_config(files: &Files) -> Arc<ServerConfig> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let chain = vec![CertificateDer::from_pem_file(&files.certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    Arc::new(config.with_single_cert(chain, key).unwrap())
}

/// Answers; whether the connection stays open.
fn give(stream: &mut dyn Stream, answer: Answer) -> io::Result<bool> {
    match answer {
        Answer::Status(code, headers, text) => {
            let length = text.len();
            write!(
                stream,
                "HTTP/1.1 {code} Told\r\n{headers}Content-Length: {length}\r\n\r\n{text}"
            )?;
            Ok(true)
        }
        Answer::CutShort => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")?;
            Ok(false)
        }
        Answer::Garbage => {
            write!(stream, "220 this is mail\r\n\r\n")?;
            Ok(false)
        }
        Answer::Stall => {
            let _ = stream.read(&mut [0])?;
            Ok(false)
        }
    }
}
