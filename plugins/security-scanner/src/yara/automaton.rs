//! Expressions with a variable length, as automata that are built as far as the data needs them: time
//! is linear in what is walked, and memory is bounded, whatever the expression.

use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, Config, DFA};
use regex_automata::nfa::thompson;
use regex_automata::{Anchored, Input, MatchKind};
use regex_syntax::hir::Hir;

/// How far a match reaches before and after the bytes that it is found by.
pub(crate) const REACH: usize = 4096;
const MAX_NFA: usize = 1 << 20;
const MAX_CACHE: usize = 1 << 20;

/// An expression in two halves, which meet where its rarest bytes begin.
#[derive(Debug)]
pub(crate) struct Automaton {
    forward: DFA,
    /// None if all is in the second half.
    reverse: Option<DFA>,
    longest: bool,
}

#[derive(Debug)]
pub(crate) struct Caches {
    forward: Cache,
    reverse: Option<Cache>,
}

/// Too much for the automaton: the data makes it build states again and again.
#[derive(Debug)]
pub(crate) struct Overrun;

#[derive(PartialEq, Eq)]
enum Verdict {
    TooShort,
    Refused,
    Accepted,
}

impl Automaton {
    pub(crate) fn new(items: &[Hir], split: usize, longest: bool) -> Result<Self, String> {
        let (before, after) = items.split_at(split);
        let reverse = match before {
            [] => None,
            _ => Some(build(&Hir::concat(before.to_vec()), true)?),
        };
        Ok(Self {
            forward: build(&Hir::concat(after.to_vec()), false)?,
            reverse,
            longest,
        })
    }

    pub(crate) fn caches(&self) -> Caches {
        Caches {
            forward: self.forward.create_cache(),
            reverse: self.reverse.as_ref().map(DFA::create_cache),
        }
    }

    /// Calls `found` with start and end of the longest acceptable match for each start whose halves meet
    /// at `at`; of the shortest match, if that is what is looked for and it is acceptable. `steps` is lowered by the bytes that were walked.
    pub(crate) fn find(
        &self,
        caches: &mut Caches,
        data: &[u8],
        at: usize,
        steps: &mut u64,
        mut accept: impl FnMut(usize, usize) -> bool,
        mut found: impl FnMut(usize, usize),
    ) -> Result<(), Overrun> {
        let mut starts = Vec::new();
        match (&self.reverse, &mut caches.reverse) {
            (Some(reverse), Some(cache)) => {
                // Whether anything matches behind is often said by a few bytes.
                if self
                    .end(&mut caches.forward, data, at, steps, |_| Verdict::Accepted)?
                    .is_none()
                {
                    return Ok(());
                }
                walk_back(reverse, cache, data, at, steps, &mut starts)?;
            }
            _ => starts.push(at),
        }
        for start in starts {
            let end = self.end(&mut caches.forward, data, at, steps, |end| {
                match end > start {
                    false => Verdict::TooShort,
                    true if accept(start, end) => Verdict::Accepted,
                    true => Verdict::Refused,
                }
            })?;
            if let Some(end) = end {
                found(start, end);
            }
        }
        Ok(())
    }

    /// The last acceptable end of the second half, or the first end if that is acceptable.
    fn end(
        &self,
        cache: &mut Cache,
        data: &[u8],
        at: usize,
        steps: &mut u64,
        mut accept: impl FnMut(usize) -> Verdict,
    ) -> Result<Option<usize>, Overrun> {
        let limit = data.len().min(at + REACH);
        let input = Input::new(data).range(at..limit).anchored(Anchored::Yes);
        let mut state = self
            .forward
            .start_state_forward(cache, &input)
            .map_err(|_| Overrun)?;
        let mut end = None;
        let mut position = at;
        // A match shows one byte late.
        loop {
            if state.is_tagged() {
                if state.is_match() {
                    let accepted = accept(position - 1);
                    if accepted == Verdict::Accepted {
                        end = Some(position - 1);
                    }
                    if !self.longest && accepted != Verdict::TooShort {
                        break;
                    }
                }
                if state.is_dead() || state.is_quit() {
                    break;
                }
            }
            if position > limit {
                break;
            }
            state = next(&self.forward, cache, state, data.get(position).copied())?;
            position += 1;
        }
        *steps = steps.saturating_sub((position - at) as u64);
        Ok(end)
    }
}

/// Collects where the first half may begin if it ends at `at`.
fn walk_back(
    dfa: &DFA,
    cache: &mut Cache,
    data: &[u8],
    at: usize,
    steps: &mut u64,
    starts: &mut Vec<usize>,
) -> Result<(), Overrun> {
    let limit = at.saturating_sub(REACH);
    let input = Input::new(data).range(limit..at).anchored(Anchored::Yes);
    let mut state = dfa
        .start_state_reverse(cache, &input)
        .map_err(|_| Overrun)?;
    let mut walked = 0;
    loop {
        if state.is_tagged() {
            if state.is_match() {
                starts.push(at - (walked - 1));
            }
            if state.is_dead() || state.is_quit() {
                break;
            }
        }
        if walked > at - limit {
            break;
        }
        let byte = at
            .checked_sub(walked + 1)
            .and_then(|before| data.get(before))
            .copied();
        state = next(dfa, cache, state, byte)?;
        walked += 1;
    }
    *steps = steps.saturating_sub(walked as u64);
    Ok(())
}

/// After a byte, or at the end of the data.
fn next(
    dfa: &DFA,
    cache: &mut Cache,
    state: LazyStateID,
    byte: Option<u8>,
) -> Result<LazyStateID, Overrun> {
    let state = match byte {
        Some(byte) => dfa.next_state(cache, state, byte),
        None => dfa.next_eoi_state(cache, state),
    };
    state.map_err(|_| Overrun)
}

fn build(hir: &Hir, reverse: bool) -> Result<DFA, String> {
    let config = thompson::Config::new()
        .utf8(false)
        .reverse(reverse)
        .which_captures(thompson::WhichCaptures::None)
        .nfa_size_limit(Some(MAX_NFA));
    let nfa = thompson::Compiler::new()
        .configure(config)
        .build_from_hir(hir);
    let nfa = nfa.map_err(|_| {
        "this expression is too large when compiled; use smaller repetitions".to_owned()
    })?;
    let config = Config::new()
        .match_kind(MatchKind::All)
        .cache_capacity(MAX_CACHE)
        .skip_cache_capacity_check(true);
    let dfa = DFA::builder().configure(config).build_from_nfa(nfa);
    dfa.map_err(|error| format!("this expression cannot be compiled: {error}"))
}
