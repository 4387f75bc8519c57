//! What a judgement changes in the store: one transaction for all that waited.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use redb::{ReadableTable, Table, WriteTransaction};

use super::change::{Became, Change};
use super::finding::{Found, Subject, path_key};
use super::record::{FINDINGS, INDEX, RESOLVED, Record, Scope, State};
use super::rules::Rules;
use super::store::{Limits, Plugin, Plugins};
use super::suppress::Suppressions;
use super::tally::Tally;
use crate::manifest::Identity;
use crate::state::Fault;

/// How exact the time at which something was seen last is on the disk: what is judged again and again
/// is not written again and again.
const EXACT: i64 = 60_000;

/// What is replaced as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    /// What the end of a pass told.
    Pass,
    /// What the assessment of the node told.
    Node,
}

/// Something to be written.
#[derive(Debug)]
pub(super) enum Task {
    /// These are all findings of these files.
    Files(Identity, Vec<(Vec<u8>, Vec<Found>)>),
    /// These are all findings of the pass or the node.
    Whole(Identity, Whole, Vec<Found>),
    /// These paths are gone, as the plugin was told.
    Gone(Identity, Vec<Vec<u8>>),
    /// These paths are not shown to the plugin any more.
    LeftOut(Identity, Vec<Vec<u8>>),
    /// All below this folder is gone, as the plugin was told.
    GoneBelow(Identity, Vec<u8>),
    /// From now on, these are the plugin's rules and what its manifest accepts.
    Enrol(Identity, Arc<Rules>, Suppressions),
    /// What is suppressed may be another.
    Sweep(Identity),
    /// The plugin is no more.
    Forget(Identity),
}

impl Task {
    /// Whether it changes what others are done by, so that it is done alone.
    pub(super) fn is_solitary(&self) -> bool {
        matches!(self, Self::Enrol(..) | Self::Forget(_))
    }
}

/// What a transaction did, for what is kept in memory and who listens.
#[derive(Default)]
pub(super) struct Done {
    /// The tallies of the plugins that were written for.
    pub(super) tallies: BTreeMap<Identity, Tally>,
    /// Files by the key of their path, and whether they have findings now.
    pub(super) files: Vec<(Identity, u64, bool)>,
    pub(super) forgotten: Option<Identity>,
    pub(super) changes: Vec<Change>,
    pub(super) next: u64,
}

/// The half of a path's key that is kept in memory.
pub(super) fn short_key(path: &[u8]) -> u64 {
    (path_key(path) >> 64) as u64
}

pub(super) struct Session<'t, 'p> {
    findings: Table<'t, u64, &'static [u8]>,
    index: Table<'t, (&'static str, u8, u128, u128), u64>,
    resolved: Table<'t, (i64, u64), ()>,
    plugins: &'p Plugins,
    limits: Limits,
    now: i64,
    today: Date,
    /// Whether anybody wants to hear of changes.
    heard: bool,
    done: Done,
}

impl<'t, 'p> Session<'t, 'p> {
    pub(super) fn begin(
        transaction: &'t WriteTransaction,
        plugins: &'p Plugins,
        limits: Limits,
        now: Timestamp,
        next: u64,
        heard: bool,
    ) -> Result<Self, Fault> {
        Ok(Self {
            findings: transaction.open_table(FINDINGS)?,
            index: transaction.open_table(INDEX)?,
            resolved: transaction.open_table(RESOLVED)?,
            plugins,
            limits,
            now: now.as_millisecond(),
            today: today(now),
            heard,
            done: Done {
                next,
                ..Done::default()
            },
        })
    }

