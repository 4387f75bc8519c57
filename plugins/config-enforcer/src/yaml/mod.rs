//! YAML and JSON: where each value stands in the text, what it is, and edits that change nothing else.

mod edit;
mod tree;
mod write;

pub(crate) use edit::{Change, Path, edit};
pub(crate) use tree::parse;

/// JSON is YAML too; what is written into it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    Yaml,
    Json,
}
