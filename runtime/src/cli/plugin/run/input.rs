//! What a plugin gets to read: lines of files, of a terminal, of a recording.

use std::fs::File;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use super::super::recording::{Recording, bytes, span};
use crate::cli::Failed;

/// Without any other input, something to see at once.
const SAMPLE: &str = "hello, world\n\n{\"level\":\"error\",\"message\":\"disk full\"}\n";

/// Of what was typed, so much comes again for a module that is new.
const TYPED: usize = 1 << 20;
/// So many lines, and so many bytes, are fed before the plugin has worked on those before.
const STEP_LINES: usize = 4096;
const STEP_BYTES: usize = 1 << 20;
/// Or so long after the last step: some lines may not come to the plugin, or as others.
const SLOWEST: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Input {
    given: Vec<u8>,
    typed: Option<Receiver<Vec<u8>>>,
    /// What was typed last.
    also: Vec<u8>,
    waiting: Vec<u8>,
    /// How much of that was fed.
    at: usize,
    /// How many lines there were in all, and how many of them were fed.
    lines: usize,
    fed: usize,
    last_step: Option<Instant>,
}

impl Input {
    /// Of files; `-` is stdin, which goes on while it is open.
    ///
    /// # Errors
    /// If one cannot be read.
    pub(super) fn of(files: &[PathBuf], once: bool) -> Result<Self, Failed> {
        let mut given = Vec::new();
        let mut stdin = false;
        for file in files {
            if file == Path::new("-") {
                stdin = true;
                continue;
            }
            let held = std::fs::read(file)
                .map_err(|error| Failed::new(format!("--input {}: {error}", file.display())))?;
            given.extend(held);
            if given.last().is_some_and(|last| *last != b'\n') {
                given.push(b'\n');
            }
        }
        if files.is_empty() {
            given = SAMPLE.into();
            // Whoever sits there may type more.
            stdin = !once && std::io::stdin().is_terminal();
        }
        Ok(Self::new(given, stdin.then(read_stdin)))
    }

    /// The lines that a plugin was shown when it was recorded.
    ///
    /// # Errors
    /// If there are none.
    pub(super) fn recorded(recording: &Recording) -> Result<Self, Failed> {
        let mut given = Vec::new();
        for told in &recording.calls {
            let batch = told.arguments.first();
            let batch = batch.filter(|_| told.call == "logs.process");
            let Some(batch) = batch else { continue };
            let held = bytes(&batch["bytes"]);
            for line in batch["lines"].as_array().into_iter().flatten() {
                given.extend_from_slice(span(&held, line, "offset", "length"));
                given.push(b'\n');
            }
        }
        if given.is_empty() {
            return Err(Failed::new(
                "the recording holds no lines; `bulkhead plugin replay` makes its calls again",
            ));
        }
        Ok(Self::new(given, None))
    }

    fn new(given: Vec<u8>, typed: Option<Receiver<Vec<u8>>>) -> Self {
        Self {
            waiting: given.clone(),
            at: 0,
            lines: lines_in(&given),
            fed: 0,
            last_step: None,
            given,
            typed,
            also: Vec::new(),
        }
    }

    /// Whether no more lines come.
    pub(super) fn is_over(&self) -> bool {
        self.typed.is_none() && self.at == self.waiting.len()
    }

    /// How many lines there are so far.
    pub(super) fn lines(&self) -> usize {
        self.lines
    }

    /// Once more, for a module that is new.
    pub(super) fn again(&mut self) {
        let again = [self.given.as_slice(), &self.also].concat();
        self.wait(&again);
    }

    /// Writes what is next into the file that the plugin reads, if it has seen the lines before. It is not held up
    /// for who looks on: all at once would be more than can be shown.
    pub(super) fn feed(&mut self, path: &Path, seen: usize) -> Result<(), Failed> {
        self.take_typed();
        let slow = self.last_step.is_none_or(|last| last.elapsed() > SLOWEST);
        let rest = self.waiting.get(self.at..).unwrap_or_default();
        if rest.is_empty() || (seen < self.fed && !slow) {
            return Ok(());
        }
        let ends = memchr::memchr_iter(b'\n', rest).take(STEP_LINES);
        let (count, end) = ends
            .enumerate()
            .take_while(|(index, end)| *index == 0 || *end < STEP_BYTES)
            .last()
            .map_or((1, rest.len()), |(index, end)| (index + 1, end + 1));
        append(path, &rest[..end])?;
        self.at += end;
        self.fed += count;
        self.last_step = Some(Instant::now());
        // What was fed is not needed any more, and seldom moved.
        if self.at == self.waiting.len() || self.at > 8 * STEP_BYTES {
            self.waiting.drain(..self.at);
            self.at = 0;
        }
        Ok(())
    }

    fn wait(&mut self, lines: &[u8]) {
        self.lines += lines_in(lines);
        self.waiting.extend_from_slice(lines);
    }

    /// What was typed since.
    fn take_typed(&mut self) {
        let mut lines = Vec::new();
        // Whoever types faster than the plugin works waits.
        while self.waiting.len() - self.at + lines.len() < 2 * STEP_BYTES
            && let Some(typed) = &self.typed
        {
            match typed.try_recv() {
                Ok(line) => lines.extend_from_slice(&line),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.typed = None,
            }
        }
        self.wait(&lines);
        self.also.extend_from_slice(&lines);
        let excess = self.also.len().saturating_sub(TYPED);
        if excess > 0 {
            let end = memchr::memchr(b'\n', &self.also[excess..]);
            self.also
                .drain(..end.map_or(self.also.len(), |end| excess + end + 1));
        }
    }
}

fn lines_in(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', bytes).count()
}

fn append(path: &Path, bytes: &[u8]) -> Result<(), Failed> {
    if bytes.is_empty() {
        return Ok(());
    }
    let file = File::options().append(true).create(true).open(path);
    let written = file.and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| Failed::new(format!("{}: {error}", path.display())))
}

/// Line by line, whatever is in them; the last one may have no end.
fn read_stdin() -> Receiver<Vec<u8>> {
    let (sender, receiver) = sync_channel(1024);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        loop {
            let mut line = Vec::new();
            match stdin.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line.ends_with(b"\n") => {}
                Ok(_) => line.push(b'\n'),
            }
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
