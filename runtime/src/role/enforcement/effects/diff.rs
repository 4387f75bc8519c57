//! How one state differs from another, for people: as `diff -u` writes it.

use std::fmt::Write;
use std::time::Duration;

use similar::{ChangeTag, TextDiff};

use super::state::State;

/// The longest text.
const MAX_DIFF: usize = 64 << 10;
/// How long the shortest difference is looked for; then a longer one is taken.
const PATIENCE: Duration = Duration::from_millis(100);
/// Lines around each difference.
const CONTEXT: usize = 3;

/// The difference, at most 64 KiB of it. `secret`: nothing of the content. Nor of a file that is not for
/// everybody on the node: more people may read a status than such a file.
pub(super) fn diff(subject: &str, before: &State, after: &State, secret: bool) -> String {
    let mut text = String::new();
    let (old, new) = (name(subject, before), name(subject, after));
    let _ = writeln!(text, "--- {old}\n+++ {new}");
    let (was, is) = (what(before), what(after));
    let told = matches!(before, State::Sysctl { .. } | State::Symlink { .. })
        || matches!(after, State::Sysctl { .. } | State::Symlink { .. });
    if secret && told {
        text.push_str("# it differs, and is a secret\n");
    } else if was != is {
        was.iter().for_each(|line| push(&mut text, '-', line));
        is.iter().for_each(|line| push(&mut text, '+', line));
    }
    let differs = digest(before) != digest(after);
    if secret && differs {
        text.push_str("# the content differs, and is a secret\n");
    } else if differs && (is_private(before) || is_private(after)) {
        text.push_str("# the content differs, and is not for everybody to see\n");
    } else if differs {
        content(&mut text, before, after);
    }
    if text.len() > MAX_DIFF {
        let end = text.floor_char_boundary(MAX_DIFF);
        let end = text[..end].rfind('\n').map_or(end, |feed| feed + 1);
        text.truncate(end);
        text.push_str("# the rest is left out\n");
    }
    text
}

fn is_private(state: &State) -> bool {
    matches!(state, State::File { mode, .. } if mode & 0o004 == 0)
}

fn push(text: &mut String, sign: char, line: &str) {
    let _ = writeln!(text, "{sign}{line}");
}

fn name(subject: &str, state: &State) -> String {
    match state {
        State::Absent => "/dev/null".to_owned(),
        _ => subject.to_owned(),
    }
}

/// All but the content, a line each.
fn what(state: &State) -> Vec<String> {
    let file = |kind: &str, mode: u32, uid: u32, gid: u32| {
        vec![format!("# {kind}, mode {mode:04o}, owner {uid}:{gid}")]
    };
    match state {
        State::Absent => Vec::new(),
        State::File { mode, uid, gid, .. } => file("file", *mode, *uid, *gid),
        State::Directory { mode, uid, gid } => file("folder", *mode, *uid, *gid),
        State::Symlink { target, .. } => vec![format!("# symbolic link to {target}")],
        State::Sysctl { value, persisted } => {
            let value = value.iter().map(|value| format!("now: {value}"));
            let later = persisted.iter();
            let later = later.map(|value| format!("at the next start: {value}"));
            value.chain(later).collect()
        }
        State::KernelModule {
            loaded,
            at_start,
            blacklisted,
        } => [
            (*loaded, "loaded"),
            (*at_start, "loaded at the node's start"),
            (*blacklisted, "never loaded"),
        ]
        .iter()
        .filter(|(so, _)| *so)
        .map(|(_, what)| (*what).to_owned())
        .collect(),
        State::Unit { active, file } => vec![active.clone(), file.clone()],
    }
}

fn digest(state: &State) -> Option<&String> {
    match state {
        State::File { digest, .. } => digest.as_ref(),
        _ => None,
    }
}

fn content(text: &mut String, before: &State, after: &State) {
    let of = |state: &State| -> Result<String, std::str::Utf8Error> {
        let bytes = state.content().map(|bytes| &**bytes).unwrap_or_default();
        Ok(std::str::from_utf8(bytes)?.to_owned())
    };
    let (Ok(old), Ok(new)) = (of(before), of(after)) else {
        let _ = writeln!(
            text,
            "# binary content: {} bytes before, {} after",
            before.size(),
            after.size()
        );
        return;
    };
    let diff = TextDiff::configure()
        .timeout(PATIENCE)
        .diff_lines(old.as_str(), new.as_str());
    for hunk in diff.unified_diff().context_radius(CONTEXT).iter_hunks() {
        let _ = writeln!(text, "{}", hunk.header());
        for change in hunk.iter_changes() {
            if text.len() > MAX_DIFF {
                return;
            }
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            let line = change.value();
            push(text, sign, line.strip_suffix('\n').unwrap_or(line));
            if !line.ends_with('\n') {
                text.push_str("\\ No newline at end of file\n");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mode: u32, content: &[u8]) -> State {
        State::file(mode, 0, 0, Some(content.into()))
    }

    #[test]
    fn it_reads_as_a_unified_diff() {
        let (old, new) = (file(0o644, b"a\nb\nc\n"), file(0o664, b"a\nB\nc"));
        let text = diff("/etc/x", &old, &new, false);
        assert_eq!(
            text,
            "--- /etc/x\n+++ /etc/x\n-# file, mode 0644, owner 0:0\n+# file, mode 0664, owner 0:0\n\
             @@ -1,3 +1,3 @@\n a\n-b\n-c\n+B\n+c\n\\ No newline at end of file\n"
        );
        let made = diff("/etc/x", &State::Absent, &file(0o644, b"a\n"), false);
        assert_eq!(
            made,
            "--- /dev/null\n+++ /etc/x\n+# file, mode 0644, owner 0:0\n@@ -0,0 +1 @@\n+a\n"
        );
    }

    #[test]
    fn a_secret_is_not_in_it_and_a_long_one_is_cut() {
        let (old, new) = (file(0o600, b"hunter1\n"), file(0o600, b"hunter2\n"));
        let text = diff("/etc/key", &old, &new, true);
        assert!(
            !text.contains("hunter") && text.contains("a secret"),
            "{text}"
        );
        let text = diff("/etc/key", &old, &new, false);
        assert!(
            !text.contains("hunter") && text.contains("not for everybody"),
            "{text}"
        );
        let long = "some line of it\n".repeat(100_000);
        let text = diff("/x", &State::Absent, &file(0o644, long.as_bytes()), false);
        assert!(text.len() < MAX_DIFF + 100 && text.ends_with("left out\n"));
        let text = diff("/x", &State::Absent, &file(0o644, &[0xff, 0]), false);
        assert!(text.contains("2 after"), "{text}");
    }
}
