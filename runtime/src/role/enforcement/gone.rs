//! What is kept for plugins that are gone: as long as their state, then it is removed. The audit log stays.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::effects::KEPT;

/// Removes what is kept for all plugins (`NAMESPACE/NAME`) whose state was forgotten. Blocks.
pub fn purge(state: &Path, is_known: impl Fn(&str) -> bool) {
    let all = state.join(KEPT);
    let namespaces = folders(&all).unwrap_or_else(|error| {
        tracing::error!("{} cannot be read: {error}", all.display());
        Vec::new()
    });
    for (namespace, path) in namespaces {
        if let Err(error) = purge_namespace(&namespace, &path, &is_known) {
            tracing::error!(
                "what is kept in {} for plugins that are gone cannot be removed: {error}",
                path.display()
            );
        }
    }
}

fn purge_namespace(
    namespace: &str,
    folder: &Path,
    is_known: impl Fn(&str) -> bool,
) -> io::Result<()> {
    for (name, path) in folders(folder)? {
        let plugin = format!("{namespace}/{name}");
        if is_known(&plugin) {
            continue;
        }
        fs::remove_dir_all(&path)?;
        tracing::info!(
            plugin,
            "removed what was kept of the changes of a plugin that is gone"
        );
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
        _ => Ok(()),
    }
}

/// The folders in one that need not be there, by name.
fn folders(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && entry.file_type()?.is_dir()
        {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_kept_for_a_plugin_goes_when_its_state_is_forgotten() {
        let state = tempfile::tempdir().unwrap();
        let at = |path: &str| state.path().join(path);
        for plugin in ["local/a", "local/b", "team/a"] {
            fs::create_dir_all(at("enforcement").join(plugin)).unwrap();
            fs::write(
                at("enforcement").join(plugin).join("000000000001.kept"),
                "x",
            )
            .unwrap();
        }
        fs::create_dir(at("audit")).unwrap();
        fs::write(at("audit/audit.jsonl"), "x").unwrap();
        purge(state.path(), |plugin| plugin == "local/a");
        assert!(at("enforcement/local/a/000000000001.kept").exists());
        assert!(!at("enforcement/local/b").exists());
        assert!(!at("enforcement/team").exists());
        assert!(at("audit/audit.jsonl").exists());
        fs::remove_dir_all(at("enforcement")).unwrap();
        purge(state.path(), |_| false);
    }
}
