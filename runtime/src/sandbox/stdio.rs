//! What a guest writes to stdout and stderr: kept by line in its journal, and the last bytes of
//! stderr for the report of a panic. Written without blocking and without bound on the guest's side.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::journal::Journal;
use crate::manifest::LogLevel;

/// The last bytes of stderr that are kept.
const TAIL: usize = 4 << 10;
/// An unfinished line longer than this is taken as it is.
const LINE: usize = 4 << 10;

/// One of a guest's output streams; clones are the same stream.
#[derive(Clone)]
pub(super) struct Output {
    name: &'static str,
    journal: Journal,
    buffer: Arc<Mutex<Buffer>>,
}

#[derive(Default)]
struct Buffer {
    line: Vec<u8>,
    tail: VecDeque<u8>,
}

impl Output {
    pub(super) fn new(name: &'static str, journal: Journal) -> Self {
        Self {
            name,
            journal,
            buffer: Arc::default(),
        }
    }

    /// Takes the last bytes written, as text.
    pub(super) fn take_tail(&self) -> String {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let tail: Vec<u8> = std::mem::take(&mut buffer.tail).into();
        String::from_utf8_lossy(&tail).trim_end().to_owned()
    }

    fn accept(&self, bytes: &[u8]) {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let keep = &bytes[bytes.len().saturating_sub(TAIL)..];
        let excess = (buffer.tail.len() + keep.len()).saturating_sub(TAIL);
        buffer.tail.drain(..excess);
        buffer.tail.extend(keep);
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            buffer.line.extend_from_slice(part);
            if part.ends_with(b"\n") || buffer.line.len() > LINE {
                let line = std::mem::take(&mut buffer.line);
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if !text.is_empty() {
                    self.journal
                        .write(LogLevel::Info, self.name, text, String::new());
                }
            }
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    // The default would write from a task of its own, and a panic's message would come too late.
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.accept(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

impl Pollable for Output {
    fn ready<'life, 'future>(&'life mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(std::future::ready(()))
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.accept(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
