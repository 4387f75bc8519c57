//! The daemon's standard output, line by line: lines of several plugins and lanes take turns whole.
//!
//! A reader that stops reading must not hold a thread for ever, so the descriptor is asked before
//! each write whether it takes more. When it does not for a while, the rest of the line that was
//! begun is kept for whoever writes next, and the caller goes on after that line when it tries
//! again: nothing is torn, nothing is written twice.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::manifest::Format;
use crate::role::logs::encode::RecordEncoder;
use crate::role::logs::output::{Parcel, Record};

use super::file::encode_lines;
use super::{Destination, Lane, Request, SendError};

/// One request is at most this long unless a single record is longer, in bytes: other plugins get
/// their turn in between.
const MAX_WRITE: usize = 256 << 10;
/// A pipe that polls as writable takes this much without blocking (POSIX `PIPE_BUF`).
const PIPE_BUF: usize = 4096;
/// How long a reader may take no byte before the attempt is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the last writer could not finish of its line; shared by every plugin of this process.
static UNFINISHED: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(Arc::default);

/// The daemon's standard output.
#[derive(Debug)]
pub struct StdoutDestination {
    format: Format,
}

impl StdoutDestination {
    pub(super) fn new(format: Format) -> Self {
        Self { format }
    }
}

impl Destination for StdoutDestination {
    fn lane(self: Arc<Self>) -> Box<dyn Lane> {
        Box::new(StdoutLane {
            encoder: RecordEncoder::new(self.format),
            done: 0,
        })
    }
}

struct StdoutLane {
    encoder: RecordEncoder,
    /// How much of the request at hand was written in earlier attempts.
    done: usize,
}

impl Lane for StdoutLane {
    fn encode(&mut self, _: &Parcel, records: &[Record<'_>], body: &mut Vec<u8>) -> usize {
        encode_lines(&mut self.encoder, records, MAX_WRITE, body)
    }

    fn encode_payload(&mut self, payload: &[u8], body: &mut Vec<u8>) {
        body.extend_from_slice(payload);
        if !payload.is_empty() && !payload.ends_with(b"\n") {
            body.push(b'\n');
        }
    }

    fn send<'a>(&'a mut self, request: Request<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(async move {
            if request.attempt == 1 {
                self.done = 0;
            }
            let body: Bytes = request.body.slice(self.done..);
            let unfinished = Arc::clone(&UNFINISHED);
            let written = tokio::task::spawn_blocking(move || {
                write_lines(&io::stdout(), &unfinished, &body, PATIENCE)
            })
            .await;
            let reason = match written {
                Ok((_, Ok(()))) => return Ok(()),
                Ok((taken, Err(error))) => {
                    self.done += taken;
                    format!("cannot write to standard output: {error}: check what reads it")
                }
                Err(join) => format!("the thread that writes to standard output failed: {join}"),
            };
            Err(SendError::Retry {
                after: None,
                reason,
            })
        })
    }
}

/// Writes what an earlier call left and then `body`. Returns how much of `body` needs no second
/// attempt: it was written, or kept in `unfinished` to be written before anything else.
fn write_lines(
    to: &impl AsFd,
    unfinished: &Mutex<Vec<u8>>,
    body: &[u8],
    patience: Duration,
) -> (usize, io::Result<()>) {
    let mut unfinished = unfinished.lock().unwrap_or_else(PoisonError::into_inner);
    if !unfinished.is_empty() {
        let (written, result) = write_patiently(to, &unfinished, patience);
        unfinished.drain(..written);
        if result.is_err() {
            return (0, result);
        }
    }
    let (written, result) = write_patiently(to, body, patience);
    if result.is_ok() || written == 0 || body[written - 1] == b'\n' {
        return (written, result);
    }
    let rest = &body[written..];
    let line_end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
    unfinished.extend_from_slice(&rest[..line_end]);
    (written + line_end, result)
}

fn write_patiently(to: &impl AsFd, bytes: &[u8], patience: Duration) -> (usize, io::Result<()>) {
    let timeout = Timespec {
        tv_sec: patience.as_secs() as i64,
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    let mut written = 0;
    while written < bytes.len() {
        let mut fds = [PollFd::new(to, PollFlags::OUT)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => {
                let message = "its reader takes nothing";
                return (
                    written,
                    Err(io::Error::new(io::ErrorKind::TimedOut, message)),
                );
            }
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return (written, Err(error.into())),
        }
        let end = (written + PIPE_BUF).min(bytes.len());
        match rustix::io::write(to, &bytes[written..end]) {
            Ok(count) => written += count,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return (written, Err(error.into())),
        }
    }
    (written, Ok(()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_line_is_finished_before_the_next_writer_begins() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let unfinished = Mutex::default();
        // Long lines, so that the pipe fills up inside one.
        let mut body = Vec::new();
        for digit in b'0'..=b'9' {
            body.extend(std::iter::repeat_n(digit, 30_000));
            body.push(b'\n');
        }
        let patience = Duration::from_millis(10);
        let (done, result) = write_lines(&writer, &unfinished, &body, patience);
        assert!(result.is_err());
        assert!(done > 0 && done < body.len() && body[done - 1] == b'\n');

        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all
        });
        let patience = Duration::from_secs(60);
        let (_, result) = write_lines(&writer, &unfinished, b"other\n", patience);
        result.unwrap();
        let (_, result) = write_lines(&writer, &unfinished, &body[done..], patience);
        result.unwrap();
        drop(writer);
        let all = reading.join().unwrap();
        let expected = [&body[..done], b"other\n", &body[done..]].concat();
        assert!(all == expected);
    }

    #[test]
    fn a_closed_reader_is_an_error() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (done, result) = write_lines(&writer, &Mutex::default(), b"x\n", PATIENCE);
        assert_eq!(
            (done, result.unwrap_err().kind()),
            (0, io::ErrorKind::BrokenPipe)
        );
    }
}
