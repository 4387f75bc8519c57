//! Stretches of a lane's lines that are not in the queue any more and are accounted for.

use serde::{Deserialize, Serialize};

/// More stretches than any order of drops leaves: one before each segment that a lane's delivery
/// keeps from being dropped. Damage on top of that may be counted twice after a restart.
const MOST: usize = 32;

/// Ascending, apart from each other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Gaps(Vec<(u64, u64)>);

impl Gaps {
    /// Lines `from..to` are gone. Returns how many of them were not known to be.
    pub(super) fn add(&mut self, from: u64, to: u64) -> u64 {
        if from >= to {
            return 0;
        }
        let new = to - from - self.within(from, to);
        let touching = |&(start, end): &(u64, u64)| start <= to && end >= from;
        let merged = self.0.extract_if(.., |gap| touching(gap));
        let merged = merged.fold((from, to), |(from, to), (start, end)| {
            (from.min(start), to.max(end))
        });
        let at = self.0.partition_point(|&(start, _)| start < merged.0);
        self.0.insert(at, merged);
        if self.0.len() > MOST {
            self.0.remove(0);
        }
        new
    }

    /// How many of the lines `from..to` are known to be gone.
    pub(super) fn within(&self, from: u64, to: u64) -> u64 {
        let part = |&(start, end): &(u64, u64)| end.min(to).saturating_sub(start.max(from));
        self.0.iter().map(part).sum()
    }

    /// The first line at `line` or later that is not known to be gone.
    pub(super) fn skip(&self, line: u64) -> u64 {
        let gap = self
            .0
            .iter()
            .find(|&&(start, end)| start <= line && line < end);
        gap.map_or(line, |&(_, end)| end)
    }

    /// Forgets what lies before `line`.
    pub(super) fn forget_before(&mut self, line: u64) {
        self.0.retain(|&(_, end)| end > line);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn gaps_are_sets_of_lines(ranges in prop::collection::vec((0u64..60, 0u64..8), 0..12)) {
            let mut gaps = Gaps::default();
            let mut model = BTreeSet::new();
            for (from, length) in ranges {
                let before = model.len();
                model.extend(from..from + length);
                prop_assert_eq!(gaps.add(from, from + length), (model.len() - before) as u64);
                for at in 0..70 {
                    let within = model.range(at..at + 9).count() as u64;
                    prop_assert_eq!(gaps.within(at, at + 9), within);
                    let next = (at..).find(|line| !model.contains(line));
                    prop_assert_eq!(Some(gaps.skip(at)), next);
                }
            }
            gaps.forget_before(30);
            prop_assert_eq!(gaps.within(30, 100), model.range(30..).count() as u64);
        }
    }
}
