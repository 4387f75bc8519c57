//! Files of the node by globs. What a glob may match can be told from its text alone, which is what the
//! checks of grants rely on.

use std::fmt;

use glob::Pattern;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::quoted;

/// One component of a path.
#[derive(Debug, Clone)]
pub enum GlobPart {
    /// Just this name.
    Literal(String),
    /// Names that match.
    Glob(Pattern),
    /// `**`: any number of folders.
    Folders,
}

/// An absolute glob. `*`, `?` and `[...]` stay within a component. Two with one text are equal.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct NodeGlob {
    text: String,
    parts: Vec<GlobPart>,
}

impl PartialEq for NodeGlob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl From<NodeGlob> for String {
    fn from(glob: NodeGlob) -> Self {
        glob.text
    }
}

impl fmt::Display for NodeGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for NodeGlob {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).map_err(|error| {
            format!(
                "{} {error}\nwrite an absolute path such as `/proc` or `/var/lib/metrics/*.prom`",
                quoted(&text)
            )
        })
    }
}

/// Why a text is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeGlobError {
    /// It does not begin at the root.
    #[error("is not absolute")]
    Relative,
    /// It has a component that is empty, `.` or `..`.
    #[error("has an empty component, `.` or `..`")]
    Dots,
    /// It is longer than any path of a node.
    #[error("is longer than 4096 bytes or 64 components")]
    Long,
    /// A component is no glob.
    #[error("is no glob: {0}")]
    Glob(String),
}

impl NodeGlob {
    /// Reads a glob.
    ///
    /// # Errors
    /// If it is not absolute, not normal, or no glob.
    pub fn parse(text: &str) -> Result<Self, NodeGlobError> {
        let inner = text.strip_prefix('/').ok_or(NodeGlobError::Relative)?;
        if text.len() > 4096 || inner.split('/').count() > 64 {
            return Err(NodeGlobError::Long);
        }
        let parts = inner.split('/').map(|part| match part {
            "" | "." | ".." => Err(NodeGlobError::Dots),
            _ if part.contains('\0') => Err(NodeGlobError::Dots),
            "**" => Ok(GlobPart::Folders),
            _ if is_glob(part) => Pattern::new(part)
                .map(GlobPart::Glob)
                .map_err(|error| NodeGlobError::Glob(error.msg.to_owned())),
            _ => Ok(GlobPart::Literal(part.to_owned())),
        });
        Ok(Self {
            text: text.to_owned(),
            parts: parts.collect::<Result<_, _>>()?,
        })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its components, to be matched.
    pub fn parts(&self) -> &[GlobPart] {
        &self.parts
    }

    /// Its components, as they were written.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.text.split('/').skip(1)
    }

    /// The folder that it begins in, relative to the root: its components before the first glob.
    pub fn fixed(&self) -> String {
        let fixed: Vec<&str> = self.components().take_while(|it| !is_glob(it)).collect();
        fixed.join("/")
    }

    /// Whether everything that `other` can match is what this matches, or below it.
    pub fn holds(&self, other: &Self) -> bool {
        let mut others = other.components();
        self.components().all(|mine| match others.next() {
            Some(theirs) => covers(mine, theirs),
            None => false,
        })
    }
}

/// Whether a component stands for more than itself.
pub fn is_glob(component: &str) -> bool {
    component.contains(['*', '?', '[', ']'])
}

/// Whether all that the component `theirs` matches, `mine` matches, too: as far as can be told without
/// a theory of globs, and never wrongly.
pub(super) fn covers(mine: &str, theirs: &str) -> bool {
    if mine == theirs || (mine == "*" && theirs != "**") {
        return true;
    }
    if !is_glob(mine) || is_glob(theirs) {
        return false;
    }
    Pattern::new(mine).is_ok_and(|glob| glob.matches(theirs))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn holds(grant: &str, want: &str) -> bool {
        let parse = |text| NodeGlob::parse(text).unwrap();
        parse(grant).holds(&parse(want))
    }

    #[test]
    fn a_grant_holds_what_is_below_it() {
        assert!(holds("/proc", "/proc/stat"));
        assert!(holds("/proc/stat", "/proc/stat"));
        assert!(holds("/sys/class/*", "/sys/class/net/*/mtu"));
        assert!(holds("/sys/class/net/*/mtu", "/sys/class/net/*/mtu"));
        assert!(holds("/var/log/*.log", "/var/log/a.log"));
        for (grant, want) in [
            ("/proc/stat", "/proc/*"),
            ("/proc/st", "/proc/stat"),
            ("/proc/stat/x", "/proc/stat"),
            ("/sys/class/*", "/sys/**"),
            ("/var/log/*.log", "/var/log/*.l*"),
            ("/sys/class/net/*/mtu", "/sys/class/**"),
        ] {
            assert!(!holds(grant, want), "{grant} holds {want}");
        }
    }

    #[test]
    fn only_normal_absolute_paths() {
        for (text, error) in [
            ("proc/stat", NodeGlobError::Relative),
            ("/proc/../etc", NodeGlobError::Dots),
            ("/proc//stat", NodeGlobError::Dots),
            ("/proc/", NodeGlobError::Dots),
            ("/", NodeGlobError::Dots),
            ("/a\0b", NodeGlobError::Dots),
        ] {
            assert_eq!(NodeGlob::parse(text).unwrap_err(), error, "{text:?}");
        }
        assert!(matches!(
            NodeGlob::parse("/a/[b").unwrap_err(),
            NodeGlobError::Glob(_)
        ));
        let long = format!("/{}", "a".repeat(4096));
        assert_eq!(NodeGlob::parse(&long).unwrap_err(), NodeGlobError::Long);
    }
}
