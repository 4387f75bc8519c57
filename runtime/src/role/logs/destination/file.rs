//! A file on the node: appended to in whole parcels, rotated by size.
//!
//! Acknowledged means written to the kernel; [`Destination::sync`], which the checkpoint waits for,
//! makes it durable. A payload that a plugin encoded and that lacks a final line feed gets one: the
//! last line feed is how the end of an acknowledged write is found after a crash.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::manifest;
use crate::role::logs::encode::RecordEncoder;
use crate::role::logs::output::{Parcel, Record};

use super::rotating::{RotatingFile, Rotation};
use super::{Destination, Lane, Request, SendError, Surroundings};

/// One write is at most this long unless a single record is longer, in bytes: whatever the
/// records' envelopes add, memory stays bounded.
const MAX_WRITE: usize = 4 << 20;

/// Files open in this process, so that two destinations with one path (two plugins, or a revision
/// that drains beside its successor) take turns instead of tearing each other's lines or both
/// rotating.
static OPEN: LazyLock<Mutex<OpenFiles>> = LazyLock::new(Mutex::default);

/// By root and path.
type OpenFiles = HashMap<(PathBuf, PathBuf), Weak<RotatingFile>>;

/// Whether `path` is the file `written` or one that it was rotated to. A tail leaves such files out,
/// or it would read its own output for ever.
pub fn is_or_was(written: &Path, path: &Path) -> bool {
    if path == written {
        return true;
    }
    let (Some(name), Some(own)) = (path.file_name(), written.file_name()) else {
        return false;
    };
    path.parent() == written.parent()
        && name
            .as_encoded_bytes()
            .strip_prefix(own.as_encoded_bytes())
            // `.1` is our own rotation; `-20260102` and the like are logrotate's.
            .and_then(|rest| rest.strip_prefix(b".").or_else(|| rest.strip_prefix(b"-")))
            .is_some_and(|number| {
                let plain = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
                number.first().is_some_and(u8::is_ascii_digit) && number.iter().all(plain)
            })
}

/// A file that lines are appended to.
#[derive(Debug)]
pub struct FileDestination {
    file: Arc<RotatingFile>,
    path: PathBuf,
    format: manifest::Format,
    rotation: Rotation,
}

impl FileDestination {
    /// Checks the path; opens nothing yet.
    pub(super) fn new(
        manifest: &manifest::FileDestination,
        surroundings: &Surroundings,
    ) -> Result<Self, (String, String)> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, file| file.strong_count() > 0);
        let key = (surroundings.node_root.to_path_buf(), manifest.path.clone());
        let file = match open.get(&key).and_then(Weak::upgrade) {
            Some(file) => file,
            None => {
                let file = RotatingFile::new(&key.0, &key.1).ok_or_else(|| {
                    let problem = format!(
                        "{:?} is not the absolute path of a file; write for example /var/log/out.jsonl",
                        manifest.path
                    );
                    ("file.path".to_owned(), problem)
                })?;
                let file = Arc::new(file);
                open.insert(key, Arc::downgrade(&file));
                file
            }
        };
        if manifest.max_size.0 == 0 {
            let problem = "0 leaves no room for a line; write for example 256Mi".to_owned();
            return Err(("file.maxSize".to_owned(), problem));
        }
        Ok(Self {
            file,
            path: manifest.path.clone(),
            format: manifest.format,
            rotation: Rotation {
                max_size: manifest.max_size.0,
                keep: manifest.keep,
            },
        })
    }
}

impl Destination for FileDestination {
    fn lane(self: Arc<Self>) -> Box<dyn Lane> {
        Box::new(FileLane {
            encoder: RecordEncoder::new(self.format),
            destination: self,
        })
    }

    fn sync(&self) -> BoxFuture<'_, io::Result<()>> {
        let file = Arc::clone(&self.file);
        Box::pin(async move { tokio::task::spawn_blocking(move || file.sync()).await? })
    }
}

struct FileLane {
    destination: Arc<FileDestination>,
    encoder: RecordEncoder,
}

impl Lane for FileLane {
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
            let body: Bytes = request.body.clone();
            let file = Arc::clone(&self.destination.file);
            let rotation = self.destination.rotation;
            // Should this future be dropped, the write still happens whole.
            let written = tokio::task::spawn_blocking(move || file.append(&body, rotation)).await;
            let error = match written {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(join) => io::Error::other(format!("the writing thread failed: {join}")),
            };
            Err(SendError::Retry {
                after: None,
                reason: explain(&self.destination.path, &error),
            })
        })
    }
}

/// Encodes records line by line up to `limit` bytes, at least one. Returns how many.
pub(super) fn encode_lines(
    encoder: &mut RecordEncoder,
    records: &[Record<'_>],
    limit: usize,
    body: &mut Vec<u8>,
) -> usize {
    for (index, record) in records.iter().enumerate() {
        let before = body.len();
        encoder.line(record, body);
        if body.len() > limit && index > 0 {
            body.truncate(before);
            return index;
        }
    }
    records.len()
}

/// What happened to a file, and what to do about it.
pub(in crate::role::logs) fn explain(path: &Path, error: &io::Error) -> String {
    use io::ErrorKind::*;
    let remedy = match error.kind() {
        StorageFull | QuotaExceeded => {
            "free some space, or lower maxSize and keep; nothing is lost meanwhile"
        }
        PermissionDenied => "let the daemon write to the file and its folder",
        ReadOnlyFilesystem => "name a path on a writable file system",
        NotADirectory => "a part of the path is not a folder; name another path",
        IsADirectory => "the path is a folder; name a file",
        FileTooLarge => "raise the file size limit of the daemon",
        _ => "it is tried again",
    };
    format!("cannot write {}: {error}: {remedy}", path.display())
}

#[cfg(test)]
mod tests;
