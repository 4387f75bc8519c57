//! What is at one path: a file put together from all that is said about it, a folder, or a link.

use std::borrow::Cow;

use bulkhead_sdk::enforcement::{Entry, Kind as Found};
use bulkhead_sdk::{Result, bail};

use super::access::{NEW_DIRECTORY, NEW_FILE, Needed, Wanted};
use super::draft::{Draft, Text};
use super::{Finding, Making, Planner, join, why};
use crate::compile::{Content, Kind, Whole};

impl<'a> Planner<'a> {
    pub(super) fn path(&mut self, path: &str, live: &[usize], making: &mut Making) {
        for index in live {
            self.sets_off(*index, path);
        }
        let Some(entry) = self.view.file(path) else {
            return self.all(live, || {
                Finding::Error("the host did not show it".to_owned())
            });
        };
        if let Some(errno) = entry.error() {
            return self.all(live, || {
                Finding::Error(format!("cannot be read: {}", why(errno)))
            });
        }
        let is = |wanted: fn(&Kind) -> bool| live.iter().any(|it| wanted(&self.item(*it).kind));
        if is(|kind| matches!(kind, Kind::Symlink(_))) {
            self.symlink(path, entry, live, making);
        } else if is(|kind| matches!(kind, Kind::Directory(_))) {
            self.directory(path, entry, live, making);
        } else if is(|kind| matches!(kind, Kind::Whole(it) if !it.present)) {
            self.no_file(path, entry, live, making);
        } else if is(|kind| matches!(kind, Kind::Whole(_) | Kind::Edit(_))) {
            self.file(path, entry, live, making);
        } else {
            self.only_permissions(path, entry, live, making);
        }
    }

    fn all(&mut self, items: &[usize], finding: impl Fn() -> Finding) {
        for item in items {
            self.find(*item, finding());
        }
    }

    /// Of those that fail, the ones that are enforced.
    fn failed(&self, items: &[usize]) -> Vec<usize> {
        let failed = |index: &usize| matches!(self.findings[*index], Some(Finding::Fail(_)));
        self.enforced(items).into_iter().filter(failed).collect()
    }

    fn reason(&self, items: &[usize]) -> String {
        let reasons: Vec<String> = items
            .iter()
            .filter_map(|index| match &self.findings[*index] {
                Some(Finding::Fail(why)) => Some(why.clone()),
                _ => None,
            })
            .collect();
        join(&reasons)
    }

    fn symlink(&mut self, path: &str, entry: Entry<'_>, live: &[usize], making: &mut Making) {
        let mut links = live
            .iter()
            .filter_map(|index| match &self.item(*index).kind {
                Kind::Symlink(it) => Some(it.target.as_str()),
                _ => None,
            });
        let Some(target) = links.next() else { return };
        let finding = match entry.kind() {
            Found::Absent => Finding::Fail("it is not there".to_owned()),
            Found::Symlink if entry.target() == Some(target) => Finding::pass(),
            Found::Symlink => {
                let found = entry.target().unwrap_or("something that is no text");
                Finding::Fail(format!("it points to {found}"))
            }
            other => Finding::Error(format!("{}; it is not replaced by a link", what(other))),
        };
        self.all(live, || finding.clone());
        let failed = self.failed(live);
        if !failed.is_empty() {
            let reason = self.reason(&failed);
            self.change(path, &failed, &reason, making, |plan, id| {
                plan.make_symlink(id, path, target)
            });
        }
    }

    fn directory(&mut self, path: &str, entry: Entry<'_>, live: &[usize], making: &mut Making) {
        if !matches!(entry.kind(), Found::Absent | Found::Directory) {
            let found = what(entry.kind());
            return self.all(live, || {
                Finding::Error(format!("{found}; it is not replaced by a folder"))
            });
        }
        let absent = entry.kind() == Found::Absent;
        let wanted = self.access(live, |_, wanted| match absent {
            true => Finding::Fail("it is not there".to_owned()),
            false => found(wanted.needed_by(entry).1),
        });
        let failed = self.failed(live);
        if failed.is_empty() {
            return;
        }
        let needed = match absent {
            true => wanted.needed_by_new(NEW_DIRECTORY),
            false => wanted.needed_by(entry).0,
        };
        let reason = self.reason(&failed);
        self.change(path, &failed, &reason, making, |plan, id| {
            needed.set(plan.make_directory(id, path))
        });
    }

