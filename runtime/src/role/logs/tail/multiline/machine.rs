//! The state machine that presets are compiled to: in each state some patterns, each leading to a
//! state. The first one that matches counts; if none does, the record has ended before that line.

use std::io;

use regex::bytes::{RegexSet, RegexSetBuilder};

use super::presets::{self, Rule, START};
use crate::manifest::Preset;

/// A state's number. Nought is where no record is open: what leads on from there begins one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct State(usize);

#[derive(Debug)]
struct Exits {
    patterns: RegexSet,
    /// Where each pattern leads.
    to: Vec<State>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Machine(Vec<Exits>);

impl Machine {
    /// One machine of several presets: they share the beginning, and the first whose rule matches
    /// there has the rest of the record.
    pub(super) fn new(presets: &[Preset]) -> io::Result<Self> {
        let mut names = vec![(None, START)];
        let mut rules: Vec<Vec<(&str, State)>> = vec![Vec::new()];
        let mut number = |preset: Preset, name, rules: &mut Vec<_>| {
            let key = (Some(preset).filter(|_| name != START), name);
            let at = names.iter().position(|known| *known == key);
            State(at.unwrap_or_else(|| {
                names.push(key);
                rules.push(Vec::new());
                names.len() - 1
            }))
        };
        for &preset in presets {
            for &Rule { from, pattern, to } in presets::table(preset) {
                let to = number(preset, to, &mut rules);
                for &from in from {
                    let from = number(preset, from, &mut rules);
                    rules[from.0].push((pattern, to));
                }
            }
        }
        let exits = rules.into_iter().map(|rules| {
            // Traces are made of ASCII; what people wrote in them is only passed over.
            let patterns = RegexSetBuilder::new(rules.iter().map(|(pattern, _)| pattern))
                .unicode(false)
                .build()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
            let to = rules.iter().map(|&(_, to)| to).collect();
            Ok(Exits { patterns, to })
        });
        exits.collect::<io::Result<_>>().map(Self)
    }

    /// Where `line` leads from `state`, if it does.
    pub(super) fn next(&self, state: State, line: &[u8]) -> Option<State> {
        let exits = &self.0[state.0];
        // Most lines match nothing, and to find that out takes no memory.
        if !exits.patterns.is_match(line) {
            return None;
        }
        let first = exits.patterns.matches(line).iter().next()?;
        Some(exits.to[first])
    }
}
