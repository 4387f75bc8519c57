//! What a plugin gets to read: lines of files, of a terminal, of a recording.

use std::fs::File;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use super::super::recording::{Recording, bytes, span};
use crate::cli::Failed;

/// Without any other input, something to see at once.
const SAMPLE: &str = "hello, world\n\n{\"level\":\"error\",\"message\":\"disk full\"}\n";

/// See the module.
pub(super) struct Input {
    given: Vec<u8>,
    typed: Option<Receiver<String>>,
    also: Vec<u8>,
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
        let typed = stdin.then(read_stdin);
        Ok(Self {
            given,
            typed,
            also: Vec::new(),
        })
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
        Ok(Self {
            given,
            typed: None,
            also: Vec::new(),
        })
    }

    /// Whether no more lines come.
    pub(super) fn is_over(&self) -> bool {
        self.typed.is_none()
    }

    /// How many lines there are so far.
    pub(super) fn lines(&self) -> usize {
        let of = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
        of(&self.given) + of(&self.also)
    }

    /// Writes what is there into the file that the plugin reads.
    pub(super) fn feed(&mut self, path: &Path) -> Result<(), Failed> {
        append(path, &self.given)
    }

    /// Once more, for a module that is new.
    pub(super) fn again(&mut self, path: &Path) -> Result<(), Failed> {
        append(path, &self.given)?;
        append(path, &self.also)
    }

    /// What was typed since.
    pub(super) fn typed(&mut self, path: &Path) -> Result<(), Failed> {
        let mut lines = String::new();
        while let Some(typed) = &self.typed {
            match typed.try_recv() {
                Ok(line) => lines.push_str(&line),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.typed = None,
            }
        }
        self.also.extend(lines.as_bytes());
        append(path, lines.as_bytes())
    }
}

fn append(path: &Path, bytes: &[u8]) -> Result<(), Failed> {
    if bytes.is_empty() {
        return Ok(());
    }
    let file = File::options().append(true).create(true).open(path);
    let written = file.and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| Failed::new(format!("{}: {error}", path.display())))
}

fn read_stdin() -> Receiver<String> {
    let (sender, receiver) = sync_channel(1024);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line + "\n").is_err() {
                return;
            }
        }
    });
    receiver
}
