//! What a source's manifest says about joining, ready to be asked line by line.

use std::io;
use std::time::Duration;

use regex::bytes::Regex;

use super::machine::{Machine, State};
use crate::manifest::{JoinRule, Multiline};

/// What a line is to the record that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A record of its own, to which nothing is joined.
    Alone,
    /// It begins a record.
    Begins(State),
    /// It belongs to the record that is open.
    Continues(State),
}

#[derive(Debug)]
enum Kind {
    Start(Regex),
    Continuation(Regex),
    Machine(Machine),
}

/// See the module.
#[derive(Debug)]
pub(in super::super) struct Rules {
    kind: Kind,
    pub(super) timeout: Duration,
    pub(super) max_lines: u32,
}

impl Rules {
    pub(in super::super) fn new(multiline: &Multiline) -> io::Result<Self> {
        let kind = match &multiline.rule {
            JoinRule::Start(pattern) => Kind::Start(pattern.regex().clone()),
            JoinRule::Continuation(pattern) => Kind::Continuation(pattern.regex().clone()),
            JoinRule::Presets(presets) => Kind::Machine(Machine::new(presets)?),
        };
        Ok(Self {
            kind,
            timeout: multiline.timeout.0,
            max_lines: multiline.max_lines,
        })
    }

    /// What `line` is, if a record is open in the state `open`.
    pub(super) fn step(&self, open: Option<State>, line: &[u8]) -> Step {
        match &self.kind {
            Kind::Start(start) => match open {
                Some(state) if !start.is_match(line) => Step::Continues(state),
                _ => Step::Begins(State::default()),
            },
            Kind::Continuation(continuation) => match open {
                Some(state) if continuation.is_match(line) => Step::Continues(state),
                _ => Step::Begins(State::default()),
            },
            Kind::Machine(machine) => {
                if let Some(next) = open.and_then(|state| machine.next(state, line)) {
                    return Step::Continues(next);
                }
                let begun = machine.next(State::default(), line);
                begun.map_or(Step::Alone, Step::Begins)
            }
        }
    }
}