    /// Looks at what each item says of permissions; what the enforced ones say together.
    fn access(&mut self, items: &[usize], judge: impl Fn(usize, Wanted) -> Finding) -> Wanted {
        let mut all = Wanted::default();
        for index in items.iter().copied() {
            if matches!(self.findings[index], Some(Finding::Error(_))) {
                continue;
            }
            let item = self.item(index);
            let Some(rule) = item.kind.permissions() else {
                continue;
            };
            let wanted = match Wanted::new(rule, self.view) {
                Ok(wanted) => wanted,
                Err(error) => {
                    self.find(index, error.into());
                    continue;
                }
            };
            if !item.check_only {
                match all.and(wanted) {
                    Ok(both) => all = both,
                    Err(error) => {
                        self.find(index, error.into());
                        continue;
                    }
                }
            }
            self.find(index, judge(index, wanted));
        }
        all
    }

    fn no_file(&mut self, path: &str, entry: Entry<'_>, live: &[usize], making: &mut Making) {
        let finding = match entry.kind() {
            Found::Absent => Finding::pass(),
            Found::Directory => Finding::Error("it is a folder; use `absent`".to_owned()),
            _ => Finding::Fail("it is there".to_owned()),
        };
        self.all(live, || finding.clone());
        let failed = self.failed(live);
        if !failed.is_empty() {
            self.change(path, &failed, "it is there", making, |plan, id| {
                plan.remove(id, path)
            });
        }
    }

    fn only_permissions(
        &mut self,
        path: &str,
        entry: Entry<'_>,
        live: &[usize],
        making: &mut Making,
    ) {
        match entry.kind() {
            Found::Absent => {
                return self.all(live, || {
                    Finding::NotApplicable("it is not there".to_owned())
                });
            }
            Found::Symlink | Found::Other => {
                let found = what(entry.kind());
                return self.all(live, || {
                    Finding::Error(format!("{found}; its permissions are not changed"))
                });
            }
            Found::File | Found::Directory => {}
        }
        let wanted = self.access(live, |_, wanted| found(wanted.needed_by(entry).1));
        let failed = self.failed(live);
        if failed.is_empty() {
            return;
        }
        let needed = wanted.needed_by(entry).0;
        let reason = self.reason(&failed);
        let is_folder = entry.kind() == Found::Directory;
        self.change(path, &failed, &reason, making, |plan, id| {
            needed.set(match is_folder {
                true => plan.make_directory(id, path),
                false => plan.set_permissions(id, path),
            })
        });
    }