    pub(super) fn work(&mut self, task: &Task) -> Result<(), Fault> {
        match task {
            Task::Files(plugin, files) => {
                for (path, found) in files {
                    self.file(plugin, path, found)?;
                }
                Ok(())
            }
            Task::Whole(plugin, whole, found) => {
                let scope = match whole {
                    Whole::Pass => Scope::Pass,
                    Whole::Node => Scope::Node,
                };
                self.replace(plugin, scope, 0..=u128::MAX, found).map(drop)
            }
            Task::Gone(plugin, paths) => {
                for path in paths {
                    self.file(plugin, path, &[])?;
                }
                Ok(())
            }
            Task::LeftOut(plugin, paths) => {
                for path in paths {
                    self.left_out(plugin, path)?;
                }
                Ok(())
            }
            Task::GoneBelow(plugin, folder) => self.gone_below(plugin, folder),
            Task::Enrol(plugin, ..) | Task::Sweep(plugin) => self.sweep(plugin),
            Task::Forget(plugin) => self.forget(plugin),
        }
    }

    fn file(&mut self, plugin: &Identity, path: &[u8], found: &[Found]) -> Result<(), Fault> {
        let key = path_key(path);
        let any = self.replace(plugin, Scope::File, key..=key, found)?;
        let file = (plugin.clone(), short_key(path), any);
        self.done.files.push(file);
        Ok(())
    }

    /// Makes `found` all that there is among these subjects. Says whether anything of it is kept.
    fn replace(
        &mut self,
        plugin: &Identity,
        scope: Scope,
        subjects: RangeInclusive<u128>,
        found: &[Found],
    ) -> Result<bool, Fault> {
        let name = plugin.to_string();
        let number = scope.number();
        let from = (name.as_str(), number, *subjects.start(), 0);
        let to = (name.as_str(), number, *subjects.end(), u128::MAX);
        let mut before = HashMap::new();
        for entry in self.index.range(from..=to)? {
            let (key, number) = entry?;
            let (_, _, subject, rest) = key.value();
            before.insert((subject, rest), number.value());
        }
        let mut wanted = Vec::with_capacity(found.len());
        let mut seen = HashSet::with_capacity(found.len());
        for found in found {
            let key = (found.subject.key(), found.rest_key());
            if seen.insert(key) {
                wanted.push((key, before.remove(&key), found));
            }
        }
        // First, so that there is room; by number, so that what is told does not depend on a hash.
        let mut gone: Vec<u64> = before.into_values().collect();
        gone.sort_unstable();
        for number in gone {
            self.resolve(plugin, number, State::Resolved)?;
        }
        let mut any = false;
        for (key, known, found) in wanted {
            any |= match known {
                Some(number) => self.again(plugin, number, found)?,
                None => self.first(plugin, scope, key, found)?,
            };
        }
        Ok(any)
    }

    fn first(
        &mut self,
        plugin: &Identity,
        scope: Scope,
        (subject, rest): (u128, u128),
        found: &Found,
    ) -> Result<bool, Fault> {
        if !self.has_room(plugin) {
            return Ok(false);
        }
        let (found, title, state) = self.complete(plugin, found);
        let record = Record {
            plugin: plugin.to_string(),
            scope,
            found,
            title,
            state,
            first_seen: self.now,
            last_seen: self.now,
            changed: self.now,
        };
        let number = self.done.next;
        self.done.next += 1;
        let key = (record.plugin.as_str(), scope.number(), subject, rest);
        self.index.insert(key, number)?;
        self.put(number, &record)?;
        self.tally(plugin).add(&record);
        let became = match record.state {
            State::Suppressed(_) => Became::Suppressed,
            State::Open | State::Resolved | State::LeftOut => Became::Opened,
        };
        self.tell(became, &record);
        Ok(true)
    }

    fn again(&mut self, plugin: &Identity, number: u64, found: &Found) -> Result<bool, Fault> {
        let before = self.get(number)?;
        if before.is_resolved() {
            if !self.has_room(plugin) {
                return Ok(false);
            }
            self.resolved.remove((before.changed, number))?;
        }
        let (found, title, state) = self.complete(plugin, found);
        let is_same = before.found == found && before.title == title && before.state == state;
        // A clock that was set back must not keep a time for ever.
        if is_same && (0..EXACT).contains(&(self.now - before.last_seen)) {
            return Ok(true);
        }
        let record = Record {
            found,
            title,
            last_seen: self.now,
            changed: if state == before.state {
                before.changed
            } else {
                self.now
            },
            state,
            ..before.clone()
        };
        self.put(number, &record)?;
        self.swap(plugin, &before, &record);
        Ok(true)
    }

