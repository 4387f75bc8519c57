//! What a plugin wants to read, once it has been checked.

use super::rules::{self, Place};
use crate::manifest::{GlobPart, NodeGlob, NodeGlobError, is_glob};

/// What of a file is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Its bytes.
    Content,
    /// Only that it is there.
    Name,
    /// Where a symbolic link leads to in the end.
    Target,
    /// What is there, even if it is a link, a folder or no file at all, and its bytes if it is a file.
    Entry {
        /// Whether its bytes are passed.
        content: bool,
    },
}

/// Files that may be read.
#[derive(Debug, Clone)]
pub struct Want {
    pub(super) look: Look,
    pub(super) place: Place,
    /// As the plugin spells it.
    pub(super) pattern: NodeGlob,
    /// Where that is: below the place for `/proc` and `/sys`, below the root otherwise.
    pub(super) parts: Vec<GlobPart>,
    /// The beginning of its paths as the plugin spells it, and as it lies.
    pub(super) spelled: Option<(&'static str, &'static str)>,
    /// The folder that the grant names, below the root: links must not lead out of it. None if the
    /// grant names just this file, wherever it leads.
    pub(super) within: Option<String>,
    /// Of which files, by where they are in truth, only the entry is passed and never the bytes.
    pub(super) withheld: Option<fn(&[u8]) -> bool>,
}

/// Why something may not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no pattern.
    #[error("{glob} {error}")]
    Pattern {
        /// What was wanted.
        glob: String,
        /// What is wrong with it.
        error: NodeGlobError,
    },
    /// No plugin may read it.
    #[error(
        "{glob} may hold what no plugin may read: other processes' data, keys, or the kernel's memory; no grant changes that"
    )]
    Nobodys {
        /// What was wanted.
        glob: String,
    },
    /// It is not granted.
    #[error(
        "{glob} is not granted; to grant it, add to the manifest:\ngrants:\n  nodeFiles:\n  - {glob}"
    )]
    NotGranted {
        /// What was wanted.
        glob: String,
    },
}

/// What is spelled one way, and lies at another: with the network and mounts of process 1, because the
/// daemon's own may be a container's.
const OF_PROCESS_1: &[(&str, &str)] = &[
    ("/proc/net/", "/proc/1/net/"),
    ("/proc/mounts", "/proc/1/mounts"),
    ("/proc/self/", "/proc/1/"),
];

impl Want {
    /// Checks one want against what is granted.
    ///
    /// # Errors
    /// If it is nobody's or not granted.
    pub fn check(glob: &str, look: Look, granted: &[NodeGlob]) -> Result<Self, Refusal> {
        let pattern = Self::pattern(glob)?;
        let grant = granted.iter().find(|grant| grant.holds(&pattern));
        let Some(grant) = grant else {
            return Err(Refusal::NotGranted {
                glob: glob.to_owned(),
            });
        };
        let names_a_file = grant.text() == glob && !grant.components().any(is_glob);
        let within = (!names_a_file).then(|| grant.fixed());
        Self::granted(pattern, look, within)
    }

    /// The same of plain files in a folder that is granted with all below it, relative to the root; empty
    /// for the root. None if they are elsewhere, or the kernel's.
    ///
    /// # Errors
    /// If it is nobody's.
    pub fn check_in(glob: &str, look: Look, folder: &str) -> Result<Option<Self>, Refusal> {
        let pattern = Self::pattern(glob)?;
        let mut above = folder.split('/').filter(|part| !part.is_empty());
        let inside = {
            let mut parts = pattern.components();
            above.all(|mine| !is_glob(mine) && parts.next() == Some(mine))
        };
        if !inside || Place::of(&pattern) != Place::Plain {
            return Ok(None);
        }
        Self::granted(pattern, look, Some(folder.to_owned())).map(Some)
    }

    fn pattern(glob: &str) -> Result<NodeGlob, Refusal> {
        let pattern = NodeGlob::parse(glob).map_err(|error| Refusal::Pattern {
            glob: glob.to_owned(),
            error,
        })?;
        match rules::may_be_granted(&pattern) {
            true => Ok(pattern),
            false => Err(Refusal::Nobodys {
                glob: glob.to_owned(),
            }),
        }
    }

    fn granted(pattern: NodeGlob, look: Look, within: Option<String>) -> Result<Self, Refusal> {
        let glob = pattern.text();
        let place = Place::of(&pattern);
        let look = match look {
            // The kernel's files have no owner and no mode that matter.
            Look::Entry { content: true } if place != Place::Plain => Look::Content,
            Look::Entry { content: false } if place != Place::Plain => Look::Name,
            look => look,
        };
        let spelled = OF_PROCESS_1
            .iter()
            .copied()
            .find(|(from, _)| glob == *from || (from.ends_with('/') && glob.starts_with(from)));
        let lies = match spelled {
            Some((from, to)) => format!("{to}{}", glob.get(from.len()..).unwrap_or_default()),
            None => glob.to_owned(),
        };
        let lies = NodeGlob::parse(&lies).map_err(|error| Refusal::Pattern {
            glob: glob.to_owned(),
            error,
        })?;
        let mut parts = lies.parts().to_vec();
        if place != Place::Plain {
            parts.remove(0);
        }
        Ok(Self {
            look,
            place,
            pattern,
            parts,
            spelled,
            within,
            withheld: None,
        })
    }

    /// Passes of files whose path is `withheld` no bytes, and their entries as cut.
    pub fn withholding(mut self, withheld: fn(&[u8]) -> bool) -> Self {
        self.withheld = Some(withheld);
        self
    }

    /// Whether all that matches is in one folder.
    pub(super) fn has_one_folder(&self) -> bool {
        let above = self.parts.split_last().map_or(&[][..], |(_, above)| above);
        let is_literal = |part| matches!(part, &GlobPart::Literal(_));
        above.iter().all(is_literal)
    }

    /// Whether it names its file.
    pub(super) fn is_one_file(&self) -> bool {
        let is_literal = |part| matches!(part, &GlobPart::Literal(_));
        self.parts.iter().all(is_literal)
    }

    /// As the plugin spells it.
    pub fn glob(&self) -> &str {
        self.pattern.text()
    }
}
