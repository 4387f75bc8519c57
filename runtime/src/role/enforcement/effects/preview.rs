//! What a change would do, without doing it.

use std::collections::HashSet;

use super::Effects;
use super::diff::diff;
use super::error::Error;
use super::history::shown;
use super::kind;
use super::state::State;
use super::subject::Subject;
use crate::manifest::NodePath;
use crate::role::enforcement::{Action, Change};

/// What a change would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// What is there, without content.
    pub before: State,
    /// What would be there, without content.
    pub after: State,
    /// How they differ; nothing of a secret.
    pub diff: String,
    /// Whether anything would be done.
    pub differs: bool,
}

impl Effects {
    /// What changes would do, in this order. One in a folder that an earlier one would make counts as if that
    /// had been made.
    pub fn preview_all(&self, changes: &[&Change]) -> Vec<Result<Preview, Error>> {
        let mut desk = self.desk(None, self.kept().most());
        let mut made: HashSet<&NodePath> = HashSet::new();
        let each = changes.iter().map(|change| {
            let mut kind = kind::of(&change.action);
            let looked = match kind.look(&mut desk) {
                Err(Error::NoFolder { .. }) if is_in(&change.action, &made) => {
                    Ok((State::Absent, kind::of_nothing(&change.action)))
                }
                looked => looked,
            };
            let (before, after) = looked?;
            if let Action::MakeDirectory { path, .. } = &change.action {
                made.insert(path);
            }
            let subject = Subject::of(&change.action).to_string();
            Ok(Preview {
                diff: diff(&subject, &before, &after, change.secret),
                differs: before.digest() != after.digest() || kind.always(),
                before: shown(before, change.secret),
                after: shown(after, change.secret),
            })
        });
        each.collect()
    }
}

fn is_in(action: &Action, made: &HashSet<&NodePath>) -> bool {
    let Subject::Path(path) = Subject::of(action) else {
        return false;
    };
    made.iter().any(|folder| folder.holds(&path))
}
