//! Which few bytes of a string to look for, so that the whole string is compared rarely.

use regex_syntax::hir::{Class, Hir, HirKind};

/// The filter looks at this many bytes at once.
pub(crate) const LENGTH: usize = 4;
const MAX_VARIANTS: usize = 64;
const MAX_UNROLLED: u32 = 8;

/// Bytes that begin what follows `split` items of a string.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) split: usize,
    pub(crate) atoms: Atoms,
}

#[derive(Debug)]
pub(crate) enum Atoms {
    /// One of these is there, each of 2 to 4 bytes.
    Bytes(Vec<Vec<u8>>),
    /// No such are known: one of these bytes is there, by their values.
    First(Box<[bool; 256]>),
}

/// What follows each other in an expression, bytes of literals one by one.
pub(crate) fn items(hir: &Hir) -> Vec<Hir> {
    let mut items = Vec::new();
    flatten(hir, &mut items);
    items
}

fn flatten(hir: &Hir, items: &mut Vec<Hir>) {
    match hir.kind() {
        HirKind::Empty => {}
        HirKind::Literal(literal) => {
            items.extend(literal.0.iter().map(|byte| Hir::literal([*byte])))
        }
        HirKind::Concat(all) => all.iter().for_each(|one| flatten(one, items)),
        HirKind::Repetition(repetition)
            if repetition.max == Some(repetition.min) && repetition.min <= MAX_UNROLLED =>
        {
            (0..repetition.min).for_each(|_| flatten(&repetition.sub, items));
        }
        _ => items.push(hir.clone()),
    }
}

/// Of all places in a string the one whose bytes are the rarest.
pub(crate) fn choose(items: &[Hir]) -> Choice {
    let mut best = (0, None);
    for split in 0..items.len() {
        // Everything before an item that may be empty can be found from behind it as well.
        let variants = beginnings(&items[split..]);
        let score = score(&variants);
        if score > best.0 {
            best = (score, Some((split, variants)));
        }
    }
    match best.1 {
        Some((split, variants)) => Choice {
            split,
            atoms: Atoms::Bytes(variants),
        },
        None => Choice {
            split: 0,
            atoms: Atoms::First(first_bytes(items)),
        },
    }
}

/// The place of the rarest bytes of a text, and how many.
pub(crate) fn rarest(text: &[u8], nocase: bool) -> (usize, usize) {
    let length = text.len().min(LENGTH);
    let rank = |window: &[u8]| {
        let letters = window
            .iter()
            .filter(|byte| byte.is_ascii_alphabetic())
            .count();
        let penalty = if nocase { letters as u32 * 2 } else { 0 };
        rarity(window).saturating_sub(penalty)
    };
    let windows = text.windows(length).enumerate();
    let best = windows.rev().max_by_key(|(_, window)| rank(window));
    (best.map_or(0, |(at, _)| at), length)
}

/// A text in all combinations of cases.
pub(crate) fn cases(text: &[u8]) -> Vec<Vec<u8>> {
    text.iter().fold(vec![Vec::new()], |variants, byte| {
        let swapped = match byte {
            b'a'..=b'z' | b'A'..=b'Z' => Some(byte ^ 0x20),
            _ => None,
        };
        let bytes = [Some(*byte), swapped];
        let grown = variants.iter().flat_map(|variant| {
            bytes
                .iter()
                .flatten()
                .map(|byte| [variant.as_slice(), &[*byte]].concat())
        });
        grown.collect()
    })
}

fn score(variants: &[Vec<u8>]) -> u32 {
    let weakest = variants
        .iter()
        .map(|atom| if atom.len() < 2 { 0 } else { rarity(atom) })
        .min();
    let penalty = 2 * variants.len().max(1).ilog2();
    match weakest {
        None | Some(0) => 0,
        Some(weakest) => weakest.saturating_sub(penalty).max(1),
    }
}

/// Roughly how rare bytes are in files, in bits.
pub(crate) fn rarity(bytes: &[u8]) -> u32 {
    let sum: u32 = bytes.iter().map(|byte| weight(*byte)).sum();
    let mut distinct = bytes.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    // Runs of one byte are common, whatever the byte.
    sum * distinct.len() as u32 / bytes.len().max(1) as u32
}

