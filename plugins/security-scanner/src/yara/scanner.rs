//! Judging data.

use super::automaton::Overrun;
use super::chain;
use super::evaluate::{Evaluation, is_true};
use super::filter::Found;
use super::rules::{Rule, Rules, ScanString};
use super::verify::{Automata, verify};

/// What is judged.
#[derive(Debug, Clone, Copy)]
pub struct Input<'d> {
    /// The content, or as much of its beginning as is looked at.
    pub data: &'d [u8],
    /// The size of the whole.
    pub size: u64,
}

impl<'d> From<&'d [u8]> for Input<'d> {
    fn from(data: &'d [u8]) -> Self {
        Self {
            data,
            size: data.len() as u64,
        }
    }
}

/// How much work one input may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Matches of one string that count.
    pub matches_of_string: usize,
    /// Matches of all strings that are kept.
    pub matches: usize,
    /// Matches of one string that are reported.
    pub reported: usize,
    /// Bytes that regular expressions walk for each byte of data.
    pub steps_per_byte: u64,
    /// Steps of conditions.
    pub evaluation: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            matches_of_string: 1_000_000,
            matches: 4_000_000,
            reported: 100,
            steps_per_byte: 256,
            evaluation: 20_000_000,
        }
    }
}

/// Where a string was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match {
    /// From the start of the data.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

impl Match {
    pub(crate) fn end(self) -> u64 {
        self.offset + self.length
    }
}

/// A rule that matches.
#[derive(Debug)]
pub struct Hit<'r> {
    /// Its place among all rules.
    pub number: usize,
    /// The rule.
    pub rule: &'r Rule,
    /// Names of its strings, without the `$`, and where they were found first.
    pub strings: Vec<(&'r str, Vec<Match>)>,
}

/// Why something may be missing in a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incomplete {
    /// Only the beginning of the data was looked at.
    Cut,
    /// Regular expressions or conditions needed more steps than they may take.
    Steps,
    /// Strings were found more often than counts.
    Matches,
}

/// The verdict on one input.
#[derive(Debug)]
pub struct Report<'r> {
    /// In the order of the rules.
    pub hits: Vec<Hit<'r>>,
    /// What was not looked at to the end.
    pub incomplete: Vec<Incomplete>,
}

/// Judges inputs one after another, and keeps its memory between them.
#[derive(Debug)]
pub struct Scanner<'r> {
    rules: &'r Rules,
    limits: Limits,
    automata: Automata,
    found: Matches,
}

/// Of all parts.
#[derive(Debug)]
struct Matches {
    by_part: Vec<Vec<Match>>,
    touched: Vec<u32>,
    total: usize,
    overflow: bool,
}

impl Matches {
    fn push(&mut self, part: u32, found: Match, limits: &Limits) {
        let Some(matches) = self.by_part.get_mut(part as usize) else {
            return;
        };
        if matches.len() >= limits.matches_of_string || self.total >= limits.matches {
            self.overflow = true;
            return;
        }
        if matches.last() == Some(&found) {
            return;
        }
        if matches.is_empty() {
            self.touched.push(part);
        }
        self.total += 1;
        matches.push(found);
    }

    fn clear(&mut self) {
        for part in self.touched.drain(..) {
            if let Some(matches) = self.by_part.get_mut(part as usize) {
                matches.clear();
                // What one file needed is not kept for all that follow.
                matches.shrink_to(64);
            }
        }
        (self.total, self.overflow) = (0, false);
    }
}

impl<'r> Scanner<'r> {
    /// One that works within `limits`.
    pub fn new(rules: &'r Rules, limits: Limits) -> Self {
        let by_part = rules.parts.iter().map(|_| Vec::new()).collect();
        let found = Matches {
            by_part,
            touched: Vec::new(),
            total: 0,
            overflow: false,
        };
        Self {
            rules,
            limits,
            automata: Automata::new(rules),
            found,
        }
    }

