//! Sections of the text of a `plugin.yaml`, replaced without touching the rest of it.

use std::fmt::Write as _;

/// The text with this section, which begins with `KEY:`, instead of the one that it has, or after it.
pub(super) fn replace(text: &str, key: &str, section: &str) -> String {
    let head = format!("{key}:");
    let mut replaced = String::new();
    let mut placed = false;
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with(&head) {
            inside = true;
            placed = true;
            // Writing to a string does not fail.
            let _ = writeln!(replaced, "{section}");
            continue;
        }
        // A section goes on as long as its lines are indented, or are items of its list.
        inside &= line.starts_with([' ', '\t', '-']) || line.trim().is_empty();
        if !inside {
            let _ = writeln!(replaced, "{line}");
        }
    }
    if !placed {
        let _ = writeln!(replaced, "{section}");
    }
    replaced
}