fn weight(byte: u8) -> u32 {
    match byte {
        0 => 1,
        b' ' | 0xff => 3,
        b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' => 4,
        b'a'..=b'z' | b'\n' | 1 | 0x48 | 0x8b | 0x24 | 0x0f => 5,
        b'0'..=b'9' | b'.' | b'_' | b'/' | b'-' | b'\t' | b'\r' | 2..=8 | 0x89 | 0xc0 => 6,
        b'A'..=b'Z' => 6,
        _ => 7,
    }
}

/// The bytes that an expression may begin with, four where they are known; empty if none are.
fn beginnings(items: &[Hir]) -> Vec<Vec<u8>> {
    let mut variants = vec![Growing::default()];
    for item in items {
        if variants.iter().all(|variant| variant.done) {
            break;
        }
        variants = grow(variants, item);
    }
    let mut bytes: Vec<_> = variants.into_iter().map(|variant| variant.bytes).collect();
    bytes.sort_unstable();
    bytes.dedup();
    bytes
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Growing {
    bytes: Vec<u8>,
    done: bool,
}

fn grow(variants: Vec<Growing>, item: &Hir) -> Vec<Growing> {
    let stop = |mut variants: Vec<Growing>| {
        variants.iter_mut().for_each(|variant| variant.done = true);
        variants
    };
    let choices: Vec<Vec<u8>> = match item.kind() {
        HirKind::Empty | HirKind::Look(_) => return variants,
        HirKind::Literal(literal) => vec![literal.0.to_vec()],
        HirKind::Class(Class::Bytes(class)) => {
            let bytes = class
                .ranges()
                .iter()
                .flat_map(|range| range.start()..=range.end());
            bytes
                .map(|byte| vec![byte])
                .take(MAX_VARIANTS + 1)
                .collect()
        }
        HirKind::Concat(all) => return all.iter().fold(variants, grow),
        HirKind::Alternation(all) => {
            let grown: Vec<_> = all
                .iter()
                .flat_map(|one| grow(variants.clone(), one))
                .collect();
            return if grown.len() > MAX_VARIANTS {
                stop(variants)
            } else {
                grown
            };
        }
        HirKind::Repetition(repetition) if repetition.min > 0 => {
            let once = (0..repetition.min.min(LENGTH as u32))
                .fold(variants, |variants, _| grow(variants, &repetition.sub));
            return match repetition.max == Some(repetition.min) {
                true => once,
                false => stop(once),
            };
        }
        _ => return stop(variants),
    };
    let growing = variants.iter().filter(|variant| !variant.done).count();
    if variants.len() + growing * choices.len().saturating_sub(1) > MAX_VARIANTS {
        return stop(variants);
    }
    let mut grown = Vec::new();
    for variant in variants {
        if variant.done {
            grown.push(variant);
            continue;
        }
        grown.extend(choices.iter().map(|choice| {
            let mut bytes = [variant.bytes.as_slice(), choice].concat();
            let done = bytes.len() >= LENGTH;
            bytes.truncate(LENGTH);
            Growing { bytes, done }
        }));
    }
    grown
}

fn first_bytes(items: &[Hir]) -> Box<[bool; 256]> {
    let mut first = Box::new([false; 256]);
    let may_be_empty = items.iter().all(|item| add_first(item, &mut first));
    if may_be_empty {
        first.fill(true);
    }
    first
}

/// Adds what an item may begin with; whether it may be empty.
fn add_first(item: &Hir, first: &mut [bool; 256]) -> bool {
    match item.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => literal.0.first().is_none_or(|byte| {
            first[usize::from(*byte)] = true;
            false
        }),
        HirKind::Class(Class::Bytes(class)) => {
            for range in class.ranges() {
                (range.start()..=range.end()).for_each(|byte| first[usize::from(byte)] = true);
            }
            false
        }
        HirKind::Class(Class::Unicode(_)) => {
            first.fill(true);
            false
        }
        HirKind::Repetition(repetition) => add_first(&repetition.sub, first) || repetition.min == 0,
        HirKind::Capture(capture) => add_first(&capture.sub, first),
        HirKind::Concat(all) => all.iter().all(|one| add_first(one, first)),
        HirKind::Alternation(all) => {
            // All of them are added, so no `any`.
            let empty = all.iter().filter(|one| add_first(one, first)).count();
            empty > 0
        }
    }
}