    /// Judges one input.
    pub fn scan<'d>(&mut self, input: impl Into<Input<'d>>) -> Report<'r> {
        let input = input.into();
        self.found.clear();
        let mut incomplete = Vec::new();
        if input.size > input.data.len() as u64 {
            incomplete.push(Incomplete::Cut);
        }
        let possible = self.possible(input);
        let mut overrun = self.find(input.data, &possible).is_err();
        self.arrange();
        let found = &self.found.by_part;
        let mut evaluation = Evaluation::new(self.rules, input, found, self.limits.evaluation);
        let results = evaluation.rules(&possible);
        overrun |= evaluation.steps == 0;
        let hits = self.hits(&results);
        if overrun {
            incomplete.push(Incomplete::Steps);
        }
        if self.found.overflow {
            incomplete.push(Incomplete::Matches);
        }
        Report { hits, incomplete }
    }

    /// Rules that are not ruled out by size and first bytes.
    fn possible(&self, input: Input<'_>) -> Vec<bool> {
        let mut evaluation = Evaluation::new(self.rules, input, &[], self.limits.evaluation);
        let possible = self.rules.rules.iter().map(|rule| match &rule.condition {
            super::ast::Expr::And(all) => all
                .iter()
                .all(|one| !one.is_cheap() || is_true(evaluation.value(rule, one))),
            one => !one.is_cheap() || is_true(evaluation.value(rule, one)),
        });
        possible.collect()
    }

    fn find(&mut self, data: &[u8], possible: &[bool]) -> Result<(), Overrun> {
        let rules = self.rules;
        let mut steps = (data.len() as u64 + 65_536).saturating_mul(self.limits.steps_per_byte);
        let mut overrun = Ok(());
        let (automata, found, limits) = (&mut self.automata, &mut self.found, &self.limits);
        let mut check = |at: usize, candidate: Found| {
            let Some(needle) = rules.needles.get(candidate.needle as usize) else {
                return;
            };
            if !possible.get(needle.rule as usize).copied().unwrap_or(true) {
                return;
            }
            if steps == 0 {
                overrun = Err(Overrun);
                return;
            }
            let push = |offset: usize, length: usize| {
                let place = Match {
                    offset: offset as u64,
                    length: length as u64,
                };
                found.push(needle.part, place, limits);
            };
            let verified = verify(rules, automata, data, at, candidate, &mut steps, push);
            if verified.is_err() {
                overrun = verified;
            }
        };
        for (needle, place) in &rules.placed {
            if let Ok(place) = usize::try_from(*place) {
                check(
                    place,
                    Found {
                        needle: *needle,
                        back: 0,
                    },
                );
            }
        }
        rules.filter.run(data, check);
        overrun
    }

    /// Makes the matches of each string those that count, by offset.
    fn arrange(&mut self) {
        for string in &self.rules.strings {
            let parts = string.parts.clone();
            let Some(parts_found) = self.found.by_part.get_mut(parts.clone()) else {
                continue;
            };
            for matches in parts_found.iter_mut().filter(|matches| !matches.is_empty()) {
                settle(matches, string);
            }
            if parts.len() > 1 {
                let with_gaps: Vec<_> = parts_found
                    .iter()
                    .zip(&self.rules.parts[parts])
                    .map(|(matches, part)| (matches.as_slice(), part.gap))
                    .collect();
                let joined = chain::join(&with_gaps);
                parts_found[0] = joined;
            }
        }
    }

    fn hits(&self, results: &[bool]) -> Vec<Hit<'r>> {
        let rules = self.rules.rules.iter().enumerate().zip(results);
        let hits = rules.filter(|((_, rule), matches)| **matches && !rule.private);
        let hit = |((number, rule), _)| Hit {
            number,
            rule,
            strings: self.strings(rule),
        };
        hits.map(hit).collect()
    }

    fn strings(&self, rule: &'r Rule) -> Vec<(&'r str, Vec<Match>)> {
        let strings = self.rules.strings[rule.strings.clone()].iter();
        let reported = strings
            .filter(|string| !string.private)
            .filter_map(|string| {
                let found = self.found.by_part.get(string.parts.start)?;
                let first: Vec<_> = found.iter().take(self.limits.reported).copied().collect();
                (!first.is_empty()).then_some((string.name.as_str(), first))
            });
        reported.collect()
    }
}

/// Sorts matches, with one for each offset.
fn settle(matches: &mut Vec<Match>, string: &ScanString) {
    let sorted = matches
        .windows(2)
        .all(|pair| pair[0].offset < pair[1].offset);
    if sorted {
        return;
    }
    matches.sort_unstable_by_key(|found| {
        let length = if string.longest {
            u64::MAX - found.length
        } else {
            found.length
        };
        (found.offset, length)
    });
    matches.dedup_by_key(|found| found.offset);
}
