//! Strings as what is looked for: byte sequences and expressions, each with the bytes it is found by.

use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, Hir, HirKind, Repetition};

use super::ast::{Body, Modifiers, StringDef};
use super::atoms::{self, Atoms, Choice};
use super::automaton::Automaton;
use super::base64;

/// One form of a part of a string.
#[derive(Debug)]
pub(crate) struct Needle {
    pub(crate) part: u32,
    pub(crate) rule: u32,
    pub(crate) fullword: Fullword,
    pub(crate) shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fullword {
    No,
    Ascii,
    Wide,
}

#[derive(Debug)]
pub(crate) enum Shape {
    Exact(Box<[u8]>),
    Nocase(Box<[u8]>),
    /// With each byte combined with the same key of a range.
    Xor(Box<[u8]>, u8, u8),
    /// Values and masks.
    Masked(Box<[(u8, u8)]>),
    /// By its place among the automata.
    Automaton(usize),
}

/// Bytes, and how many bytes or items of a needle are before them.
#[derive(Debug)]
pub(crate) struct Atom {
    pub(crate) bytes: Vec<u8>,
    pub(crate) needle: u32,
    pub(crate) back: u32,
}

/// What the filter is built from.
#[derive(Debug, Default)]
pub(crate) struct Needles {
    pub(crate) needles: Vec<Needle>,
    pub(crate) automata: Vec<Automaton>,
    pub(crate) atoms: Vec<Atom>,
    /// For each byte value, the needles that may be where it is.
    pub(crate) by_byte: Vec<Atom>,
}

impl Needles {
    /// Adds all forms of a string, of which the first part gets the number `part`. Answers the gaps
    /// before its parts.
    pub(crate) fn add(
        &mut self,
        string: &StringDef,
        rule: u32,
        part: u32,
    ) -> Result<Vec<(u64, u64)>, String> {
        let adding = Adding {
            rule,
            part,
            fullword: Fullword::No,
        };
        let modifiers = &string.modifiers;
        match &string.body {
            Body::Text(text) => self.text(text, modifiers, adding),
            Body::Regexp { hir, greedy } => self.regexp(hir, *greedy, modifiers, adding)?,
            Body::Hex(pieces) => {
                for (index, piece) in pieces.iter().enumerate() {
                    let part = part + index as u32;
                    self.expression(&piece.hir, false, Adding { part, ..adding })?;
                }
                return Ok(pieces.iter().map(|piece| piece.gap).collect());
            }
        }
        Ok(vec![(0, 0)])
    }

    fn text(&mut self, text: &[u8], modifiers: &Modifiers, adding: Adding) {
        let encoded = [(&modifiers.base64, false), (&modifiers.base64wide, true)];
        let mut plain = true;
        for (alphabet, wide) in encoded {
            let Some(alphabet) = alphabet else { continue };
            plain = false;
            for form in base64::forms(text, alphabet) {
                let form = if wide { widened(&form) } else { form };
                self.bytes(form, Shape::Exact, false, adding);
            }
        }
        if !plain {
            return;
        }
        for (is_wide, fullword) in encodings(modifiers) {
            let text = if is_wide {
                widened(text)
            } else {
                text.to_vec()
            };
            let adding = Adding { fullword, ..adding };
            match modifiers.xor {
                Some((low, high)) => self.xor(&text, low, high, adding),
                None if modifiers.nocase => {
                    self.bytes(text.to_ascii_lowercase(), Shape::Nocase, true, adding);
                }
                None => self.bytes(text, Shape::Exact, false, adding),
            }
        }
    }

    fn bytes(
        &mut self,
        text: Vec<u8>,
        shape: fn(Box<[u8]>) -> Shape,
        nocase: bool,
        adding: Adding,
    ) {
        let (back, length) = atoms::rarest(&text, nocase);
        let atom = &text[back..back + length];
        let variants = if nocase {
            atoms::cases(atom)
        } else {
            vec![atom.to_vec()]
        };
        self.push(shape(text.into_boxed_slice()), adding);
        self.find_by(variants, back);
    }

    fn xor(&mut self, text: &[u8], low: u8, high: u8, adding: Adding) {
        let (back, length) = atoms::rarest(text, false);
        let atom = &text[back..back + length];
        let variants = (low..=high).map(|key| atom.iter().map(|byte| byte ^ key).collect());
        let variants = variants.collect();
        self.push(Shape::Xor(text.into(), low, high), adding);
        self.find_by(variants, back);
    }

