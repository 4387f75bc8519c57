//! The folder of a plugin's crate, and what is read there.

use std::path::{Path, PathBuf};

use crate::cli::Failed;

/// What `plugin.yaml` is called.
pub(super) const SPEC: &str = "plugin.yaml";

/// A folder with a Cargo.toml.
#[derive(Debug, Clone)]
pub(super) struct CrateFolder(pub(super) PathBuf);

impl CrateFolder {
    /// # Errors
    /// If it is none.
    pub(super) fn open(path: &Path) -> Result<Self, Failed> {
        let wrong = |why: &str| {
            Failed::new(format!(
                "{}: {why}; name the folder of a plugin's crate, or make one with `bulkhead plugin new NAME --role logs`",
                path.display()
            ))
        };
        if !path.is_dir() {
            return Err(wrong("is no folder"));
        }
        // As cargo spells it.
        let folder = std::fs::canonicalize(path).map_err(|error| wrong(&error.to_string()))?;
        if !folder.join("Cargo.toml").is_file() {
            return Err(wrong("has no Cargo.toml"));
        }
        Ok(Self(folder))
    }

    pub(super) fn spec(&self) -> PathBuf {
        self.0.join(SPEC)
    }
}
