//! What something of the node was, or will be: enough to show it, to tell it from another, and to put it
//! back.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "they are what they are called")]
pub enum State {
    /// Nothing is there.
    Absent,
    File {
        mode: u32,
        uid: u32,
        gid: u32,
        /// SHA-256 of the content; none if it stays as it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
        /// Kept beside what is written of this.
        #[serde(skip)]
        content: Option<Arc<[u8]>>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attributes: Vec<(String, Vec<u8>)>,
    },
    Directory {
        mode: u32,
        uid: u32,
        gid: u32,
    },
    Symlink {
        target: String,
        uid: u32,
        gid: u32,
    },
    Sysctl {
        /// None if it cannot be read.
        value: Option<String>,
        persisted: Option<String>,
    },
    KernelModule {
        loaded: bool,
        at_start: bool,
        blacklisted: bool,
    },
    Unit {
        /// As systemd has it: `active`, `inactive`.
        active: String,
        /// As systemd has it: `enabled`, `disabled`, `masked`.
        file: String,
    },
}

impl State {
    /// Of a file with this content.
    pub(super) fn file(mode: u32, uid: u32, gid: u32, content: Option<Arc<[u8]>>) -> Self {
        Self::File {
            mode,
            uid,
            gid,
            digest: content.as_deref().map(hex_digest),
            content,
            attributes: Vec::new(),
        }
    }

    /// The content of a file.
    pub fn content(&self) -> Option<&Arc<[u8]>> {
        match self {
            Self::File { content, .. } => content.as_ref(),
            _ => None,
        }
    }

    /// Bytes of content.
    pub(super) fn size(&self) -> usize {
        self.content().map_or(0, |content| content.len())
    }

    /// The same with this content, when it was kept beside it.
    pub(super) fn with_content(mut self, kept: Vec<u8>) -> Self {
        if let Self::File {
            digest: Some(_),
            content,
            ..
        } = &mut self
        {
            *content = Some(kept.into());
        }
        self
    }

    /// SHA-256 of all that can be seen of it.
    pub fn digest(&self) -> String {
        let mut seen = self.clone();
        match &mut seen {
            Self::File { attributes, .. } => attributes.clear(),
            // The kernel has its own way to put values side by side.
            Self::Sysctl { value, .. } => {
                let words = value
                    .iter()
                    .flat_map(|value| value.split_ascii_whitespace());
                let words: Vec<&str> = words.collect();
                *value = value.is_some().then(|| words.join(" "));
            }
            _ => {}
        }
        // A state is made of strings and numbers: nothing that JSON lacks.
        hex_digest(&serde_json::to_vec(&seen).unwrap_or_default())
    }
}

/// SHA-256 in hexadecimal digits.
pub(super) fn hex_digest(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or_default());
        }
    }
    text
}
