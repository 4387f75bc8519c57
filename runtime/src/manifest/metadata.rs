//! What is known of a container's pod and goes along with its lines, as a manifest says it.

use std::fmt;

use globset::{Glob, GlobMatcher};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::Period;

/// What of a pod's metadata goes along with the lines of its containers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodMetadata {
    /// Which labels; all unless given.
    pub labels: PodLabels,
    /// Annotations with these names; none unless given, because some are long.
    pub annotations: Vec<NameGlob>,
    /// What the pod belongs to: the Deployment, the StatefulSet, ...
    pub owner: bool,
    /// The longest that the lines of a new log wait for their pod to be known.
    pub wait: Period,
}

impl Default for PodMetadata {
    fn default() -> Self {
        Self {
            labels: PodLabels::All,
            annotations: Vec::new(),
            owner: true,
            wait: Period::seconds(2),
        }
    }
}

/// Which labels of a pod: `true`, `false` or a list of globs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(from = "Written", into = "Written")]
pub enum PodLabels {
    /// Every one.
    All,
    /// Those with these names.
    Named(Vec<NameGlob>),
}

impl PodLabels {
    /// Whether the label `name` is one of them.
    pub fn contain(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(globs) => globs.iter().any(|glob| glob.matches(name)),
        }
    }
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "is neither `true` nor `false` nor a list of names, such as [app, \"app.kubernetes.io/*\"]"
)]
enum Written {
    Switch(bool),
    Named(Vec<NameGlob>),
}

impl From<Written> for PodLabels {
    fn from(written: Written) -> Self {
        match written {
            Written::Switch(true) => Self::All,
            Written::Switch(false) => Self::Named(Vec::new()),
            Written::Named(globs) => Self::Named(globs),
        }
    }
}

impl From<PodLabels> for Written {
    fn from(labels: PodLabels) -> Self {
        match labels {
            PodLabels::All => Self::Switch(true),
            PodLabels::Named(globs) if globs.is_empty() => Self::Switch(false),
            PodLabels::Named(globs) => Self::Named(globs),
        }
    }
}

/// A glob for the name of a label or an annotation; `*` also matches a `/`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct NameGlob(GlobMatcher);

impl NameGlob {
    /// Whether it matches all of `name`.
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

impl PartialEq for NameGlob {
    fn eq(&self, other: &Self) -> bool {
        self.0.glob() == other.0.glob()
    }
}

impl Eq for NameGlob {}

impl fmt::Display for NameGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.glob().glob())
    }
}

impl From<NameGlob> for String {
    fn from(glob: NameGlob) -> Self {
        glob.0.glob().glob().to_owned()
    }
}

// The decoder takes what follows the line feed of a message as the remedy.
impl TryFrom<String> for NameGlob {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        const REMEDY: &str = "write a name such as `app` or a glob such as `app.kubernetes.io/*`";
        if text.is_empty() {
            return Err(format!("is empty\n{REMEDY}"));
        }
        match Glob::new(&text) {
            Ok(glob) => Ok(Self(glob.compile_matcher())),
            Err(error) => Err(format!("is no valid glob: {}\n{REMEDY}", error.kind())),
        }
    }
}
