//! Whether a needle is where its rarest bytes are.

use super::automaton::{Caches, Overrun};
use super::filter::Found;
use super::needle::{Fullword, Needle, Shape};
use super::rules::Rules;

/// What automata keep between calls.
#[derive(Debug)]
pub(crate) struct Automata(Vec<Option<Box<Caches>>>);

impl Automata {
    pub(crate) fn new(rules: &Rules) -> Self {
        Self(rules.automata.iter().map(|_| None).collect())
    }
}

/// Calls `push` with offset and length of each match of a needle by what was found `at`.
pub(crate) fn verify(
    rules: &Rules,
    automata: &mut Automata,
    data: &[u8],
    at: usize,
    Found { needle, back }: Found,
    steps: &mut u64,
    mut push: impl FnMut(usize, usize),
) -> Result<(), Overrun> {
    let Some(needle) = rules.needles.get(needle as usize) else {
        return Ok(());
    };
    if let Shape::Automaton(number) = needle.shape {
        let (Some(automaton), Some(caches)) =
            (rules.automata.get(number), automata.0.get_mut(number))
        else {
            return Ok(());
        };
        let caches = caches.get_or_insert_with(|| Box::new(automaton.caches()));
        let accept = |start, end| is_fullword(needle.fullword, data, start, end);
        return automaton.find(caches, data, at, steps, accept, |start, end| {
            push(start, end - start)
        });
    }
    let Some(start) = at.checked_sub(back as usize) else {
        return Ok(());
    };
    let Some(rest) = data.get(start..) else {
        return Ok(());
    };
    let Some(length) = matches(needle, rest) else {
        return Ok(());
    };
    if is_fullword(needle.fullword, data, start, start + length) {
        push(start, length);
    }
    Ok(())
}

/// The length of the needle, if data begins with it.
#[inline]
fn matches(needle: &Needle, data: &[u8]) -> Option<usize> {
    match &needle.shape {
        Shape::Exact(text) => data.starts_with(text).then_some(text.len()),
        Shape::Nocase(text) => data
            .get(..text.len())?
            .eq_ignore_ascii_case(text)
            .then_some(text.len()),
        Shape::Masked(bytes) => {
            let data = data.get(..bytes.len())?;
            let mut pairs = data.iter().zip(bytes);
            pairs
                .all(|(byte, (value, mask))| byte & mask == *value)
                .then_some(bytes.len())
        }
        Shape::Xor(text, low, high) => {
            let data = data.get(..text.len())?;
            let key = data.first()? ^ text.first()?;
            let mut pairs = data.iter().zip(text);
            let all = pairs.all(|(byte, plain)| byte ^ plain == key);
            (all && (*low..=*high).contains(&key)).then_some(text.len())
        }
        Shape::Automaton(_) => None,
    }
}

/// No letter or digit is next to it.
fn is_fullword(fullword: Fullword, data: &[u8], start: usize, end: usize) -> bool {
    let word = |at: Option<usize>| {
        at.and_then(|at| data.get(at))
            .is_some_and(|byte| byte.is_ascii_alphanumeric())
    };
    let zero = |at: Option<usize>| at.and_then(|at| data.get(at)) == Some(&0);
    match fullword {
        Fullword::No => true,
        Fullword::Ascii => !word(start.checked_sub(1)) && !word(Some(end)),
        Fullword::Wide => {
            let before = zero(start.checked_sub(1)) && word(start.checked_sub(2));
            let after = zero(Some(end + 1)) && word(Some(end));
            !before && !after
        }
    }
}
