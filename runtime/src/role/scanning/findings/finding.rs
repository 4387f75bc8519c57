//! One finding as a plugin answers it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How much a finding matters.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Not much.
    Low,
    /// Somewhat.
    Medium,
    /// A lot.
    High,
    /// More than anything else.
    Critical,
}

impl Severity {
    /// All of them, the least first.
    pub const ALL: [Self; 5] = [
        Self::Info,
        Self::Low,
        Self::Medium,
        Self::High,
        Self::Critical,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// A path of the node, of any bytes but 0.
    File(Vec<u8>),
    /// Anything else, by name.
    Other(String),
}

impl Subject {
    /// As text, for globs and prefixes: the path, in which what is not UTF-8 is replaced, or the name.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Self::File(path) => String::from_utf8_lossy(path),
            Self::Other(name) => name.into(),
        }
    }

    pub(super) fn key(&self) -> u128 {
        match self {
            Self::File(path) => path_key(path),
            Self::Other(name) => key(&[b"other", name.as_bytes()]),
        }
    }
}

/// A finding that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The rule's id.
    pub rule: String,
    /// How severe it is.
    pub severity: Severity,
    /// What it is about.
    pub subject: Subject,
    /// For people.
    pub message: String,
    /// A JSON object, or empty.
    pub evidence: String,
    /// Addresses to read more at.
    pub references: Vec<String>,
    /// What makes it another one than others of the rule and the subject.
    pub fingerprint: String,
}

impl Found {
    /// What tells it from others of the same subject.
    pub(super) fn rest_key(&self) -> u128 {
        key(&[self.rule.as_bytes(), self.fingerprint.as_bytes()])
    }
}

pub(super) fn path_key(path: &[u8]) -> u128 {
    key(&[b"file", path])
}

/// Whoever names files must not be able to have two findings taken for one, so it is no quick hash.
fn key(parts: &[&[u8]]) -> u128 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    hash.iter()
        .take(16)
        .fold(0, |key, byte| key << 8 | u128::from(*byte))
}