    fn file(&mut self, path: &str, entry: Entry<'_>, live: &[usize], making: &mut Making) {
        let current = match entry.kind() {
            Found::Absent => None,
            Found::File => Some(Text {
                bytes: entry.content(),
                cut: entry.is_cut(),
            }),
            other => {
                let found = what(other);
                return self.all(live, || Finding::Error(format!("{found}, not a file")));
            }
        };
        let secret = live.iter().any(|index| match &self.item(*index).kind {
            Kind::Whole(it) => it.secret,
            Kind::Edit(it) => it.secret,
            _ => false,
        });
        let mut wholes = Vec::new();
        for index in live.iter().copied() {
            if let Kind::Whole(whole) = &self.item(index).kind {
                match self.content(whole) {
                    Ok(content) => wholes.push((index, content)),
                    Err(error) => self.find(index, error.into()),
                }
            }
        }
        // Before anything is written: a file whose owner is unknown is not made.
        let wanted = self.access(live, |_, wanted| match current {
            None => Finding::NotApplicable("it is not there".to_owned()),
            Some(_) => found(wanted.needed_by(entry).1),
        });
        wholes.retain(|(index, _)| !matches!(self.findings[*index], Some(Finding::Error(_))));
        let mut draft = Draft::new(current);
        for (index, content) in &wholes {
            if !self.item(*index).check_only {
                draft.write(content.as_deref());
            }
        }
        self.edits(live, secret, &mut draft);
        for (index, content) in wholes {
            let content = match self.item(index).check_only {
                true => content.as_deref(),
                false => draft.text(),
            };
            let differs = match (current, content) {
                (None, _) => Some("it is not there".to_owned()),
                (Some(current), Some(content)) => current.differs(content.as_bytes(), secret),
                (Some(_), None) => None,
            };
            let of_access = match self.findings[index].take() {
                Some(Finding::Fail(why)) => Some(why),
                _ => None,
            };
            let wrong: Vec<String> = differs.into_iter().chain(of_access).collect();
            self.find(index, found(wrong));
        }
        self.change_file(path, entry, draft, wanted, (live, secret), making);
    }

    fn edits(&mut self, live: &[usize], secret: bool, draft: &mut Draft<'_>) {
        let mut made = Vec::new();
        for index in live.iter().copied() {
            let item = self.item(index);
            if let Kind::Edit(edit) = &item.kind {
                let finding = draft.edit(edit, !item.check_only, secret);
                if !item.check_only && matches!(finding, Finding::Fail(_)) {
                    made.push((index, edit));
                }
                self.find(index, finding);
            }
        }
        // Otherwise it would fail for ever, without anybody seeing why.
        for (index, edit) in made {
            if !draft.has(edit) {
                let why = "another rule about the file undoes it";
                self.find(index, Finding::Error(why.to_owned()));
            }
        }
    }

    fn change_file(
        &mut self,
        path: &str,
        entry: Entry<'_>,
        draft: Draft<'_>,
        wanted: Wanted,
        (live, secret): (&[usize], bool),
        making: &mut Making,
    ) {
        let is_new = draft.is_new();
        let content = draft.changed();
        let needed = match (is_new, &content) {
            (true, None) => Needed::default(),
            (true, Some(_)) => wanted.needed_by_new(NEW_FILE),
            (false, _) => wanted.needed_by(entry).0,
        };
        if content.is_none() && needed.is_nothing() {
            return;
        }
        let failed = self.failed(live);
        if failed.is_empty() {
            return;
        }
        let reason = self.reason(&failed);
        self.change(path, &failed, &reason, making, |plan, id| {
            let change = match content {
                Some(content) => plan.write_file(id, path, content),
                None => plan.set_permissions(id, path),
            };
            let change = needed.set(change);
            if secret { change.secret() } else { change }
        });
    }

    /// What a file should be; none if it is enough that there is one.
    fn content(&self, whole: &'a Whole) -> Result<Option<Cow<'a, str>>> {
        match &whole.content {
            Content::Any => Ok(None),
            Content::Text(text) => Ok(Some(text.into())),
            Content::Template(template) => {
                let text = self.model.templates.render(template, &self.known);
                let text = text.map_err(|error| error.context("the template"))?;
                if text.len() > 4 << 20 {
                    bail!("the template makes more than 4 MiB");
                }
                Ok(Some(text.into()))
            }
        }
    }
}

/// Fails if anything is wrong.
fn found(wrong: Vec<String>) -> Finding {
    match wrong.is_empty() {
        true => Finding::pass(),
        false => Finding::Fail(join(&wrong)),
    }
}

fn what(kind: Found) -> &'static str {
    match kind {
        Found::Absent => "it is not there",
        Found::File => "it is a file",
        Found::Directory => "it is a folder",
        Found::Symlink => "it is a symbolic link",
        Found::Other => "it is a device, a socket or a pipe",
    }
}
