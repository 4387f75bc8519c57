//! Dead letters: the records that a destination will never accept, one JSON object a line, in one
//! file for each plugin. Written and synced before the record counts as settled, so that "dead
//! lettered" always means "it is in this file or was pushed out by later ones".
//!
//! An entry: `{"time":when it was given up,"destination":name,"reason":text,"record":{...}}`, the
//! record as format `json` writes it. If the body is not UTF-8, `bodyBase64` holds its bytes. A
//! payload that the plugin encoded stands as `payloadBase64` with `lines`, how many lines it holds.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::destination::file::explain;
use super::destination::rotating::{RotatingFile, Rotation};
use super::encode::{RecordEncoder, push_string};
use super::output::Record;
use crate::manifest::Format;

/// Two files of this size at most; when the second is full, the older is forgotten.
const ROTATION: Rotation = Rotation {
    max_size: 64 << 20,
    keep: 1,
};

/// The dead letters of one plugin; shared by its destinations.
#[derive(Debug)]
pub struct DeadLetters {
    file: Arc<RotatingFile>,
    path: PathBuf,
}

impl DeadLetters {
    /// The file `STATE/dead-letter/NAMESPACE/NAME.jsonl`. Made when it is first needed.
    ///
    /// Returns none if that is no absolute path below `state`.
    pub fn new(state: &Path, namespace: &str, name: &str) -> Option<Self> {
        let plain = |part: &str| !part.is_empty() && !part.contains('/') && !part.starts_with('.');
        if !plain(namespace) || !plain(name) {
            return None;
        }
        let path = state
            .join("dead-letter")
            .join(namespace)
            .join(format!("{name}.jsonl"));
        let file = Arc::new(RotatingFile::new(Path::new("/"), &path)?);
        Some(Self { file, path })
    }

    /// Where the entries are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole entries and syncs. The error is for the operator.
    pub(super) async fn write(&self, entries: Vec<u8>) -> Result<(), String> {
        if entries.is_empty() {
            return Ok(());
        }
        let file = Arc::clone(&self.file);
        let written = tokio::task::spawn_blocking(move || {
            // Taken back if it fails: the same entries come again, and must not push out others.
            file.append_synced(&entries, ROTATION)
        })
        .await;
        crate::failpoint::hit("dead-letter.after-sync");
        let error = match written {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(join) => io::Error::other(join),
        };
        Err(format!("dead letters: {}", explain(&self.path, &error)))
    }
}

/// Encodes entries of one destination.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    start: Vec<u8>,
    destination: &'a str,
    encoder: RecordEncoder,
    /// The entries so far.
    pub(super) bytes: Vec<u8>,
}

impl<'a> Entries<'a> {
    pub(super) fn new(destination: &'a str) -> Self {
        let mut start = b"{\"time\":".to_vec();
        push_string(jiff::Timestamp::now().to_string().as_bytes(), &mut start);
        Self {
            start,
            destination,
            encoder: RecordEncoder::new(Format::Json),
            bytes: Vec::new(),
        }
    }

    pub(super) fn record(&mut self, record: &Record<'_>, reason: &str) {
        self.begin(reason);
        self.bytes.extend_from_slice(b",\"record\":");
        self.encoder.object(record, &mut self.bytes);
        if std::str::from_utf8(record.body).is_err() {
            self.base64("bodyBase64", record.body);
        }
        self.bytes.extend_from_slice(b"}\n");
    }

    pub(super) fn payload(&mut self, payload: &[u8], lines: usize, reason: &str) {
        self.begin(reason);
        self.bytes
            .extend_from_slice(format!(",\"lines\":{lines}").as_bytes());
        self.base64("payloadBase64", payload);
        self.bytes.extend_from_slice(b"}\n");
    }

    fn begin(&mut self, reason: &str) {
        self.bytes.extend_from_slice(&self.start);
        self.bytes.extend_from_slice(b",\"destination\":");
        push_string(self.destination.as_bytes(), &mut self.bytes);
        self.bytes.extend_from_slice(b",\"reason\":");
        push_string(reason.as_bytes(), &mut self.bytes);
    }

    fn base64(&mut self, name: &str, bytes: &[u8]) {
        self.bytes
            .extend_from_slice(format!(",\"{name}\":\"").as_bytes());
        self.bytes
            .extend_from_slice(STANDARD.encode(bytes).as_bytes());
        self.bytes.push(b'"');
    }
}