    fn regexp(
        &mut self,
        hir: &Hir,
        greedy: bool,
        modifiers: &Modifiers,
        adding: Adding,
    ) -> Result<(), String> {
        for (is_wide, fullword) in encodings(modifiers) {
            let adding = Adding { fullword, ..adding };
            if !is_wide {
                self.expression(hir, greedy, adding)?;
                continue;
            }
            if hir.properties().look_set().contains_word() {
                return Err("`\\b` and `\\B` do not go with `wide`; use `fullword`".to_owned());
            }
            self.expression(&widened_expression(hir), greedy, adding)?;
        }
        Ok(())
    }

    fn expression(&mut self, hir: &Hir, longest: bool, adding: Adding) -> Result<(), String> {
        let items = atoms::items(hir);
        let Choice { split, atoms } = atoms::choose(&items);
        let masked: Option<Vec<_>> = items.iter().map(masked).collect();
        let shape = match masked {
            Some(bytes) if bytes.iter().all(|(_, mask)| *mask == 0xff) => {
                Shape::Exact(bytes.iter().map(|(value, _)| *value).collect())
            }
            Some(bytes) => Shape::Masked(bytes.into_boxed_slice()),
            None => {
                self.automata.push(Automaton::new(&items, split, longest)?);
                Shape::Automaton(self.automata.len() - 1)
            }
        };
        self.push(shape, adding);
        match atoms {
            Atoms::Bytes(variants) => self.find_by(variants, split),
            Atoms::First(first) => {
                let bytes = (0..=255).filter(|byte| first[usize::from(*byte)]);
                let bytes: Vec<_> = bytes.map(|byte| vec![byte]).collect();
                self.find_by(bytes, split);
            }
        }
        Ok(())
    }

    fn push(
        &mut self,
        shape: Shape,
        Adding {
            rule,
            part,
            fullword,
        }: Adding,
    ) {
        self.needles.push(Needle {
            part,
            rule,
            fullword,
            shape,
        });
    }

    fn find_by(&mut self, variants: Vec<Vec<u8>>, back: usize) {
        let needle = (self.needles.len() - 1) as u32;
        for bytes in variants {
            let list = if bytes.len() < 2 {
                &mut self.by_byte
            } else {
                &mut self.atoms
            };
            list.push(Atom {
                bytes,
                needle,
                back: back as u32,
            });
        }
    }
}

#[derive(Clone, Copy)]
struct Adding {
    rule: u32,
    part: u32,
    fullword: Fullword,
}

/// Whether wide, and what a full word is there.
fn encodings(modifiers: &Modifiers) -> impl Iterator<Item = (bool, Fullword)> {
    let fullword = |kind| {
        if modifiers.fullword {
            kind
        } else {
            Fullword::No
        }
    };
    let ascii = (modifiers.ascii || !modifiers.wide).then_some((false, fullword(Fullword::Ascii)));
    let wide = modifiers.wide.then_some((true, fullword(Fullword::Wide)));
    [ascii, wide].into_iter().flatten()
}

fn widened(text: &[u8]) -> Vec<u8> {
    text.iter().flat_map(|byte| [*byte, 0]).collect()
}

fn widened_expression(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => hir.clone(),
        HirKind::Literal(literal) => Hir::literal(widened(&literal.0)),
        HirKind::Class(_) => Hir::concat(vec![hir.clone(), Hir::literal([0])]),
        HirKind::Repetition(repetition) => Hir::repetition(Repetition {
            sub: Box::new(widened_expression(&repetition.sub)),
            ..repetition.clone()
        }),
        HirKind::Capture(capture) => widened_expression(&capture.sub),
        HirKind::Concat(all) => Hir::concat(all.iter().map(widened_expression).collect()),
        HirKind::Alternation(all) => Hir::alternation(all.iter().map(widened_expression).collect()),
    }
}

/// An item as value and mask, if it is one byte of which some bits are given.
fn masked(item: &Hir) -> Option<(u8, u8)> {
    let class = match item.kind() {
        HirKind::Literal(literal) => return literal.0.first().map(|byte| (*byte, 0xff)),
        HirKind::Class(Class::Bytes(class)) => class,
        _ => return None,
    };
    let value = class.ranges().first()?.start();
    [0x00, 0x0f, 0xf0].into_iter().find_map(|mask| {
        let bytes = (0..=255u8).filter(|byte| byte & mask == value & mask);
        let same = ClassBytes::new(bytes.map(|byte| ClassBytesRange::new(byte, byte)));
        (same == *class).then_some((value & mask, mask))
    })
}
