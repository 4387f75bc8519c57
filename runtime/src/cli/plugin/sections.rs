//! Sections of the text of a `plugin.yaml`, replaced without touching the rest of it.

use std::fmt::Write as _;

/// The text with this section, which begins with `KEY:`, instead of the one that it has, or after it.
pub(super) fn replace(text: &str, key: &str, section: &str) -> String {
    let head = format!("{key}:");
    let mut replaced = String::new();
    let mut placed = false;
    let mut inside = false;
    // Comments at the edge belong to the section only if it goes on after them.
    let mut held = String::new();
    for line in text.lines() {
        if inside && line.starts_with('#') {
            let _ = writeln!(held, "{line}");
            continue;
        }
        if line.starts_with(&head) {
            inside = true;
            placed = true;
            // Writing to a string does not fail.
            let _ = writeln!(replaced, "{section}");
            continue;
        }
        // A section goes on as long as its lines are indented, or are items of its list.
        inside &= line.starts_with([' ', '\t', '-']) || line.trim().is_empty();
        match inside {
            true if line.trim().is_empty() => {}
            true => held.clear(),
            false => {
                replaced.push_str(&std::mem::take(&mut held));
                let _ = writeln!(replaced, "{line}");
            }
        }
    }
    replaced.push_str(&held);
    if !placed {
        let _ = writeln!(replaced, "{section}");
    }
    replaced
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
    }
}
