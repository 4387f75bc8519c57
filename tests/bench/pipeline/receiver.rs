//! Peers that acknowledge everything and keep nothing: what they cost is not measured.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a peer says to a request.
#[derive(Clone, Copy)]
pub(crate) enum Speaks {
    /// HTTP, each request answered with this status and body.
    Http(&'static str, &'static str),
    /// Nothing: messages end in a line feed, which are counted.
    Lines,
}

/// A peer on loopback, until the process ends.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    bytes: Arc<AtomicU64>,
    lines: Arc<AtomicU64>,
}

impl Receiver {
    pub(crate) fn start(speaks: Speaks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (bytes, lines) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        std::thread::spawn({
            let (bytes, lines) = (bytes.clone(), lines.clone());
            move || {
                for stream in listener.incoming() {
                    let (bytes, lines) = (bytes.clone(), lines.clone());
                    std::thread::spawn(move || {
                        let stream = stream.unwrap();
                        // A connection that breaks off is seen by what is missing at the end.
                        let _ = match speaks {
                            Speaks::Http(status, body) => answer(stream, status, body, &bytes),
                            Speaks::Lines => count(stream, &bytes, &lines),
                        };
                    });
                }
            }
        });
        Self {
            address,
            bytes,
            lines,
        }
    }

    /// Bytes of bodies or messages so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Line feeds so far, of a peer that speaks [`Speaks::Lines`].
    pub(crate) fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }
}

fn count(mut stream: TcpStream, bytes: &AtomicU64, lines: &AtomicU64) -> std::io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        bytes.fetch_add(read as u64, Ordering::Relaxed);
        let feeds = memchr::memchr_iter(b'\n', &buffer[..read]).count();
        lines.fetch_add(feeds as u64, Ordering::Relaxed);
    }
}

/// HTTP/1.1 as far as our client uses it: bodies with a length, connections that are kept.
fn answer(stream: TcpStream, status: &str, body: &str, bytes: &AtomicU64) -> std::io::Result<()> {
    let mut input = BufReader::with_capacity(256 << 10, stream.try_clone()?);
    let mut output = stream;
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut line = String::new();
    loop {
        let mut length = 0;
        loop {
            line.clear();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let Some((name, value)) = line.split_once(':') else {
                if line == "\r\n" {
                    break;
                }
                continue;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().expect("a length");
            }
        }
        let taken = std::io::copy(&mut (&mut input).take(length), &mut std::io::sink())?;
        bytes.fetch_add(taken, Ordering::Relaxed);
        output.write_all(answer.as_bytes())?;
    }
}
