//! Whether the audit log is what the daemon wrote.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::audit::{Link, NOTHING, OLD_FILES, current, old};
use super::state::hex_digest;

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The numbers of the first line that there still is, and of the last; none if there is no line.
    pub lines: Option<(u64, u64)>,
    /// The hash of the last.
    pub hash: String,
}

/// Why a log is not what the daemon wrote.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A line does not follow the one before.
    #[error("{}, line {line}: {problem}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

/// Follows the chain from the oldest line that is left to the newest.
///
/// # Errors
/// Where it breaks.
pub fn verify(state: &Path) -> Result<Verified, Broken> {
    let folder = state.join("audit");
    let numbers = (1..=OLD_FILES).rev();
    let old_ones = numbers.map(|number| old(&folder, number));
    let files = old_ones.filter(|path| path.exists());
    let mut last: Option<(u64, String)> = None;
    let mut first = None;
    for path in files.chain([current(&folder)]) {
        let unreadable = |error| Broken::Unreadable {
            path: path.clone(),
            error,
        };
        let mut lines = BufReader::new(File::open(&path).map_err(unreadable)?);
        let mut text = Vec::new();
        for number in 1.. {
            text.clear();
            if lines.read_until(b'\n', &mut text).map_err(unreadable)? == 0 {
                break;
            }
            let broken = |problem: &str| Broken::Line {
                path: path.clone(),
                line: number,
                problem: problem.to_owned(),
            };
            let line = (text.strip_suffix(b"\n")).ok_or_else(|| broken("it is torn"))?;
            let link: Link =
                serde_json::from_slice(line).map_err(|_| broken("it is no line of this log"))?;
            match &last {
                Some((sequence, hash)) => {
                    if link.sequence != sequence + 1 {
                        let problem = format!(
                            "its number is {}, but that before it is {sequence}: lines are missing or were put in",
                            link.sequence
                        );
                        return Err(broken(&problem));
                    }
                    if link.previous != *hash {
                        return Err(broken(
                            "the line before it is not what it was: it was edited",
                        ));
                    }
                }
                None => {
                    if (link.sequence == 1) != (link.previous == NOTHING) {
                        return Err(broken("it is not the first, but nothing is before it"));
                    }
                    first = Some(link.sequence);
                }
            }
            last = Some((link.sequence, hex_digest(line)));
        }
    }
    let (sequence, hash) = match last {
        Some((sequence, hash)) => (Some(sequence), hash),
        None => (None, NOTHING.to_owned()),
    };
    Ok(Verified {
        lines: first.zip(sequence),
        hash,
    })
}
