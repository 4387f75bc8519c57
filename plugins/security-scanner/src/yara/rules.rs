//! Rules as they are scanned with.

use std::collections::HashMap;
use std::ops::Range;

use super::ast::{self, Expr, Fixed, Meta};
use super::automaton::Automaton;
use super::error::{Error, Fault};
use super::filter::Filter;
use super::needle::{Atom, Needle, Needles, Shape};
use super::parser;

/// What data is scanned for.
#[derive(Debug)]
pub struct Rules {
    pub(crate) rules: Vec<Rule>,
    pub(crate) strings: Vec<ScanString>,
    pub(crate) parts: Vec<Part>,
    pub(crate) needles: Vec<Needle>,
    pub(crate) automata: Vec<Automaton>,
    pub(crate) filter: Filter,
    /// Needles that count in one place only, and the place.
    pub(crate) placed: Vec<(u32, u64)>,
}

/// A rule, without its strings.
#[derive(Debug)]
pub struct Rule {
    /// What it is called.
    pub name: String,
    /// Of which text it is: rules of one text see each other.
    pub namespace: String,
    /// Used by other rules only, and never reported.
    pub private: bool,
    /// What follows the name.
    pub tags: Vec<String>,
    /// What it says about itself.
    pub meta: Vec<(String, Meta)>,
    pub(crate) global: bool,
    pub(crate) condition: Expr,
    pub(crate) strings: Range<usize>,
}

#[derive(Debug)]
pub(crate) struct ScanString {
    pub(crate) name: String,
    pub(crate) private: bool,
    pub(crate) parts: Range<usize>,
    /// The only place where a match counts.
    pub(crate) only_at: Option<u64>,
    /// Of matches that begin in one place, the longest one counts.
    pub(crate) longest: bool,
}

/// What is found on its own, and then joined with what is before it.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) gap: (u64, u64),
}

impl Rules {
    /// Compiles texts, each in its namespace. The error names the namespace that it is in.
    pub fn compile<'t>(
        texts: impl IntoIterator<Item = (&'t str, &'t str)>,
    ) -> Result<Self, (String, Error)> {
        let mut building = Building::default();
        for (namespace, text) in texts {
            let added = building.add(namespace, text);
            added.map_err(|fault| (namespace.to_owned(), fault.locate(text)))?;
        }
        Ok(building.finish())
    }

    /// All rules, in the order of their texts.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

#[derive(Default)]
struct Building {
    rules: Vec<Rule>,
    strings: Vec<ScanString>,
    parts: Vec<Part>,
    needles: Needles,
}

impl Building {
    fn add(&mut self, namespace: &str, text: &str) -> Result<(), Fault> {
        for rule in parser::parse(text, self.rules.len())? {
            self.rule(namespace, rule)?;
        }
        Ok(())
    }

    fn rule(&mut self, namespace: &str, rule: ast::Rule) -> Result<(), Fault> {
        let first = self.strings.len();
        let number = self.rules.len() as u32;
        for string in rule.strings {
            let start = self.parts.len();
            let gaps = self.needles.add(&string, number, start as u32);
            let gaps = gaps.map_err(|why| Fault::new(string.at, why))?;
            self.parts.extend(gaps.into_iter().map(|gap| Part { gap }));
            self.strings.push(ScanString {
                name: string.name,
                private: string.modifiers.private,
                parts: start..self.parts.len(),
                only_at: match string.fixed {
                    Fixed::At(place) => Some(place),
                    _ => None,
                },
                longest: matches!(string.body, ast::Body::Regexp { greedy: true, .. }),
            });
        }
        self.rules.push(Rule {
            name: rule.name,
            namespace: namespace.to_owned(),
            private: rule.private,
            tags: rule.tags,
            meta: rule.meta,
            global: rule.global,
            condition: rule.condition,
            strings: first..self.strings.len(),
        });
        Ok(())
    }

    fn finish(self) -> Rules {
        let Needles { needles, automata, atoms, by_byte } = self.needles;
        let placed = placed(&self.strings, &needles);
        let elsewhere = |atom: &Atom| !placed.contains_key(&atom.needle);
        let atoms: Vec<Atom> = atoms.into_iter().filter(elsewhere).collect();
        let by_byte: Vec<Atom> = by_byte.into_iter().filter(elsewhere).collect();
        let filter = Filter::new(&atoms, &by_byte);
        let mut placed: Vec<(u32, u64)> = placed.into_iter().collect();
        placed.sort_unstable();
        Rules {
            rules: self.rules,
            strings: self.strings,
            parts: self.parts,
            needles,
            automata,
            filter,
            placed,
        }
    }
}

/// Needles that are compared where they have to be, without looking for them elsewhere.
fn placed(strings: &[ScanString], needles: &[Needle]) -> HashMap<u32, u64> {
    let alone = strings.iter().filter(|string| string.parts.len() == 1);
    let places: HashMap<usize, u64> =
        alone.filter_map(|string| Some((string.parts.start, string.only_at?))).collect();
    let placed = needles.iter().enumerate().filter_map(|(number, needle)| {
        let place = places.get(&(needle.part as usize))?;
        let comparable = !matches!(needle.shape, Shape::Automaton(_));
        comparable.then_some((number as u32, *place))
    });
    placed.collect()
}
