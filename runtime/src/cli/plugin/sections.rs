//! Sections of the text of a `plugin.yaml`, replaced without touching the rest of it.

use std::fmt::Write as _;

/// The text with this section, which begins with `KEY:`, instead of the one that it has, or after it.
pub(super) fn replace(text: &str, key: &str, section: &str) -> String {
    edit(text, key, Some(section))
}

/// The text without the section.
pub(super) fn remove(text: &str, key: &str) -> String {
    edit(text, key, None)
}

fn edit(text: &str, key: &str, section: Option<&str>) -> String {
    let head = format!("{key}:");
    let mut edited = String::new();
    let mut section = section;
    let mut inside = false;
    // Comments at the edge belong to the section only if it goes on after them.
    let mut held = String::new();
    // Writing to a string does not fail.
    for line in text.lines() {
        if inside && line.starts_with('#') {
            let _ = writeln!(held, "{line}");
            continue;
        }
        if line.starts_with(&head) {
            inside = true;
            if let Some(section) = section.take() {
                let _ = writeln!(edited, "{section}");
            }
            continue;
        }
        // A section goes on as long as its lines are indented, or are items of its list.
        inside &= line.starts_with([' ', '\t', '-']) || line.trim().is_empty();
        match inside {
            true if line.trim().is_empty() => {}
            true => held.clear(),
            false => {
                edited.push_str(&std::mem::take(&mut held));
                let _ = writeln!(edited, "{line}");
            }
        }
    }
    edited.push_str(&held);
    if let Some(section) = section {
        let _ = writeln!(edited, "{section}");
    }
    edited
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_at_the_edge_stay_with_what_they_stand_before() {
        let text = "logs:\n  a: 1\n# of a section\n  b: 2\n\n# of the next\nlimits: {}\n# last\n";
        assert_eq!(
            replace(text, "logs", "logs: {}"),
            "logs: {}\n# of the next\nlimits: {}\n# last\n"
        );
        assert_eq!(
            replace(text, "limits", "limits: 1"),
            "logs:\n  a: 1\n# of a section\n  b: 2\n\n# of the next\nlimits: 1\n# last\n"
        );
        assert_eq!(remove(text, "logs"), "# of the next\nlimits: {}\n# last\n");
        assert_eq!(remove(text, "none"), text);
    }
}
