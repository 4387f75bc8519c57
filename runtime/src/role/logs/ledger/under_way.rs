//! What is under way of one file: amounts and times, in bounded memory however far a destination is
//! behind.

use std::collections::{BTreeSet, VecDeque};

use super::entry::Lines;
use super::file::Mark;
use super::tally::Amount;

/// Contents of one file of which something is under way, at most; older ones share an entry.
const CONTENTS: usize = 16;
/// Stretches of which the age is known, at most.
const AGES: usize = 16;
/// Dead lines that are remembered until every destination has passed them; one beyond that counts as
/// acknowledged.
const DEAD: usize = 4096;

/// Lines that some destination has not passed.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    /// By generation, ascending.
    contents: VecDeque<(u64, Load)>,
    /// When the oldest line of each stretch was written, by the stretch's end.
    ages: VecDeque<(Mark, i64)>,
    /// Of these, lines that are in the dead letters for one destination, by position.
    dead: BTreeSet<Mark>,
}

/// Lines, the bytes of their text, and what was decided.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) amount: Amount,
    pub(super) text: u64,
    /// How many of the lines go somewhere.
    pub(super) routed: u64,
}

impl Load {
    pub(super) fn add(&mut self, more: Load) {
        self.amount += more.amount;
        self.text += more.text;
        self.routed += more.routed;
    }
}

impl From<&Lines> for Load {
    fn from(lines: &Lines) -> Self {
        Self {
            amount: lines.amount,
            text: lines.text,
            routed: lines.routed,
        }
    }
}

impl UnderWay {
    /// Adds lines that end at `end`, after all that are there.
    pub(super) fn add(&mut self, end: Mark, load: Load, oldest: Option<i64>) {
        match self.contents.back_mut() {
            Some((generation, content)) if *generation == end.generation => content.add(load),
            _ => self.contents.push_back((end.generation, load)),
        }
        if self.contents.len() > CONTENTS
            && let Some((_, first)) = self.contents.pop_front()
            && let Some((_, second)) = self.contents.front_mut()
        {
            second.add(first);
        }
        let Some(oldest) = oldest else { return };
        self.ages.push_back((end, oldest));
        if self.ages.len() > AGES
            && let Some((end, last)) = self.ages.pop_back()
            && let Some(age) = self.ages.back_mut()
        {
            *age = (end, age.1.min(last));
        }
    }

    /// Adds lines of the latest content again that were passed.
    pub(super) fn give_back(&mut self, generation: u64, load: Load) {
        self.add(
            Mark {
                generation,
                offset: 0,
            },
            load,
            None,
        );
    }

    /// A line at `position` is in the dead letters.
    pub(super) fn buried(&mut self, position: Mark) {
        if self.dead.len() < DEAD {
            self.dead.insert(position);
        }
    }

    /// Takes out lines that every destination has passed, of a stretch that ends at `until`, as far as
    /// they are here. Returns them, and how many of them are in the dead letters.
    pub(super) fn pass(&mut self, until: Mark, reach: u64, lines: &Lines) -> (Load, u64) {
        while self.ages.front().is_some_and(|(end, _)| *end <= until) {
            self.ages.pop_front();
        }
        let reach = Mark {
            generation: until.generation,
            offset: reach,
        };
        let later = self.dead.split_off(&reach);
        let dead = std::mem::replace(&mut self.dead, later).len() as u64;
        let content = self.contents.iter_mut();
        let mut content = content.filter(|(generation, _)| *generation == until.generation);
        let Some((_, load)) = content.next() else {
            return (Load::default(), 0);
        };
        let before = *load;
        load.amount -= lines.amount;
        load.text = load.text.saturating_sub(lines.text);
        load.routed = load.routed.saturating_sub(lines.routed);
        let mut passed = before;
        passed.amount -= load.amount;
        passed.text -= load.text;
        passed.routed -= load.routed;
        (passed, dead.min(passed.amount.lines))
    }

    /// Takes out everything, because every destination has passed it.
    pub(super) fn pass_all(&mut self) -> (Load, u64) {
        let dead = self.dead.len() as u64;
        (self.take(), dead)
    }

    /// Takes out all that is of contents before `generation`: it cannot be read any more.
    pub(super) fn take_before(&mut self, generation: u64) -> Load {
        self.dead = self.dead.split_off(&Mark {
            generation,
            offset: 0,
        });
        let mut lost = Load::default();
        while let Some((_, load)) = self.contents.pop_front_if(|(old, _)| *old < generation) {
            lost.add(load);
        }
        lost
    }

    /// Takes out everything.
    pub(super) fn take(&mut self) -> Load {
        let Self { contents, .. } = std::mem::take(self);
        let mut all = Load::default();
        contents.iter().for_each(|(_, load)| all.add(*load));
        all
    }

    /// How many lines there are.
    pub(super) fn lines(&self) -> u64 {
        self.contents
            .iter()
            .map(|(_, load)| load.amount.lines)
            .sum()
    }

    /// When the oldest line was written.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.ages.iter().map(|(_, oldest)| *oldest).min()
    }

    /// How many entries it takes.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.contents.len() + self.ages.len() + self.dead.len()
    }
}
