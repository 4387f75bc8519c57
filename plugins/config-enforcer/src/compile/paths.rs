//! Paths of the configuration.

use bulkhead_sdk::{Result, bail};

/// Refuses what is not absolute and normal, or a glob.
pub(super) fn check(path: &str) -> Result<()> {
    check_glob(path)?;
    if is_glob(path) {
        bail!("{path:?} is a glob (`*`, `?`, `[`), and one path is wanted here");
    }
    Ok(())
}

/// The same for what may be a glob.
pub(super) fn check_glob(path: &str) -> Result<()> {
    let Some(inside) = path.strip_prefix('/') else {
        bail!("{path:?} does not begin with `/`");
    };
    if inside.is_empty() {
        bail!("the root folder is not enforced");
    }
    if inside
        .split('/')
        .any(|part| matches!(part, "" | "." | ".."))
    {
        bail!("{path:?} has an empty part, or `.` or `..`, in it");
    }
    if path.contains(char::is_control) || path.len() > 1024 {
        bail!("{path:?} has not at most 1024 bytes without control characters");
    }
    Ok(())
}

pub(super) fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '['])
}
