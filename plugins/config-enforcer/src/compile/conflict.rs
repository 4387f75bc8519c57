//! Resources that cannot both be had.

use super::kinds::{Content, EditFile, PermissionRule, Whole};
use super::{Item, Kind};

/// Why two resources about the same thing contradict each other, if they do.
pub(super) fn between(one: &Item, other: &Item) -> Option<String> {
    match (&one.kind, &other.kind) {
        (Kind::Whole(one), Kind::Whole(other)) => wholes(one, other),
        (Kind::Whole(whole), Kind::Edit(_)) | (Kind::Edit(_), Kind::Whole(whole))
            if !whole.present =>
        {
            Some("one removes the file, the other edits it".to_owned())
        }
        (Kind::Whole(_), Kind::Edit(_)) | (Kind::Edit(_), Kind::Whole(_)) => None,
        (Kind::Edit(one), Kind::Edit(other)) => edits(one, other),
        (Kind::Symlink(one), Kind::Symlink(other)) => {
            (one != other).then(|| "the link has another target in each".to_owned())
        }
        (Kind::Sysctl(one), Kind::Sysctl(other)) => {
            (one.value != other.value).then(|| "the setting has another value in each".to_owned())
        }
        (Kind::Module(one), Kind::Module(other)) => (one.state != other.state)
            .then(|| "one loads the module, the other never does".to_owned()),
        (Kind::Unit(one), Kind::Unit(other)) => {
            let differ = |one: Option<bool>, other: Option<bool>| {
                one.zip(other).is_some_and(|(one, other)| one != other)
            };
            let masked = |it: &crate::config::Unit| it.masked == Some(true);
            let used =
                |it: &crate::config::Unit| it.enabled == Some(true) || it.running == Some(true);
            let contradict = differ(one.enabled, other.enabled)
                || differ(one.running, other.running)
                || differ(one.masked, other.masked)
                || (masked(one) && used(other))
                || (masked(other) && used(one));
            contradict.then(|| "the unit has another state in each".to_owned())
        }
        (one_kind, other_kind) => {
            let wanted = |kind: &Kind| match kind {
                Kind::Whole(_) | Kind::Edit(_) => Some("a file"),
                Kind::Directory(_) => Some("a folder"),
                Kind::Symlink(_) => Some("a link"),
                _ => None,
            };
            match (wanted(one_kind), wanted(other_kind)) {
                (Some(one), Some(other)) if one != other => {
                    return Some(format!("the path is {one} in one, {other} in the other"));
                }
                (Some("a link"), None) | (None, Some("a link")) => {
                    return Some("a link has no permissions of its own".to_owned());
                }
                _ => {}
            }
            let permissions = one_kind.permissions().zip(other_kind.permissions());
            permissions.and_then(|(one, other)| permissions_differ(one, other))
        }
    }
}

fn wholes(one: &Whole, other: &Whole) -> Option<String> {
    if one.present != other.present {
        return Some("one wants the file to be there, the other does not".to_owned());
    }
    let same = match (&one.content, &other.content) {
        (Content::Any, _) | (_, Content::Any) => true,
        (Content::Text(one), Content::Text(other)) => one == other,
        _ => false,
    };
    if !same {
        return Some("the file has another content in each".to_owned());
    }
    permissions_differ(&one.permissions, &other.permissions)
}

fn permissions_differ(one: &PermissionRule, other: &PermissionRule) -> Option<String> {
    let beyond = |mode: Option<u32>, most: Option<u32>| {
        mode.zip(most).is_some_and(|(mode, most)| mode & !most != 0)
    };
    if one
        .mode
        .zip(other.mode)
        .is_some_and(|(one, other)| one != other)
        || beyond(one.mode, other.max_mode)
        || beyond(other.mode, one.max_mode)
    {
        return Some("the mode is another one in each".to_owned());
    }
    let owners = one.owner.as_ref().zip(other.owner.as_ref());
    let groups = one.group.as_ref().zip(other.group.as_ref());
    for (what, pair) in [("owner", owners), ("group", groups)] {
        if pair.is_some_and(|(one, other)| one != other) {
            return Some(format!("the {what} is another one in each"));
        }
    }
    None
}

fn edits(one: &EditFile, other: &EditFile) -> Option<String> {
    if one
        .format
        .zip(other.format)
        .is_some_and(|(one, other)| one != other)
    {
        return Some("the file has another format in each".to_owned());
    }
    let others = other.edit.claims();
    for claim in one.edit.claims() {
        let differs = others.iter().any(|other| {
            let same = claim.subject == other.subject && claim.wanted == other.wanted;
            claim.subject.collides(&other.subject) && !same
        });
        if differs {
            return Some(match &claim.subject {
                crate::edit::Subject::Line(line) => {
                    format!("the line {line:?} is there in one only")
                }
                crate::edit::Subject::Pattern(pattern) => {
                    format!("what {pattern:?} matches becomes another line in each")
                }
                crate::edit::Subject::Key(_, key) => format!("`{key}` has another value in each"),
                crate::edit::Subject::Path(_) => {
                    "the same key has another value in each".to_owned()
                }
            });
        }
    }
    None
}
