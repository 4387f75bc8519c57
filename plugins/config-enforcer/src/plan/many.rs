//! What one resource says of many paths.

use bulkhead_sdk::enforcement::{Entry, Kind as Found, View};

use super::access::Wanted;
use super::{Finding, Making, Planner, why};
use crate::compile::{Absence, Lookout, PermissionRule};
use crate::config::IfMissing;

/// So many paths are named; the others are counted.
const NAMED: usize = 5;

impl Planner<'_> {
    pub(super) fn permissions_of_many(
        &mut self,
        index: usize,
        rule: &PermissionRule,
        making: &mut Making,
    ) -> Finding {
        let Some(want) = rule.want else {
            return Finding::Error("the host did not show it".to_owned());
        };
        let wanted = match Wanted::new(rule, self.view) {
            Ok(wanted) => wanted,
            Err(error) => return error.into(),
        };
        let (mut seen, mut wrong, mut errors) = (0, Vec::new(), Vec::new());
        for entry in self.view.files(want) {
            if !matches!(entry.kind(), Found::File | Found::Directory) {
                continue;
            }
            seen += 1;
            let path = entry.path();
            if let Some(why) = odd(entry) {
                errors.push(why);
                continue;
            }
            let wanted = self.not_said_elsewhere(path, wanted);
            let id = format!("{} {path}", self.item(index).id);
            self.sets_off(index, &id);
            let before = self.access.get(path).copied().unwrap_or_default();
            match before.and(wanted) {
                Ok(both) => {
                    self.access.insert(path.to_owned(), both);
                }
                Err(error) => {
                    errors.push(format!("{path}: {error}"));
                    continue;
                }
            }
            let (needed, why) = wanted.needed_by(entry);
            if needed.is_nothing() {
                continue;
            }
            let why = why.join(" and ");
            wrong.push(format!("{path}: {why}"));
            if !self.item(index).check_only {
                let is_folder = entry.kind() == Found::Directory;
                self.change(&id, &[index], &why, making, |plan, id| {
                    needed.set(match is_folder {
                        true => plan.make_directory(id, path),
                        false => plan.set_permissions(id, path),
                    })
                });
            }
        }
        if !errors.is_empty() {
            return Finding::Error(list(&errors));
        }
        match (seen, wrong.is_empty()) {
            (0, _) => Finding::NotApplicable("nothing is there".to_owned()),
            (_, true) => Finding::pass(),
            (_, false) => Finding::Fail(list(&wrong)),
        }
    }

    /// What is said of one path counts more than what is said of many.
    fn not_said_elsewhere(&self, path: &str, mut wanted: Wanted) -> Wanted {
        if let Some(said) = self.model.special.get(path) {
            if said.mode {
                wanted = wanted.any_mode();
            }
            if said.owner {
                wanted.uid = None;
            }
            if said.group {
                wanted.gid = None;
            }
        }
        wanted
    }

    pub(super) fn absent(
        &mut self,
        index: usize,
        absence: &Absence,
        making: &mut Making,
    ) -> Finding {
        let mut found: Vec<(&str, usize)> = Vec::new();
        for want in absence.wants.iter().flatten() {
            for entry in self.view.files(*want) {
                if entry.kind() == Found::Absent {
                    continue;
                }
                if let Some(why) = odd(entry) {
                    return Finding::Error(why);
                }
                let path = entry.path();
                found.push((path, path.matches('/').count()));
            }
        }
        if found.is_empty() {
            return Finding::pass();
        }
        // What is in a folder goes before the folder.
        found.sort_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
        found.dedup();
        let named: Vec<String> = found
            .iter()
            .rev()
            .map(|(path, _)| (*path).to_owned())
            .collect();
        let outside = std::mem::take(&mut making.after);
        let mut deeper: Vec<(String, String)> = Vec::new();
        for (path, _) in found {
            let id = format!("{} {path}", self.item(index).id);
            self.sets_off(index, &id);
            if self.item(index).check_only {
                continue;
            }
            let inside = format!("{path}/");
            let below = deeper
                .iter()
                .filter(|(other, _)| other.starts_with(&inside));
            making.after = outside
                .iter()
                .cloned()
                .chain(below.map(|(_, id)| id.clone()))
                .collect();
            self.change(&id, &[index], "it is there", making, |plan, id| {
                plan.remove(id, path)
            });
            if let Some(made) = making.made.last() {
                deeper.retain(|(other, _)| !other.starts_with(&inside));
                deeper.push((path.to_owned(), made.clone()));
            }
        }
        making.after = outside;
        Finding::Fail(format!("there: {}", list(&named)))
    }
}

/// Whether files have the lines that they should.
pub(super) fn look_out(view: &View, lookout: &Lookout) -> Finding {
    let (mut seen, mut found, mut unwanted) = (0, false, Vec::new());
    for entry in lookout
        .wants
        .iter()
        .flatten()
        .flat_map(|want| view.files(*want))
    {
        if entry.kind() != Found::File {
            continue;
        }
        if let Some(why) = odd(entry) {
            return Finding::Error(why);
        }
        if entry.is_cut() {
            return Finding::Error(format!("{} is longer than 4 MiB", entry.path()));
        }
        seen += 1;
        let text = String::from_utf8_lossy(entry.content());
        for (index, line) in text.lines().enumerate() {
            found |= lookout
                .some_line
                .as_ref()
                .is_some_and(|it| it.is_match(line));
            let matches = lookout.no_line.as_ref().is_some_and(|it| it.is_match(line));
            if matches && !lookout.except.as_ref().is_some_and(|it| it.is_match(line)) {
                unwanted.push(format!("line {} of {}", index + 1, entry.path()));
            }
        }
    }
    match (seen, lookout.if_missing) {
        (0, IfMissing::NotApplicable) => Finding::NotApplicable("there is no such file".to_owned()),
        (0, _) => Finding::Fail("there is no such file".to_owned()),
        _ if !unwanted.is_empty() => {
            Finding::Fail(format!("should not be there: {}", list(&unwanted)))
        }
        _ if lookout.some_line.is_some() && !found => Finding::Fail("no line says so".to_owned()),
        _ => Finding::pass(),
    }
}

/// What keeps an entry from being judged.
fn odd(entry: Entry<'_>) -> Option<String> {
    match (entry.error(), entry.path()) {
        (Some(errno), path) => Some(format!("{path} cannot be read: {}", why(errno))),
        (None, "") => Some("a path is not UTF-8".to_owned()),
        (None, _) => None,
    }
}

fn list(all: &[String]) -> String {
    let named = all
        .iter()
        .take(NAMED)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("; ");
    match all.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}
