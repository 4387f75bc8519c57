//! A recording in a file.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use serde_json::Value;

use crate::cli::Failed;
use crate::control::{End, Head, Recorded};
use crate::sandbox::Told;

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Recording {
    pub(super) head: Head,
    pub(super) calls: Vec<Told>,
    /// None: it was cut off.
    pub(super) end: Option<End>,
}

impl Recording {
    /// # Errors
    /// If it is none.
    pub(super) fn read(path: &Path) -> Result<Self, Failed> {
        let wrong = |line: usize, error: &dyn std::fmt::Display| {
            Failed::new(format!(
                "{}:{line}: {error}; recordings are made with `bulkhead plugin record`",
                path.display()
            ))
        };
        let file = File::open(path)
            .map_err(|error| Failed::new(format!("{}: {error}", path.display())))?;
        let mut recording = Self::default();
        for (index, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(|error| wrong(index + 1, &error))?;
            let recorded = serde_json::from_str(&line).map_err(|error| wrong(index + 1, &error))?;
            match recorded {
                Recorded::Recording(head) if index == 0 => recording.head = head,
                Recorded::Call(told) if index > 0 => recording.calls.push(*told),
                Recorded::End(end) if index > 0 => recording.end = Some(end),
                _ => return Err(wrong(index + 1, &"not where it may stand")),
            }
        }
        if recording.head.version != 1 {
            return Err(wrong(
                1,
                &"not a recording of the form that this program knows",
            ));
        }
        Ok(recording)
    }
}

/// Bytes as a recording has them: a text, hexadecimal, or numbers.
pub(super) fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.as_bytes().to_vec(),
        Value::Array(numbers) => numbers
            .iter()
            .filter_map(|number| u8::try_from(number.as_u64()?).ok())
            .collect(),
        _ => unhex(value["hex"].as_str().unwrap_or_default()),
    }
}

pub(super) fn unhex(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2);
    pairs
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// A span of bytes; what passes their end is not there.
pub(super) fn span<'a>(bytes: &'a [u8], holder: &Value, offset: &str, length: &str) -> &'a [u8] {
    let number =
        |key: &str| usize::try_from(holder[key].as_u64().unwrap_or(0)).unwrap_or(usize::MAX);
    let rest = bytes.get(number(offset)..).unwrap_or_default();
    rest.get(..number(length)).unwrap_or(rest)
}
