//! The policy of a node without a cluster: a file that only the administrator writes. Looked at with
//! the manifests.

use std::path::{Path, PathBuf};

use crate::manifest::{Error, Policy, Reason};

/// A policy's file, and what it said last.
#[derive(Debug)]
pub(super) struct PolicyFile {
    path: PathBuf,
    /// What holds on this node whatever the file says.
    base: Policy,
    text: Option<String>,
    policy: Option<Policy>,
    errors: Vec<Error>,
}

impl PolicyFile {
    pub(super) fn new(path: PathBuf, base: Policy) -> Self {
        Self {
            path,
            base,
            text: None,
            policy: None,
            errors: Vec::new(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with it now.
    pub(super) fn errors(&self) -> &[Error] {
        &self.errors
    }

    /// Reads it; the policy if another one holds from now on. While it cannot be read the one before
    /// holds, and without one nobody may declare anything.
    pub(super) fn look(&mut self) -> Option<Policy> {
        let read = match std::fs::read_to_string(&self.path) {
            Ok(text) if self.text.as_ref() == Some(&text) => return None,
            Ok(text) => {
                let read = self.base.with(&self.path, &text);
                self.text = Some(text);
                read
            }
            Err(error) => {
                self.text = None;
                Err(vec![Error {
                    file: self.path.clone(),
                    position: None,
                    reason: Reason::Unreadable,
                    field: String::new(),
                    problem: format!("the policy cannot be read: {error}"),
                    remedy: "put it back, or start the daemon without --policy".to_owned(),
                }])
            }
        };
        let policy = match read {
            Ok(policy) => {
                self.errors.clear();
                policy
            }
            Err(errors) => {
                self.errors = errors;
                let shut = || self.base.shut(&self.errors);
                self.policy.clone().unwrap_or_else(shut)
            }
        };
        let differs = self.policy.as_ref() != Some(&policy);
        // One that lets nobody in is not the one before.
        self.policy = Some(policy.clone()).filter(|policy| policy.broken.is_none());
        differs.then_some(policy)
    }
}