    fn resolve(&mut self, plugin: &Identity, number: u64, state: State) -> Result<(), Fault> {
        let before = self.get(number)?;
        if before.is_resolved() {
            return Ok(());
        }
        let record = Record {
            state,
            changed: self.now,
            ..before.clone()
        };
        self.put(number, &record)?;
        self.resolved.insert((self.now, number), ())?;
        self.swap(plugin, &before, &record);
        Ok(())
    }

    fn swap(&mut self, plugin: &Identity, before: &Record, after: &Record) {
        let tally = self.tally(plugin);
        tally.remove(before);
        tally.add(after);
        let became = match (&before.state, &after.state) {
            (before, after) if before == after => return,
            (State::Resolved | State::LeftOut, State::Open) => Became::Reopened,
            (_, State::Open) => Became::Opened,
            (State::Suppressed(_), State::Suppressed(_)) => return,
            (_, State::Suppressed(_)) => Became::Suppressed,
            (_, State::Resolved | State::LeftOut) => Became::Resolved,
        };
        self.tell(became, after);
    }

    /// With what the plugin's rules say, and whether it is accepted.
    fn complete(&self, plugin: &Identity, found: &Found) -> (Found, String, State) {
        let mut found = found.clone();
        let Some(known) = self.plugins.get(plugin) else {
            return (found, String::new(), State::Open);
        };
        let mut title = String::new();
        if let Some(rule) = known.rules.get(&found.rule) {
            title.clone_from(&rule.title);
            if found.references.is_empty() {
                found.references.clone_from(&rule.references);
            }
        }
        let state = self.state(known, &found);
        (found, title, state)
    }

    fn state(&self, plugin: &Plugin, found: &Found) -> State {
        match plugin.suppressions.reason(found, self.today) {
            Some(reason) => State::Suppressed(reason.to_owned()),
            None => State::Open,
        }
    }

    /// Whether one finding more is kept.
    fn has_room(&mut self, plugin: &Identity) -> bool {
        let most = self.limits.open;
        let tally = self.tally(plugin);
        let room = tally.kept() < most;
        if !room {
            tally.dropped += 1;
        }
        room
    }

    fn gone_below(&mut self, plugin: &Identity, folder: &[u8]) -> Result<(), Fault> {
        let folder = folder.strip_suffix(b"/").unwrap_or(folder);
        let is_below = |path: &[u8]| {
            let rest = path.strip_prefix(folder);
            rest.is_some_and(|rest| rest.first() == Some(&b'/'))
        };
        let mut gone = Vec::new();
        let files = Scope::File.number()..=Scope::File.number();
        for number in self.numbers(&plugin.to_string(), files)? {
            let record = self.get(number)?;
            if let Subject::File(path) = &record.found.subject
                && !record.is_resolved()
                && is_below(path)
            {
                gone.push((number, short_key(path)));
            }
        }
        for (number, file) in gone {
            self.resolve(plugin, number, State::Resolved)?;
            self.done.files.push((plugin.clone(), file, false));
        }
        Ok(())
    }

    fn left_out(&mut self, plugin: &Identity, path: &[u8]) -> Result<(), Fault> {
        let (name, key) = (plugin.to_string(), path_key(path));
        let scope = Scope::File.number();
        let from = (name.as_str(), scope, key, 0);
        let to = (name.as_str(), scope, key, u128::MAX);
        let numbers: Vec<u64> = self
            .index
            .range(from..=to)?
            .map(|entry| Ok(entry?.1.value()))
            .collect::<Result<_, Fault>>()?;
        for number in numbers {
            self.resolve(plugin, number, State::LeftOut)?;
        }
        let file = (plugin.clone(), short_key(path), false);
        self.done.files.push(file);
        Ok(())
    }

    /// Looks again at what is suppressed.
    fn sweep(&mut self, plugin: &Identity) -> Result<(), Fault> {
        let Some(known) = self.plugins.get(plugin) else {
            return Ok(());
        };
        for number in self.numbers(&plugin.to_string(), 0..=u8::MAX)? {
            let before = self.get(number)?;
            let state = self.state(known, &before.found);
            if before.is_resolved() || before.state == state {
                continue;
            }
            let record = Record {
                state,
                changed: self.now,
                ..before.clone()
            };
            self.put(number, &record)?;
            self.swap(plugin, &before, &record);
        }
        Ok(())
    }

    fn forget(&mut self, plugin: &Identity) -> Result<(), Fault> {
        let name = plugin.to_string();
        for number in self.numbers(&name, 0..=u8::MAX)? {
            let record = self.get(number)?;
            self.remove(number, &record)?;
        }
        self.done.forgotten = Some(plugin.clone());
        Ok(())
    }

    fn numbers(&self, plugin: &str, scopes: RangeInclusive<u8>) -> Result<Vec<u64>, Fault> {
        let from = (plugin, *scopes.start(), 0, 0);
        let to = (plugin, *scopes.end(), u128::MAX, u128::MAX);
        let range = self.index.range(from..=to)?;
        let mut numbers = range
            .map(|entry| Ok(entry?.1.value()))
            .collect::<Result<Vec<u64>, Fault>>()?;
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Lets go of what was resolved long ago, and of the oldest if there is too much of it.
    pub(super) fn finish(mut self) -> Result<Done, Fault> {
        let before = self.now - self.limits.retention.as_millis() as i64;
        let mut kept = redb::ReadableTableMetadata::len(&self.resolved)?;
        loop {
            let oldest = self.resolved.first()?.map(|(key, _)| key.value());
            let Some((_, number)) =
                oldest.filter(|(time, _)| *time < before || kept > self.limits.resolved)
            else {
                return Ok(self.done);
            };
            let record = self.get(number)?;
            self.remove(number, &record)?;
            kept -= 1;
            if let Ok(plugin) = record.plugin.parse() {
                self.tally(&plugin).remove(&record);
            }
        }
    }

    fn remove(&mut self, number: u64, record: &Record) -> Result<(), Fault> {
        let found = &record.found;
        let (subject, rest) = (found.subject.key(), found.rest_key());
        let scope = record.scope.number();
        self.index
            .remove((record.plugin.as_str(), scope, subject, rest))?;
        self.findings.remove(number)?;
        if record.is_resolved() {
            self.resolved.remove((record.changed, number))?;
        }
        Ok(())
    }

    fn get(&self, number: u64) -> Result<Record, Fault> {
        match self.findings.get(number)? {
            Some(bytes) => Record::decode(number, bytes.value()),
            None => Err(Fault::Damaged(format!("there is no finding {number}"))),
        }
    }

    fn put(&mut self, number: u64, record: &Record) -> Result<(), Fault> {
        self.findings.insert(number, record.encode().as_slice())?;
        Ok(())
    }

    fn tally(&mut self, plugin: &Identity) -> &mut Tally {
        let known = || {
            let known = self.plugins.get(plugin);
            known.map(|it| it.tally.clone()).unwrap_or_default()
        };
        self.done
            .tallies
            .entry(plugin.clone())
            .or_insert_with(known)
    }

    fn tell(&mut self, became: Became, record: &Record) {
        if self.heard {
            self.done.changes.push(Change::new(became, record));
        }
    }
}

pub(super) fn today(now: Timestamp) -> Date {
    now.to_zoned(jiff::tz::TimeZone::UTC).date()
}
